"""Flips: every bit of a claim and of the image manifest that it is about is flipped, and all are refused."""

from __future__ import annotations

import json
from collections.abc import Iterator

from bench.claimgoals import FLIPS
from bench.claiming import write_claim
from bench.measure import execute
from bench.results import CallsRow, Table
from bench.signers import SignedPack, small_workload
from bench.stage import Stage

__all__ = ["flipping"]


def flipping(stage: Stage) -> Iterator[Table]:
    workload = small_workload(stage)
    place = stage.folder("flips")
    pack = SignedPack(stage, place, workload, 1)
    with stage.registry("flips") as registry:
        execute(pack.push(f"http://{registry.address}/signed", place, pack.keys[0]), place)
        write_claim(registry, "signed", place)
    section, name = FLIPS.split()
    table = Table(section=section, workload=name, files=workload.files, size=workload.size)
    stage.note(table.title)
    script = stage.script("flip_bits.py")
    _, printed = execute(stage.command(place, stage.python, script, place, f"{pack.keys[0]}.pub", pack.uri), place)
    table.calls.extend(CallsRow(what=what, **counts) for what, counts in json.loads(printed).items())
    yield table
