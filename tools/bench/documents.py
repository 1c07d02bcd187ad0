"""Documents: time and memory for the worst JSON within the limits of SPEC.md, section 11."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from bench.compare import compare, prints, write_contract
from bench.measure import Contender, execute
from bench.results import Table
from bench.stage import Stage
from bench.verdict import OURS
from bench.workloads import Workload

__all__ = ["documents"]

# The limits, once more: the program that is measured is another installation.
LEVELS = 64
MEMBERS = 262_144
NAME_BYTES = 4096
CONTRACT_BYTES = 4 << 20
MANIFEST_BYTES = 16 << 20
INSIDE = 6  # levels of a contract around a value of its params
BESIDE = 1000  # bytes of a contract without its params


def _arrays(members: int, size: int, levels: int) -> str:
    return f"[{','.join(['[]'] * members)}]"


def _objects(members: int, size: int, levels: int) -> str:
    """Objects of one member, in each other as deep as they may be."""
    inner = min(levels - 2, members - 1)
    chain = '{"a":' * inner + "{}" + "}" * inner
    return f"[{','.join([chain] * (members // (inner + 1)))}]"


def _names(members: int, size: int, levels: int) -> str:
    return "{" + ",".join(f'"{number:08}":0' for number in range(members)) + "}"


def _long_names(members: int, size: int, levels: int) -> str:
    """The longest names above many elements: all of their pointers together would be a thousand times the document."""
    inner = levels - 1
    names = "".join(f'{{"{level:0{NAME_BYTES}}":' for level in range(inner))
    return names + f"[{','.join(['0'] * (members - inner))}]" + "}" * inner


def _text(members: int, size: int, levels: int) -> str:
    """One text that a count of commas mistakes for elements."""
    return f'"{"," * (size - 2)}"'


SHAPES: dict[str, Callable[[int, int, int], str]] = {
    "empty arrays": _arrays,
    "objects in objects": _objects,
    "names": _names,
    "long names above elements": _long_names,
    "one text": _text,
}


def documents(stage: Stage) -> Iterator[Table]:
    """Yield two tables: contracts, named by `ctxpack id`, and documents as large as a manifest, read and written."""
    members = max(round(MEMBERS * stage.plan.scale), LEVELS + 1)
    size = round(CONTRACT_BYTES * stage.plan.scale) - BESIDE
    contracts = [
        _identify(stage, name, shape(members - LEVELS, size, LEVELS - INSIDE)) for name, shape in SHAPES.items()
    ]
    place = stage.folder("documents")
    yield compare(stage, "documents", Workload("contracts", place, 1, CONTRACT_BYTES), contracts)
    size = round(MANIFEST_BYTES * stage.plan.scale)
    others = [_read(stage, name, shape(members, size, LEVELS)) for name, shape in SHAPES.items()]
    yield compare(stage, "documents", Workload("manifests", place, 1, MANIFEST_BYTES), others)


def _identify(stage: Stage, name: str, params: str) -> Contender:
    place = stage.folder(f"documents id {name}")
    contract = write_contract(place, "documents")
    value = json.loads(contract.read_text("utf-8"))
    value["transforms"][0]["params"] = {"value": "@"}
    contract.write_text(json.dumps(value).replace('"@"', params), encoding="utf-8")
    command = stage.cli(place, place / "cache", "id", "--quiet", contract)
    _, uri = execute(command, place)
    return Contender(f"{OURS}, {name}", lambda run: command, check=prints(uri.strip()))


def _read(stage: Stage, name: str, document: str) -> Contender:
    path = stage.folder(f"documents read {name}") / "document.json"
    path.write_text(document, encoding="utf-8")
    command = stage.command(path.parent, stage.python, stage.script("read_document.py"), path)
    return Contender(f"{OURS}, {name}", lambda run: command, check=prints("same"))
