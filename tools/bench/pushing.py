"""Push and pull: what it costs to bring a folder to a registry, and to have it, verified, on another machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.carriers import Carrier, CtxPack, carriers, url
from bench.compare import compare, expect_copy, tidy_few
from bench.measure import Command, Contender, Run, execute
from bench.repository import expect_pushed, layers
from bench.results import Table
from bench.stage import Stage, remove_tree
from bench.workloads import Workload
from registry2 import RegistryServer

__all__ = ["pulling", "pushing"]

WORKLOADS = ("W2", "W3out", "W1")


def pushing(stage: Stage) -> Iterator[Table]:
    for workload in stage.workloads(WORKLOADS):
        with stage.registry(f"push {workload.name}") as registry:
            ways = carriers(stage, CtxPack(stage, stage.folder(f"push ctxpack {workload.name}")))
            contenders = [_pusher(registry, carrier, workload) for carrier in ways]
            limit = _put_limit(stage, registry, workload)
            yield compare(stage, "push", workload, [*contenders, limit])
        remove_tree(registry.storage)  # few files, and many bytes


def pulling(stage: Stage) -> Iterator[Table]:
    for workload in stage.workloads(WORKLOADS):
        with stage.registry(f"pull {workload.name}") as registry:
            keep = stage.folder(f"pull {workload.name}")
            ways = carriers(stage, CtxPack(stage, keep / "ctxpack"))
            contenders = [_puller(registry, carrier, workload, keep) for carrier in ways]
            limit = _get_limit(stage, registry, workload, keep)
            yield compare(stage, "pull", workload, [*contenders, limit])
        remove_tree(registry.storage)


def _pusher(registry: RegistryServer, carrier: Carrier, workload: Workload) -> Contender:
    def repository(run: Run) -> str:
        return f"{_plain(carrier.name)}-{run.number}"  # new in every run, so that no blob is there already

    def command(run: Run) -> Command:
        return carrier.push(workload, f"{registry.address}/{repository(run)}", run.folder)

    def check(run: Run) -> None:
        expect_pushed(registry, repository(run), workload, closely=run.first)

    return Contender(
        carrier.name,
        command,
        needs=carrier.needs,
        prepare=lambda: carrier.prepare(workload),
        check=check,
        tidy=lambda run: remove_tree(run.folder),
    )


def _puller(registry: RegistryServer, carrier: Carrier, workload: Workload, keep: Path) -> Contender:
    where = f"{registry.address}/{_plain(carrier.name)}"

    def prepare() -> None:
        folder = keep / f"pushed-{_plain(carrier.name)}"
        folder.mkdir()
        carrier.prepare(workload)
        execute(carrier.push(workload, where, folder), folder)

    def check(run: Run) -> None:
        expect_copy(workload, carrier.pulled(run.folder, run.stdout), closely=run.first)

    return Contender(
        carrier.name,
        lambda run: carrier.pull(workload, where, run.folder),
        needs=carrier.needs,
        prepare=prepare,
        check=check,
        tidy=tidy_few(workload),
    )


def _put_limit(stage: Stage, registry: RegistryServer, workload: Workload) -> Contender:
    """The limit of a push: as many bytes as the folder has, in one file, sent by curl and nothing else."""
    ready = stage.folder(f"limit {workload.name}") / "body"

    def prepare() -> None:
        with ready.open("wb") as body:
            for path in sorted(workload.folder.rglob("*")):
                if path.is_file():
                    body.write(path.read_bytes())

    def command(run: Run) -> Command:
        begin = ("curl", "-sS", "-X", "POST", "-D", "headers", f"{url(f'{registry.address}/limit')}/blobs/uploads/")
        execute(stage.command(run.folder, *begin), run.folder)
        headers = (run.folder / "headers").read_text().splitlines()
        [location] = [line.split()[1] for line in headers if line.lower().startswith("location:")]
        octets = "Content-Type: application/octet-stream"
        send = ("curl", "-fsS", "-X", "PATCH", "-H", octets, "-H", "Expect:", "--upload-file", ready, location)
        return stage.command(run.folder, *send)

    return Contender("limit: curl PATCH", command, needs=("curl",), prepare=prepare)


def _get_limit(stage: Stage, registry: RegistryServer, workload: Workload, keep: Path) -> Contender:
    """The limit of a pull: the uncompressed layer, fetched by curl into a file and nothing else."""
    [plain] = [carrier for carrier in carriers(stage, CtxPack(stage, keep)) if "uncompressed" in carrier.name]
    repository = "limit"

    def prepare() -> None:
        folder = keep / "pushed-limit"
        folder.mkdir()
        execute(plain.push(workload, f"{registry.address}/{repository}", folder), folder)

    def command(run: Run) -> Command:
        [layer] = layers(registry, repository)
        blob = f"{url(f'{registry.address}/{repository}')}/blobs/sha256:{layer.parent.name}"
        return stage.command(run.folder, "curl", "-fsS", "--output", "body", blob)

    return Contender(
        "limit: curl GET", command, needs=("curl",), prepare=prepare, tidy=lambda run: remove_tree(run.folder)
    )


def _plain(name: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
