"""What a registry lost or damaged of a pack, and what else is under its tag, is healed by commands that errors name."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from audit import audit_artifact, digest_of
from examples import content_of, seed_pack
from faults import flipped, holding, nth, refusing, where
from forks import ForkedMachine, Forks
from machine import Finished, Machine
from plain_target import INDEX_TYPE, KINDS, MANIFEST_TYPE, Layout, PlainTarget, Repository, open_target, tag_of
from project import Project
from relay import Answer, Forward, Hold, Relay, Request, Rule

from registry2 import RegistryServer

PLAIN = ("registry", "layout")
PARTS = ("config", "first layer", "table", "data layer")
PACK_TAG = "/manifests/ctx-[0-9a-f]{64}$"


class Site:
    """A target whose files a test damages, and machines that use it."""

    def __init__(self, target: PlainTarget, forks: Forks, folder: Path) -> None:
        self.target, self._forks, self._folder = target, forks, folder

    @property
    def repository(self) -> Repository:
        assert isinstance(self.target, Repository)
        return self.target

    @property
    def is_layout(self) -> bool:
        return isinstance(self.target, Layout)

    def machine(self, name: str, location: str = "") -> ForkedMachine:
        return ForkedMachine(
            self._forks, self._folder / name, location or self.target.location, self.target.environment
        )

    def seed(self, machine: Machine, dpi: int = 0) -> str:
        """Seed what no other test has, outputs and contract, because all repositories of a registry share their blobs.

        dpi: a parameter of the contract, by default another one each time.
        """
        files = {"data.bin": os.urandom(50_000), "sub/text": b"text\n"}
        return seed_pack(machine, dpi=dpi or int.from_bytes(os.urandom(6)), files=files)

    def image(self, uri: str) -> str:
        """Return the digest of the image manifest under the tag of uri."""
        data = self.target.manifest(tag_of(uri))
        assert data is not None
        return digest_of(data)

    def digest(self, uri: str, part: str) -> str:
        """Return the digest of one of PARTS, or of the "image manifest"."""
        manifest = json.loads(self.target.manifest(tag_of(uri)) or b"")
        layers = manifest["layers"]
        by_name = dict(zip(PARTS, (manifest["config"], layers[0], layers[1], layers[-1]), strict=True))
        return by_name[part]["digest"] if part in by_name else self.image(uri)

    def file(self, digest: str) -> Path:
        if isinstance(self.target, Layout):
            return self.target.path(digest)
        hexadecimal = digest.removeprefix("sha256:")
        blobs = self.repository.server.storage / "docker" / "registry" / "v2" / "blobs" / "sha256"
        return blobs / hexadecimal[:2] / hexadecimal / "data"

    def damage(self, digest: str, how: str) -> None:
        """Do to a blob, or to a manifest, one of "missing", "flipped", "cut short" and "unlinked"."""
        path = self.file(digest)
        data = path.read_bytes()
        if how == "unlinked":  # from the repository; the registry has the blob
            server, name = self.repository.server, self.repository.name
            links = server.storage / "docker" / "registry" / "v2" / "repositories" / name
            (links / "_layers" / "sha256" / digest.removeprefix("sha256:") / "link").unlink()
            return
        path.unlink()
        if how != "missing":
            path.write_bytes(flipped(data, len(data) // 2) if how == "flipped" else data[:-1])

    def must_give(self, uri: str, machine: Machine, name: str = "user") -> None:
        """A machine with an empty cache gets what is in machine's work folder."""
        user = self.machine(name)
        user.succeed("pull", uri, "-o", "got")
        assert content_of(user.work / "got") == content_of(machine.work / "processed_data")
        audit_artifact(self.target, uri)


@pytest.fixture
def site(request: pytest.FixtureRequest, forks: Forks, tmp_path: Path) -> Site:
    """An empty target of the kind that the test names as its parameter."""
    return Site(open_target(request.param, request), forks, tmp_path)


both = pytest.mark.parametrize("site", PLAIN, indirect=True)
all_kinds = pytest.mark.parametrize("site", KINDS, indirect=True)
registry_alone = pytest.mark.parametrize("site", ["registry"], indirect=True)


def must_name_repair(done: Finished, status: int = 5) -> None:
    assert (done.status, done.stdout) == (status, ""), done
    assert re.search(r"`ctxpack push --repair \S+`", done.stderr), done.stderr


def repaired(machine: Machine, uri: str, *options: str) -> dict[str, Any]:
    """Repair, and return the JSON document."""
    document: dict[str, Any] = json.loads(machine.succeed("push", uri, "--repair", *options, "--json"))
    return document


def must_say_replaced(site: Site, uri: str, document: dict[str, Any], before: str, outputs: str | None) -> None:
    """Another image manifest is under the tag, and the document says which was there, with which outputs."""
    assert document["replaced"] == {"image": before, "outputs": outputs}
    assert document["image"] == site.image(uri) != before


