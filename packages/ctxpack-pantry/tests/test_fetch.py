"""A pack of the registry becomes a pack of the cache: every byte is checked, or no pack is visible."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pantry_context import context_of
from pantry_image import Image, Laid, image_of, laid_of, record_of, republish, with_pieces
from pantry_project import Project, contents
from pantry_target import FaultyTarget, each_stop, wait_until_idle

from ctxpack_bundle import Record, layering, make_chunk, stream_size
from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, IntegrityError, LocalFailure, NotFound, Unavailable, digest_of, uri_digest
from ctxpack_oci import Descriptor, Layout
from ctxpack_pantry import Pantry, Settings, download
from ctxpack_pantry.fetch import fetch
from ctxpack_pantry.settings import Setting


class PushedPack(NamedTuple):
    """A pack in a registry. outputs: what it holds."""

    layout: Layout
    uri: CtxUri
    outputs: dict[str, str]


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> PushedPack:
    """A registry with one pack, which no test changes."""
    root = tmp_path_factory.mktemp("pushed")
    project = Project(root / "project")
    (project.out / "large").write_bytes(b"".join(digest_of(b"%d" % number).encode()[7:] for number in range(60_000)))
    pantry = Pantry(Settings(Setting(f"oci:{root / 'registry'}", ""), Setting(str(root / "cache"), "")))
    uri = pantry.seed([], str(project.contract)).uri
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layering, "_LEAST", 256 << 10)
        pantry.push(uri)
    return PushedPack(Layout(root / "registry"), uri, contents(project.out))


def copy_of(pushed: PushedPack, folder: Path) -> FaultyTarget:
    shutil.copytree(pushed.layout.name.removeprefix("oci:"), folder, copy_function=os.link)
    return FaultyTarget(folder)


@pytest.fixture
def target(pushed: PushedPack, tmp_path: Path) -> FaultyTarget:
    """A copy of the registry, which a test may change."""
    return copy_of(pushed, tmp_path / "target")


@pytest.fixture
def image(pushed: PushedPack, target: FaultyTarget) -> Image:
    """The image of the pack. It has several layers."""
    image = image_of(target, pushed.uri)
    assert len(image.layers) > 4
    return image


@pytest.fixture
def nothing_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """No layer of chunks is fetched before the pack is open, as in a cache whose packs may hold them."""
    monkeypatch.setattr(download, "MOST", 0)


def untouched(cache: Cache, leftovers: Callable[[], list[str]]) -> bool:
    return list(cache.packs()) == [] and leftovers() == []


def test_the_cache_holds_what_was_seeded(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, image: Image, leftovers: Callable[[], list[str]]
) -> None:
    pulled = fetch(context_of(cache, target), pushed.uri)
    assert pulled.received == image.size
    assert pulled.folder == cache.find(uri_digest(pushed.uri))
    assert contents(Path(pulled.folder, "artifacts")) == pushed.outputs
    assert leftovers() == []


def test_a_cached_pack_costs_no_request(pushed: PushedPack, cache: Cache, target: FaultyTarget) -> None:
    first = fetch(context_of(cache, target), pushed.uri)
    before = len(target.calls)
    assert fetch(context_of(cache, target), pushed.uri) == first._replace(received=0)
    assert len(target.calls) == before


def test_progress_adds_up_to_its_last_total(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, image: Image
) -> None:
    seen: list[tuple[str, int, int | None]] = []
    fetch(context_of(cache, target, progress=lambda *step: seen.append(step)), pushed.uri)
    assert {stage for stage, _, _ in seen} == {"pull"}
    assert sum(advanced for _, advanced, _ in seen) == seen[-1][2] == image.size


@pytest.mark.usefixtures("nothing_ahead")
def test_the_total_is_known_once_the_table_is_there(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, image: Image
) -> None:
    totals: list[int | None] = []
    fetch(context_of(cache, target, progress=lambda _, __, total: totals.append(total)), pushed.uri)
    assert set(totals[2:]) == {image.size}


def test_a_pack_that_the_registry_does_not_have_is_a_miss(
    cache: Cache, target: FaultyTarget, leftovers: Callable[[], list[str]]
) -> None:
    nowhere = CtxUri("ctx://sha256:" + "0" * 64)
    with pytest.raises(NotFound) as caught:
        fetch(context_of(cache, target), nowhere)
    assert str(caught.value) == (
        f"the registry: no such pack: {nowhere}; check the URI and the registry, or make the pack: ctxpack run, "
        "or ctxpack seed and ctxpack push"
    )
    assert untouched(cache, leftovers)


def named(image: Image, part: str) -> Descriptor:
    """Return the descriptor of "image manifest" or of a layer, which is given by its number."""
    return image.descriptor if part == "image manifest" else image.layers[int(part)]


PARTS = ("image manifest", "0", "1", "2", "4")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    "position", [0, 3, 10, 0.5, -8, -4, -1], ids=["magic", "flags", "body", "middle", "crc", "length", "last"]
)
def test_one_changed_byte_anywhere_is_refused_and_nothing_stays(
    pushed: PushedPack,
    cache: Cache,
    target: FaultyTarget,
    image: Image,
    leftovers: Callable[[], list[str]],
    part: str,
    position: float,
) -> None:
    descriptor = named(image, part)
    target.flip(descriptor.digest, position if isinstance(position, int) else int(position * descriptor.size))
    with pytest.raises(IntegrityError, match="digest differs"):
        fetch(context_of(cache, target), pushed.uri)
    assert untouched(cache, leftovers)


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_is_damage_and_not_a_miss(
    pushed: PushedPack,
    cache: Cache,
    target: FaultyTarget,
    image: Image,
    leftovers: Callable[[], list[str]],
    part: str,
) -> None:
    descriptor = named(image, part)
    target.blob(descriptor.digest).unlink()
    with pytest.raises(IntegrityError, match="missing") as caught:
        fetch(context_of(cache, target), pushed.uri)
    assert caught.value.code == "E_INCOMPLETE"
    assert descriptor.digest in str(caught.value)
    assert untouched(cache, leftovers)


@settings(max_examples=60)
@given(st.data())
def test_a_byte_changed_before_the_digest_was_computed_is_refused_or_harmless(
    pushed: PushedPack, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Every layer's digest is right: the pack is refused, or (when the byte means nothing in gzip) nothing differs."""
    root = tmp_path_factory.mktemp("changed")
    target = copy_of(pushed, root / "target")
    image = image_of(target, pushed.uri)
    number = data.draw(st.integers(0, len(image.layers) - 1))
    changed = bytearray(image.layer(number))
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    layers = {n: image.layer(n) for n in range(len(image.layers))} | {number: bytes(changed)}
    republish(target, pushed.uri, [layers[n] for n in image.data_layers()], layers[1], first=layers[0])
    cache = Cache(root / "cache")
    try:
        path = fetch(context_of(cache, target), pushed.uri).folder
    except IntegrityError:
        assert list(cache.packs()) == []
    else:
        assert contents(Path(path, "artifacts")) == pushed.outputs
        cache.remove(uri_digest(pushed.uri))
    assert [path for part in ("staging", "locks") for path in (root / "cache/v1" / part).glob("*")] == []
    shutil.rmtree(root)


