"""Repush: the bytes on the wire after 1 % has changed, and after nothing has changed."""

from __future__ import annotations

from collections.abc import Iterator

from bench.clients import Client, CtxPack, clients
from bench.measure import NotDone
from bench.metering import Metered, metered
from bench.programs import Absent
from bench.results import Table, WireRow
from bench.stage import Stage
from bench.workloads import Workload

__all__ = ["repushing"]

BASES = {"W4c": "W3out", "W4s": "W3out", "D-1": "D"}  # what each was before 1 % changed

# Each of these peers stands for others like it.
PEERS = ("one pass: tar, igzip -1", "skopeo, tar | igzip -1", "oras-py", "oras")


def repushing(stage: Stage) -> Iterator[Table]:
    for changed in stage.workloads(BASES):
        base = stage.workload(BASES[changed.name])
        table = Table(section="repush", workload=changed.name, files=changed.files, size=changed.size)
        keep = stage.folder(f"repush ctxpack {changed.name}")
        own = CtxPack(stage, keep / "one", remember=True)
        with metered(stage, table.title) as registry:
            for client in (own, *(client for client in clients(stage, own) if client.name in PEERS)):
                try:
                    for program in client.needs:
                        stage.programs.find(program)
                    table.wire.extend(_steps(registry, client, base, changed))
                    if client is own:
                        table.wire.append(_push_from(CtxPack(stage, keep / "other"), registry, changed))
                except (Absent, NotDone) as reason:
                    table.absent[client.name] = str(reason)
        yield table


def _steps(registry: Metered, client: Client, base: Workload, changed: Workload) -> Iterator[WireRow]:
    repository = _plain(client)
    for workload in (base, changed):
        client.prepare(workload)
    # A client with one tag for all overwrites the tag; the bytes are the same.
    yield registry.push("push, first version", client, base, repository)
    yield registry.pull("pull, first version", client, base, repository)
    yield registry.push("push, 1 % changed", client, changed, repository)
    yield registry.pull("pull, 1 % changed", client, changed, repository)
    yield registry.push("push, unchanged", client, changed, repository)


def _push_from(other: CtxPack, registry: Metered, changed: Workload) -> WireRow:
    """Push what is there already, from a cache in which it was made again."""
    other.prepare(changed)
    return registry.push("push, unchanged, from another cache", other, changed, _plain(other))


def _plain(client: Client) -> str:
    return "".join(c if c.isalnum() else "" for c in client.name.lower())
