"""Where outputs lie: as the contract file says, or as it is said beside it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from ctxpack_bundle import OutputTree
from ctxpack_cache import Cache
from ctxpack_identity import HashedRoot, InvalidInput
from ctxpack_identity.contractfile import last_segment
from ctxpack_identity.rules import is_output_name
from ctxpack_pantry.contractfile import LoadedContractFile

__all__ = ["locate_outputs", "require_apart", "require_outputs"]


def locate_outputs(
    contract_file: LoadedContractFile, given: Sequence[str] | Mapping[str, str]
) -> dict[str, OutputTree]:
    """Return the outputs of a contract file on disk, by name.

    given: those that lie elsewhere: a path, whose last segment is the name, or NAME=PATH, or paths by name. A name
    alone changes nothing, unless something of that name is here. Where the contract file declares none, they are the
    outputs.
    Raises: InvalidInput for a name that the contract file does not declare, or that is given twice; if there are none.
    """
    if not given:
        return require_outputs(contract_file)
    declared = _trees(contract_file)
    paths = {name: tree.location for name, tree in declared.items()}
    found: dict[str, OutputTree] = {}
    for name, path in given.items() if isinstance(given, Mapping) else [_named(text, paths) for text in given]:
        if name in found:
            raise InvalidInput(
                "two outputs have the same name",
                where=name,
                got=f"{found[name].location} and {path}",
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
        found[name] = declared[name]._replace(location=path) if declared else OutputTree(path)
    return declared | found


def require_outputs(contract_file: LoadedContractFile) -> dict[str, OutputTree]:
    """Return the declared outputs on disk, by name. Raises: InvalidInput when the contract file declares none."""
    if not contract_file.outputs:
        raise InvalidInput(
            "contract declares no outputs",
            where=f"{contract_file.path}, /outputs",
            fix='say what the command makes: "outputs": [{"path": "./processed_data"}]',
            code="E_NO_OUTPUTS",
        )
    return _trees(contract_file)


def require_apart(
    contract_file: LoadedContractFile, outputs: Mapping[str, OutputTree], hashed: Iterable[HashedRoot], cache: Cache
) -> None:
    """Raise InvalidInput when an output is, or holds, what a run must not clear. hashed: inputs, code, environment."""
    places = {f"output {name}": os.path.realpath(tree.location) for name, tree in outputs.items()}
    fixed = [
        ("the current folder", os.path.realpath(os.getcwd())),
        ("the contract file", os.path.realpath(contract_file.path)),
        ("the cache", os.path.realpath(cache.root)),
        *((root.what, os.path.realpath(root.location)) for root in hashed if not root.is_url),
    ]
    for what, place in places.items():
        if f"{place}/".startswith(os.path.join(os.path.realpath(cache.root), "")):
            raise InvalidInput(
                "the output lies in the cache",
                where=f"{what} at {place}",
                expected="a place outside the cache",
                got=cache.root,
                fix="move the output, or the cache (CTXPACK_CACHE)",
                code="E_OUTPUT_HOLDS",
            )
        for other, inner in [*fixed, *((name, path) for name, path in places.items() if name != what)]:
            if f"{inner}/".startswith(os.path.join(place, "")):
                raise InvalidInput(
                    f"the output holds {other}, and a run begins without its outputs",
                    where=f"{what} at {place}",
                    expected="a file or folder of its own",
                    got=inner,
                    fix="name a folder in it, and let the command write there",
                    code="E_OUTPUT_HOLDS",
                )


def _trees(contract_file: LoadedContractFile) -> dict[str, OutputTree]:
    places = contract_file.outputs
    return {
        output.name: OutputTree(places[output.name], output.excludes, output.follow)
        for output in contract_file.file.outputs
    }


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
