"""One table: all contenders on one workload. Also the checks that several sections make."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.measure import Contender, NotDone, Run, alternate
from bench.programs import Absent
from bench.results import Table
from bench.stage import Stage, remove_tree
from bench.workloads import Workload, measure_folder

__all__ = ["compare", "expect", "expect_copy", "flat_digest", "prints", "tidy_few", "write_contract"]

FEW = 1000  # files; removing so many does not slow down the contender that makes files afterwards


def compare(
    stage: Stage, section: str, workload: Workload, contenders: Sequence[Contender], runs: int | None = None
) -> Table:
    """Return the table of the contenders. Those that cannot take part are absent, with the reason."""
    table = Table(section=section, workload=workload.name, files=workload.files, size=workload.size)
    present = []
    for contender in contenders:
        stage.note(f"{table.title}: preparing {contender.name}")
        try:
            for program in contender.needs:
                stage.programs.find(program)
            contender.prepare()
            present.append(contender)
        except (Absent, NotDone) as reason:
            table.absent[contender.name] = str(reason)

    def failed(name: str, reason: NotDone) -> None:
        table.absent[name] = f"failed: {reason}"

    samples = alternate(
        present,
        stage.folder(f"runs {table.title}"),
        runs=stage.plan.runs if runs is None else runs,
        patience=stage.plan.patience,
        failed=failed,
        note=lambda text: stage.note(f"{table.title}: {text}"),
    )
    table.samples.update(samples)
    return table


def write_contract(
    folder: Path, name: str, inputs: Path | None = None, command: Sequence[str | Path] = ("false",)
) -> Path:
    """Write a contract file, with an input if one is given. Another name gives another URI.

    Unless another command is given, it fails, so ``ctxpack run`` must find the pack. It has no weak points, which would
    be printed.
    """
    code = dict.fromkeys(("code_hash", "environment_hash"), f"sha256:{hashlib.sha256().hexdigest()}")
    contract = {
        "inputs": [{"name": "input", "path": str(inputs)}] if inputs else [],
        "command": [str(word) for word in command],
        "transforms": [{"tool": "bench", "tool_version": "1", "params": {"workload": name}, **code}],
        "outputs": [{"path": "outputs"}],
    }
    path = folder / "contract.json"
    path.write_text(json.dumps(contract), encoding="utf-8")
    return path


def expect(holds: bool, expected: object, got: object) -> None:
    """Raises: NotDone unless holds."""
    if not holds:
        raise NotDone(f"expected {expected}, got {got}")


def prints(expected: str) -> Callable[[Run], None]:
    """Return a check of the stdout of a command."""
    return lambda run: expect(run.stdout.strip() == expected, repr(expected), repr(run.stdout.strip()[:200]))


def expect_copy(workload: Workload, folder: Path, *, closely: bool) -> None:
    """Raises: NotDone unless folder has as many files and bytes as a workload; closely: and the same contents."""
    copy = measure_folder(workload.name, folder)
    expect(copy[2:] == workload[2:], workload[2:], copy[2:])
    if closely:
        want, got = flat_digest(workload.folder), flat_digest(folder)
        expect(want == got, f"files of {want}", got)


def flat_digest(folder: Path) -> str:
    """Return what naive_hash.py and bound_hash.py must print for a folder."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
            total.update(f"{path.relative_to(folder)}\0{digest.hexdigest()}\n".encode())
    return total.hexdigest()


def tidy_few(workload: Workload) -> Callable[[Run], None]:
    """Return a tidy for a Contender: it removes the output of a run if that is few files, and else leaves it."""
    return lambda run: remove_tree(run.folder) if workload.files < FEW else None
