"""Contract files for tests: small ones, random ones over a small project, and other spellings of one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from random import Random
from typing import Any

from folders import write_folder
from hypothesis import strategies as st

from ctxpack_identity import digest_of

__all__ = ["TRANSFORM", "contract", "contract_files", "environments", "shuffled", "write_project"]

TRANSFORM = {"tool": "t", "tool_version": "1", "code_hash": "opaque"}

_FOLDERS = {
    "raw": {"a.txt": b"a", "b": {"c.txt": b"c", "a.txt": b"a"}, "empty": {}},
    "src": {"run.py": b"run", "run.pyc": b"p", "sub": {"__pycache__": {"x": b""}}},
    "lib": {".git": {"HEAD": b"ref"}, "lib.py": b"lib"},
}
_FILES = {"uv.lock": b"lock", "Dockerfile": b"FROM x"}

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
_arguments = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
_digests = st.binary(max_size=2).map(digest_of)
_json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(-1e40, 1e40).filter(bool) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
_names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,6}", fullmatch=True)
_variables = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True).filter(
    lambda name: not {"KEY", "APIKEY", "TOKEN", "SECRET", "PASSWORD"} & set(name.upper().split("_"))
)

environments = st.fixed_dictionaries({"MODEL": _arguments, "LANG_OF_DOCS": _arguments})


def contract(inputs: list[Any] | None = None, transform: Any = None, **members: Any) -> str:
    """Return a contract file with one transform."""
    steps = [TRANSFORM if transform is None else transform]
    return json.dumps({"inputs": inputs or [], "transforms": steps, **members})


def write_project(base: Path) -> None:
    """Write the files that random contract files name."""
    for name, folder in _FOLDERS.items():
        write_folder(base / name, folder)
    for name, data in _FILES.items():
        (base / name).write_bytes(data)


def shuffled(value: Any, random: Random) -> Any:
    """Return value with the members of its objects in another order."""
    if isinstance(value, dict):
        members = [(name, shuffled(item, random)) for name, item in value.items()]
        random.shuffle(members)
        return dict(members)
    return [shuffled(item, random) for item in value] if isinstance(value, list) else value


_selected = {
    "exclude": st.lists(st.sampled_from(["*.txt", "/b/", "!run.pyc", "sub", "lib.py", "#", "*"]), max_size=2),
    "symlinks": st.sampled_from(["refuse", "follow"]),
}
_selections = st.fixed_dictionaries({}, optional=_selected)


def _tree_members(**more: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={**_selected, "listing": st.booleans(), **more})


def _paths(*paths: str) -> st.SearchStrategy[str]:
    return st.tuples(st.sampled_from(["", "./"]), st.sampled_from(paths)).map("".join)


@st.composite
def _inputs(draw: st.DrawFn) -> list[dict[str, Any]]:
    inputs: list[dict[str, Any]] = []
    for name in draw(st.lists(_names, max_size=3, unique=True)):
        how = draw(st.sampled_from(["path", "path", "digest"]))
        if how == "digest":
            inputs.append({"name": name, "digest": draw(_digests)})
        else:
            inputs.append({"name": name, "path": draw(_paths("raw", "raw/b", "uv.lock")), **draw(_tree_members())})
    return inputs


@st.composite
def _roots(draw: st.DrawFn, kind: str) -> Any:
    """One root, or an array of them. Code has always a file: a lock file, which no pattern leaves out."""
    if draw(st.booleans()):
        path = draw(_paths("uv.lock") if kind == "code" else _paths("uv.lock", "raw", "raw/empty"))
        return {"path": path, **draw(_tree_members())}
    paths = draw(st.lists(st.sampled_from(["raw", "src", "lib", "Dockerfile", "raw/empty"]), unique=True))
    roots = [{"path": path, **draw(_tree_members())} for path in ["uv.lock", *paths]]
    taken = {os.path.basename(path) for path in paths}
    if draw(st.booleans()):
        roots[0]["name"] = draw(st.sampled_from(["l", "é", "a b"]).filter(lambda name: name not in taken))
    return draw(st.permutations(roots))


@st.composite
def _transforms(draw: st.DrawFn) -> dict[str, Any]:
    transform: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {"tool": texts.filter(bool), "tool_version": texts.filter(bool)},
            optional={"params": st.dictionaries(texts, _json_values, max_size=3)},
        )
    )
    code = draw(st.sampled_from(["code", "code_hash", "code_hash"]))
    transform[code] = draw(_roots("code")) if code == "code" else draw(_digests | st.just("opaque"))
    environment = draw(st.sampled_from(["", "environment", "environment_hash"]))
    if environment == "environment":
        transform[environment] = draw(_roots("environment"))
    elif environment:
        transform[environment] = draw(_digests | st.just("undeclared"))
    return transform


@st.composite
def _outputs(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Outputs beside the project: none is in what is hashed."""
    names = draw(st.lists(st.sampled_from(["out", "é", "e\u0301", "a b", "A", "\ufb33", "\U0001f600"]), unique=True))
    folders = st.sampled_from(["", "results/", "/data/"])
    places = st.one_of(
        folders.map(lambda folder: lambda name: {"path": folder + name}),
        folders.map(lambda folder: lambda name: {"path": f"{folder}x/..", "name": name}),
        folders.map(lambda folder: lambda name: {"path": f"{folder}{name}/"}),
    )
    return [{**draw(places)(name), **draw(_selections)} for name in names]


@st.composite
def contract_files(draw: st.DrawFn, *, maps: bool = True) -> dict[str, Any]:
    """Return a contract file as a value: whatever the project of write_project and environments allow."""
    value: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {"inputs": _inputs(), "transforms": st.lists(_transforms(), min_size=1, max_size=2)},
            optional={
                "outputs": _outputs(),
                "command": st.just("undeclared")
                | st.builds(
                    lambda first, rest: [first, *rest], _arguments.filter(bool), st.lists(_arguments, max_size=3)
                ),
                "variables": st.dictionaries(_variables, _arguments, max_size=3)
                | st.lists(st.sampled_from(["MODEL", "LANG_OF_DOCS"]), unique=True),
                "platform": st.dictionaries(texts, texts.filter(lambda text: text != "auto"), max_size=3)
                | st.just({"os": "auto", "arch": "auto"}),
                "salt": texts,
                "labels": st.dictionaries(texts, texts, max_size=2),
            },
        )
    )
    if maps and draw(st.booleans()):
        over = {"name": "over", "path": "raw", **draw(st.fixed_dictionaries({}, optional={"listing": st.just(True)}))}
        others = [given for given in value["inputs"] if given["name"] != "over"]
        value["inputs"] = draw(st.permutations([*others, over]))
        value["outputs"] = [{"path": "out"}]
        value["command"] = draw(st.sampled_from([["tool", "{item}", "{out}"], ["tool"], ["{batch}", "-c", "x"]]))
        value["each"] = {
            "input": "over",
            "output": draw(st.sampled_from(["{path}", "{dir}{stem}.json", "{{}}{suffix}"])),
            **draw(
                st.fixed_dictionaries(
                    {},
                    optional={"of": st.sampled_from(["files", "entries"]), "by": st.sampled_from(["path", "content"])},
                )
            ),
        }
    return value