def outputs_of(machine: Machine, uri: str) -> str:
    digest: str = json.loads(machine.succeed("inspect", uri, "--json"))["outputs"]["digest"]
    return digest


@pytest.mark.parametrize(
    ("site", "part", "how"),
    [
        *((kind, part, how) for kind in PLAIN for part in PARTS for how in ("missing", "flipped")),
        *((kind, "data layer", "cut short") for kind in PLAIN),
        *(("registry", part, "unlinked") for part in PARTS),
    ],
    indirect=["site"],
)
def test_a_blob_that_was_lost_or_damaged_is_healed(site: Site, part: str, how: str) -> None:
    maker, user = site.machine("maker"), site.machine("poor user")
    uri = site.seed(maker)
    maker.succeed("push", uri)
    image, digest = site.image(uri), site.digest(uri, part)
    site.damage(digest, how)
    pulled = user.run("pull", uri, "-o", "got")
    if part == "config":  # which no pull needs: the pack manifest repeats it
        assert pulled.status == 0
    else:
        must_name_repair(pulled)
    file = site.file(digest)
    left = file.read_bytes() if file.exists() else None
    plain = maker.run("push", uri)
    assert plain.status in (0, 5)
    assert site.image(uri) == image
    assert (file.read_bytes() if file.exists() else None) in (left, *([] if left else [left]))
    keeps_damage = not site.is_layout and how in ("flipped", "cut short")  # registry:2 does not store a blob it has
    if keeps_damage and part == "config":  # which no other blob can stand for
        done = maker.run("push", uri, "--repair")
        assert (done.status, "keeps a damaged contract blob" in done.stderr) == (0, True)
        assert site.image(uri) == image
        assert content_of(Path(site.machine("user").succeed("pull", uri))) == content_of(maker.work / "processed_data")
        return
    document = repaired(maker, uri)
    if keeps_damage:
        must_say_replaced(site, uri, document, image, document["outputs"])
        assert not document["new"]
    else:
        assert document["image"] == image == site.image(uri)
        assert "replaced" not in document
    assert document["sent"] > 0
    assert audit_artifact(site.target, uri) is not None
    site.must_give(uri, maker)
    again = repaired(maker, uri)
    assert (again["sent"], again["image"], "replaced" in again) == (0, document["image"], False)


@pytest.mark.parametrize("how", ["missing", "flipped"])
@both
def test_an_image_manifest_that_was_lost_or_damaged_is_healed(site: Site, how: str) -> None:
    maker, user = site.machine("maker"), site.machine("poor user")
    uri = site.seed(maker)
    maker.succeed("push", uri)
    image = site.image(uri)
    data = site.file(image).read_bytes()
    site.damage(image, "missing")
    if how == "flipped":  # the last digit of a size, so that it is JSON still, which registry:2 serves
        sized = re.search(rb'"size":\d+', data)
        assert sized
        site.file(image).write_bytes(flipped(data, sized.end() - 1))
    done = user.run("pull", uri)
    if how == "missing" and not site.is_layout:
        assert done.status == 3  # registry:2 says that there is no such tag
    else:
        must_name_repair(done)
        must_name_repair(maker.run("push", uri))
    document = repaired(maker, uri)
    assert document["image"] == site.image(uri)
    if site.is_layout or how == "missing":
        assert document["image"] == image
    else:  # registry:2 does not store a manifest that it has
        must_say_replaced(site, uri, document, image, None)
    site.must_give(uri, maker)


@registry_alone
def test_an_image_manifest_that_the_registry_cannot_read_is_healed_or_said(site: Site) -> None:
    """registry:2 answers 500 for a manifest that is no JSON any more, and keeps it."""
    maker = site.machine("maker")
    uri = site.seed(maker)
    maker.succeed("push", uri)
    site.damage(site.image(uri), "cut short")
    done = maker.run("push", uri, "--repair")
    if done.status:
        assert (done.status in (5, 6), "operator" in done.stderr) == (True, True), done.stderr
    else:
        site.must_give(uri, maker)


@registry_alone
def test_what_a_repair_says_to_people(site: Site) -> None:
    maker = site.machine("maker")
    uri = site.seed(maker)
    maker.succeed("push", uri)
    image, where_to = site.image(uri), site.target.location
    done = maker.run("push", uri, "--repair")
    assert done.stderr == f"ctxpack: {where_to} had it already; nothing was sent\n"
    site.damage(site.digest(uri, "data layer"), "missing")
    done = maker.run("push", uri, "--repair")
    assert re.fullmatch(rf"ctxpack: {re.escape(where_to)} lacked [\d.]+ KiB of it\n", done.stderr)
    site.damage(site.digest(uri, "data layer"), "flipped")
    done = maker.run("push", uri, "--repair")
    said = f"{where_to} has it now, as {site.image(uri)}, in place of {image}; claims about that are void"
    assert done.stderr == f"ctxpack: {said}\n"


