"""Signers: a pack that `ctxpack run` has made, keys to sign it with, and policies that want their claims."""

from __future__ import annotations

from pathlib import Path

from bench.compare import write_contract
from bench.measure import Command, execute
from bench.stage import Stage
from bench.workloads import Workload, make_files

__all__ = ["SignedPack", "small_workload"]

PASSWORD = "correct horse battery staple"
SMALL = (10, 4096)  # files, and the bytes of each


class SignedPack:
    """A pack with the outputs of a workload, on a machine with keys. Only a claim about what `run` made counts.

    place: an empty folder. inputs: of the contract. keys: how many. Raises: NotDone.
    """

    def __init__(self, stage: Stage, place: Path, workload: Workload, keys: int, inputs: Path | None = None) -> None:
        self.workload = workload
        self.keys = [place / "keys" / str(number) for number in range(keys)]
        self._stage = stage
        self._place = place
        copy = ("cp", "--recursive", f"{workload.folder}/.", "outputs")
        contract = write_contract(place, f"signed {workload.name}", inputs, copy)
        self._execute("run", "--quiet")
        self.uri = self._execute("id", "--quiet", contract).strip()
        for key in self.keys:
            self._execute("keygen", "--quiet", key)

    def push(self, where: str, run: Path, key: Path | None = None) -> Command:
        """Return the command that pushes the pack; with a key, that signs it too. where: a URL or a layout."""
        signing = ("--sign", "--key", _private(key)) if key else ()
        return self._ctxpack(run, "push", "--quiet", *signing, self.uri, CTXPACK_REGISTRY=where)

    def sign(self, where: str, key: Path) -> None:
        """Add a claim to the pack that was pushed to where. Raises: NotDone."""
        self._execute("sign", "--quiet", "--key", _private(key), self.uri, CTXPACK_REGISTRY=where)

    def policy(self, signers: int) -> Path:
        """Return a configuration folder whose policy wants claims by the first so many keys. Raises: NotDone."""
        folder = self._place / f"policy of {signers}"
        for key in self.keys[:signers]:
            owner = f"owner-{key.name}"
            self._execute("trust", "add", f"{key}.pub", "--owner", owner, "--quiet", XDG_CONFIG_HOME=folder)
        self._execute("trust", "mode", "signed", "--threshold", str(signers), "--quiet", XDG_CONFIG_HOME=folder)
        return folder

    def pull(self, where: str, machine: Path, run: Path, policy: Path | None = None) -> Command:
        """Return the command that pulls the pack to another machine, whose cache and state are in a folder."""
        return self._elsewhere(where, machine, run, "pull", "--quiet", self.uri, policy=policy)

    def hit(self, where: str, machine: Path, policy: Path) -> Command:
        """Return the command that places the outputs on a machine that has pulled the pack."""
        return self._elsewhere(where, machine, self._place, "run", "--force", policy=policy)

    def _elsewhere(self, where: str, machine: Path, cwd: Path, *words: str | Path, policy: Path | None) -> Command:
        variables: dict[str, str | Path] = {"CTXPACK_REGISTRY": where, "XDG_STATE_HOME": machine / "state"}
        if policy:
            variables["XDG_CONFIG_HOME"] = policy
        return self._stage.cli(cwd, machine / "cache", *words, **variables)

    def own(self, cwd: Path, *argv: str | Path, **variables: str | Path) -> Command:
        """Return a command on the machine that has made the pack, which can open its keys."""
        cache = self._place / "cache"
        return self._stage.command(cwd, *argv, CTXPACK_CACHE=cache, CTXPACK_KEY_PASSWORD=PASSWORD, **variables)

    def _ctxpack(self, cwd: Path, *words: str | Path, **variables: str | Path) -> Command:
        return self.own(cwd, self._stage.ctxpack, *words, **variables)

    def _execute(self, *words: str | Path, **variables: str | Path) -> str:
        return execute(self._ctxpack(self._place, *words, **variables), self._place)[1]


def small_workload(stage: Stage) -> Workload:
    return make_files(stage.kept / "workloads" / "signed" / "small", *SMALL)


def _private(key: Path) -> str:
    return f"{key}.key"
