"""The contract file that a person writes, and the contract, its canonical form. SPEC.md, "Contract".

Both schemas are closed. All faults of a document are reported together (`faults`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ctxpack_identity.canonical import canonical_json, parse_json, pointer
from ctxpack_identity.digest import Digest
from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.faults import Reader, shown
from ctxpack_identity.lighttyping import Any, NamedTuple, TypeAlias
from ctxpack_identity.scheme import scheme_fault, scheme_of
from ctxpack_identity.uri import CtxUri, parse_uri

__all__ = [
    "CONTRACT_SCHEMA",
    "MAX_CONTRACT_BYTES",
    "OPAQUE",
    "UNDECLARED",
    "ContractFile",
    "InputSource",
    "TransformSource",
    "TreeSource",
    "canonical_contract",
    "parse_canonical_contract",
    "parse_contract_file",
]

CONTRACT_SCHEMA = "ctxpack/contract/v1"
MAX_CONTRACT_BYTES = 4 << 20  # a contract travels inside manifests, which registries cap at 4 MiB

OPAQUE = "opaque"  # code that cannot be hashed: a hosted model, an untracked tool
UNDECLARED = "undeclared"  # no lock file is given

Code: TypeAlias = "Digest | str"
"""A digest, or OPAQUE (code), or UNDECLARED (environment)."""

_INPUT_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_is_input_name = re.compile(_INPUT_NAME).fullmatch

# Python and git write these into a folder of code; the code does not read them. Without a slash, .git is also the file
# that a worktree or submodule has instead of the folder, and that holds an absolute path.
CODE_EXCLUDES = ("__pycache__/", ".git")


class TreeSource(NamedTuple):
    """A file or folder named in a contract. path: relative to the contract file, absolute, or a URL."""

    path: str
    excludes: tuple[str, ...] = ()
    follow: bool = False


class InputSource(NamedTuple):
    """An input as written: exactly one of source, digest and uri is set."""

    name: str
    source: TreeSource | None = None
    digest: Digest | None = None
    uri: CtxUri | None = None


class TransformSource(NamedTuple):
    """A transform as written. code, environment: what to hash, or the digest or word given instead."""

    tool: str
    tool_version: str
    code: TreeSource | Code
    environment: TreeSource | Code
    params: dict[str, Any]


class ContractFile(NamedTuple):
    """A contract file, parsed. outputs: paths, relative to the contract file; labels: not in the contract."""

    inputs: tuple[InputSource, ...]
    transforms: tuple[TransformSource, ...]
    outputs: tuple[str, ...]
    salt: str
    labels: dict[str, str]


def parse_contract_file(data: bytes | str, *, where: str = "contract") -> ContractFile:
    """Return a contract file, parsed.

    A contract, recognised by its "schema", is accepted too: its inputs and code are digests already.
    Raises: InvalidInput, ContractInvalid; SPEC.md "Contract file" says what is allowed.
    """
    value = parse_json(data, where=where)
    if isinstance(value, dict) and "schema" in value:
        return _from_canonical(_checked_canonical(value, where))
    read = Reader()
    root = read.members(
        value, "", required=("inputs", "transforms"), optional=("outputs", "salt", "labels"), of="every contract"
    )
    inputs = tuple(_input(read, item, at) for at, item in read.items(root.get("inputs", []), "/inputs"))
    _unique_names(read, inputs)
    transforms = tuple(_transform(read, item, at) for at, item in read.items(root.get("transforms", []), "/transforms"))
    if "transforms" in root and root["transforms"] == []:
        read.fault("E_EMPTY", "/transforms", "at least one transform is needed; say which tool makes the outputs")
    outputs = tuple(_output(read, item, at) for at, item in read.items(root.get("outputs", []), "/outputs"))
    salt = read.text(root, "salt", "", default="", empty=True)
    labels = {
        name: read.text(root["labels"], name, "/labels", empty=True)
        for name in (read.members(root["labels"], "/labels") if "labels" in root else {})
    }
    read.done(where)
    return ContractFile(inputs, transforms, outputs, salt, labels)


def canonical_contract(
    inputs: Mapping[str, Digest], transforms: list[dict[str, Any]], salt: str, *, where: str = "contract"
) -> bytes:
    """Return the canonical bytes of a resolved contract; their SHA-256 is the URI.

    inputs: tree digest by name. transforms: objects with exactly tool, tool_version, code_hash, environment_hash
    and params. Raises: InvalidInput when the result is larger than MAX_CONTRACT_BYTES or not a contract.
    """
    value = {
        "inputs": {name: {"digest": digest} for name, digest in inputs.items()},
        "salt": salt,
        "schema": CONTRACT_SCHEMA,
        "transforms": transforms,
    }
    data = canonical_json(_checked_canonical(value, where), where=where)
    _require_size(data, where)
    return data


def parse_canonical_contract(data: bytes, *, where: str = "contract") -> dict[str, Any]:
    """Return the value of a canonical contract, which data must be to the byte.

    Raises: InvalidInput when data is larger than MAX_CONTRACT_BYTES, not canonical JSON or not a ctxpack/contract/v1
    document.
    """
    _require_size(data, where)
    value = parse_json(data, where=where)
    if canonical_json(value, where=where) != data:
        raise InvalidInput("not canonical JSON (RFC 8785)", where=where, code="E_NOT_CANONICAL")
    return _checked_canonical(value, where)


def _input(read: Reader, value: Any, at: str) -> InputSource:
    fields = read.members(
        value,
        at,
        required=("name",),
        optional=("path", "digest", "uri", "exclude", "symlinks"),
        one_of=("path", "digest", "uri"),
        of="every input",
    )
    name = read.text(fields, "name", at)
    if name:
        _check_input_name(read, name, pointer(at, "name"))
    if "path" in fields:
        return InputSource(name, source=_tree_source(read, fields, at))
    for member in ("exclude", "symlinks"):
        if member in fields:
            read.fault("E_UNKNOWN_FIELD", pointer(at, member), 'only means something beside "path"; remove it')
    if "digest" in fields:
        return InputSource(name, digest=read.digest(fields, "digest", at))
    if "uri" in fields:
        try:
            return InputSource(name, uri=parse_uri(fields["uri"]))
        except InvalidInput as error:
            read.fault(
                error.code, pointer(at, "uri"), f"{error.what}: expected {error.expected}, got {error.got}; {error.fix}"
            )
    return InputSource(name)


def _check_input_name(read: Reader, name: str, at: str) -> None:
    if not _is_input_name(name):
        fix = "use letters, digits, . _ and -, at most 128, the first a letter, digit or _"
        read.fault("E_INPUT_NAME", at, f"{name!r} is not a name; {fix}")


def _unique_names(read: Reader, inputs: tuple[InputSource, ...]) -> None:
    first: dict[str, int] = {}
    for index, source in enumerate(inputs):
        if source.name and first.setdefault(source.name, index) != index:
            what = f"inputs {first[source.name]} and {index} are both called {source.name!r}; give each its own name"
            read.fault("E_INPUT_NAME", f"/inputs/{index}/name", what)


def _transform(read: Reader, value: Any, at: str) -> TransformSource:
    fields = read.members(
        value,
        at,
        required=("tool", "tool_version"),
        optional=("code_hash", "code", "environment_hash", "environment", "params"),
        of="every transform",
    )
    if isinstance(value, dict) and "code" not in value and "code_hash" not in value:
        fix = f'give "code": {{"path": …}}, "code_hash": "sha256:…", or "code_hash": "{OPAQUE}" for a hosted tool'
        read.fault("E_CODE_MISSING", at, f"the transform says nothing of its code; {fix}")
    return TransformSource(
        tool=read.text(fields, "tool", at),
        tool_version=read.text(fields, "tool_version", at),
        code=_code(read, fields, at, "code", OPAQUE, CODE_EXCLUDES),
        environment=_code(read, fields, at, "environment", UNDECLARED, ()),
        params=read.members(fields.get("params", {}), pointer(at, "params")),
    )


def _code(
    read: Reader, fields: dict[str, Any], at: str, member: str, word: str, excludes: tuple[str, ...]
) -> TreeSource | Code:
    hashed = f"{member}_hash"
    if member in fields and hashed in fields:
        read.fault(
            "E_UNKNOWN_FIELD", pointer(at, hashed), f'"{member}" and "{hashed}" are both given; keep one of the two'
        )
    elif member in fields:
        here = pointer(at, member)
        inner = read.members(
            fields[member], here, required=("path",), optional=("exclude", "symlinks"), of=f'"{member}"'
        )
        return _tree_source(read, inner, here, excludes)
    elif hashed in fields:
        return read.digest(fields, hashed, at, word=word)
    return word


def _tree_source(read: Reader, fields: dict[str, Any], at: str, excludes: tuple[str, ...] = ()) -> TreeSource:
    path = read.path(fields, at)
    if scheme_of(path):
        if fault := scheme_fault(path):
            read.fault("E_SCHEME", pointer(at, "path"), fault)
        elif "symlinks" in fields:
            read.fault("E_UNKNOWN_FIELD", pointer(at, "symlinks"), "a store has no symbolic links; remove it")
    patterns = [read.string(item, here) for here, item in read.items(fields.get("exclude", []), pointer(at, "exclude"))]
    symlinks = fields.get("symlinks", "refuse")
    if symlinks not in ("refuse", "follow"):
        read.fault("E_TYPE", pointer(at, "symlinks"), f'expected "follow" or "refuse", got {shown(symlinks)}')
    return TreeSource(path, (*excludes, *patterns), symlinks == "follow")


def _output(read: Reader, value: Any, at: str) -> str:
    path = read.path(read.members(value, at, required=("path",), of="every output"), at)
    if scheme_of(path):
        read.fault("E_SCHEME", pointer(at, "path"), "outputs lie on this machine; give a path, not a URL")
    return path


def _checked_canonical(value: Any, where: str) -> dict[str, Any]:
    read = Reader()
    if isinstance(value, dict) and value.get("schema", CONTRACT_SCHEMA) != CONTRACT_SCHEMA:
        fix = "a newer ctxpack may know it; a contract file has no schema member"
        read.fault("E_SCHEMA", "/schema", f"expected {CONTRACT_SCHEMA!r}, got {shown(value['schema'])}; {fix}")
        read.done(where)  # the other rules are those of another schema
    root = read.members(value, "", required=("inputs", "salt", "schema", "transforms"), of="every contract")
    for name, item in read.members(root.get("inputs", {}), "/inputs").items():
        here = pointer("/inputs", name)
        _check_input_name(read, name, here)
        read.digest(read.members(item, here, required=("digest",), of="every input"), "digest", here)
    read.text(root, "salt", "", empty=True)
    for here, item in read.items(root.get("transforms", []), "/transforms"):
        members = ("code_hash", "environment_hash", "params", "tool", "tool_version")
        fields = read.members(item, here, required=members, of="every transform")
        read.text(fields, "tool", here)
        read.text(fields, "tool_version", here)
        read.digest(fields, "code_hash", here, word=OPAQUE)
        read.digest(fields, "environment_hash", here, word=UNDECLARED)
        read.members(fields.get("params", {}), pointer(here, "params"))
    if root.get("transforms") == []:
        read.fault("E_EMPTY", "/transforms", "at least one transform is needed")
    read.done(where)
    return root


def _require_size(data: bytes, where: str) -> None:
    if len(data) > MAX_CONTRACT_BYTES:
        raise InvalidInput(
            "contract is too large",
            where=where,
            expected=f"at most {MAX_CONTRACT_BYTES} bytes",
            got=str(len(data)),
            fix="put large params or long lists of inputs into a file or folder, and make that an input",
            code="E_TOO_LARGE",
        )


def _from_canonical(value: dict[str, Any]) -> ContractFile:
    return ContractFile(
        inputs=tuple(InputSource(name, digest=item["digest"]) for name, item in value["inputs"].items()),
        transforms=tuple(
            TransformSource(t["tool"], t["tool_version"], t["code_hash"], t["environment_hash"], t["params"])
            for t in value["transforms"]
        ),
        outputs=(),
        salt=value["salt"],
        labels={},
    )
