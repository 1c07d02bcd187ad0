"""Verified packs as lines for people."""

from __future__ import annotations

from ctxpack_cli.explanation import file_change_lines
from ctxpack_cli.report import signed_line
from ctxpack_cli.terminal import human_files, human_size
from ctxpack_cli.trustrows import verdict_rows
from ctxpack_pantry import printable

TYPE_CHECKING = False  # typing itself takes 4 ms to load
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctxpack_pantry import VerifiedPack
    from ctxpack_pantry.rebuilding import Compared, Rebuilt

__all__ = ["verified_lines"]

_INDENT = "  "


def verified_lines(pack: VerifiedPack) -> Iterator[str]:
    """Yield the lines of a pack that is not damaged: what was read, who vouches for it, what was made again."""
    where = "" if pack.cached else f", in {pack.found_in}; nothing of it was placed or cached"
    yield printable(f"Sound: {pack.uri} ({human_files(pack.files)}, {human_size(pack.size)}){where}")
    for line in (*_rebuilt_lines(pack), *_claim_lines(pack)):
        yield printable(f"{_INDENT}{line}")


def _claim_lines(pack: VerifiedPack) -> Iterator[str]:
    if pack.signed is not None:
        yield signed_line(pack.signed)
    if pack.verdict is not None:
        document = pack.verdict.members()
        claims = [claim | {"cosign": ""} for claim in document["claims"]]  # `inspect` shows these commands
        yield from verdict_rows(document | {"claims": claims})


def _rebuilt_lines(pack: VerifiedPack) -> Iterator[str]:
    rebuilt = pack.rebuilt
    if rebuilt is None:
        return
    yield from (f"read where it is, not in the fresh folder: {what}" for what in rebuilt.not_copied)
    compared = rebuilt.compared
    if compared is None:
        yield f"not made again: the command failed with status {rebuilt.status}"
    elif compared.equal:
        yield "made again: the same files, executable bits and names"
    else:
        yield from _difference_lines(rebuilt, compared)


def _difference_lines(rebuilt: Rebuilt, compared: Compared) -> Iterator[str]:
    if compared.changes is not None and compared.changes.number:
        yield from file_change_lines("made again", compared.changes.as_json())
    for path in compared.modes:
        yield f"made again: {path} has another executable bit"
    for name, kind in compared.roots:
        yield f"made again: the output {name} is a {kind}"
    for near in compared.near:
        numbers = "1 number differs" if near.numbers == 1 else f"{near.numbers} numbers differ"
        yield f"within the tolerance: {near.path}: {numbers}, by {near.largest:.3g} at most"
    if compared.near_count > len(compared.near):
        yield f"within the tolerance: {compared.near_count} files together, by {compared.largest:.3g} at most"
    if compared.why_not:
        yield f"beyond the tolerance: {compared.why_not}"
    if compared.is_near:
        yield "made again: the same within the tolerance, which is not the same; nothing is noted or signed"