@registry_alone
def test_a_layer_that_a_registry_keeps_damaged_again_and_again_is_healed_or_said(site: Site) -> None:
    maker = site.machine("maker")
    uri = site.seed(maker)
    maker.succeed("push", uri)
    for number in range(2):
        site.damage(site.digest(uri, "data layer"), "flipped")
        done = maker.run("push", uri, "--repair")
        if done.status:
            assert number == 1
            assert (done.status, "operator" in done.stderr) == (5, True)
            return
        site.must_give(uri, maker, f"user {number}")


def foreign(kind: str, site: Site, pack: dict[str, Any], other: dict[str, Any]) -> bytes:
    """Return a manifest of kind, and put its blobs there. pack, other: image manifests of two packs on the target."""
    config, layer = b"{}", b"somebody else's"
    for data in (config, layer):
        put_blob(site, data)
    parts = [
        {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}
        for media_type, data in (("application/vnd.oci.empty.v1+json", config), ("text/plain", layer))
    ]
    image = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": parts[0], "layers": parts[1:]}
    mine, theirs = pack["layers"], other["layers"]
    documents: dict[str, dict[str, Any]] = {
        "an image": image,
        "another artifact": image | {"artifactType": "application/vnd.example.sbom"},
        "an index": {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []},
        "another contract's pack": other,
        "another kind of artifact": pack | {"artifactType": "application/x-other"},
        "a pack without its first layer": pack | {"layers": mine[1:]},
        "a pack without its table": pack | {"layers": [mine[0], *mine[2:]]},
        "a pack without its data": pack | {"layers": mine[:2]},
        "another pack's first layer": pack | {"layers": [theirs[0], *mine[1:]]},
        "another pack's table": pack | {"layers": [mine[0], theirs[1], *mine[2:]]},
        "another pack's data": pack | {"layers": [*mine[:2], *theirs[2:]]},
    }
    return json.dumps(documents[kind]).encode()


FOREIGN = (
    "an image",
    "another artifact",
    "an index",
    "another contract's pack",
    "another kind of artifact",
    "a pack without its first layer",
    "a pack without its table",
    "a pack without its data",
    "another pack's first layer",
    "another pack's table",
    "another pack's data",
)


def put_blob(site: Site, data: bytes) -> None:
    if isinstance(site.target, Layout):
        site.target.path(digest_of(data)).write_bytes(data)
    else:
        site.repository.put_blob(digest_of(data), data)


def put_tag(site: Site, uri: str, data: bytes) -> None:
    """Let the tag of uri name data, as another client would."""
    media_type = json.loads(data)["mediaType"]
    if isinstance(site.target, Layout):
        put_blob(site, data)
        point(site.target, uri, {"mediaType": media_type, "digest": digest_of(data), "size": len(data)})
    else:
        site.repository.put_manifest(tag_of(uri), data, media_type)


def point(layout: Layout, uri: str, *descriptors: dict[str, Any]) -> None:
    """Let the tag of uri name these, of which there should be one."""
    index, name = layout.folder / "index.json", "org.opencontainers.image.ref.name"
    document = json.loads(index.read_bytes())
    others = [entry for entry in document["manifests"] if entry["annotations"][name] != tag_of(uri)]
    named = [descriptor | {"annotations": {name: tag_of(uri)}} for descriptor in descriptors]
    index.write_text(json.dumps(document | {"manifests": [*others, *named]}))


@pytest.mark.parametrize(
    ("site", "kind"),
    [("registry", kind) for kind in FOREIGN] + [("layout", kind) for kind in FOREIGN[::2]],
    indirect=["site"],
)
def test_a_foreign_thing_under_the_tag_is_replaced_by_a_repair(site: Site, kind: str) -> None:
    maker, somebody, user = (site.machine(name) for name in ("maker", "somebody", "poor user"))
    uri, other = site.seed(maker), site.seed(somebody)
    maker.succeed("push", uri)
    somebody.succeed("push", other)
    pack, others = (json.loads(site.target.manifest(tag_of(one)) or b"") for one in (uri, other))
    data = foreign(kind, site, pack, others)
    put_tag(site, uri, data)
    must_name_repair(user.run("pull", uri))
    plain = maker.run("push", uri)
    if plain.status:
        must_name_repair(plain)
    assert site.image(uri) == digest_of(data)
    document = repaired(maker, uri)
    known = document["replaced"]["outputs"]  # by its first layer, if that is the pack's
    assert known is None or (known == document["outputs"] and kind.endswith(("data", "table")))
    must_say_replaced(site, uri, document, digest_of(data), known)
    assert document["new"] == (known is None)
    site.must_give(uri, maker)
    site.must_give(other, somebody, "user of the other pack")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("site", ["layout"], indirect=True)
