"""A push sends what changed since an earlier pack, wherever that is, and lists that pack's layers for the rest."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from pantry_context import context_of
from pantry_image import Image, image_of
from pantry_project import Project
from pantry_target import Call, FaultyTarget, wait_until_idle
from pantry_versions import Versions, assert_pulled, make_layers_small, new_bytes, usage_of

from ctxpack_bundle import Borrowed, Layering, Own, plan_borrowing, read_pack_manifest, stream_size
from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, IntegrityError, Unavailable, uri_digest
from ctxpack_oci import Layout
from ctxpack_pantry import Pantry
from ctxpack_pantry.borrowing import Survey, known_bases, survey
from ctxpack_pantry.kinship import kin_of
from ctxpack_pantry.push import push
from ctxpack_pantry.tables import Tables

Plan = Callable[[Mapping[int, Borrowed], int, Own, Layering], dict[int, Borrowed]]

MIB = 1 << 20
MOST_DEAD, MOST_LAYERS, MOST_INTERLEAVED = 0.22, 480, 16


@pytest.fixture
def versions(project: Project, monkeypatch: pytest.MonkeyPatch) -> Versions:
    """2 MiB of outputs, which have some 14 layers."""
    make_layers_small(monkeypatch)
    return Versions(project, 2 * MIB, files=16)


@pytest.fixture
def first(pantry: Pantry, registry: FaultyTarget, versions: Versions) -> Image:
    """The image of a version that was pushed."""
    uri = versions.seed(pantry)
    pantry.push(uri)
    return image_of(registry, uri)


@pytest.fixture
def second(pantry: Pantry, versions: Versions, first: Image) -> CtxUri:
    """The URI of the next version, which was not pushed; it differs from the first in four places."""
    versions.change(4)
    return versions.seed(pantry)


def folder_of(cache: Cache, uri: CtxUri) -> Path:
    folder = cache.find(uri_digest(uri))
    assert folder is not None
    return Path(folder)


def borrowed(image: Image, earlier: Image) -> list[str]:
    """Return the digests of the layers of chunks that both list."""
    theirs = {earlier.layers[number].digest for number in earlier.data_layers()}
    return [layer.digest for layer in image.layers if layer.digest in theirs]


def assert_within_bounds(image: Image) -> None:
    usage = usage_of(image)
    assert usage.dead <= MOST_DEAD
    assert usage.layers <= MOST_LAYERS
    assert usage.interleaved <= MOST_INTERLEAVED


def push_with_progress(pantry: Pantry, registry: FaultyTarget, uri: CtxUri) -> None:
    """Push, and assert that progress adds up to about the bytes of the stream."""
    folder = pantry.cache.find(uri_digest(uri))
    assert folder is not None
    stream = stream_size(read_pack_manifest(folder))
    steps: dict[str, list[int]] = {}

    def note(stage: str, advanced: int, total: int | None) -> None:
        assert total == stream
        steps.setdefault(stage, []).append(advanced)

    push(context_of(pantry.cache, registry, progress=note), uri)
    assert {stage: sum(advanced) for stage, advanced in steps.items()} == {"compare": stream, "push": stream}


def test_only_chunks_that_changed_are_sent(
    pantry: Pantry,
    open_pantry: Callable[..., Pantry],
    registry: FaultyTarget,
    versions: Versions,
    first: Image,
    second: CtxUri,
) -> None:
    pushed = pantry.push(second)
    image = image_of(registry, second)
    assert pushed.sent == new_bytes(image, first) < first.size // 20
    assert len(borrowed(image, first)) == len(first.data_layers()) == len(image.data_layers()) - 1
    titles = [layer.annotations["org.opencontainers.image.title"] for layer in image.layers]
    assert len(set(titles)) == len(titles)
    assert_within_bounds(image)
    assert_pulled(open_pantry("elsewhere"), second, versions)


@pytest.mark.parametrize("changes", [0, 4])
def test_what_is_borrowed_is_asked_for_once_before_the_image_manifest(
    pantry: Pantry, registry: FaultyTarget, versions: Versions, first: Image, changes: int
) -> None:
    """Also when nothing is new."""
    versions.change(changes)
    uri = versions.seed(pantry)
    before = len(registry.calls)
    pantry.push(uri)
    image = image_of(registry, uri)
    calls = registry.calls[before:]
    *sent, last = [call.subject for call in calls if call.method == "push"]
    assert last == image.descriptor.digest
    questions = [call.subject for call in calls if call.method == "exists"]
    kept = {first.descriptor.digest, *borrowed(image, first)}
    assert sorted(question for question in questions if question in kept) == sorted(kept)
    end = calls.index(Call("push", last))
    assert {question for question in kept if Call("exists", question) in calls[:end]} == kept
    # What was sent is asked for again: a registry may lose it. A layer was asked for before, too.
    assert {sent.count(blob) for blob in sent} == {1}
    assert all(1 <= questions.count(blob) <= 2 for blob in sent)


def test_a_pack_that_was_pulled_is_borrowed_from(
    pantry: Pantry, open_pantry: Callable[..., Pantry], registry: FaultyTarget, versions: Versions, first: Image
) -> None:
    elsewhere = open_pantry("elsewhere")
    elsewhere.pull(first.uri)
    versions.change(4)
    uri = versions.seed(elsewhere)
    assert elsewhere.push(uri).sent == new_bytes(image_of(registry, uri), first)
    assert_pulled(open_pantry("third"), uri, versions)


def test_a_pack_that_left_the_cache_is_borrowed_from(
    pantry: Pantry, registry: FaultyTarget, first: Image, second: CtxUri
) -> None:
    pantry.remove(first.uri)
    assert pantry.push(second).sent == new_bytes(image_of(registry, second), first)


def test_of_several_packs_the_one_with_most_of_the_pieces_is_borrowed_from(
    pantry: Pantry, registry: FaultyTarget, versions: Versions, first: Image
) -> None:
    files = dict(versions.files)
    versions.change(100)
    pantry.push(versions.seed(pantry))
    versions.files = files
    again = versions.seed(pantry)
    assert pantry.push(again).sent == new_bytes(image_of(registry, again), first)
    assert borrowed(image_of(registry, again), first)


def test_copies_in_a_pack_are_found_where_they_are(
    pantry: Pantry,
    open_pantry: Callable[..., Pantry],
    registry: FaultyTarget,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Were all copies found in the first one, too many layers would be in use at once, and sent again each time."""
    make_layers_small(monkeypatch, 32 << 10)
    versions = Versions(project, MIB)
    versions.files |= {f"copy {name}": content for name, content in versions.files.items()}
    uri = versions.seed(pantry)
    pantry.push(uri)
    before = image_of(registry, uri)
    assert len(before.layers) > 2 * MOST_INTERLEAVED
    versions.change(2)
    again = versions.seed(pantry)
    assert pantry.push(again).sent == new_bytes(image_of(registry, again), before)
    assert_pulled(open_pantry("elsewhere"), again, versions)


