"""Pieces come from ranges of layers, in order, each checked, however they lie there and whatever the target serves."""

from __future__ import annotations

import gc
import os
import random
import shutil
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pantry_context import context_of
from pantry_image import Image, Laid, image_of, laid_of, lay_out, republish, with_pieces
from pantry_project import Project
from pantry_target import Call, FaultyTarget, each_stop, wait_until_idle

from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, IntegrityError, hash_tree, uri_digest
from ctxpack_oci import Descriptor
from ctxpack_pantry import Pantry, Settings, download, parts
from ctxpack_pantry.download import Download
from ctxpack_pantry.fetch import fetch
from ctxpack_pantry.holdings import NOTHING_HELD
from ctxpack_pantry.lookup import require_found
from ctxpack_pantry.pick import pick
from ctxpack_pantry.settings import Setting

KIB, MIB = 1 << 10, 1 << 20


class WholeOnly(FaultyTarget):
    """A target that serves no ranges. small: bytes of a blob that it sends when a part is asked for."""

    small = 100 * KIB

    def fetch_range(self, descriptor: Descriptor, start: int, size: int) -> bytes | None:
        super().fetch_range(descriptor, start, size)
        return self.layout.fetch(descriptor) if descriptor.size <= self.small else None


class PushedPack(NamedTuple):
    """A pack in the registry in folder. outputs: their tree digest."""

    folder: Path
    uri: CtxUri
    outputs: str


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> PushedPack:
    """A registry with one pack, of some 25 pieces of noise and some of text, in one layer. No test changes it."""
    root = tmp_path_factory.mktemp("pushed")
    project = Project(root / "project")
    (project.out / "noise").write_bytes(random.Random(1).randbytes(1_500_000))
    (project.out / "text").write_bytes(b"".join(b"line %d\n" % number for number in range(10_000)))
    pantry = Pantry(Settings(Setting(f"oci:{root / 'registry'}", ""), Setting(str(root / "cache"), "")))
    uri = pantry.seed([], str(project.contract)).uri
    pantry.push(uri)
    return PushedPack(root / "registry", uri, hash_tree(str(project.out)).digest)


