"""Where outputs lie: as the contract file says, or as it is said beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ctxpack_identity import InvalidInput
from ctxpack_identity.contractfile import last_segment
from ctxpack_identity.rules import is_output_name
from ctxpack_pantry.contractfile import LoadedContractFile

__all__ = ["locate_outputs", "require_outputs"]


def locate_outputs(contract_file: LoadedContractFile, given: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Return where the outputs of a contract file lie, by name.

    given: those that lie elsewhere: a path, whose last segment is the name, or NAME=PATH, or paths by name. A name
    alone changes nothing, unless something of that name is here. Where the contract file declares none, they are the
    outputs.
    Raises: InvalidInput for a name that the contract file does not declare, or that is given twice; if there are none.
    """
    if not given:
        return require_outputs(contract_file)
    declared = contract_file.outputs
    found: dict[str, str] = {}
    for name, path in given.items() if isinstance(given, Mapping) else [_named(text, declared) for text in given]:
        if name in found:
            raise InvalidInput(
                "two outputs have the same name",
                where=name,
                got=f"{found[name]} and {path}",
                fix="give one another name: NAME=PATH",
                code="E_OUTPUT_NAME",
            )
        if declared and name not in declared:
            raise InvalidInput(
                "the contract declares no such output",
                where=contract_file.path,
                expected=", ".join(sorted(declared)),
                got=name,
                fix=f"say which one of these it is: NAME={path}",
                code="E_OUTPUT_NAME",
            )
        found[name] = path
    return declared | found


def require_outputs(contract_file: LoadedContractFile) -> dict[str, str]:
    """Return where the declared outputs lie. Raises: InvalidInput when the contract file declares none."""
    if not contract_file.outputs:
        raise InvalidInput(
            "contract declares no outputs",
            where=f"{contract_file.path}, /outputs",
            fix='say what the command makes: "outputs": [{"path": "./processed_data"}]',
            code="E_NO_OUTPUTS",
        )
    return contract_file.outputs


def _named(text: str, declared: Mapping[str, str]) -> tuple[str, str]:
    """Return name and path of an output as it is given: NAME=PATH, or a path."""
    name, equals, path = text.partition("=")
    if equals and path and is_output_name(name) and (name in declared or not os.path.lexists(text)):
        return name, path
    for name, path in declared.items():
        if path == text or (name == text and not os.path.lexists(text)):
            return name, path
    name = last_segment(text)
    if not is_output_name(name):
        raise InvalidInput(
            "this path gives no name for an output", where=text, fix=f"name it: NAME={text}", code="E_OUTPUT_NAME"
        )
    return name, text