def remove_image(registry: FaultyTarget, first: Image) -> None:
    registry.blob(first.descriptor.digest).unlink()


def remove_first_layer(registry: FaultyTarget, first: Image) -> None:
    registry.blob(first.layers[2].digest).unlink()


def remove_last_layer(registry: FaultyTarget, first: Image) -> None:
    registry.blob(first.layers[-1].digest).unlink()


@pytest.mark.parametrize("changes", [0, 4])
@pytest.mark.parametrize("remove", [remove_image, remove_first_layer, remove_last_layer])
def test_when_something_of_the_earlier_pack_is_gone_nothing_is_borrowed(
    pantry: Pantry,
    open_pantry: Callable[..., Pantry],
    registry: FaultyTarget,
    versions: Versions,
    first: Image,
    remove: Callable[[FaultyTarget, Image], None],
    changes: int,
) -> None:
    """The layers that are made again may be there already."""
    remove(registry, first)
    versions.change(changes)
    uri = versions.seed(pantry)
    assert pantry.push(uri).new
    image = image_of(registry, uri)
    assert usage_of(image) == (len(image.layers), 0, 1)
    assert_pulled(open_pantry("elsewhere"), uri, versions)


def test_when_the_registry_does_not_know_a_borrowed_layer_the_pack_is_sent_without_borrowing(
    pantry: Pantry,
    open_pantry: Callable[..., Pantry],
    registry: FaultyTarget,
    versions: Versions,
    first: Image,
    second: CtxUri,
) -> None:
    """Between the question and the image manifest the layer was collected, or the answer was cached."""
    lost = first.layers[5].digest

    def collect() -> None:
        assert Call("exists", lost) in registry.calls
        registry.blob(lost).unlink()

    registry.after("push", 4, collect)
    push_with_progress(pantry, registry, second)
    image = image_of(registry, second)
    assert usage_of(image) == (len(image.layers), 0, 1)
    assert_pulled(open_pantry("elsewhere"), second, versions)


