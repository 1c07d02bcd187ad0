"""One table: contenders side by side on one workload; and the checks that several sections make."""

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

__all__ = ["compare", "expect", "expect_copy", "flat_digest", "says", "tidy_few", "write_contract"]

FEW = 1000  # files; as many are removed without slowing down those who make files afterwards


def compare(
    stage: Stage, section: str, workload: Workload, contenders: Sequence[Contender], runs: int | None = None
) -> Table:
    """Run the contenders that can take part; the others are named with the reason why not."""
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


def write_contract(folder: Path, name: str, inputs: Path | None = None) -> Path:
    """Write a contract whose input is a folder, or nothing; names differ, so do the URIs."""
    contract = {
        "inputs": [{"name": "input", "path": str(inputs)}] if inputs else [],
        "transforms": [{"tool": "bench", "tool_version": "1", "code_hash": "opaque", "params": {"workload": name}}],
        "outputs": [{"path": "outputs"}],
    }
    path = folder / "contract.json"
    path.write_text(json.dumps(contract), encoding="utf-8")
    return path


def expect(holds: bool, expected: object, got: object) -> None:
    """Raises: NotDone unless holds."""
    if not holds:
        raise NotDone(f"expected {expected}, got {got}")


def says(expected: str) -> Callable[[Run], None]:
    """Return a check of what a command printed."""
    return lambda run: expect(run.stdout.strip() == expected, repr(expected), repr(run.stdout.strip()[:200]))


def expect_copy(workload: Workload, folder: Path, *, closely: bool) -> None:
    """Raises: NotDone unless folder holds as many files and bytes as a workload; closely: the very same ones."""
    copy = measure_folder(workload.name, folder)
    expect(copy[2:] == workload[2:], workload[2:], copy[2:])
    if closely:
        want, got = flat_digest(workload.folder), flat_digest(folder)
        expect(want == got, f"files of {want}", got)


def flat_digest(folder: Path) -> str:
    """Return what naive_hash.py and bound_hash.py should print for a folder."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
            total.update(f"{path.relative_to(folder)}\0{digest.hexdigest()}\n".encode())
    return total.hexdigest()


def tidy_few(workload: Workload) -> Callable[[Run], None]:
    """Return what removes the output of a run at once if it is a few, large files, and otherwise leaves it."""
    return lambda run: remove_tree(run.folder) if workload.files < FEW else None
