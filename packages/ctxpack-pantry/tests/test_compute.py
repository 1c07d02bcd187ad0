"""A Python function makes the outputs of a contract, in place of a command, and all the rest is as for `run`."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pantry_project import contents

from ctxpack_identity import Conflict, InvalidInput
from ctxpack_pantry import Pantry, load_contract_file
from ctxpack_pantry.results import Ran

if TYPE_CHECKING:
    from pantry_project import Project

ran: list[Any] = []
behaviour: list[Callable[..., object]] = []


def make(place: Path) -> None:
    """Make the output of the project's contract."""
    ran.append(place)
    place.mkdir()
    (place / "joined").write_text("".join(path.read_text() for path in sorted(Path("raw_docs").glob("*.txt"))))


def misbehave(place: Any) -> None:
    behaviour[0](place)


def make_nothing() -> None:
    ran.append("called")


def make_file_below_two() -> None:
    Path("out").mkdir()
    Path("log").write_text("x")


def need_more(place: Path, *, dpi: int) -> None: ...


def with_default(place: Path, dpi: int = 3) -> None:
    ran.append(dpi)
    place.mkdir()


COMMAND = ["python", f"{__name__}:make"]


@pytest.fixture(autouse=True)
def _in_the_project(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The contract file has no command, and its outputs are not made yet."""
    monkeypatch.chdir(project.root)
    shutil.rmtree(project.out)
    project.command = None
    project.write_contract()
    ran.clear()


def document(project: Project) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(project.contract.read_text())
    return value


def test_on_a_miss_the_function_is_called_and_its_outputs_are_seeded(pantry: Pantry, project: Project) -> None:
    computed = pantry.compute("contract.json", make)
    assert computed == Ran(project.uri_of([*COMMAND]), False, 0)
    assert ran == [project.out]
    [pack] = pantry.list_packs().packs
    assert contents(Path(pack.folder, "artifacts")) == {"joined": "alphabeta"}
    assert contents(project.out) == {"joined": "alphabeta"}
    assert pack.manifest is not None
    assert pack.manifest.provenance["run"]["command"] == COMMAND
    assert 0 <= pack.manifest.provenance["run"]["seconds"] < 30


def test_on_a_hit_the_outputs_are_placed_and_nothing_is_called(
    pantry: Pantry, open_pantry: Callable[..., Pantry], project: Project
) -> None:
    pantry.compute("contract.json", make, push=True)
    for where in (pantry, open_pantry("elsewhere")):
        shutil.rmtree(project.out)
        assert where.compute("contract.json", make).hit
        assert contents(project.out) == {"joined": "alphabeta"}
    assert len(ran) == 1


def test_recompute_calls_it_again(pantry: Pantry, project: Project) -> None:
    pantry.compute("contract.json", make)
    assert not pantry.compute("contract.json", make, recompute=True).hit
    assert len(ran) == 2


@pytest.mark.parametrize("form", ["text", "path", "mapping", "loaded"])
def test_a_contract_is_a_path_a_mapping_or_a_loaded_file_everywhere(
    pantry: Pantry, project: Project, form: str
) -> None:
    forms: dict[str, Any] = {
        "text": "contract.json",
        "path": project.contract,
        "mapping": document(project),
        "loaded": load_contract_file("contract.json"),
    }
    contract = forms[form]
    uri = project.uri_of(COMMAND)
    assert pantry.resolve(contract, COMMAND).uri == uri
    assert pantry.compute(contract, make).uri == uri
    script = ["sh", "-c", "mkdir out; echo x > out/x"]
    assert pantry.run(contract, script).uri == project.uri_of(script)
    assert pantry.seed([], contract).uri == project.uri


def test_the_paths_of_a_mapping_are_relative_to_the_current_folder(
    pantry: Pantry, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = document(project)
    uri = pantry.resolve(value).uri
    monkeypatch.chdir(project.inputs)
    value["inputs"][0]["path"] = "."
    value["transforms"][0]["code"]["path"] = "../ingest.sh"
    value["outputs"][0]["path"] = "../out"
    resolved = pantry.resolve(value)
    assert resolved.uri == uri
    assert "contract-file" not in {point.code for point in resolved.weak}
    monkeypatch.chdir(project.root)
    value["inputs"][0]["path"], value["transforms"][0]["code"]["path"] = "raw_docs", "ingest.sh"
    value["outputs"][0]["path"] = "out"
    pantry.compute(value, make)
    assert ran == [project.out]


def test_of_several_outputs_the_function_gets_the_places_by_name(pantry: Pantry, project: Project) -> None:
    outputs = [{"path": "./out"}, {"name": "log", "path": "deep/log.txt"}]
    project.write_contract(outputs=outputs)

    def work(places: dict[str, Path]) -> None:
        ran.append(places)
        places["out"].mkdir()
        places["log"].write_text("done")

    behaviour[:] = [work]
    pantry.compute("contract.json", misbehave)
    assert ran == [{"log": project.root / "deep/log.txt", "out": project.root / "out"}]
    assert (project.root / "deep/log.txt").read_text() == "done"


def test_a_function_without_parameters_is_called_so_and_defaults_stay(pantry: Pantry, project: Project) -> None:
    pantry.compute("contract.json", with_default)
    assert ran == [3]
    with pytest.raises(InvalidInput, match="the function did not make this output, so nothing was seeded"):
        pantry.compute("contract.json", make_nothing, force=True)
    assert ran == [3, "called"]


def test_a_contract_file_with_a_command_keeps_it(pantry: Pantry, project: Project) -> None:
    project.command = ["sh", "ingest.sh"]
    project.write_contract()
    assert pantry.compute("contract.json", make).uri == project.uri
    shutil.rmtree(project.out)
    assert pantry.run("contract.json").hit


def test_an_exception_passes_through_and_what_was_there_comes_back(
    pantry: Pantry, project: Project, leftovers: Callable[[], list[str]], notices: list[str]
) -> None:
    pantry.compute("contract.json", make)
    project.write_contract(params={"n": 1})
    error = ZeroDivisionError("mine")

    def fail(place: Path) -> None:
        assert not place.exists()
        raise error

    behaviour[:] = [fail]
    with pytest.raises(ZeroDivisionError) as caught:
        pantry.compute("contract.json", misbehave)
    assert caught.value is error
    assert contents(project.out) == {"joined": "alphabeta"}
    assert len(pantry.list_packs().packs) == 1
    assert leftovers() == []


def test_what_a_failed_function_left_is_deleted_by_the_next_call(
    pantry: Pantry, project: Project, notices: list[str]
) -> None:
    def fail(place: Path) -> None:
        place.mkdir()
        (place / "half").write_text("half")
        raise KeyboardInterrupt

    behaviour[:] = [fail]
    with pytest.raises(KeyboardInterrupt):
        pantry.compute("contract.json", misbehave)
    assert contents(project.out) == {"half": "half"}
    behaviour[:] = [make]
    pantry.compute("contract.json", misbehave)
    assert contents(project.out) == {"joined": "alphabeta"}
    assert any("what a failed run of this contract left is deleted" in notice for notice in notices)


def test_what_cannot_be_made_again_is_kept_unless_forced(pantry: Pantry, project: Project) -> None:
    project.make_outputs("my own")
    with pytest.raises(InvalidInput, match=r"\./out"):
        pantry.compute("contract.json", make)
    assert ran == []
    assert not pantry.compute("contract.json", make, force=True).hit
    assert contents(project.out) == {"joined": "alphabeta"}


def test_an_input_that_changes_meanwhile_is_noticed(pantry: Pantry, project: Project) -> None:
    def change(place: Path) -> None:
        make(place)
        (project.inputs / "c.txt").write_text("gamma")

    behaviour[:] = [change]
    with pytest.raises(InvalidInput, match="input raw_docs: changed while the command ran, so nothing was seeded"):
        pantry.compute("contract.json", misbehave)
    assert pantry.list_packs().packs == ()


def test_other_outputs_are_a_conflict_where_the_caller_says_so(
    pantry: Pantry, open_pantry: Callable[..., Pantry], project: Project
) -> None:
    pantry.compute("contract.json", make, push=True)
    project.inputs.joinpath("a.txt").write_text("alpha")
    elsewhere = open_pantry("elsewhere")

    def other(place: Path) -> None:
        place.mkdir()
        (place / "joined").write_text("other")

    document_of_make = {**document(project), "command": COMMAND}
    behaviour[:] = [other]
    shutil.rmtree(project.out)
    assert not elsewhere.compute(document_of_make, misbehave, offline=True).hit
    with pytest.raises(Conflict):
        elsewhere.compute(document_of_make, misbehave, push=True, on_conflict="fail")
    assert elsewhere.compute(document_of_make, misbehave, push=True).adopted
    assert contents(project.out) == {"joined": "alphabeta"}


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda place: None, "a lambda has no name of its own"),
        (print, "not a function: a function that is not written in Python"),
        (need_more, "the function needs other arguments than the place of the output"),
    ],
)
def test_a_function_that_cannot_be_named_or_called_is_refused(
    pantry: Pantry, project: Project, function: Any, said: str
) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        pantry.compute("contract.json", function)
    assert caught.value.code == "E_FUNCTION"


def test_a_function_that_closes_over_variables_is_refused(pantry: Pantry, project: Project) -> None:
    def closing(place: Path) -> None:
        place.write_text(str(project))

    with pytest.raises(InvalidInput, match="it uses variables of the function around it") as caught:
        pantry.compute("contract.json", closing)
    assert caught.value.code == "E_FUNCTION"


def test_options_are_checked_as_for_run(pantry: Pantry, project: Project) -> None:
    with pytest.raises(InvalidInput, match="is about a push"):
        pantry.compute("contract.json", make, replace=True)
    with pytest.raises(InvalidInput, match="unknown word"):
        pantry.compute("contract.json", make, on_conflict="maybe")
    project.write_contract(each={"input": "raw_docs", "output": "{path}"}, command=["cp", "{item}", "{out}"])
    with pytest.raises(InvalidInput, match="/each") as caught:
        pantry.compute("contract.json", make)
    assert caught.value.code == "E_EACH"


def test_a_variable_of_the_contract_has_its_value_in_this_process(
    pantry: Pantry, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write_contract(variables={"THREADS": "4"})
    with pytest.raises(InvalidInput, match="THREADS has another value: expected '4', got no value") as caught:
        pantry.compute("contract.json", make)
    assert caught.value.code == "E_VARIABLE"
    monkeypatch.setenv("THREADS", "4")
    assert not pantry.compute("contract.json", make).hit


def test_a_module_that_no_root_covers_is_a_weak_point(pantry: Pantry, project: Project, notices: list[str]) -> None:
    pantry.compute("contract.json", make)
    [line] = [notice for notice in notices if "the function" in notice]
    assert line.startswith(f"weak point: the function {__name__}:make lies in ")
    assert line.endswith('test_compute.py, and no root covers it; add it to "code"')
    notices.clear()
    project.write_contract(params={"n": 1}, transforms=document(project)["transforms"])
    value = document(project)
    value["transforms"][0]["code"] = {"path": os.path.dirname(__file__), "exclude": ["__pycache__"]}
    pantry.compute(value, make, force=True)
    assert not [notice for notice in notices if "no root covers it" in notice and "the function" in notice]


def test_a_call_within_a_call_is_an_error_where_it_would_wait_for_itself(pantry: Pantry, project: Project) -> None:
    def again(place: Path) -> None:
        pantry.compute("contract.json", misbehave)

    def same_output(place: Path) -> None:
        value = document(project)
        pantry.compute(value | {"salt": "other"}, make)

    for function in (again, same_output):
        behaviour[:] = [function]
        with pytest.raises(InvalidInput, match="needs, to make this, that it is made already"):
            pantry.compute("contract.json", misbehave)
    assert not pantry.compute("contract.json", make).hit


def test_threads_with_one_contract_share_the_work(
    pantry: Pantry, open_pantry: Callable[..., Pantry], project: Project
) -> None:
    begun, go, hits = threading.Event(), threading.Event(), []

    def slow(place: Path) -> None:
        begun.set()
        go.wait(30)
        make(place)

    behaviour[:] = [slow]
    threads = [
        threading.Thread(target=lambda: hits.append(open_pantry().compute("contract.json", misbehave).hit))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    assert begun.wait(30)
    go.set()
    for thread in threads:
        thread.join(30)
    assert sorted(hits) == [False, True, True]
    assert len(ran) == 1
