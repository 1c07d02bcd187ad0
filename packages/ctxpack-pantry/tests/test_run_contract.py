"""What a run is named after: its command and what that depends on. Where the command runs, and what it finds there."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ctxpack_identity import InvalidInput, uri_digest
from ctxpack_pantry import Pantry
from ctxpack_pantry.results import Ran

if TYPE_CHECKING:
    from pantry_project import Project

MAKE = ["sh", "-c", "mkdir -p out more && cat raw_docs/*.txt >out/joined; echo $0 >>../log", "one"]


@pytest.fixture(autouse=True)
def _with_a_command(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The contract file has the command; the current folder is another one; the outputs are not made yet."""
    shutil.rmtree(project.out)
    project.command = MAKE
    project.write_contract()
    (project.root.parent / "elsewhere").mkdir()
    monkeypatch.chdir(project.root.parent / "elsewhere")


def log(project: Project) -> list[str]:
    """What the runs of MAKE noted."""
    path = project.root.parent / "log"
    return path.read_text().split() if path.exists() else []


def test_the_command_of_the_contract_file_runs_once(pantry: Pantry, project: Project) -> None:
    contract = str(project.contract)
    assert pantry.run(contract) == Ran(project.uri, False, 0)
    assert pantry.run(contract) == Ran(project.uri, True, 0)
    assert (project.out / "joined").read_text() == "alphabeta"
    assert log(project) == ["one"]


def another_argument(project: Project) -> None:
    project.command = [*MAKE[:-1], "other"]
    project.write_contract()


def another_order(project: Project) -> None:
    project.command = [*MAKE, "a", "b"]
    project.write_contract()


def a_variable(project: Project) -> None:
    project.write_contract(variables={"MODEL": "large"})


def a_platform(project: Project) -> None:
    project.write_contract(platform={"arch": "riscv64"})


def another_output_name(project: Project) -> None:
    project.write_contract(outputs=[{"path": "out", "name": "report"}])


def one_output_more(project: Project) -> None:
    project.write_contract(outputs=[{"path": "out"}, {"path": "more"}])


@pytest.mark.parametrize(
    "change", [another_argument, another_order, a_variable, a_platform, another_output_name, one_output_more]
)
def test_what_the_command_depends_on_is_in_the_name(
    pantry: Pantry, project: Project, change: Callable[[Project], None]
) -> None:
    contract = str(project.contract)
    before = pantry.run(contract).uri
    change(project)
    after = pantry.run(contract)
    assert (after.hit, len(log(project))) == (False, 2)
    assert after.uri == project.uri != before
    assert pantry.run(contract).hit


