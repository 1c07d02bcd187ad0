"""Whatever a registry serves instead of a pack is detected, named, and not kept."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from audit import Artifact, audit_artifact, audit_cache, digest_of, leftovers
from examples import OUTPUTS, seed_pack
from faults import cut_short, flipped, flipping, where, wrong_length
from forks import ForkedMachine, Forks
from machine import Finished, Machine
from plain_target import Layout, PlainTarget, Repository, tag_of
from relay import Answer, Forward, Relay, Request, Rule

from ctxpack_cache import Cache
from ctxpack_identity import parse_uri, uri_digest
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
        by_name = {"first layer": layers[0], "table": layers[1], "later layer": layers[2], "last layer": layers[-1]}
        if part == "manifest":
            return digest_of(self.manifest)
        return by_name[part]["digest"]

    def path(self, part: str) -> str:
        """Return the end of the path at which a pull asks a registry for a part."""
        return tag_of(self.uri) if part == "manifest" else self.digest(part)


# Not the config blob, the contract: a pull does not need it, because the pack manifest repeats it.
PARTS = ("manifest", "first layer", "table", "later layer", "last layer")


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory, registry: RegistryServer, forks: Forks) -> Pushed:
    folder = tmp_path_factory.mktemp("pushed")
    repository, layout = Repository(registry), folder / "layout"
    machine = ForkedMachine(forks, folder / "maker", repository.location)
    other, uri = seed_pack(machine, dpi=72), seed_pack(machine)
    for each in (uri, other):
        machine.succeed("push", each)
        machine.succeed("push", each, registry=f"oci:{layout}")
    artifact, manifest = audit_artifact(repository, uri), repository.manifest(tag_of(uri))
    assert artifact
    assert manifest
    return Pushed(repository, layout, uri, other, artifact, manifest)


@pytest.fixture
def user(tmp_path: Path, forks: Forks) -> Iterator[Machine]:
    """A machine that must have kept nothing of what it got when the test ends."""
    machine = ForkedMachine(forks, tmp_path / "user")
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
    must_refuse(user.run("pull", pushed.uri, registry=layout.location), digest[:19], "missing", "--repair")


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


Fields = tuple[bytes, int, int, int, int]
"""Of a record: SHA-256 of the piece, sizes of piece and chunk, layer, offset."""


class Forgery:
    """A pack that is made anew, with correct digests, from other pieces, records, or members of the image manifest."""

    def __init__(self, pieces: list[bytes], manifest: dict[str, Any]) -> None:
        self.manifest = manifest
        self.first, *pieces = pieces
        chunks = [gzip.compress(piece, mtime=0) for piece in pieces]
        self.data = b"".join(chunks)
        ends = list(accumulate(map(len, chunks)))
        self.records: list[Fields] = [
            (hashlib.sha256(piece).digest(), len(piece), len(chunk), 2, end - len(chunk))
            for piece, chunk, end in zip(pieces, chunks, ends, strict=True)
        ]
        self.layers = 3

    def change(self, number: int, **fields: Any) -> None:
        """Change fields of a record."""
        names = ("sha256", "size", "chunk_size", "layer", "offset")
        self.records[number] = tuple((dict(zip(names, self.records[number], strict=True)) | fields).values())  # type: ignore[assignment]

    def blobs(self) -> list[bytes]:
        """Return the layers, and describe them in the manifest."""
        table = struct.pack(">8sII", b"CTXTABLE", 1, len(self.records))
        for sha256, size, chunk_size, layer, offset in self.records:
            table += struct.pack(">32sIIHHI", sha256, size, chunk_size, layer, offset >> 32, offset & 0xFFFFFFFF)
        blobs = [gzip.compress(self.first, mtime=0), table, *[self.data] * (self.layers - 2)][: self.layers]
        kinds = ["layer.v1.tar+gzip", "table.v1", *["layer.v1.tar+gzip"] * len(blobs)]
        self.manifest["layers"] = [
            {"mediaType": f"application/vnd.ctxpack.{kind}", "digest": digest_of(blob), "size": len(blob)}
            for kind, blob in zip(kinds, blobs, strict=False)
        ]
        return blobs


class Forge(NamedTuple):
    """What changes a pack: its pieces, then what was made of them, then the image manifest."""

    pieces: Callable[[list[bytes]], object] = lambda pieces: None
    made: Callable[[Forgery], object] = lambda made: None
    manifest: Callable[[dict[str, Any]], object] = lambda manifest: None


def replaced(number: int, old: bytes, new: bytes) -> Forge:
    def change(pieces: list[bytes]) -> None:
        assert old in pieces[number]
        pieces[number] = pieces[number].replace(old, new, 1)

    return Forge(pieces=change)


def swapped(pieces: list[bytes]) -> None:
    pieces[3], pieces[4] = pieces[4], pieces[3]


def made(change: Callable[[Forgery], object]) -> Forge:
    return Forge(made=change)


def relabelled(number: int) -> Forge:
    return Forge(manifest=lambda manifest: manifest["layers"][number].update(mediaType="application/x-tar"))


FORGERIES: dict[str, tuple[Forge, str]] = {
    "a file's content": (replaced(-1, b"one\n", b"two\n"), "content differs from its digest"),
    "a byte of the large file": (
        Forge(pieces=lambda pieces: pieces.__setitem__(9, flipped(pieces[9], 70))),
        "content differs from its digest",
    ),
    "a name": (replaced(-1, b"tool.sh\0", b"../evil\0"), "archive differs from its listing"),
    "a mode": (replaced(-1, b"0000755\0", b"0004755\0"), "archive differs from its listing"),
    "a link": (replaced(-1, b"\0 0\0", b"\0 2\0"), "archive differs from its listing"),
    "a listing": (replaced(1, b'"mode":"0644"', b'"mode":"0755"'), "files.jsonl"),
    "the outputs' digest": (replaced(0, b'"digest":"sha256:', b'"digest":"sha256:0'), "first layer"),
    "the URI inside": (replaced(0, b'"uri":"ctx://sha256:', b'"uri":"ctx://sha256:0'), "first layer"),
    "two pieces swapped": (Forge(pieces=swapped), "differs"),
    "a piece left out": (Forge(pieces=lambda pieces: pieces.pop()), "pack ends too early"),
    "a piece too many": (Forge(pieces=lambda pieces: pieces.append(pieces[-1])), "bytes after the end"),
    "bytes after the end": (Forge(pieces=lambda pieces: pieces.append(b"more")), "bytes after the end"),
    "a large first piece": (Forge(pieces=lambda pieces: pieces.__setitem__(0, bytes(40 << 20))), "first layer"),
    "records left out": (made(lambda made: made.records.clear()), "pack ends too early"),
    "records in another order": (made(lambda made: made.records.reverse()), "differs from its listing"),
    "another digest of a piece": (made(lambda made: made.change(2, sha256=bytes(32))), "piece differs from the table"),
    "too small a size": (made(lambda made: made.change(2, size=7)), "unpacks to more than announced"),
    "too large a size": (made(lambda made: made.change(2, size=1 << 20)), "unpacks to less than announced"),
    "a size that fills the memory": (made(lambda made: made.change(2, size=1 << 31)), "record 2: size of the piece"),
    "a piece of nothing": (made(lambda made: made.change(2, size=0)), "record 2: size of the piece"),
    "a chunk of nothing": (made(lambda made: made.change(2, chunk_size=0)), "record 2: size of the chunk"),
    "a large chunk": (made(lambda made: made.change(2, chunk_size=2 << 20)), "record 2: size of the chunk"),
    "an offset beyond the layer": (made(lambda made: made.change(2, offset=1 << 47)), "record 2: end of the chunk"),
    "a layer beyond the last": (made(lambda made: made.change(2, layer=3)), "record 2: layer"),
    "the table as a layer": (made(lambda made: made.change(2, layer=1)), "record 2: layer"),
    "chunks that overlap": (made(lambda made: made.change(2, offset=5)), "chunks of layer 2 overlap"),
    "a chunk in the middle of one": (
        made(lambda made: made.records.__setitem__(slice(2, None), [(bytes(32), 50, 50, 2, 400_000)])),
        "not a plain gzip member",
    ),
    "no table": (made(lambda made: setattr(made, "layers", 1)), "not this contract's pack: layers[1]"),
    "too many layers": (made(lambda made: setattr(made, "layers", 481)), "expected at most 480, got 481"),
    "another kind of layer": (relabelled(2), "not this contract's pack: layers"),
    "another kind of table": (relabelled(1), "not this contract's pack: layers[1]"),
    "another kind of artifact": (
        Forge(manifest=lambda manifest: manifest.update(artifactType="x")),
        "not this contract's pack: artifactType",
    ),
    "no layers": (Forge(manifest=lambda manifest: manifest.update(layers=[])), "not this contract's pack: layers"),
    "a second meaning": (Forge(manifest=lambda manifest: manifest.update(manifests=[])), "ambiguous manifest"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_pack_with_correct_digests_is_refused(pushed: Pushed, user: Machine, name: str) -> None:
    """Everyone who may push can put anything under a tag. Such a pack contradicts itself; the error says where."""
    forge, message = FORGERIES[name]
    repository = Repository(pushed.repository.server)
    pieces = list(pushed.artifact.pieces)
    forge.pieces(pieces)
    forgery = Forgery(pieces, json.loads(pushed.manifest))
    forge.made(forgery)
    layers = forgery.blobs()
    forge.manifest(forgery.manifest)
    manifest = forgery.manifest
    for blob in {pushed.repository.blob(manifest["config"]["digest"]), *layers}:
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


def test_other_outputs_of_the_same_contract_overwrite_nothing(
    tmp_path: Path, target: PlainTarget, forks: Forks
) -> None:
    one, two = (ForkedMachine(forks, tmp_path / name, target.location, target.environment) for name in ("one", "two"))
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


def test_other_outputs_of_the_same_contract_replace_nothing_in_the_cache(tmp_path: Path, forks: Forks) -> None:
    machine = ForkedMachine(forks, tmp_path / "machine")
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


def test_a_push_does_not_replace_the_pack_of_another_contract(tmp_path: Path, pushed: Pushed, forks: Forks) -> None:
    repository = Repository(pushed.repository.server)
    machine = ForkedMachine(forks, tmp_path / "machine", repository.location)
    uri = seed_pack(machine, dpi=72)
    machine.succeed("push", uri)
    taken = repository.manifest(tag_of(uri)) or b""
    uri = seed_pack(machine, dpi=600)
    repository.put_manifest(tag_of(uri), taken)
    must_refuse(machine.run("push", uri), "not this contract's pack", tag_of(uri))
    assert repository.manifest(tag_of(uri)) == taken


def test_a_pack_damaged_in_the_cache_is_not_pushed(tmp_path: Path, target: PlainTarget, forks: Forks) -> None:
    machine = ForkedMachine(forks, tmp_path / "machine", target.location, target.environment)
    uri = seed_pack(machine)
    folder = machine.cache / "v1" / "packs" / uri[-64:]
    damaged = folder / "artifacts" / "large.bin"
    damaged.chmod(0o600)
    damaged.write_bytes(flipped(damaged.read_bytes(), -1))
    done = machine.run("push", uri)
    must_refuse(done, os.fspath(damaged), "content differs from its digest", "make it again")
    assert target.manifest(tag_of(uri)) is None


def test_a_note_in_the_cache_by_another_user_makes_no_changed_pack_whole(pushed: Pushed, user: Machine) -> None:
    """Who may write a shared cache changes a pack, and writes the print that goes with it."""
    folder = Path(user.succeed("pull", pushed.uri, registry=pushed.repository.location)).parent
    cache, key = Cache(user.cache), uri_digest(parse_uri(pushed.uri))
    file = next(path for path in folder.rglob("artifacts/**/*") if path.is_file() and path.stat().st_size)
    file.chmod(0o644)
    file.write_bytes(flipped(file.read_bytes(), 0))
    file.chmod(0o444)
    cache.confirm(key, cache.fingerprint_of(key))
    note = user.cache / "v1" / "prints" / key.removeprefix("sha256:")
    if os.geteuid() == 0:
        os.chown(note, 65534, 65534)
    else:
        note.chmod(0o664)
    done = user.run("pull", pushed.uri, registry=pushed.repository.location)
    assert done.status == 0
    assert "the cached pack is damaged, and was set aside in " in done.stderr
    user.succeed("verify", pushed.uri)
    user.succeed("rm", pushed.uri)
