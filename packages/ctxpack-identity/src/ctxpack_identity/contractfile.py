"""The contract file: what a person writes. SPEC.md, section 7."""

from __future__ import annotations

from collections.abc import Sequence

from ctxpack_identity.canonical import parse_json, pointer
from ctxpack_identity.contract import CONTRACT_SCHEMA, MAP_SCHEMA, OPAQUE, check_canonical
from ctxpack_identity.digest import Digest
from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.faults import Reader, quoted, shown
from ctxpack_identity.lighttyping import Any, NamedTuple, TypeAlias
from ctxpack_identity.rules import (
    UNDECLARED,
    Each,
    check_command_of_map,
    check_input_name,
    check_variable,
    is_output_name,
    read_command,
    read_each,
    require_no_nul,
)
from ctxpack_identity.scheme import scheme_fault, scheme_of
from ctxpack_identity.uri import CtxUri, parse_uri

__all__ = [
    "CODE_PATTERNS",
    "MAX_CONTRACT_FILE_BYTES",
    "ContractFile",
    "InputSource",
    "OutputPlace",
    "Roots",
    "TransformSource",
    "TreeSource",
    "last_segment",
    "parse_contract_file",
    "with_command",
]

MAX_CONTRACT_FILE_BYTES = 8 << 20  # twice that of a contract: indentation is not part of the canonical form

# What tools and editors drop into a folder of code, and the code does not read. .git without a slash is also the file
# that a worktree or submodule has, which holds an absolute path. SPEC.md, section 7, has this list.
CODE_PATTERNS = (
    "__pycache__/",
    "*.pyc",
    ".git",
    ".pytest_cache/",
    ".mypy_cache/",
    ".ruff_cache/",
    "*.egg-info/",
    ".ipynb_checkpoints/",
    ".venv/",
    "ctxpack.lock",
    "*~",
    ".*.sw[a-p]",
    ".sw[a-p]",
    ".*.kate-swp",
    ".#*",
    "\\#*#",
)

_RESERVED = "CTXPACK_"
_SECRETS = frozenset({"KEY", "APIKEY", "TOKEN", "SECRET", "PASSWORD"})

_OF_CONTRACT = ("command", "variables", "platform", "each", "inputs", "outputs", "salt", "labels")
_OF_TRANSFORM = ("tool", "tool_version", "code", "code_hash", "environment", "environment_hash", "params")
_IN_CONTRACT = dict.fromkeys(_OF_CONTRACT, "into the contract itself, beside inputs")
_IN_TRANSFORM = dict.fromkeys(_OF_TRANSFORM, "into a transform")


class TreeSource(NamedTuple):
    """A file or folder named in a contract. path: relative to the contract file, absolute, or a URL.

    excludes: its own patterns. gitignore: .gitignore files are patterns too. listing, text: whether a pack gets them.
    name: in the folder that an array of roots is.
    """

    path: str
    excludes: tuple[str, ...] = ()
    follow: bool = False
    gitignore: bool = False
    listing: bool = True
    text: bool = False
    name: str = ""


class InputSource(NamedTuple):
    """An input as written: exactly one of source, digest and uri is set. listing: of an input given by URI."""

    name: str
    source: TreeSource | None = None
    digest: Digest | None = None
    uri: CtxUri | None = None
    listing: bool = True


class Roots(NamedTuple):
    """What code or environment consist of: one file or folder, or the folder that holds each of them by its name."""

    sources: tuple[TreeSource, ...]
    as_folder: bool = False


Code: TypeAlias = "Roots | Digest | str"
"""What to hash, or the digest that is given instead, or OPAQUE (code) or UNDECLARED (environment)."""


class TransformSource(NamedTuple):
    """A transform as written."""

    tool: str
    tool_version: str
    code: Code
    environment: Code
    params: dict[str, Any]


class OutputPlace(NamedTuple):
    """An output. name: in the contract and the pack; path: where it lies, relative to the contract file or absolute.

    excludes, follow: what of it a pack gets; not in the contract.
    """

    name: str
    path: str
    excludes: tuple[str, ...] = ()
    follow: bool = False


class ContractFile(NamedTuple):
    """A contract file, parsed. labels: not in the contract. command: None if undeclared.

    variables: with their values, None for one whose value is that of the environment. schema: of the contract.
    """

    inputs: tuple[InputSource, ...]
    transforms: tuple[TransformSource, ...]
    outputs: tuple[OutputPlace, ...]
    salt: str
    labels: dict[str, str]
    command: tuple[str, ...] | None
    variables: dict[str, str | None]
    platform: dict[str, str]
    each: Each | None
    schema: str