@pytest.fixture
def image(pushed: PushedPack, registry: FaultyTarget) -> Image:
    """The image of a copy of the pack, in registry."""
    shutil.copytree(pushed.folder, registry.folder, copy_function=os.link, dirs_exist_ok=True)
    return image_of(registry, pushed.uri)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is 32 times smaller: parts, and gaps between them."""
    limit_parts(monkeypatch, 256 * KIB, 8 * KIB)


def limit_parts(patch: pytest.MonkeyPatch, most: int, gap: int) -> None:
    patch.setattr(parts, "MOST", most)
    patch.setattr(parts, "_GAP", gap)
    patch.setattr(download, "MOST", 0)  # nothing is fetched before the pack is open


def spread(image: Image, count: int) -> Laid:
    """The pieces of image in count layers, each of which is in use from the start of the stream to its end."""
    pieces = image.pieces()
    order = [(number % count, number // count) for number in range(len(pieces))]
    return lay_out([pieces[layer::count] for layer in range(count)], order)


def open_files() -> int:
    """How many files this process has open, once no transfer goes on."""
    wait_until_idle()
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def fetched(cache: Cache, target: FaultyTarget, uri: CtxUri) -> str:
    """Fetch the pack and return the tree digest of its outputs."""
    return hash_tree(os.path.join(fetch(context_of(cache, target), uri).folder, "artifacts")).digest


def nothing_is_left(cache: Cache, leftovers: Callable[[], list[str]]) -> bool:
    return list(cache.packs()) == [] and leftovers() == []


# Any arrangement


@st.composite
def arrangements(draw: st.DrawFn, count: int) -> tuple[list[list[int]], list[int]]:
    """For each layer the numbers of the records in it, those that are wanted, and perhaps dead ones, as -1."""
    layers: list[list[int]] = [[] for _ in range(draw(st.integers(1, 5)))]
    for number in draw(st.permutations(range(count))) if draw(st.booleans()) else range(count):
        layer = draw(st.sampled_from(layers))
        layer += [-1] * draw(st.sampled_from([0, 0, 0, 1, 3]))
        layer.append(number)
    wanted = [number for number in range(count) if draw(st.integers(0, 3))]
    return layers, wanted


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_pieces_come_in_order_from_any_layers(
    image: Image, cache: Cache, tmp_path: Path, data: st.DataObject
) -> None:
    pieces = image.pieces()
    layers, wanted = data.draw(arrangements(len(pieces)))
    dead = random.Random(2).randbytes(40 * KIB)
    order = {number: (n, place) for n, layer in enumerate(layers) for place, number in enumerate(layer)}
    laid = lay_out(
        [[pieces[number] if number >= 0 else dead for number in layer] for layer in layers],
        [order[number] for number in range(len(pieces))],
    )
    target = data.draw(st.sampled_from([FaultyTarget, WholeOnly]))(image.target.folder)
    if isinstance(target, WholeOnly):
        target.small = data.draw(st.sampled_from([0, 300 * KIB, 8 * MIB]))
    republish(target, image.uri, *laid)
    seen: list[tuple[int, int | None]] = []
    with pytest.MonkeyPatch.context() as patch:
        limit_parts(patch, data.draw(st.sampled_from([MIB, 8 * MIB, 1_150_000])), data.draw(st.sampled_from([1, KIB])))
        if data.draw(st.booleans()):
            patch.setattr(download, "MOST", 8 * MIB)
        context = context_of(cache, target, progress=lambda _, step, total: seen.append((step, total)))
        loading = Download(context, require_found(context, image.uri), ahead=data.draw(st.booleans()))
        with closing(loading.pieces(wanted, NOTHING_HELD, str(tmp_path))) as found:
            assert list(found) == [pieces[number] for number in wanted]
    assert sum(step for step, _ in seen) == seen[-1][1] == loading.received


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("layers", [1, 3, 16])
@pytest.mark.parametrize("kind", [FaultyTarget, WholeOnly])
def test_a_pack_whose_layers_are_in_use_all_the_time_is_pulled_and_no_file_is_left(
    pushed: PushedPack,
    cache: Cache,
    image: Image,
    leftovers: Callable[[], list[str]],
    layers: int,
    kind: type[FaultyTarget],
) -> None:
    republish(image.target, image.uri, *spread(image, layers))
    target, before = kind(image.target.folder), open_files()
    assert fetched(cache, target, image.uri) == pushed.outputs
    assert (open_files(), leftovers()) == (before, [])


# What is asked for


def asked(target: FaultyTarget, image: Image) -> list[Call]:
    """Return the calls for layers of chunks."""
    digests = {layer.digest for layer in image.layers[2:]}
    return [call for call in target.calls if call.subject in digests]


@pytest.mark.usefixtures("small_parts")
def test_no_byte_of_a_large_layer_comes_twice(cache: Cache, registry: FaultyTarget, image: Image) -> None:
    assert fetch(context_of(cache, registry), image.uri).received == image.size
    assert {call.method for call in asked(registry, image)} == {"fetch_range"}
    assert len(asked(registry, image)) > 5


@pytest.mark.usefixtures("small_parts")
def test_a_target_without_ranges_is_asked_once_for_each_large_layer(
    pushed: PushedPack, cache: Cache, image: Image
) -> None:
    half = len(image.table) // 2
    pieces = image.pieces()
    republish(image.target, image.uri, *lay_out([pieces[:half], pieces[half:]]))
    image = image_of(image.target, image.uri)
    assert min(image.sizes[2:]) > WholeOnly.small
    target = WholeOnly(image.target.folder)
    pulled = fetch(context_of(cache, target), image.uri)
    assert hash_tree(os.path.join(pulled.folder, "artifacts")).digest == pushed.outputs
    assert pulled.received == image.size
    whole = sorted(call for call in asked(target, image) if call.method != "fetch_range")
    assert whole == sorted(Call("fetch_into", layer.digest) for layer in image.layers[2:])


def dead_between(image: Image) -> Laid:
    """One layer: the pieces, and 600 KiB that no record names in their middle."""
    pieces, half = image.pieces(), len(image.table) // 2
    dead = [random.Random(number).randbytes(200 * KIB) for number in range(10)]
    order = [*range(half), *range(half + len(dead), len(pieces) + len(dead))]
    return lay_out([[*pieces[:half], *dead, *pieces[half:]]], [(0, number) for number in order])


def test_a_layer_that_came_ahead_is_not_asked_for_again(
    pushed: PushedPack, cache: Cache, registry: FaultyTarget, image: Image
) -> None:
    """Less than half of it is wanted, in two ranges."""
    image = republish(registry, image.uri, *dead_between(image))
    pulled = fetch(context_of(cache, registry), image.uri)
    assert hash_tree(os.path.join(pulled.folder, "artifacts")).digest == pushed.outputs
    assert asked(registry, image) == [("fetch", image.layers[2].digest)]
    assert pulled.received == image.size


def test_dead_bytes_are_not_fetched_when_the_pack_is_open_first(
    pushed: PushedPack, cache: Cache, registry: FaultyTarget, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MOST", 0)
    image = republish(registry, image.uri, *dead_between(image))
    pulled = fetch(context_of(cache, registry), image.uri)
    assert hash_tree(os.path.join(pulled.folder, "artifacts")).digest == pushed.outputs
    assert pulled.received == sum(image.sizes[:2]) + sum(record.chunk_size for record in image.table)


def test_a_small_pull_asks_for_everything_at_once(
    pushed: PushedPack, cache: Cache, registry: FaultyTarget, image: Image
) -> None:
    """After the tag, one wait for the first layer, the table and the layers of chunks."""
    image = republish(registry, image.uri, *spread(image, 3))
    together = threading.Barrier(5, timeout=10)
    registry.on("fetch", lambda _: together.wait())
    assert fetched(cache, registry, image.uri) == pushed.outputs
    assert registry.count("fetch") == 5


def test_nothing_comes_ahead_of_what_does_not_fit_into_memory(
    cache: Cache, registry: FaultyTarget, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = republish(registry, image.uri, *spread(image, 3))
    monkeypatch.setattr(download, "MOST", image.sizes[2] + image.sizes[3])
    context = context_of(cache, registry)
    Download(context, require_found(context, image.uri), ahead=True)
    assert {call.subject for call in asked(registry, image)} == {layer.digest for layer in image.layers[2:4]}


# Damage


def large_chunk(image: Image) -> int:
    """Return the number of a record whose piece is noise, and so is stored as it is."""
    return next(number for number, record in enumerate(image.table) if record.chunk_size > record.size > 50 * KIB)


def place_of(image: Image, number: int) -> str:
    record = image.table[number]
    return f"layer {record.layer}, {image.layers[record.layer].digest}, at {record.offset}: "


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("position", [0, 3, 10, 2000, -8, -4, -1])
@pytest.mark.parametrize("layers", [1, 3])
def test_a_changed_byte_of_a_chunk_is_refused_with_the_place_of_the_chunk(
    cache: Cache,
    registry: FaultyTarget,
    image: Image,
    leftovers: Callable[[], list[str]],
    position: int,
    layers: int,
) -> None:
    image = republish(registry, image.uri, *spread(image, layers))
    number, before = large_chunk(image), open_files()
    record = image.table[number]
    registry.flip(image.layers[record.layer].digest, (record.offset if position >= 0 else record.stop) + position)
    with pytest.raises(IntegrityError) as caught:
        fetch(context_of(cache, registry), image.uri)
    whole = f"layer {record.layer}: digest differs"
    assert place_of(image, number) in str(caught.value) or whole in str(caught.value)
    assert nothing_is_left(cache, leftovers)
    del caught
    assert open_files() == before


def lying_about(image: Image, number: int, **fields: Any) -> Laid:
    layers, records = laid_of(image)
    records[number] = records[number]._replace(**fields)
    return Laid(layers, records)


GARBAGE = random.Random(3).randbytes(300)


def at_garbage(image: Image, number: int) -> Laid:
    """The record names bytes after the chunks, which are none."""
    laid = lying_about(image, number, offset=image.sizes[2], chunk_size=len(GARBAGE))
    return laid._replace(layers=[laid.layers[0] + GARBAGE])


def at_another(image: Image, number: int) -> Laid:
    """The record of a piece names the place of another chunk, of the same size."""
    twin = bytes(reversed(image.piece(number)))
    layers, records = with_pieces(image, {number: twin})
    records[number] = records[number]._replace(sha256=image.table[number].sha256)
    return Laid(layers, records)


@pytest.mark.parametrize("parted", [True, False], ids=["in parts", "whole"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda image, number: lying_about(image, number, sha256=bytes(32)), "piece differs from the table"),
        (lambda image, number: lying_about(image, number, size=100), "chunk unpacks to more than announced"),
        (lambda image, number: lying_about(image, number, size=MIB), "chunk unpacks to less than announced"),
        (lambda image, number: lying_about(image, number, chunk_size=500), "gzip member ends too early"),
        (at_garbage, "not a plain gzip member"),
        (at_another, "piece differs from the table: expected sha256:"),
    ],
    ids=["digest", "smaller piece", "larger piece", "shorter chunk", "garbage", "another chunk"],
)
def test_a_table_that_lies_about_a_chunk_is_refused_with_the_place_of_the_chunk(
    cache: Cache,
    registry: FaultyTarget,
    image: Image,
    tmp_path: Path,
    leftovers: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    parted: bool,
    change: Callable[[Image, int], Laid],
    message: str,
) -> None:
    if parted:
        limit_parts(monkeypatch, 256 * KIB, 8 * KIB)
    number = large_chunk(image)
    image = republish(registry, image.uri, *change(image, number))
    with pytest.raises(IntegrityError, match=message) as caught:
        fetch(context_of(cache, registry), image.uri)
    assert place_of(image, number) in str(caught.value)
    assert nothing_is_left(cache, leftovers)
    with pytest.raises(IntegrityError, match=f"{message}|pieces do not make up the pack"):
        pick(context_of(cache, registry), image.uri, ["noise"], str(tmp_path / "user" / "there"), force=False)
    assert list((tmp_path / "user").glob("*")) == []
    assert nothing_is_left(cache, leftovers)


def test_a_chunk_with_bytes_after_its_member_is_refused(
    cache: Cache, registry: FaultyTarget, image: Image, leftovers: Callable[[], list[str]]
) -> None:
    """The record of one chunk takes the next one in, which no record names then."""
    layers, records = laid_of(image)
    number = large_chunk(image)
    both = records[number]._replace(chunk_size=records[number].chunk_size + records[number + 1].chunk_size)
    image = republish(registry, image.uri, layers, [*records[:number], both, *records[number + 2 :]])
    with pytest.raises(IntegrityError, match="bytes after the gzip member") as caught:
        fetch(context_of(cache, registry), image.uri)
    assert place_of(image, number) in str(caught.value)
    assert nothing_is_left(cache, leftovers)


@pytest.mark.usefixtures("small_parts")
def test_a_layer_that_is_read_whole_in_parts_is_checked_by_its_digest(
    cache: Cache, registry: FaultyTarget, image: Image, tmp_path: Path, leftovers: Callable[[], list[str]]
) -> None:
    """The time in a gzip header means nothing, so the piece is right. Some pieces alone are used without that check."""
    registry.flip(image.layers[2].digest, image.table[large_chunk(image)].offset + 4)
    with pytest.raises(IntegrityError, match="layer 2: digest differs: expected sha256:") as caught:
        fetch(context_of(cache, registry), image.uri)
    assert f"expected {image.layers[2].digest}, got sha256:" in str(caught.value)
    assert nothing_is_left(cache, leftovers)
    pick(context_of(cache, registry), image.uri, ["text"], str(tmp_path / "there"), force=False)
    assert (tmp_path / "there" / "text").stat().st_size > 0


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("kind", [FaultyTarget, WholeOnly])
@pytest.mark.parametrize("layers", [1, 3])
def test_a_missing_layer_is_damage_and_names_the_layer(
    cache: Cache, image: Image, leftovers: Callable[[], list[str]], kind: type[FaultyTarget], layers: int
) -> None:
    image = republish(image.target, image.uri, *spread(image, layers))
    layer = image.layers[-1]
    image.target.blob(layer.digest).unlink()
    before = open_files()
    with pytest.raises(IntegrityError, match=f"layer {layers + 1}, {layer.digest}: a layer is missing") as caught:
        fetch(context_of(cache, kind(image.target.folder)), image.uri)
    assert caught.value.code == "E_INCOMPLETE"
    del caught
    assert nothing_is_left(cache, leftovers)
    assert open_files() == before


# Stops


STOPPED = [
    (FaultyTarget, "fetch_range", 1),
    (FaultyTarget, "fetch_range", 3),
    (FaultyTarget, "fetch", 3),
    (WholeOnly, "fetch_range", 3),
    (WholeOnly, "fetch_into", 3),
]


@each_stop
@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(("kind", "method", "layers"), STOPPED)
def test_a_pull_stopped_at_any_call_leaves_nothing_and_the_next_one_succeeds(
    pushed: PushedPack,
    cache: Cache,
    image: Image,
    leftovers: Callable[[], list[str]],
    kind: type[FaultyTarget],
    method: str,
    layers: int,
    error: BaseException,
    expected: type[BaseException],
) -> None:
    def stop() -> None:
        raise error

    republish(image.target, image.uri, *(laid_of(image) if layers == 1 else spread(image, layers)))
    whole = kind(image.target.folder)
    fetch(context_of(Cache(str(image.target.folder) + "-cache"), whole), image.uri)
    before = open_files()
    calls = (
        layers if kind is WholeOnly else whole.count(method)
    )  # a layer that is there whole may not be asked for again
    for number in range(2 if method == "fetch" else 0, calls):
        target = kind(image.target.folder)
        target.after(method, number, stop)
        with pytest.raises(expected):
            fetch(context_of(cache, target), image.uri)
        assert nothing_is_left(cache, leftovers), number
        assert open_files() == before, number
    assert fetched(cache, kind(image.target.folder), image.uri) == pushed.outputs


@pytest.mark.usefixtures("small_parts")
def test_pieces_that_are_not_taken_leave_nothing_open(cache: Cache, image: Image, tmp_path: Path) -> None:
    republish(image.target, image.uri, *spread(image, 4))
    context = context_of(cache, image.target)
    loading = Download(context, require_found(context, image.uri))
    before = open_files()
    for taken in (1, 5, 20):
        pieces = loading.pieces(range(len(loading.table)), NOTHING_HELD, str(tmp_path / "home"))
        with closing(pieces):
            for _ in range(taken):
                next(pieces)
        assert open_files() == before
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.usefixtures("small_parts")
def test_a_pull_that_is_left_does_not_wait_for_a_layer_of_a_target_without_ranges(
    cache: Cache, image: Image, tmp_path: Path
) -> None:
    """The first layer fails while the second comes and the third waits for its turn."""
    image = republish(image.target, image.uri, *spread(image, 3))
    target = WholeOnly(image.target.folder)
    coming, release, left = threading.Event(), threading.Event(), threading.Event()

    def fail_first(call: Call) -> None:
        if call.subject == image.layers[2].digest:
            assert coming.wait(10)
            raise KeyboardInterrupt

    def wait(_: Call) -> None:
        coming.set()
        assert release.wait(10)

    def pull() -> None:
        with pytest.raises(KeyboardInterrupt):
            list(loading.pieces(range(len(loading.table)), NOTHING_HELD, str(tmp_path)))
        left.set()

    context = context_of(cache, target)
    loading = Download(context, require_found(context, image.uri))
    before = open_files()
    target.on("fetch_range", fail_first)
    target.on("fetch_into", wait)
    thread = threading.Thread(target=pull)
    thread.start()
    try:
        assert left.wait(10)
    finally:
        release.set()
        thread.join()
    assert open_files() == before
    assert target.count("fetch_into") == 1, "no other layer is begun"


# Memory


def traced(work: Callable[[], object]) -> int:
    """Return how many bytes of memory work took at most."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def noise(size: int) -> Iterator[bytes]:
    source = random.Random(4)
    return (source.randbytes(MIB) for _ in range(size // MIB))


def text(size: int) -> Iterator[bytes]:
    lines = (b"".join(b"line %d of a text that compresses well\n" % n for n in range(k, k + 999)) for k in range(9999))
    for block in lines:
        size -= len(block)
        yield block
        if size < 0:
            return


@pytest.mark.parametrize("content", [noise, text])
def test_memory_does_not_grow_with_the_pack(
    cache: Cache,
    open_pantry: Callable[..., Pantry],
    project: Project,
    registry: FaultyTarget,
    content: Callable[[int], Iterator[bytes]],
) -> None:
    with open(project.out / "large", "wb") as file:
        file.writelines(content(96 * MIB))
    maker = open_pantry("maker")
    uri = maker.seed([], str(project.contract)).uri
    maker.push(uri)
    registry.after(
        "fetch", 0, tracemalloc.reset_peak
    )  # index.json is read into a buffer for the largest one there may be
    assert traced(lambda: fetch(context_of(cache, registry), uri)) < 50 * MIB
    assert cache.find(uri_digest(uri)) is not None
