"""Init: a contract file, filled in as far as the command line and the project show."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ctxpack_identity.contractfile import last_segment
from ctxpack_identity.disk import local_failure
from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.rules import is_output_name
from ctxpack_identity.scheme import scheme_of
from ctxpack_pantry.results import Initialised

__all__ = ["contract_template", "init"]

_LOCK_FILES = (
    "uv.lock",
    "poetry.lock",
    "pdm.lock",
    "Pipfile.lock",
    "conda-lock.yml",
    "requirements.txt",
    "package-lock.json",
    "Cargo.lock",
)
_COMMAND = ("python", "ingest.py")  # to be replaced


def init(
    path: str,
    *,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    code: Sequence[str] = (),
    command: Sequence[str] = (),
) -> Initialised:
    """Write a contract file to fill in. inputs, outputs, code: paths as they shall be in it.

    Raises: InvalidInput when path exists, or what is given is not UTF-8; LocalFailure.
    """
    if not os.path.basename(path):
        raise InvalidInput(
            "no name of a file", where=path or "contract file", fix="name the file to write", code="E_USAGE"
        )
    template = contract_template(path, inputs=inputs, outputs=outputs, code=code, command=command)
    try:
        data = template.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            "a path or argument is not UTF-8, which no contract file holds",
            where=path,
            got=repr(template[error.start : error.end]),
            fix="rename the file",
            code="E_NAME_ENCODING",
        ) from error
    try:
        with open(path, "xb") as file:
            file.write(data)
    except FileExistsError as error:
        raise InvalidInput("exists already", where=path, fix="edit it, or name another file") from error
    except OSError as error:
        raise local_failure(error, "cannot be written", path, elsewhere="name another file") from error
    return Initialised(path)


def contract_template(
    path: str,
    *,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    code: Sequence[str] = (),
    command: Sequence[str] = (),
) -> str:
    """Return the text of a contract file at path.

    A lock file beside it is the environment, so that upgrades are noticed; scripts that the command names are the code.
    """
    folder = os.path.dirname(path)
    inputs, outputs = inputs or ["./raw_docs"], outputs or ["./processed_data"]
    scripts = list(_scripts(folder, command, [*inputs, *outputs]))
    given = code or [f"./{script}" for script in scripts] or ["./ingest.py"]
    made = [os.path.basename(path), *outputs]
    roots = [root | _exclude(folder, root["path"], [*made, *inputs]) for root in _named(given, "code")]
    program = last_segment(scripts[0] if scripts else command[0]) if command else ""
    lock = next((name for name in _LOCK_FILES if os.path.isfile(os.path.join(folder, name))), None)
    transform = {
        "tool": os.path.splitext(program)[0] or "name-of-the-tool",
        "tool_version": "1.0",
        "code": roots[0] if len(roots) == 1 and "name" not in roots[0] else roots,
        **({"environment": {"path": f"./{lock}"}} if lock else {}),
        "params": {},
    }
    document = {
        "inputs": [item | _exclude(folder, item["path"], made) for item in _inputs(inputs)],
        "command": list(command or _COMMAND),
        "transforms": [transform],
        "outputs": list(_named(outputs, "outputs")),
    }
    return _laid_out(document)


def _scripts(folder: str, command: Sequence[str], others: Sequence[str]) -> Iterator[str]:
    """Yield the files of the project that the command names. others: what is an input or output."""
    words = command if command and "/" in command[0] else command[1:]  # other programs are looked up elsewhere
    for path in map(os.path.normpath, words):
        is_other = any(f"{path}/".startswith(f"{os.path.normpath(other)}/") for other in others)
        if not (os.path.isabs(path) or is_other) and os.path.isfile(os.path.join(folder, path)):
            yield path


def _inputs(paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the inputs, each with a name of its own that is made of its path."""
    taken = set[str]()
    for path in paths:
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", last_segment(path)).lstrip(".-")[:100] or "input"
        yield {"name": _unique(name, taken), "path": path}


def _named(paths: Iterable[str], otherwise: str) -> Iterator[dict[str, Any]]:
    """Yield paths with a name each, unless its last segment is one that no path before it has."""
    taken = set[str]()
    for path in paths:
        segment = last_segment(path)
        name = _unique(segment if is_output_name(segment) else otherwise, taken)
        yield {"path": path} if name == segment and not scheme_of(path) else {"path": path, "name": name}


def _unique(name: str, taken: set[str]) -> str:
    """Return name, with a number if it is taken already, and take it."""
    unique, number = name, 2
    while unique in taken:
        unique, number = f"{name}-{number}", number + 1
    taken.add(unique)
    return unique


def _exclude(folder: str, root: str, others: Sequence[str]) -> dict[str, Any]:
    """Return the patterns that leave out of root what lies in it and is no part of it."""
    if scheme_of(root):
        return {}
    inside = [os.path.relpath(other, root) for other in others if not scheme_of(other)]
    below = [_new(os.path.join(folder, root), path) for path in inside if path != "." and path.split("/")[0] != ".."]
    patterns = ["/" + re.sub(r"([\\*?\[ ])", r"\\\1", path) for path in dict.fromkeys(below)]
    return {"exclude": patterns} if patterns else {}


def _new(root: str, path: str) -> str:
    """Return path up to the first folder that is not there yet: making it would change root."""
    ends = [end for end, char in enumerate(path) if char == "/"]
    return next((path[:end] for end in ends if not os.path.lexists(os.path.join(root, path[:end]))), path)


def _laid_out(document: dict[str, object]) -> str:
    """Return the document with each input, output and member of a transform on a line of its own."""
    lines = []
    for name, value in document.items():
        if name == "command" or not isinstance(value, list):
            lines.append(f'  "{name}": {_line(value)}')
            continue
        rows = [_transform(item) if name == "transforms" else f"    {_line(item)}" for item in value]
        lines.append(f'  "{name}": [\n' + ",\n".join(rows) + "\n  ]")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _transform(transform: dict[str, object]) -> str:
    return "    {\n" + ",\n".join(f'      "{name}": {_line(value)}' for name, value in transform.items()) + "\n    }"


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
