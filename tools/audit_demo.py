"""A code audit of a real package: when three files change, three files are audited again, wherever that happens.

    python3 tools/audit_demo.py

Agent A audits the package ``multiprocessing`` of the running Python, file by file, and pushes the reports. A pull
request edits three of the files. Agent B, with an empty cache, audits the edited package: three reports are made and
the others fetched. Agent C gets them all. Agent D asks nobody, audits everything, and has the same bytes. Every step is
checked; the demo stops with exit status 1 at the first check that fails.

All agents are on this machine, as in ``tools/demo.py``, in ``.work/audit_demo``. They use the ``ctxpack`` on PATH, or
that of the other demo if there is none. What they run is in ``tools/audit_demo``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from agents import Agent, Ran, Stage, check, ctxpack_commands, files_below, same_files

TOOLS = Path(__file__).resolve().parent
STAGE = TOOLS.parent / ".work" / "audit_demo"
WHAT_ALL_HAVE = (TOOLS / "audit_demo" / "audit.py", TOOLS / "audit_demo" / "contract.json")

PACKAGE = "multiprocessing"


class Edit(NamedTuple):
    """What a pull request adds to a file, and the kind of the one finding that its report then has in addition."""

    adds: str
    finding: str


EDITS = {
    "pool.py": Edit('\n\ndef valued(text):\n    """Return the value."""\n    return eval(text)\n', "dynamic code"),
    "heap.py": Edit("\n\ntry:\n    import mmap\nexcept:\n    mmap = None\n", "bare except"),
    "queues.py": Edit("\n\ndef is_idle(queue):\n    return queue.empty()\n", "no docstring"),
}
UNDONE = "heap.py"


class Audit(NamedTuple):
    """One `ctxpack map`. audited: the files that the audit program ran for."""

    uri: str
    audited: set[str]
    ran: Ran


def code_of(package: str) -> Path:
    """Return the folder of a package of the running Python. Raises: SystemExit when it has none."""
    found = find_spec(package)
    folders = list(found.submodule_search_locations or ()) if found else []
    folder = Path(folders[0] if folders else package)
    check((folder / "__init__.py").is_file(), f"the files of {package}", "none in this Python")
    return folder


def agent(stage: Stage, name: str, package: Path) -> Agent:
    """Return an agent with the audit and a copy of a package; the Python that audits is part of the contract."""
    new = stage.agent(name, WHAT_ALL_HAVE)
    shutil.copytree(package, new.folder / "package")
    version = subprocess.check_output(["python3", "--version"], env=new.environment, text=True)
    (new.folder / ".python-version").write_text(version.removeprefix("Python "), encoding="utf-8")
    return new


def audit(agent: Agent, *options: str, done: str, items: str) -> Audit:
    """Let an agent audit. done: the word for how it ended; items: where the reports come from, as ctxpack says it."""
    ran = agent.runs("ctxpack", "map", *options)
    word, _, uri = ran.stdout.partition(": ")
    check(word == done, done, ran.stdout)
    lines = ran.stderr.splitlines()
    if items:
        check(f"ctxpack: {items}" in lines, items, ran.stderr)
    check(not any("weak point" in line for line in lines), "a contract without weak points", ran.stderr)
    begin = "audited package/"
    audited = {line.removeprefix(begin).rpartition(": ")[0] for line in lines if line.startswith(begin)}
    return Audit(uri, audited, ran)


def expect_audited(found: Audit, files: Iterable[str]) -> None:
    expected = set(files)
    check(found.audited == expected, f"to audit {sorted(expected)}", f"{sorted(found.audited)}")


def findings(reports: Path, file: str) -> Counter[str]:
    """Return how many findings of each kind the report on a file has."""
    report = json.loads((reports / f"{file}.json").read_text(encoding="utf-8"))
    return Counter(finding["kind"] for finding in report["findings"])


def edit(package: Path) -> None:
    """Apply the pull request to a package."""
    for name, one in EDITS.items():
        with open(package / name, "a", encoding="utf-8") as file:
            file.write(one.adds)


def share(a: Agent, files: set[str]) -> Audit:
    """Let a audit and push everything."""
    print(f"\n== Agent A audits the {len(files)} files of {PACKAGE}, and pushes the reports")
    first = audit(a, "--push", done="Mapped", items=f"{len(files)} items: {len(files)} made")
    expect_audited(first, files)
    reports = a.folder / "reports"
    check(files_below(reports) == {f"{file}.json" for file in files}, "a report on each file", "others")
    total = sum((findings(reports, file) for file in files), Counter[str]())
    print("\n    findings: " + ", ".join(f"{count} {kind}" for kind, count in sorted(total.items())))
    return first


def review(b: Agent, files: set[str], first: Audit, before: Path) -> Audit:
    """Let b audit the edited package. before: the reports of the first audit."""
    print(f"\n== A pull request edits {len(EDITS)} files. Agent B has an empty cache, and asks why this is a miss")
    explained = b.runs("ctxpack", "explain").stdout
    check(first.uri in explained, f"a comparison with {first.uri}", explained)
    named = {line.partition(": ")[2].partition(" ")[0] for line in explained.splitlines() if line.startswith("input")}
    check(named == set(EDITS), f"{sorted(EDITS)} to be named", f"{sorted(named)}")
    print("\n== It audits these files, and fetches the other reports")
    rest = len(files) - len(EDITS)
    items = f"{len(files)} items: {rest} in packs of the registry, {len(EDITS)} made"
    second = audit(b, "--push", done="Mapped", items=items)
    expect_audited(second, EDITS)
    check(second.uri != first.uri, "another URI", second.uri)
    after = b.folder / "reports"
    check(files_below(after) == files_below(before), "the names of the first reports", "others")
    for file in sorted(files):
        report = f"{file}.json"
        same = (before / report).read_bytes() == (after / report).read_bytes()
        check(same == (file not in EDITS), f"{'another' if file in EDITS else 'the same'} {report}", "the opposite")
    for file, one in EDITS.items():
        new = findings(after, file) - findings(before, file)
        check(new == Counter([one.finding]), f"one {one.finding} more in {file}", f"{dict(new)}")
    return second


def get_all(c: Agent, second: Audit, reports: Path) -> Audit:
    """Let c have the same result. reports: those of b."""
    print("\n== Agent C has the same files: nothing is audited")
    hit = audit(c, done="Hit", items="")
    expect_audited(hit, ())
    check(hit.uri == second.uri, second.uri, hit.uri)
    check(same_files(reports, c.folder / "reports"), "the reports of B", "others")
    return hit


def undo(b: Agent, files: set[str], original: Path, before: Path) -> None:
    """Let b undo one edit. original: the package; before: the reports of the first audit."""
    print(f"\n== Agent B undoes the edit of {UNDONE}: another URI, but the report on that file is there already")
    shutil.copy(original / UNDONE, b.folder / "package" / UNDONE)
    items = f"{len(files)} items: {len(files) - 1} in cached packs, 1 in packs of the registry"
    third = audit(b, done="Mapped", items=items)
    expect_audited(third, ())
    why = f"ctxpack: miss: input package: {UNDONE} changed since ctx://"
    check(why in third.ran.stderr, why, third.ran.stderr)
    name = f"{UNDONE}.json"
    same = (before / name).read_bytes() == (b.folder / "reports" / name).read_bytes()
    check(same, f"the first {name}", "another")


def audit_alone(d: Agent, files: set[str], second: Audit, reports: Path) -> Audit:
    """Let d audit everything without asking anybody. reports: of the edited package."""
    print("\n== Agent D asks nobody, and audits all: the same URI, the same bytes")
    alone = audit(d, "--offline", done="Mapped", items=f"{len(files)} items: {len(files)} made")
    expect_audited(alone, files)
    check(alone.uri == second.uri, second.uri, alone.uri)
    check(same_files(reports, d.folder / "reports"), "the reports of B and C", "others")
    return alone


def main() -> None:
    argparse.ArgumentParser(description="Show a code audit that audits only the files that changed.").parse_args()
    begun = time.perf_counter()
    original = code_of(PACKAGE)
    stage = Stage(STAGE, ctxpack_commands())
    stage.clear()
    files = {path for path in files_below(original) if path.endswith(".py")}
    a = agent(stage, "A", original)
    before = a.folder / "reports"
    first = share(a, files)
    edited = stage.folder / "edited"
    shutil.copytree(original, edited)
    edit(edited)
    b, c, d = (agent(stage, name, edited) for name in "BCD")
    second = review(b, files, first, before)
    hit = get_all(c, second, b.folder / "reports")
    alone = audit_alone(d, files, second, c.folder / "reports")
    undo(b, files, original, before)
    print("\n== Every check passed")
    audits = {"A, all": first, "B, what changed": second, "C, nothing": hit, "D, all, alone": alone}
    for name, one in audits.items():
        print(f"    {name:16}{len(one.audited):3} of {len(files)} files audited{one.ran.seconds:7.2f} s")
    print(f"    {'total':40}{time.perf_counter() - begun:7.2f} s")


if __name__ == "__main__":
    main()
