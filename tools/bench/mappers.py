"""Ways to run a command for each file of a folder: `ctxpack map`, a bare loop, joblib.Memory, DVC."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bench.compare import expect
from bench.corpus import Change, Corpus, mapped
from bench.measure import Command, execute
from bench.reusegoals import BARE
from bench.stage import Stage

__all__ = ["BareLoop", "CtxPackMap", "DvcMap", "JoblibMap", "Mapper", "all_of"]

ITEM = ("sh", "item.sh")


class Mapper(Protocol):
    """raw: its copy of the corpus; out: where the results lie after each run."""

    name: str
    needs: tuple[str, ...]
    raw: Path
    out: Path

    def command(self, change: Change) -> Command:
        """Return the process that brings the results up to date. change: what of the corpus is new."""
        ...

    def check(self, change: Change) -> None:
        """Raises: NotDone unless the results are those of the corpus."""
        ...


class _Project:
    """A folder with a corpus, and the script that makes an item."""

    def __init__(self, stage: Stage, name: str, corpus: Path, command: Sequence[str] = ITEM) -> None:
        self.place = stage.folder(f"map {name}")
        self.raw, self.out = self.place / "raw", self.place / "out"
        self.stage, self.item = stage, tuple(command)
        execute(stage.command(self.place, "cp", "--recursive", "--link", corpus, self.raw), self.place)
        shutil.copy(stage.script("item.sh"), self.place)

    def check(self, change: Change) -> None:
        """Raises: NotDone unless there is a result for each file, and no other."""
        expect_results(self.raw, self.out)


class CtxPackMap(_Project):
    """`ctxpack map` in a project of its own. cache: its name; another one is another machine's."""

    name = "ctxpack"
    needs: tuple[str, ...] = ()

    def __init__(
        self, stage: Stage, corpus: Path, *, jobs: int, name: str = "ctxpack", command: Sequence[str] = ITEM
    ) -> None:
        super().__init__(stage, name, corpus, command)
        self._jobs = jobs
        self._write_contract()

    def command(self, change: Change) -> Command:
        return self.call("map", "--quiet", "--jobs", str(self._jobs))

    def call(self, *arguments: str | Path, **variables: str) -> Command:
        return self.stage.cli(self.place, self.place / "cache", *arguments, **variables)

    def uri(self) -> str:
        _, stdout = execute(self.call("id", "--quiet"), self.place)
        return stdout.strip()

    def _write_contract(self) -> None:
        digest = f"sha256:{hashlib.sha256().hexdigest()}"
        contract = {
            "inputs": [{"name": "raw", "path": "raw"}],
            "command": [*self.item, "{item}", "{out}"],
            "each": {"input": "raw", "of": "files", "by": "path", "output": "{dir}{stem}.txt"},
            "transforms": [
                {"tool": "bench", "tool_version": "1", "code": {"path": "item.sh"}, "environment_hash": digest}
            ],
            "outputs": [{"path": "out"}],
        }
        (self.place / "contract.json").write_text(json.dumps(contract), encoding="utf-8")


class BareLoop(_Project):
    """Computes what has to be computed, and knows it without looking."""

    name = BARE
    needs: tuple[str, ...] = ()

    def __init__(self, stage: Stage, corpus: Path, *, jobs: int, name: str = BARE) -> None:
        super().__init__(stage, name, corpus)
        self._jobs = jobs

    def command(self, change: Change) -> Command:
        names = self.place / "names.txt"
        names.write_text("".join(f"{name}\n" for name in change.computed))
        for name in change.removed:
            (self.out / name).unlink()
        script = self.stage.script("bare_map.py")
        return self.stage.command(
            self.place, self.stage.python, script, str(self._jobs), names, "raw", "out", *self.item
        )


class JoblibMap(_Project):
    name = "joblib.Memory"
    needs: tuple[str, ...] = ("joblib",)

    def __init__(self, stage: Stage, corpus: Path, *, jobs: int) -> None:
        super().__init__(stage, self.name, corpus)
        self._jobs = jobs

    def command(self, change: Change) -> Command:
        python, script = self.stage.programs.find("joblib"), self.stage.script("joblib_map.py")
        return self.stage.command(self.place, python, script, str(self._jobs), "raw", "out", "cache", *self.item)


class DvcMap(_Project):
    """A stage for each item, from `foreach`, which DVC runs one after the other."""

    name = "dvc repro"
    needs: tuple[str, ...] = ("dvc",)

    def __init__(self, stage: Stage, corpus: Path) -> None:
        super().__init__(stage, self.name, corpus)
        execute(self._call("init", "--no-scm", "--quiet"), self.place)

    def command(self, change: Change) -> Command:
        paths = sorted(path.relative_to(self.raw) for path in self.raw.rglob("*") if path.is_file())
        stages = {path.stem: {"path": str(path)} for path in paths}
        for path in paths:
            (self.out / path).parent.mkdir(parents=True, exist_ok=True)
        for name in change.removed:  # dvc leaves the outputs of stages that are gone
            (self.out / name).unlink()
        do = {
            "cmd": f"{' '.join(self.item)} raw/${{item.path}} out/${{item.path}}",
            "deps": ["item.sh", "raw/${item.path}"],
            "outs": ["out/${item.path}"],
        }
        text = json.dumps({"stages": {"item": {"foreach": stages, "do": do}}})  # YAML too
        (self.place / "dvc.yaml").write_text(text, encoding="utf-8")
        return self._call("repro", "--quiet")

    def _call(self, *arguments: str) -> Command:
        settings = {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(self.place / "site")}
        return self.stage.peer("dvc", self.place, self.stage.programs.find("dvc"), *arguments, **settings)


def expect_results(raw: Path, out: Path) -> None:
    """Raises: NotDone unless out has what the command makes of each file of raw, and nothing else."""
    want, got = (sorted(path.relative_to(top) for path in top.rglob("*") if path.is_file()) for top in (raw, out))
    expect(want == got, f"{len(want)} results", f"{len(got)}, or others")
    for path in want:
        expect((out / path).read_bytes() == mapped((raw / path).read_bytes()), f"the result of {path}", "another")


def all_of(corpus: Corpus) -> Change:
    """Return the change from nothing to the corpus."""
    return Change(corpus.paths())