def parse_contract_file(data: bytes | str, *, where: str = "contract") -> ContractFile:
    """Return a contract file, parsed.

    A canonical contract, recognised by its "schema", is accepted too: its inputs and code are digests already, and its
    outputs lie beside the file.
    Raises: InvalidInput, ContractInvalid; SPEC.md, section 7, says what is allowed.
    """
    size = len(data if isinstance(data, bytes) else data.encode(errors="surrogatepass"))
    if size > MAX_CONTRACT_FILE_BYTES:
        raise InvalidInput(
            "too large for a contract file",
            where=where,
            expected=f"at most {MAX_CONTRACT_FILE_BYTES} bytes",
            fix="move long lists or params into a file, and make that an input",
            code="E_TOO_LARGE",
        )
    value = parse_json(data, where=where)
    if isinstance(value, dict) and "schema" in value:
        return _from_canonical(check_canonical(value, where))
    read = Reader()
    optional = ("outputs", "command", "variables", "platform", "each", "salt", "labels")
    root = read.members(
        value,
        "",
        required=("inputs", "transforms"),
        optional=optional,
        of="every contract",
        elsewhere=_IN_TRANSFORM,
    )
    inputs = tuple(_input(read, item, at) for at, item in read.items(root.get("inputs", []), "/inputs"))
    _unique(read, "E_INPUT_NAME", [(f"/inputs/{index}/name", item.name) for index, item in enumerate(inputs)])
    transforms = tuple(_transform(read, item, at) for at, item in read.items(root.get("transforms", []), "/transforms"))
    if root.get("transforms") == []:
        read.fault("E_EMPTY", "/transforms", "at least one transform", "an empty array", "say which tool is used")
    contract = ContractFile(
        inputs=inputs,
        transforms=transforms,
        outputs=_outputs(read, root),
        salt=read.text(root, "salt", "", empty=True),
        labels=read.texts(root.get("labels", {}), "/labels"),
        command=read_command(read, root),
        variables=_variables(read, root.get("variables", {})),
        platform=_platform(read, root.get("platform", {})),
        each=_each(read, root, inputs),
        schema=MAP_SCHEMA if "each" in root else CONTRACT_SCHEMA,
    )
    if contract.each is not None:
        check_command_of_map(read, contract.command)
    read.done(where)
    return contract


def with_command(contract: ContractFile, command: Sequence[str], *, where: str = "contract") -> ContractFile:
    """Return the contract file with a command that was given beside it, on a command line.

    Raises: InvalidInput when the contract file has another one, or command is none that a contract may have.
    """
    if contract.command is not None and contract.command != tuple(command):
        import shlex  # only this error needs it

        raise InvalidInput(
            "the contract has another command",
            where=f"{where}, /command",
            expected=shlex.join(contract.command),
            got=shlex.join(command),
            fix="leave the command out, or change the one in the contract file",
            code="E_COMMAND",
        )
    read = Reader()
    given = read_command(read, {"command": tuple(command)})
    if contract.each is not None:
        check_command_of_map(read, given)
    read.done(where)
    return contract._replace(command=given)


def last_segment(path: str) -> str:
    """Return the last segment of a path as it is written, without a ``/`` at its end.

    >>> last_segment("./out/"), last_segment("a/.."), last_segment("/")
    ('out', '..', '')
    """
    return path.rstrip("/").rpartition("/")[2]


def _input(read: Reader, value: Any, at: str) -> InputSource:
    fields = read.members(
        value,
        at,
        required=("name",),
        optional=("path", "digest", "uri", "exclude", "symlinks", "gitignore", "listing"),
        one_of=("path", "digest", "uri"),
        of="every input",
    )
    name = read.text(fields, "name", at)
    if name:
        check_input_name(read, name, pointer(at, "name"))
    if "path" in fields:
        return InputSource(name, source=_tree_source(read, fields, at))
    for member in ("exclude", "symlinks", "gitignore") + (("listing",) if "uri" not in fields else ()):
        if member in fields:
            read.fault("E_UNKNOWN_FIELD", pointer(at, member), f'"{member}" beside "path" only', "it", "remove it")
    listing = read.flag(fields, "listing", at, default=True)
    if "digest" in fields:
        return InputSource(name, digest=read.digest(fields, "digest", at))
    if "uri" in fields:
        try:
            return InputSource(name, uri=parse_uri(fields["uri"]), listing=listing)
        except InvalidInput as error:
            read.fault(error.code, pointer(at, "uri"), error.expected, shown(fields["uri"]), error.fix)
    return InputSource(name)


