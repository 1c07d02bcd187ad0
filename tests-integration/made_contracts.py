"""Contract files and contracts made at random, with a folder around each; faults at random places; other spellings."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

__all__ = ["BASE", "ENVIRON", "HERE", "MadeContract", "make_contract", "make_contract_file", "spelled", "with_faults"]

# The contract file lies this deep, so that no path or link below leads to a folder above all of these.
BASE = "1/2/3/p"
# Stands for the folder that holds BASE, whose path differs from run to run.
HERE = "{here}"

ONE = "sha256:" + "1" * 64
URI = "ctx://sha256:" + "3" * 64
ENVIRON = {
    "MODEL": "m", "LANG_X": "ü", "_": "x", "a1": "1", "EMPTY": "", "NOT_TEXT": "\udcff", "CTXPACK_X": "1",
    "API_KEY": "1",
}  # fmt: skip

# Of each kind what is mostly right, and what is mostly a fault.
NAMES = [
    "a", "b", "a.b", "a-b", "c.py", "d.txt", "a b", "ü", "u\u0308", "Ｚ", "😀", "..a", ".a", "a.", "x~", "src", "out",
]  # fmt: skip
DROPPED = [
    ".git", "__pycache__", "m.pyc", ".venv", "x.egg-info", ".a.swp", ".#a", "#a#", "ctxpack.lock", "build", ".env",
]  # fmt: skip
PATHS = [
    "src", "src", "data", "data", "c.py", "a", "./src", "src/", "src//a", "../p/src", f"{HERE}/{BASE}/data",
    "data/./b",
]  # fmt: skip
ODD_PATHS = [
    *NAMES, "data/..", "a/../b", ".", "..", "../q", "../../3", "nowhere", "nowhere/a", f"{HERE}/1/2", "src/.", "a/",
    "c.py/", "none://x/y", "./none://x", "file://a", "CTX://a", "Local://b",
]  # fmt: skip
LINKS = ["a", "b", "src", "data", "../data", "../src/a", "..", ".", "../..", "nowhere", "a/b", "c.py", "../q", "src/"]
LINKS += [f"{HERE}/{BASE}/a", f"{HERE}/1"]
PATTERNS = [
    "a", "a/", "/a", "b/*", "**/a", "a/**", "*.py", "!*.pyc", "!a", "[a-c]*", "?", "\\#*#", "*", "!*/", "out",
    "src/out", "#", "a ", "\\!a", "[[:alpha:]]", "!__pycache__/", "*~", "data/", "x~/", "..a", "**", "[!a]", "ü",
    "a\\ ", ".git", "!.git", "!.venv/",
]  # fmt: skip
VARIABLES = ["MODEL", "LANG_X", "_", "a1", "EMPTY"]
ODD_VARIABLES = ["UNSET", "NOT_TEXT", "CTXPACK_X", "ctxpack_x", "API_KEY", "hf_token", "TOKENIZERS_X", "1a", "a-b", ""]
ARGUMENTS = ["python", "main.py", "sh", 'tool "$1"', "{item}", "{out}", "{batch}", "{other}", "ü", " "]
ODD_ARGUMENTS = ["-c", "cat {item} > {out}", "", "a\0b"]
TEMPLATES = ["{path}.json", "{dir}{stem}{suffix}", "{dir}{stem}.json", "{{{stem}}}", "{stem}/{path}", "{{path}}{path}"]
ODD_TEMPLATES = ["{stem}", "x", "{", "}", "{name}", "", "{path}}", "../{path}", "a\\{path}", "{dir}", "{suffix}"]
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 0.5, 1e21, 2**53, 1e-7, "", "a", "\0", "auto", "undeclared", "opaque", ".", "..",
    "a/", "ü", "😀", "a/b", "a\\b", "none://x/y", "x" * 300, ONE, URI, "sha256:" + "A" * 64, ONE[:-1], ONE + "\n", [],
    {}, [""], ["a"], [1], [None], {"a": 1}, {"": ""}, {"a": None}, {"path": "a"}, [{"path": "a"}],
    [{"path": "a", "name": "b"}], {"name": "a", "path": "a"}, {"name": "a", "digest": ONE}, "ctxpack/contract/v1",
    "ctxpack/map/v1", "ctxpack/item/v1", "ctxpack/tree/v1",
]  # fmt: skip
MEMBERS = [
    "name", "path", "digest", "uri", "exclude", "symlinks", "gitignore", "listing", "text", "tool", "tool_version",
    "code", "code_hash", "environment", "environment_hash", "params", "inputs", "outputs", "transforms", "command",
    "variables", "platform", "each", "salt", "labels", "schema", "input", "of", "by", "output", "other", "a/b", "~",
    "__proto__", "constructor",
]  # fmt: skip

# Spellings of values that are refused, or read with care. MARK stands where one is put.
MARK = "@token"
TOKENS = [
    "NaN", "-Infinity", "-0", "-0.0", "0e5", "-1e-400", "1e400", "-1E400", "1" + "0" * 400, "9007199254740993",
    "9007199254740992", "18446744073709552000", "18446744073709551616", "1E30", "-1e30", "1e21",
    "100000000000000000000", "1000000000000000000000", "123456789012345680000", "123456789012345678901",
    "1.000000000000000111022302462515654042363166809082031251", "5e-324", "2e-324", "4.35", "0.1e1", "01", "+1", ".5",
    "1.", "1e", "0x1", "tru", "True", "", "'a'", "/**/1", "1//", "]", "}", '"', '"a" "b"', r'"\x"', r'"\u12g4"',
    '"\t"', r'"\t\b\f\n\r\"\\\/"', r'"\ud800"', r'"\udc00\ud800"', r'"\ud83d\ude00"', '"\ud800"', "\ufeff1", "\u00a01",
    "\x0b1", '{"a":1,"a":2}', r'{"a":1,"\u0061":2}', r'{"\ud800":1}', "[1,]", '{"a":1,}', "[1 2]", "{1:2}",
    "[" * 60 + "]" * 60, "[" * 64 + "]" * 64, '{"a":' * 70 + "1" + "}" * 70, '{"' + "n" * 4096 + '":1}',
    '{"' + "n" * 4097 + '":1}', '{"' + "ü" * 2049 + '":1}', "[" + "1," * 262144 + "1]",
]  # fmt: skip


@dataclass
class MadeContract:
    """A document as a value, what lies around it, and what is given beside it."""

    value: Any
    nodes: list[dict[str, Any]] = field(default_factory=list)
    given_command: list[str] | None = None
    packs: dict[Any, Any] | None = None


def make_contract_file(chance: Random) -> MadeContract:
    """Return a contract file that mostly resolves, in a folder that has most of what it names."""
    value: dict[str, Any] = {"inputs": _inputs(chance), "transforms": _some(chance, _transform, least=1)}
    parts: dict[str, Callable[[Random], Any]] = {
        "outputs": lambda chance: _some(chance, _output),
        "command": _command,
        "variables": _variables,
        "platform": _platform,
        "salt": lambda chance: chance.choice(["", "1", "ü"]),
        "labels": lambda _: {"a/b": "c"},
    }
    for name, part in parts.items():
        if chance.random() < 0.5:
            value[name] = part(chance)
    if chance.random() < 0.25:
        value["each"] = _each(chance, [one["name"] for one in value["inputs"] if "digest" not in one])
        value["outputs"] = [{"path": "made", "name": "out"}] if chance.random() < 0.9 else value.get("outputs", [])
    packs = {URI: "sha256:" + "2" * 64} if chance.random() < 0.9 else None
    return MadeContract(value, _nodes(chance), _given(chance, value), packs)


def make_contract(chance: Random) -> MadeContract:
    """Return a contract, map contract or item contract that is mostly without a fault."""
    value: dict[str, Any] = {
        "command": _command(chance),
        "inputs": {name: {"digest": ONE} for name in ["in", "_2", "3.x"][: chance.randrange(4)]},
        "outputs": sorted({chance.choice(NAMES) for _ in range(chance.randrange(3))}, key=str.encode),
        "platform": {name: word for name, word in _platform(chance).items() if word != "auto"},
        "salt": chance.choice(["", "1", "ü"]),
        "schema": "ctxpack/contract/v1",
        "transforms": _some(chance, _hashed_transform, least=1),
        "variables": {_pick(chance, VARIABLES, ODD_VARIABLES): "1" for _ in range(chance.randrange(4))},
    }
    if chance.random() < 0.6:
        value["inputs"] = value["inputs"] or {"in": {"digest": ONE}}
        value |= {
            "command": ["python", "main.py", "{item}"] if chance.random() < 0.7 else value["command"],
            "each": {"of": "files", "by": "path", **_each(chance, list(value["inputs"]))},
            "outputs": ["out"] if chance.random() < 0.95 else value["outputs"],
            "schema": chance.choice(["ctxpack/map/v1", "ctxpack/item/v1"]),
        }
    return MadeContract(value, [{"path": BASE, "folder": True}], _given(chance, value))


def with_faults(chance: Random, value: Any, times: int) -> Any:
    """Return a copy of a document that was changed at some random places."""
    value = _copy(value)
    for _ in range(times):
        holders = list(_holders(value))
        if not holders:
            return value
        holder = chance.choice(holders)
        keys = _keys(holder)
        action = chance.choice(["replace", "replace", "remove", "add", "add", "twice", "empty"])
        if action == "add" and isinstance(holder, dict):
            holder[chance.choice(MEMBERS)] = _copy(chance.choice(VALUES))
        elif action == "add":
            holder.append(_copy(chance.choice(VALUES)))
        elif keys:
            key = chance.choice(keys)
            if action == "replace":
                holder[key] = _copy(chance.choice(VALUES))
            elif action == "remove":
                del holder[key]
            elif action == "twice" and isinstance(holder, list):
                holder.append(_copy(holder[key]))
            elif isinstance(holder[key], list | dict | str):
                holder[key] = type(holder[key])()
    return value


def spelled(chance: Random, value: Any) -> bytes:
    """Return a document with this value, in one of many spellings; now and then with a token that is hard to read."""
    token = chance.choice(TOKENS).encode("utf-8", "surrogatepass") if chance.random() < 0.15 else None
    if token is not None:
        value = _copy(value)
        holders = [holder for holder in _holders(value) if holder]
        if holders:
            holder = chance.choice(holders)
            holder[chance.choice(_keys(holder))] = MARK
        else:
            value = MARK
    text = json.dumps(value, indent=chance.choice([None, None, 0, 2]), ensure_ascii=chance.random() < 0.5)
    text = re.sub("(?<=[ ,:])1(?=[],}\n])", lambda _: chance.choice(["1", "1.0", "1e0", "10E-1"]), text)
    if chance.random() < 0.3:
        text = re.sub(r'"(?:[^"\\]|\\.)*"', lambda found: found[0].replace("/", "\\/").replace("o", "\\u006F"), text)
    data = text.encode()
    return data if token is None else re.sub(b'"@t(o|\\\\u006F)ken"', lambda _: token, data)


def _copy(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _holders(value: Any) -> list[Any]:
    """Return all objects and arrays of a document."""
    if not isinstance(value, dict | list):
        return []
    children = value.values() if isinstance(value, dict) else value
    return [value, *(holder for child in children for holder in _holders(child))]


def _keys(holder: Any) -> list[Any]:
    return list(holder) if isinstance(holder, dict) else list(range(len(holder)))


def _pick(chance: Random, usual: list[str], odd: list[str], share: float = 0.04) -> str:
    return chance.choice(odd if chance.random() < share else usual)


def _some(chance: Random, make: Callable[[Random], Any], *, least: int = 0) -> list[Any]:
    return [make(chance) for _ in range(chance.choice([least, 1, 1, 2]))]


# What lies around it


def _nodes(chance: Random) -> list[dict[str, Any]]:
    """Return nodes as in the vectors: mostly what contract files name, and some of everything."""
    made: dict[str, dict[str, Any]] = {BASE: {"folder": True}}
    for path in ["src/a", "src/b/c.py", "data/b", "data/d.txt", "c.py", "a"]:
        if chance.random() < 0.95:
            _add(made, f"{BASE}/{path}", {"utf8": path})
    for path in [".gitignore", "src/.gitignore", "src/b/.gitignore", "data/.gitignore"]:
        if chance.random() < 0.3:
            _add(made, f"{BASE}/{path}", _node(chance, path))
    for _ in range(chance.choice([0, 2, 5, 10, 14])):
        top = chance.choice(["", "src", "src", "data", "data", "a", "../q"])
        names = [chance.choice(NAMES * 3 + DROPPED + [".gitignore"] * 8) for _ in range(chance.choice([1, 1, 2, 3]))]
        path = os.path.normpath("/".join([BASE, *([top] if top else []), *names]))
        _add(made, path, _node(chance, path))
    found = [{"path": path, **node} for path, node in made.items()]
    if chance.random() < 0.03 and "folder" in made.get(f"{BASE}/src", {}):
        found.append({"path_hex": f"{BASE}/src/".encode().hex() + "ff", "utf8": "x"})
    if chance.random() < 0.03 and "folder" in made.get(f"{BASE}/data", {}):
        found.append({"path": f"{BASE}/data/fifo", "fifo": True})
    return found


def _add(made: dict[str, dict[str, Any]], path: str, node: dict[str, Any]) -> None:
    """Add a node, and the folders above it, unless something else lies there."""
    above = [path[:index] for index, character in enumerate(path) if character == "/"]
    if path not in made and all("folder" in made.get(folder, {"folder": True}) for folder in above):
        made.update({folder: {"folder": True} for folder in above})
        made[path] = node


def _node(chance: Random, path: str) -> dict[str, Any]:
    if path.endswith(".gitignore") and chance.random() < 0.9:
        lines = [chance.choice([*PATTERNS, *PATHS[:6]]) for _ in range(chance.randrange(5))]
        return {"utf8": chance.choice(["", "\ufeff"]) + chance.choice(["\n", "\r\n"]).join(lines)}
    kind = chance.choice(["file"] * 24 + ["folder"] * 2 + ["link", "bytes"])
    if kind == "folder":
        return {"folder": True}
    if kind == "link":
        return {"symlink": chance.choice(LINKS)}
    return {"hex": "ff"} if kind == "bytes" else {"utf8": chance.choice(["", "x", "y"])}


# The parts of a contract file


def _path(chance: Random) -> str:
    return _pick(chance, PATHS, ODD_PATHS, 0.1)


def _inputs(chance: Random) -> list[dict[str, Any]]:
    return [{"name": name, **_input(chance)} for name in ["in", "_2", "3.x"][: chance.choice([0, 1, 1, 1, 2, 3])]]


def _input(chance: Random) -> dict[str, Any]:
    kind = chance.random()
    if kind < 0.1:
        return {"digest": ONE}
    if kind < 0.2:
        return {"uri": URI, **({"listing": True} if kind < 0.15 else {})}
    beside = _beside_path(chance)
    if kind < 0.35:  # the folder that outputs lie in as well
        return {"path": ".", **beside, "exclude": [chance.choice(["/out", "/out/", "made", "x", "/src/out", "made/"])]}
    return {"path": _path(chance), **beside}


def _beside_path(chance: Random) -> dict[str, Any]:
    members: dict[str, Any] = {}
    if chance.random() < 0.3:
        members["exclude"] = [chance.choice(PATTERNS) for _ in range(chance.randrange(4))]
    if chance.random() < 0.5:
        members["symlinks"] = chance.choice(["follow", "follow", "follow", "refuse"])
    if chance.random() < 0.4:
        members["gitignore"] = chance.random() < 0.8
    if chance.random() < 0.1:
        members["listing"] = chance.random() < 0.5
    return members


def _transform(chance: Random) -> dict[str, Any]:
    transform: dict[str, Any] = {"tool": "t", "tool_version": "1"}
    if chance.random() < 0.6:
        transform["code"] = _roots(chance, without=["gitignore"] if chance.random() < 0.5 else [], alone={})
    else:
        transform["code_hash"] = _pick(chance, ["opaque", ONE], ["undeclared", ""])
    if chance.random() < 0.4:
        alone = {"text": True} if chance.random() < 0.5 else {}
        transform["environment"] = _roots(chance, without=["gitignore"], alone=alone)
    elif chance.random() < 0.3:
        transform["environment_hash"] = _pick(chance, ["undeclared", ONE], ["opaque", ""])
    if chance.random() < 0.5:
        transform["params"] = {"a": [1.0, -5e-7, "x"], "Ｚ": 1e30, "😀": None}
    return transform


def _roots(chance: Random, *, without: list[str], alone: dict[str, Any]) -> Any:
    def root(chance: Random) -> dict[str, Any]:
        members = {"path": _path(chance), **_beside_path(chance)}
        return {key: value for key, value in members.items() if key not in without}

    if chance.random() < 0.5:
        return {**root(chance), **alone}
    named = [{**root(chance), "name": name} for name in ["x", "ü", "y.z"][: chance.choice([1, 2, 2, 3])]]
    for one in named:
        if chance.random() < 0.3:
            del one["name"]
    return named


def _hashed_transform(chance: Random) -> dict[str, Any]:
    hashes = {"code_hash": chance.choice(["opaque", ONE]), "environment_hash": chance.choice(["undeclared", ONE])}
    return {"tool": "t", "tool_version": "1", **hashes, "params": chance.choice([{}, {"a": [1.0, -5e-7, "x"]}])}


def _output(chance: Random) -> dict[str, Any]:
    path = _pick(chance, ["out", "made", "made/a", "out/new/x", "../out"], ["src/out", "/", *PATHS, *ODD_PATHS], 0.2)
    beside = {name: value for name, value in _beside_path(chance).items() if name in ("exclude", "symlinks")}
    return {"path": path, **beside, **({"name": chance.choice(NAMES)} if chance.random() < 0.4 else {})}


def _command(chance: Random) -> Any:
    if chance.random() < 0.1:
        return "undeclared"
    if chance.random() < 0.4:
        return ["python", "main.py"]
    return [_pick(chance, ARGUMENTS, ODD_ARGUMENTS) for _ in range(chance.randrange(1, 5))]


def _given(chance: Random, value: dict[str, Any]) -> list[str] | None:
    """Return a command that is given beside the file."""
    if chance.random() > (0.5 if "each" in value else 0.2):
        return None
    own = value.get("command")
    given = own if isinstance(own, list) and chance.random() < 0.8 else _command(chance)
    return given if isinstance(given, list) else None


def _variables(chance: Random) -> Any:
    names = sorted({_pick(chance, VARIABLES, ODD_VARIABLES) for _ in range(chance.randrange(4))})
    return names if chance.random() < 0.5 else {name: chance.choice(["", "1", "auto", "ü"]) for name in names}


def _platform(chance: Random) -> dict[str, str]:
    known = {
        chance.choice(["os", "arch"]): chance.choice(["auto", "linux", "amd64", ""]) for _ in range(chance.randrange(3))
    }
    other = (
        {chance.choice(["gpu", "container-image", ""]): _pick(chance, ["a", ""], ["auto"])}
        if chance.random() < 0.3
        else {}
    )
    return {**known, **other}


def _each(chance: Random, names: list[str]) -> dict[str, Any]:
    each: dict[str, Any] = {"input": _pick(chance, names or ["in"], ["other"])}
    each["output"] = _pick(chance, TEMPLATES, ODD_TEMPLATES, 0.2)
    if chance.random() < 0.5:
        each["of"] = _pick(chance, ["files", "entries"], ["folders"])
    if chance.random() < 0.5:
        each["by"] = chance.choice(["path", "content"])
    return each
