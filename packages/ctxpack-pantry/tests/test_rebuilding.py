"""A recipe is run again in a fresh folder, and what it makes is compared with the pack, exactly."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pantry_project import contents, state

from ctxpack_bundle import encode_pack_manifest, read_pack_manifest
from ctxpack_identity import CtxUri, InvalidInput, digest_of, uri_digest
from ctxpack_pantry import Pantry
from ctxpack_pantry.made import Made
from ctxpack_pantry.results import VerifiedPack
from ctxpack_pantry.state import state_folder

if TYPE_CHECKING:
    from pantry_project import Project

    from ctxpack_pantry.rebuilding import Compared, Rebuilt


@pytest.fixture(autouse=True)
def _in_the_project(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.root)
    shutil.rmtree(project.out)


class Recipes:
    """Contracts of the project, which are run, and then made again."""

    def __init__(self, pantry: Pantry, project: Project) -> None:
        self.pantry, self.project = pantry, project

    def run(self, script: str, **members: Any) -> CtxUri:
        """Write the contract whose code is script; run it."""
        self.project.code.write_text(script)
        self.project.write_contract(**members)
        ran = self.pantry.run("contract.json")
        assert (ran.hit, ran.status) == (False, 0)
        return ran.uri

    def verify(self, uri: CtxUri, **options: Any) -> VerifiedPack:
        [pack] = self.pantry.verify(uri, rebuild="contract.json", **options).packs
        assert pack.damage == ""
        return pack

    def rebuild(self, uri: CtxUri, **options: Any) -> Rebuilt:
        rebuilt = self.verify(uri, **options).rebuilt
        assert rebuilt is not None
        return rebuilt

    def compare(self, uri: CtxUri, **options: Any) -> Compared:
        """Return what differs."""
        compared = self.rebuild(uri, **options).compared
        assert compared is not None
        assert not compared.equal
        return compared

    def refuse(self, uri: CtxUri, **options: Any) -> InvalidInput:
        with pytest.raises(InvalidInput) as caught:
            self.verify(uri, **options)
        return caught.value

    def kind(self, uri: CtxUri) -> str | None:
        """Return how this user made the cached pack, as it is noted."""
        folder = self.pantry.cache.find(uri_digest(uri))
        assert folder is not None
        manifest = digest_of(encode_pack_manifest(read_pack_manifest(folder)))
        return Made(state_folder(os.environ)).kind_of(uri, manifest)


@pytest.fixture
def recipes(pantry: Pantry, project: Project) -> Recipes:
    return Recipes(pantry, project)


JOIN = "mkdir out && cat raw_docs/*.txt >out/joined && cp $0 out/tool && chmod +x out/tool\n"
RANDOM = "mkdir out && cat raw_docs/*.txt >out/joined && od -An -N16 -tx1 /dev/urandom >out/noise\n"


def test_the_same_outputs_are_equal_and_the_pack_is_ones_own(
    recipes: Recipes, open_pantry: Callable[..., Pantry], leftovers: Callable[[], list[str]]
) -> None:
    uri = recipes.run(JOIN)
    shutil.rmtree(state_folder(os.environ))
    assert recipes.kind(uri) is None
    rebuilt = recipes.rebuild(uri)
    assert (rebuilt.status, rebuilt.equal, rebuilt.not_copied) == (0, True, ())
    assert recipes.kind(uri) == "rebuild"
    assert leftovers() == []


def test_what_was_run_here_stays_noted_as_run(recipes: Recipes) -> None:
    uri = recipes.run(JOIN)
    assert recipes.rebuild(uri).equal
    assert recipes.kind(uri) == "run"


def test_the_users_project_is_not_touched(recipes: Recipes, project: Project) -> None:
    uri = recipes.run(JOIN)
    (project.out / "joined").write_text("my own notes")
    (project.root / "notes").write_text("mine")
    before = {path: state(path) for path in [project.root, *project.root.rglob("*")]}
    assert recipes.rebuild(uri).equal
    assert {path: state(path) for path in [project.root, *project.root.rglob("*")]} == before


def test_a_recipe_that_is_not_deterministic_is_not_noted(recipes: Recipes) -> None:
    uri = recipes.run(RANDOM)
    shutil.rmtree(state_folder(os.environ))
    rebuilt = recipes.rebuild(uri)
    assert not rebuilt.equal
    assert rebuilt.compared is not None
    assert rebuilt.compared.changes is not None
    assert [file.path for file in rebuilt.compared.changes.changed.files] == ["noise"]
    assert rebuilt.compared.changes.number == 1
    assert recipes.kind(uri) is None
    assert rebuilt.as_json()["files"]["changed"]["count"] == 1


def test_what_the_contract_does_not_name_is_not_there(recipes: Recipes, project: Project) -> None:
    (project.root / "extra").write_text("undeclared")
    uri = recipes.run("mkdir out && ls >out/joined && [ -e extra ] && cat extra >out/more || :\n")
    changes = recipes.compare(uri).changes
    assert changes is not None
    assert [file.path for file in changes.removed.files] == ["more"]
    assert [file.path for file in changes.changed.files] == ["joined"]


def test_a_command_that_fails_there_says_its_status(recipes: Recipes, project: Project) -> None:
    (project.root / "extra").write_text("undeclared")
    uri = recipes.run("mkdir out && cat extra >out/joined || exit 7\n")
    rebuilt = recipes.rebuild(uri)
    assert (rebuilt.status, rebuilt.equal, rebuilt.compared) == (7, False, None)
    assert rebuilt.as_json() == {"status": 7, "equal": False, "outputs": None, "not_copied": []}


def test_a_program_that_is_not_there_is_an_error_that_says_why(recipes: Recipes, project: Project) -> None:
    tool = project.root / "tool.sh"
    tool.write_text("#!/bin/sh\nmkdir out && echo 1 >out/joined\n")
    tool.chmod(0o755)
    project.command = ["./tool.sh"]
    error = recipes.refuse(recipes.run("# not used"))
    assert error.code == "E_COMMAND"
    assert "the fresh folder has only what the contract names" in error.fix


def test_a_command_that_leaves_the_fresh_folder_makes_no_output_there(recipes: Recipes, project: Project) -> None:
    uri = recipes.run(f"cd {project.root} && mkdir -p out && echo 1 >out/joined\n")
    assert recipes.refuse(uri).code == "E_OUTPUT_MISSING"


def test_executable_bits_are_compared(recipes: Recipes, project: Project) -> None:
    uri = recipes.run("mkdir out && echo 1 >out/joined && [ -e extra ] || chmod +x out/joined\n")
    (project.root / "extra").touch()
    shutil.rmtree(project.out)
    recipes.pantry.remove(uri)
    uri = recipes.run("mkdir out && echo 1 >out/joined && [ -e extra ] || chmod +x out/joined\n")
    compared = recipes.compare(uri)
    assert compared.modes == ("joined",)
    assert compared.changes is not None
    assert compared.changes.number == 0
    assert not compared.is_near


def test_roots_are_compared(recipes: Recipes, project: Project) -> None:
    (project.root / "extra").touch()
    uri = recipes.run("[ -e extra ] && echo 1 >out || { mkdir out && echo 1 >out/out; }\n")
    compared = recipes.compare(uri)
    assert compared.roots == (("out", "folder"),)
    assert recipes.rebuild(uri).as_json()["roots"] == [{"name": "out", "type": "folder"}]


def test_modes_of_inputs_and_empty_folders_are_as_in_the_project(recipes: Recipes, project: Project) -> None:
    (project.inputs / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (project.inputs / "run.sh").chmod(0o755)
    (project.inputs / "a.txt").chmod(0o400)
    uri = recipes.run("mkdir out && find raw_docs | sort >out/list && raw_docs/run.sh >out/ran\n")
    assert recipes.rebuild(uri).equal


def test_another_contract_file_is_refused_and_explain_is_named(recipes: Recipes, project: Project) -> None:
    uri = recipes.run(JOIN)
    project.write_contract(params={"more": 1})
    error = recipes.refuse(uri)
    assert (error.code, error.expected, error.got) == ("E_REBUILD", uri, project.uri)
    assert f"`ctxpack explain contract.json {uri}`" in error.fix


def test_a_command_beside_the_contract_file(recipes: Recipes, project: Project) -> None:
    project.command = None
    project.write_contract()
    command = ["sh", "-c", "mkdir out && echo 1 >out/joined"]
    uri = recipes.pantry.run("contract.json", command).uri
    assert recipes.rebuild(uri, command=command).equal
    error = recipes.refuse(uri)
    assert error.code == "E_REBUILD"
    undeclared = recipes.pantry.run("contract.json", command, argv=False).uri
    assert recipes.refuse(undeclared).what == "no command"
    assert recipes.rebuild(undeclared, command=command).equal
    assert not recipes.rebuild(undeclared, command=["sh", "-c", "mkdir out && echo 2 >out/joined"]).equal


def test_a_recipe_is_that_of_one_pack(recipes: Recipes) -> None:
    uri = recipes.run(JOIN)
    for uris, options in (((uri, uri), {"rebuild": "contract.json"}), ((uri,), {"command": ["sh"]})):
        with pytest.raises(InvalidInput) as caught:
            recipes.pantry.verify(*uris, **options)
        assert caught.value.code == "E_USAGE"


def test_a_function_is_refused(recipes: Recipes, project: Project) -> None:
    project.command = ["python", "pipeline:main"]
    project.write_contract()
    project.make_outputs()
    uri = recipes.pantry.seed([], "contract.json").uri
    assert "function" in recipes.refuse(uri).what


def test_a_seeded_pack_can_be_made_again(recipes: Recipes, project: Project) -> None:
    project.out.mkdir()
    (project.out / "joined").write_text("alphabeta")
    project.code.write_text("mkdir out && cat raw_docs/*.txt >out/joined\n")
    project.write_contract()
    uri = recipes.pantry.seed([], "contract.json").uri
    assert recipes.rebuild(uri).equal
    assert recipes.kind(uri) == "rebuild"


def test_tolerance_reports_and_notes_nothing(recipes: Recipes) -> None:
    script = """mkdir out