def _unique(read: Reader, code: str, names: list[tuple[str, str]]) -> None:
    """Note a fault for each name that another one before it has. names: with their pointers; "" is none."""
    first: dict[str, str] = {}
    for at, name in names:
        if name and first.setdefault(name, at) != at:
            read.fault(code, at, f"another name than at {first[name]}", quoted(name), "give each a name of its own")


def _transform(read: Reader, value: Any, at: str) -> TransformSource:
    fields = read.members(
        value,
        at,
        required=("tool", "tool_version"),
        optional=_OF_TRANSFORM[2:],
        of="every transform",
        elsewhere=_IN_CONTRACT,
    )
    if isinstance(value, dict) and "code" not in value and "code_hash" not in value:
        expected = f'"code": {{"path": …}}, or "code_hash": a digest or "{OPAQUE}"'
        read.fault("E_CODE_MISSING", at, expected, "neither", f'"{OPAQUE}" is for code that cannot be hashed')
    return TransformSource(
        tool=read.text(fields, "tool", at),
        tool_version=read.text(fields, "tool_version", at),
        code=_code(read, fields, at, "code", OPAQUE),
        environment=_code(read, fields, at, "environment", UNDECLARED),
        params=read.members(fields.get("params", {}), pointer(at, "params")),
    )


def _code(read: Reader, fields: dict[str, Any], at: str, member: str, word: str) -> Code:
    hashed = f"{member}_hash"
    if member in fields and hashed in fields:
        expected = f'"{member}" or "{hashed}", not both'
        read.fault("E_UNKNOWN_FIELD", pointer(at, hashed), expected, "both", "keep one of the two")
    elif member in fields:
        return _roots(read, fields[member], pointer(at, member), member)
    elif hashed in fields:
        return read.digest(fields, hashed, at, word=word)
    return word


def _roots(read: Reader, value: Any, at: str, member: str) -> Roots:
    shared = ("exclude", "symlinks", "listing", *(("gitignore",) if member == "code" else ()))
    if isinstance(value, str):
        read.fault(
            "E_TYPE", at, "an object, or an array of objects", quoted(value), f'write {{"path": {quoted(value)}}}'
        )
        return Roots(())
    if not isinstance(value, list | tuple):
        alone = ("text",) if member == "environment" else ()
        inner = read.members(value, at, required=("path",), optional=(*shared, *alone), of=f'"{member}"')
        return Roots((_tree_source(read, inner, at),))
    sources, names = [], []
    for here, item in read.items(value, at):
        inner = read.members(item, here, required=("path",), optional=(*shared, "name"), of=f'every root of "{member}"')
        source = _tree_source(read, inner, here)
        name = read.text(inner, "name", here) or ("" if scheme_of(source.path) else last_segment(source.path))
        if source.path and (name in ("", ".", "..") or "/" in name or "\0" in name):
            expected = "a name of one segment for this root"
            read.fault("E_ROOT_NAME", here, expected, shown(name or source.path), 'add "name", or correct it')
        sources.append(source._replace(name=name))
        names.append((here, name))
    _unique(read, "E_ROOT_NAME", names)
    if not sources:
        read.fault("E_EMPTY", at, "at least one root", "an empty array", "name what is hashed")
    return Roots(tuple(sources), as_folder=True)


def _tree_source(read: Reader, fields: dict[str, Any], at: str) -> TreeSource:
    path = read.path(fields, at)
    if scheme_of(path):
        if fault := scheme_fault(path):
            read.fault(
                "E_SCHEME", pointer(at, "path"), "a path, or the URL of a store", shown(path), f"this is {fault}"
            )
        for member in ("symlinks", "gitignore", "text"):
            if member in fields:
                read.fault("E_UNKNOWN_FIELD", pointer(at, member), "a path on this machine", "a URL", "remove it")
    return TreeSource(
        path,
        _excludes(read, fields, at),
        _follow(read, fields, at),
        gitignore=read.flag(fields, "gitignore", at),
        listing=read.flag(fields, "listing", at, default=True),
        text=read.flag(fields, "text", at),
    )


def _excludes(read: Reader, fields: dict[str, Any], at: str) -> tuple[str, ...]:
    patterns = read.items(fields.get("exclude", []), pointer(at, "exclude"))
    return tuple(read.string(pattern, here) for here, pattern in patterns)


