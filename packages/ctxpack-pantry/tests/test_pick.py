"""Some outputs of a pack become ordinary files, equal to those of the whole pack; only their chunks are fetched."""

from __future__ import annotations

import io
import os
import random
import shutil
import stat
import tarfile
from collections.abc import Callable, Collection, Mapping
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pantry_context import context_of
from pantry_project import Project, contents, state
from pantry_target import FaultyTarget, each_stop, wait_until_idle

from ctxpack_bundle import inflate_chunk, make_chunk
from ctxpack_cache import Cache
from ctxpack_identity import (
    CtxUri,
    IntegrityError,
    InvalidInput,
    LocalFailure,
    NotFound,
    Progress,
    silent,
    uri_digest,
)
from ctxpack_oci import IMAGE_MANIFEST_MEDIA_TYPE, Descriptor, ImageManifest, Layout, describe, encode_image_manifest
from ctxpack_pantry import Pantry, Settings
from ctxpack_pantry.artifact import chunk_descriptor, content_size, tag_of
from ctxpack_pantry.fetch import fetch
from ctxpack_pantry.holdings import Holdings
from ctxpack_pantry.lookup import Located
from ctxpack_pantry.pick import pick as pick_outputs
from ctxpack_pantry.results import Pulled
from ctxpack_pantry.settings import Setting

SIZE = 6_000_000  # bytes, so that each spans some chunks
LARGE = ("large-0", "large-1", "large-2", "large-3")


class PushedPack(NamedTuple):
    """A pack in a registry. outputs: what it holds; cache: a cache that has the pack too."""

    layout: Layout
    uri: CtxUri
    located: Located
    outputs: Mapping[str, str]
    cache: str

    def only(self, *paths: str) -> dict[str, str]:
        """The outputs that these paths select: the paths, everything below them, and the folders above them."""
        wanted = {path for path in self.outputs if any(path == one or path.startswith(f"{one}/") for one in paths)}
        folders = {str(folder) for path in wanted for folder in Path(path).parents} - {"."}
        return {path: held for path, held in self.outputs.items() if path in wanted | folders}

    def holding(self, *paths: str) -> list[Descriptor]:
        """The chunks that hold a byte of these files or of the listing, according to Python's tarfile."""
        pieces = [inflated(self.layout, chunk) for chunk in self.located.chunks]
        names = {"files.jsonl", *(f"artifacts/{path}" for path in paths)}
        with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
            members = [info for info in archive.getmembers() if info.name in names]
        spans = [(info.offset, info.offset_data + info.size + -info.size % 512) for info in members]
        edges = [0, *(sum(map(len, pieces[: n + 1])) for n in range(len(pieces)))]
        between = zip(self.located.chunks, pairwise(edges), strict=True)
        return [chunk for chunk, (begin, end) in between if any(start < end and begin < stop for start, stop in spans)]


def inflated(layout: Layout, chunk: Descriptor) -> bytes:
    return inflate_chunk(layout.fetch(chunk), content_size(chunk, where="test"), where="test")


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> PushedPack:
    """A registry with one pack of a dozen chunks, which no test changes."""
    root = tmp_path_factory.mktemp("pushed")
    project, noise = Project(root / "project"), random.Random(3)
    for name in LARGE:
        (project.out / name).write_bytes(noise.randbytes(SIZE))
    (project.out / "many").mkdir()
    for number in range(200):
        (project.out / "many" / f"{number:03}").write_bytes(noise.randbytes(700))
    place = Settings(Setting(f"oci:{root / 'registry'}", ""), Setting(str(root / "cache"), ""))
    pantry = Pantry(place)
    uri = pantry.seed([], str(project.contract)).uri
    pantry.push(uri)
    located = pantry.inspect(uri, skip_cache=True).located
    assert located is not None
    assert len(located.chunks) > 9
    return PushedPack(Layout(root / "registry"), uri, located, contents(project.out), str(root / "cache"))


