"""The main job of CtxPack on real documents: one agent computes and shares, another one pulls instead of computing.

    python3 tools/demo.py

Agent A parses some eighty PDF files, one item each, and turns their passages into a searchable index, which it pushes.
To map or run these contracts is a hit from then on: no command is run again. Agent B has none of the documents, only
the URI: it pulls the index, answers questions from it and looks up what made it. Then one document changes, and only
that one is parsed again. Last, one parameter changes, and so does the URI. Every step is checked; the demo stops with
exit status 1 at the first check that fails.

Both agents are on this machine, each with a home, a cache and a working folder of its own. They share only the data
folder of the user, where CtxPack keeps its registry unless another one is configured. Everything is in ``.work/demo``,
and each run starts from nothing. The scripts that the agents run are in ``tools/demo``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

from agents import Agent, Ran, Stage, check, demo_commands, files_below, same_files

SCRIPTS = Path(__file__).resolve().parent / "demo"
STAGE = SCRIPTS.parents[1] / ".work" / "demo" / "stage"
WHAT_A_HAS = ("parse.json", "parse.py", "contract.json", "index.py", "documents.py", "requirements.txt")
WHAT_B_HAS = ("query.py",)

MISS = 3  # the exit status of `ctxpack pull` when there is no such pack

# A question, and the documents. One of them must be the best hit.
QUESTIONS = {
    "How do I set a breakpoint and step through a program?": {"debugger.pdf"},
    "Which names are keywords and cannot be used as identifiers?": {"identifiers.pdf"},
    "How are imaginary numbers written?": {"imaginary.pdf", "numbers.pdf"},
}

REVISED = ("debugger", "To leave the debugger, press the red button.")  # a document, and what is added to it


class Shared(NamedTuple):
    """What agent A shared. uri: of the index; passages: the URI of what it is made from; documents: how many.

    seconds: of each step.
    """

    uri: str
    passages: str
    documents: int
    seconds: dict[str, float]


def share(a: Agent) -> Shared:
    """Let a parse, index and push, and not compute again."""
    print("\n== Agent A has documents and two contracts. It parses each document, ...")
    a.runs("python", "documents.py", "raw_docs")
    count = len(files_below(a.folder / "raw_docs"))
    parse = parses(a, f"{count} items: {count} made")
    print("\n== ... makes an index of the passages, and shares both")
    uri = a.runs("ctxpack", "id").stdout
    index = a.runs("ctxpack", "run")
    check(index.stdout == f"Seeded: {uri}", f"Seeded: {uri}", index.stdout)
    push = a.runs("ctxpack", "push", uri)
    print("\n== The next time, no command need run: the results are there")
    passages = parse.stdout.removeprefix("Mapped: ")
    made = written(a.folder)
    for command, hit in ((("map", "--contract", "parse.json"), passages), (("run",), uri)):
        again = a.runs("ctxpack", *command)
        check(again.stdout == f"Hit: {hit}", f"Hit: {hit}", again.stdout)
        check("weak point" not in again.stderr, "a contract without weak points", again.stderr)
    check(written(a.folder) == made, "the files as they were", "files written again")
    seconds = {"parse": parse.seconds, "index": index.seconds, "push": push.seconds, "run": again.seconds}
    return Shared(uri, passages, count, seconds)


def parses(a: Agent, items: str) -> Ran:
    """Let a parse its documents and push the passages. items: where they come from, as ctxpack says it."""
    ran = a.runs("ctxpack", "map", "--contract", "parse.json", "--push")
    check(f"ctxpack: {items}" in ran.stderr.splitlines(), items, ran.stderr)
    check("weak point" not in ran.stderr, "a contract without weak points", ran.stderr)
    return ran


def written(folder: Path) -> dict[str, int]:
    """Return when each file in folder was written, in nanoseconds."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def reuse(b: Agent, uri: str, original: Path) -> float:
    """Let b pull uri, answer from it and inspect it; return the seconds of the pull."""
    print("\n== Agent B has the URI and none of the documents; it pulls and answers")
    pull = b.runs("ctxpack", "pull", uri, "--output", "processed_data")
    pulled = b.folder / pull.stdout
    check(same_files(original, pulled), f"the files of {original}", f"others in {pulled}")
    for question, documents in QUESTIONS.items():
        best = b.runs("python", "query.py", "processed_data", question).stdout.splitlines()[0]
        check(any(f" {document} " in best for document in documents), f"a hit in {sorted(documents)}", best)
    inspect = b.runs("ctxpack", "inspect", uri)
    check("weak points" not in inspect.stdout, "no weak points", inspect.stdout)
    return pull.seconds


