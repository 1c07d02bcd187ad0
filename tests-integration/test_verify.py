"""`verify` as its users have it: bytes, who vouches for them, and recipes that are run again in a fresh folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from forks import ForkedMachine, Forks
from jsonschema import Draft202012Validator
from machine import Finished, Machine
from mapproject import COMMAND, EACH, ITEM
from plain_target import Layout, PlainTarget, Repository, open_target, tag_of
from project import Project

from ctxpack_identity import Digest, digest_of, parse_uri
from ctxpack_oci import Layout as OciLayout
from ctxpack_oci import parse_image_manifest
from ctxpack_pantry import schema
from ctxpack_pantry.claims import publish_claim
from ctxpack_trust import Claim, OutputRoot, parse_private_key, sign_claim
from registry2 import RegistryServer

PASSWORD = "correct horse"
CREATED = "2026-01-01T00:00:00Z"
TARGETS = ("registry", "layout")
VALID = Draft202012Validator(schema("verify"))
RANDOM = "mkdir -p out; cat in/a.txt > out/r; od -An -N16 -tx1 /dev/urandom > out/noise\n"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the keys of two owners: ci.key, ci.pub, second.key, second.pub."""
    folder = tmp_path_factory.mktemp("keys")
    machine = Machine(folder / "machine", environment={"CTXPACK_KEY_PASSWORD": PASSWORD})
    for name in ("ci", "second"):
        machine.succeed("keygen", folder / name)
    return folder


class Team:
    """ci, which runs recipes, signs and pushes; second, with the same project; and laptops, which only use packs."""

    def __init__(self, target: PlainTarget, keys: Path, forks: Forks, folder: Path) -> None:
        self.target, self.keys, self._forks, self._folder = target, keys, forks, folder
        self.ci = self.project("ci")
        # What no other test has, since all repositories of a registry share their blobs.
        self.ci.write({"in/a.txt": f"{os.urandom(20).hex()}\n"})

    def machine(self, name: str) -> Machine:
        environment = self.target.environment | {"CTXPACK_KEY_PASSWORD": PASSWORD, "CTXPACK_SETTLE": "0"}
        return ForkedMachine(self._forks, self._folder / name, self.target.location, environment)

    def project(self, name: str) -> Project:
        return Project(self.machine(name))

    def second(self, of: Project | None = None) -> Project:
        """Return the project on another machine, as a clone has it: without outputs, and what else is not declared."""
        project = self.project("second")
        shutil.rmtree(project.folder)
        ignored = shutil.ignore_patterns("out", "ran", "extra", "salt")
        shutil.copytree((of or self.ci).folder, project.folder, ignore=ignored)
        return project

    def laptop(self, *owners: str, name: str = "laptop") -> Machine:
        """Return a machine that uses only packs that all these owners signed."""
        machine = self.machine(name)
        for owner in owners:
            machine.succeed("trust", "add", self.keys / f"{owner}.pub", "--owner", owner)
        machine.succeed("trust", "mode", "signed", "--threshold", str(len(owners)))
        return machine

    def publish(self, project: Project | None = None, verb: str = "run") -> str:
        """Run a project, ci's by default, and push what it made, signed; return the URI."""
        project = project or self.ci
        uri = project.succeed(verb).rpartition(" ")[2]
        project.succeed("push", uri, *self.signing("ci"))
        return uri

    def signing(self, owner: str) -> list[str]:
        return ["--sign", "--key", str(self.keys / f"{owner}.key")]

    def damage(self, uri: str, layer: int) -> None:
        """Flip a bit of a layer in the target."""
        manifest = json.loads(self.target.manifest(tag_of(uri)) or b"")
        path = self._file(manifest["layers"][layer]["digest"])
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.chmod(0o644)
        path.write_bytes(data)

    def _file(self, digest: str) -> Path:
        if isinstance(self.target, Layout):
            return self.target.path(digest)
        assert isinstance(self.target, Repository)
        hexadecimal = digest.removeprefix("sha256:")
        blobs = self.target.server.storage / "docker" / "registry" / "v2" / "blobs" / "sha256"
        return blobs / hexadecimal[:2] / hexadecimal / "data"


@pytest.fixture(params=TARGETS)
def team(request: pytest.FixtureRequest, keys: Path, forks: Forks, tmp_path: Path) -> Team:
    return Team(open_target(request.param, request), keys, forks, tmp_path)