def test_a_part_of_the_pack_under_the_tag_of_a_layout_is_replaced_by_a_repair(site: Site, part: str) -> None:
    maker, user = site.machine("maker"), site.machine("poor user")
    uri = site.seed(maker)
    maker.succeed("push", uri)
    assert isinstance(site.target, Layout)
    image, pack = site.image(uri), json.loads(site.target.manifest(tag_of(uri)) or b"")
    digest = site.digest(uri, part)
    descriptor = next(one for one in (pack["config"], *pack["layers"]) if one["digest"] == digest)
    point(site.target, uri, {name: descriptor[name] for name in ("mediaType", "digest", "size")})
    must_name_repair(user.run("pull", uri))
    must_name_repair(maker.run("push", uri))
    document = repaired(maker, uri)
    assert document["image"] == image
    must_say_replaced(site, uri, document, digest, None)
    site.must_give(uri, maker)


@pytest.mark.parametrize("site", ["layout"], indirect=True)
def test_a_tag_that_is_there_twice_is_healed_by_a_repair(site: Site) -> None:
    maker, user = site.machine("maker"), site.machine("poor user")
    uri = site.seed(maker)
    maker.succeed("push", uri)
    assert isinstance(site.target, Layout)
    entry = json.loads((site.target.folder / "index.json").read_bytes())["manifests"][0]
    del entry["annotations"]
    point(site.target, uri, entry, entry)
    must_name_repair(user.run("pull", uri))
    must_name_repair(maker.run("push", uri))
    repaired(maker, uri)
    site.must_give(uri, maker)


@both
def test_the_case_of_the_lost_blob(site: Site) -> None:
    """Case 03: the largest blob is gone; every command names the one that heals."""
    maker, user = site.machine("maker"), site.machine("poor user")
    large = os.urandom(9 << 20)
    uri = seed_pack(maker, files={"large.bin": large})
    maker.succeed("push", uri)
    image = site.image(uri)
    layers = json.loads(site.target.manifest(tag_of(uri)) or b"")["layers"]
    site.damage(max(layers, key=lambda layer: layer["size"])["digest"], "missing")
    must_name_repair(user.run("pull", uri))
    maker.run("push", uri)
    must_name_repair(user.run("pull", uri))
    must_name_repair(user.run("pull", uri, "-o", "got", "--include", "*.bin"))
    assert repaired(maker, uri)["image"] == image
    site.must_give(uri, maker)


def project(site: Site, name: str, who: str = "", **members: Any) -> tuple[Project, str]:
    """Return a project on a machine of its own, whose command writes who, and its URI. who: by default name."""
    machine = site.machine(name)
    machine.environment["WHO"] = who or name
    made = Project(machine)
    made.declare(**{"command": ["sh", "-c", 'mkdir -p out; echo "$WHO" > out/who'], **members})
    return made, made.uri()


def who(project: Project) -> str:
    """Return what the output of a project says."""
    return (project.folder / "out" / "who").read_text().strip()


def pulled(site: Site, uri: str, name: str) -> str:
    """Return what a machine with an empty cache gets."""
    user = site.machine(name)
    user.succeed("pull", uri, "-o", "got")
    return (user.work / "got" / "who").read_text().strip()


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    ("site", "how"), [("registry", "missing"), ("registry", "flipped"), ("layout", "flipped")], indirect=["site"]
)
def test_the_pack_of_another_machine_is_repaired_from_here(site: Site, part: str, how: str) -> None:
    (one, uri), (two, same) = twins(site)
    assert uri == same
    for each in (one, two):
        each.succeed("run")
    one.succeed("push", uri)
    image, digest = site.image(uri), site.digest(uri, part)
    site.damage(digest, how)
    if not site.is_layout and how == "flipped":
        done = two.call("push", uri, "--repair", "--json")
        if part == "config":
            assert (done.status, "keeps a damaged contract blob" in done.stderr) == (0, True)
            return
        document = json.loads(done.stdout)
        must_say_replaced(site, uri, document, image, document["outputs"] if part != "first layer" else None)
    elif part in ("first layer", "table"):  # which hold what this machine does not know: provenance, places of pieces
        document = repaired(two.machine, uri)
        must_say_replaced(site, uri, document, image, document["outputs"] if part == "table" else None)
    else:
        document = repaired(two.machine, uri)
        assert (document["image"], "replaced" in document) == (image, False)
    assert pulled(site, uri, "user") == who(one)
    assert audit_artifact(site.target, uri) is not None


def twins(site: Site) -> list[tuple[Project, str]]:
    """Return two projects that make the same outputs, which no other test has, with other provenance."""
    salt = os.urandom(8).hex()
    return [project(site, name, salt, labels={"by": name}, salt=salt) for name in ("one", "two")]


