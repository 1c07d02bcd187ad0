"""The results of a benchmark run, stored as one JSON file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.measure import Sample

__all__ = ["CallsRow", "Results", "Table", "TripsRow", "WireRow", "load", "save"]


@dataclass(frozen=True, kw_only=True)
class WireRow:
    """The bytes that one step of a contender sent (up) and received (down), HTTP headers included.

    blobs: how many it sent. peak: bytes of memory of all its processes. Older results have 0 for both.
    """

    contender: str
    step: str
    up: int
    down: int
    requests: int
    seconds: float
    blobs: int = 0
    peak: int = 0


@dataclass(frozen=True, kw_only=True)
class TripsRow:
    """The requests of one step. trips: for each round trip the kinds of its requests, such as "HEAD tag"."""

    contender: str
    step: str
    trips: list[list[str]]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class CallsRow:
    """Calls of one function inside a process. seconds: of CPU, of all calls; refused: how many raised an error."""

    what: str
    calls: int
    seconds: float
    refused: int = 0


@dataclass(frozen=True, kw_only=True)
class Table:
    """One section on one workload. samples: by contender; absent: why a contender has none; size: bytes.

    amounts: bytes, by what they are the size of.
    """

    section: str
    workload: str
    files: int
    size: int
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    wire: list[WireRow] = field(default_factory=list)
    trips: list[TripsRow] = field(default_factory=list)
    amounts: dict[str, int] = field(default_factory=dict)
    calls: list[CallsRow] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"{self.section} {self.workload}"


@dataclass(frozen=True, kw_only=True)
class Results:
    """A whole run. machine: its properties; programs: the version of each, or why it is absent."""

    scale: float
    runs: int
    machine: dict[str, str]
    programs: dict[str, str]
    tables: list[Table]


def save(results: Results, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(results), indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> Results:
    document = json.loads(path.read_text(encoding="utf-8"))
    tables = [_table(table) for table in document.pop("tables")]
    return Results(tables=tables, **document)


def _table(document: dict[str, object]) -> Table:
    samples, wire = document.pop("samples"), document.pop("wire")
    trips, calls = document.pop("trips", []), document.pop("calls", [])  # older results have none
    assert isinstance(samples, dict)
    assert isinstance(wire, list)
    assert isinstance(trips, list)
    assert isinstance(calls, list)
    return Table(
        samples={name: [Sample(*sample) for sample in taken] for name, taken in samples.items()},
        wire=[WireRow(**row) for row in wire],
        trips=[TripsRow(**row) for row in trips],
        calls=[CallsRow(**row) for row in calls],
        **document,  # type: ignore[arg-type]  # as save() wrote them
    )