@pytest.fixture
def near_team(request: pytest.FixtureRequest, keys: Path, forks: Forks, tmp_path: Path) -> Team:
    """With a layout only, for what does not depend on the target."""
    return Team(open_target("layout", request), keys, forks, tmp_path)


def verify(machine: Machine | Project, *arguments: str | Path, status: int = 0) -> tuple[dict[str, Any], Finished]:
    """Run ``ctxpack verify --json`` to this status; return what it says of one pack, and how it ended."""
    words = ("verify", "--json", *arguments)
    done = machine.run(*words) if isinstance(machine, Machine) else machine.call(*words)
    assert done.status == status, done.stderr
    document = json.loads(done.stdout)
    VALID.validate(document)
    [pack] = document["packs"]
    return pack, done


def cached(machine: Machine) -> list[str]:
    return [pack["uri"] for pack in json.loads(machine.succeed("ls", "--json"))["packs"]]


def votes(pack: dict[str, Any]) -> dict[str, str]:
    """Return the kinds of claims that count, by the names of their signers."""
    return {claim["name"]: claim["kind"] for claim in pack["verdict"]["claims"] if claim["counts"]}


def unfinished(machine: Machine) -> list[Path]:
    return [*(machine.cache / "v1" / "staging").glob("*")]


def test_a_second_owner_who_makes_it_again_meets_a_threshold_of_two(team: Team) -> None:
    uri = team.publish()
    laptop = team.laptop("ci", "second")
    pack, done = verify(laptop, uri, status=7)
    assert (votes(pack), pack["verdict"]["admitted"], pack["cached"]) == ({"ci": "run"}, False, False)
    assert "2 owners" in done.stderr
    assert laptop.run("pull", uri).status == 7

    second = team.second()
    pack, _ = verify(second, uri, "--rebuild", *team.signing("second"))
    assert (pack["rebuild"]["equal"], pack["rebuild"]["status"], pack["signed"]["kind"]) == (True, 0, "rebuild")
    assert not (second.folder / "out").exists()
    assert not (second.folder / "ran").exists()
    assert unfinished(second.machine) == []

    pack, _ = verify(laptop, uri)
    assert (votes(pack), pack["verdict"]["admitted"]) == ({"ci": "run", "second": "rebuild"}, True)
    assert cached(laptop) == []
    said = laptop.succeed("verify", uri)
    assert said.startswith(f"Sound: {uri} (1 file, 41 B), in ")
    assert "nothing of it was placed or cached\n" in said
    assert "signed by ci, second" in said
    laptop.succeed("pull", uri)
    pack, _ = verify(laptop, uri)
    assert (pack["cached"], votes(pack)) == (True, {"ci": "run", "second": "rebuild"})


def test_what_is_not_deterministic_is_never_signed(near_team: Team) -> None:
    near_team.ci.write({"src/make.sh": RANDOM})
    uri = near_team.publish()
    second = near_team.second()
    pack, done = verify(second, uri, "--rebuild", *near_team.signing("second"), status=8)
    files = pack["rebuild"]["files"]
    assert [file["path"] for file in files["changed"]["files"]] == ["noise"]
    assert (files["changed"]["count"], files["added"]["count"], files["removed"]["count"]) == (1, 0, 0)
    assert (pack["rebuild"]["equal"], "signed" in pack) == (False, False)
    error = json.loads(done.stderr.splitlines()[-1])
    assert (error["code"], error["exit"]) == ("E_NOT_REBUILT", 8)
    assert votes(verify(near_team.laptop("ci"), uri)[0]) == {"ci": "run"}
    refused = second.call("sign", uri, "--key", near_team.keys / "second.key")
    assert (refused.status, "was not made here" in refused.stderr) == (7, True), refused.stderr
    said = second.call("verify", uri, "--rebuild")
    assert "  made again: noise changed, " in said.stdout
    assert said.status == 8


