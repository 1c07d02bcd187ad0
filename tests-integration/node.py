"""The second implementation of identity, identity.mjs, in a process of its own: it answers questions."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

__all__ = ["WITHOUT_POINTER", "Ask", "Faults", "faults_of", "node", "unrelated"]

Case = dict[str, Any]
Faults = set[tuple[str, str | None]]

# Codes whose pointer, if any, is left to the implementation. SPEC.md, section 3.
WITHOUT_POINTER = ("E_JSON", "E_DEPTH", "E_TOO_LARGE")


class Ask(Protocol):
    """Send node a question, and return its answer."""

    def __call__(self, ask: str, **members: Any) -> Case: ...


@contextmanager
def node() -> Iterator[Ask]:
    """Start node. Without node on this machine, this fails."""
    command = ["node", str(Path(__file__).parent / "identity.mjs")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        questions, answers = process.stdin, process.stdout

        def ask(ask: str, **members: Any) -> Case:
            questions.write(json.dumps({"ask": ask, **members}) + "\n")
            questions.flush()
            line = answers.readline()
            assert line, "node stopped; its message is on standard error"
            answer: Case = json.loads(line)
            assert "bug" not in answer, answer["bug"]
            return answer

        yield ask


def faults_of(answer: Case) -> Faults:
    """Return the faults of an answer, each with its JSON pointer; none where it is no refusal."""
    return {(code, pointer) for code, pointer in answer.get("faults", [])}


def unrelated(ours: Faults, theirs: Faults) -> Faults:
    """Return the faults that one side alone reports, and that do not follow from one that both report.

    SPEC.md, section 7: what follows from another fault of the same input, transform, output or variable, or of the
    map, may be left out.
    """
    common = ours & theirs
    return {fault for fault in ours ^ theirs if not any(_related(fault, other) for other in common)}


def _related(fault: tuple[str, str | None], other: tuple[str, str | None]) -> bool:
    if not fault[1] or not other[1]:
        return False
    mine, others = fault[1].split("/"), other[1].split("/")
    if fault[0] == "E_EACH":
        return others[1] in ("each", "inputs", "outputs")
    if fault[0] == "E_OUTPUT_NAME":
        return others[1] == "outputs"
    return mine[:3] == others[:3]