def first_piece_too(image: Image) -> Laid:
    """The table names the piece of manifest.json, which is in no table."""
    layers, records = laid_of(image)
    chunk = image.layer(0)
    again = record_of(image.first_piece(), chunk, 2 + len(layers), 0)
    return Laid([*layers, chunk], [again, *records])


def reordered(change: Callable[[list[Record]], list[Record]]) -> Callable[[Image], Laid]:
    return lambda image: laid_of(image)._replace(records=change(list(image.table)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (reordered(lambda records: records[:-1]), "pack ends too early"),
        (reordered(lambda records: records[:1]), "pack ends too early"),
        (reordered(lambda records: []), "pack ends too early"),
        (reordered(lambda records: [*records, records[-1]]), "bytes after the end"),
        (reordered(lambda records: [*reversed(records)]), "archive differs from its listing"),
        (reordered(lambda records: [*records[:4], records[5], records[4], *records[6:]]), "differs from its digest"),
        (first_piece_too, "archive differs from its listing"),
    ],
    ids=["cut short", "one record", "no record", "repeated last", "reversed", "swapped", "manifest twice"],
)
def test_pieces_left_out_repeated_or_swapped_are_refused(
    pushed: PushedPack,
    cache: Cache,
    target: FaultyTarget,
    image: Image,
    leftovers: Callable[[], list[str]],
    change: Callable[[Image], Laid],
    message: str,
) -> None:
    republish(target, pushed.uri, *change(image))
    with pytest.raises(IntegrityError, match=message):
        fetch(context_of(cache, target), pushed.uri)
    assert untouched(cache, leftovers)


