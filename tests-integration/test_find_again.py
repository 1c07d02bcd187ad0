"""Packs are found again: on a machine that made them, on one that only has the registry, and in a registry's pages."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from forks import ForkedMachine, Forks
from neutral_git import git
from project import Project

from loopback import open_url
from registry2 import RegistryServer

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
PREFIX = "org.opencontainers.image."
DIGITS = slice(13, 25)  # of a URI: those that `ls` shows

TRANSFORM = {"tool": "index", "tool_version": "2", "code_hash": "opaque"}


class Team:
    """Two machines that share a registry. project: on the first; chunks, index: packs that it made and pushed."""

    def __init__(self, folder: Path, server: RegistryServer, repository: str, forks: Forks) -> None:
        self.server, self.repository = server, repository
        location = f"{server.address}/{repository}"
        self.maker, self.user = (ForkedMachine(forks, folder / name, location) for name in ("maker", "user"))
        self.project = Project(self.maker)
        self.project.write({"in/b.txt": "two\n", "in/deep/c.txt": "three\n"})
        self.project.declare(labels={"team": "search", "corpus": "2026"})
        git(self.maker.work, "init", "--quiet")
        git(self.maker.work, "remote", "add", "origin", "https://bot:secret@git.example/team/notes.git?key=secret")
        git(self.maker.work, "add", ".")
        who = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        git(self.maker.work, *who, "commit", "--quiet", "-m", "first")
        self.commit = git(self.maker.work, "rev-parse", "HEAD").strip()
        self.chunks = self.made("run", "--push")
        self.project.declare(
            inputs=[{"name": "chunks", "uri": self.chunks}],
            command=["sh", "-c", "mkdir -p out; echo index > out/r"],
            transforms=[TRANSFORM],
        )
        self.index = self.made("run", "--push")

    def made(self, *arguments: str) -> str:
        """Run a command in the project; return the URI in its document."""
        document: dict[str, Any] = json.loads(self.project.succeed(*arguments, "--json", "-q"))
        return str(document["uri"])

    def annotations(self, uri: str) -> dict[str, str]:
        """Return what the registry shows of a pack."""
        url = f"http://{self.server.address}/v2/{self.repository}/manifests/ctx-{uri[13:]}"
        with open_url(urllib.request.Request(url, headers={"Accept": MANIFEST}), timeout=10) as answer:
            found: dict[str, str] = json.loads(answer.read())["annotations"]
        return {name.removeprefix(PREFIX): value for name, value in found.items()}


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory, registry: RegistryServer, forks: Forks) -> Team:
    return Team(tmp_path_factory.mktemp("team"), registry, "team/found", forks)


def test_a_registry_shows_what_a_pack_is_and_no_secret(team: Team) -> None:
    created = json.loads(team.maker.succeed("inspect", team.chunks, "--json"))["provenance"]["created"]
    assert team.annotations(team.chunks) == {
        "title": "t 1",
        "description": "t 1; corpus=2026, team=search",
        "created": created,
        "source": "https://git.example/team/notes.git",
        "revision": team.commit,
    }
    assert team.annotations(team.index)["title"] == "index 2"
    assert "secret" not in json.dumps(team.annotations(team.index))


def test_whoever_pushes_and_repairs_a_pack_writes_the_same_image_manifest(
    team: Team, tmp_path: Path, forks: Forks
) -> None:
    first = json.loads(team.maker.succeed("push", team.chunks, "--json"))["image"]
    other = ForkedMachine(forks, tmp_path / "other", f"{team.server.address}/{team.repository}")
    other.succeed("pull", team.chunks)
    for arguments in (("push",), ("push", "--repair")):
        again = json.loads(other.succeed(*arguments, team.chunks, "--json", registry=f"{team.server.address}/copy"))
        assert again["image"] == first


def test_what_a_pack_holds_is_listed_from_the_registry_without_its_outputs(
    team: Team, tmp_path: Path, forks: Forks
) -> None:
    stranger = ForkedMachine(forks, tmp_path / "stranger", f"{team.server.address}/{team.repository}")
    assert stranger.succeed("inspect", team.chunks, "--files") == "     4 B  r"
    listed = stranger.succeed("inspect", team.chunks, "--inputs", "docs").splitlines()
    assert [line.split("  ")[-1] for line in listed] == ["a.txt", "b.txt", "deep/c.txt"]
    document = json.loads(stranger.succeed("inspect", team.chunks, "--inputs", "docs", "--json"))
    assert [entry["path"] for entry in document["entries"]] == ["a.txt", "b.txt", "deep/c.txt"]
    done = stranger.run("inspect", team.chunks, "--inputs", "nonsense")
    assert (done.status, done.stdout) == (2, "")
    assert "expected one of docs, got 'nonsense'" in done.stderr
    assert not list(stranger.cache.glob("v1/packs/*"))


def test_packs_are_listed_by_their_last_use_on_each_machine(team: Team) -> None:
    user = team.user
    for uri in (team.chunks, team.index):
        user.succeed("pull", uri)
    used = {uri: user.cache / "v1/used" / uri[13:] for uri in (team.chunks, team.index)}
    os.utime(used[team.chunks], (4e9, 4e9))
    assert user.succeed("ls", "-q").splitlines() == [team.chunks, team.index]
    os.utime(used[team.chunks], (1e9, 1e9))
    os.utime(used[team.index], (4e9, 4e9))
    assert user.succeed("ls", "-q").splitlines() == [team.index, team.chunks]
    user.succeed("pull", team.index, "-o", "index")
    assert used[team.index].stat().st_mtime < 4e9


def test_a_list_fits_80_columns_and_60(team: Team) -> None:
    lines = team.maker.succeed("ls", "--sort", "tool").splitlines()
    assert [line[:12] for line in lines] == [team.index[DIGITS], team.chunks[DIGITS]]
    assert lines[1].endswith("  t      corpus=2026, team=search")
    team.maker.environment["COLUMNS"] = "60"
    narrow = team.maker.succeed("ls", "--sort", "tool").splitlines()
    del team.maker.environment["COLUMNS"]
    assert all(len(line) <= 60 for line in narrow)
    assert narrow[1].endswith("  t      corpus=2026, team=se…")


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), {"chunks", "index"}),
        (("--tool", "index"), {"index"}),
        (("--label", "team"), {"chunks"}),
        (("--label", "team=search", "--label", "corpus=2026"), {"chunks"}),
        (("--label", "team=search", "--tool", "index"), set()),
        (("--input", "chunks"), {"index"}),
        (("--since", "1h"), {"chunks", "index"}),
        (("--since", "2999-01-01"), set()),
        (("--since", "1d", "--input", "docs", "--sort", "size"), {"chunks"}),
    ],
)
def test_packs_are_chosen_by_what_is_known_of_them(team: Team, options: tuple[str, ...], found: set[str]) -> None:
    listed = json.loads(team.maker.succeed("ls", "--json", *options))["packs"]
    assert {pack["uri"] for pack in listed} == {getattr(team, name) for name in found}


def test_the_first_digits_of_a_list_name_the_pack(team: Team) -> None:
    line = team.maker.succeed("ls", "--tool", "index")
    assert json.loads(team.maker.succeed("inspect", line.split()[0], "--json"))["uri"] == team.index


def test_lineage_goes_as_far_as_the_cache_and_on_request_the_registry(team: Team, tmp_path: Path, forks: Forks) -> None:
    stranger = ForkedMachine(forks, tmp_path / "stranger", f"{team.server.address}/{team.repository}")
    done = stranger.run("lineage", team.index)
    assert done.stdout.splitlines()[-1] == f"└── chunks: {team.chunks}, not found"
    assert "--ask-registry looks in the registry, too" in done.stderr
    tree = stranger.succeed("lineage", team.index, "--ask-registry").splitlines()
    assert tree[0].startswith(f"{team.index}  index 2  20")
    assert tree[2].startswith(f"└── chunks: {team.chunks}  t 1  20")
    assert tree[-1].startswith("    └── docs: sha256:")
    document = json.loads(stranger.succeed("lineage", team.index, "--ask-registry", "--json"))
    assert [pack["uri"] for pack in document["packs"]] == [team.index, team.chunks]
    assert document["packs"][0]["inputs"][0]["same"] is True
    assert not list(stranger.cache.glob("v1/packs/*"))


def test_steps_that_keep_contents_are_drawn_in_one_direction(tmp_path: Path, forks: Forks) -> None:
    project = Project(ForkedMachine(forks, tmp_path / "machine"))
    project.declare(command=["sh", "-c", "cp -R in out"])
    first = project.succeed("run", "-q").strip()
    project.declare(
        inputs=[{"name": "docs", "uri": first}],
        command=["sh", "-c", f"cp -R {project.machine.cache}/v1/packs/{first[13:]}/artifacts out; chmod -R +w out"],
        transforms=[TRANSFORM],
    )
    second = project.succeed("run", "-q").strip()
    outputs = {json.loads(project.succeed("inspect", uri, "--json"))["outputs"]["digest"] for uri in (first, second)}
    assert len(outputs) == 1
    tree = project.succeed("lineage", second)
    assert first[DIGITS] in tree
    assert "made from it" not in tree
    edges = [line for line in project.succeed("lineage", second, "--format", "mermaid").splitlines() if "-->" in line]
    assert edges == ['    p1 -->|"docs"| p0', '    i2 -->|"docs"| p1']


def test_what_was_made_from_a_pack_is_found_in_the_cache(team: Team) -> None:
    tree = team.maker.succeed("lineage", team.chunks)
    last = tree.splitlines()[-1]
    assert last.startswith(f"└── {team.index[DIGITS]}  index 2  20")
    assert last.endswith("  (input chunks)")
    mermaid = team.maker.succeed("lineage", team.chunks, "--format", "mermaid")
    assert '    p0 -->|"chunks"| p1' in mermaid.splitlines()
    assert team.maker.succeed("lineage", team.chunks, "--format", "dot").startswith("digraph lineage {\n")
