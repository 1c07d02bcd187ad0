"""Clients of a registry that push and pull a folder: CtxPack, other programs, and one-pass shell pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bench.compare import write_contract
from bench.measure import Command, execute
from bench.stage import Stage
from bench.workloads import Workload

__all__ = ["Client", "CtxPack", "Oras", "OrasPy", "ShellPipeline", "Skopeo", "clients"]

TAG = "bench"


class Client(Protocol):
    """Pushes folders and pulls them. needs: the programs that it calls.

    where: host:port/repository, empty before the push. run: an empty folder for the files of this run.
    """

    name: str
    needs: tuple[str, ...]

    def prepare(self, workload: Workload) -> None:
        """Called once, before the first push, and not timed."""
        ...

    def push(self, workload: Workload, where: str, run: Path) -> Command: ...

    def pull(self, workload: Workload, where: str, run: Path) -> Command: ...

    def pulled(self, run: Path, stdout: str) -> Path:
        """Return the folder that a pull has written."""


class CtxPack:
    """keep: the folder for its caches and contract files. remember: pull always into one cache, not into a new one."""

    needs: tuple[str, ...] = ()

    def __init__(self, stage: Stage, keep: Path, name: str = "ctxpack", *, remember: bool = False) -> None:
        self.name = name
        self._stage = stage
        self._keep = keep
        self._remember = remember
        self._uris: dict[str, str] = {}

    def prepare(self, workload: Workload) -> None:
        folder = self._keep / workload.name
        folder.mkdir(parents=True)
        contract = write_contract(folder, workload.name)
        seed = self._stage.cli(
            folder, self._keep / "cache", "seed", f"outputs={workload.folder}", "--contract", contract, "--quiet"
        )
        _, output = execute(seed, folder)
        self._uris[workload.name] = output.strip().removeprefix("Seeded: ")

    def push(self, workload: Workload, where: str, run: Path) -> Command:
        return self._run(run, self._keep / "cache", "push", workload, where)

    def pull(self, workload: Workload, where: str, run: Path) -> Command:
        cache = self._keep / "pulls" if self._remember else run / "cache"
        return self._run(run, cache, "pull", workload, where)

    def inspect(self, workload: Workload, where: str, run: Path) -> Command:
        """Return the command that inspects a pack that is only on the registry."""
        return self._run(run, run / "cache", "inspect", workload, where)

    def pulled(self, run: Path, stdout: str) -> Path:
        return run / stdout.strip()

    def _run(self, run: Path, cache: Path, action: str, workload: Workload, where: str) -> Command:
        uri = self._uris[workload.name]
        return self._stage.cli(run, cache, action, uri, "--quiet", CTXPACK_REGISTRY=f"http://{where}")


class ShellPipeline:
    """tar, a compressor, openssl and curl in one pipeline, without a temporary file."""

    def __init__(self, stage: Stage, name: str, compressor: Sequence[str], decompressor: Sequence[str]) -> None:
        self.name = f"one pass: tar, {name}"
        self.needs = ("tar", "curl", "openssl", *(word for word in compressor[:1] if word != "cat"))
        self._stage = stage
        self._compressor = compressor
        self._decompressor = decompressor

    def prepare(self, workload: Workload) -> None: ...

    def push(self, workload: Workload, where: str, run: Path) -> Command:
        script = self._stage.script("push_onepass.sh")
        return self._stage.peer("tar", run, "bash", script, workload.folder, url(where), *self._compressor)

    def pull(self, workload: Workload, where: str, run: Path) -> Command:
        script = self._stage.script("pull_onepass.sh")
        return self._stage.peer("tar", run, "bash", script, url(where), run / "pulled", *self._decompressor)

    def pulled(self, run: Path, stdout: str) -> Path:
        return run / "pulled"


class Skopeo:
    """tar and a compressor write a file, and skopeo pushes it."""

    def __init__(self, stage: Stage, compressor: Sequence[str]) -> None:
        self.name = f"skopeo, tar | {' '.join(compressor)}"
        self.needs: tuple[str, ...] = ("tar", "openssl", "skopeo", compressor[0])
        self._stage = stage
        self._compressor = compressor

    def prepare(self, workload: Workload) -> None: ...

    def push(self, workload: Workload, where: str, run: Path) -> Command:
        return self._script(run, "push_skopeo.sh", workload.folder, where, run, *self._compressor)

    def pull(self, workload: Workload, where: str, run: Path) -> Command:
        return self._script(run, "pull_skopeo.sh", where, run / "pulled", run)

    def pulled(self, run: Path, stdout: str) -> Path:
        return run / "pulled"

    def _script(self, run: Path, name: str, *arguments: str | Path) -> Command:
        # skopeo stores where it has seen a blob, and mounts the blob from there instead of pushing it. The new folder
        # prevents that. As root it would use a folder of the system, so it must run as another user.
        settings = {"XDG_DATA_HOME": str(run / "data"), "_CONTAINERS_ROOTLESS_UID": "1000"}
        return self._stage.peer("skopeo", run, "bash", self._stage.script(name), *arguments, **settings)


class OrasPy:
    name = "oras-py"
    needs: tuple[str, ...] = ("oras-py",)

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def prepare(self, workload: Workload) -> None: ...

    def push(self, workload: Workload, where: str, run: Path) -> Command:
        return self._script(run, "push", where, workload.folder)

    def pull(self, workload: Workload, where: str, run: Path) -> Command:
        return self._script(run, "pull", where, run / "pulled")

    def pulled(self, run: Path, stdout: str) -> Path:
        return _only_folder(run / "pulled")

    def _script(self, run: Path, action: str, where: str, folder: Path) -> Command:
        python = self._stage.programs.find("oras-py")
        return self._stage.command(run, python, self._stage.script("oras_py.py"), action, where, folder)


class Oras:
    """The client in Go."""

    name = "oras"
    needs: tuple[str, ...] = ("oras",)

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def prepare(self, workload: Workload) -> None: ...

    def push(self, workload: Workload, where: str, run: Path) -> Command:
        # A relative path, because oras refuses absolute ones.
        command = self._run(run, "push", where, workload.folder.name)
        return command._replace(cwd=workload.folder.parent)

    def pull(self, workload: Workload, where: str, run: Path) -> Command:
        return self._run(run, "pull", where, "--output", run / "pulled")

    def pulled(self, run: Path, stdout: str) -> Path:
        return _only_folder(run / "pulled")

    def _run(self, run: Path, action: str, where: str, *arguments: str | Path) -> Command:
        return self._stage.peer("oras", run, "oras", action, "--plain-http", f"{where}:{TAG}", *arguments)


def clients(stage: Stage, ctxpack: CtxPack) -> list[Client]:
    """Return all clients, CtxPack first."""
    return [
        ctxpack,
        ShellPipeline(stage, "igzip -1", ("igzip", "-1"), ("igzip", "-dc")),
        ShellPipeline(stage, "pigz -1", ("pigz", "-1"), ("pigz", "-dc")),
        ShellPipeline(stage, "uncompressed", ("cat",), ("cat",)),
        Skopeo(stage, ("igzip", "-1")),
        Skopeo(stage, ("pigz", "-1")),
        OrasPy(stage),
        Oras(stage),
    ]


def url(where: str) -> str:
    host, _, repository = where.partition("/")
    return f"http://{host}/v2/{repository}"


def _only_folder(folder: Path) -> Path:
    [inner] = folder.iterdir()
    return inner
