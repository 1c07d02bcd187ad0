"""The packages that a lock file names, and which of them differ between two: best effort, for people.

Known are what pip reads (requirements.txt), ``[[package]]`` in TOML (uv, Poetry, PDM, Cargo), and package-lock.json.
What is not understood has no packages: then only that the texts differ can be said.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

__all__ = ["PackageChange", "locked_packages", "package_changes"]

_MOST_DOTS: Final = 256  # in a line of TOML: tomllib takes quadratic time for a key of many parts

_name = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?").match
_CLAUSE = r"(?:===|==|~=|!=|<=|>=|<|>)[A-Za-z0-9.*+!_-]+"
_is_specifier = re.compile(rf"{_CLAUSE}(?:,{_CLAUSE})*,?").fullmatch
_exact = re.compile(r"===?([^*,]+)").fullmatch
_separators = re.compile(r"[-_.]+")

Packages = dict[str, set[str]]


class PackageChange(NamedTuple):
    """A package whose versions differ. old, new: its versions, sorted; none where it is not there."""

    name: str
    old: tuple[str, ...]
    new: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "old": list(self.old), "new": list(self.new)}


def package_changes(old: bytes, new: bytes) -> tuple[PackageChange, ...] | None:
    """Return the packages that differ between two lock files, by name; None when one of them is not understood."""
    before, after = locked_packages(old), locked_packages(new)
    if before is None or after is None:
        return None
    found = []
    for name in sorted(before.keys() | after.keys()):
        versions = tuple(sorted(before.get(name, ()))), tuple(sorted(after.get(name, ())))
        if versions[0] != versions[1]:
            found.append(PackageChange(name, *versions))
    return tuple(found)


def locked_packages(data: bytes) -> Packages | None:
    """Return the versions of each package in a lock file; None when it is not understood, or names no package.

    What stands in place of a version is kept as it is: "@ https://…", ">=2". A package without any has "".
    """
    try:
        text = data.decode()
        if text.lstrip().startswith("{"):
            return _of_npm(json.loads(text)) or None
        if re.search(r"^[ \t]*\[\[package\]\]", text, re.MULTILINE):
            return _of_toml(text) or None
        return _of_pip(text) or None
    except (ValueError, RecursionError):  # also UnicodeDecodeError, and the errors of json and tomllib
        return None


def _of_pip(text: str) -> Packages:
    packages: Packages = {}
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        requirement = " ".join(re.sub(r"(?:^|\s)(?:#|--?[A-Za-z]).*", "", line).split())  # without comment and options
        if requirement:
            name, version = _requirement(requirement)
            packages.setdefault(name, set()).add(version)
    return packages if any(version for versions in packages.values() for version in versions) else {}


def _requirement(text: str) -> tuple[str, str]:
    """Return name and version of a requirement (PEP 508). Raises: ValueError when it is none."""
    name = _name(text)
    if name is None:
        raise ValueError("not a requirement")
    rest = text[name.end() :].lstrip()
    if rest.startswith("["):
        rest = rest.partition("]")[2].lstrip()
    if rest.startswith("@"):
        version = f"@ {rest[1:].partition(' ;')[0].strip()}"
    else:
        version = rest.partition(";")[0].replace(" ", "")
        if version and not _is_specifier(version):
            raise ValueError("not a requirement")
        exact = _exact(version)
        version = exact[1] if exact else version
    return _separators.sub("-", name[0]).lower(), version


def _of_toml(text: str) -> Packages:
    if max(line.count(".") for line in text.splitlines()) > _MOST_DOTS:
        raise ValueError("a key of many parts")
    items = tomllib.loads(text).get("package")
    packages: Packages = {}
    for item in items if isinstance(items, list) else ():
        name, version = (item.get("name"), item.get("version", "")) if isinstance(item, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(version, str):
            raise ValueError("a package without a name")
        packages.setdefault(name, set()).add(version)
    return packages


def _of_npm(document: Any) -> Packages:
    packages: Packages = {}
    for path, item in _npm_items(document):
        version = item.get("version")
        if isinstance(version, str):
            packages.setdefault(path.rpartition("node_modules/")[2], set()).add(version)
    return packages


def _npm_items(document: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield path or name, and value, of each package: of "packages", or of nested "dependencies" in version 1."""
    packages = document.get("packages")
    if isinstance(packages, dict):
        yield from ((path, item) for path, item in packages.items() if path and isinstance(item, dict))
        return
    waiting = [document.get("dependencies")]
    while waiting:
        dependencies = waiting.pop()
        for name, item in dependencies.items() if isinstance(dependencies, dict) else ():
            if isinstance(item, dict):
                yield name, item
                waiting.append(item.get("dependencies"))
