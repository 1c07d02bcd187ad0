"""Hash: the cost of naming a folder by its content, the first time and again."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from bench.compare import compare, expect, flat_digest, prints, write_contract
from bench.measure import Command, Contender, Run, execute
from bench.results import Table
from bench.stage import Stage
from bench.workloads import Workload

__all__ = ["hashing", "rehashing"]

WORKLOADS = ("W1", "W2", "W3in")

# Peers and bounds that are one shell line. {} is the folder; each prints one line for every file.
LISTING = {
    "xargs -P2 openssl": ("openssl", "find {} -type f -print0 | xargs -0 -P2 -n64 openssl dgst -sha256 -r"),
    "git hash-object": ("git", "find {} -type f | git hash-object --stdin-paths"),
    "b3sum": ("b3sum", "find {} -type f -print0 | xargs -0 b3sum"),
}


def hashing(stage: Stage) -> Iterator[Table]:
    for workload in stage.workloads(WORKLOADS):
        yield compare(stage, "hash", workload, _hashers(stage, workload))


def rehashing(stage: Stage) -> Iterator[Table]:
    for workload in stage.workloads(WORKLOADS):
        yield compare(stage, "rehash", workload, _rehashers(stage, workload))


def _hashers(stage: Stage, workload: Workload) -> list[Contender]:
    folder = workload.folder
    flat = prints(flat_digest(folder))

    def python(name: str, script: str, *arguments: str) -> Contender:
        return Contender(
            name,
            lambda run: stage.command(run.folder, stage.python, stage.script(script), folder, *arguments),
            check=flat,
        )

    def listing(name: str, program: str, line: str) -> Contender:
        shell = line.format(shlex.quote(str(folder)))
        return Contender(
            name,
            lambda run: stage.peer(program, run.folder, "bash", "-c", shell),
            needs=(program,),
            check=lambda run: _expect_lines(run, workload.files),
        )

    signing = Contender(
        "model-signing",
        lambda run: stage.command(
            run.folder, stage.programs.find("model-signing"), stage.script("model_signing_hash.py"), folder
        ),
        needs=("model-signing",),
        check=lambda run: _expect_lines(run, workload.files),
    )
    return [
        _ctxpack_id(stage, workload),
        python("sha256, 1 thread", "bound_hash.py", "1"),
        python("sha256, 2 threads", "bound_hash.py", "2"),
        Contender(
            "nix-hash",
            lambda run: stage.peer("nix-hash", run.folder, "nix-hash", "--type", "sha256", folder),
            needs=("nix-hash",),
            check=lambda run: expect(len(run.stdout.strip()) == 64, "a digest", run.stdout[:80]),
        ),
        python("naive rglob + sha256", "naive_hash.py"),
        signing,
        *(listing(name, *how) for name, how in LISTING.items()),
        _dvc_add(stage, workload),
    ]


def _rehashers(stage: Stage, workload: Workload) -> list[Contender]:
    place = stage.folder(f"rehash ctxpack {workload.name}")
    contract = write_contract(place, workload.name, workload.folder)
    ctxpack = stage.cli(place, place / "cache", "id", contract)

    def remember() -> None:
        execute(ctxpack, place)

    walk = stage.command(place, stage.python, stage.script("walk.py"), workload.folder)
    return [
        Contender("ctxpack", lambda run: ctxpack, prepare=remember, check=_expect_uri),
        Contender("walk with lstat", lambda run: walk, check=prints(str(workload.files))),
        _dvc_status(stage, workload),
        _git_status(stage, workload),
    ]


def _ctxpack_id(stage: Stage, workload: Workload) -> Contender:
    place = stage.folder(f"hash ctxpack {workload.name}")
    contract = write_contract(place, workload.name, workload.folder)
    _, output = execute(stage.cli(place, place / "cache", "id", "--help"), place)
    rehash = ("--rehash",) if "--rehash" in output else ()

    def command(run: Run) -> Command:
        return stage.cli(run.folder, run.folder / "cache", "id", *rehash, contract)

    def check(run: Run) -> None:
        _expect_uri(run)
        if run.first:
            largest = max(workload.folder.rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else -1)
            _flip_last_byte(largest)
            try:
                _, other = execute(command(run), run.folder)
            finally:
                _flip_last_byte(largest)
            expect(other != run.stdout, "another URI after a byte changed", other)

    return Contender("ctxpack", command, check=check)


def _dvc_add(stage: Stage, workload: Workload) -> Contender:
    place = stage.scratch / f"dvc-{workload.name}"

    def prepare() -> None:
        place.mkdir()
        execute(_dvc(stage, place, "init", "--no-scm"), place)
        execute(stage.command(place, "cp", "--recursive", "--link", workload.folder, place / "data"), place)

    def command(run: Run) -> Command:
        (place / "data.dvc").unlink(missing_ok=True)
        return _dvc(stage, place, "add", "--no-commit", "data", site=run.folder)

    def check(run: Run) -> None:
        expect(f"nfiles: {workload.files}\n" in (place / "data.dvc").read_text(), f"{workload.files} files", "others")

    return Contender("dvc add --no-commit", command, needs=("dvc",), prepare=prepare, check=check)


def _dvc_status(stage: Stage, workload: Workload) -> Contender:
    place = stage.scratch / f"dvc-status-{workload.name}"

    def prepare() -> None:
        place.mkdir()
        execute(_dvc(stage, place, "init", "--no-scm"), place)
        # A copy, not links: dvc makes the files that it adds read-only.
        execute(stage.command(place, "cp", "--recursive", workload.folder, place / "data"), place)
        execute(_dvc(stage, place, "add", "data"), place)

    return Contender(
        "dvc status",
        lambda run: _dvc(stage, place, "status"),
        needs=("dvc",),
        prepare=prepare,
        check=prints("Data and pipelines are up to date."),
    )


def _git_status(stage: Stage, workload: Workload) -> Contender:
    place = stage.scratch / f"git-status-{workload.name}"

    def git(*arguments: str) -> Command:
        return stage.command(place, "git", "-c", "user.name=bench", "-c", "user.email=bench@localhost", *arguments)

    def prepare() -> None:
        execute(stage.command(stage.scratch, "cp", "--recursive", workload.folder, place), stage.scratch)
        execute(git("init", "--quiet"), stage.scratch)
        execute(git("-c", "core.compression=0", "add", "."), stage.scratch)
        execute(git("commit", "--quiet", "--message", workload.name), stage.scratch)

    status = git("status", "--porcelain")
    return Contender("git status", lambda run: status, needs=("git",), prepare=prepare, check=prints(""))


def _dvc(stage: Stage, place: Path, *arguments: str, site: Path | None = None) -> Command:
    # dvc keeps the hashes of known files in the site cache: a new one is a cold start.
    settings = {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(site or place / "site")}
    return stage.peer("dvc", place, stage.programs.find("dvc"), *arguments, **settings)


def _expect_uri(run: Run) -> None:
    expect(run.stdout.startswith("ctx://sha256:"), "a URI", run.stdout[:80])


def _expect_lines(run: Run, files: int) -> None:
    lines = run.stdout.count("\n")
    expect(lines == files, f"{files} digests", lines)


def _flip_last_byte(path: Path) -> None:
    """Change the content of a file, but not its size and modification time. A second call undoes it."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
