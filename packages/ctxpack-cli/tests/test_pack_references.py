"""A pack is named by its URI, its first digits, its contract file or a name, wherever a command takes one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_process import write_contract

if TYPE_CHECKING:
    from cli_process import Cli


@pytest.fixture
def uri(cli: Cli, project: Path) -> str:
    """The URI of the project's contract, whose pack is in the cache and in the registry."""
    uri = cli("seed", "-q").out.strip()
    assert cli("push", uri).status == 0
    return uri


@pytest.fixture
def digits(uri: str) -> str:
    return uri.removeprefix("ctx://sha256:")[:12]


def folder_of(cli: Cli, uri: str) -> str:
    return f"{cli.environment['HOME']}/.cache/ctxpack/v1/packs/{uri.removeprefix('ctx://sha256:')}/artifacts"


def test_a_name_is_given_pulled_and_moved(cli: Cli, project: Path, uri: str) -> None:
    hint = "ctxpack: only this machine sees that registry; name one for everybody with --registry or CTXPACK_REGISTRY\n"
    assert cli("tag", uri, "rag-index") == (0, f"Tagged: rag-index is {uri}\n", hint)
    assert cli("tag", "-q", uri, "rag-index") == (0, f"{uri}\n", "")
    assert cli("pull", "rag-index") == (0, f"{folder_of(cli, uri)}\n", f"ctxpack: rag-index is {uri}\n")
    assert cli("inspect", "-q", "rag-index").out.splitlines()[0] == uri
    write_contract(project, params={"size": 2})
    other = cli("seed", "-q").out.strip()
    assert cli("push", "-q", other).status == 0
    moved = cli("tag", other, "rag-index")
    assert moved == (0, f"Tagged: rag-index is {other}\n", f"ctxpack: rag-index was {uri} before\n{hint}")
    assert cli("pull", "-q", "rag-index").out == f"{folder_of(cli, other)}\n"


def test_tag_with_json(cli: Cli, digits: str, uri: str) -> None:
    document = cli("tag", digits, "rag-index", "--json").document
    assert set(document) == {"schema", "uri", "name", "registry", "image", "new"}
    assert (document["schema"], document["uri"], document["name"], document["new"]) == (
        "ctxpack/tag/v1",
        uri,
        "rag-index",
        True,
    )


def test_a_contract_file_is_pulled_and_its_uri_is_said(cli: Cli, project: Path, uri: str) -> None:
    hint = f"ctxpack: contract.json is {uri}\n"
    assert cli("pull", "contract.json") == (0, f"{folder_of(cli, uri)}\n", hint)
    document = cli("pull", "./contract.json", "--json").document
    assert (document["uri"], document["folder"]) == (uri, folder_of(cli, uri))
    assert cli("inspect", "contract.json", "-q").out.splitlines()[0] == uri


def test_settings_beside_a_contract_file_that_is_pulled_count(cli: Cli, project: Path, uri: str) -> None:
    (project / "sub").mkdir()
    (project / "sub/ctxpack.toml").write_text('registry = "oci:./theirs"\n')
    (project / "contract.json").rename(project / "sub/contract.json")
    (project / "raw_docs").rename(project / "sub/raw_docs")
    for name in ("ingest.sh", "tools.lock", "processed_data"):
        (project / name).rename(project / "sub" / name)
    assert cli("rm", uri).status == 0
    missed = cli("pull", "sub/contract.json")
    assert (missed.status, missed.out) == (3, "")
    assert f"oci:{project}/sub/theirs: no such pack: {uri}" in missed.err


def test_first_digits_stand_for_a_cached_pack_in_every_command(cli: Cli, uri: str, digits: str) -> None:
    assert cli("push", digits).out == f"Pushed: {uri}\n"
    assert cli("pull", digits).out == f"{folder_of(cli, uri)}\n"
    assert cli("inspect", digits).out.splitlines()[0] == uri
    assert cli("verify", digits).out.startswith(f"Sound: {uri} ")
    assert cli("export", digits, "--tar", "pack.tar.gz").out == "pack.tar.gz\n"
    assert cli("rm", digits).out == f"Removed: {uri}\n"
    gone = cli("rm", digits)
    assert (gone.status, gone.out) == (3, "")
    assert f"no cached pack begins with {digits}; `ctxpack ls` lists the cache; only a whole URI asks" in gone.err


