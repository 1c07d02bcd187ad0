"""The command line: which sections to measure, at which scale, and how to show the results."""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.claiming import claiming
from bench.cutting import cutting
from bench.documents import documents
from bench.explaining import explaining
from bench.flipping import flipping
from bench.goals import judge
from bench.growing import growing
from bench.hashing import hashing, rehashing
from bench.installing import installing
from bench.mapping import mapping
from bench.measure import NotDone
from bench.memoizing import memoizing
from bench.placing import placing
from bench.plot import growth_plot, ratio_plot
from bench.programs import DEBIAN, GO, PYTHON, SYSTEM, Absent, Programs, install_commit, install_ctxpack
from bench.pushing import pulling, pushing
from bench.repushing import repushing
from bench.requesting import requesting
from bench.results import Results, Table, load, save
from bench.seeding import seeding
from bench.settling import settling
from bench.squeezing import squeezing
from bench.stage import Plan, Stage, remove_tree
from bench.starting import starting
from bench.table import markdown, render, text
from bench.verdict import OURS
from bench.versioning import versioning
from bench.workloads import NAMES
from registry2 import RegistryUnavailable

__all__ = ["main"]

WORK = Path(__file__).resolve().parents[2] / ".work" / "bench"

SECTIONS: dict[str, Callable[[Stage], Iterator[Table]]] = {
    "hash": hashing,
    "rehash": rehashing,
    "seed": seeding,
    "push": pushing,
    "pull": pulling,
    "place": placing,
    "repush": repushing,
    "versions": versioning,
    "cut": cutting,
    "squeeze": squeezing,
    "requests": requesting,
    "settle": settling,
    "startup": starting,
    "documents": documents,
    "map": mapping,
    "explain": explaining,
    "memo": memoizing,
    "claims": claiming,
    "flips": flipping,
    "install": installing,
    "growth": growing,
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    if options.show:
        _report(load(options.show), options.show, options.markdown)
        return 0
    scratch = options.work / "scratch" / str(time.time_ns())
    scratch.mkdir(parents=True)
    path = options.work / "results" / f"{time.strftime('%Y%m%d-%H%M%S')}-scale{options.scale:g}.json"
    try:
        _measure(options, scratch, path)
    except (Absent, RegistryUnavailable) as error:
        print(f"tools/bench/run.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted; the results so far: run.py --show {path}", file=sys.stderr)
        return 130
    finally:
        _note("removing scratch files")
        remove_tree(scratch)
        _note("")
    _report(load(path), path, options.markdown)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py", description="Measure CtxPack and its alternatives.")
    parser.add_argument("sections", nargs="*", metavar="section", help=f"any of {', '.join(SECTIONS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="a look in a few minutes: --scale 0.02 --runs 2")
    parser.add_argument("--scale", type=float, help="of the workloads; default: 1")
    parser.add_argument("--runs", type=int, help="of each contender, after a warm-up run; default: 5")
    parser.add_argument(
        "--only", action="append", choices=NAMES, default=[], help="leave out other workloads; repeatable"
    )
    parser.add_argument("--items", type=int, default=0, help="of workload M (map); default: 10,000 at scale 1")
    parser.add_argument("--patience", type=float, default=120, help="seconds a contender may use in one table")
    parser.add_argument("--ten-gib", action="store_true", help="let growth go to 10 GiB; needs some 60 GB of disk")
    parser.add_argument("--no-fetch", action="store_true", help="fetch no peers; use those that are there")
    parser.add_argument("--ctxpack", type=Path, help="the command to measure; default: that of this clone")
    earlier = parser.add_mutually_exclusive_group()
    beside = "to measure beside (place, startup, install)"
    earlier.add_argument("--before", type=Path, help=f"an earlier version of the command, {beside}")
    earlier.add_argument("--beside", metavar="COMMIT", help=f"an earlier commit of this clone, {beside}")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument("--show", type=Path, metavar="JSON", help="measure nothing; print and plot these results")
    parser.add_argument("--work", type=Path, default=WORK, help="where to keep everything; default: .work/bench")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.sections) - set(SECTIONS))
    if unknown:
        parser.error(f"no such section: {', '.join(unknown)}; there are: {', '.join(SECTIONS)}")
    options.scale = options.scale or (0.02 if options.quick else 1.0)
    options.runs = (2 if options.quick else 5) if options.runs is None else options.runs
    options.work = options.work.resolve()
    return options


def _measure(options: argparse.Namespace, scratch: Path, path: Path) -> None:
    """Measure the sections. Save the results after each table, because a run takes long."""
    _note("installing CtxPack")
    ctxpack = options.ctxpack.absolute() if options.ctxpack else install_ctxpack(options.work / "ctxpack")
    before = options.before
    if options.beside:
        _note(f"installing CtxPack of {options.beside}")
        before = install_commit(options.beside, options.work / "commits")
    programs = Programs(options.work / "peers", fetch=not options.no_fetch)
    plan = Plan(
        options.scale,
        options.runs,
        options.patience,
        options.ten_gib,
        tuple(options.only),
        before,
        options.items,
    )
    stage = Stage(plan, scratch, options.work, ctxpack, programs, _note)
    versions = {}
    for name in (*SYSTEM, *DEBIAN, *GO, *PYTHON):
        _note(f"looking for {name}")
        versions[name] = programs.version(name)
    results = Results(scale=plan.scale, runs=plan.runs, machine=_machine(scratch), programs=versions, tables=[])
    save(results, path)
    for name in (name for name in SECTIONS if name in (options.sections or SECTIONS)):
        begun = time.monotonic()
        for table in _tables(name, stage):
            results.tables.append(table)
            save(results, path)
            _note("")
            print(f"{table.title}: measured in {time.monotonic() - begun:.0f} s", file=sys.stderr)
            begun = time.monotonic()


def _tables(section: str, stage: Stage) -> Iterator[Table]:
    """Yield the tables of a section; when CtxPack does not do the work, one with the reason, and no other."""
    try:
        yield from SECTIONS[section](stage)
    except NotDone as reason:
        yield Table(section=section, workload="not done", files=0, size=0, absent={OURS: str(reason)})


def _machine(folder: Path) -> dict[str, str]:
    """Return the properties of this machine that the figures depend on, without its name."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    under = [mount for mount in mounts if folder.is_relative_to(mount[1])]
    processors = re.findall(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "when": time.strftime("%Y-%m-%d"),
        "processor": f"{os.cpu_count()} x {processors[0] if processors else platform.machine()}",
        "memory": f"{memory / (1 << 30):.0f} GiB",
        "file system": max(under, key=lambda mount: len(mount[1]))[2] if under else "unknown",
        "kernel": platform.release().split("-")[0],
        "Python": platform.python_version(),
    }


def _report(results: Results, path: Path, as_markdown: bool) -> None:
    """Print results, and write them as text and as pictures next to path."""
    verdicts = judge(results)
    print(render(results, verdicts, markdown if as_markdown else text))
    path.with_suffix(".txt").write_text(render(results, verdicts, text), encoding="utf-8")
    plots = {"ratios": ratio_plot(results), "growth": growth_plot(results)}
    for name, picture in plots.items():
        path.with_suffix(f".{name}.svg").write_text(picture, encoding="utf-8")
    print(f"saved: {path}, and next to it .txt, .{', .'.join(f'{name}.svg' for name in plots)}", file=sys.stderr)


def _note(words: str) -> None:
    """Show the current step on a line that the next note overwrites."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{words}", end="", file=sys.stderr, flush=True)