def test_content_that_differs_from_its_listing_is_refused(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, image: Image, leftovers: Callable[[], list[str]]
) -> None:
    number = image.find(b"alphabeta")
    republish(
        target,
        pushed.uri,
        *with_pieces(image, {number: image.piece(number).replace(b"alphabeta", b"alphaBETA")}),
    )
    with pytest.raises(IntegrityError, match="artifacts/joined: content differs from its digest"):
        fetch(context_of(cache, target), pushed.uri)
    assert untouched(cache, leftovers)


@pytest.mark.parametrize(
    "first",
    [
        lambda image: image.chunk(0),
        lambda image: make_chunk(image.first_piece() + bytes(512)),
        lambda image: make_chunk(image.first_piece()[:-512]),
        lambda image: image.layer(0) * 2,
        lambda image: image.layer(1),
        lambda image: b"",
    ],
    ids=["a listing", "more", "less", "two members", "a table", "nothing"],
)
def test_a_first_layer_that_is_not_the_pack_manifest_alone_is_refused(
    pushed: PushedPack,
    cache: Cache,
    target: FaultyTarget,
    image: Image,
    leftovers: Callable[[], list[str]],
    first: Callable[[Image], bytes],
) -> None:
    republish(target, pushed.uri, image.layers[2:], image.layer(1), first=first(image))
    with pytest.raises(IntegrityError, match="first layer"):
        fetch(context_of(cache, target), pushed.uri)
    assert untouched(cache, leftovers)


def test_a_pack_that_the_disk_has_no_room_for_is_refused_before_its_chunks_are_fetched(
    pushed: PushedPack,
    cache: Cache,
    target: FaultyTarget,
    image: Image,
    leftovers: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    nothing_ahead: None,
) -> None:
    needed = stream_size(
        Pantry(Settings(Setting("", ""), Setting("", "")), target=target).inspect(pushed.uri, skip_cache=True).manifest
    )
    usage = shutil.disk_usage(target.folder)
    target.calls.clear()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed - 1))
    with pytest.raises(LocalFailure, match=f"the pack: expected {needed} bytes free, got {needed - 1}"):
        fetch(context_of(cache, target), pushed.uri)
    assert untouched(cache, leftovers)
    assert {call.subject for call in target.calls}.isdisjoint(layer.digest for layer in image.layers[2:])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed))
    fetch(context_of(cache, target), pushed.uri)


def test_each_layer_is_fetched_once_and_the_contract_never(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, image: Image
) -> None:
    fetch(context_of(cache, target), pushed.uri)
    assert [call.method for call in target.calls[:1]] == ["fetch_tag"]
    assert sorted(target.calls[1:]) == sorted(("fetch", layer.digest) for layer in image.layers)


