"""Push and pull: the cost of sending a folder to a registry, and of getting it, verified, on another machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.clients import Client, CtxPack, clients, url
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
            ways = clients(stage, CtxPack(stage, stage.folder(f"push ctxpack {workload.name}")))
            contenders = [_pusher(registry, client, workload) for client in ways]
            limit = _put_limit(stage, registry, workload)
            yield compare(stage, "push", workload, [*contenders, limit])
        remove_tree(registry.storage)  # few files, many bytes


def pulling(stage: Stage) -> Iterator[Table]:
    for workload in stage.workloads(WORKLOADS):
        with stage.registry(f"pull {workload.name}") as registry:
            keep = stage.folder(f"pull {workload.name}")
            ways = clients(stage, CtxPack(stage, keep / "ctxpack"))
            contenders = [_puller(registry, client, workload, keep) for client in ways]
            limit = _get_limit(stage, registry, workload, keep)
            yield compare(stage, "pull", workload, [*contenders, limit])
        remove_tree(registry.storage)


def _pusher(registry: RegistryServer, client: Client, workload: Workload) -> Contender:
    def repository(run: Run) -> str:
        return f"{_plain(client.name)}-{run.number}"  # new in every run, so that it has no blob yet

    def command(run: Run) -> Command:
        return client.push(workload, f"{registry.address}/{repository(run)}", run.folder)

    def check(run: Run) -> None:
        expect_pushed(registry, repository(run), workload, closely=run.first)

    return Contender(
        client.name,
        command,
        needs=client.needs,
        prepare=lambda: client.prepare(workload),
        check=check,
        tidy=lambda run: remove_tree(run.folder),
    )


def _puller(registry: RegistryServer, client: Client, workload: Workload, keep: Path) -> Contender:
    where = f"{registry.address}/{_plain(client.name)}"

    def prepare() -> None:
        folder = keep / f"pushed-{_plain(client.name)}"
        folder.mkdir()
        client.prepare(workload)
        execute(client.push(workload, where, folder), folder)

    def check(run: Run) -> None:
        expect_copy(workload, client.pulled(run.folder, run.stdout), closely=run.first)

    return Contender(
        client.name,
        lambda run: client.pull(workload, where, run.folder),
        needs=client.needs,
        prepare=prepare,
        check=check,
        tidy=tidy_few(workload),
    )


def _put_limit(stage: Stage, registry: RegistryServer, workload: Workload) -> Contender:
    """Return the limit of a push: curl sends as many bytes as the folder has, in one file."""
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
    """Return the limit of a pull: curl fetches the uncompressed layer into a file."""
    [plain] = [client for client in clients(stage, CtxPack(stage, keep)) if "uncompressed" in client.name]
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
