"""The benchmarks of signed claims run, check results, and are judged correctly. Speed is not tested."""

from __future__ import annotations

import itertools
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.claimgoals import FLIPS, PROCESS, PULL, REQUESTS, SIGNED_HIT, STARTUP, judge_claims, pull_of
from bench.claiming import CALLS, PARTS, PUSH, SIGN, claiming
from bench.flipping import flipping
from bench.goals import judge
from bench.installing import Distribution, installing, needed, shares
from bench.measure import Sample
from bench.programs import Absent, Programs, check_out
from bench.results import CallsRow, Results, Table, TripsRow, load, save
from bench.stage import Plan, Stage, remove_tree
from bench.table import render, text

CTXPACK = Path(sysconfig.get_path("scripts")) / "ctxpack"
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """The least that can be measured, with the programs that are on PATH."""
    for name in ("scratch", "kept"):
        (tmp_path / name).mkdir()
    programs = Programs(tmp_path / "peers", fetch=False)
    yield Stage(Plan(0.001, 0, 60, before=CTXPACK), tmp_path / "scratch", tmp_path / "kept", CTXPACK, programs)
    remove_tree(tmp_path / "scratch")


def results(*tables: Table) -> Results:
    return Results(scale=1, runs=0, machine={}, programs={}, tables=[*tables])


def test_every_goal_of_claims_is_measured(stage: Stage) -> None:
    tables = list(claiming(stage))
    assert [table.title for table in tables] == [
        *("signed-push small", "checked-pull small", PARTS, PROCESS, CALLS, REQUESTS),
        *("signed-push large", "checked-pull large"),
    ]
    assert [why for table in tables for why in table.absent.values()] == []
    pulls = [pull_of(count) for count in (1, 2, 4)]
    verdicts = [verdict for verdict in judge(results(*tables)) if "memory" not in verdict.goal]
    assert [(verdict.table, verdict.goal.partition(":")[0]) for verdict in verdicts] == [
        *((PROCESS, name) for name in (SIGN, *pulls)),
        *((REQUESTS, name) for name in pulls),
    ]
    asked = {row.step: list(itertools.chain.from_iterable(row.trips)) for row in tables[5].trips}
    assert list(asked) == [PUSH, SIGN, PULL, *pulls]
    for count in (1, 2, 4):
        assert len(asked[pull_of(count)]) == len(asked[PULL]) + count
    assert all(row.calls == 10 and row.seconds > 0 for row in tables[4].calls)
    assert {len(taken) for taken in tables[3].samples.values()} == {1}


def test_every_bit_that_is_flipped_is_refused_and_the_counts_are_kept_and_shown(stage: Stage, tmp_path: Path) -> None:
    [table] = flipping(stage)
    assert table.title == FLIPS
    assert [row.what for row in table.calls] == [
        "bits of the bundle",
        "bits of its payload",
        "bits of the image manifest",
    ]
    assert all(row.refused == row.calls > 8 * 300 for row in table.calls)
    assert [verdict.met for verdict in judge(results(table))] == [True, True, True]
    save(results(table), tmp_path / "r.json")
    assert load(tmp_path / "r.json") == results(table)
    shown = next(line for line in render(results(table), [], text).splitlines() if "bits of the bundle" in line)
    assert shown.split()[4:6] == [f"{table.calls[0].calls:,}", f"{table.calls[0].refused:,}"]


def test_the_bytes_of_an_installation_are_measured_with_and_without_claims(stage: Stage) -> None:
    [table] = installing(stage)
    everything, *parts, before = table.amounts.values()
    assert everything == sum(parts) == before == table.size > 0
    assert table.files > 10
    installed = {
        "ctxpack-cli": Distribution(1, 1, ["ctxpack-trust", "ctxpack-identity"]),
        "ctxpack-trust": Distribution(1, 10, ["cryptography", "ctxpack-identity"]),
        "cryptography": Distribution(1, 100, ["cffi"]),
        "cffi": Distribution(1, 1000, []),
        "ctxpack-identity": Distribution(1, 10_000, []),
        "pip": Distribution(1, 100_000, []),
    }
    assert [*shares(installed).values()] == [11_111, 10_001, 10, 1100]


def test_what_is_needed_is_followed_but_for_what_is_left_out() -> None:
    def needs(*names: str) -> Distribution:
        return Distribution(1, 1, [*names])

    installed = {
        "a": needs("b", "c", "no such"),
        "b": needs("a", "d"),
        "c": needs("e", "d"),
        "d": needs(),
        "e": needs(),
    }
    assert needed({**installed, "other": needs("a")}, "a") == set("abcde")
    assert needed(installed, "a", without=("c",)) == set("abd")
    assert needed({}, "a") == set()


