"""Map: 20 ms of work for each of many files, of which all, none, four, or 1 % are new. Workload M.

Each step comes once for each contender, and begins where the step before ended; the steps alternate. DVC, which takes
seconds for a stage when there are hundreds, has a table of its own with few items.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.corpus import Change, Corpus
from bench.mappers import BareLoop, CtxPackMap, DvcMap, JoblibMap, Mapper, all_of
from bench.measure import Command, NotDone, Sample, execute
from bench.metering import metered
from bench.programs import Absent
from bench.results import Table
from bench.reusegoals import FIRST_PUSH, PUSH
from bench.stage import Stage
from bench.verdict import OURS
from bench.workloads import Workload, measure_folder

__all__ = ["mapping"]

ITEMS = 10_000
FEW = 50  # for DVC
MANY, TINY = 100_000, 64  # files, and the bytes of each
JOBS = os.cpu_count() or 1

Step = Callable[[Path], Change]
"""Changes a corpus in a folder, and returns what is new."""


def mapping(stage: Stage) -> Iterator[Table]:
    count = stage.plan.items or max(20, round(ITEMS * stage.plan.scale))
    corpus = Corpus(count)
    folder = _made(stage, corpus, f"M {count}")
    contenders, absent = _present(
        stage,
        {
            OURS: lambda: CtxPackMap(stage, folder, jobs=JOBS),
            BareLoop.name: lambda: BareLoop(stage, folder, jobs=JOBS),
            JoblibMap.name: lambda: JoblibMap(stage, folder, jobs=JOBS),
        },
    )
    size = measure_folder("M", folder)
    everything = all_of(corpus)
    yield _stepped(stage, "full", size, contenders, absent, lambda raw: everything)
    yield _unchanged(stage, size, contenders, absent)
    ours = contenders[0]
    assert isinstance(ours, CtxPackMap)
    table = Table(section="map", workload="registry", files=size.files, size=size.size)
    with metered(stage, "map registry") as registry:

        def measured(step: str, project: CtxPackMap, *arguments: str) -> None:
            def command(address: str, run: Path) -> Command:
                return project.call(*arguments, CTXPACK_REGISTRY=f"http://{address}/map")

            table.wire.append(registry.measure(step, OURS, command))

        measured(FIRST_PUSH, ours, "push", "--quiet", ours.uri())
        other = CtxPackMap(stage, folder, jobs=JOBS, name="another machine")
        change = corpus.change(other.raw, 0)
        measured("map, 1 % changed, another machine", other, "map", "--quiet", "--jobs", str(JOBS))
        other.check(change)
        measured(f"{PUSH}, another machine", other, "push", "--quiet", "--borrow", other.uri())  # as map --push does
        yield _stepped(stage, "four changed", size, contenders, absent, corpus.edit)
        yield _stepped(stage, "1 % changed", size, contenders, absent, lambda raw: corpus.change(raw, 1))
        measured(PUSH, ours, "push", "--quiet", ours.uri())
    yield table
    yield _one_job(stage, max(20, count // 10))
    yield _beside_dvc(stage, min(FEW, count))
    yield _memory(stage, max(20, round(MANY * stage.plan.scale)))


def _stepped(
    stage: Stage,
    name: str,
    size: Workload,
    contenders: Sequence[Mapper],
    absent: dict[str, str],
    change: Step,
) -> Table:
    """Return the table of one step. A contender that fails is absent from then on."""
    table = Table(section="map", workload=name, files=size.files, size=size.size)
    for contender in contenders:
        if contender.name not in absent:
            try:
                new = change(contender.raw)
                sample = _timed(stage, f"{table.title}: {contender.name}", contender.command(new), contender.raw.parent)
                contender.check(new)
                table.samples[contender.name] = [sample]
            except (Absent, NotDone) as reason:
                absent[contender.name] = f"failed: {reason}"
    table.absent.update(absent)
    return table


def _unchanged(stage: Stage, size: Workload, contenders: Sequence[Mapper], absent: dict[str, str]) -> Table:
    """Return the table of runs with nothing to compute, beside `ctxpack id` of the folder. A bare loop does nothing."""
    ours = contenders[0]
    assert isinstance(ours, CtxPackMap)
    nothing = Change(())
    commands = {one.name: one.command(nothing) for one in contenders if one.name not in {BareLoop.name, *absent}}
    commands["ctxpack id"] = ours.call("id", "--quiet")
    table = Table(section="map", workload="unchanged", files=size.files, size=size.size)
    for _ in range(stage.plan.runs + 1):
        for name, command in commands.items():
            if name not in absent:
                try:
                    sample = _timed(stage, f"{table.title}: {name}", command, ours.place)
                    table.samples.setdefault(name, []).append(sample)
                except NotDone as reason:
                    absent[name] = f"failed: {reason}"
    for one in contenders:
        if one.name in table.samples:
            one.check(nothing)
    table.absent.update(absent)
    return table


def _one_job(stage: Stage, count: int) -> Table:
    """Return the table of a full map with one command at a time, in which the overhead hides behind nothing."""
    corpus = Corpus(count)
    folder = _made(stage, corpus, f"M {count}")
    contenders: list[Mapper] = [
        CtxPackMap(stage, folder, jobs=1, name="one job"),
        BareLoop(stage, folder, jobs=1, name="one job, bare"),
    ]
    everything = all_of(corpus)
    return _stepped(stage, "one job", measure_folder("M", folder), contenders, {}, lambda raw: everything)


def _beside_dvc(stage: Stage, count: int) -> Table:
    """Return the table of all steps with a few items, beside DVC."""
    corpus = Corpus(count)
    folder = _made(stage, corpus, f"M {count}")
    size = measure_folder("M", folder)
    table = Table(section="map", workload="few items", files=size.files, size=size.size)
    contenders, absent = _present(
        stage,
        {
            OURS: lambda: CtxPackMap(stage, folder, jobs=1, name="few items"),
            DvcMap.name: lambda: DvcMap(stage, folder),
        },
    )
    everything = all_of(corpus)
    steps: dict[str, Step] = {
        "full": lambda raw: everything,
        "unchanged": lambda raw: Change(()),
        "four changed": corpus.edit,
        "1 % changed": lambda raw: corpus.change(raw, 1),
    }
    for name, step in steps.items():
        samples = _stepped(stage, name, size, contenders, absent, step).samples
        table.samples.update({f"{contender}, {name}": taken for contender, taken in samples.items()})
    table.absent.update(absent)
    return table


def _memory(stage: Stage, count: int) -> Table:
    """Return the table of steps over very many files. The peak is that of the ctxpack process: the others are small."""
    corpus = Corpus(count, TINY)
    folder = _made(stage, corpus, f"M {count} tiny")
    size = measure_folder("M", folder)
    table = Table(section="map", workload="many items", files=size.files, size=size.size)
    project = CtxPackMap(stage, folder, jobs=2, name="many items", command=("cp",))
    steps: dict[str, Step] = {
        "full": lambda raw: Change(()),
        "unchanged": lambda raw: Change(()),
        "1 changed": lambda raw: corpus.change(raw, 0, 1 / count),
    }
    for name, change in steps.items():
        command = project.command(change(project.raw))
        sample = _timed(stage, f"{table.title}: {name}", command, project.place)
        table.samples[f"{OURS}, {name}"] = [sample]
    return table


def _present(stage: Stage, makers: dict[str, Callable[[], Mapper]]) -> tuple[list[Mapper], dict[str, str]]:
    """Return the contenders that can take part, and why the others cannot."""
    contenders: list[Mapper] = []
    absent: dict[str, str] = {}
    for name, make in makers.items():
        try:
            contender = make()
            for program in contender.needs:
                stage.programs.find(program)
            contenders.append(contender)
        except (Absent, NotDone) as reason:
            absent[name] = str(reason)
    return contenders, absent


def _made(stage: Stage, corpus: Corpus, name: str) -> Path:
    """Return a folder with the corpus; made unless it is there."""
    folder = stage.kept / "workloads" / name.replace(" ", "-")
    done = folder.with_suffix(".done")
    if not done.exists():
        stage.note(f"making {name}")
        corpus.write(folder)
        done.touch()
    return folder


def _timed(stage: Stage, note: str, command: Command, folder: Path) -> Sample:
    stage.note(note)
    os.sync()  # or this contender would pay for the writes of the one before
    sample, _ = execute(command, folder)
    return sample
