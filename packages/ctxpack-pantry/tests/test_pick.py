"""Some outputs of a pack become ordinary files, equal to those of the whole pack; only their chunks are fetched."""

from __future__ import annotations

import io
import os
import random
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pantry_context import context_of
from pantry_image import Image, Laid, image_of, laid_of, record_of, republish, with_pieces
from pantry_project import Project, contents, state
from pantry_target import FaultyTarget, each_stop, wait_until_idle

from ctxpack_bundle import Record, layering
from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, IntegrityError, InvalidInput, LocalFailure, NotFound, Progress, silent, uri_digest
from ctxpack_pantry import Pantry, Settings, parts
from ctxpack_pantry.fetch import fetch
from ctxpack_pantry.holdings import Holdings
from ctxpack_pantry.pick import pick as pick_outputs
from ctxpack_pantry.results import Pulled
from ctxpack_pantry.settings import Setting

SIZE = 800_000  # bytes, so that each spans some chunks
LARGE = ("large-0", "large-1", "large-2", "large-3")


class PushedPack(NamedTuple):
    """A pack in the registry in folder. outputs: what it holds; cache: a cache that has the pack too.

    needed: the numbers of the records whose pieces hold a byte of a member of the tar, by its name.
    """

    folder: Path
    uri: CtxUri
    outputs: Mapping[str, str]
    cache: str
    needed: Mapping[str, frozenset[int]]

    def only(self, *paths: str) -> dict[str, str]:
        """The outputs that these paths select: the paths, everything below them, and the folders above them."""
        wanted = {path for path in self.outputs if any(path == one or path.startswith(f"{one}/") for one in paths)}
        folders = {str(folder) for path in wanted for folder in Path(path).parents} - {"."}
        return {path: held for path, held in self.outputs.items() if path in wanted | folders}

    def listing(self) -> list[int]:
        """The records that hold a byte of the listing."""
        return sorted(self.needed["files.jsonl"])

    def holding(self, *paths: str) -> list[int]:
        """The records that hold a byte of these outputs."""
        return sorted(frozenset().union(*(self.needed[f"artifacts/{path}"] for path in paths)))


def members(image: Image) -> dict[str, frozenset[int]]:
    """Return which records hold a byte of each member, according to Python's tarfile."""
    with tarfile.open(fileobj=io.BytesIO(b"".join([image.first_piece(), *image.pieces()]))) as archive:
        return {
            info.name: frozenset(image.holding(info.offset, info.offset_data + info.size + -info.size % 512))
            for info in archive.getmembers()
        }


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> PushedPack:
    """A registry with one pack of some layers, which no test changes."""
    root = tmp_path_factory.mktemp("pushed")
    project, noise = Project(root / "project"), random.Random(3)
    for name in LARGE:
        (project.out / name).write_bytes(noise.randbytes(SIZE))
    (project.out / "many").mkdir()
    for number in range(200):
        (project.out / "many" / f"{number:03}").write_bytes(noise.randbytes(700))
    target = FaultyTarget(root / "registry")
    pantry = Pantry(Settings(Setting("", ""), Setting(str(root / "cache"), "")), target=target)
    uri = pantry.seed([], str(project.contract)).uri
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layering, "_LEAST", 256 << 10)
        pantry.push(uri)
    image = image_of(target, uri)
    assert len(image.layers) > 7
    return PushedPack(root / "registry", uri, contents(project.out), str(root / "cache"), members(image))


