"""The contract: the canonical form of a contract file, whose SHA-256 is the URI. SPEC.md, section 9.

Its schemas are closed. All faults of a document are reported together (`faults`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ctxpack_identity.canonical import canonical_json, parse_json, pointer
from ctxpack_identity.digest import Digest
from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.faults import Reader, quoted, shown
from ctxpack_identity.lighttyping import Any
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

__all__ = [
    "CONTRACT_SCHEMA",
    "ITEM_SCHEMA",
    "MAP_SCHEMA",
    "MAX_CONTRACT_BYTES",
    "OPAQUE",
    "UNDECLARED",
    "build_contract",
    "canonical_contract",
    "check_canonical",
    "encode_contract",
    "parse_canonical_contract",
]

CONTRACT_SCHEMA = "ctxpack/contract/v1"
MAP_SCHEMA = "ctxpack/map/v1"
ITEM_SCHEMA = "ctxpack/item/v1"
MAX_CONTRACT_BYTES = 4 << 20  # a contract travels inside manifests, which registries cap at 4 MiB

OPAQUE = "opaque"  # code that cannot be hashed: a hosted model, an untracked tool

_SCHEMAS = (CONTRACT_SCHEMA, MAP_SCHEMA, ITEM_SCHEMA)
_MEMBERS = ("command", "inputs", "outputs", "platform", "salt", "schema", "transforms", "variables")


def build_contract(
    inputs: Mapping[str, Digest],
    transforms: Sequence[dict[str, Any]],
    *,
    outputs: Iterable[str] = (),
    command: Sequence[str] | None = None,
    variables: Mapping[str, str] | None = None,
    platform: Mapping[str, str] | None = None,
    salt: str = "",
    each: Each | None = None,
    schema: str = "",
    where: str = "contract",
) -> dict[str, Any]:
    """Return a resolved contract as a value.

    inputs: tree digest by name. transforms: objects with exactly tool, tool_version, code_hash, environment_hash
    and params. outputs: their names. command: None means undeclared. each: makes it a map contract. schema: by default
    the lowest one that can express the contract.
    Raises: InvalidInput when the result is not a contract.
    """
    value: dict[str, Any] = {
        "command": UNDECLARED if command is None else list(command),
        "inputs": {name: {"digest": digest} for name, digest in inputs.items()},
        "outputs": sorted(outputs, key=lambda name: name.encode(errors="surrogatepass")),
        "platform": dict(platform or {}),
        "salt": salt,
        "schema": schema or (CONTRACT_SCHEMA if each is None else MAP_SCHEMA),
        "transforms": list(transforms),
        "variables": dict(variables or {}),
    }
    if each is not None:
        value["each"] = each._asdict()
    return check_canonical(value, where)


def encode_contract(contract: dict[str, Any], *, where: str = "contract") -> bytes:
    """Return the canonical bytes of a contract; their SHA-256 is the URI.

    Raises: InvalidInput when they are more than MAX_CONTRACT_BYTES, or break a limit of canonical JSON.
    """
    data = canonical_json(contract, where=where)
    _require_size(len(data), contract["schema"], where)
    return data


def canonical_contract(
    inputs: Mapping[str, Digest], transforms: Sequence[dict[str, Any]], *, where: str = "contract", **members: Any
) -> bytes:
    """Return the canonical bytes of a resolved contract. Parameters, Raises: as build_contract, encode_contract."""
    return encode_contract(build_contract(inputs, transforms, where=where, **members), where=where)


def parse_canonical_contract(data: bytes, *, where: str = "contract") -> dict[str, Any]:
    """Return the value of a canonical contract, which data must be to the byte.

    Raises: InvalidInput when data is larger than MAX_CONTRACT_BYTES, not canonical JSON or not a contract, map
    contract or item contract.
    """
    _require_size(len(data), CONTRACT_SCHEMA, where)
    value = parse_json(data, where=where)
    if canonical_json(value, where=where) != data:
        fix = "use the bytes that `ctxpack id --canonical` prints, unchanged"
        raise InvalidInput("not canonical JSON (RFC 8785)", where=where, fix=fix, code="E_NOT_CANONICAL")
    contract = check_canonical(value, where)
    _require_size(len(data), contract["schema"], where)
    return contract


def check_canonical(value: Any, where: str) -> dict[str, Any]:
    """Return value, the value of a canonical contract. Raises: ContractInvalid."""
    read = Reader()
    schema = value.get("schema", CONTRACT_SCHEMA) if isinstance(value, dict) else CONTRACT_SCHEMA
    if schema not in _SCHEMAS:
        fix = "a newer ctxpack may know it; a contract file has no schema member"
        read.fault("E_SCHEMA", "/schema", f"one of {', '.join(_SCHEMAS)}", shown(schema), fix)
        read.done(where)  # the other rules are those of another schema
    mapped = ("each",) if schema != CONTRACT_SCHEMA else ()
    root = read.members(value, "", required=(*_MEMBERS, *mapped), of="every canonical contract")
    _check_command(read, root, mapped=bool(mapped))
    inputs = read.members(root.get("inputs", {}), "/inputs")
    for name, item in inputs.items():
        here = pointer("/inputs", name)
        check_input_name(read, name, here)
        read.digest(read.members(item, here, required=("digest",), of="every input"), "digest", here)
    outputs = _check_outputs(read, root)
    for name, item in read.texts(root.get("platform", {}), "/platform").items():
        if item == "auto":
            expected = "the words of the machine"
            read.fault("E_PLATFORM", pointer("/platform", name), expected, '"auto"', "a contract file resolves it")
    read.text(root, "salt", "", empty=True)
    _check_transforms(read, root)
    for name, item in read.texts(root.get("variables", {}), "/variables").items():
        check_variable(read, name, pointer("/variables", name))
        require_no_nul(read, item, pointer("/variables", name))
    if "each" in root:
        read_each(read, root, inputs, outputs, written=True)
    read.done(where)
    return root


def _check_command(read: Reader, root: dict[str, Any], *, mapped: bool) -> None:
    command = read_command(read, root)
    if mapped and root.get("command") == UNDECLARED:
        read.fault("E_MISSING", "/command", "the command of a map", quoted(UNDECLARED), "give the command")
    if mapped:
        check_command_of_map(read, command)


def _check_outputs(read: Reader, root: dict[str, Any]) -> int:
    before = ""
    items = read.items(root.get("outputs", []), "/outputs")
    for at, item in items:
        name = read.string(item, at)
        if name and not is_output_name(name):
            read.fault("E_OUTPUT_NAME", at, "one segment of a path", quoted(name), "rename the output")
        elif name and name.encode(errors="surrogatepass") <= before.encode(errors="surrogatepass"):
            read.fault("E_OUTPUT_NAME", at, "names in byte order, each once", f"{quoted(name)} after {quoted(before)}")
        before = name
    return len(items)


def _check_transforms(read: Reader, root: dict[str, Any]) -> None:
    for here, item in read.items(root.get("transforms", []), "/transforms"):
        members = ("code_hash", "environment_hash", "params", "tool", "tool_version")
        fields = read.members(item, here, required=members, of="every transform")
        read.text(fields, "tool", here)
        read.text(fields, "tool_version", here)
        read.digest(fields, "code_hash", here, word=OPAQUE)
        read.digest(fields, "environment_hash", here, word=UNDECLARED)
        read.members(fields.get("params", {}), pointer(here, "params"))
    if root.get("transforms") == []:
        read.fault("E_EMPTY", "/transforms", "at least one transform", "an empty array", "say which tool is used")


def _require_size(size: int, schema: str, where: str) -> None:
    most = MAX_CONTRACT_BYTES
    if schema == MAP_SCHEMA:
        most -= len(ITEM_SCHEMA) - len(MAP_SCHEMA)  # so that the contracts of its items have room
    if size > most:
        raise InvalidInput(
            "contract is too large",
            where=where,
            expected=f"at most {most} bytes",
            got=str(size),
            fix="put large params or long lists of inputs into a file or folder, and make that an input",
            code="E_TOO_LARGE",
        )