def table(title: str, cpu: dict[str, float], **others: object) -> Table:
    section, _, workload = title.partition(" ")
    samples = {name: [Sample(taken, taken, 0)] for name, taken in cpu.items()}
    return Table(section=section, workload=workload, files=1, size=1, samples=samples, **others)  # type: ignore[arg-type]


def flips(calls: int, refused: int) -> Table:
    return table(FLIPS, {}, calls=[CallsRow(what="bits", calls=calls, refused=refused, seconds=2)])


@pytest.mark.parametrize(
    ("measured", "got", "met"),
    [
        (table(PROCESS, {PUSH: 0.2, SIGN: 0.209}), "9.0 ms", True),
        (table(PROCESS, {PUSH: 0.2, SIGN: 0.211, PULL: 0.1}), "11.0 ms", False),
        (table(PROCESS, {PUSH: 0.3, PULL: 0.2, pull_of(4): 0.22}), "20.0 ms", False),
        (table(STARTUP, {"ctxpack --help": 1.1, "before --help": 1}), "1.10 x, CPU 1.10 x", True),
        (table(STARTUP, {"ctxpack id, tiny": 1.2, "before id, tiny": 1}), "1.20 x, CPU 1.20 x", False),
        (table(STARTUP, {SIGNED_HIT: 1.3, "before run, cached": 1}), "1.30 x, CPU 1.30 x", False),
        (flips(1000, 1000), "1,000 of 1,000, in 2.0 s", True),
        (flips(8, 7), "7 of 8, in 2.0 s", False),
        (flips(0, 0), "0 of 0, in 2.0 s", False),
    ],
    ids=lambda value: value.title if isinstance(value, Table) else str(value),
)
def test_goals_are_judged_by_what_was_measured(measured: Table, got: str, met: bool) -> None:
    [verdict] = judge_claims({measured.title: measured})
    assert (verdict.got, verdict.met) == (got, met)


@pytest.mark.parametrize(
    ("trips", "got", "met"),
    [
        ([["a"], ["b", "c"], ["d"]], "2 requests, 1 round trip", True),
        ([["a"], ["b"], ["c"], ["d"]], "2 requests, 2 round trips", False),
        ([["a"], ["b", "c", "e"], ["d"]], "3 requests, 1 round trip", False),
    ],
)
def test_a_pull_may_ask_once_for_each_signer_and_all_at_once(trips: list[list[str]], got: str, met: bool) -> None:
    rows = [
        TripsRow(contender="ctxpack", step=PULL, trips=[["a"], ["d"]], seconds=1),
        TripsRow(contender="ctxpack", step=pull_of(2), trips=trips, seconds=1),
    ]
    [verdict] = judge_claims({REQUESTS: table(REQUESTS, {}, trips=rows)})
    assert (verdict.got, verdict.met) == (got, met)


def test_nothing_is_judged_that_was_not_measured() -> None:
    for title in ("signed-push small", PROCESS, STARTUP, REQUESTS, FLIPS, "hash W2"):
        assert list(judge_claims({title: table(title, {"ctxpack --help": 1, SIGN: 1})})) == []


def test_an_earlier_commit_is_checked_out_beside_the_clone(tmp_path: Path) -> None:
    clone, file = tmp_path / "clone", tmp_path / "clone" / "packages" / "one.txt"

    def git(*words: str) -> None:
        identity = ("-c", "user.name=n", "-c", "user.email=e@example.org")
        subprocess.run(["git", "-C", str(clone), *identity, *words], check=True, capture_output=True)

    file.parent.mkdir(parents=True)
    git("init")
    for content in ("first", "second"):
        file.write_text(content)
        git("add", ".")
        git("commit", "--message", content)
    file.write_text("not committed")
    for _ in range(2):
        source = check_out("HEAD~1", tmp_path / "commits", clone)
        assert (source / "packages" / "one.txt").read_text() == "first"
    assert file.read_text() == "not committed"
    with pytest.raises(Absent, match="rev-parse"):
        check_out("--all", tmp_path / "commits", clone)


def test_an_earlier_commit_is_an_option() -> None:
    run: list[str | Path] = [sys.executable, ROOT / "tools" / "bench" / "run.py"]
    done = subprocess.run([*run, "--help"], capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in ("--beside COMMIT", "claims", "flips", "install"))
    both = subprocess.run([*run, "--beside", "HEAD", "--before", "x"], capture_output=True, text=True, check=False)
    assert both.returncode == 2