printf '{"loss": 0.5%06d}\\n' "$(($(od -An -N2 -tu2 /dev/urandom) + 1))" >out/metrics.json; echo same >out/same
"""
    uri = recipes.run(script)
    shutil.rmtree(state_folder(os.environ))
    compared = recipes.compare(uri, tolerance=["0.1"])
    assert compared.is_near
    assert [near.path for near in compared.near] == ["metrics.json"]
    assert 0 < compared.largest < 0.1
    assert compared.changes is not None
    assert compared.changes.number == 0
    assert recipes.kind(uri) is None
    assert not recipes.compare(uri).is_near
    far = recipes.compare(uri, tolerance=["out=1e-12"])
    assert not far.is_near
    assert far.why_not.startswith("metrics.json: the number '0.5")
    tolerance = recipes.rebuild(uri, tolerance=["0.1"]).as_json()["tolerance"]
    assert (tolerance["within"], tolerance["count"], tolerance["why_not"]) == (True, 1, None)


def test_other_formats_are_not_near(recipes: Recipes) -> None:
    compared = recipes.compare(recipes.run(RANDOM), tolerance=["1"])
    assert not compared.is_near
    assert compared.why_not == "noise: only .json, .jsonl, .csv, .npy can be compared with a tolerance"


def test_a_tolerance_of_an_output_that_there_is_not(recipes: Recipes) -> None:
    assert recipes.refuse(recipes.run(JOIN), tolerance=["metrics=1"]).code == "E_USAGE"


MAP: dict[str, Any] = {
    "each": {"input": "raw_docs", "output": "{stem}.out"},
    "command": ["sh", "ingest.sh", "{item}", "{out}"],
}
UPPER = 'echo ran >>"$LOG"; tr a-z A-Z <"$1" >"$2"\n'


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many commands of items ran since it was asked last."""
    path = tmp_path / "log"
    monkeypatch.setenv("LOG", str(path))

    def count() -> int:
        found = path.read_text().count("ran") if path.exists() else 0
        path.unlink(missing_ok=True)
        return found

    return count