@each_stop
def test_a_pull_stopped_at_any_layer_leaves_nothing_and_the_next_one_succeeds(
    pushed: PushedPack,
    cache: Cache,
    target: FaultyTarget,
    image: Image,
    leftovers: Callable[[], list[str]],
    nothing_ahead: None,
    error: BaseException,
    expected: type[BaseException],
) -> None:
    def stop() -> None:
        raise error

    earliest = 0 if expected is not LocalFailure else 2  # nothing is written before the pack is opened
    for number in range(earliest, len(image.layers)):
        target.after("fetch", number, stop)
        with pytest.raises(expected):
            fetch(context_of(cache, target), pushed.uri)
        assert untouched(cache, leftovers), number
        wait_until_idle()  # late calls are not those of the next pull
    target.on("fetch", lambda _: None)
    assert contents(Path(fetch(context_of(cache, target), pushed.uri).folder, "artifacts")) == pushed.outputs


@pytest.mark.parametrize("error", [Unavailable("no answer"), KeyboardInterrupt()], ids=["no answer", "Ctrl-C"])
def test_a_pull_stopped_at_any_layer_that_is_fetched_ahead_leaves_nothing(
    pushed: PushedPack,
    cache: Cache,
    target: FaultyTarget,
    image: Image,
    leftovers: Callable[[], list[str]],
    error: BaseException,
) -> None:
    def stop() -> None:
        raise error

    for number in range(len(image.layers)):
        target.after("fetch", number, stop)
        with pytest.raises(type(error)):
            fetch(context_of(cache, target), pushed.uri)
        assert untouched(cache, leftovers), number
        wait_until_idle()
    target.on("fetch", lambda _: None)
    assert contents(Path(fetch(context_of(cache, target), pushed.uri).folder, "artifacts")) == pushed.outputs


def test_two_pulls_at_once_share_the_work(
    pushed: PushedPack, tmp_path: Path, target: FaultyTarget, image: Image, leftovers: Callable[[], list[str]]
) -> None:
    target.on("fetch", lambda _: time.sleep(0.02))
    waited: list[str] = []
    received: list[int] = []

    def work() -> None:
        cache = Cache(tmp_path / "cache")
        done = fetch(context_of(cache, target, notice=waited.append), pushed.uri)
        received.append(done.received)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(received) == [0, image.size]
    assert waited == ["another process fetches this pack; waiting"]
    assert target.count("fetch") == len(image.layers)
    assert leftovers() == []


def test_a_second_pull_takes_over_when_the_first_fails(
    pushed: PushedPack, tmp_path: Path, target: FaultyTarget, leftovers: Callable[[], list[str]]
) -> None:
    waiting = threading.Event()
    outcomes: list[str] = []

    def fail_once() -> None:
        assert waiting.wait(10)
        raise Unavailable("no answer")

    def work() -> None:
        try:
            context = context_of(Cache(tmp_path / "cache"), target, notice=lambda notice: waiting.set())
            fetch(context, pushed.uri)
            outcomes.append("pulled")
        except Unavailable:
            outcomes.append("failed")

    target.after("fetch", 1, fail_once)
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["failed", "pulled"]
    assert leftovers() == []


@pytest.mark.parametrize("number", [0, 1, 2])
def test_no_transfer_goes_on_after_a_failure(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, image: Image, number: int
) -> None:
    target.flip(image.layers[number].digest, 12)
    with pytest.raises(IntegrityError) as caught:
        fetch(context_of(cache, target), pushed.uri)
    wait_until_idle()
    assert caught.value.code == "E_DIGEST"  # the error still keeps every frame alive


def test_a_registry_that_does_not_answer_is_not_a_miss(
    cache: Cache, target: FaultyTarget, leftovers: Callable[[], list[str]]
) -> None:
    def fail(_: object) -> None:
        raise Unavailable("no answer")

    target.on("fetch_tag", fail)
    with pytest.raises(Unavailable):
        fetch(context_of(cache, target), CtxUri("ctx://sha256:" + "0" * 64))
    assert untouched(cache, leftovers)