def test_of_a_map_all_items_are_made_again(near_team: Team) -> None:
    near_team.ci.write({"in/b.txt": "two\n", "src/item.sh": ITEM})
    near_team.ci.declare(command=COMMAND, each=EACH)
    uri = near_team.publish(verb="map")
    second = near_team.second()
    log = second.folder / "ran"
    pack, _ = verify(second, uri, "--rebuild", *near_team.signing("second"))
    assert (pack["rebuild"]["equal"], pack["signed"]["kind"]) == (True, "rebuild")
    assert not log.exists()
    second.succeed("map")
    second.write({"in/b.txt": "three\n"})
    second.succeed("map", "--push")  # of which one item is in the cached pack
    uri = second.uri()
    ran = log.read_text().splitlines()
    pack, done = verify(second, uri, "--rebuild")
    assert pack["rebuild"]["equal"]
    assert log.read_text().splitlines() == ran
    assert done.stderr.count("weak point") == 0


def test_a_tampered_chunk_is_found_before_anything_runs(team: Team) -> None:
    uri = team.publish()
    team.damage(uri, -1)
    second, laptop = team.second(), team.laptop("ci")
    pack, done = verify(laptop, uri, status=5)
    assert (pack["cached"], "rebuild" in pack) == (False, False)
    assert pack["damage"]
    assert "push --repair" in done.stderr
    assert cached(laptop) == []
    for arguments in ([], team.signing("second")):
        pack, _ = verify(second, uri, "--rebuild", *arguments, status=5)
        assert not {"rebuild", "signed"} & {*pack}
    team.ci.succeed("push", "--repair", uri, *team.signing("ci"))
    assert verify(laptop, uri)[0]["verdict"]["admitted"]


def test_a_cached_pack_is_judged_by_the_claims_that_came_with_it(near_team: Team) -> None:
    """Also when the registry is away: it is not asked."""
    uri = near_team.publish()
    laptop = near_team.laptop("ci")
    laptop.succeed("pull", uri)
    assert isinstance(near_team.target, Layout)
    near_team.target.folder.rename(near_team.target.folder.with_name("away"))
    pack, _ = verify(laptop, uri)
    assert (votes(pack), pack["cached"], pack["verdict"]["admitted"]) == ({"ci": "run"}, True, True)
    near_team.target.folder.with_name("away").rename(near_team.target.folder)
    laptop.succeed("trust", "deny", "ci")
    assert not verify(laptop, uri, status=7)[0]["verdict"]["admitted"]
    laptop.succeed("trust", "deny", "ci", "--undo")
    folder = Path(laptop.succeed("pull", uri))
    (folder / "r").chmod(0o600)
    (folder / "r").write_text("won\n")
    pack, done = verify(laptop, uri, status=5)
    assert "damaged, and set aside" in done.stderr
    assert verify(laptop, uri)[0]["cached"] is False


def test_a_registry_that_is_down(request: pytest.FixtureRequest, keys: Path, forks: Forks, tmp_path: Path) -> None:
    with RegistryServer(tmp_path / "server") as server:
        team = Team(Repository(server), keys, forks, tmp_path)
        uri = team.publish()
        laptop = team.laptop("ci")
        laptop.succeed("pull", uri)
    pack, _ = verify(laptop, uri)
    assert (votes(pack), pack["cached"]) == ({"ci": "run"}, True)


def test_claims_that_came_later_admit_a_cached_pack(near_team: Team) -> None:
    uri = near_team.publish()
    laptop = near_team.machine("laptop")
    laptop.succeed("pull", uri)
    for owner in ("ci", "second"):
        laptop.succeed("trust", "add", near_team.keys / f"{owner}.pub", "--owner", owner)
    laptop.succeed("trust", "mode", "signed", "--threshold", "2")
    verify(laptop, uri, status=7)
    verify(near_team.second(), uri, "--rebuild", *near_team.signing("second"))
    pack, _ = verify(laptop, uri)
    assert (pack["cached"], votes(pack)) == (True, {"ci": "run", "second": "rebuild"})


def test_a_trusted_claim_that_says_something_else_is_an_error(near_team: Team) -> None:
    uri = near_team.publish()
    laptop = near_team.laptop("ci")
    laptop.succeed("trust", "mode", "accept-any")
    publish(near_team, uri, "second", outputs=digest_of(b"others"))
    pack, _ = verify(laptop, uri)
    assert pack["contradictions"] == []
    laptop.succeed("trust", "add", near_team.keys / "second.pub", "--owner", "second")
    pack, done = verify(laptop, uri, status=5)
    [line] = pack["contradictions"]
    assert line.startswith("the claim of second (")
    assert digest_of(b"others") in line
    assert json.loads(done.stderr.splitlines()[-1])["code"] == "E_CLAIM"
    assert votes(pack) == {"ci": "run"}
    laptop.succeed("trust", "deny", "second")
    assert verify(laptop, uri)[0]["contradictions"] == []


