"""Squeeze: the bytes of a pack, in many small gzip members, beside one gzip stream of the same folder."""

from __future__ import annotations

from collections.abc import Iterator

from bench.clients import CtxPack
from bench.measure import execute
from bench.programs import Absent
from bench.repository import layers
from bench.results import Table
from bench.stage import Stage
from bench.workloads import Workload

__all__ = ["squeezing"]


def squeezing(stage: Stage) -> Iterator[Table]:
    for workload in stage.workloads(("W3out", "D")):
        table = Table(section="squeeze", workload=workload.name, files=workload.files, size=workload.size)
        stage.note(table.title)
        table.amounts["ctxpack, all layers"] = _pack_bytes(stage, workload)
        compressor = _compressor(stage)
        table.amounts[f"tar | {compressor} -1"] = _stream_bytes(stage, workload, compressor)
        yield table


def _pack_bytes(stage: Stage, workload: Workload) -> int:
    place = stage.folder(f"squeeze {workload.name}")
    own = CtxPack(stage, place / "ctxpack")
    own.prepare(workload)
    with stage.registry(f"squeeze {workload.name}") as registry:
        execute(own.push(workload, f"{registry.address}/packs", place), place)
        return sum(layer.stat().st_size for layer in layers(registry, "packs"))


def _compressor(stage: Stage) -> str:
    try:
        stage.programs.find("igzip")
    except Absent:
        return "gzip"
    return "igzip"


def _stream_bytes(stage: Stage, workload: Workload, compressor: str) -> int:
    place = stage.folder(f"squeeze stream {workload.name}")
    script = f'tar --create --directory "$1" . | {compressor} -1 | wc --bytes'
    _, printed = execute(stage.peer(compressor, place, "bash", "-c", script, "bash", workload.folder), place)
    return int(printed)