@pytest.fixture
def target(pushed: PushedPack, tmp_path: Path) -> FaultyTarget:
    """A copy of the registry, which a test may change."""
    folder = tmp_path / "target"
    shutil.copytree(pushed.layout.name.removeprefix("oci:"), folder, copy_function=os.link)
    return FaultyTarget(folder)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The destination of the outputs; nothing else is in the folder above it."""
    return tmp_path / "user" / "there"


def pick(
    cache: Cache,
    target: FaultyTarget,
    uri: CtxUri,
    there: Path,
    *patterns: str,
    force: bool = False,
    progress: Progress = silent,
) -> Pulled:
    return pick_outputs(context_of(cache, target, progress=progress), uri, patterns, str(there), force=force)


def untouched(cache: Cache, leftovers: Callable[[], list[str]], there: Path) -> bool:
    """Return whether the cache and the folder above the destination are empty."""
    names = sorted(path.name for path in there.parent.glob("*")) if there.parent.exists() else []
    return list(cache.packs()) == [] and leftovers() == [] and names == []


def asked(target: FaultyTarget) -> set[str]:
    return {call.subject for call in target.calls if call.method == "fetch"}


def test_selected_outputs_are_placed_and_only_their_chunks_are_fetched(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, there: Path, leftovers: Callable[[], list[str]]
) -> None:
    picked = pick(cache, target, pushed.uri, there, "large-2", "/deep/", "tool")
    assert contents(there) == pushed.only("large-2", "deep", "tool")
    needed = pushed.holding("large-2", "deep/empty", "tool")
    first = pushed.located.chunks[0]
    assert asked(target) - {chunk.digest for chunk in needed} == {first.digest}
    received = first.size + sum(chunk.size for chunk in needed)
    assert picked == (pushed.uri, str(there), received, 2, SIZE + len("#!/bin/sh\n"))
    assert received < pushed.located.transfer_size * 3 / 4
    assert list(cache.packs()) == []
    assert leftovers() == []
    assert [path.name for path in there.parent.iterdir()] == ["there"]


def literal(path: str) -> str:
    return "/" + path


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_outputs_equal_those_of_the_whole_pack_and_cost_only_their_chunks(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, there: Path, data: st.DataObject
) -> None:
    files = [path for path, held in pushed.outputs.items() if held != "/"]
    rare, common = st.sampled_from(LARGE), st.sampled_from(files)
    chosen = sorted({*data.draw(st.sets(common, min_size=1, max_size=9)), *data.draw(st.sets(rare, max_size=2))})
    target.calls.clear()
    pick(cache, target, pushed.uri, there, *map(literal, chosen))
    assert contents(there) == pushed.only(*chosen)
    needed = {chunk.digest for chunk in pushed.holding(*chosen)}
    assert asked(target) & {chunk.digest for chunk in pushed.located.chunks[1:]} == needed
    shutil.rmtree(there)


def test_outputs_of_a_cached_pack_are_copied_from_the_cache(
    pushed: PushedPack, target: FaultyTarget, there: Path
) -> None:
    cache = Cache(pushed.cache)
    steps: list[tuple[str, int, int | None]] = []
    picked = pick(cache, target, pushed.uri, there, "tool", "many", "!*9", progress=lambda *s: steps.append(s))
    assert target.calls == []
    nines = [path for path in pushed.outputs if path.endswith("9")]
    expected = {path: held for path, held in pushed.only("tool", "many").items() if path not in nines}
    assert contents(there) == expected
    size = 180 * 700 + len("#!/bin/sh\n")
    assert picked == (pushed.uri, str(there), 0, 181, size)
    assert {(stage, total) for stage, _, total in steps} == {("place", None)}
    assert sum(step for _, step, _ in steps) == size


def test_the_pantry_looks_in_the_cache_first(
    open_pantry: Callable[..., Pantry], project: Project, registry: FaultyTarget, there: Path, tmp_path: Path
) -> None:
    maker = open_pantry("maker")
    uri = maker.seed([], str(project.contract)).uri
    maker.push(uri)
    calls = len(registry.calls)
    here = maker.pull(uri, str(there), include=["joined", "deep/"])
    assert len(registry.calls) == calls
    elsewhere = open_pantry("user").pull(uri, str(tmp_path / "other"), include=["joined", "deep/"])
    assert contents(tmp_path / "other") == contents(there) == {"deep": "/", "deep/empty": "/", "joined": "alphabeta"}
    assert elsewhere.received > here.received == 0
    assert elsewhere[3:] == here[3:] == (1, 9)


def test_the_file_of_a_pack_of_one_file_can_be_picked(pantry: Pantry, project: Project, there: Path) -> None:
    project.write_contract(outputs=[{"path": "./out/joined"}])
    uri = pantry.seed([], str(project.contract)).uri
    pantry.push(uri)
    pantry.pull(uri, str(there / "1"), include=["joined"])
    pantry.remove(uri)
    pantry.pull(uri, str(there / "2"), include=["joined"])
    assert contents(there / "1") == contents(there / "2") == {"joined": "alphabeta"}


def test_progress_adds_up_to_its_last_total(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, there: Path
) -> None:
    seen: list[tuple[str, int, int | None]] = []
    pick(cache, target, pushed.uri, there, "large-1", progress=lambda *step: seen.append(step))
    assert {stage for stage, _, _ in seen} == {"pull"}
    total = sum(chunk.size for chunk in pushed.holding("large-1"))
    assert sum(step for _, step, _ in seen) == seen[-1][2] == total


def test_a_pack_that_the_registry_does_not_have_is_a_miss(
    cache: Cache, target: FaultyTarget, there: Path, leftovers: Callable[[], list[str]]
) -> None:
    nowhere = CtxUri("ctx://sha256:" + "0" * 64)
    with pytest.raises(NotFound, match=f"the registry: no such pack: {nowhere}"):
        pick(cache, target, nowhere, there, "*")
    assert untouched(cache, leftovers, there)


@pytest.mark.parametrize("patterns", [["*.pdf", "lagre-0"], ["joined", "!*"], [""]])
def test_patterns_that_match_nothing_are_bad_input_and_not_a_miss(
    pushed: PushedPack,
    cache: Cache,
    target: FaultyTarget,
    there: Path,
    leftovers: Callable[[], list[str]],
    patterns: list[str],
) -> None:
    with pytest.raises(InvalidInput) as caught:
        pick(cache, target, pushed.uri, there, *patterns)
    named = f"{', '.join(patterns)}: " if patterns != [""] else ""
    assert str(caught.value) == (
        f"{named}nothing in the pack matches: got a pack of deep/empty/, joined, large-0, …; "
        "name what it holds, as in .gitignore"
    )
    assert caught.value.code == "E_NO_MATCH"
    assert untouched(cache, leftovers, there)
    assert asked(target).isdisjoint(chunk.digest for chunk in pushed.located.chunks[2:])


def test_an_empty_pack_matches_nothing(pantry: Pantry, project: Project, there: Path) -> None:
    shutil.rmtree(project.out)
    project.out.mkdir()
    uri = pantry.seed([], str(project.contract)).uri
    with pytest.raises(InvalidInput, match="nothing in the pack matches: got an empty pack"):
        pantry.pull(uri, str(there), include=["*"])


def test_an_output_without_a_name_is_refused_before_anything_is_asked(
    pushed: PushedPack, cache: Cache, target: FaultyTarget
) -> None:
    with pytest.raises(InvalidInput, match="output: the name of the folder is empty"):
        pick_outputs(context_of(cache, target), pushed.uri, ["*"], "", force=True)
    assert target.calls == []


def other_names(there: Path) -> list[str]:
    """Names in the folder of the destination that an unfinished replacement would leave."""
    return [path.name for path in there.parent.iterdir() if path != there]


def test_the_same_pick_again_fetches_no_output(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, there: Path
) -> None:
    pick(cache, target, pushed.uri, there, "large-1", "joined")
    before = state(there / "large-1")
    again = pick(cache, target, pushed.uri, there, "large-1", "joined")
    assert state(there / "large-1") == before
    assert again.received == sum(chunk.size for chunk in [pushed.located.chunks[0], *pushed.holding()])
    assert again.files == 2


def test_other_content_at_the_destination_is_kept_unless_forced(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, there: Path
) -> None:
    there.mkdir(parents=True)
    (there / "notes").write_text("my own notes")
    with pytest.raises(InvalidInput, match="something else is there already") as caught:
        pick(cache, target, pushed.uri, there, "large-1")
    assert caught.value.code == "E_OCCUPIED"
    assert contents(there) == {"notes": "my own notes"}
    assert asked(target).isdisjoint({chunk.digest for chunk in pushed.holding("large-1")[1:]}), "before it is fetched"
    pick(cache, target, pushed.uri, there, "large-1", force=True)
    assert contents(there) == pushed.only("large-1")
    with pytest.raises(InvalidInput, match="something else is there already"):
        pick(cache, target, pushed.uri, there, "large-2")
    assert other_names(there) == []


def test_an_empty_folder_and_outputs_of_a_cached_pack_are_replaced(
    pushed: PushedPack, target: FaultyTarget, there: Path
) -> None:
    there.mkdir(parents=True)
    cache = Cache(pushed.cache)
    pick(cache, target, pushed.uri, there, "joined")
    shutil.rmtree(there)
    folder = cache.find(uri_digest(pushed.uri))
    assert folder is not None
    shutil.copytree(Path(folder, "artifacts"), there)
    pick(cache, target, pushed.uri, there, "joined")
    assert contents(there) == pushed.only("joined")
    assert other_names(there) == []


def test_executable_bits_are_kept_and_the_umask_decides_the_rest(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, there: Path
) -> None:
    patterns = ["tool", "joined", "deep"]
    old = os.umask(0o007)
    try:
        pick(cache, target, pushed.uri, there / "1", *patterns)
        pick(Cache(pushed.cache), target, pushed.uri, there / "2", *patterns)
    finally:
        os.umask(old)
    for copy in (there / "1", there / "2"):
        modes = {name: stat.S_IMODE(os.stat(copy / name).st_mode) for name in ("tool", "joined", "deep", ".")}
        assert modes == {"tool": 0o770, "joined": 0o660, "deep": 0o770, ".": 0o770}


def parts(pushed: PushedPack) -> dict[str, Descriptor]:
    """The parts that are needed to pick large-2."""
    listing, *chunks = pushed.holding("large-2")
    first = {"image manifest": pushed.located.descriptor}
    named = {f"chunk {number}": chunk for number, chunk in enumerate(chunks)}
    return {**first, "first": pushed.located.chunks[0], "listing": listing, **named}


PARTS = ("image manifest", "first", "listing", "chunk 0", "chunk 1")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("position", [0, 3, 10, 0.5, -8, -4, -1])
def test_one_changed_byte_in_a_needed_part_is_refused_and_nothing_stays(
    pushed: PushedPack,
    cache: Cache,
    target: FaultyTarget,
    there: Path,
    leftovers: Callable[[], list[str]],
    part: str,
    position: float,
) -> None:
    descriptor = parts(pushed)[part]
    target.flip(descriptor.digest, position if isinstance(position, int) else int(position * descriptor.size))
    with pytest.raises(IntegrityError, match="digest differs"):
        pick(cache, target, pushed.uri, there, "large-2")
    assert untouched(cache, leftovers, there)


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_is_damage_and_not_a_miss(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, there: Path, leftovers: Callable[[], list[str]], part: str
) -> None:
    target.blob(parts(pushed)[part].digest).unlink()
    with pytest.raises(IntegrityError, match="missing") as caught:
        pick(cache, target, pushed.uri, there, "large-2")
    assert caught.value.code == "E_INCOMPLETE"
    assert untouched(cache, leftovers, there)


def test_chunks_that_are_not_needed_may_be_missing(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, there: Path
) -> None:
    needed = {part.digest for part in parts(pushed).values()}
    others = [chunk for chunk in pushed.located.chunks if chunk.digest not in needed]
    assert others
    for chunk in others:
        target.blob(chunk.digest).unlink()
    pick(cache, target, pushed.uri, there, "large-2")
    assert contents(there) == pushed.only("large-2")


def relabel(target: FaultyTarget, pushed: PushedPack, chunks: Collection[Descriptor], *blobs: bytes) -> None:
    """Let the tag name an image manifest of these chunks, as anybody who can push may do; every digest is right."""
    manifest = pushed.located.manifest
    data = encode_image_manifest(
        ImageManifest(artifact_type=manifest.artifact_type, config=manifest.config, layers=tuple(chunks))
    )
    for content in blobs:
        target.layout.push(describe(content, "application/octet-stream"), content)
    descriptor = describe(data, IMAGE_MANIFEST_MEDIA_TYPE)
    target.layout.push(descriptor, data)
    target.layout.tag(descriptor, tag_of(pushed.uri))


def announced(chunk: Descriptor, more: int) -> Descriptor:
    """The chunk, announced as if it unpacked to more bytes."""
    size = content_size(chunk, where="test") + more
    return describe_as(chunk, str(size))


def describe_as(chunk: Descriptor, size: str) -> Descriptor:
    return Descriptor(
        media_type=chunk.media_type,
        digest=chunk.digest,
        size=chunk.size,
        annotations={"dev.ctxpack.chunk.bytes": size},
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({-1: 1}, "pieces do not make up the pack"),
        ({-1: -512}, "pieces do not make up the pack"),
        ({2: 512, -1: -512}, "(ends too early|differs from its listing|more than announced|less than announced)"),
        ({1: 512}, "chunk unpacks to less than announced"),
        ({1: -512}, "chunk unpacks to more than announced"),
        ({1: 1 << 35}, "no size of a chunk"),
    ],
    ids=["total", "total, less", "shifted", "listing, more", "listing, less", "listing, endless"],
)
def test_wrong_announced_sizes_are_refused(
    pushed: PushedPack,
    cache: Cache,
    target: FaultyTarget,
    there: Path,
    leftovers: Callable[[], list[str]],
    changes: Mapping[int, int],
    message: str,
) -> None:
    chunks = list(pushed.located.chunks)
    for number, more in changes.items():
        chunks[number] = announced(chunks[number], more)
    relabel(target, pushed, chunks)
    with pytest.raises(IntegrityError, match=message):
        pick(cache, target, pushed.uri, there, "large-2")
    assert untouched(cache, leftovers, there)


@pytest.mark.parametrize("size", ["", "-1", "1e3", "0x10", "9" * 40])
def test_a_size_that_is_not_a_number_is_refused(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, there: Path, leftovers: Callable[[], list[str]], size: str
) -> None:
    relabel(target, pushed, [*pushed.located.chunks[:-1], describe_as(pushed.located.chunks[-1], size)])
    with pytest.raises(
        IntegrityError, match=r"layer annotation dev\.ctxpack\.chunk\.bytes: expected a number of bytes"
    ):
        pick(cache, target, pushed.uri, there, "large-0")
    assert untouched(cache, leftovers, there)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda chunks: chunks[:-1], "pieces do not make up the pack"),
        (lambda chunks: [*chunks, chunks[-1]], "pieces do not make up the pack"),
        (lambda chunks: chunks[:1], "files.jsonl: pack ends too early"),
        (lambda chunks: [*chunks[:2], *reversed(chunks[2:])], "(archive differs from its listing|pack ends too early)"),
        (lambda chunks: [chunks[0], *chunks], "archive differs from its listing"),
    ],
    ids=["cut short", "repeated last", "manifest alone", "swapped", "repeated first"],
)
def test_chunks_left_out_repeated_or_swapped_are_refused(
    pushed: PushedPack,
    cache: Cache,
    target: FaultyTarget,
    there: Path,
    leftovers: Callable[[], list[str]],
    change: Callable[[list[Descriptor]], list[Descriptor]],
    message: str,
) -> None:
    relabel(target, pushed, change(list(pushed.located.chunks)))
    with pytest.raises(IntegrityError, match=message):
        pick(cache, target, pushed.uri, there, "large-2")
    assert untouched(cache, leftovers, there)


@pytest.mark.parametrize(
    ("number", "old", "new", "message"),
    [
        (2, b"alphabeta", b"alphaBETA", "artifacts/joined: content differs from its digest"),
        (2, b"artifacts/joined", b"artifacts/jo1ned", "artifacts/joined: archive differs from its listing"),
        (1, b'"path":"joined"', b'"path":"jo1ned"', "files.jsonl: content differs from its digest"),
        (1, b'"path":"joined"', b'"path":"../ned"', "files.jsonl: content differs from its digest"),
    ],
)
def test_content_that_differs_from_its_listing_is_refused(
    pushed: PushedPack,
    cache: Cache,
    target: FaultyTarget,
    there: Path,
    leftovers: Callable[[], list[str]],
    number: int,
    old: bytes,
    new: bytes,
    message: str,
) -> None:
    chunks = list(pushed.located.chunks)
    content = inflated(pushed.layout, chunks[number])
    assert old in content
    other = make_chunk(content.replace(old, new))
    chunks[number] = chunk_descriptor(other)
    relabel(target, pushed, chunks, other.data)
    with pytest.raises(IntegrityError, match=message):
        pick(cache, target, pushed.uri, there, "joined")
    assert untouched(cache, leftovers, there)


@each_stop
@pytest.mark.parametrize("force", [False, True], ids=["nothing there", "something there"])
def test_a_pick_stopped_at_any_chunk_changes_nothing_and_the_next_one_succeeds(
    pushed: PushedPack,
    cache: Cache,
    target: FaultyTarget,
    there: Path,
    leftovers: Callable[[], list[str]],
    error: BaseException,
    expected: type[BaseException],
    force: bool,
) -> None:
    def stop() -> None:
        raise error

    if force:
        there.mkdir(parents=True)
        (there / "notes").write_text("my own notes")
    earliest = 0 if expected is not LocalFailure else 1  # nothing is written before the pack is opened
    for number in range(earliest, 1 + len(pushed.holding("large-2"))):
        target.after("fetch", number, stop)
        with pytest.raises(expected):
            pick(cache, target, pushed.uri, there, "large-2", force=force)
        assert leftovers() == [], number
        if force:
            assert (contents(there), other_names(there)) == ({"notes": "my own notes"}, []), number
        else:
            assert untouched(cache, leftovers, there), number
    target.on("fetch", lambda _: None)
    pick(cache, target, pushed.uri, there, "large-2", force=force)
    assert contents(there) == pushed.only("large-2")
    assert other_names(there) == []


def test_no_transfer_goes_on_after_a_failure(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, there: Path
) -> None:
    target.flip(pushed.holding("large-0")[1].digest, 12)
    with pytest.raises(IntegrityError) as caught:
        pick(cache, target, pushed.uri, there, "large-*")
    wait_until_idle()
    assert caught.value.code == "E_DIGEST"


@pytest.fixture
def older(pushed: PushedPack, project: Project, open_pantry: Callable[..., Pantry], registry: FaultyTarget) -> CtxUri:
    """A cached pack that also holds large-2, and so some of its chunks."""
    folder = Cache(pushed.cache).find(uri_digest(pushed.uri))
    assert folder is not None
    shutil.rmtree(project.out)
    shutil.copytree(Path(folder, "artifacts"), project.out)
    for path in (project.out, *project.out.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)
    (project.out / "large-3").write_bytes(random.Random(9).randbytes(SIZE))
    project.write_contract(params={"older": True})
    maker = open_pantry("maker")
    uri = maker.seed([], str(project.contract)).uri
    maker.push(uri)
    open_pantry().pull(uri)
    return uri


def test_chunks_that_packs_in_the_cache_hold_are_not_fetched(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, there: Path, older: CtxUri
) -> None:
    held = Holdings(cache).hold({chunk.digest for chunk in pushed.located.chunks})
    needed = pushed.holding("large-2")
    missing = [chunk for chunk in needed if held.piece(chunk.digest, content_size(chunk, where="test")) is None]
    held.close()
    assert 0 < len(missing) < len(needed) - 1
    picked = pick(cache, target, pushed.uri, there, "large-2")
    assert contents(there) == pushed.only("large-2")
    assert picked.received == sum(chunk.size for chunk in [pushed.located.chunks[0], *missing])
    assert asked(target) & {chunk.digest for chunk in needed} == {chunk.digest for chunk in missing}


def test_a_damaged_cached_pack_does_not_make_a_pick_wrong(
    pushed: PushedPack,
    cache: Cache,
    target: FaultyTarget,
    there: Path,
    older: CtxUri,
    leftovers: Callable[[], list[str]],
) -> None:
    folder = cache.find(uri_digest(older))
    assert folder is not None
    path = Path(folder, "artifacts", "large-2")
    path.chmod(0o644)
    path.write_bytes(bytes(path.stat().st_size))
    steps: list[int] = []
    picked = pick(cache, target, pushed.uri, there, "large-2", progress=lambda _, step, __: steps.append(step))
    assert contents(there) == pushed.only("large-2")
    needed = sum(chunk.size for chunk in pushed.holding("large-2"))
    assert picked.received > needed + pushed.located.chunks[0].size, "in a second attempt"
    assert sum(steps) == needed, "progress counts every byte once"
    assert leftovers() == []
    assert other_names(there) == []


def test_a_pull_after_a_pick_fetches_the_whole_pack(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, there: Path
) -> None:
    """Picked outputs are not in the cache under the URI."""
    pick(cache, target, pushed.uri, there, "joined")
    assert cache.find(uri_digest(pushed.uri)) is None
    assert contents(Path(fetch(context_of(cache, target), pushed.uri).folder, "artifacts")) == pushed.outputs