def publish(team: Team, uri: str, owner: str, *, outputs: Digest) -> None:
    """Publish a claim by an owner that the pack has these outputs."""
    assert isinstance(team.target, Layout)
    with_password = (team.keys / f"{owner}.key").read_bytes(), PASSWORD.encode()
    key = parse_private_key(*with_password, where=owner)
    layout = OciLayout(team.target.folder)
    found = layout.fetch_tag(tag_of(uri))
    assert found is not None
    parse_image_manifest(found.data, found.descriptor)
    roots = (OutputRoot("out", "folder"),)
    claim = Claim("run", parse_uri(uri), found.descriptor.digest, outputs, roots, digest_of(b"manifest.json"))
    publish_claim(layout, found.descriptor, sign_claim(claim, key), key.public, created=CREATED)


@pytest.mark.parametrize(
    ("script", "status", "shown"),
    [
        ("mkdir -p out; cat extra > out/r || exit 4\n", 4, "failed with status 4"),
        ("mkdir -p out; cat in/a.txt extra > out/r 2>/dev/null || :\n", 8, "made again: r changed"),
        ("mkdir -p out; cat in/a.txt > out/r; [ ! -e extra ] || cp extra out/more\n", 8, "made again: more removed"),
        ("mkdir -p out; cat in/a.txt > out/r; cp -r . ../out2; [ -e extra ] || rm -r out\n", 2, "did not make"),
    ],
    ids=["fails", "another file", "a file less", "no output"],
)
def test_an_undeclared_input_shows(near_team: Team, script: str, status: int, shown: str) -> None:
    """It is not in the fresh folder, on whatever machine: here on that of the pack's maker."""
    ci = near_team.ci
    ci.write({"src/make.sh": script, "extra": "undeclared\n"})
    uri = ci.succeed("run").rpartition(" ")[2]
    done = ci.call("verify", uri, "--rebuild")
    assert done.status == status
    assert shown in done.stdout + done.stderr
    assert (ci.folder / "extra").read_text() == "undeclared\n"


def test_the_users_project_stays_as_it_is(near_team: Team) -> None:
    ci = near_team.ci
    uri = ci.succeed("run").rpartition(" ")[2]
    ci.write({"out/r": "my own notes\n", "out/more": "mine\n"})
    before = looks(ci.folder)
    assert verify(ci, uri, "--rebuild")[0]["rebuild"]["equal"]
    assert looks(ci.folder) == before


