"""tools/test.py runs three lanes of steps at the same time, prints each step as a whole, and fails if one failed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from toolmodule import load_tool

import goprograms

Runs = Callable[[str], bool]
"""Does the work of a step, and returns whether it passed."""


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Runs, list[str]], int]:
    """Run steps of which nothing but the work is replaced; return the exit status."""
    module: ModuleType = load_tool("test.py")
    monkeypatch.setattr(module, "LOGS", tmp_path)
    for name in ("install_hatch", "make_environment"):
        monkeypatch.setattr(module, name, lambda environment: None)
    monkeypatch.setattr(module, "contained_environment", dict)

    def run(runs: Runs, names: list[str]) -> int:
        def script(step: str, environment: dict[str, str], output: object) -> bool:
            print(f"{step} begins", file=output, flush=True)  # type: ignore[call-overload]
            passed = runs(step)
            print(f"== 3 passed in 1.0s ==\n{step} ends", file=output)  # type: ignore[call-overload]
            return passed

        def obtain(step: str, environment: dict[str, str], output: object) -> bool:
            return step != "programs" or script(step, environment, output)

        monkeypatch.setattr(module, "run_script", script)
        monkeypatch.setattr(module, "obtain_programs", obtain)
        status: int = module.run_steps(names or list(module.STEPS))
        return status

    return run


def printed(text: str) -> list[str]:
    """Return the lines before the summary, without empty ones."""
    return [line for line in text.partition("--- summary")[0].splitlines() if line]


def test_steps_of_three_lanes_run_at_once_and_are_printed_one_after_the_other(
    steps: Callable[[Runs, list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    all_lanes = threading.Barrier(3, timeout=60)

    def meet(step: str) -> bool:
        if step in ("isolated", "integration", "reuse"):
            all_lanes.wait()
        return True

    assert steps(meet, []) == 0
    expected = []
    for step in ("programs", "lint", "types", "isolated", "reuse", "integration", "claims"):
        expected += [f"--- {step}", f"{step} begins", "== 3 passed in 1.0s ==", f"{step} ends"]
    shown = capsys.readouterr().out
    assert printed(shown) == expected
    assert shown.count("  3 passed in 1.0s\n") == 7


def test_one_failed_step_fails_the_run_and_hinders_no_other(
    steps: Callable[[Runs, list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    begun = []

    def fail_types(step: str) -> bool:
        begun.append(step)
        return step != "types"

    assert steps(fail_types, ["lint", "types", "isolated"]) == 1
    assert begun == ["lint", "types", "isolated"]
    summary = capsys.readouterr().out.partition("--- summary")[2]
    assert [line.split()[:2] for line in summary.split("\n")[1:-2]] == [
        ["set-up", "ok"],
        ["lint", "ok"],
        ["types", "FAILED"],
        ["isolated", "ok"],
    ]


def test_a_step_that_cannot_run_ends_the_run(steps: Callable[[Runs, list[str]], int]) -> None:
    begun = []

    def break_lint(step: str) -> bool:
        begun.append(step)
        raise OSError("no hatch")

    with pytest.raises(OSError, match="no hatch"):
        steps(break_lint, ["lint", "types"])
    assert begun[0] == "lint"


def test_a_program_that_cannot_be_had_fails_its_step_and_names_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: ModuleType = load_tool("test.py")
    monkeypatch.setattr(module, "LOGS", tmp_path)
    monkeypatch.setattr("registry2.obtain", lambda: ["registry"])

    def lacking(name: str, environment: dict[str, str]) -> Path:
        if name == "cosign":
            raise goprograms.GoProgramUnavailable("`go install` ended with 1: no network")
        return Path("/programs", name)

    monkeypatch.setattr("goprograms.obtain", lacking)
    monkeypatch.setattr(module, "run_script", lambda step, environment, output: True)
    assert module.run_step("integration", {}).passed
    others = ["/programs/crane", "/programs/registry3", "/programs/referrersregistry"]
    for step, obtained in {"programs": ["/programs/oras", *others], "claims": others}.items():
        assert not module.run_step(step, {}).passed
        printed = (tmp_path / step).read_text("utf-8").splitlines()
        assert printed == ["registry", *obtained, "`go install` ended with 1: no network"]