@pytest.mark.parametrize("shared", [False, True], ids=["own layer", "borrowed layer"])
@pytest.mark.parametrize("how", ["missing", "flipped"])
@both
def test_a_pack_that_borrowed_layers_is_healed(site: Site, how: str, shared: bool) -> None:
    maker = site.machine("maker")
    common = os.urandom(1 << 20)
    uris = [seed_pack(maker, dpi=dpi, files={"common.bin": common, "own.bin": os.urandom(60_000)}) for dpi in (72, 300)]
    for uri in uris:
        maker.succeed("push", uri)
    base, uri = uris
    layers = [
        [layer["digest"] for layer in json.loads(site.target.manifest(tag_of(one)) or b"")["layers"]] for one in uris
    ]
    borrowed = [digest for digest in layers[1] if digest in layers[0]]
    own = [digest for digest in layers[1][2:] if digest not in layers[0]]
    assert borrowed
    assert own
    image = site.image(uri)
    site.damage((borrowed if shared else own)[0], how)
    document = repaired(maker, uri)
    if not shared and (site.is_layout or how == "missing"):
        assert (document["image"], "replaced" in document) == (image, False)
    else:
        assert document["image"] == image or document["replaced"] == {"image": image, "outputs": document["outputs"]}
    site.must_give(uri, maker)
    repaired(maker, base)
    audit_artifact(site.target, base)
    site.machine("another user").succeed("pull", base)


@all_kinds
def test_other_outputs_are_no_damage_and_only_replace_overwrites_them(site: Site) -> None:
    (ours, uri), (theirs, same) = (project(site, name) for name in ("ours", "theirs"))
    assert uri == same
    for each in (ours, theirs):
        each.succeed("run", "--offline")
    theirs.succeed("push", uri)
    image = site.image(uri)
    for options in ((), ("--repair",)):
        done = ours.call("push", uri, *options)
        assert (done.status, done.stdout) == (8, "")
        for advice in ("ctxpack push --replace URI", "ctxpack rm --registry URI", "`salt`"):
            assert advice in done.stderr
        assert f"expected outputs {outputs_of(theirs.machine, uri)}, got {outputs_of(ours.machine, uri)}" in done.stderr
    assert site.image(uri) == image
    done = ours.call("push", uri, "--replace")
    assert done.status == 0
    assert f"has it now, as {site.image(uri)}, in place of {image}; claims about that are void\n" in done.stderr
    digests = [outputs_of(each.machine, uri) for each in (ours, theirs)]
    assert f"outputs are now {digests[0]}, and were {digests[1]}\n" in done.stderr
    assert pulled(site, uri, "user") == "ours"
    document = json.loads(theirs.succeed("push", uri, "--replace", "--json"))
    assert document["replaced"]["outputs"] == digests[0]
    assert (document["outputs"], document["new"]) == (digests[1], True)
    assert pulled(site, uri, "another user") == "theirs"
    again = json.loads(theirs.succeed("push", uri, "--replace", "--json"))
    assert (again["sent"], again["new"], "replaced" in again) == (0, False, False)


@both
def test_other_outputs_that_are_damaged_give_way_to_both_options_together(site: Site) -> None:
    (ours, uri), (theirs, _) = (project(site, name) for name in ("ours", "theirs"))
    for each in (ours, theirs):
        each.succeed("run", "--offline")
    theirs.succeed("push", uri)
    image = site.image(uri)
    site.damage(site.digest(uri, "data layer"), "flipped")
    assert ours.call("push", uri, "--repair").status == 8
    document = repaired(ours.machine, uri, "--replace")
    must_say_replaced(site, uri, document, image, outputs_of(theirs.machine, uri))
    assert pulled(site, uri, "user") == "ours"


@all_kinds
def test_the_case_of_the_bad_result(site: Site) -> None:
    """Case 34: BAD was pushed and removed from the cache; a run that would make GOOD fetches BAD again."""
    made, uri = project(site, "maker", "BAD")
    made.succeed("run", "--push")
    image, bad = site.image(uri), outputs_of(made.machine, uri)
    made.succeed("rm", uri)
    made.machine.environment["WHO"] = "GOOD"
    assert made.succeed("run") == f"Hit: {uri}"
    assert who(made) == "BAD"
    done = made.call("run", "--recompute")
    assert (done.status, done.stdout, who(made)) == (0, f"Seeded: {uri}\n", "GOOD")
    good = outputs_of(made.machine, uri)
    assert f"had other outputs, {bad}, and was replaced by {good}" in done.stderr
    assert (site.image(uri), pulled(site, uri, "first user")) == (image, "BAD")
    done = made.call("run", "--recompute", "--push")
    assert (done.status, done.stdout, who(made)) == (8, "", "GOOD")
    for advice in ("ctxpack push --replace URI", "ctxpack rm --registry URI", "`salt`"):
        assert advice in done.stderr
    assert site.image(uri) == image
    document = json.loads(made.succeed("run", "--recompute", "--push", "--replace", "--json"))
    assert document["pushed"]["replaced"] == {"image": image, "outputs": bad}
    assert document["pushed"]["outputs"] == good
    assert not document["hit"]
    assert pulled(site, uri, "second user") == "GOOD"
    assert made.succeed("run", "--push") == f"Hit: {uri}"


