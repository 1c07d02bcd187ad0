"""All packages have one version, which siblings pin exactly, and hatch.toml has the same siblings."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from constraints import requirements

ROOT = Path(__file__).resolve().parent.parent


def toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


PROJECTS = {
    project["name"]: project for project in (toml(path)["project"] for path in ROOT.glob("packages/*/pyproject.toml"))
}
ENVIRONMENTS = toml(ROOT / "hatch.toml")["envs"]


def siblings(name: str) -> set[str]:
    """Return the packages of this repository that name needs, directly or through others."""
    needed: set[str] = set()
    for requirement in PROJECTS[name]["dependencies"]:
        sibling = requirement.split("==")[0]
        if sibling in PROJECTS:
            needed |= {sibling} | siblings(sibling)
    return needed


def test_folder_and_project_have_the_same_name() -> None:
    assert set(PROJECTS) == {path.parent.name for path in ROOT.glob("packages/*/pyproject.toml")}


def test_all_packages_have_one_version_and_one_python() -> None:
    assert len({(project["version"], project["requires-python"]) for project in PROJECTS.values()}) == 1


@pytest.mark.parametrize("name", sorted(PROJECTS))
def test_siblings_are_pinned_to_exactly_that_version(name: str) -> None:
    project = PROJECTS[name]
    extras = [one for extra in project.get("optional-dependencies", {}).values() for one in extra]
    pins = [requirement for requirement in project["dependencies"] + extras if requirement.startswith("ctxpack")]
    assert pins == [f"{pin.split('==')[0]}=={project['version']}" for pin in pins]
    assert {re.split(r"==|\[", pin)[0] for pin in pins} <= set(PROJECTS)


def test_the_changelog_has_an_entry_for_the_version() -> None:
    [version] = {project["version"] for project in PROJECTS.values()}
    assert re.search(
        rf"^## \[{re.escape(version)}\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )


@pytest.mark.parametrize("name", sorted(PROJECTS))
def test_each_package_has_an_environment_with_only_the_siblings_it_declares(name: str) -> None:
    members = ENVIRONMENTS[name.removeprefix("ctxpack-")]["workspace"]["members"]
    assert sorted(members) == sorted(f"packages/{needed}" for needed in {name} | siblings(name))


def test_isolated_runs_every_package() -> None:
    commands = {f"hatch run {name.removeprefix('ctxpack-')}:alone" for name in PROJECTS}
    assert set(ENVIRONMENTS["default"]["scripts"]["isolated"]) == commands


def test_constraints_pin_every_foreign_project_that_is_required() -> None:
    pinned = set(re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
    asked = {re.split(r"[^\w-]", requirement)[0] for requirement in requirements(ROOT)}
    assert asked <= pinned, f"run `hatch run constraints`: not pinned: {sorted(asked - pinned)}"
