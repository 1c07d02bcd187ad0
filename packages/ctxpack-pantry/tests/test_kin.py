"""The list of kin: what it says, who writes it, and that it can only ever cost time."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pantry_project import Project, contents
from pantry_target import FaultyTarget

from ctxpack_bundle import read_pack_manifest
from ctxpack_identity import Conflict, IntegrityError, PolicyRefused, Unavailable, uri_for
from ctxpack_oci import IMAGE_MANIFEST_MEDIA_TYPE, Descriptor, describe
from ctxpack_pantry import Pantry
from ctxpack_pantry.kin import Kin, KinList, encode_kin_list, parse_kin_list
from ctxpack_pantry.kinship import kin_of
from ctxpack_pantry.policy import Candidate

Push = Callable[..., str]

digests = st.binary(min_size=32, max_size=32).map(lambda raw: f"sha256:{raw.hex()}")
kin = st.builds(
    lambda image, uri, second: Kin(image=image, pushed=f"2026-11-26T00:00:{second:02}Z", uri=uri_for(uri)),
    digests,
    digests,
    st.integers(0, 59),
)
lists = st.lists(kin, max_size=16, unique_by=lambda one: one.uri)


@given(lists)
def test_a_list_is_read_as_it_was_written(packs: list[Kin]) -> None:
    assert parse_kin_list(encode_kin_list(packs)) == packs


GOOD = {"image": "sha256:" + "a" * 64, "pushed": "2026-11-26T00:00:00Z", "uri": "ctx://sha256:" + "b" * 64}
OTHERS = [{**GOOD, "uri": f"ctx://sha256:{number:064x}"} for number in range(17)]


def document(**changes: object) -> bytes:
    return json.dumps({"packs": [{**GOOD, **changes}], "schema": "ctxpack/kin-list/v1"}, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"packs":[],"schema":"ctxpack/kin-list/v2"}',
        document() + b"\n",
        document().replace(b":[", b": ["),
        document(image="sha256:A"),
        document(pushed="2026-11-26"),
        document(pushed="2026-11-26T00:00:00+00:00"),
        document(uri="ctx://sha256:b"),
        document(more=1),
        json.dumps({"packs": [GOOD, GOOD], "schema": "ctxpack/kin-list/v1"}, separators=(",", ":")).encode(),
        json.dumps({"packs": OTHERS, "schema": "ctxpack/kin-list/v1"}, separators=(",", ":")).encode(),
    ],
)
def test_what_is_no_list_is_refused(data: bytes) -> None:
    assert parse_kin_list(document())
    with pytest.raises(IntegrityError):
        parse_kin_list(data)


def test_the_kin_of_a_pack_to_the_byte(pantry: Pantry, project: Project) -> None:
    """Tools, input names and output names; not versions, not what is in them."""
    seeded = pantry.seed([str(project.out)], str(project.contract))
    before = kin_of(read_pack_manifest(seeded.folder).contract)
    names = b'{"inputs":["raw_docs"],"outputs":["out"],"schema":"ctxpack/kin/v1","tools":["cat"]}'
    assert before == describe(names, "-").digest.removeprefix("sha256:")
    project.write_contract(params={"size": 2})
    project.make_outputs("another text")
    assert kin_of(pantry.seed([str(project.out)], str(project.contract)).manifest.contract) == before


@pytest.fixture
def make(project: Project, pantry: Pantry) -> Push:
    """Push another version of the project's pack; return its URI."""

    def push(number: int, *, pantry: Pantry = pantry, borrow: bool = False) -> str:
        project.write_contract(params={"number": number})
        project.make_outputs(random.Random(1).randbytes(400_000).hex() + str(number))
        uri = pantry.seed([str(project.out)], str(project.contract)).uri
        pantry.push(uri, borrow=borrow)
        return uri

    return push


@pytest.fixture
def listed(registry: FaultyTarget, project: Project, pantry: Pantry) -> Callable[[], list[Kin]]:
    def read() -> list[Kin]:
        kin = kin_of(pantry.seed([str(project.out)], str(project.contract)).manifest.contract)
        return KinList(registry, kin).read()

    return read


def test_every_new_pack_is_listed_first_and_once(make: Push, listed: Callable[[], list[Kin]], pantry: Pantry) -> None:
    uris = [make(number) for number in range(18)]
    found = listed()
    assert [kin.uri for kin in found] == uris[:1:-1]
    pantry.push(found[-1].uri)
    assert listed() == found, "a pack that is there already is not new"
    assert {pantry.inspect(kin.uri, skip_cache=True).as_json()["image"]["digest"] for kin in found} == {
        kin.image for kin in found
    }