def test_of_a_map_all_items_are_made_again(recipes: Recipes, project: Project, log: Callable[[], int]) -> None:
    shutil.rmtree(project.inputs / "empty")
    project.code.write_text(UPPER)
    project.write_contract(**MAP)
    uri = recipes.pantry.map("contract.json").uri
    assert log() == 2
    rebuilt = recipes.rebuild(uri)
    assert rebuilt.equal
    assert log() == 2
    assert contents(project.out) == {"a.out": "ALPHA", "b.out": "BETA"}


def test_a_map_with_batches(recipes: Recipes, project: Project) -> None:
    shutil.rmtree(project.inputs / "empty")
    project.code.write_text(
        """while IFS= read -r line; do
  item=$(printf %s "$line" | sed 's/.*"item":"\\([^"]*\\)".*/\\1/')
  out=$(printf %s "$line" | sed 's/.*"out":"\\([^"]*\\)".*/\\1/')
  tr a-z A-Z <"$item" >"$out"
done <"$1"
"""
    )
    project.write_contract(**MAP | {"command": ["sh", "ingest.sh", "{batch}"]})
    uri = recipes.pantry.map("contract.json").uri
    assert recipes.rebuild(uri).equal


def test_items_of_a_map_that_fail_there(
    recipes: Recipes, project: Project, notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(project.inputs / "empty")
    (project.root / "extra").touch()
    project.code.write_text('[ -e extra ] && tr a-z A-Z <"$1" >"$2"\n')
    project.write_contract(**MAP)
    uri = recipes.pantry.map("contract.json").uri
    assert recipes.rebuild(uri).status == 1
    assert "failed: a.txt: its command failed with status 1" in notices


def test_a_map_over_a_pack(recipes: Recipes, project: Project, log: Callable[[], int]) -> None:
    upstream = recipes.run("mkdir out && cp raw_docs/*.txt out\n")
    shutil.rmtree(project.out)
    project.code.write_text(UPPER)
    project.write_contract(inputs=[{"name": "raw_docs", "uri": upstream}], **MAP)
    uri = recipes.pantry.map("contract.json").uri
    log()
    rebuilt = recipes.rebuild(uri)
    assert rebuilt.equal
    assert rebuilt.not_copied == (f"input raw_docs: {upstream}",)
    assert log() == 2


def test_packs_and_digests_as_inputs_are_as_they_were(recipes: Recipes, project: Project) -> None:
    upstream = recipes.run("mkdir out && cp raw_docs/*.txt out\n")
    shutil.rmtree(project.out)
    inputs = [{"name": "raw_docs", "uri": upstream}, {"name": "model", "digest": digest_of(b"model")}]
    uri = recipes.run("mkdir out && echo 1 >out/x\n", inputs=inputs)
    rebuilt = recipes.rebuild(uri)
    assert rebuilt.equal
    assert rebuilt.not_copied == (f"input raw_docs: {upstream}", f"input model: {digest_of(b'model')}")


def test_an_absolute_input_is_read_where_it_is(recipes: Recipes, project: Project, tmp_path: Path) -> None:
    far = tmp_path / "far"
    far.mkdir()
    (far / "a.txt").write_text("far")
    uri = recipes.run(f"mkdir out && cat {far}/a.txt >out/joined\n", inputs=[{"name": "raw_docs", "path": str(far)}])
    rebuilt = recipes.rebuild(uri)
    assert rebuilt.equal
    assert rebuilt.not_copied == (f"input raw_docs: {far}",)


def test_an_input_in_place_that_changes_meanwhile(recipes: Recipes, tmp_path: Path) -> None:
    far = tmp_path / "far"
    far.mkdir()
    (far / "a.txt").write_text("far")
    marker = tmp_path / "marker"
    uri = recipes.run(
        f"[ -e {marker} ] && echo more >>{far}/a.txt; mkdir out && echo 1 >out/joined\n",
        inputs=[{"name": "raw_docs", "path": str(far)}],
    )
    marker.touch()
    assert recipes.refuse(uri).code == "E_INPUT_CHANGED"


def test_an_absolute_output_is_refused(recipes: Recipes, project: Project) -> None:
    uri = recipes.run(f"mkdir {project.out} && echo 1 >{project.out}/x\n", outputs=[{"path": str(project.out)}])
    error = recipes.refuse(uri)
    assert error.code == "E_REBUILD"
    assert "absolute" in error.what


def test_the_command_finds_its_contract_and_works_in_the_copy(recipes: Recipes, project: Project) -> None:
    script = """mkdir out && cat "$CTXPACK_CONTRACT" >out/contract && echo "$CTXPACK_URI" >out/uri
[ "$(pwd -P)" = "$(cd "$(printenv PWD)" && pwd -P)" ] || exit 9
"""
    uri = recipes.run(script)
    rebuilt = recipes.rebuild(uri)
    assert rebuilt.equal, rebuilt


def test_variables_have_the_values_of_the_contract(recipes: Recipes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGUAGE", "de")
    uri = recipes.run("mkdir out && echo $LANGUAGE $FIXED >out/x\n", variables={"LANGUAGE": "de", "FIXED": "1"})
    monkeypatch.setenv("LANGUAGE", "fr")
    assert recipes.rebuild(uri).equal


def test_a_damaged_pack_is_not_made_again(recipes: Recipes, log: Callable[[], int]) -> None:
    uri = recipes.run(f"echo ran >>$LOG\n{JOIN}")
    assert log() == 1
    folder = recipes.pantry.cache.find(uri_digest(uri))
    path = Path(str(folder), "artifacts/joined")
    path.chmod(0o600)
    path.write_text("other")
    [pack] = recipes.pantry.verify(uri, rebuild="contract.json").packs
    assert pack.damage
    assert pack.rebuilt is None
    assert log() == 0


def test_a_contract_as_a_mapping(recipes: Recipes, project: Project) -> None:
    uri = recipes.run(JOIN)
    [pack] = recipes.pantry.verify(uri, rebuild=json.loads(project.contract.read_text())).packs
    assert pack.rebuilt is not None
    assert pack.rebuilt.equal