def test_another_value_of_a_variable_that_is_only_named_is_another_name(
    pantry: Pantry, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.command = ["sh", "-c", 'mkdir -p out; printf %s "$MODEL" >out/model; echo ran >>../log']
    project.write_contract(variables=["MODEL"])
    uris = []
    for model in ("small", "large", "small"):
        monkeypatch.setenv("MODEL", model)
        uris.append(pantry.run(str(project.contract)).uri)
        assert (project.out / "model").read_text() == model
    assert uris[0] == uris[2] != uris[1]
    assert len(log(project)) == 2


def test_where_outputs_lie_is_not_in_the_name(pantry: Pantry, project: Project) -> None:
    before = pantry.run(str(project.contract)).uri
    project.write_contract(outputs=[{"path": "made/here", "name": "out"}])
    assert pantry.run(str(project.contract)) == Ran(before, True, 0)
    assert (project.root / "made/here/joined").read_text() == "alphabeta"


def absolute(project: Project) -> str:
    return str(project.contract)


def relative(project: Project) -> str:
    return "../project/contract.json"


def through_a_link(project: Project) -> str:
    Path("link").symlink_to(project.root)
    return "link/contract.json"


def here(project: Project) -> str:
    os.chdir(project.root)
    return "contract.json"


@pytest.mark.parametrize("name", [absolute, relative, through_a_link, here])
def test_the_command_runs_in_the_folder_of_the_contract_file(
    pantry: Pantry, project: Project, name: Callable[[Project], str]
) -> None:
    project.command = ["sh", "-c", "mkdir out && pwd -P >out/folder"]
    project.write_contract()
    assert pantry.run(name(project)) == Ran(project.uri, False, 0)
    assert Path((project.out / "folder").read_text().strip()).samefile(project.root)


@pytest.mark.parametrize("name", [absolute, relative, here])
def test_a_program_with_a_slash_is_relative_to_that_folder_too(
    pantry: Pantry, project: Project, name: Callable[[Project], str]
) -> None:
    (project.root / "run.sh").write_text("#!/bin/sh\nmkdir out && echo made >out/by\n")
    (project.root / "run.sh").chmod(0o755)
    project.command = ["./run.sh"]
    project.write_contract()
    assert pantry.run(name(project)).status == 0
    assert (project.out / "by").read_text() == "made\n"


@pytest.mark.parametrize("cache", ["", "../elsewhere/"], ids=["absolute", "relative"])
def test_the_command_finds_the_canonical_contract_in_a_file(
    pantry: Pantry, project: Project, open_pantry: Callable[..., Pantry], cache: str
) -> None:
    """Params included. Afterwards the file is gone."""
    script = """
import json, os, pathlib, shutil
path = pathlib.Path(os.environ["CTXPACK_CONTRACT"])
out = pathlib.Path("out")
out.mkdir()
shutil.copy(path, out / "contract")
(out / "found").write_text(json.dumps([str(path), os.environ["CTXPACK_URI"]]))
"""
    (project.root / "ingest.py").write_text(script)
    project.command = ["python3", "ingest.py"]
    project.write_contract(params={"size": 0.5, "names": ["ä"]})
    if cache:
        pantry = Pantry(
            pantry.settings._replace(cache=pantry.settings.cache._replace(value="cache")), target=pantry.target
        )
    uri = pantry.run(str(project.contract)).uri
    contract = (project.out / "contract").read_bytes()
    path, found = json.loads((project.out / "found").read_text())
    assert uri_digest(uri) == f"sha256:{hashlib.sha256(contract).hexdigest()}"
    assert json.loads(contract)["transforms"][0]["params"] == {"size": 0.5, "names": ["ä"]}
    assert found == uri
    assert os.path.isabs(path)
    assert not os.path.lexists(path)


def test_what_the_command_writes_to_its_contract_changes_nothing(pantry: Pantry, project: Project) -> None:
    project.command = ["sh", "-c", 'mkdir out; echo "{}" >"$CTXPACK_CONTRACT"; rm "$CTXPACK_CONTRACT"']
    project.write_contract()
    assert pantry.run(str(project.contract)) == Ran(project.uri, False, 0)
    assert pantry.run(str(project.contract)).hit


def test_variables_with_values_are_set_for_the_command_and_others_reach_it_as_they_are(
    pantry: Pantry, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIVEN", "ours")
    monkeypatch.setenv("NOT_LISTED", "reaches it")
    project.command = ["sh", "-c", 'mkdir out; printf "%s|" "$GIVEN" "$EMPTY" "${EMPTY-unset}" "$NOT_LISTED" >out/seen']
    project.write_contract(variables={"GIVEN": "the contract's", "EMPTY": ""})
    pantry.run(str(project.contract))
    assert (project.out / "seen").read_text() == "the contract's|||reaches it|"
    assert os.environ["GIVEN"] == "ours"
    assert "EMPTY" not in os.environ


def test_a_variable_that_is_only_named_and_not_set_is_refused_by_name(
    pantry: Pantry, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODEL", raising=False)
    project.write_contract(variables=["MODEL"])
    with pytest.raises(InvalidInput, match="the environment variable MODEL is not set") as caught:
        pantry.run(str(project.contract))
    assert caught.value.code == "E_UNSET"
    assert log(project) == []


def test_the_same_command_beside_one_in_the_file_is_the_same_work(pantry: Pantry, project: Project) -> None:
    uri = project.uri
    assert pantry.resolve(str(project.contract), MAKE).uri == uri
    assert pantry.run(str(project.contract), MAKE) == Ran(uri, False, 0)
    project.command = None
    project.write_contract()
    assert pantry.resolve(str(project.contract), MAKE).uri == uri
    assert pantry.run(str(project.contract), MAKE) == Ran(uri, True, 0)
    assert pantry.resolve(str(project.contract)).uri != uri


@pytest.mark.parametrize("command", [MAKE[:-1], [*MAKE, ""], ["true"]])
def test_another_command_than_that_of_the_file_is_refused_before_anything_runs(
    pantry: Pantry, project: Project, command: list[str]
) -> None:
    pantry.run(str(project.contract))  # a hit would not run it either
    for verb in (pantry.run, pantry.resolve):
        with pytest.raises(InvalidInput) as caught:
            verb(str(project.contract), command)
        assert caught.value.what == "the contract has another command"
        assert caught.value.where == f"{project.contract}, /command"
        assert (caught.value.expected, caught.value.got) == (shlex.join(MAKE), shlex.join(command))
        assert caught.value.code == "E_COMMAND"
    assert log(project) == ["one"]


def test_without_a_command_nothing_can_run(pantry: Pantry, project: Project) -> None:
    project.command = None
    project.write_contract()
    with pytest.raises(InvalidInput) as caught:
        pantry.run(str(project.contract))
    assert str(caught.value) == (
        f'{project.contract}, /command: no command; say what makes the outputs: "command": ["sh", "run.sh"], or: '
        "ctxpack run -- sh run.sh"
    )
    assert caught.value.code == "E_COMMAND"
    assert pantry.list_packs().packs == ()


@pytest.mark.parametrize(
    ("command", "code"), [(["sh", "a\0b"], "E_NUL"), ([""], "E_EMPTY"), (["sh", "\udcff"], "E_SURROGATE")]
)
def test_a_command_that_no_contract_may_have_is_refused(
    pantry: Pantry, project: Project, command: list[str], code: str
) -> None:
    project.command = None
    project.write_contract()
    for verb in (pantry.resolve, pantry.run):
        with pytest.raises(InvalidInput) as caught:
            verb(str(project.contract), command)
        assert caught.value.code == code


EACH = {"input": "raw_docs", "output": "{stem}.json"}


def test_a_contract_that_goes_over_items_is_named_and_not_run_or_seeded(pantry: Pantry, project: Project) -> None:
    project.command = ["sh", "ingest.sh", "{item}", "{out}"]
    project.write_contract(each=EACH)
    assert json.loads(pantry.resolve(str(project.contract)).canonical)["schema"] == "ctxpack/map/v1"
    project.out.mkdir()

    with pytest.raises(InvalidInput) as caught:
        pantry.run(str(project.contract))
    assert str(caught.value) == (
        f"{project.contract}, /each: `run` makes one result, and this contract goes over the items of an "
        "input; use `ctxpack map`, which makes a result for each item"
    )
    assert caught.value.code == "E_EACH"
    with pytest.raises(InvalidInput) as caught:
        pantry.seed([], str(project.contract))
    assert caught.value.code == "E_EACH"
    assert pantry.list_packs().packs == ()


@pytest.fixture
def canonical(pantry: Pantry, project: Project) -> Path:
    """What `ctxpack id --canonical` prints, in a folder of its own that has the inputs, too."""
    project.command = ["sh", "-c", 'mkdir out && echo "$MODEL" >out/model && cat raw_docs/*.txt >report']
    variables = {"MODEL": "large"}
    project.write_contract(variables=variables, outputs=[{"path": "some/where", "name": "out"}, {"path": "report"}])
    folder = project.root.parent / "copy"
    shutil.copytree(project.inputs, folder / "raw_docs")
    path = folder / "canonical.json"
    path.write_bytes(pantry.resolve(str(project.contract)).canonical)
    return path


def test_a_canonical_contract_is_a_contract_file_with_its_outputs_beside_it(
    pantry: Pantry, project: Project, canonical: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODEL", raising=False)
    assert pantry.run(str(canonical)) == Ran(project.uri, False, 0)
    assert (canonical.parent / "out/model").read_text() == "large\n"
    assert (canonical.parent / "report").read_text() == "alphabeta"
    assert pantry.run(str(canonical)).hit
    assert pantry.run(str(project.contract)).hit
    assert (project.root / "some/where/model").read_text() == "large\n"


def test_outputs_are_seeded_under_a_canonical_contract(pantry: Pantry, project: Project, canonical: Path) -> None:
    (canonical.parent / "out").mkdir()
    (canonical.parent / "report").write_text("by hand")
    seeded = pantry.seed([], str(canonical))
    assert seeded.uri == project.uri
    assert [(root.name, root.type) for root in seeded.manifest.outputs.roots] == [("out", "folder"), ("report", "file")]


def change(project: Project, command: str, **members: Any) -> InvalidInput:
    """Return the error of a run of this command, which changes what it is made of."""
    project.command = ["sh", "-c", f"mkdir out; {command}"]
    project.write_contract(**members)
    pantry = Pantry(project.settings)
    with pytest.raises(InvalidInput) as caught:
        pantry.run(str(project.contract))
    assert caught.value.code == "E_INPUT_CHANGED"
    assert pantry.list_packs().packs == ()
    return caught.value


ITSELF = "let the command write elsewhere: a notebook that runs in place, for example, changes itself"
AGAIN = "run it again when nothing writes to it"


def test_an_input_that_changed_while_the_command_ran_is_named(project: Project) -> None:
    inputs = [{"name": name, "path": f"raw_docs/{name}.txt"} for name in ("a", "b")]
    error = change(project, "echo more >>raw_docs/b.txt", inputs=inputs)
    assert (error.where, error.fix) == ("input b", AGAIN)


def test_code_that_changed_itself_is_named_with_what_to_do(project: Project) -> None:
    """As a notebook that runs in place does."""
    error = change(project, "echo '# ran' >>ingest.sh")
    assert error.what == "changed while the command ran, so nothing was seeded"
    assert (error.where, error.fix) == ("code of transform 0 (cat)", ITSELF)


def test_all_that_changed_is_named(project: Project) -> None:
    (project.root / "lock").write_text("1")
    two = [
        {"tool": "a", "tool_version": "1", "code": {"path": "ingest.sh"}, "environment": {"path": "lock"}},
        {"tool": "b", "tool_version": "1", "code": {"path": "raw_docs/a.txt"}, "environment": {"path": "lock"}},
    ]
    error = change(project, "echo 2 >>lock; echo 2 >>raw_docs/a.txt", transforms=two)
    assert error.where == (
        "input raw_docs, environment of transform 0 (a), code of transform 1 (b), environment of transform 1 (b)"
    )
    assert error.fix == ITSELF
    error = change(project, "echo 2 >>lock", transforms=two)
    assert (error.where, error.fix) == ("environment of transform 0 (a), environment of transform 1 (b)", AGAIN)


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "members",
    [
        {"params": {"many": [0] * 140_000}},
        {"params": {"deep": nested(60)}},
        {"labels": {f"label {number}": "" for number in range(140_000)}},
    ],
    ids=["members", "levels", "labels"],
)
def test_a_contract_that_no_manifest_could_repeat_is_named_and_refused_before_anything_runs(
    pantry: Pantry, project: Project, members: dict[str, Any]
) -> None:
    """A pack manifest has the limits of a contract, and repeats it one level deeper."""
    project.write_contract(**members)
    contract = str(project.contract)
    pantry.resolve(contract)
    for verb in (pantry.run, lambda path: pantry.seed({"out": path}, path)):
        with pytest.raises(InvalidInput, match="a pack of this contract would break a limit"):
            verb(contract)
    assert log(project) == []
    assert pantry.list_packs().packs == ()