@pytest.fixture(autouse=True)
def _no_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not wanted is not fetched with what surrounds it, unless the layer is fetched whole."""
    monkeypatch.setattr(parts, "_GAP", 1)


@pytest.fixture
def target(pushed: PushedPack, tmp_path: Path) -> FaultyTarget:
    """A copy of the registry, which a test may change."""
    folder = tmp_path / "target"
    shutil.copytree(pushed.folder, folder, copy_function=os.link)
    return FaultyTarget(folder)


@pytest.fixture
def image(pushed: PushedPack, target: FaultyTarget) -> Image:
    return image_of(target, pushed.uri)


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


def asked(target: FaultyTarget, image: Image) -> set[int]:
    """Return the numbers of the layers that were asked for."""
    subjects = {call.subject for call in target.calls if call.method in ("fetch", "fetch_range")}
    return {number for number, layer in enumerate(image.layers) if layer.digest in subjects}


def layers_of(image: Image, numbers: Iterable[int]) -> set[int]:
    return {image.table[number].layer for number in numbers}


def test_selected_outputs_are_placed_and_only_their_chunks_are_fetched(
    pushed: PushedPack,
    cache: Cache,
    target: FaultyTarget,
    image: Image,
    there: Path,
    leftovers: Callable[[], list[str]],
) -> None:
    picked = pick(cache, target, pushed.uri, there, "large-2", "/deep/", "tool")
    assert contents(there) == pushed.only("large-2", "deep", "tool")
    needed = pushed.holding("large-2", "deep/empty", "tool")
    received = image.head + image.cost(pushed.listing()) + image.cost(needed)
    assert picked == Pulled(pushed.uri, str(there), received, 2, SIZE + len("#!/bin/sh\n"), target.name)
    assert received < image.size * 3 / 4
    assert asked(target, image) == {0, 1} | layers_of(image, [*needed, *pushed.listing()])
    assert list(cache.packs()) == []
    assert leftovers() == []
    assert [path.name for path in there.parent.iterdir()] == ["there"]


def literal(path: str) -> str:
    return "/" + path


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_outputs_equal_those_of_the_whole_pack_and_cost_only_their_chunks(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, image: Image, there: Path, data: st.DataObject
) -> None:
    files = [path for path, held in pushed.outputs.items() if held != "/"]
    rare, common = st.sampled_from(LARGE), st.sampled_from(files)
    chosen = sorted({*data.draw(st.sets(common, min_size=1, max_size=9)), *data.draw(st.sets(rare, max_size=2))})
    picked = pick(cache, target, pushed.uri, there, *map(literal, chosen))
    assert contents(there) == pushed.only(*chosen)
    needed = image.cost(pushed.listing()) + image.cost(pushed.holding(*chosen))
    assert picked.received == image.head + needed
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
    assert picked == Pulled(pushed.uri, str(there), 0, 181, size)
    assert {(stage, total) for stage, _, total in steps} == {("place", size)}
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
    assert elsewhere[3:5] == here[3:5] == (1, 9)
    assert (elsewhere.registry, here.registry) == ("the registry", None)


def test_the_file_of_a_pack_of_one_file_can_be_picked(pantry: Pantry, project: Project, there: Path) -> None:
    project.write_contract(outputs=[{"path": "./out/joined"}])
    uri = pantry.seed([], str(project.contract)).uri
    pantry.push(uri)
    pantry.pull(uri, str(there / "1"), include=["joined"])
    pantry.remove(uri)
    pantry.pull(uri, str(there / "2"), include=["joined"])
    assert contents(there / "1") == contents(there / "2") == {"joined": "alphabeta"}


def test_progress_adds_up_to_its_last_total(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, image: Image, there: Path
) -> None:
    seen: list[tuple[str, int, int | None]] = []
    picked = pick(cache, target, pushed.uri, there, "large-1", progress=lambda *step: seen.append(step))
    assert {stage for stage, _, _ in seen} == {"pull"}
    assert sum(step for _, step, _ in seen) == seen[-1][2] == picked.received


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
    image: Image,
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
    assert asked(target, image) == {0, 1} | layers_of(image, pushed.listing())


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
    pushed: PushedPack, cache: Cache, target: FaultyTarget, image: Image, there: Path
) -> None:
    pick(cache, target, pushed.uri, there, "large-1", "joined")
    before = state(there / "large-1")
    again = pick(cache, target, pushed.uri, there, "large-1", "joined")
    assert state(there / "large-1") == before
    assert again.received == image.head + image.cost(pushed.listing())
    assert again.files == 2


def test_other_content_at_the_destination_is_kept_unless_forced(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, image: Image, there: Path
) -> None:
    there.mkdir(parents=True)
    (there / "notes").write_text("my own notes")
    with pytest.raises(InvalidInput, match="something else is there already") as caught:
        pick(cache, target, pushed.uri, there, "large-1")
    assert caught.value.code == "E_OCCUPIED"
    assert contents(there) == {"notes": "my own notes"}
    assert asked(target, image) == {0, 1} | layers_of(image, pushed.listing()), "before it is fetched"
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


PARTS = ("image manifest", "first layer", "table", "listing", "chunk 0", "chunk 1")


def part(pushed: PushedPack, image: Image, name: str) -> tuple[str, int, int]:
    """Return the digest of a blob and the range of it that is needed to pick large-2."""
    if name in ("image manifest", "first layer", "table"):
        blob = dict(zip(PARTS, (image.descriptor, *image.layers[:2]), strict=False))[name]
        return blob.digest, 0, blob.size
    numbers = dict(zip(PARTS[3:], (pushed.listing()[0], *pushed.holding("large-2")), strict=False))
    record = image.table[numbers[name]]
    return image.layers[record.layer].digest, record.offset, record.stop


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("position", [0, 3, 10, 0.5, -8, -4, -1])
def test_one_changed_byte_in_a_needed_part_is_refused_and_nothing_stays(
    pushed: PushedPack,
    cache: Cache,
    target: FaultyTarget,
    image: Image,
    there: Path,
    leftovers: Callable[[], list[str]],
    name: str,
    position: float,
) -> None:
    digest, start, stop = part(pushed, image, name)
    inside = position if isinstance(position, int) else int(position * (stop - start))
    target.flip(digest, (start if inside >= 0 else stop) + inside)
    with pytest.raises(IntegrityError, match=rf"digest differs|layer \d+, {digest}, at {start}: "):
        pick(cache, target, pushed.uri, there, "large-2")
    assert untouched(cache, leftovers, there)


@pytest.mark.parametrize("name", PARTS)
def test_a_missing_part_is_damage_and_not_a_miss(
    pushed: PushedPack,
    cache: Cache,
    target: FaultyTarget,
    image: Image,
    there: Path,
    leftovers: Callable[[], list[str]],
    name: str,
) -> None:
    digest, _, _ = part(pushed, image, name)
    target.blob(digest).unlink()
    with pytest.raises(IntegrityError, match=f"{digest}.*missing") as caught:
        pick(cache, target, pushed.uri, there, "large-2")
    assert caught.value.code == "E_INCOMPLETE"
    assert untouched(cache, leftovers, there)


def test_what_is_not_needed_may_be_damaged_or_missing(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, image: Image, there: Path
) -> None:
    needed = [*pushed.listing(), *pushed.holding("large-2")]
    others = set(image.data_layers()) - layers_of(image, needed)
    assert others
    for number in others:
        target.blob(image.layers[number].digest).unlink()
    beside = set(range(len(image.table))) - {*needed}
    inside = [image.table[number] for number in beside if image.table[number].layer not in others]
    damaged = [record for record in inside if cost_is_exact(image, needed, record.layer)]
    assert damaged
    for record in damaged:
        target.flip(image.layers[record.layer].digest, record.offset + 20)
    pick(cache, target, pushed.uri, there, "large-2")
    assert contents(there) == pushed.only("large-2")


def cost_is_exact(image: Image, numbers: Iterable[int], layer: int) -> bool:
    """Return whether a layer is not fetched whole for these records."""
    size = sum(image.table[number].chunk_size for number in numbers if image.table[number].layer == layer)
    return size <= image.sizes[layer] // 2


def resized(changes: Mapping[int, int]) -> Callable[[Image], Laid]:
    """Records, by their number, announce pieces of more bytes than they have."""

    def change(image: Image) -> Laid:
        layers, records = laid_of(image)
        for number, more in changes.items():
            records[number] = records[number]._replace(size=records[number].size + more)
        return Laid(layers, records)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (resized({-1: 1}), "pieces do not make up the pack"),
        (resized({-1: -512}), "pieces do not make up the pack"),
        (resized({-1: -1, 5: 1}), "less than announced|more than announced|differs from its listing|ends too early"),
        (resized({0: 512}), "chunk unpacks to less than announced"),
        (resized({0: -512}), "chunk unpacks to more than announced"),
        (resized({0: 1 << 30}), "record 0: size of the piece: expected 1 to 1048576 bytes, got"),
    ],
    ids=["total", "total, less", "shifted", "listing, more", "listing, less", "listing, endless"],
)
def test_wrong_announced_sizes_are_refused(
    pushed: PushedPack,
    cache: Cache,
    target: FaultyTarget,
    image: Image,
    there: Path,
    leftovers: Callable[[], list[str]],
    change: Callable[[Image], Laid],
    message: str,
) -> None:
    republish(target, pushed.uri, *change(image))
    with pytest.raises(IntegrityError, match=message):
        pick(cache, target, pushed.uri, there, "large-*")
    assert untouched(cache, leftovers, there)


def reordered(change: Callable[[list[Record]], list[Record]]) -> Callable[[Image], Laid]:
    return lambda image: laid_of(image)._replace(records=change(list(image.table)))


def first_piece_too(image: Image) -> Laid:
    """The table names the piece of manifest.json, which is in no table."""
    layers, records = laid_of(image)
    again = record_of(image.first_piece(), image.layer(0), 2 + len(layers), 0)
    return Laid([*layers, image.layer(0)], [again, *records])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (reordered(lambda records: records[:-1]), "pieces do not make up the pack"),
        (reordered(lambda records: [*records, records[-1]]), "pieces do not make up the pack"),
        (reordered(lambda records: []), "files.jsonl: pack ends too early"),
        (reordered(lambda records: [*reversed(records)]), "archive differs from its listing"),
        (reordered(lambda records: [*records[:8], *reversed(records[8:])]), "differs from its|ends too early"),
        (first_piece_too, "archive differs from its listing"),
    ],
    ids=["cut short", "repeated last", "manifest alone", "reversed", "swapped", "manifest twice"],
)
def test_pieces_left_out_repeated_or_swapped_are_refused(
    pushed: PushedPack,
    cache: Cache,
    target: FaultyTarget,
    image: Image,
    there: Path,
    leftovers: Callable[[], list[str]],
    change: Callable[[Image], Laid],
    message: str,
) -> None:
    republish(target, pushed.uri, *change(image))
    with pytest.raises(IntegrityError, match=message):
        pick(cache, target, pushed.uri, there, "large-2")
    assert untouched(cache, leftovers, there)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"alphabeta", b"alphaBETA", "artifacts/joined: content differs from its digest"),
        (b"artifacts/joined", b"artifacts/jo1ned", "artifacts/joined: archive differs from its listing"),
        (b'"path":"joined"', b'"path":"jo1ned"', "files.jsonl: content differs from its digest"),
        (b'"path":"joined"', b'"path":"../ned"', "files.jsonl: content differs from its digest"),
    ],
)
def test_content_that_differs_from_its_listing_is_refused(
    pushed: PushedPack,
    cache: Cache,
    target: FaultyTarget,
    image: Image,
    there: Path,
    leftovers: Callable[[], list[str]],
    old: bytes,
    new: bytes,
    message: str,
) -> None:
    number = image.find(old)
    republish(target, pushed.uri, *with_pieces(image, {number: image.piece(number).replace(old, new)}))
    with pytest.raises(IntegrityError, match=message):
        pick(cache, target, pushed.uri, there, "joined")
    assert untouched(cache, leftovers, there)


@each_stop
@pytest.mark.parametrize("method", ["fetch", "fetch_range"])
@pytest.mark.parametrize("force", [False, True], ids=["nothing there", "something there"])
def test_a_pick_stopped_at_any_call_changes_nothing_and_the_next_one_succeeds(
    pushed: PushedPack,
    cache: Cache,
    target: FaultyTarget,
    there: Path,
    leftovers: Callable[[], list[str]],
    error: BaseException,
    expected: type[BaseException],
    method: str,
    force: bool,
) -> None:
    def stop() -> None:
        raise error

    if force:
        there.mkdir(parents=True)
        (there / "notes").write_text("my own notes")
    pick(Cache(str(target.folder) + "-cache"), target, pushed.uri, Path(f"{target.folder}-there"), "large-1", "joined")
    calls = target.count(method)
    assert calls > 2
    earliest = 2 if (method, expected) == ("fetch", LocalFailure) else 0  # nothing is written before the pack is opened
    for number in range(earliest, calls):
        target.after(method, number, stop)
        with pytest.raises(expected):
            pick(cache, target, pushed.uri, there, "large-1", "joined", force=force)
        assert leftovers() == [], number
        if force:
            assert (contents(there), other_names(there)) == ({"notes": "my own notes"}, []), number
        else:
            assert untouched(cache, leftovers, there), number
        wait_until_idle()  # late calls are not those of the next pick
    target.on(method, lambda _: None)
    pick(cache, target, pushed.uri, there, "large-1", "joined", force=force)
    assert contents(there) == pushed.only("large-1", "joined")
    assert other_names(there) == []


def test_no_transfer_goes_on_after_a_failure(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, image: Image, there: Path
) -> None:
    record = image.table[pushed.holding("large-0")[1]]
    target.flip(image.layers[record.layer].digest, record.offset + 12)
    with pytest.raises(IntegrityError) as caught:
        pick(cache, target, pushed.uri, there, "large-*")
    wait_until_idle()
    assert f"layer {record.layer}, " in str(caught.value) or caught.value.code == "E_DIGEST"


@pytest.fixture
def older(pushed: PushedPack, project: Project, open_pantry: Callable[..., Pantry], registry: FaultyTarget) -> CtxUri:
    """A cached pack that also holds most of large-2, and so some of its pieces."""
    folder = Cache(pushed.cache).find(uri_digest(pushed.uri))
    assert folder is not None
    shutil.rmtree(project.out)
    shutil.copytree(Path(folder, "artifacts"), project.out)
    for path in (project.out, *project.out.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)
    (project.out / "large-3").write_bytes(random.Random(9).randbytes(SIZE))
    with open(project.out / "large-2", "r+b") as file:
        file.seek(SIZE // 2)
        file.write(b"changed" * 1000)
    project.write_contract(params={"older": True})
    maker = open_pantry("maker")
    uri = maker.seed([], str(project.contract)).uri
    maker.push(uri)
    open_pantry().pull(uri)
    return uri


def test_pieces_that_packs_in_the_cache_hold_are_not_fetched(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, image: Image, there: Path, older: CtxUri
) -> None:
    held = Holdings(cache).hold(image.table)
    listing, needed = (
        [number for number in numbers if not held.has(image.table[number])]
        for numbers in (pushed.listing(), pushed.holding("large-2"))
    )
    held.close()
    assert 0 < len(needed) < len(pushed.holding("large-2")) / 2
    picked = pick(cache, target, pushed.uri, there, "large-2")
    assert contents(there) == pushed.only("large-2")
    assert picked.received == image.head + image.cost(listing) + image.cost(needed)


def test_a_damaged_cached_pack_does_not_make_a_pick_wrong(
    pushed: PushedPack,
    cache: Cache,
    target: FaultyTarget,
    image: Image,
    there: Path,
    older: CtxUri,
    leftovers: Callable[[], list[str]],
) -> None:
    folder = cache.find(uri_digest(older))
    assert folder is not None
    path = Path(folder, "artifacts", "large-2")
    path.chmod(0o644)
    path.write_bytes(bytes(path.stat().st_size))
    seen: list[tuple[int, int | None]] = []
    picked = pick(cache, target, pushed.uri, there, "large-2", progress=lambda _, *step: seen.append(step))
    assert contents(there) == pushed.only("large-2")
    needed = image.cost(pushed.listing()) + image.cost(pushed.holding("large-2"))
    assert picked.received >= image.head + needed, "in a second attempt"
    assert sum(step for step, _ in seen) == seen[-1][1] == picked.received
    assert leftovers() == []
    assert other_names(there) == []


def test_a_pull_after_a_pick_fetches_the_whole_pack(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, image: Image, there: Path
) -> None:
    """Picked outputs are not in the cache under the URI."""
    pick(cache, target, pushed.uri, there, "joined")
    assert cache.find(uri_digest(pushed.uri)) is None
    pulled = fetch(context_of(cache, target), pushed.uri)
    assert contents(Path(pulled.folder, "artifacts")) == pushed.outputs
    assert pulled.received == image.size