def test_something_else_under_the_tag_is_overwritten(
    make: Push, listed: Callable[[], list[Kin]], registry: FaultyTarget
) -> None:
    first = make(1)
    [tag] = [tag for tag in registry.tags() if tag.startswith("ctx-kin-")]
    pack = registry.fetch_tag(next(tag for tag in registry.tags() if not tag.startswith("ctx-kin-")))
    assert pack is not None
    registry.tag(pack.descriptor, tag)
    assert listed() == []
    second = make(2)
    assert [kin.uri for kin in listed()] == [second] != [first]


@pytest.mark.parametrize("error", [Unavailable("no answer"), Conflict("immutable"), OSError("broken")])
@pytest.mark.parametrize("method", ["fetch_tag", "push", "tag"])
def test_a_push_does_not_need_the_list(
    make: Push, registry: FaultyTarget, notices: list[str], error: Exception, method: str
) -> None:
    def fail(call: object) -> None:
        subject = getattr(call, "subject", "")
        if "ctx-kin" in subject or subject in blobs:
            raise error

    blobs = {describe(b"{}", "").digest}
    registry.on(method, fail)
    make(1)
    assert [tag.startswith("ctx-kin-") for tag in registry.tags()] == [False]
    assert len(notices) == (method == "tag" and isinstance(error, Conflict))


def test_a_push_does_not_wait_for_a_slow_list(make: Push, registry: FaultyTarget) -> None:
    over = threading.Event()
    registry.on("fetch_tag", lambda call: over.wait() if "kin" in call.subject else None)
    make(1)
    over.set()


def test_a_push_that_fails_is_not_listed(make: Push, registry: FaultyTarget) -> None:
    def fail(call: object) -> None:
        raise Unavailable("no answer")

    registry.on("tag", fail)
    with pytest.raises(Unavailable):
        make(1)
    registry.on("tag", lambda call: None)
    assert list(registry.tags()) == []


def sent_by(cache: str, make: Push, open_pantry: Callable[..., Pantry], *, borrow: bool, policy: object = None) -> int:
    """Return the bytes of layers that a push of version 2 from an empty cache sends."""
    pantry = open_pantry(cache)
    sent: list[int] = []
    push = pantry.push
    pantry.push = lambda uri, **options: sent.append((pushed := push(uri, **options)).sent) or pushed  # type: ignore[method-assign,func-returns-value]
    if policy is not None:
        pantry._policy = policy  # type: ignore[assignment]
    make(2, pantry=pantry, borrow=borrow)
    return sent[0]


def test_an_empty_cache_borrows_from_somebody_elses_pack_when_it_is_told_to(
    make: Push, open_pantry: Callable[..., Pantry], project: Project
) -> None:
    make(1)
    borrowed = sent_by("second", make, open_pantry, borrow=True)
    assert contents(open_pantry("third").pull(project.uri).folder) == contents(project.out)
    assert 0 < borrowed < 200_000


def test_an_empty_cache_borrows_nothing_by_default(make: Push, open_pantry: Callable[..., Pantry]) -> None:
    make(1)
    assert sent_by("second", make, open_pantry, borrow=False) > 400_000


def test_nothing_is_borrowed_from_a_pack_that_the_policy_refuses(
    make: Push, open_pantry: Callable[..., Pantry]
) -> None:
    def refuse(candidate: Candidate) -> None:
        raise PolicyRefused("not yours", where=candidate.uri)

    make(1)
    assert sent_by("second", make, open_pantry, borrow=True, policy=refuse) > 400_000


def test_nothing_is_borrowed_from_a_table_that_lies(
    make: Push, open_pantry: Callable[..., Pantry], registry: FaultyTarget, project: Project
) -> None:
    make(1)
    for layer in large_layers(registry, project):
        for position in range(2000, layer.size, 3000):
            registry.flip(layer.digest, position)
    assert sent_by("second", make, open_pantry, borrow=True) > 400_000
    assert contents(open_pantry("third").pull(project.uri).folder) == contents(project.out)


def large_layers(registry: FaultyTarget, project: Project) -> list[Descriptor]:
    tagged = registry.fetch_tag(f"ctx-{project.uri.removeprefix('ctx://sha256:')}")
    assert tagged is not None
    assert tagged.descriptor.media_type == IMAGE_MANIFEST_MEDIA_TYPE
    layers = [
        Descriptor(media_type="-", digest=one["digest"], size=one["size"]) for one in json.loads(tagged.data)["layers"]
    ]
    return [layer for layer in layers if layer.size > 50_000]