@all_kinds
def test_the_case_of_the_bad_result_by_removal(site: Site) -> None:
    made, uri = project(site, "maker", "BAD")
    made.succeed("run", "--push")
    assert made.succeed("rm", uri, "--registry") == f"Removed: {uri}"
    made.machine.environment["WHO"] = "GOOD"
    assert made.succeed("run", "--push") == f"Seeded: {uri}"
    assert (who(made), pulled(site, uri, "user")) == ("GOOD", "GOOD")


@both
def test_a_corrected_path_of_an_output_takes_effect_when_the_command_is_run_again(site: Site) -> None:
    command = ["sh", "-c", "mkdir -p out/wrong out/right; echo wrong > out/wrong/who; echo right > out/right/who"]
    made, uri = project(site, "maker", command=command, outputs=[{"name": "out", "path": "out/wrong"}])
    made.succeed("run", "--push")
    made.declare(command=command, outputs=[{"name": "out", "path": "out/right"}])
    made.remove("out")
    assert made.uri() == uri
    made.succeed("run", "--recompute", "--push", "--replace")
    assert pulled(site, uri, "user") == "right"


SPELLINGS = ("rm URI --registry", "rm --registry URI", "rm URI --registry WHERE", "rm --registry WHERE URI")


@pytest.mark.parametrize(
    ("site", "spelling"),
    [*((kind, spelling) for kind in PLAIN for spelling in SPELLINGS), ("auth_registry", SPELLINGS[0])],
    indirect=["site"],
)
def test_a_pack_is_removed_from_the_registry_in_all_spellings(site: Site, spelling: str) -> None:
    maker = site.machine("maker")
    uri, other = site.seed(maker), site.seed(maker)
    for each in (uri, other):
        maker.succeed("push", each)
    machine = site.machine("remover")
    machine.succeed("pull", uri)
    if "WHERE" in spelling:
        machine.environment["CTXPACK_REGISTRY"] = "127.0.0.1:1/nowhere"
    words = [{"URI": uri, "WHERE": site.target.location}.get(word, word) for word in spelling.split()]
    document = json.loads(machine.succeed(*words, "--json"))
    assert document["registry"].endswith(site.target.location.removeprefix("oci:"))
    assert (document["removed"], document["missing"]) == ([uri], [])
    assert site.target.manifest(tag_of(uri)) is None
    assert not list(machine.cache.glob("v1/packs/*"))
    assert machine.run(*words).status == 3
    machine.environment["CTXPACK_REGISTRY"] = site.target.location
    assert machine.run("pull", uri).status == 3
    machine.succeed("pull", other)
    document = json.loads(maker.succeed("push", uri, "--json"))
    assert document["new"]
    machine.succeed("pull", uri)


@all_kinds
def test_rm_alone_leaves_the_registry_as_it_is(site: Site) -> None:
    maker = site.machine("maker")
    uri = site.seed(maker)
    maker.succeed("push", uri)
    document = json.loads(maker.succeed("rm", uri, "--json"))
    assert (document["registry"], document["removed"]) == (None, [uri])
    maker.succeed("pull", uri)
    assert maker.run("rm", "--registry").status == 2
    done = maker.run("rm", uri, "--registry")
    assert (done.status, done.stdout) == (0, f"Removed: {uri}\n")
    assert f"from {site.target.location}, which may keep blobs" in done.stderr


@pytest.mark.parametrize("what", ["an image", "an index", "a damaged pack", "a lost image manifest"])
@both
def test_what_is_no_whole_pack_is_removed_from_the_registry_too(site: Site, what: str) -> None:
    maker, somebody = site.machine("maker"), site.machine("somebody")
    uri, other = site.seed(maker), site.seed(maker)
    for each in (uri, other):
        maker.succeed("push", each)
    if what.startswith("an "):
        documents = [json.loads(site.target.manifest(tag_of(one)) or b"") for one in (uri, other)]
        put_tag(site, uri, foreign(what, site, documents[0], documents[1]))
    else:
        site.damage(site.digest(uri, "first layer" if what == "a damaged pack" else "image manifest"), "missing")
    done = somebody.run("rm", uri, "--registry")
    # registry:2 says of a lost image manifest that there is no such tag.
    assert done.status == (3 if what == "a lost image manifest" and not site.is_layout else 0), done.stderr
    assert site.target.manifest(tag_of(uri)) is None
    assert somebody.run("pull", uri).status == 3
    somebody.succeed("pull", other)


class KeepingServer(RegistryServer):
    """A registry:2 with deletion disabled, which is its default."""

    def _configure(self, listen: str) -> Path:
        path = super()._configure(listen)
        settings = json.loads(path.read_text(encoding="utf-8"))
        settings["storage"]["delete"]["enabled"] = False
        path.write_text(json.dumps(settings), encoding="utf-8")
        return path