def test_a_registry_that_refuses_what_is_not_borrowed_is_not_tried_again(
    pantry: Pantry, registry: FaultyTarget, first: Image, second: CtxUri
) -> None:
    before = registry.count("fetch_tag")

    def fail(_: Call) -> None:
        raise Unavailable("no answer")

    registry.on("push", fail)
    with pytest.raises(Unavailable):
        pantry.push(second)
    wait_until_idle()
    assert registry.count("fetch_tag") == before + 1


def test_after_a_stop_at_any_call_of_a_borrowing_push_the_next_one_sends_only_what_was_not_there(
    pantry: Pantry,
    registry: FaultyTarget,
    versions: Versions,
    first: Image,
    leftovers: Callable[[], list[str]],
) -> None:
    for method, number in [("exists", 0), ("exists", 9), *(("push", number) for number in range(5)), ("tag", 0)]:
        versions.change(2)
        uri = versions.seed(pantry)

        def stop() -> None:
            raise KeyboardInterrupt

        registry.after(method, number, stop)
        with pytest.raises(KeyboardInterrupt):
            pantry.push(uri)
        wait_until_idle()
        assert leftovers() == []
        registry.on(method, lambda _: None)
        present = {path.name for path in (registry.folder / "blobs/sha256").glob("*")}
        before = len(registry.calls)
        assert pantry.push(uri).new
        image = image_of(registry, uri)
        assert borrowed(image, first)
        sent = {call.subject.removeprefix("sha256:") for call in registry.calls[before:] if call.method == "push"}
        assert sent & present & {layer.digest.removeprefix("sha256:") for layer in image.layers[2:]} == set()


def notes_of(cache: Cache) -> list[Path]:
    return sorted(Path(cache.side("tables")).glob("*/*/*"))


def bases_of(cache: Cache, registry: FaultyTarget, uri: CtxUri) -> list[str]:
    """The image manifests that a push of uri could borrow from."""
    kin = kin_of(read_pack_manifest(str(folder_of(cache, uri))).contract)
    return [base.image.digest for base in known_bases(Tables(cache), registry.name, kin)]


