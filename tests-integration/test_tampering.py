"""Whatever a registry serves instead of a pack is detected, named, and not kept."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from audit import Artifact, audit_artifact, audit_cache, digest_of, leftovers
from examples import OUTPUTS, seed_pack
from faults import cut_short, flipped, flipping, where, wrong_length
from machine import Finished, Machine
from plain_target import Layout, PlainTarget, Repository, tag_of
from relay import Answer, Forward, Relay, Request, Rule

from registry2 import RegistryServer


class Pushed(NamedTuple):
    """Two packs on a registry, and the folder of a layout that holds the same two."""

    repository: Repository
    layout: Path
    uri: str
    other: str
    artifact: Artifact
    manifest: bytes

    def digest(self, part: str) -> str:
        """Return the digest of one of PARTS."""
        layers: list[dict[str, str]] = self.artifact.manifest["layers"]
        by_name = {"first layer": layers[0], "listings": layers[1], "later layer": layers[2], "last layer": layers[-1]}
        if part == "manifest":
            return digest_of(self.manifest)
        return by_name[part]["digest"]

    def path(self, part: str) -> str:
        """Return the end of the path at which a pull asks a registry for a part."""
        return tag_of(self.uri) if part == "manifest" else self.digest(part)


# Not the config blob, the contract: a pull does not need it, because the pack manifest repeats it.
PARTS = ("manifest", "first layer", "listings", "later layer", "last layer")


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory, registry: RegistryServer) -> Pushed:
    folder = tmp_path_factory.mktemp("pushed")
    repository, layout = Repository(registry), folder / "layout"
    machine = Machine(folder / "maker", repository.location)
    other, uri = seed_pack(machine, dpi=72), seed_pack(machine)
    for each in (uri, other):
        machine.succeed("push", each)
        machine.succeed("push", each, registry=f"oci:{layout}")
    artifact, manifest = audit_artifact(repository, uri), repository.manifest(tag_of(uri))
    assert artifact
    assert manifest
    return Pushed(repository, layout, uri, other, artifact, manifest)


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Machine]:
    """A machine that must have kept nothing of what it got when the test ends."""
    machine = Machine(tmp_path / "user")
    yield machine
    assert audit_cache(machine.cache) == []
    assert leftovers(machine.cache) == []
    assert list(machine.work.iterdir()) == []


def copy_of(pushed: Pushed, folder: Path) -> Layout:
    """Return a layout to damage. Its files are hard links: replace them, do not write into them."""
    shutil.copytree(pushed.layout, folder / "layout", copy_function=os.link)
    return Layout(folder / "layout")


def replace(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def pull_by(rule: Rule, pushed: Pushed, user: Machine) -> Finished:
    with Relay(pushed.repository.server.address, rule) as relay:
        return user.run("pull", pushed.uri, "-o", "got", registry=pushed.repository.through(relay.address))


def must_refuse(done: Finished, *messages: str) -> None:
    assert (done.status, done.stdout) == (5, ""), done.stderr
    assert [text for text in messages if text not in done.stderr] == [], done.stderr


@pytest.mark.parametrize("position", [0, -1])
@pytest.mark.parametrize("part", PARTS)
def test_one_bit_changed_on_the_way_is_found(pushed: Pushed, user: Machine, part: str, position: int) -> None:
    digest = pushed.digest(part)
    done = pull_by(where(flipping(position), method="GET", path=pushed.path(part)), pushed, user)
    must_refuse(done, digest[:19], f"expected {digest}, got sha256:")


@pytest.mark.parametrize("part", PARTS)
def test_one_bit_changed_in_a_layout_is_found(pushed: Pushed, user: Machine, tmp_path: Path, part: str) -> None:
    layout = copy_of(pushed, tmp_path)
    digest = pushed.digest(part)
    path = layout.path(digest)
    good = path.read_bytes()
    for position in (len(good) // 2, -1):
        replace(path, flipped(good, position))
        done = user.run("pull", pushed.uri, "-o", "got", registry=layout.location)
        must_refuse(done, digest[:19], f"expected {digest}, got sha256:")


@pytest.mark.parametrize("part", PARTS)
def test_a_truncated_or_missing_part_is_found(pushed: Pushed, user: Machine, tmp_path: Path, part: str) -> None:
    digest = pushed.digest(part)
    done = pull_by(where(cut_short(-1), method="GET", path=pushed.path(part)), pushed, user)
    must_refuse(done, digest[:19], ", got ")
    layout = copy_of(pushed, tmp_path)
    path = layout.path(digest)
    replace(path, b"")
    must_refuse(user.run("pull", pushed.uri, registry=layout.location), digest[:19], " bytes, got 0")
    path.unlink()
    must_refuse(user.run("pull", pushed.uri, registry=layout.location), digest[:19], "missing", "push the pack again")


@pytest.mark.parametrize("part", ["manifest", "later layer"])
def test_a_content_length_that_is_too_small_is_found(pushed: Pushed, user: Machine, part: str) -> None:
    done = pull_by(where(wrong_length(-1), method="GET", path=pushed.path(part)), pushed, user)
    must_refuse(done, pushed.digest(part)[:19])


def test_a_tag_that_serves_the_pack_of_another_contract_is_refused(pushed: Pushed, user: Machine) -> None:
    def swapped(request: Request, forward: Forward) -> Answer:
        return forward(request._replace(path=request.path.replace(tag_of(pushed.uri), tag_of(pushed.other))))

    contract, other = (uri.removeprefix("ctx://") for uri in (pushed.uri, pushed.other))
    done = pull_by(swapped, pushed, user)
    must_refuse(done, f"not this contract's pack: config.digest, the contract: expected {contract}, got {other}")


def test_an_index_whose_tag_names_the_pack_of_another_contract_is_refused(
    pushed: Pushed, user: Machine, tmp_path: Path
) -> None:
    layout = copy_of(pushed, tmp_path)
    index = layout.folder / "index.json"
    tags = (tag_of(pushed.uri), "swap", tag_of(pushed.other))
    text = index.read_text().replace(tags[0], tags[1]).replace(tags[2], tags[0]).replace(tags[1], tags[2])
    replace(index, text.encode())
    done = user.run("pull", pushed.uri, registry=layout.location)
    must_refuse(done, "not this contract's pack", pushed.other.removeprefix("ctx://"))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("index.json", b"{", "malformed"),
        ("index.json", b'{"manifests": 1}', "expected a list of descriptors"),
        ("oci-layout", b'{"imageLayoutVersion": "9.9.9"}', "expected 1.0.0, got 9.9.9"),
        ("oci-layout", None, "no oci-layout file beside index.json"),
    ],
)
def test_a_damaged_layout_is_refused(
    pushed: Pushed, user: Machine, tmp_path: Path, name: str, data: bytes | None, message: str
) -> None:
    layout = copy_of(pushed, tmp_path)
    replace(layout.folder / name, data or b"")
    if data is None:
        (layout.folder / name).unlink()
    must_refuse(user.run("pull", pushed.uri, registry=layout.location), message, os.fspath(layout.folder))


Forge = Callable[[dict[str, Any], list[bytes]], None]


def relabel(layer: int, **changes: Any) -> Forge:
    return lambda manifest, layers: manifest["layers"][layer].update(changes)


def unpacked_size(layer: int, size: str) -> Forge:
    return relabel(layer, annotations={"dev.ctxpack.chunk.bytes": size})


def recompressed(layer: int, change: Callable[[bytes], bytes]) -> Forge:
    """Return what changes the content of a layer, and its digest, size and unpacked size too."""

    def forge(manifest: dict[str, Any], layers: list[bytes]) -> None:
        content = change(gzip.decompress(layers[layer]))
        layers[layer] = gzip.compress(content, mtime=0)
        described = manifest["layers"][layer]
        described.update(digest=digest_of(layers[layer]), size=len(layers[layer]))
        described["annotations"]["dev.ctxpack.chunk.bytes"] = str(len(content))

    return forge


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        assert old in content
        return content.replace(old, new, 1)

    return change


def swap_layers(manifest: dict[str, Any], layers: list[bytes]) -> None:
    manifest["layers"][2], manifest["layers"][3] = manifest["layers"][3], manifest["layers"][2]


def drop_last(manifest: dict[str, Any], layers: list[bytes]) -> None:
    del manifest["layers"][-1]


def double_last(manifest: dict[str, Any], layers: list[bytes]) -> None:
    manifest["layers"].append(manifest["layers"][-1])


FORGERIES: dict[str, tuple[Forge, str]] = {
    "a file's content": (recompressed(-1, replaced(b"one\n", b"two\n")), "content differs from its digest"),
    "a byte of the large file": (recompressed(3, lambda content: flipped(content, 70)), "content differs"),
    "a name": (recompressed(-1, replaced(b"tool.sh\0", b"../evil\0")), "archive differs from its listing"),
    "a mode": (recompressed(-1, replaced(b"0000755\0", b"0004755\0")), "archive differs from its listing"),
    "a link": (recompressed(-1, replaced(b"\0 0\0", b"\0 2\0")), "archive differs from its listing"),
    "a listing": (recompressed(1, replaced(b'"mode":"0644"', b'"mode":"0755"')), "files.jsonl"),
    "the outputs' digest": (
        recompressed(0, lambda content: content.replace(b'"digest":"sha256:', b'"digest":"sha256:0', 1)),
        "first chunk",
    ),
    "the URI inside": (recompressed(0, replaced(b'"uri":"ctx://sha256:', b'"uri":"ctx://sha256:0')), "first chunk"),
    "two layers swapped": (swap_layers, "differs"),
    "a layer left out": (drop_last, "pack ends too early"),
    "a layer too many": (double_last, "bytes after the end"),
    "bytes after the end": (recompressed(-1, lambda content: content + b"more"), "bytes after the end"),
    "too small a size announced": (unpacked_size(2, "7"), "unpacks to more than announced: expected 7 bytes"),
    "too large a size announced": (unpacked_size(0, "60000000"), "unpacks to less than announced"),
    "a size that fills the memory": (unpacked_size(2, "99999999999"), "no size of a chunk"),
    "a size that is no number": (unpacked_size(2, "-1"), "dev.ctxpack.chunk.bytes: expected a number of bytes"),
    "a size left out": (relabel(2, annotations={}), "dev.ctxpack.chunk.bytes: expected a number of bytes"),
    "another kind of layer": (relabel(2, mediaType="application/x-tar"), "not this contract's pack: layers"),
    "another kind of artifact": (lambda manifest, layers: manifest.update(artifactType="x"), "artifactType"),
    "no layers": (lambda manifest, layers: manifest.update(layers=[]), "not this contract's pack: layers"),
    "a second meaning": (lambda manifest, layers: manifest.update(manifests=[]), "ambiguous manifest"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_pack_with_correct_digests_is_refused(pushed: Pushed, user: Machine, name: str) -> None:
    """Everyone who may push can put anything under a tag. Such a pack contradicts itself; the error says where."""
    forge, message = FORGERIES[name]
    repository = Repository(pushed.repository.server)
    manifest, layers = json.loads(pushed.manifest), list(pushed.artifact.layers)
    forge(manifest, layers)
    for blob in (pushed.repository.blob(manifest["config"]["digest"]), *layers):
        repository.put_blob(digest_of(blob), blob)
    forged = json.dumps(manifest).encode()
    try:
        repository.put_manifest(tag_of(pushed.uri), forged)
        registry = repository.location
    except OSError:  # registry:2 refuses this one; a layout takes everything
        registry = forged_layout(user.home / "layout", pushed.uri, forged, layers, repository)
    must_refuse(user.run("pull", pushed.uri, "-o", "got", registry=registry), message, tag_of(pushed.uri))


def forged_layout(folder: Path, uri: str, manifest: bytes, layers: list[bytes], target: PlainTarget) -> str:
    layout = Layout(folder)
    layout.path("sha256:0").parent.mkdir(parents=True)
    for blob in (manifest, target.blob(json.loads(manifest)["config"]["digest"]), *layers):
        layout.path(digest_of(blob)).write_bytes(blob)
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest_of(manifest),
        "size": len(manifest),
        "annotations": {"org.opencontainers.image.ref.name": tag_of(uri)},
    }
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return layout.location


def test_other_outputs_of_the_same_contract_overwrite_nothing(tmp_path: Path, target: PlainTarget) -> None:
    one, two = (Machine(tmp_path / name, target.location, target.environment) for name in ("one", "two"))
    uri = seed_pack(one)
    one.succeed("push", uri)
    before = target.manifest(tag_of(uri))
    assert seed_pack(two, files=OUTPUTS | {"sub/chunk 01.txt": b"something else\n"}) == uri
    done = two.run("push", uri)
    digests = [json.loads(each.succeed("inspect", uri, "--json"))["outputs"]["digest"] for each in (one, two)]
    assert (done.status, done.stdout) == (8, "")
    assert f"expected outputs {digests[0]}, got {digests[1]}; " in done.stderr
    assert "overwrote nothing" in done.stderr
    assert target.manifest(tag_of(uri)) == before
    assert audit_artifact(target, uri) is not None


def test_other_outputs_of_the_same_contract_replace_nothing_in_the_cache(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    uri = seed_pack(machine)
    digest = json.loads(machine.succeed("inspect", uri, "--json"))["outputs"]["digest"]
    (machine.work / "processed_data" / "empty").write_text("no longer")
    done = machine.run("seed")
    assert (done.status, done.stdout) == (8, "")
    assert f"{uri}: the cache holds other outputs of the same contract: expected outputs {digest}, got " in done.stderr
    assert f"ctxpack rm {uri}" in done.stderr
    assert audit_cache(machine.cache) == [uri]
    assert json.loads(machine.succeed("inspect", uri, "--json"))["outputs"]["digest"] == digest
    assert leftovers(machine.cache) == []


def test_a_push_does_not_replace_the_pack_of_another_contract(tmp_path: Path, pushed: Pushed) -> None:
    repository = Repository(pushed.repository.server)
    machine = Machine(tmp_path / "machine", repository.location)
    uri = seed_pack(machine, dpi=72)
    machine.succeed("push", uri)
    taken = repository.manifest(tag_of(uri)) or b""
    uri = seed_pack(machine, dpi=600)
    repository.put_manifest(tag_of(uri), taken)
    must_refuse(machine.run("push", uri), "not this contract's pack", tag_of(uri))
    assert repository.manifest(tag_of(uri)) == taken


def test_a_pack_damaged_in_the_cache_is_not_pushed(tmp_path: Path, target: PlainTarget) -> None:
    machine = Machine(tmp_path / "machine", target.location, target.environment)
    uri = seed_pack(machine)
    folder = machine.cache / "v1" / "packs" / uri[-64:]
    damaged = folder / "artifacts" / "large.bin"
    damaged.chmod(0o600)
    damaged.write_bytes(flipped(damaged.read_bytes(), -1))
    done = machine.run("push", uri)
    must_refuse(done, os.fspath(damaged), "file differs from its listing", "ctxpack rm")
    assert target.manifest(tag_of(uri)) is None
