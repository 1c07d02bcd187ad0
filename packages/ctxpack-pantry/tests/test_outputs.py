"""Where outputs lie: as the contract file says, or as it is said beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ctxpack_bundle import OutputTree
from ctxpack_identity import InvalidInput
from ctxpack_pantry import LoadedContractFile
from ctxpack_pantry.outputs import locate_outputs, require_outputs

if TYPE_CHECKING:
    from pantry_project import Project


@pytest.fixture
def loaded(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LoadedContractFile:
    """A contract file with the outputs out, report and all; it is not in the current folder."""
    monkeypatch.chdir(tmp_path)
    outputs = [{"path": "./out"}, {"path": "made/summary.txt", "name": "report"}, {"path": "made/..", "name": "all=1"}]
    project.write_contract(outputs=outputs)
    return project.load()


def located(loaded: LoadedContractFile, *given: str) -> dict[str, str]:
    """What is not where the contract file says."""
    found = locate_outputs(loaded, given)
    assert found.keys() == loaded.outputs.keys()
    return {name: tree.location for name, tree in found.items() if tree.location != loaded.outputs[name]}


def test_without_more_they_lie_where_the_contract_file_says(loaded: LoadedContractFile, project: Project) -> None:
    assert locate_outputs(loaded, []) == {
        "out": OutputTree(f"{project.root}/./out"),
        "report": OutputTree(f"{project.root}/made/summary.txt"),
        "all=1": OutputTree(f"{project.root}/made/.."),
    }


def test_what_is_left_out_and_whether_links_are_followed_holds_wherever_an_output_lies(project: Project) -> None:
    project.write_contract(outputs=[{"path": "out", "exclude": ["*.tmp"], "symlinks": "follow"}])
    loaded = project.load()
    tree = OutputTree(f"{project.root}/out", ("*.tmp",), follow=True)
    assert require_outputs(loaded) == locate_outputs(loaded, []) == {"out": tree}
    for given in (["out=there"], {"out": "there"}):
        assert locate_outputs(loaded, given) == {"out": tree._replace(location="there")}


@pytest.mark.parametrize(
    ("given", "elsewhere"),
    [
        (["report=there"], {"report": "there"}),
        (["report=/a/b=c"], {"report": "/a/b=c"}),
        (["some/where/out"], {"out": "some/where/out"}),
        (["some/where/out//"], {"out": "some/where/out//"}),
        (["./report", "out=x"], {"report": "./report", "out": "x"}),
        (["./all=1"], {"all=1": "./all=1"}),
    ],
    ids=str,
)
def test_one_that_lies_elsewhere_is_named_by_its_last_segment_or_before_the_path(
    loaded: LoadedContractFile, given: list[str], elsewhere: dict[str, str]
) -> None:
    """The others still lie where the contract file says."""
    assert located(loaded, *given) == elsewhere


def test_the_path_in_the_contract_file_is_that_output_whatever_its_last_segment(
    loaded: LoadedContractFile, project: Project
) -> None:
    assert located(loaded, f"{project.root}/made/summary.txt") == {}


def test_a_name_is_the_output_where_the_contract_file_says_unless_something_of_that_name_is_here(
    loaded: LoadedContractFile, tmp_path: Path
) -> None:
    assert located(loaded, "report", "out") == {}
    (tmp_path / "report").write_text("")
    assert located(loaded, "report", "out") == {"report": "report"}


def test_a_file_with_an_equals_sign_in_its_name_is_a_path_unless_the_contract_declares_what_is_before_it(
    loaded: LoadedContractFile, project: Project, tmp_path: Path
) -> None:
    (tmp_path / "out=1").write_text("")
    assert located(loaded, "out=1") == {"out": "1"}
    project.write_contract(outputs=[])
    undeclared = project.load()
    assert locate_outputs(undeclared, ["out=1"]) == {"out=1": OutputTree("out=1")}
    assert locate_outputs(undeclared, ["none=1", "./out=1", "out="]) == {
        "none": OutputTree("1"),
        "out=1": OutputTree("./out=1"),
        "out=": OutputTree("out="),
    }


def test_paths_can_be_given_by_name(loaded: LoadedContractFile) -> None:
    found = locate_outputs(loaded, {"report": "a=b", "all=1": "/"})
    assert {name: tree.location for name, tree in found.items()} == loaded.outputs | {"report": "a=b", "all=1": "/"}


@pytest.mark.parametrize(
    ("given", "name", "path"),
    [
        (["other"], "other", "other"),
        (["other=x"], "other", "x"),
        (["x/other"], "other", "x/other"),
        (["out", "x/summary.txt"], "summary.txt", "x/summary.txt"),
        ({"other": "x"}, "other", "x"),
    ],
    ids=str,
)
def test_a_name_that_the_contract_does_not_declare_is_refused(
    loaded: LoadedContractFile, given: Sequence[str] | dict[str, str], name: str, path: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        locate_outputs(loaded, given)
    assert str(caught.value) == (
        f"{loaded.path}: the contract declares no such output: expected all=1, out, report, got {name}; "
        f"say which one of these it is: NAME={path}"
    )
    assert caught.value.code == "E_OUTPUT_NAME"


def test_two_with_one_name_are_refused(loaded: LoadedContractFile) -> None:
    with pytest.raises(InvalidInput) as caught:
        locate_outputs(loaded, ["a/out", "out=b/elsewhere"])
    assert str(caught.value) == (
        "out: two outputs have the same name: got a/out and b/elsewhere; give one another name: NAME=PATH"
    )
    assert caught.value.code == "E_OUTPUT_NAME"


@pytest.mark.parametrize("path", ["..", ".", "/", "a/..", ""])
def test_a_path_that_gives_no_name_is_refused(loaded: LoadedContractFile, path: str) -> None:
    with pytest.raises(InvalidInput, match="this path gives no name for an output") as caught:
        locate_outputs(loaded, [path])
    assert (caught.value.code, caught.value.fix) == ("E_OUTPUT_NAME", f"name it: NAME={path}")


def test_a_contract_without_outputs_takes_any_and_needs_them_named(project: Project) -> None:
    project.write_contract(outputs=[])
    loaded = project.load()
    assert locate_outputs(loaded, ["x/one", "two=y"]) == {"one": OutputTree("x/one"), "two": OutputTree("y")}
    empty: list[Sequence[str] | dict[str, str]] = [[], {}]
    for given in empty:
        with pytest.raises(InvalidInput, match=r"contract\.json, /outputs: contract declares no outputs; say what"):
            locate_outputs(loaded, given)
    with pytest.raises(InvalidInput) as caught:
        require_outputs(loaded)
    assert caught.value.code == "E_NO_OUTPUTS"