def test_a_damaged_note_of_a_table_is_ignored(
    pantry: Pantry, registry: FaultyTarget, cache: Cache, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_layers_small(monkeypatch)
    versions = Versions(project, 6 << 10, files=1)
    uri = versions.seed(pantry)
    pantry.push(uri)
    [note] = notes_of(cache)
    [known] = Tables(cache).newest()
    sound = note.read_bytes()
    assert bases_of(cache, registry, uri) == [image_of(registry, uri).descriptor.digest]
    flipped = [sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :] for at in range(len(sound))]
    for damaged in [*flipped, b"", sound[:1], sound[:-1], sound + b"\0", sound[: len(sound) // 2], b"99999999\n", b"1"]:
        note.write_bytes(damaged)
        assert known.read() is None
    assert bases_of(cache, registry, uri) == []
    versions.change(1, 256)
    later = versions.seed(pantry)
    assert pantry.push(later).new
    assert usage_of(image_of(registry, later)).interleaved == 1


def test_other_names_among_the_notes_do_no_harm(
    pantry: Pantry, cache: Cache, first: Image, second: CtxUri, registry: FaultyTarget
) -> None:
    [note] = notes_of(cache)
    (note.parent / "another name").write_text("no note")
    (note.parent / "folder").mkdir()
    (note.parent.parent / "file").write_text("")
    (note.parent.parent.parent / "file").write_text("")
    assert pantry.push(second).sent == new_bytes(image_of(registry, second), first)


def test_a_pack_of_another_repository_is_not_borrowed_from(
    pantry: Pantry, first: Image, second: CtxUri, tmp_path: Path
) -> None:
    other = Layout(tmp_path / "other")
    assert push(context_of(pantry.cache, other), second).sent > first.size * 9 // 10


def test_a_pack_of_another_kin_is_not_borrowed_from(
    pantry: Pantry, registry: FaultyTarget, first: Image, project: Project, versions: Versions
) -> None:
    project.contract.write_text(project.contract.read_text().replace('"cat"', '"dog"'))
    uri = pantry.seed([], str(project.contract)).uri
    before = len(registry.calls)
    assert pantry.push(uri).new
    assert first.descriptor.digest not in {call.subject for call in registry.calls[before:]}
    assert bases_of(pantry.cache, registry, uri) == [image_of(registry, uri).descriptor.digest]


def test_sixteen_notes_of_a_kin_are_kept(
    pantry: Pantry, registry: FaultyTarget, cache: Cache, project: Project
) -> None:
    uris: list[CtxUri] = []
    for number in range(18):
        project.write_contract(params={"number": number})
        uris.append(pantry.seed([], str(project.contract)).uri)
        pantry.push(uris[-1])
    kept = [image_of(registry, uri).descriptor.digest for uri in reversed(uris[2:])]
    kin = kin_of(read_pack_manifest(str(folder_of(cache, uris[0]))).contract)
    assert [known.image for known in Tables(cache).of_kin(registry.name, kin)] == kept
    assert len(notes_of(cache)) == 16


def survey_of(pantry: Pantry, registry: FaultyTarget, uri: CtxUri) -> Survey | None:
    folder = str(folder_of(pantry.cache, uri))
    manifest = read_pack_manifest(folder)
    return survey(folder, manifest, known_bases(Tables(pantry.cache), registry.name, kin_of(manifest.contract)))


def unrelated(versions: Versions, project: Project) -> None:
    """Let nothing of the outputs and inputs be as before."""
    versions.files.clear()
    versions.add(2 * MIB, name="other")
    for path in project.inputs.glob("*.txt"):
        path.write_text("another")


def test_an_unrelated_pack_of_the_same_kin_is_sent_as_if_there_were_no_earlier_one(
    pantry: Pantry,
    open_pantry: Callable[..., Pantry],
    registry: FaultyTarget,
    project: Project,
    versions: Versions,
    first: Image,
) -> None:
    unrelated(versions, project)
    uri = versions.seed(pantry)
    assert survey_of(pantry, registry, uri) is None
    before = len(registry.calls)
    assert pantry.push(uri).sent == image_of(registry, uri).size
    assert usage_of(image_of(registry, uri)).dead == 0
    assert first.descriptor.digest not in {call.subject for call in registry.calls[before:]}
    assert_pulled(open_pantry("elsewhere"), uri, versions)


def test_an_unrelated_pack_is_not_read_to_its_end_before_it_is_sent(
    pantry: Pantry,
    registry: FaultyTarget,
    project: Project,
    versions: Versions,
    first: Image,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unrelated(versions, project)
    uri = versions.seed(pantry)
    last = folder_of(pantry.cache, uri) / "artifacts" / "other09"
    last.chmod(0o644)
    last.write_bytes(bytes(last.stat().st_size))
    monkeypatch.setattr("ctxpack_pantry.borrowing._UNRELATED", MIB)
    steps: list[int] = []
    manifest = read_pack_manifest(str(folder_of(pantry.cache, uri)))
    bases = known_bases(Tables(pantry.cache), registry.name, kin_of(manifest.contract))
    note = lambda stage, advanced, total: steps.append(advanced)  # noqa: E731
    assert survey(str(folder_of(pantry.cache, uri)), manifest, bases, note) is None
    assert sum(steps) == stream_size(manifest), "what need not be compared counts as done"
    monkeypatch.undo()
    with pytest.raises(IntegrityError, match="other09: content differs from its digest"):
        survey_of(pantry, registry, uri)


def test_a_pack_that_shares_too_little_borrows_nothing(
    pantry: Pantry,
    open_pantry: Callable[..., Pantry],
    registry: FaultyTarget,
    versions: Versions,
    first: Image,
) -> None:
    """Most of the layer that has it would be dead."""
    kept = versions.files["00"]
    versions.files.clear()
    versions.add(100 << 10, files=1, name="other")
    versions.files["zz"] = kept[: 32 << 10]
    uri = versions.seed(pantry)
    found = survey_of(pantry, registry, uri)
    assert found is not None
    assert any(there >= 0 for there in found.found)
    assert pantry.push(uri).sent == image_of(registry, uri).size
    assert usage_of(image_of(registry, uri)) == (len(image_of(registry, uri).layers), 0, 1)
    assert_pulled(open_pantry("elsewhere"), uri, versions)


def push_in_rounds(
    pantry: Pantry, registry: FaultyTarget, uri: CtxUri, monkeypatch: pytest.MonkeyPatch, plan: Plan
) -> list[Own]:
    """Push with this plan; return what was sent before each look at it."""
    looks: list[Own] = []

    def noting(kept: Mapping[int, Borrowed], new: int, own: Own, layering: Layering) -> dict[int, Borrowed]:
        looks.append(own)
        return plan(kept, new, own, layering)

    monkeypatch.setattr("ctxpack_pantry.sending.plan_borrowing", noting)
    push_with_progress(pantry, registry, uri)
    return looks


def test_more_layers_are_given_up_when_new_chunks_prove_smaller_than_expected(
    pantry: Pantry,
    open_pantry: Callable[..., Pantry],
    registry: FaultyTarget,
    versions: Versions,
    first: Image,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    versions.change(160)
    uri = versions.seed(pantry)
    monkeypatch.setattr("ctxpack_pantry.sending._estimate", lambda _: 64 * MIB)
    looks = push_in_rounds(pantry, registry, uri, monkeypatch, plan_borrowing)
    assert len(looks) > 2
    assert [own.rounds for own in looks] == [*range(len(looks))]
    image = image_of(registry, uri)
    assert_within_bounds(image)
    assert borrowed(image, first)
    assert_pulled(open_pantry("elsewhere"), uri, versions)


def test_after_some_rounds_nothing_is_borrowed_any_more(
    pantry: Pantry,
    open_pantry: Callable[..., Pantry],
    registry: FaultyTarget,
    versions: Versions,
    first: Image,
    second: CtxUri,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def one_less(kept: Mapping[int, Borrowed], new: int, own: Own, layering: Layering) -> dict[int, Borrowed]:
        chosen = plan_borrowing(kept, new, own, layering)
        return dict(list(chosen.items())[1:])

    looks = push_in_rounds(pantry, registry, second, monkeypatch, one_less)
    assert [own.rounds for own in looks] == [0, 1, 2, 3, 4, 5]
    image = image_of(registry, second)
    assert usage_of(image).dead == 0
    assert usage_of(image).interleaved <= 5
    assert_pulled(open_pantry("elsewhere"), second, versions)


def damage(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(bytes(path.stat().st_size))


def cut_short(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, 3)


def remove(path: Path) -> None:
    path.parent.chmod(0o755)
    path.unlink()


@pytest.mark.parametrize("harm", [damage, cut_short, remove])
@pytest.mark.parametrize("later", [False, True], ids=["before", "meanwhile"])
def test_damage_in_the_cache_is_found_by_a_push_that_borrows(
    pantry: Pantry,
    registry: FaultyTarget,
    versions: Versions,
    first: Image,
    monkeypatch: pytest.MonkeyPatch,
    harm: Callable[[Path], None],
    later: bool,
) -> None:
    """Also between the first reading and the second, which is of what changed."""
    versions.files["05"] = versions.files["05"][::-1]
    uri = versions.seed(pantry)
    changed = folder_of(pantry.cache, uri) / "artifacts" / "05"
    tags = list(registry.layout.tags())
    if later:

        def surveyed(*given):  # type: ignore[no-untyped-def]
            found = survey(*given)
            assert found is not None
            harm(changed)
            return found

        monkeypatch.setattr("ctxpack_pantry.push.survey", surveyed)
    else:
        harm(changed)
    with pytest.raises(IntegrityError):
        pantry.push(uri)
    wait_until_idle()
    assert list(registry.layout.tags()) == tags


def test_many_versions_stay_within_the_bounds(
    pantry: Pantry, open_pantry: Callable[..., Pantry], registry: FaultyTarget, versions: Versions, first: Image
) -> None:
    """15 versions, each with 2 % changed, all over the outputs; a change costs 2.6 times its bytes in the long run."""
    before, sent, changed = first, 0, 0
    elsewhere = open_pantry("elsewhere")
    for _ in range(14):
        versions.change(10)
        uri = versions.seed(pantry)
        sent += pantry.push(uri).sent
        image = image_of(registry, uri)
        assert_within_bounds(image)
        changed += new_bytes(image, before)
        before = image
        assert_pulled(elsewhere, uri, versions)
        elsewhere.remove(uri)
    assert usage_of(before).interleaved > 4
    assert sent <= 2.6 * changed
    assert sent < 2 * first.size


def test_memory_of_a_borrowing_push_is_bounded(
    pantry: Pantry, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = Versions(project, 64 * MIB, files=4)
    pantry.push(versions.seed(pantry))
    versions.change(30)
    uri = versions.seed(pantry)
    versions.files.clear()
    monkeypatch.setattr("ctxpack_oci.layout.MAX_INDEX_BYTES", MIB)  # the layout reads index.json into such a buffer
    tracemalloc.start()
    try:
        pantry.push(uri)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 60 * MIB
