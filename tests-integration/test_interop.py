"""A pack is readable without CtxPack: its chunks, in order, are a ``.tar.gz``, and other clients copy it."""

from __future__ import annotations

import gzip
import json
import subprocess
import tarfile
from pathlib import Path

import pytest
from audit import audit_artifact, digest_of
from examples import content_of, seed_pack
from forks import ForkedMachine, Forks
from machine import Machine
from plain_target import PlainTarget, Repository, tag_of

import goprograms
from registry2 import RegistryServer


@pytest.fixture
def archive(tmp_path: Path, target: PlainTarget, maker: Machine) -> Path:
    """The chunks of a pushed pack, in order."""
    uri = seed_pack(maker)
    maker.succeed("push", uri)
    artifact = audit_artifact(target, uri)
    assert artifact is not None
    path = tmp_path / "pack.tar.gz"
    path.write_bytes(artifact.stream)
    return path


def test_export_writes_the_chunks_in_order(tmp_path: Path, maker: Machine, archive: Path) -> None:
    uri = maker.succeed("id").strip()
    maker.succeed("export", uri, "--tar", str(tmp_path / "exported.tar.gz"))
    exported = gzip.decompress((tmp_path / "exported.tar.gz").read_bytes())
    assert exported == gzip.decompress(archive.read_bytes()), "isal now and then compresses the same piece otherwise"


def run(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout


def test_gnu_tar_lists_and_unpacks_a_pack(tmp_path: Path, maker: Machine, archive: Path) -> None:
    names = run("tar", "--list", "--quoting-style=literal", "--file", archive).splitlines()
    made = content_of(maker.work / "processed_data")
    files = [f"artifacts/{name}" for name, content in made.items() if content is not None]
    assert names[:4] == ["manifest.json", "files.jsonl", "inputs/raw_docs.jsonl", "artifacts/"]
    assert sorted(names[4:]) == sorted([*files, "artifacts/nothing/here/"])
    folder = tmp_path / "unpacked"
    folder.mkdir()
    assert run("tar", "--extract", "--file", archive, "--directory", folder) == ""
    assert content_of(folder / "artifacts") == made


def test_python_reads_a_pack_and_its_headers_have_no_times_and_owners(archive: Path, maker: Machine) -> None:
    made = content_of(maker.work / "processed_data")
    with tarfile.open(archive) as opened:
        members = opened.getmembers()
        read = {
            member.name.removeprefix("artifacts/"): (file.read(), bool(member.mode & 0o100))
            for member in members
            if member.name.startswith("artifacts/") and (file := opened.extractfile(member))
        }
    assert read == {name: content for name, content in made.items() if content is not None}
    assert {(one.mtime, one.uid, one.gid, one.uname, one.gname) for one in members} == {(0, 0, 0, "", "")}
    assert {one.mode for one in members} == {0o644, 0o755}
    assert all(one.isfile() or one.isdir() for one in members)


def test_gzip_tar_and_sha256_check_a_pack(archive: Path) -> None:
    """The checksums of gzip, then the digests of files.jsonl."""
    assert run("gzip", "--test", archive) == ""
    listing = run("tar", "--extract", "--to-stdout", "--file", archive, "files.jsonl")
    for line in map(json.loads, listing.splitlines()):
        if "sha256" in line:
            name = f"artifacts/{line['path']}"
            data = subprocess.run(
                ["tar", "--extract", "--to-stdout", "--file", archive, name], capture_output=True, check=True
            ).stdout
            assert digest_of(data) == f"sha256:{line['sha256']}"


def test_a_copy_that_oras_made_is_the_same_pack(tmp_path: Path, registry: RegistryServer, forks: Forks) -> None:
    original, copy = Repository(registry), Repository(registry)
    maker, layout = ForkedMachine(forks, tmp_path / "maker", original.location), tmp_path / "layout"
    uri = seed_pack(maker)
    maker.succeed("push", uri)
    tag, plain = tag_of(uri), ("--from-plain-http", "--to-plain-http")
    oras = goprograms.obtain("oras")
    run(oras, "cp", *plain, f"{original.location}:{tag}", f"{copy.location}:{tag}")
    run(oras, "cp", "--from-plain-http", "--to-oci-layout", f"{original.location}:{tag}", f"{layout}:{tag}")
    for number, location in enumerate((copy.location, f"oci:{layout}")):
        user = ForkedMachine(forks, tmp_path / f"user {number}", location)
        assert content_of(Path(user.succeed("pull", uri))) == content_of(maker.work / "processed_data")


def test_the_digest_of_the_contract_in_the_registry_is_the_uri(target: PlainTarget, maker: Machine) -> None:
    uri = seed_pack(maker)
    maker.succeed("push", uri)
    manifest = json.loads(target.manifest(tag_of(uri)) or b"{}")
    contract = target.blob(manifest["config"]["digest"])
    assert f"ctx://{digest_of(contract)}" == uri
    assert json.loads(contract)["schema"] == "ctxpack/contract/v1"
    assert (manifest["schemaVersion"], manifest["mediaType"]) == (2, "application/vnd.oci.image.manifest.v1+json")