def _follow(read: Reader, fields: dict[str, Any], at: str) -> bool:
    return read.word(fields, "symlinks", at, ("refuse", "follow")) == "follow"


def _outputs(read: Reader, root: dict[str, Any]) -> tuple[OutputPlace, ...]:
    found, names = [], []
    for at, item in read.items(root.get("outputs", []), "/outputs"):
        fields = read.members(item, at, required=("path",), optional=("name", "exclude", "symlinks"), of="every output")
        path = read.path(fields, at)
        if scheme_of(path):
            read.fault(
                "E_SCHEME", pointer(at, "path"), "a path on this machine", shown(path), "outputs lie in no store"
            )
        name = read.text(fields, "name", at) if "name" in fields else last_segment(path)
        if path and (name or "name" not in fields) and not is_output_name(name):
            expected = "a name for the output, one segment of a path"
            read.fault("E_OUTPUT_NAME", at, expected, shown(name or path), 'add "name", or correct it')
        found.append(OutputPlace(name, path, _excludes(read, fields, at), _follow(read, fields, at)))
        names.append((at, name))
    _unique(read, "E_OUTPUT_NAME", names)
    return tuple(found)


def _variables(read: Reader, value: Any) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    if isinstance(value, list | tuple):
        for at, item in read.items(value, "/variables"):
            name = read.string(item, at, empty=True)
            if not isinstance(item, str):
                continue
            if name in found:
                read.fault("E_VARIABLE", at, "each name once", quoted(name), "remove one of the two")
            found[name] = None
            _check_name_of_variable(read, name, at)
        return found
    if not isinstance(value, dict):
        expected = "an array of names, or an object of texts"
        read.fault("E_TYPE", "/variables", expected, shown(value), 'write ["NAME"] or {"NAME": "value"}')
        return found
    for name, text in read.texts(value, "/variables").items():
        found[name] = text
        _check_name_of_variable(read, name, pointer("/variables", name))
        require_no_nul(read, text, pointer("/variables", name))
    return found


def _check_name_of_variable(read: Reader, name: str, at: str) -> None:
    check_variable(read, name, at)
    if name.startswith(_RESERVED):
        read.fault("E_VARIABLE", at, f"a name without {_RESERVED} at its start", quoted(name), "ctxpack sets these")
    if not _SECRETS.isdisjoint(name.upper().split("_")):
        fix = "remove it: all who can pull could read its value, and the command gets it all the same"
        read.fault("E_SECRET", at, "a variable whose value may be read by others", quoted(name), fix)


def _platform(read: Reader, value: Any) -> dict[str, str]:
    found = read.texts(value, "/platform")
    for name, text in found.items():
        if text == "auto" and name not in ("os", "arch"):
            expected = 'a text; "auto" is for os and arch'
            read.fault("E_PLATFORM", pointer("/platform", name), expected, '"auto"', "write what is meant")
    return found


def _each(read: Reader, root: dict[str, Any], inputs: tuple[InputSource, ...]) -> Each | None:
    if "each" not in root:
        return None
    outputs = root.get("outputs", [])
    names = [item.name for item in inputs if item.name]
    each = read_each(read, root, names, len(outputs) if isinstance(outputs, list | tuple) else 1, written=False)
    for number, item in enumerate(inputs):
        if item.name and item.name == each.input:
            if item.digest is not None:
                read.fault("E_EACH", f"/inputs/{number}", "an input by path or uri", "one by digest", "give its path")
            if not (item.listing and (item.source is None or item.source.listing)):
                expected = "a listing of the input that the map goes over"
                read.fault("E_EACH", f"/inputs/{number}/listing", expected, "false", "remove it")
    return each


def _from_canonical(value: dict[str, Any]) -> ContractFile:
    command = value["command"]
    return ContractFile(
        inputs=tuple(InputSource(name, digest=item["digest"]) for name, item in value["inputs"].items()),
        transforms=tuple(
            TransformSource(t["tool"], t["tool_version"], t["code_hash"], t["environment_hash"], t["params"])
            for t in value["transforms"]
        ),
        outputs=tuple(OutputPlace(name, name) for name in value["outputs"]),
        salt=value["salt"],
        labels={},
        command=None if command == UNDECLARED else tuple(command),
        variables=dict(value["variables"]),
        platform=value["platform"],
        each=Each(**value["each"]) if "each" in value else None,
        schema=value["schema"],
    )