def test_a_registry_that_does_not_delete_is_exit_4_with_advice(
    forks: Forks, tmp_path: Path, registry: RegistryServer
) -> None:
    with KeepingServer(tmp_path / "server") as server:
        site = Site(Repository(server), forks, tmp_path)
        must_refuse_to_delete(site, site.target.location, "one")
    site = Site(Repository(registry), forks, tmp_path)
    rule = where(refusing(405), method="DELETE")
    with Relay(registry.address, rule) as relay:
        must_refuse_to_delete(site, site.repository.through(relay.address), "two")


def must_refuse_to_delete(site: Site, location: str, name: str) -> None:
    maker = site.machine(name, location)
    uri = site.seed(maker)
    maker.succeed("push", uri)
    image = site.image(uri)
    done = maker.run("rm", uri, "--registry", "--json")
    assert (done.status, done.stdout) == (4, "")
    error = json.loads(done.stderr.splitlines()[-1])
    assert error["code"] == "E_NO_DELETION"
    assert "ctxpack push --replace" in error["fix"]
    assert tag_of(uri) in error["where"]
    assert site.image(uri) == image
    assert len(list(maker.cache.glob("v1/packs/*"))) == 1


def answered(status: int, *, created: bool = True) -> Rule:
    """Answer as a registry that took it, or not, and forward nothing."""

    def rule(request: Request, forward: Forward) -> Answer:
        digest = re.search(r"digest=(sha256(?::|%3A)[0-9a-f]{64})", request.path)
        name = digest[1].replace("%3A", ":") if digest else digest_of(request.body)
        return Answer(status, {"Docker-Content-Digest": name, "Location": "/v2/x"} if created else {})

    return rule


def must_be_lost(done: Finished) -> None:
    assert (done.status, done.stdout) == (6, "")
    assert json.loads(done.stderr.splitlines()[-1])["code"] == "E_LOST"


@registry_alone
def test_a_tag_that_is_not_there_after_it_was_set_is_lost(site: Site) -> None:
    maker = site.machine("maker")
    uri = site.seed(maker)
    with Relay(site.repository.server.address, where(answered(201), method="PUT", path=PACK_TAG)) as relay:
        for options in ((), ("--repair",), ("--replace",)):
            must_be_lost(maker.run("push", uri, *options, "--json", registry=site.repository.through(relay.address)))
    assert site.target.manifest(tag_of(uri)) is None
    maker.succeed("push", uri)


@pytest.mark.parametrize("status", [201, 409], ids=["taken and lost", "immutable"])
@pytest.mark.parametrize("case", ["damaged", "foreign", "other outputs"])
@registry_alone
def test_a_tag_that_stays_as_it_was_is_no_success(site: Site, case: str, status: int) -> None:
    (ours, uri), (theirs, _) = rivals(site)
    for each in (ours, theirs):
        each.succeed("run", "--offline")
    maker = ours if case == "damaged" else theirs
    maker.succeed("push", uri)
    if case == "damaged":
        site.damage(site.digest(uri, "data layer"), "flipped")
    elif case == "foreign":
        pack = json.loads(site.target.manifest(tag_of(uri)) or b"")
        put_tag(site, uri, foreign("an image", site, pack, pack))
    image = site.image(uri)
    options = ["--replace"] if case == "other outputs" else ["--repair"]
    rule = where(answered(status, created=status == 201), method="PUT", path=PACK_TAG)
    with Relay(site.repository.server.address, rule) as relay:
        done = ours.machine.run("push", uri, *options, registry=site.repository.through(relay.address))
    assert site.image(uri) == image
    assert (done.status in (5, 6, 8), done.stdout) == (True, ""), done
    assert "Pushed" not in done.stderr


def rivals(site: Site) -> list[tuple[Project, str]]:
    """Return two projects that make other outputs of one contract, which no other test has."""
    salt = os.urandom(8).hex()
    return [project(site, name, f"{name} {salt}", salt=salt) for name in ("ours", "theirs")]


class Careless:
    """A registry that takes every manifest, and serves it, without a look at what it names."""

    def __init__(self, lost: int) -> None:
        """lost: number of the blob that it takes and loses."""
        self._manifests: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._blobs, self._lost = 0, lost

    def __call__(self, request: Request, forward: Forward) -> Answer:
        name = request.path.rpartition("/")[2]
        if request.sends_blob:
            with self._lock:
                number, self._blobs = self._blobs, self._blobs + 1
            return (answered(201) if number == self._lost else forward_to(forward))(request, forward)
        if "/manifests/" not in request.path:
            return forward(request)
        if request.method == "PUT":
            self._manifests[name] = self._manifests[digest_of(request.body)] = request.body
            return answered(201)(request, forward)
        data = self._manifests.get(name)
        if data is None:
            return forward(request)
        headers = {"Docker-Content-Digest": digest_of(data), "Content-Type": MANIFEST_TYPE}
        return Answer(200, headers, data)

    def tagged(self, uri: str) -> bool:
        return tag_of(uri) in self._manifests