def looks(folder: Path) -> dict[Path, tuple[int, ...]]:
    """Return what changes when something in folder is replaced, written or touched."""
    seen = ((path, path.lstat()) for path in [folder, *folder.rglob("*")])
    return {path: (one.st_ino, one.st_mode, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for path, one in seen}


@pytest.mark.parametrize("password", [None, "wrong"])
def test_the_key_is_opened_before_the_command_runs(near_team: Team, tmp_path: Path, password: str | None) -> None:
    marker = tmp_path / "marker"
    ci = near_team.ci
    ci.write({"src/make.sh": f"touch {marker}; mkdir -p out; cat in/a.txt > out/r\n"})
    uri = near_team.publish()
    marker.unlink()
    del ci.machine.environment["CTXPACK_KEY_PASSWORD"]
    if password:
        ci.machine.environment["CTXPACK_KEY_PASSWORD"] = password
    done = ci.call("verify", uri, "--rebuild", *near_team.signing("second"))
    assert (done.status, marker.exists()) == (2, False), done.stderr
    assert "password" in done.stderr


def test_what_is_not_in_the_registry_cannot_be_signed(near_team: Team, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    near_team.ci.write({"src/make.sh": f"touch {marker}; mkdir -p out; cat in/a.txt > out/r\n"})
    uri = near_team.ci.succeed("run").rpartition(" ")[2]
    marker.unlink()
    done = near_team.ci.call("verify", uri, "--rebuild", *near_team.signing("second"))
    assert (done.status, marker.exists()) == (3, False), done.stderr


METRICS = """mkdir -p out
printf '{"loss": 0.5%06d, "name": "a"}\\n' "$(($(od -An -N2 -tu2 /dev/urandom) + 1))" > out/metrics.json
echo same > out/same.txt
"""


def test_a_tolerance_reports_and_signs_nothing(near_team: Team) -> None:
    ci = near_team.ci
    ci.write({"src/make.sh": METRICS})
    uri = near_team.publish()
    pack, _ = verify(ci, uri, "--rebuild", "--tolerance", "0.1")
    tolerance = pack["rebuild"]["tolerance"]
    assert (pack["rebuild"]["equal"], tolerance["within"], tolerance["count"]) == (False, True, 1)
    [near] = tolerance["files"]
    assert (near["path"], near["numbers"]) == ("metrics.json", 1)
    assert 0 < near["largest"] == tolerance["largest"] < 0.1
    said = ci.succeed("verify", uri, "--rebuild", "--tolerance", "out=0.1")
    assert "within the tolerance: metrics.json: 1 number differs, by 0.0" in said
    pack, _ = verify(ci, uri, "--rebuild", "--tolerance", "1e-12", status=8)
    assert pack["rebuild"]["tolerance"]["why_not"].startswith("metrics.json: the number '0.5")
    second = near_team.second()
    verify(second, uri, "--rebuild", "--tolerance", "0.1")
    assert second.call("sign", uri, "--key", near_team.keys / "second.key").status == 7
    pack, _ = verify(ci, uri, "--rebuild", *near_team.signing("ci"), status=8)
    assert (pack["found_in"], pack["cached"], "signed" in pack) == (near_team.target.location, False, False)
    for wrong in (["--tolerance", "0.1", *near_team.signing("second")], ["--tolerance", "other=1"], ["--tolerance=x"]):
        assert second.call("verify", uri, "--rebuild", *wrong).status == 2


def test_another_contract_is_refused_and_explain_is_named(near_team: Team) -> None:
    ci = near_team.ci
    uri = near_team.publish()
    ci.write({"in/a.txt": "two\n"})
    done = ci.call("verify", uri, "--rebuild")
    assert done.status == 2
    assert f"`ctxpack explain contract.json {uri}`" in done.stderr
    assert "input docs: a.txt changed" in ci.succeed("explain", "contract.json", uri)


def test_a_command_beside_the_contract_file_and_another_name_of_it(near_team: Team) -> None:
    ci = near_team.ci
    ci.declare(command=None)
    (ci.folder / "contract.json").rename(ci.folder / "recipe.json")
    command = ["--", "sh", "src/make.sh"]
    uri = ci.succeed("run", "--contract", "recipe.json", *command).rpartition(" ")[2]
    assert verify(ci, uri, "--rebuild", "--contract", "recipe.json", *command)[0]["rebuild"]["equal"]
    assert ci.call("verify", uri, "--rebuild", *command).status == 2


@pytest.mark.parametrize(
    "words",
    [
        "--rebuild",
        "--rebuild --all",
        "URI --sign",
        "URI --key x",
        "URI --tolerance 1",
        "URI -- sh x",
        "URI URI --rebuild --key x",
        "URI OTHER --rebuild",
        "--all --skip-cache",
        "URI --rebuild --key x",
    ],
)
def test_options_that_do_not_go_together(near_team: Team, words: str) -> None:
    uris = {"URI": f"ctx://sha256:{'0' * 64}", "OTHER": f"ctx://sha256:{'1' * 64}"}
    done = near_team.ci.call("verify", *(uris.get(word, word) for word in words.split()))
    assert (done.status, done.stdout) == (2, ""), done.stderr


def test_ctrl_c_ends_the_command_and_leaves_nothing(near_team: Team, tmp_path: Path) -> None:
    ci, marker = near_team.ci, tmp_path / "marker"
    script = f"mkdir -p out; cat in/a.txt > out/r; [ ! -e {marker}.wait ] || {{ echo $$ > {marker}; exec sleep 60; }}\n"
    ci.write({"src/make.sh": script})
    uri = ci.succeed("run").rpartition(" ")[2]
    Path(f"{marker}.wait").touch()
    started = ci.machine.start("verify", uri, "--rebuild", folder=ci.folder)
    pid = _line_of(marker)
    done = started.end_with(signal.SIGINT)
    assert done.status == 130, done
    assert unfinished(ci.machine) == []
    assert not os.path.exists(f"/proc/{pid}")


def _line_of(path: Path) -> str:
    """Return the line in a file, as soon as it is there and whole."""
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return path.read_text().strip()
