"""A copy of a project has what the contract names, at the same paths, and nothing else: its URI is the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pantry_project import contents

from ctxpack_identity import CtxUri, InvalidInput, LocalFailure, resolve
from ctxpack_pantry.contractfile import LoadedContractFile, as_contract_file
from ctxpack_pantry.projectcopy import ProjectCopy, copy_project

TRANSFORM: dict[str, Any] = {"tool": "t", "tool_version": "1", "code_hash": "opaque"}


class Original:
    """A project in root/project, and the folder beside it that gets the copy."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder, self.fresh = root, root / "project", root / "fresh"
        self.folder.mkdir(parents=True)
        self.fresh.mkdir()

    def write(self, *names: str) -> None:
        """Write files, each with its name as content; a name that ends in "/" makes a folder."""
        for name in names:
            path = self.folder / name
            if name.endswith("/"):
                path.mkdir(parents=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(name)

    def load(
        self, *inputs: dict[str, Any] | str, code: Any = None, base: str = "", **members: Any
    ) -> LoadedContractFile:
        """Return a contract file. inputs: members of each besides its name, or its path. base: below the folder."""
        named = [
            {"name": f"i{number}", **({"path": one} if isinstance(one, str) else one)}
            for number, one in enumerate(inputs)
        ]
        transform = {"tool": "t", "tool_version": "1", "code": code} if code else TRANSFORM
        document = {"inputs": named, "transforms": [transform], "outputs": [{"path": "out"}], **members}
        return as_contract_file(document, base=os.path.join(self.folder, base))

    def copy(self, contract_file: LoadedContractFile) -> ProjectCopy:
        """Copy the project, whose copy must have the same URI."""
        resolution = resolve(contract_file.file, contract_file.base)
        counted: list[int] = []
        copy = copy_project(contract_file, resolution.hashed, str(self.fresh), counted.append)
        assert uri_of(copy.contract_file) == resolution.uri
        assert sum(counted) == sum(path.stat().st_size for path in self.fresh.rglob("*") if path.is_file())
        return copy

    def refuse(self, contract_file: LoadedContractFile) -> InvalidInput:
        with pytest.raises(InvalidInput) as caught:
            self.copy(contract_file)
        assert caught.value.code == "E_REBUILD"
        return caught.value

    def copied(self) -> dict[str, str]:
        """Return what the copy holds, below the folder that has the name of the project's."""
        [top] = self.fresh.iterdir()
        return contents(top)


def uri_of(contract_file: LoadedContractFile) -> CtxUri:
    return resolve(contract_file.file, contract_file.base).uri


@pytest.fixture
def original(tmp_path: Path) -> Original:
    return Original(tmp_path)


def files(found: dict[str, str]) -> set[str]:
    return {name for name, content in found.items() if content != "/"}


def test_only_what_is_named_is_copied(original: Original) -> None:
    original.write("in/a", "in/deep/b", "in/empty/", "src/run.py", "src/__pycache__/x.pyc", "more", "out/old")
    copy = original.copy(original.load("in", code={"path": "src"}))
    assert original.copied() == {
        "in": "/",
        "in/a": "in/a",
        "in/deep": "/",
        "in/deep/b": "in/deep/b",
        "in/empty": "/",
        "src": "/",
        "src/run.py": "src/run.py",
    }
    assert copy.not_copied == ()
    assert copy.contract_file.base == str(original.fresh / "project")


def test_nothing_of_the_copy_is_a_link_and_all_of_it_can_be_written(original: Original) -> None:
    original.write("in/a", "in/tool")
    (original.folder / "in/a").chmod(0o400)
    (original.folder / "in/tool").chmod(0o555)
    original.copy(original.load("in"))
    for name, executable in (("a", False), ("tool", True)):
        status = (original.fresh / "project/in" / name).stat()
        assert status.st_nlink == 1
        assert status.st_mode & 0o200
        assert bool(status.st_mode & 0o100) is executable


def test_what_patterns_leave_out_is_not_copied(original: Original) -> None:
    original.write("a", "b.log", "sub/c", "sub/d.log", "gone/x", "half/x.log")
    original.copy(original.load({"path": ".", "exclude": ["*.log", "/gone", "out"]}))
    assert original.copied() == {"a": "a", "half": "/", "sub": "/", "sub/c": "sub/c"}


def test_roots_that_overlap(original: Original) -> None:
    """Each leaves out what another one needs, and a folder that is empty to one is not to another."""
    original.write("src/a.py", "src/data/b", "src/data/c.log", "src/note", "src/void/")
    original.copy(
        original.load(
            {"path": "src", "exclude": ["data/*", "*.py"]},
            {"path": "src/data", "exclude": ["*.log"]},
            "src/note",
            code={"path": "src", "exclude": ["note"]},
        )
    )
    assert files(original.copied()) == {"src/a.py", "src/data/b", "src/data/c.log", "src/note"}


def test_roots_of_an_array_and_single_files(original: Original) -> None:
    original.write("src/a.py", "lib/b.py", "run.sh", "lock.txt", "more")
    code = [{"path": "src", "name": "z"}, {"path": "lib"}, {"path": "./run.sh"}]
    original.copy(original.load("lock.txt", code=code))
    assert files(original.copied()) == {"src/a.py", "lib/b.py", "run.sh", "lock.txt"}


@pytest.mark.parametrize("code", [True, False])
def test_files_of_patterns_come_with_what_they_are_about(original: Original, code: bool) -> None:
    """Also those above the root, and those that patterns leave out: without them the copy had another URI."""
    original.write("pkg/src/a.pyc", "pkg/src/b", "pkg/src/sub/c", "pkg/src/sub/d", "pkg/src/gone/e", "more")
    texts = {
        ".gitignore": "b\n!*.pyc\n.gitignore\n",
        "pkg/.gitignore": "/src/gone\n",
        "pkg/src/sub/.gitignore": "c\n!d\n",
        "pkg/src/gone/.gitignore": "!e\n",
        "more.d/.gitignore": "x",
    }
    original.write("more.d/x")
    for name, text in texts.items():
        (original.folder / name).write_text(text)
    root = {"path": "pkg/src", "gitignore": True}
    original.copy(original.load(code=root) if code else original.load(root))
    assert files(original.copied()) == {
        ".gitignore",
        "pkg/.gitignore",
        "pkg/src/a.pyc",
        "pkg/src/sub/.gitignore",
        "pkg/src/sub/d",
    }


def test_followed_links_become_what_they_lead_to(original: Original) -> None:
    original.write("real/a", "real/deep/b", "in/c")
    (original.folder / "in/link").symlink_to("../real")
    (original.folder / "in/file").symlink_to(original.folder / "real/a")
    (original.folder / "way").symlink_to("real")
    original.copy(original.load({"path": "in", "symlinks": "follow"}, "way/deep"))
    assert original.copied() == {
        "in": "/",
        "in/c": "in/c",
        "in/file": "real/a",
        "in/link": "/",
        "in/link/a": "real/a",
        "in/link/deep": "/",
        "in/link/deep/b": "real/deep/b",
        "way": "/",
        "way/deep": "/",
        "way/deep/b": "real/deep/b",
    }
    assert not any(path.is_symlink() for path in original.fresh.rglob("*"))


def test_paths_above_the_contract_file(original: Original) -> None:
    """The copy has the folders in between, with their names, so that every relative path leads where it led."""
    original.write("data/a", "jobs/one/src/b", "jobs/shared/c", "jobs/one/in/d", "more")
    contract_file = original.load(
        "../../data",
        "in",
        "../shared/c",
        "../one/src/./b",
        base="jobs/one",
        outputs=[{"path": "../../made/out"}, {"path": "./deep/er/file"}],
    )
    copy = original.copy(contract_file)
    assert files(original.copied()) == {"data/a", "jobs/one/src/b", "jobs/shared/c", "jobs/one/in/d"}
    assert copy.contract_file.base == str(original.fresh / "project/jobs/one")
    assert (original.fresh / "project/made").is_dir()
    assert (original.fresh / "project/jobs/one/deep/er").is_dir()
    assert not (original.fresh / "project/made/out").exists()


def test_the_folder_of_the_contract_file_as_an_input(original: Original) -> None:
    original.write("a", "sub/b")
    original.copy(original.load({"path": "..", "exclude": ["out", "/fresh"]}, ".", outputs=[], base="sub"))
    assert files(original.copied()) == {"a", "sub/b"}


def test_the_contract_file_is_copied_if_it_is_a_file(original: Original) -> None:
    original.write("in/a", "contract.json")
    contract_file = original.load("in")._replace(path=str(original.folder / "contract.json"))
    hashed = resolve(contract_file.file, contract_file.base).hashed
    copy = copy_project(contract_file, hashed, str(original.fresh), lambda count: None)
    assert Path(copy.contract_file.path).read_text() == "contract.json"
    assert files(original.copied()) == {"in/a", "contract.json"}


def test_absolute_paths_are_read_in_place_and_copied_if_they_lie_in_the_project(original: Original) -> None:
    original.write("in/a")
    far = original.root / "far"
    far.mkdir()
    (far / "b").write_text("b")
    copy = original.copy(original.load(str(original.folder / "in"), str(far)))
    assert files(original.copied()) == {"in/a"}
    assert copy.not_copied == (f"input i0: {original.folder}/in", f"input i1: {far}")


def test_links_on_the_way_to_the_project(original: Original) -> None:
    original.write("in/a")
    (original.root / "way").symlink_to("project")
    contract_file = original.load(str(original.root / "way/in"))._replace(base=str(original.root / "way"))
    original.copy(contract_file)
    assert files(original.copied()) == {"in/a"}


@pytest.mark.parametrize(
    ("prepare", "inputs", "members", "what"),
    [
        (lambda project: None, ["in"], {"outputs": [{"path": "/tmp/somewhere/out"}]}, "absolute"),
        (lambda project: (project / "link").symlink_to("in"), ["link/../in"], {}, "a link, then .."),
        (lambda project: (project / "link").symlink_to("in"), ["in"], {"outputs": [{"path": "link/../out"}]}, "a link"),
        (lambda project: None, ["in", f"{'../' * 60}{'etc/hosts'}"], {}, "above the root"),
    ],
)
def test_what_no_copy_can_have_is_refused(
    original: Original,
    prepare: Callable[[Path], object],
    inputs: list[str],
    members: dict[str, Any],
    what: str,
) -> None:
    original.write("in/a")
    prepare(original.folder)
    assert what in original.refuse(original.load(*inputs, **members)).what
    assert [*original.fresh.iterdir()] == []


def test_a_copy_in_what_is_copied_is_refused(original: Original) -> None:
    original.write("in/a")
    original.fresh = original.folder / "in/cache"
    original.fresh.mkdir()
    assert "the cache lies in what is hashed" in original.refuse(original.load("in")).what
    assert [*original.fresh.iterdir()] == []
    original.copy(original.load({"path": "in", "exclude": ["cache"]}))
    assert files(original.copied()) == {"in/a"}


def test_what_goes_or_cannot_be_read_meanwhile(original: Original) -> None:
    original.write("in/a")
    contract_file = original.load("in")
    hashed = resolve(contract_file.file, contract_file.base).hashed
    (original.folder / "in/a").unlink()
    (original.folder / "in").rmdir()
    with pytest.raises((InvalidInput, LocalFailure)):
        copy_project(contract_file, hashed, str(original.fresh), lambda count: None)