def revise(a: Agent, b: Agent, shared: Shared) -> Ran:
    """Let a change one document, parse and index, and b pull the new index; return what the parsing wrote."""
    topic, more = REVISED
    print(f"\n== Agent A revises {topic}.pdf: only that document is parsed again")
    passages = a.folder / "passages"
    before = contents(passages)
    a.runs("python", "documents.py", "raw_docs", "--revise", topic, more)
    parse = parses(a, f"{shared.documents} items: {shared.documents - 1} in cached packs, 1 made")
    check(parse.stdout != f"Mapped: {shared.passages}", "another URI", parse.stdout)
    why = f"ctxpack: miss: input raw_docs: {topic}.pdf changed since ctx://"
    check(why in parse.stderr, why, parse.stderr)
    after = contents(passages)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    check(changed == {f"{topic}.jsonl"}, f"other passages of {topic} only", f"of {sorted(changed)}")
    index = a.runs("ctxpack", "run", "--push").stdout
    check(index.startswith("Seeded: ") and shared.uri not in index, "another URI", index)
    b.runs("ctxpack", "pull", index.removeprefix("Seeded: "), "--output", "revised_data")
    chunks = (b.folder / "revised_data" / "chunks.jsonl").read_text(encoding="utf-8")
    check(more in chunks, f"the passage {more!r}", "the passages from before")
    return parse


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of each file in a folder."""
    return {name: (folder / name).read_bytes() for name in files_below(folder)}


def change(a: Agent, b: Agent, uri: str) -> None:
    """Let a change one parameter and change it back: another URI, which has no pack, then uri."""
    print("\n== Agent A changes chunk_size in parse.json from 500 to 900: another contract, another URI")
    contract = a.folder / "parse.json"
    first = contract.read_text(encoding="utf-8")
    contract.write_text(first.replace('"chunk_size": 500', '"chunk_size": 900'), encoding="utf-8")
    other = a.runs("ctxpack", "id", "parse.json").stdout
    check(other != uri, "another URI", other)
    b.runs("ctxpack", "pull", other, status=MISS)
    print("\n== and back to 500")
    contract.write_text(first, encoding="utf-8")
    again = a.runs("ctxpack", "id", "parse.json").stdout
    check(again == uri, uri, again)


def main() -> None:
    argparse.ArgumentParser(description="Show the main job of CtxPack on real documents.").parse_args()
    begun = time.perf_counter()
    stage = Stage(STAGE, demo_commands())
    installed = time.perf_counter() - begun
    stage.clear()
    a = stage.agent("A", [SCRIPTS / name for name in WHAT_A_HAS])
    b = stage.agent("B", [SCRIPTS / name for name in WHAT_B_HAS])
    shared = share(a)
    seconds = shared.seconds
    seconds["pull"] = reuse(b, shared.uri, a.folder / "processed_data")
    parse = revise(a, b, shared)
    seconds["parse 1"] = parse.seconds
    change(a, b, parse.stdout.removeprefix("Mapped: "))
    print("\n== Every check passed")
    for step, took in seconds.items():
        print(f"    {step:8}{took:6.2f} s")
    print(f"    ratio   {(seconds['parse'] + seconds['index']) / seconds['pull']:6.1f}   compute / pull")
    print(f"    total   {time.perf_counter() - begun:6.2f} s, of which {installed:.2f} s to install")


if __name__ == "__main__":
    main()
