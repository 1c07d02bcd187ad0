"""The commands: each takes arguments, asks the pantry, says the result and returns the exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from ctxpack_pantry import InvalidInput, LocalFailure, NotFound, Pantry, load_settings, parse_uri

TYPE_CHECKING = False  # typing itself takes 4 ms to load
if TYPE_CHECKING:
    import argparse

    from ctxpack_cli.terminal import Terminal

__all__ = ["COMMANDS"]


def init(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from ctxpack_cli.template import contract_template

    path = arguments.contract
    template = contract_template(os.path.dirname(path) or ".")
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(template)
    except FileExistsError as error:
        raise InvalidInput("exists already", where=path, fix="edit it, or name another file") from error
    except OSError as error:
        raise LocalFailure(f"cannot be written: {error.strerror}", where=path) from error
    terminal.say(path, {"schema": "ctxpack/init/v1", "contract": path})
    terminal.hint(f"fill it in, then: ctxpack id {path}")
    return 0


def identify(arguments: argparse.Namespace, terminal: Terminal) -> int:
    with _pantry(arguments, terminal, beside=os.path.dirname(arguments.contract)) as pantry:
        resolution = pantry.resolve(arguments.contract)
    if arguments.canonical:
        sys.stdout.flush()
        sys.stdout.buffer.write(resolution.canonical)
    elif terminal.as_json:
        import json

        contract = json.loads(resolution.canonical)
        terminal.say("", {"schema": "ctxpack/id/v1", "uri": resolution.uri, "contract": contract})
    else:
        terminal.say(resolution.uri)
    return 0


def seed(arguments: argparse.Namespace, terminal: Terminal) -> int:
    with _pantry(arguments, terminal, beside=os.path.dirname(arguments.contract)) as pantry:
        seeded = pantry.seed(arguments.outputs, arguments.contract)
    outputs = seeded.manifest.outputs
    terminal.say(
        f"Seeded: {seeded.uri}",
        {
            "schema": "ctxpack/seed/v1",
            "uri": seeded.uri,
            "outputs": {"digest": outputs.digest, "files": outputs.files, "size": outputs.size},
            "new": seeded.new,
        },
    )
    terminal.hint(f"share it: ctxpack push {seeded.uri}" if seeded.new else "the cache had it already")
    return 0


def push(arguments: argparse.Namespace, terminal: Terminal) -> int:
    uri = parse_uri(arguments.uri)
    with _pantry(arguments, terminal) as pantry:
        pushed = pantry.push(uri)
    terminal.say(
        f"Pushed: {uri}",
        {
            "schema": "ctxpack/push/v1",
            "uri": uri,
            "registry": pushed.target,
            "artifact": pushed.artifact,
            "sent": pushed.sent,
            "new": pushed.new,
        },
    )
    terminal.hint(f"{pushed.target} {'has it now' if pushed.new else 'had it already; nothing was sent'}")
    return 0


def pull(arguments: argparse.Namespace, terminal: Terminal) -> int:
    if arguments.include:
        return _pull_included(arguments, terminal)
    uri = parse_uri(arguments.uri)
    with _pantry(arguments, terminal) as pantry:
        received = pantry.fetch(uri)
        folder = pantry.pull(uri, arguments.output, force=arguments.force)
    terminal.say(folder, {"schema": "ctxpack/pull/v1", "uri": uri, "folder": folder, "received": received})
    return 0


def _pull_included(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from ctxpack_cli.terminal import human_size

    uri = parse_uri(arguments.uri)
    if arguments.output is None:
        raise InvalidInput(
            "--include needs a folder to put the files in",
            fix="name one with --output: the cache holds whole packs only",
            code="E_USAGE",
        )
    with _pantry(arguments, terminal) as pantry:
        picked = pantry.pick(uri, arguments.include, arguments.output, force=arguments.force)
    terminal.say(
        picked.path,
        {
            "schema": "ctxpack/pull/v1",
            "uri": uri,
            "folder": picked.path,
            "files": picked.files,
            "size": picked.size,
            "received": picked.received,
        },
    )
    files = f"{picked.files} file{'' if picked.files == 1 else 's'}"
    terminal.hint(f"{files}, {human_size(picked.size)}; fetched {human_size(picked.received)}")
    return 0


def inspect(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from ctxpack_cli.report import inspection_text

    uri = parse_uri(arguments.uri)
    with _pantry(arguments, terminal) as pantry:
        inspection = pantry.inspect(uri, remote=arguments.remote)
    document = inspection.as_json()
    terminal.say("" if terminal.as_json else inspection_text(document), document)
    return 0


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    with _pantry(arguments, terminal, beside=os.path.dirname(arguments.contract)) as pantry:
        ran = pantry.run(
            arguments.contract,
            arguments.argv,
            push=arguments.push,
            force=arguments.force,
            offline=arguments.offline,
        )
    if ran.status:
        terminal.hint(f"the command failed with status {ran.status}; nothing was seeded")
        return ran.status
    terminal.say(
        f"{'Hit' if ran.hit else 'Seeded'}: {ran.uri}", {"schema": "ctxpack/run/v1", "uri": ran.uri, "hit": ran.hit}
    )
    return 0


def list_packs(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from ctxpack_cli.report import pack_line, pack_row

    with _pantry(arguments, terminal) as pantry:
        packs = list(pantry.packs())
    if terminal.as_json:
        terminal.say("", {"schema": "ctxpack/ls/v1", "packs": [pack_row(pack) for pack in packs]})
    for pack in packs if not terminal.as_json else ():
        terminal.say(pack_line(pack))
    if not packs:
        terminal.hint("the cache holds no packs yet")
    return 0


def remove(arguments: argparse.Namespace, terminal: Terminal) -> int:
    uris = list(dict.fromkeys(parse_uri(uri) for uri in arguments.uris))
    with _pantry(arguments, terminal) as pantry:
        missing = [uri for uri in uris if not pantry.remove(uri)]
    removed = [uri for uri in uris if uri not in missing]
    for uri in removed if not terminal.as_json else ():
        terminal.say(f"Removed: {uri}")
    if terminal.as_json:
        terminal.say("", {"schema": "ctxpack/rm/v1", "removed": removed, "missing": missing})
    if missing:
        raise NotFound("not in the cache", where=", ".join(missing), fix="`ctxpack ls` lists what is")
    return 0


def _pantry(arguments: argparse.Namespace, terminal: Terminal, *, beside: str = "") -> Pantry:
    settings = load_settings(registry=getattr(arguments, "registry", None), cache=arguments.cache, beside=beside or ".")
    rehash = getattr(arguments, "rehash", False)
    return Pantry(settings, progress=terminal.progress, notice=terminal.hint, rehash=rehash)


COMMANDS: dict[str, Callable[[argparse.Namespace, Terminal], int]] = {
    "init": init,
    "id": identify,
    "seed": seed,
    "push": push,
    "pull": pull,
    "inspect": inspect,
    "run": run,
    "ls": list_packs,
    "rm": remove,
}
