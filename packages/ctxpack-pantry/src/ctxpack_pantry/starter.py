"""Init: a contract file, filled in as far as the command line and the project show."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ctxpack_identity.canonical import canonical_json, parse_json
from ctxpack_identity.contractfile import ContractFile, Roots, TreeSource, last_segment, parse_contract_file
from ctxpack_identity.disk import local_failure
from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.exclude import compile_excludes
from ctxpack_identity.hashing.outside import HashedPlace, OutputLocations
from ctxpack_identity.rules import is_input_name, is_output_name
from ctxpack_identity.scheme import scheme_of
from ctxpack_pantry.guesses import GuessedRoot, Project, find_lock_file
from ctxpack_pantry.results import Guess, Initialised

__all__ = ["contract_template", "init"]

# Placeholders: of paths the first that is in nobody's way.
_INPUT = ("./raw_docs", "./inputs", "./read")
_CODE = ("./ingest.py", "./main.py", "./run.py")
_OUTPUT = ("./processed_data", "./outputs", "./made")
_COMMAND = ("python", "ingest.py")
_TOOL = "name-of-the-tool"

_VERSION = "1.0"


class _Place(NamedTuple):
    """A path as the contract file has it. name: "" for one that is made of the path."""

    path: str
    name: str = ""
    gitignore: bool = False


class _Given(NamedTuple):
    """What init was told."""

    inputs: tuple[_Place, ...]
    outputs: tuple[_Place, ...]
    code: tuple[_Place, ...]
    command: tuple[str, ...]
    params: Mapping[str, Any]
    tool: str
    tool_version: str


class _Draft(NamedTuple):
    """A contract file that is not written yet."""

    text: str
    guesses: tuple[Guess, ...]
    placeholders: dict[str, str | list[str]]


def init(
    path: str,
    *,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    code: Sequence[str] = (),
    command: Sequence[str] = (),
    params: Mapping[str, Any] | Sequence[str] = {},
    tool: str = "",
    tool_version: str = "",
) -> Initialised:
    """Write a contract file. What is not given is guessed from the project, or is a placeholder to fill in.

    inputs, outputs: PATH or NAME=PATH; code: PATH; all as they shall be in it. params: values by name, or NAME=VALUE,
    where VALUE is JSON or else a text. command: beside it, only code, tool and environment are guessed.
    Raises: InvalidInput when path exists, what is given is not UTF-8 or makes no valid contract file, or an output lies
    in what is hashed; LocalFailure.
    """
    if not os.path.basename(path):
        raise InvalidInput(
            "no name of a file", where=path or "contract file", fix="name the file to write", code="E_USAGE"
        )
    draft = _draft(path, _given(path, inputs, outputs, code, command, _params(params), tool, tool_version))
    try:
        data = draft.text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            "a path or argument is not UTF-8, which no contract file holds",
            where=path,
            got=repr(draft.text[error.start : error.end]),
            fix="rename the file",
            code="E_NAME_ENCODING",
        ) from error
    _require_outputs_apart(parse_contract_file(data, where=path), os.path.dirname(path))
    try:
        with open(path, "xb") as file:
            file.write(data)
    except FileExistsError as error:
        raise InvalidInput("exists already", where=path, fix="edit it, or name another file") from error
    except OSError as error:
        raise local_failure(error, "cannot be written", path, elsewhere="name another file") from error
    return Initialised(path, draft.guesses, draft.placeholders)


def contract_template(
    path: str,
    *,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    code: Sequence[str] = (),
    command: Sequence[str] = (),
    params: Mapping[str, Any] = {},
    tool: str = "",
    tool_version: str = "",
) -> str:
    """Return the text of a contract file at path. Parameters: as of init."""
    return _draft(path, _given(path, inputs, outputs, code, command, params, tool, tool_version)).text


def _given(
    path: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    code: Sequence[str],
    command: Sequence[str],
    params: Mapping[str, Any],
    tool: str,
    tool_version: str,
) -> _Given:
    folder = os.path.dirname(path)
    return _Given(
        tuple(_place(folder, text, is_input_name) for text in inputs),
        tuple(_place(folder, text, is_output_name) for text in outputs),
        tuple(map(_Place, code)),
        tuple(command),
        params,
        tool,
        tool_version,
    )


def _place(folder: str, text: str, is_name: Callable[[str], bool]) -> _Place:
    """Return an input or output as it is given: PATH, or NAME=PATH."""
    name, equals, path = text.partition("=")
    is_named = equals and path and is_name(name) and not os.path.lexists(os.path.join(folder, text))
    return _Place(path, name) if is_named else _Place(text)


def _params(given: Mapping[str, Any] | Sequence[str]) -> Mapping[str, Any]:
    """Return params by name. Raises: InvalidInput for what is no NAME=VALUE or no value of a contract, and twice one
    name."""
    if isinstance(given, Mapping):
        canonical_json(given, where="params")
        return given
    params: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name or name in params:
            got = f"{name} twice" if name in params else text
            fix = "give each once: --param top_k=5"
            raise InvalidInput("not a param", where="--param", expected="NAME=VALUE", got=got, fix=fix, code="E_USAGE")
        params[name] = _value(value, f"--param {name}")
    return params


def _value(text: str, where: str) -> Any:
    """Return what a text says as JSON, or the text if it is none. Raises: InvalidInput for JSON that is refused."""
    try:
        json.loads(text, parse_constant=_refuse)
    except ValueError:
        return text
    except RecursionError:
        pass  # parse_json says so
    return parse_json(text, where=where)


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def _draft(path: str, given: _Given) -> _Draft:
    folder = os.path.dirname(path)
    project = Project(folder)
    guesses: list[Guess] = []
    placeholders: dict[str, str | list[str]] = {}

    def guessed(what: str, roots: Iterable[GuessedRoot]) -> tuple[_Place, ...]:
        roots = tuple(roots)
        guesses.extend(Guess(what, root.path, root.why) for root in roots)
        return tuple(_Place(root.path, gitignore=root.gitignore) for root in roots)

    def placeholder(what: str, options: Sequence[str], others: Iterable[_Place]) -> tuple[_Place, ...]:
        placeholders[what] = option = project.first_free(options, _paths(others))
        return (_Place(option),)

    inputs, code, outputs, command = given.inputs, given.code, given.outputs, given.command
    if not command and (found := project.command()):
        guesses.append(Guess("command", *found))
        command = tuple(found[0])
    scripts = list(_scripts(folder, command, _paths([*inputs, *outputs])))
    if not inputs and not given.command:
        inputs = guessed("input", project.inputs(_paths(code), _paths(outputs)))
    if not code:
        roots = [] if given.command else project.code(_paths(inputs), _paths(outputs))
        named = [GuessedRoot(f"./{script}", "the command names it") for script in scripts]
        code = guessed("code", [*roots, *(root for root in named if not _is_in(root.path, roots))])
    inputs = inputs or placeholder("input", _INPUT, [*outputs, *code])
    code = code or placeholder("code", _CODE, [*outputs, *inputs])
    if not outputs and not given.command:
        output = project.output(scripts[0] if scripts else "", _paths([*inputs, *code]))
        outputs = guessed("output", [output] if output else [])
    outputs = outputs or placeholder("output", _OUTPUT, [*inputs, *code])
    environment = ""
    if (lock := find_lock_file(folder, scripts)) and project.are_apart(lock[0], _paths(outputs)):
        guesses.append(Guess("environment", *lock))
        environment = lock[0]
    program = last_segment(scripts[0] if scripts else command[0]) if command else ""
    tool, tool_version = given.tool or os.path.splitext(program)[0], given.tool_version or _VERSION
    if tool and not given.tool:
        guesses.append(Guess("tool", tool, "the command runs it"))
    if not given.tool_version:
        guesses.append(Guess("tool-version", _VERSION, "another one gives another URI, whatever the code"))
    if not command:
        placeholders["command"] = list(_COMMAND)
    if not tool:
        placeholders["tool"] = _TOOL
    filled = _Given(inputs, outputs, code, command or _COMMAND, given.params, tool or _TOOL, tool_version)
    return _Draft(_text(path, filled, environment), tuple(guesses), placeholders)


def _text(path: str, filled: _Given, environment: str) -> str:
    """Return the text of a contract file at path. environment: path of a lock file, or ""."""
    folder = os.path.dirname(path)
    made = [os.path.basename(path), *_paths(filled.outputs)]
    others = [*made, *_paths(filled.inputs)]
    roots = [root | _exclude(folder, root["path"], others) for root in _named(filled.code, "code")]
    transform = {
        "tool": filled.tool,
        "tool_version": filled.tool_version,
        "code": roots[0] if len(roots) == 1 and "name" not in roots[0] else roots,
        **({"environment": {"path": environment}} if environment else {}),
        "params": dict(filled.params),
    }
    document = {
        "inputs": [item | _exclude(folder, item["path"], made) for item in _inputs(filled.inputs)],
        "command": list(filled.command),
        "transforms": [transform],
        "outputs": list(_named(filled.outputs, "outputs")),
    }
    return _laid_out(document)


def _require_outputs_apart(contract: ContractFile, base: str) -> None:
    """Raise InvalidInput for an output that lies in what is hashed and is not left out there."""
    outputs = OutputLocations((output.name, os.path.join(base, output.path)) for output in contract.outputs)
    for what, source in _sources(contract):
        if not scheme_of(source.path):
            excludes = compile_excludes(source.excludes)
            outputs.require_outside(HashedPlace(what, os.path.join(base, source.path), excludes))


def _sources(contract: ContractFile) -> Iterator[tuple[str, TreeSource]]:
    """Yield what is hashed, and how messages call it."""
    for given in contract.inputs:
        if given.source is not None:
            yield f"input {given.name}", given.source
    for transform in contract.transforms:
        for what, roots in ("code", transform.code), ("environment", transform.environment):
            if isinstance(roots, Roots):
                yield from ((what, source) for source in roots.sources)


def _paths(places: Iterable[_Place]) -> list[str]:
    return [place.path for place in places]


def _is_in(path: str, roots: Iterable[GuessedRoot]) -> bool:
    """Return whether one of roots is or holds a file, as the paths are written."""
    path = os.path.normpath(path)
    tops = [os.path.normpath(root.path) for root in roots]
    return any(top == "." or f"{path}/".startswith(f"{top}/") for top in tops)


def _scripts(folder: str, command: Sequence[str], others: Sequence[str]) -> Iterator[str]:
    """Yield the files of the project that the command names. others: what is an input or output."""
    words = command if command and "/" in command[0] else command[1:]  # other programs are looked up elsewhere
    for path in map(os.path.normpath, words):
        is_other = any(f"{path}/".startswith(f"{os.path.normpath(other)}/") for other in others)
        if not (os.path.isabs(path) or is_other) and os.path.isfile(os.path.join(folder, path)):
            yield path


def _inputs(places: Iterable[_Place]) -> Iterator[dict[str, Any]]:
    """Yield the inputs, each with its name, or one of its own that is made of its path."""
    places = list(places)
    taken = {place.name for place in places}
    for place in places:
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", last_segment(place.path)).lstrip(".-")[:100] or "input"
        yield {"name": place.name or _unique(name, taken), "path": place.path}


def _named(places: Iterable[_Place], otherwise: str) -> Iterator[dict[str, Any]]:
    """Yield outputs or code with a name each, unless its last segment is one that no other has."""
    places = list(places)
    taken = {place.name for place in places}
    for place in places:
        segment = last_segment(place.path)
        name = place.name or _unique(segment if is_output_name(segment) else otherwise, taken)
        named = (
            {"path": place.path}
            if name == segment and not scheme_of(place.path)
            else {"path": place.path, "name": name}
        )
        yield named | ({"gitignore": True} if place.gitignore else {})


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