def test_first_digits_after_registry_are_a_pack(cli: Cli, uri: str, digits: str) -> None:
    assert cli("rm", "--registry", digits).out == f"Removed: {uri}\n"
    assert cli("pull", uri).status == 3


def test_rm_takes_no_digits_of_several_packs_and_removes_nothing_then(cli: Cli, uri: str, digits: str) -> None:
    packs = Path(folder_of(cli, uri)).parent.parent
    twin = packs / (digits + "f" * 52)
    twin.mkdir()
    done = cli("rm", uri, digits)
    assert (done.status, done.out) == (2, "")
    assert f"error: {digits}: 2 cached packs begin with these digits: got ctx://sha256:{digits}" in done.err
    assert done.err.endswith("; write more digits\n")
    assert {path.name for path in packs.iterdir()} == {uri.removeprefix("ctx://sha256:"), twin.name}


@pytest.mark.parametrize("command", ["push", "rm", "verify", "export --tar x.tar.gz", "rm --registry x/y"])
@pytest.mark.parametrize("reference", ["rag-index", "contract.json"])
def test_commands_on_cached_packs_take_neither_names_nor_contract_files(
    cli: Cli, uri: str, command: str, reference: str
) -> None:
    done = cli(*command.split(), reference)
    assert (done.status, done.out) == (2, "")
    assert "cannot stand here: expected a URI or the first digits of a cached one" in done.err
    assert cli("verify", uri).status == 0


@pytest.mark.parametrize("name", ["20240101", "a/b", "contract.json", "ctx:x", "DEADBEEF", "x" * 124, ""])
def test_what_is_read_as_another_kind_is_no_name(cli: Cli, uri: str, name: str) -> None:
    done = cli("tag", uri, name, "--json")
    assert (done.status, done.out) == (2, "")
    error = json.loads(done.err)
    assert (error["code"], error["what"]) == ("E_NAME", "cannot be a name")


def test_a_lock_file_pins_what_a_name_means(cli: Cli, project: Path, uri: str) -> None:
    cli("tag", uri, "rag-index")
    refused = cli("pull", "--locked", "rag-index", "--json")
    assert (refused.status, json.loads(refused.err)["code"]) == (2, "E_NOT_PINNED")
    assert cli("pull", "rag-index", "--lock", "-q") == (0, f"{folder_of(cli, uri)}\n", "")
    lock = project / "ctxpack.lock"
    [pin] = json.loads(lock.read_text())["names"].items()
    assert (pin[0], pin[1]["uri"]) == ("rag-index", uri)
    done = cli("pull", "rag-index", "--locked")
    assert done == (0, f"{folder_of(cli, uri)}\n", f"ctxpack: rag-index is {uri}, as {lock} says\n")
    lock.write_text(lock.read_text().replace(pin[1]["outputs"], "sha256:" + "0" * 64))
    wrong = cli("pull", "rag-index", "--json", "-q")
    assert (wrong.status, wrong.out, json.loads(wrong.err)["code"]) == (5, "", "E_PINNED")
    assert cli("pull", uri).status == 0


def test_a_pinned_hit_loads_as_little_as_any_hit(cli: Cli, uri: str) -> None:
    cli("tag", uri, "rag-index")
    cli("pull", "--lock", "rag-index")
    heavy = "ctxpack_bundle ctxpack_oci msgspec requests tomllib concurrent.futures"
    script = (
        "import os, sys\nfrom ctxpack_cli.main import main\nleave = os._exit\n"
        "def report(status):\n"
        f"    print(status, *(name for name in {heavy.split()} if name in sys.modules), file=sys.stderr)\n"
        "    leave(status)\n"
        "os._exit = report\nmain(['pull', '-q', 'rag-index'])\n"
    )
    assert cli.python("-c", script).err == "0\n"
