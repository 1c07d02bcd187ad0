"""``ctxpack explain``: what it prints, with and without --json, and how it ends."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_process import write_contract

if TYPE_CHECKING:
    from cli_process import Cli

NOWHERE = "ctx://sha256:" + "0" * 64


@pytest.fixture
def uri(cli: Cli, project: Path) -> str:
    """The URI of a cached pack of the project, of which then the input changes, and a param is added."""
    uri = cli("seed", "-q").out.strip()
    (project / "raw_docs" / "a.txt").write_text("alpha, changed")
    write_contract(project, params={"dpi": 300})
    return uri


FACTS = ["input raw_docs: a.txt changed, 5 B → 14 B", "tr: /params/dpi none → 300"]


def test_why_a_contract_is_a_miss(cli: Cli, uri: str) -> None:
    for arguments in ([], ["contract.json"]):
        done = cli("explain", *arguments)
        assert (done.status, done.err) == (0, "")
        old, new, empty, *facts = done.out.splitlines()
        assert old.startswith(f"old  {uri}  in ")
        assert old.endswith(", the nearest pack")
        assert (new, empty, facts) == (f"new  {cli('id').out.strip()}  of contract.json", "", FACTS)


def test_two_sides_and_json(cli: Cli, uri: str) -> None:
    assert cli("explain", uri, "contract.json").out.splitlines()[3:] == FACTS
    assert cli("explain", uri.removeprefix("ctx://sha256:")[:12], "./contract.json").out.splitlines()[3:] == FACTS
    document = cli("explain", "contract.json", uri, "--json").document
    assert document["schema"] == "ctxpack/explain/v1"
    assert document["new"]["uri"] == uri
    assert document["transforms"][0]["changes"] == [{"at": "/params/dpi", "old": 300}]


def test_all_shows_all(cli: Cli, project: Path, uri: str) -> None:
    for number in range(30):
        (project / "raw_docs" / f"n{number}").write_text(f"{number}")
    assert cli("explain").out.count(" added, ") == 21
    assert "input raw_docs: and 10 more added, 30 together, 50 B\n" in cli("explain").out
    assert cli("explain", "--all").out.count(" added, ") == 30
    assert len(cli("explain", "--all", "--json").document["inputs"][0]["files"]["added"]["files"]) == 30


def test_a_command_beside_the_contract(cli: Cli, project: Path, uri: str) -> None:
    write_contract(project, command=None)
    (project / "raw_docs" / "a.txt").write_text("alpha")
    assert cli("explain", uri, "contract.json", "--", "sh", "x.sh").out.splitlines()[3:] == [
        '/command ["sh", "ingest.sh"] → ["sh", "x.sh"]'
    ]
    assert cli("explain", "--", "sh", "ingest.sh").out.splitlines()[3].startswith("nothing differs; its pack is in ")


def test_errors(cli: Cli, project: Path) -> None:
    nothing = cli("explain")
    assert (nothing.status, nothing.out) == (3, "")
    assert "no pack is near: looked at 0 cached packs of the same kin" in nothing.err
    assert cli("explain", NOWHERE, "contract.json").status == 3
    assert cli("explain", "missing.json").status == 2
    assert cli("explain", "ctx://nonsense", "contract.json").status == 2
    assert cli("explain", "a", "b", "c").status == 2
