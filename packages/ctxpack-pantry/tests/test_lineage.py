"""What a pack was made from, as far as packs say and are found, and what was made from it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ctxpack_bundle import encode_pack_manifest, read_pack_manifest
from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, PolicyRefused, Unavailable, canonical_json, digest_of, uri_digest, uri_for
from ctxpack_pantry import Pantry
from ctxpack_pantry.lineage import Lineage
from ctxpack_pantry.policy import Candidate
from ctxpack_pantry.sealed import forget_sealed

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import FaultyTarget

CODE = "sha256:" + "c" * 64


@pytest.fixture
def make(pantry: Pantry, project: Project) -> Callable[..., CtxUri]:
    """Seed a pack with this tool. inputs: URIs of packs, by name; with none, it has the plain input raw_docs."""

    def seed(tool: str, **inputs: CtxUri) -> CtxUri:
        transform = {"tool": tool, "tool_version": "1", "code_hash": CODE}
        plain = [{"name": "raw_docs", "path": "./raw_docs"}]
        given = [{"name": name, "uri": uri} for name, uri in inputs.items()]
        project.write_contract(inputs=given or plain, transforms=[transform])
        project.make_outputs(f"made by {tool}")
        return pantry.seed([], str(project.contract)).uri

    return seed


def shape(lineage: Lineage) -> tuple[dict[str, list[CtxUri]], dict[str, list[tuple[str | None, CtxUri]]]]:
    """Return what each pack was made from, and what each derived one was, by tool."""
    above = {pack.steps[0].tool if pack.steps else pack.missing: pack.upstream for pack in lineage.packs}
    return above, {derived.pack.steps[0].tool: [*derived.sources] for derived in lineage.derived}


def provenance(cache: Cache, uri: CtxUri, **members: Any) -> None:
    """Let a cached pack say this in its provenance, as its maker may."""
    folder = cache.find(uri_digest(uri)) or ""
    manifest = read_pack_manifest(folder)
    manifest.provenance.update(members)
    write_manifest(folder, encode_pack_manifest(manifest))
    forget_sealed(cache, uri)


def write_manifest(folder: str, data: bytes) -> None:
    path = Path(folder, "manifest.json")
    path.chmod(0o644)
    path.write_bytes(data)


def test_a_pack_of_plain_inputs_has_these_its_code_and_its_tool(pantry: Pantry, make: Callable[..., CtxUri]) -> None:
    uri = make("parse")
    lineage = pantry.lineage(uri)
    assert lineage.complete
    manifest = pantry.inspect(uri).manifest
    assert lineage.as_json() == {
        "schema": "ctxpack/lineage/v1",
        "uri": uri,
        "packs": [
            {
                "uri": uri,
                "found_in": pantry.cache.find(uri_digest(uri)),
                "missing": None,
                "created": manifest.provenance["created"],
                "outputs": manifest.outputs_digest,
                "transforms": [
                    {"tool": "parse", "tool_version": "1", "code_hash": CODE, "environment_hash": "undeclared"}
                ],
                "inputs": [
                    {
                        "name": "raw_docs",
                        "digest": manifest.contract["inputs"]["raw_docs"]["digest"],
                        "uri": None,
                        "same": None,
                    }
                ],
                "items": [],
            }
        ],
        "derived": [],
        "complete": True,
    }


def test_each_pack_is_there_once_however_many_were_made_from_it(pantry: Pantry, make: Callable[..., CtxUri]) -> None:
    parse = make("parse")
    left, right = make("left", docs=parse), make("right", docs=parse)
    index = make("index", left=left, right=right)
    above, below = shape(pantry.lineage(index))
    assert above == {"index": [left, right], "left": [parse], "right": [parse], "parse": []}
    assert below == {}
    above, below = shape(pantry.lineage(parse))
    assert above == {"parse": []}
    assert {tool: sorted(sources) for tool, sources in below.items()} == {
        "left": [("docs", parse)],
        "right": [("docs", parse)],
        "index": [("left", left), ("right", right)],
    }


def test_an_input_is_compared_with_the_outputs_of_the_pack_that_it_was(
    pantry: Pantry, make: Callable[..., CtxUri], cache: Cache
) -> None:
    parse, other = make("parse"), make("other")
    index = make("index", docs=parse)
    assert [source.same for source in pantry.lineage(index).packs[0].inputs] == [True]
    provenance(cache, index, inputs={"docs": {"uri": other}})
    assert [source.same for source in pantry.lineage(index).packs[0].inputs] == [False]


def test_a_pack_that_has_the_outputs_as_a_plain_input_was_made_from_it(
    pantry: Pantry, project: Project, make: Callable[..., CtxUri]
) -> None:
    parse = make("parse")
    pantry.pull(parse, str(project.root / "pulled"))
    transform = {"tool": "index", "tool_version": "1", "code_hash": CODE}
    project.write_contract(inputs=[{"name": "copy", "path": "./pulled"}], transforms=[transform])
    # It makes nothing else of them, so its own outputs are its input, too.
    pantry.seed([], str(project.contract))
    assert shape(pantry.lineage(parse))[1] == {"index": [("copy", parse)]}


def test_items_of_a_map_are_sources(pantry: Pantry, make: Callable[..., CtxUri], cache: Cache) -> None:
    old, new = make("old"), make("new")
    told = [{"uri": old, "items": 7, "image": "sha256:" + "d" * 64}, {"uri": old.upper()}, {"items": 3}, "junk", None]
    provenance(cache, new, items=told)
    lineage = pantry.lineage(new)
    assert [items._asdict() for items in lineage.packs[0].items] == [told[0]]
    assert [pack.uri for pack in lineage.packs] == [new, old]
    assert shape(pantry.lineage(old))[1] == {"new": [(None, old)]}


@pytest.mark.parametrize(
    "told",
    [
        {"inputs": None, "items": None},
        {"inputs": [], "items": {}},
        {"inputs": {"docs": None}, "items": [None]},
        {"inputs": {"docs": {"uri": 7}}, "items": [{"uri": 7}]},
        {"inputs": {"docs": {"uri": "ctx://"}, "unknown": {"uri": "ctx://sha256:" + "0" * 64}}},
        {"created": ["now"]},
    ],
)
def test_provenance_of_any_form_is_read_as_far_as_it_is_known(
    pantry: Pantry, make: Callable[..., CtxUri], cache: Cache, told: dict[str, Any]
) -> None:
    index = make("index", docs=make("parse"))
    provenance(cache, index, **told)
    [pack, *_] = pantry.lineage(index).packs
    assert pack.upstream == [] or "created" in told
    json.dumps(pantry.lineage(index).as_json())


def test_a_circle_ends(pantry: Pantry, make: Callable[..., CtxUri], cache: Cache) -> None:
    """No contract can have one; provenance, which anybody may write, can."""
    one = make("one")
    two = make("two", docs=one)
    provenance(cache, one, inputs={"raw_docs": {"uri": two}}, items=[{"uri": one}])
    for uri, tools in ((one, ["one", "two"]), (two, ["two", "one"])):
        lineage = pantry.lineage(uri)
        assert [pack.steps[0].tool for pack in lineage.packs] == tools
        assert lineage.derived == ()
        assert lineage.complete


def test_what_a_pack_was_made_from_was_not_made_from_it_when_contents_stay_the_same(
    pantry: Pantry, project: Project
) -> None:
    """fetch and dedupe copy what they are given, so all inputs and outputs have one digest."""

    def step(tool: str, **given: str) -> CtxUri:
        transform = {"tool": tool, "tool_version": "1", "code_hash": CODE}
        project.write_contract(inputs=[{"name": "docs", **given}], transforms=[transform])
        return pantry.seed([], str(project.contract)).uri

    shutil.rmtree(project.out)
    shutil.copytree(project.inputs, project.out)
    fetch = step("fetch", path="./raw_docs")
    dedupe = step("dedupe", uri=fetch)
    clean = step("clean", uri=dedupe)
    assert shape(pantry.lineage(clean)) == ({"clean": [dedupe], "dedupe": [fetch], "fetch": []}, {})
    assert shape(pantry.lineage(fetch))[1] == {"dedupe": [("docs", fetch)], "clean": [("docs", dedupe)]}
    plain = [step(tool, path="./raw_docs") for tool in ("a", "b")]
    assert shape(pantry.lineage(plain[0]))[1] == {tool: [("docs", plain[0])] for tool in ("fetch", "b")} | {
        "dedupe": [("docs", fetch)],
        "clean": [("docs", dedupe)],
    }


def test_derived_packs_form_no_circle(pantry: Pantry, project: Project, make: Callable[..., CtxUri]) -> None:
    """Two inputs of `both` have the outputs of `start` and of `end`, which was made from `both`."""
    start = make("start")
    pantry.pull(start, str(project.root / "started"))
    transform = {"tool": "both", "tool_version": "1", "code_hash": CODE}
    project.make_outputs("made by end")
    shutil.copytree(project.out, project.root / "ended")
    project.make_outputs("made by both")
    inputs = [{"name": "first", "path": "./started"}, {"name": "last", "path": "./ended"}]
    project.write_contract(inputs=inputs, transforms=[transform])
    both = pantry.seed([], str(project.contract)).uri
    end = make("end", docs=both)
    assert shape(pantry.lineage(start))[1] == {"both": [("first", start)], "end": [("docs", both)]}
    assert shape(pantry.lineage(end)) == ({"end": [both], "both": []}, {})


def test_what_is_not_found_damaged_or_refused_is_a_leaf(
    pantry: Pantry, open_pantry: Callable[..., Pantry], make: Callable[..., CtxUri], cache: Cache
) -> None:
    gone, damaged, refused = make("gone"), make("damaged"), make("refused")
    index = make("index", a=gone, b=damaged, c=refused)
    pantry.remove(gone)
    write_manifest(cache.find(uri_digest(damaged)) or "", b"{}")

    def refuse(candidate: Candidate) -> None:
        if candidate.uri == refused:
            raise PolicyRefused("not trusted")

    choosy = Pantry(pantry.settings, target=pantry.target, policy=refuse)
    missing = {pack.uri: pack.missing for pack in choosy.lineage(index).packs}
    assert missing == {index: "", gone: "not found", damaged: "damaged", refused: "refused by the policy"}


def test_the_registry_is_asked_for_what_the_cache_lacks_only_on_request(
    pantry: Pantry, open_pantry: Callable[..., Pantry], make: Callable[..., CtxUri], registry: FaultyTarget
) -> None:
    parse = make("parse")
    chunk = make("chunk", docs=parse)
    index = make("index", docs=chunk)
    for uri in (chunk, index):
        pantry.push(uri)
    elsewhere = open_pantry("elsewhere")
    before = registry.count("fetch")
    assert [pack.missing for pack in elsewhere.lineage(index).packs] == ["", "not found"]
    assert registry.count("fetch") == before + 1  # the first layer of index
    packs = elsewhere.lineage(index, ask_registry=True).packs
    assert [(pack.uri, pack.found_in, pack.missing) for pack in packs] == [
        (index, "the registry", ""),
        (chunk, "the registry", ""),
        (parse, "", "not found"),
    ]
    assert registry.count("fetch") == before + 3
    assert packs[0].inputs[0].same is True


def test_a_registry_that_does_not_answer_is_no_miss(
    pantry: Pantry, open_pantry: Callable[..., Pantry], make: Callable[..., CtxUri], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = make("index", docs=make("parse"))
    pantry.push(index)
    elsewhere = open_pantry("elsewhere")
    elsewhere.pull(index)

    def refuse(tag: str) -> None:
        raise Unavailable("busy")

    monkeypatch.setattr(elsewhere.target, "fetch_tag", refuse)
    assert len(elsewhere.lineage(index).packs) == 2
    with pytest.raises(Unavailable, match="busy"):
        elsewhere.lineage(index, ask_registry=True)


def publish(cache: Cache, number: int, *sources: CtxUri) -> CtxUri:
    """Publish a pack without outputs, whose items are said to be from sources."""
    contract = {"schema": "ctxpack/other/v1", "number": number, "transforms": [{"tool": f"t{number}"}]}
    key = digest_of(canonical_json(contract))
    manifest = {
        "contract": contract,
        "listings": [{"digest": digest_of(b""), "path": "files.jsonl", "size": 0}],
        "outputs": {"digest": digest_of(b"%d" % number), "empty_folders": 0, "files": 0, "roots": [], "size": 0},
        "provenance": {"items": [{"uri": source} for source in sources]},
        "schema": "ctxpack/pack/v1",
        "uri": uri_for(key),
    }
    with cache.staging() as staging:
        Path(staging, "manifest.json").write_bytes(canonical_json(manifest))
        Path(staging, "files.jsonl").touch()
        cache.publish(key, staging)
    return uri_for(key)


def test_a_long_chain_is_cut(pantry: Pantry, cache: Cache) -> None:
    chain = [publish(cache, 0)]
    for number in range(1, 130):
        chain.append(publish(cache, number, chain[-1]))
    lineage = pantry.lineage(chain[-1])
    assert [pack.uri for pack in lineage.packs] == chain[:-102:-1]
    assert not lineage.complete
    lineage = pantry.lineage(chain[0])
    assert [derived.pack.uri for derived in lineage.derived] == chain[1:101]
    assert not lineage.complete
    assert pantry.lineage(chain[99]).complete


def test_a_pack_that_names_a_million_others_is_cut(pantry: Pantry, cache: Cache) -> None:
    named = [uri_for(digest_of(b"%d" % number)) for number in range(5000)]
    lineage = pantry.lineage(publish(cache, 0, *named))
    assert len(lineage.packs) <= 1000
    assert len(lineage.packs[0].items) <= 1000
    assert not lineage.complete
