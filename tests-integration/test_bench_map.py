"""The benchmarks of `map`, `explain` and `@memo` run, check results, and are judged correctly. Speed is not tested."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.corpus import Change, Corpus, mapped
from bench.explaining import explaining
from bench.goals import judge
from bench.mappers import BareLoop, CtxPackMap, all_of
from bench.mapping import mapping
from bench.measure import NotDone, Sample, execute
from bench.memoizing import memoizing
from bench.programs import Programs
from bench.results import Results, Table, WireRow
from bench.reusegoals import BARE, CACHED, ELSEWHERE, FIRST_PUSH, HIT, NOTHING, PUSH, judge_reuse
from bench.stage import Plan, Stage, remove_tree

CTXPACK = Path(sysconfig.get_path("scripts")) / "ctxpack"
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """The least that can be measured, with the programs that are on PATH."""
    for name in ("scratch", "kept"):
        (tmp_path / name).mkdir()
    plan = Plan(0.0001, 0, 60, items=20)
    programs = Programs(tmp_path / "peers", fetch=False)
    yield Stage(plan, tmp_path / "scratch", tmp_path / "kept", CTXPACK, programs)
    remove_tree(tmp_path / "scratch")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_corpus_is_the_same_every_time_and_its_changes_are_what_they_say(tmp_path: Path) -> None:
    for name in ("once", "again"):
        Corpus(250).write(tmp_path / name)
    first = contents(tmp_path / "once")
    assert first == contents(tmp_path / "again")
    assert sorted(first) == sorted(Corpus(250).paths())
    assert len(set(first.values())) == 250
    assert all(9_000 < len(text) <= 30_000 and mapped(text) != text for text in first.values())
    edited = Corpus(250).edit(tmp_path / "once")
    after = contents(tmp_path / "once")
    assert set(after) == (set(first) | {"added.txt", "renamed.txt"}) - set(edited.removed)
    assert {name for name in after if after[name] != first.get(name)} == set(edited.computed)
    assert after["renamed.txt"] == first[edited.removed[1]]
    seen = set(edited.computed) | set(edited.removed)
    for version in (0, 1):
        before, change = contents(tmp_path / "once"), Corpus(250).change(tmp_path / "once", version)
        after = contents(tmp_path / "once")
        assert {name for name in after if after[name] != before[name]} == set(change.computed)
        assert len(change.computed) == 2
        assert seen.isdisjoint(change.computed)
        seen |= set(change.computed)


def test_tiny_files_have_one_size(tmp_path: Path) -> None:
    Corpus(30, 64).write(tmp_path / "raw")
    assert {len(text) for text in contents(tmp_path / "raw").values()} == {64}
    assert len(set(contents(tmp_path / "raw").values())) == 30


def test_a_copy_by_links_can_change_alone(tmp_path: Path) -> None:
    corpus = Corpus(40)
    corpus.write(tmp_path / "one")
    subprocess.run(["cp", "--recursive", "--link", tmp_path / "one", tmp_path / "two"], check=True)
    before = contents(tmp_path / "one")
    corpus.edit(tmp_path / "two")
    corpus.change(tmp_path / "two", 0)
    assert contents(tmp_path / "one") == before != contents(tmp_path / "two")


def test_every_mapper_makes_the_same_and_a_wrong_result_is_noticed(stage: Stage) -> None:
    corpus = Corpus(12)
    folder = stage.folder("corpus")
    corpus.write(folder)
    for mapper in (CtxPackMap(stage, folder, jobs=2), BareLoop(stage, folder, jobs=2)):
        for change in (lambda raw: all_of(corpus), corpus.edit, lambda raw: corpus.change(raw, 1)):
            new = change(mapper.raw)
            execute(mapper.command(new), mapper.raw.parent)
            mapper.check(new)
        (mapper.out / "added.txt").chmod(0o644)
        (mapper.out / "added.txt").write_text("WRONG")
        with pytest.raises(NotDone, match=r"expected the result of added\.txt"):
            mapper.check(Change(()))
        (mapper.out / "added.txt").unlink()
        with pytest.raises(NotDone, match="expected 12 results, got 11"):
            mapper.check(Change(()))


def test_every_goal_of_map_is_measured(stage: Stage) -> None:
    tables = list(mapping(stage))
    assert [table.title for table in tables] == [
        *("map full", "map unchanged", "map four changed", "map 1 % changed"),
        *("map registry", "map one job", "map few items", "map many items"),
    ]
    assert {name for table in tables for name in table.absent} == {"joblib.Memory", "dvc repro"}
    assert not [why for table in tables for why in table.absent.values() if "failed" in why]
    verdicts = judge(results(*tables))
    assert [verdict for verdict in verdicts if verdict.met is None] == []
    assert [(verdict.table, verdict.goal) for verdict in verdicts if "memory" not in verdict.goal] == [
        ("map unchanged", "time against ctxpack id"),
        ("map full", "time of an item beyond the bare loop"),
        ("map 1 % changed", "time after 1 % changed"),
        ("map registry", "bytes of a push, 1 % changed, another machine"),
        ("map registry", "bytes of a push, 1 % changed"),
        ("map one job", "time of an item beyond the bare loop"),
    ]
    [registry] = [table for table in tables if table.wire]
    assert all(row.requests and row.up and row.down for row in registry.wire)


def test_every_goal_of_explain_and_memo_is_measured(stage: Stage) -> None:
    tables = [*explaining(stage), *memoizing(stage)]
    assert [table.title for table in tables] == ["explain W2", "memo small"]
    assert {name for table in tables for name in table.absent} == {"joblib.Memory hit"}
    verdicts = judge(results(*tables))
    assert [verdict.goal for verdict in verdicts if "memory" not in verdict.goal] == [
        CACHED,
        f"{ELSEWHERE}, contract file",
        f"{ELSEWHERE}, contract file and URI",
        f"{ELSEWHERE}, two URIs",
        f"{HIT}, beyond {NOTHING}",
    ]


def results(*tables: Table) -> Results:
    return Results(scale=1, runs=0, machine={}, programs={}, tables=[*tables])


def table(title: str, seconds: dict[str, float], wire: list[WireRow] | None = None, *, files: int = 100) -> Table:
    section, _, workload = title.partition(" ")
    samples = {name: [Sample(taken, 0, 0)] for name, taken in seconds.items()}
    return Table(section=section, workload=workload, files=files, size=1, samples=samples, wire=wire or [])


def row(step: str, *, up: int = 1, requests: int = 1, seconds: float = 1) -> WireRow:
    return WireRow(contender="ctxpack", step=step, up=up, down=1, requests=requests, seconds=seconds)


@pytest.mark.parametrize(
    ("measured", "got", "met"),
    [
        (table("map full", {"ctxpack": 2.5, BARE: 2.0}), "5.00 ms", True),
        (table("map one job", {"ctxpack": 2.52, BARE: 2.0}), "5.20 ms", False),
        (table("map 1 % changed", {"ctxpack": 3.5, BARE: 1.0}), "3.50 s", True),
        (table("map 1 % changed", {"ctxpack": 3.6, BARE: 1.0}), "3.60 s", False),
        (table("map registry", {}, [row(FIRST_PUSH, up=100), row(PUSH, up=5)]), "5.0%", True),
        (table("map registry", {}, [row(FIRST_PUSH, up=100), row(f"{PUSH}, elsewhere", up=6)]), "6.0%", False),
        (table("explain W2", {CACHED: 1.1}), "1.10 s", False),
        (table("explain W2", {}, [row(ELSEWHERE, requests=5, seconds=2)]), "2.00 s, 5 requests", True),
        (table("explain W2", {}, [row(ELSEWHERE, requests=6)]), "1.00 s, 6 requests", False),
        (table("memo small", {HIT: 0.069, NOTHING: 0.01}), "59 ms", True),
        (table("memo small", {HIT: 0.08, NOTHING: 0.01}), "70 ms", False),
    ],
    ids=lambda value: value.title if isinstance(value, Table) else str(value),
)
def test_goals_are_judged_by_what_was_measured(measured: Table, got: str, met: bool) -> None:
    [verdict] = judge_reuse(measured)
    assert (verdict.got, verdict.met) == (got, met)


def test_nothing_is_judged_that_was_not_measured() -> None:
    for title in ("map full", "map 1 % changed", "map registry", "explain W2", "memo small", "hash W2"):
        assert list(judge_reuse(table(title, {}))) == []


def test_the_number_of_items_is_an_option(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "bench" / "run.py", "--help"], capture_output=True, text=True, check=True
    )
    assert "--items" in done.stdout
    assert all(name in done.stdout for name in ("map", "explain", "memo"))