def forward_to(forward: Forward) -> Rule:
    return lambda request, _: forward(request)


@pytest.mark.parametrize("option", ["", "--repair"])
@pytest.mark.parametrize("number", range(4))
@registry_alone
def test_a_blob_that_was_taken_and_lost_is_no_success(site: Site, number: int, option: str) -> None:
    """Not even where the registry takes an image manifest that names the lost blob."""
    maker = site.machine("maker")
    uri = site.seed(maker)
    careless = Careless(number)
    with Relay(site.repository.server.address, careless) as relay:
        options = [option] if option else []
        must_be_lost(maker.run("push", uri, *options, "--json", registry=site.repository.through(relay.address)))
    assert not careless.tagged(uri)
    losing = where(nth(number, answered(201)), method="PUT", path="/blobs/uploads/")
    with Relay(site.repository.server.address, losing) as relay:
        done = maker.run("push", uri, *options, "--json", registry=site.repository.through(relay.address))
    # The blobs that were not lost are there by now, so it may be one that was not sent again.
    assert done.status == 0 or json.loads(done.stderr.splitlines()[-1])["code"] == "E_LOST"
    assert (done.status == 0) == (site.target.manifest(tag_of(uri)) is not None)
    maker.succeed("push", uri, "--repair")
    site.must_give(uri, maker)


# Where a command is killed: what it asks for, the number of that request among its kind, and whether it was answered.
Moment: TypeAlias = tuple[str, str, int, bool]
MENDING: tuple[Moment, ...] = (
    ("GET", PACK_TAG, 0, False),
    ("GET", "/blobs/", 0, False),
    ("GET", "/blobs/", 3, True),
    ("POST", "/blobs/uploads/", 0, False),
    ("PUT", "/blobs/uploads/", 0, False),
    ("PUT", "/blobs/uploads/", 0, True),
)
PUBLISHING: tuple[Moment, ...] = (
    ("HEAD", "/blobs/", 0, False),
    ("PUT", "/manifests/sha256:", 0, False),
    ("PUT", "/manifests/sha256:", 0, True),
    ("HEAD", PACK_TAG, 0, True),
    ("PUT", PACK_TAG, 0, False),
    ("PUT", PACK_TAG, 0, True),
    ("HEAD", PACK_TAG, 1, False),
)


@pytest.mark.parametrize(("how", "moments"), [("missing", MENDING), ("flipped", MENDING[4:] + PUBLISHING)])
@registry_alone
def test_a_repair_that_is_killed_at_any_request_harms_nothing(
    site: Site, how: str, moments: tuple[Moment, ...]
) -> None:
    maker = site.machine("maker")
    for moment in moments:
        uri = site.seed(maker)
        maker.succeed("push", uri)
        before = site.image(uri)
        site.damage(site.digest(uri, "data layer"), how)
        kill(site, maker, moment, "push", uri, "--repair")
        if site.image(uri) != before:
            assert audit_artifact(site.target, uri) is not None
        repaired(maker, uri)
        assert audit_artifact(site.target, uri) is not None


@registry_alone
def test_a_replacement_that_is_killed_at_any_request_leaves_the_old_or_the_new_pack(site: Site) -> None:
    (ours, uri), (theirs, _) = rivals(site)
    for each in (ours, theirs):
        each.succeed("run", "--offline")
    theirs.succeed("push", uri)
    old, new = theirs.machine, ours.machine
    assert isinstance(old, ForkedMachine)
    assert isinstance(new, ForkedMachine)
    for moment in (*MENDING[3:], *PUBLISHING):
        kill(site, new, moment, "push", uri, "--replace")
        artifact = audit_artifact(site.target, uri)
        assert artifact is not None
        assert sum(outputs_of(each, uri).encode() in artifact.pieces[0] for each in (old, new)) == 1
        new.succeed("push", uri, "--repair", "--replace")
        assert outputs_of(new, uri).encode() in (audit_artifact(site.target, uri) or artifact).pieces[0]
        old, new = new, old


def kill(site: Site, machine: ForkedMachine, moment: Moment, *arguments: str) -> None:
    """Start a command, and kill it at a moment."""
    method, path, number, answered = moment
    with Relay(site.repository.server.address) as relay:
        hold = relay.hold()
        relay.rule = where(nth(number, answer_held(hold) if answered else holding(hold)), method=method, path=path)
        started = machine.begin(*arguments, registry=site.repository.through(relay.address))
        hold.until_reached()
        started.end_with(signal.SIGKILL)


def answer_held(hold: Hold) -> Rule:
    def rule(request: Request, forward: Forward) -> Answer:
        answer = forward(request)
        hold.wait()
        return answer

    return rule
