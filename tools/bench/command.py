"""The command line: which sections, on how much, and what to do with the results."""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.filling import filling
from bench.goals import judge
from bench.growing import growing
from bench.hashing import hashing, rehashing
from bench.measure import NotDone
from bench.plot import growth_plot, ratio_plot
from bench.programs import DEBIAN, GO, PYTHON, SYSTEM, Absent, Programs, install_ctxpack
from bench.pushing import pulling, pushing
from bench.repushing import repushing
from bench.requesting import requesting
from bench.results import Results, Table, load, save
from bench.seeding import seeding
from bench.stage import Plan, Stage, remove_tree
from bench.starting import starting
from bench.table import markdown, render, text
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
    "repush": repushing,
    "requests": requesting,
    "fill": filling,
    "startup": starting,
    "growth": growing,
}


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _asked(arguments)
    if asked.show:
        _report(load(asked.show), asked.show, asked.markdown)
        return 0
    scratch = asked.work / "scratch" / str(time.time_ns())
    scratch.mkdir(parents=True)
    path = asked.work / "results" / f"{time.strftime('%Y%m%d-%H%M%S')}-scale{asked.scale:g}.json"
    try:
        _measure(asked, scratch, path)
    except (Absent, NotDone, RegistryUnavailable) as error:
        print(f"tools/bench/run.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted; what there is so far: run.py --show {path}", file=sys.stderr)
        return 130
    finally:
        _note("clearing away")
        remove_tree(scratch)
        _note("")
    _report(load(path), path, asked.markdown)
    return 0


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run.py", description="Measure CtxPack beside what its users would pick instead."
    )
    parser.add_argument("sections", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="a look in a few minutes: --scale 0.02 --runs 2")
    parser.add_argument("--scale", type=float, help="of the workloads; default: 1")
    parser.add_argument("--runs", type=int, help="of each contender, after one to warm up; default: 5")
    parser.add_argument(
        "--only", action="append", choices=NAMES, default=[], help="leave out other workloads; repeatable"
    )
    parser.add_argument("--patience", type=float, default=120, help="seconds a contender may use in one table")
    parser.add_argument("--ten-gib", action="store_true", help="let growth go to 10 GiB; needs some 60 GB of disk")
    parser.add_argument("--no-fetch", action="store_true", help="fetch no peers: those that are not there are absent")
    parser.add_argument("--ctxpack", type=Path, help="the command to measure; default: this clone's, installed anew")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument("--show", type=Path, metavar="JSON", help="measure nothing: print and plot these results")
    parser.add_argument("--work", type=Path, default=WORK, help="where to keep everything; default: .work/bench")
    asked = parser.parse_args(arguments)
    unknown = sorted(set(asked.sections) - set(SECTIONS))
    if unknown:
        parser.error(f"no such section: {', '.join(unknown)}; there are: {', '.join(SECTIONS)}")
    asked.scale = asked.scale or (0.02 if asked.quick else 1.0)
    asked.runs = (2 if asked.quick else 5) if asked.runs is None else asked.runs
    asked.work = asked.work.resolve()
    return asked


def _measure(asked: argparse.Namespace, scratch: Path, path: Path) -> None:
    """Measure every section, and save what there is after each table: a run takes long."""
    _note("installing CtxPack")
    ctxpack = asked.ctxpack.absolute() if asked.ctxpack else install_ctxpack(asked.work / "ctxpack")
    programs = Programs(asked.work / "peers", fetch=not asked.no_fetch)
    plan = Plan(asked.scale, asked.runs, asked.patience, asked.ten_gib, tuple(asked.only))
    stage = Stage(plan, scratch, asked.work, ctxpack, programs, _note)
    versions = {}
    for name in (*SYSTEM, *DEBIAN, *GO, *PYTHON):
        _note(f"looking for {name}")
        versions[name] = programs.version(name)
    results = Results(scale=plan.scale, runs=plan.runs, machine=_machine(scratch), programs=versions, tables=[])
    save(results, path)
    for name in (name for name in SECTIONS if name in (asked.sections or SECTIONS)):
        begun = time.monotonic()
        for table in SECTIONS[name](stage):
            results.tables.append(table)
            save(results, path)
            _note("")
            print(f"{table.title}: measured in {time.monotonic() - begun:.0f} s", file=sys.stderr)
            begun = time.monotonic()


def _machine(folder: Path) -> dict[str, str]:
    """Return what the figures depend on, and nothing that tells which machine it was."""
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
    """Print results, and write the same as text and pictures beside path."""
    verdicts = judge(results)
    print(render(results, verdicts, markdown if as_markdown else text))
    path.with_suffix(".txt").write_text(render(results, verdicts, text), encoding="utf-8")
    plots = {"ratios": ratio_plot(results), "growth": growth_plot(results)}
    for name, picture in plots.items():
        path.with_suffix(f".{name}.svg").write_text(picture, encoding="utf-8")
    print(f"kept: {path}, and beside it .txt, .{', .'.join(f'{name}.svg' for name in plots)}", file=sys.stderr)


def _note(words: str) -> None:
    """Show what is going on, on a line that the next note overwrites."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{words}", end="", file=sys.stderr, flush=True)
