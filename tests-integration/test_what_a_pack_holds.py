"""A pack holds what the command made, all of it and nothing else; and nothing of the user's is lost on the way."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from audit import audit_cache, unfinished
from failpoints import run_forked
from forks import ForkedMachine, Forks
from machine import LIMIT, Finished, Machine
from neutral_git import git
from project import Project

from ctxpack_cache.pathlock import PathLocks

Write = Callable[[Project], object]

OCCUPIED = "something else is there already"
COPY = "mkdir -p out; cat in/a.txt > out/r"


@pytest.fixture
def machine(tmp_path: Path, forks: Forks) -> Machine:
    return ForkedMachine(forks, tmp_path / "machine")


@pytest.fixture
def project(machine: Machine) -> Project:
    return Project(machine)


def job(project: Project, script: str) -> None:
    """Let the command be this script. It is code, so another script is another URI."""
    project.write({"src/make.sh": f"{script}\n"})


def another(project: Project) -> None:
    """Change the input, so that the next run is a miss."""
    path = project.folder / "in" / "a.txt"
    path.write_text(path.read_text() + "more\n")


def seeded(done: Finished) -> str:
    """Return the URI of what a command seeded."""
    assert (done.status, done.stdout.partition(" ")[0]) == (0, "Seeded:"), done.stderr
    return done.stdout.partition(" ")[2].strip()


def packed(project: Project, uri: str) -> dict[str, str]:
    """Return the files of a cached pack, by path."""
    return files_in(project.machine.cache / "v1" / "packs" / uri.rpartition(":")[2] / "artifacts")


def files_in(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def state(project: Project) -> dict[str, tuple[object, ...]]:
    """Return what the project's folder holds, and whether it was written: another file of the same content differs."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(project.folder.rglob("*")):
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[path.relative_to(project.folder).as_posix()] = (
            status.st_mode,
            status.st_ino,
            status.st_mtime_ns,
            content,
        )
    return found


def weak_points(project: Project, uri: str) -> list[str]:
    """Return the codes of the weak points in the provenance of a pack."""
    shown = json.loads(project.succeed("inspect", uri, "--json"))
    points = shown["provenance"].get("weak", [])
    assert shown["weak"] == points
    return [point["code"] for point in points]


def aside(project: Project, name: str = "out") -> list[Path]:
    """Return what was left beside an output."""
    path = project.folder / name
    return sorted(path.parent.glob(f".{path.name}.*"))


def refuses_and_changes_nothing(project: Project, *arguments: str) -> str:
    before = state(project)
    message = project.refuses("run", *arguments)
    assert state(project) == before
    return message


def killed_in_its_command(project: Project, *arguments: str, alone: bool = False) -> None:
    """Run, and kill ``ctxpack`` where the command says ``die``; unless alone, the command too."""
    dies = {"DIE": "1", "ALONE": alone * "1"}
    done = run_forked(project.machine, "run", *arguments, folder=project.folder, environment=dies)
    assert done.status == -signal.SIGKILL
    with PathLocks([str(project.folder / "out")]):  # held until the command has ended
        pass


DIE = 'die() { if [ "$DIE" ]; then kill -9 $RUNNER; [ "$ALONE" ] || kill -9 $$; fi; }; '


# ---- 04: leftovers of an earlier run


def test_the_output_of_a_deleted_input_is_not_in_the_next_pack(project: Project) -> None:
    job(project, "mkdir -p out/sub; for f in in/*; do cp $f out/sub/$(basename $f).done; done")
    project.write({"in/two": "two\n"})
    assert set(packed(project, seeded(project.call("run")))) == {"sub/a.txt.done", "sub/two.done"}
    project.remove("in/two")
    uri = seeded(project.call("run"))
    assert packed(project, uri) == files_in(project.folder / "out") == {"sub/a.txt.done": "one\n"}
    assert aside(project) == []


@pytest.mark.parametrize("ending", ["exit 9", "kill -9 $$", "rm -r out/r; exit 0"])
def test_what_a_failed_job_left_is_in_no_pack(project: Project, ending: str) -> None:
    project.declare(outputs=[{"path": "out"}, {"path": "log"}])
    fails = f'mkdir -p out; echo > out/part.tmp; echo > out/r; [ -e "$OK" ] || {{ {ending}; }}'
    job(project, f"{fails}; rm -f out/part.tmp; echo whole > out/r; echo end > log")
    before = project.call("run").status
    if ending.endswith("exit 0"):
        job(project, "mkdir -p out; echo whole > out/r; echo end > log")
    else:
        assert before in (9, 137)
        assert (project.folder / "out" / "part.tmp").exists()
        project.machine.environment["OK"] = "/"
    done = project.call("run")
    assert packed(project, seeded(done)) == {"out/r": "whole\n", "log": "end\n"}


def test_the_notice_names_keep_outputs_when_it_would_have_kept_something(project: Project) -> None:
    job(project, 'mkdir -p out; echo > out/part; [ "$OK" ]')
    assert "--keep-outputs" not in project.call("run").stderr
    assert "out: what a failed run of this contract left is deleted; --keep-outputs would keep it" in (
        project.call("run").stderr
    )
    another(project)
    assert "--keep-outputs" not in project.call("run").stderr


def test_an_output_is_absent_at_the_start_and_its_parents_exist(project: Project) -> None:
    project.declare(outputs=[{"path": "deep/er/f.txt"}, {"path": "new/folder"}, {"path": "log"}])
    look = "for f in deep/er/f.txt new/folder log; do [ -e $f ] && echo there $f; done"
    job(project, f"{look} > seen; [ -d new ] && echo f > deep/er/f.txt; mkdir new/folder; echo l > log")
    for _ in range(2):
        uri = seeded(project.call("run"))
        assert (project.folder / "seen").read_text() == ""
        assert packed(project, uri) == {"f.txt": "f\n", "log": "l\n"}
        another(project)


def test_an_output_of_one_file_is_begun_anew(project: Project) -> None:
    project.declare(outputs=[{"path": "log.txt"}])
    job(project, "cat in/a.txt >> log.txt")
    seeded(project.call("run"))
    another(project)
    assert packed(project, seeded(project.call("run"))) == {"log.txt": "one\nmore\n"}
    assert aside(project, "log.txt") == []


@pytest.mark.parametrize("makes", ["true", "rm -rf out", "mkdir tmp; rmdir tmp"])
def test_a_command_that_made_nothing_is_refused_and_the_old_output_is_back(project: Project, makes: str) -> None:
    job(project, COPY)
    seeded(project.call("run"))
    job(project, makes)
    before = state(project)
    assert "out: the command did not make this output, so nothing was seeded" in project.refuses("run")
    assert state(project) == before
    project.remove("out")
    assert "out: the command did not make this output" in project.refuses("run")
    assert not (project.folder / "out").exists()
    assert len(audit_cache(project.machine.cache)) == 1


def test_one_of_several_outputs_that_is_not_made_is_refused(project: Project) -> None:
    project.declare(outputs=[{"path": "out"}, {"path": "log"}])
    job(project, f"{COPY}; echo 1 > log")
    seeded(project.call("run"))
    job(project, "mkdir out; echo new > out/r")
    assert "log: the command did not make this output" in project.refuses("run")
    assert (project.folder / "log").read_text() == "1\n"
    assert (project.folder / "out" / "r").read_text() == "new\n"
    assert (aside(project), aside(project, "log")) == ([], [])


@pytest.mark.parametrize("ends", ["exit 7", "mkdir out; exit 7", "kill -9 $$", "rmdir out; exit 1"])
def test_what_was_moved_aside_is_back_when_the_command_fails_and_left_nothing(project: Project, ends: str) -> None:
    job(project, COPY)
    seeded(project.call("run"))
    (project.folder / "out" / "r").write_text("the user's\n")
    job(project, ends)
    before = state(project)
    for arguments in (("run",), ("run", "--force"), ("run",)):
        assert project.call(*arguments).status not in (0, 1 if "kill" in ends else 0)
        assert state(project) == before
    assert OCCUPIED in project.refuses("run")


# ---- 04: what may be deleted, and what is the user's


def edit(project: Project) -> None:
    with (project.folder / "out" / "r").open("a") as file:
        file.write("the user's\n")


def edit_and_hide(project: Project) -> None:
    """Change the content; size and mtime stay."""
    path = project.folder / "out" / "r"
    status = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def put_a_file(project: Project) -> None:
    project.remove("out")
    project.write({"out": "mine\n"})


EDITS: dict[str, Write] = {
    "an edited file": edit,
    "an edited file of the same size and mtime": edit_and_hide,
    "another file": lambda project: project.write({"out/mine": "mine\n"}),
    "a file deep in it": lambda project: project.write({"out/a/b/mine": "mine\n"}),
    "a hidden file": lambda project: project.write({"out/.mine": "mine\n"}),
    "an empty folder": lambda project: project.write({"out/mine/": ""}),
    "a link": lambda project: (project.folder / "out" / "link").symlink_to("r"),
    "a pipe": lambda project: os.mkfifo(project.folder / "out" / "pipe"),
    "a file in place of the folder": put_a_file,
}


@pytest.mark.parametrize("case", EDITS)
def test_what_the_user_changed_is_refused_and_replaced_by_force(project: Project, case: str) -> None:
    job(project, COPY)
    seeded(project.call("run"))
    EDITS[case](project)
    another(project)
    for arguments in ((), ("--keep-outputs",)):
        message = refuses_and_changes_nothing(project, *arguments)
        assert message.splitlines()[-1].startswith(f"ctxpack: error: out: {OCCUPIED}")
        assert "--force" in message
    assert packed(project, seeded(project.call("run", "--force"))) == {"r": "one\nmore\n"}
    assert (files_in(project.folder / "out"), aside(project)) == ({"r": "one\nmore\n"}, [])


def test_one_edited_output_of_several_keeps_all_of_them(project: Project) -> None:
    project.declare(outputs=[{"path": "a"}, {"path": "out"}, {"path": "z"}])
    job(project, f"{COPY}; echo 1 > a; echo 1 > z")
    seeded(project.call("run"))
    edit(project)
    another(project)
    assert f"out: {OCCUPIED}" in refuses_and_changes_nothing(project)


def test_what_a_cached_pack_holds_is_replaced(project: Project) -> None:
    job(project, COPY)
    uri = seeded(project.call("run"))
    for place in ("pull -o", "copied", "hit"):
        if place == "pull -o":
            project.remove("out")
            project.succeed("pull", uri, "-o", "out")
        elif place == "copied":
            shutil.move(project.folder / "out", project.folder / "saved")
            shutil.copytree(project.folder / "saved", project.folder / "out")
            project.remove("saved")
        else:
            project.remove("out")
            assert project.succeed("run") == f"Hit: {uri}"
        another(project)
        uri = seeded(project.call("run"))
        assert packed(project, uri) == files_in(project.folder / "out")
    project.succeed("rm", *audit_cache(project.machine.cache))
    shutil.copytree(project.folder / "out", project.folder / "saved")
    project.remove("out")
    (project.folder / "saved").rename(project.folder / "out")  # in no pack now, and not as a run left it
    another(project)
    assert OCCUPIED in refuses_and_changes_nothing(project)


@pytest.fixture
def repository(project: Project) -> Project:
    """A project whose HEAD has the folder out, too."""
    project.write({"out/t": "tracked\n", "out/sub/t": "tracked\n", ".gitignore": "*.log\n"})
    git(project.folder, "init", "--quiet")
    git(project.folder, "add", "--all")
    author = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    git(project.folder, *author, "commit", "--quiet", "--message", "one")
    job(project, COPY)
    return project


def test_what_git_has_in_its_head_is_replaced(repository: Project) -> None:
    uri = seeded(repository.call("run"))
    assert packed(repository, uri) == files_in(repository.folder / "out") == {"r": "one\n"}
    assert aside(repository) == []


def edit_and_stage(project: Project) -> None:
    project.write({"out/t": "mine\n"})
    git(project.folder, "add", "out")


def edit_unseen(project: Project) -> None:
    """Edit a file that the index says not to look at."""
    git(project.folder, "update-index", "--assume-unchanged", "out/t")
    project.write({"out/t": "mine\n"})


GIT_EDITS: dict[str, Write] = {
    "an untracked file": lambda project: project.write({"out/mine": "mine\n"}),
    "an ignored file": lambda project: project.write({"out/mine.log": "mine\n"}),
    "an edited file": lambda project: project.write({"out/t": "mine\n"}),
    "a file that is only staged": edit_and_stage,
    "another executable bit": lambda project: (project.folder / "out" / "t").chmod(0o755),
    "an edit that the index hides": edit_unseen,
}


@pytest.mark.parametrize("case", GIT_EDITS)
def test_what_git_does_not_have_in_its_head_is_refused(repository: Project, case: str) -> None:
    GIT_EDITS[case](repository)
    assert OCCUPIED in refuses_and_changes_nothing(repository)


# ---- 04: links and mount points


def test_an_output_that_is_a_link_stays_one_and_its_contents_are_replaced(project: Project) -> None:
    scratch = project.machine.home / "scratch" / "of mine"
    scratch.mkdir(parents=True)
    (project.folder / "out").symlink_to(scratch)
    job(project, COPY)
    for content in ("one\n", "one\nmore\n"):
        uri = seeded(project.call("run"))
        assert (project.folder / "out").readlink() == scratch
        assert files_in(scratch) == packed(project, uri) == {"r": content}
        assert project.succeed("run") == f"Hit: {uri}"
        another(project)
    (scratch / "mine").write_text("mine\n")
    assert OCCUPIED in project.refuses("run")
    assert files_in(scratch) == {"r": "one\nmore\n", "mine": "mine\n"}
    assert packed(project, seeded(project.call("run", "--force"))) == {"r": "one\nmore\nmore\n"}
    assert sorted(path.name for path in scratch.parent.iterdir()) == ["of mine"]


def test_an_output_that_is_a_link_to_a_file_stays_one(project: Project) -> None:
    target = project.machine.home / "file"
    (project.folder / "log").symlink_to(target)  # dangling
    project.declare(outputs=[{"path": "log"}])
    job(project, "cat in/a.txt >> log")
    for content in ("one\n", "one\nmore\n"):
        assert packed(project, seeded(project.call("run"))) == {"log": content}
        assert (project.folder / "log").readlink() == target
        assert target.read_text() == content
        another(project)


def test_a_command_may_replace_a_link_by_a_folder(project: Project) -> None:
    scratch = project.machine.home / "scratch"
    scratch.mkdir()
    (project.folder / "out").symlink_to(scratch)
    job(project, "rm -rf out; mkdir out; cat in/a.txt > out/r")
    assert packed(project, seeded(project.call("run"))) == {"r": "one\n"}


def test_an_output_below_a_link_is_an_ordinary_one(project: Project) -> None:
    scratch = project.machine.home / "scratch"
    scratch.mkdir()
    (scratch / "mine").write_text("mine\n")
    (project.folder / "data").symlink_to(scratch)
    project.declare(outputs=[{"path": "data/out"}])
    job(project, "mkdir data/out; cat in/a.txt > data/out/r")
    for content in ("one\n", "one\nmore\n"):
        assert packed(project, seeded(project.call("run"))) == {"r": content}
        assert files_in(scratch) == {"mine": "mine\n", "out/r": content}
        another(project)


# ---- outputs that a run must not clear, and 31: outputs below an input

HOLDING = {
    "the folder of the contract file": {"path": ".", "name": "all"},
    "a folder above": {"path": "..", "name": "all"},
    "the root": {"path": "/", "name": "all"},
    "the contract file": {"path": "contract.json"},
    "an input": {"path": "in"},
    "the code": {"path": "src"},
    "the environment": {"path": "lock.txt"},
    "a folder in an input": {"path": "in/out"},
    "a link to an input": {"path": "link"},
    "a folder behind a link": {"path": "link/out"},
    "the cache": {"path": "CACHE"},
    "a folder above the cache": {"path": "CACHE/.."},
    "the packs of the cache": {"path": "CACHE/v1/packs"},
    "a folder in the cache": {"path": "CACHE/mine"},
}


@pytest.mark.parametrize("case", HOLDING)
def test_an_output_that_holds_what_is_not_its_own_is_refused_before_anything_runs(project: Project, case: str) -> None:
    (project.folder / "link").symlink_to("in")
    job(project, "echo run >> ran")
    project.write({"out/r": "one\n"})
    project.succeed("seed")
    place = {name: text.replace("CACHE", str(project.machine.cache)) for name, text in HOLDING[case].items()}
    project.declare(outputs=[place])
    packs = audit_cache(project.machine.cache)
    for arguments in ((), ("--force",), ("--keep-outputs",), ("--force", "--keep-outputs")):
        refuses_and_changes_nothing(project, *arguments)
    assert (project.runs(), audit_cache(project.machine.cache)) == (0, packs)


def test_the_current_folder_is_no_output(project: Project) -> None:
    job(project, "echo run >> ran")
    (project.folder / "out" / "sub").mkdir(parents=True)
    for arguments in ((), ("--force",)):
        done = project.machine.run(
            "run", *arguments, "--contract", "../../contract.json", folder=project.folder / "out" / "sub"
        )
        assert done.status == 2
        assert "the output holds the current folder" in done.stderr
    assert project.runs() == 0


@pytest.mark.parametrize("paths", ["out out/b", "out/b out", "out ./out", "out link", "out link/b"])
def test_an_output_in_another_is_refused_before_anything_runs(project: Project, paths: str) -> None:
    job(project, "echo run >> ran")
    project.write({"out/r": "mine\n"})
    (project.folder / "link").symlink_to("out")
    project.declare(outputs=[{"path": path, "name": f"n{number}"} for number, path in enumerate(paths.split())])
    for arguments in ((), ("--force",)):
        refuses_and_changes_nothing(project, *arguments)
    assert project.runs() == 0


def test_an_output_below_an_input_is_refused_by_run_and_seed_before_anything_runs(project: Project) -> None:
    project.declare(inputs=[{"name": "all", "path": "."}])
    for verb in ("run", "seed", "run"):
        assert "the output lies in what is hashed" in project.refuses(verb)
    project.write({"out/r": "one\n"})
    for verb in ("run", "seed"):
        assert "the output lies in what is hashed" in project.refuses(verb)
    assert (project.runs(), audit_cache(project.machine.cache)) == (0, [])
    project.declare(inputs=[{"name": "all", "path": ".", "exclude": ["/out/", "/ran", "/contract.json"]}])
    project.remove("out")
    uri = seeded(project.call("run"))
    assert project.uri() == uri


# ---- --keep-outputs

CHECKPOINT = (
    "mkdir -p out; [ -e out/first ] || echo > out/first; echo step >> out/steps; "
    '[ "$OK" ] || { die; exit 9; }; echo > out/r'
)


def kept(project: Project) -> str:
    """Return the steps that the next run, which succeeds, finds done with --keep-outputs, and its own."""
    project.machine.environment["OK"] = "1"
    uri = seeded(project.call("run", "--keep-outputs"))
    steps = packed(project, uri)["steps"]
    assert weak_points(project, uri) == (["kept"] if steps != "step\n" else [])
    return steps


@pytest.mark.parametrize("ended", ["failed", "failed twice", "killed", "killed twice", "only ctxpack was killed"])
def test_checkpoints_of_a_failed_run_are_kept_when_asked(project: Project, ended: str) -> None:
    job(project, DIE + CHECKPOINT)
    if ended.startswith("failed"):
        assert project.call("run").status == 9
    else:
        killed_in_its_command(project, alone=ended.startswith("only"))
    if ended == "failed twice":
        assert project.call("run", "--keep-outputs").status == 9
    if ended == "killed twice":
        killed_in_its_command(project, "--keep-outputs")
    steps = "step\n" * (3 if ended.endswith("twice") else 2)
    assert kept(project) == steps
    assert project.succeed("run", "--keep-outputs").startswith("Hit: ")


def test_checkpoints_of_another_contract_are_not_kept(project: Project) -> None:
    job(project, DIE + CHECKPOINT)
    for ending in (lambda: project.call("run"), lambda: killed_in_its_command(project)):
        ending()
        another(project)
        assert kept(project) == "step\n"
        del project.machine.environment["OK"]
        another(project)


def test_what_a_run_made_whole_is_not_kept(project: Project) -> None:
    job(project, CHECKPOINT)
    project.machine.environment["OK"] = "1"
    uri = seeded(project.call("run"))
    project.succeed("rm", uri)
    assert kept(project) == "step\n"


def test_edited_checkpoints_are_neither_kept_nor_deleted(project: Project) -> None:
    job(project, CHECKPOINT)
    project.call("run")
    project.write({"out/steps": "mine\n"})
    for arguments in ((), ("--keep-outputs",)):
        assert OCCUPIED in refuses_and_changes_nothing(project, *arguments)
    project.machine.environment["OK"] = "1"
    assert packed(project, seeded(project.call("run", "--keep-outputs", "--force")))["steps"] == "step\n"


def test_without_being_asked_nothing_is_kept(project: Project) -> None:
    job(project, CHECKPOINT)
    project.call("run")
    project.machine.environment["OK"] = "1"
    uri = seeded(project.call("run"))
    assert (packed(project, uri)["steps"], weak_points(project, uri)) == ("step\n", [])


# ---- what a killed run leaves is no licence to delete what the user puts there later


def restore_by_hand(project: Project) -> None:
    project.remove("out")
    [old] = aside(project)
    old.rename(project.folder / "out")


def put_there(project: Project) -> None:
    project.remove("out")
    (project.folder / "mine").rename(project.folder / "out")


def pull_and_edit(project: Project) -> None:
    uri = audit_cache(project.machine.cache)[0]
    project.succeed("pull", uri, "-o", "out")
    project.write({"out/r": "the user's\n"})


LATER: dict[str, Write] = {
    "what was moved aside, put back by hand": restore_by_hand,
    "what was elsewhere before": put_there,
    "what was pulled there, and edited": pull_and_edit,
}


@pytest.mark.parametrize("case", LATER)
def test_what_the_user_puts_where_a_run_was_killed_is_not_deleted(project: Project, case: str) -> None:
    job(project, f"{DIE}mkdir -p out; echo half > out/r; die; {COPY}")
    seeded(project.call("run"))
    project.write({"mine/m": "mine\n"})
    project.write({"out/r": "the user's\n"})
    another(project)
    killed_in_its_command(project, "--force")
    LATER[case](project)
    said = project.call("run")  # also where what was moved aside is kept
    assert (said.status, OCCUPIED in said.stderr) == (2, True)
    assert OCCUPIED in refuses_and_changes_nothing(project)


@pytest.mark.parametrize("after", ["miss", "hit"])
def test_what_a_killed_run_replaced_by_force_is_said_and_never_deleted(project: Project, after: str) -> None:
    job(project, f"{DIE}mkdir -p out; echo half > out/r; die; {COPY}")
    if after == "hit":
        seeded(project.call("run"))
    project.write({"out/r": "the user's\n"})
    another(project)
    killed_in_its_command(project, "--force")
    assert [path.suffix for path in aside(project)] == [".old"]
    if after == "hit":
        project.write({"in/a.txt": "one\n"})
    done = project.call("run")
    [kept] = aside(project)
    assert (done.status, kept.suffix, (kept / "r").read_text()) == (0, ".kept", "the user's\n"), done.stderr
    assert str(kept) in done.stderr
    project.remove("out")
    project.call("run")
    places = [files_in(path) for path in (project.folder / "out", *aside(project)) if path.exists()]
    assert {"r": "the user's\n"} in places


def test_a_forced_run_that_fails_says_where_the_old_content_is(project: Project) -> None:
    project.write({"out/r": "the user's\n"})
    job(project, "mkdir out; echo half > out/r; exit 9")
    done = project.call("run", "--force")
    [old] = aside(project)
    assert f"what was at out is in {old}" in done.stderr
    assert files_in(old) == {"r": "the user's\n"}
    job(project, COPY)
    seeded(project.call("run"))
    assert aside(project) == [old]
    project.remove("out")  # the user's wish: it is not for the tool to bring the old content back there
    another(project)
    assert packed(project, seeded(project.call("run"))) == {"r": "one\nmore\n"}
    assert files_in(old) == {"r": "the user's\n"}


# ---- 29: what the command leaves running

BACKGROUND: dict[str, tuple[str, str]] = {
    "a writer that opens, appends and closes": (
        "mkdir -p out; (for i in $(seq 1500); do [ -e stop ] && exit; echo $i >> out/log; sleep .01; done) & sleep .2",
        "refused",
    ),
    "a slow writer": (
        "mkdir -p out; echo a > out/a; (for i in $(seq 20); do [ -e stop ] && exit; sleep 1; echo >> out/log; done) &",
        "refused",
    ),
    "a writer that renames": (
        "mkdir -p out; echo a > out/a; "
        "(for i in $(seq 1500); do [ -e stop ] && exit; echo $i > t; mv t out/a; sleep .01; done) &",
        "refused",
    ),
    "a writer in a session of its own": (
        "mkdir -p out; echo a > out/a; "
        "setsid sh -c 'for i in $(seq 1500); do [ -e stop ] && exit; echo $i >> out/a; sleep .01; done' &",
        "refused",
    ),
    "a file that is open": ("mkdir -p out; (while [ ! -e stop ]; do sleep .1; done) > out/b &", "refused"),
    "a current folder": (
        "mkdir -p out; echo > out/a; (cd out; while [ ! -e ../stop ]; do sleep .1; done) &",
        "refused",
    ),
    "a writer that ends soon": ("mkdir -p out; echo a > out/a; (sleep 1; echo b > out/b) &", "whole"),
    "a server": ("mkdir -p out; echo a > out/a; (while [ ! -e stop ]; do sleep .1; done) &", "weak"),
}


def test_what_the_command_left_running_writes_to_no_pack(tmp_path: Path, forks: Forks) -> None:
    """All at once, since each takes the five seconds that descendants have to end."""
    projects = {case: Project(ForkedMachine(forks, tmp_path / str(number))) for number, case in enumerate(BACKGROUND)}
    try:
        started = {}
        for case, project in projects.items():
            project.declare(command=["sh", "-c", f"exec >/dev/null 2>&1; {BACKGROUND[case][0]}"])
            started[case] = project.machine.start("run")
        for case, process in started.items():
            check_background(case, projects[case], process.finish())
    finally:
        for project in projects.values():
            project.write({"stop": ""})


def check_background(case: str, project: Project, done: Finished) -> None:
    end = BACKGROUND[case][1]
    if end == "refused":
        assert (done.status, done.stdout) == (2, ""), case
        assert "so nothing was seeded" in done.stderr, case
        assert audit_cache(project.machine.cache) == [], case
    else:
        uri = seeded(done)
        assert packed(project, uri) == {"whole": {"a": "a\n", "b": "b\n"}, "weak": {"a": "a\n"}}[end], case
    if end != "whole":
        assert re.search(r"weak point: process \d+ \(\w+\), which the command left behind, still runs", done.stderr), (
            case
        )
    if end == "weak":
        assert set(weak_points(project, uri)) == {"survivor"}


# ---- 06: links and patterns

LINKS = "mkdir -p out/ckpt-3; echo w > out/ckpt-3/w; ln -s ckpt-3 out/latest"


def test_links_among_outputs_are_refused_and_the_hint_works(project: Project) -> None:
    job(project, LINKS)
    assert '"symlinks": "follow"' in project.refuses("run")
    project.declare(outputs=[{"path": "out", "symlinks": "follow"}])
    uri = seeded(project.call("run"))
    assert packed(project, uri) == {"ckpt-3/w": "w\n", "latest/w": "w\n"}
    assert project.succeed("run") == f"Hit: {uri}"
    assert (project.folder / "out" / "latest").is_symlink()  # it is the same, so nothing was placed
    project.remove("out")
    assert project.succeed("run") == f"Hit: {uri}"
    assert files_in(project.folder / "out") == {"ckpt-3/w": "w\n", "latest/w": "w\n"}
    another(project)
    seeded(project.call("run"))


def test_what_links_among_outputs_lead_to_is_never_deleted(project: Project) -> None:
    project.write({"elsewhere/k": "kept\n"})
    project.declare(outputs=[{"path": "out", "symlinks": "follow"}])
    job(project, "mkdir out; ln -s ../elsewhere out/e; ln -s ../in/a.txt out/a")
    for arguments in ((), (), ("--force",)):
        assert packed(project, seeded(project.call("run", *arguments)))["e/k"] == "kept\n"
        another(project)
    assert (project.folder / "elsewhere" / "k").read_text() == "kept\n"
    assert (project.folder / "in" / "a.txt").exists()


@pytest.mark.parametrize("link", ["nowhere", ".", "..", "e"])
def test_links_that_lead_nowhere_or_back_are_refused(project: Project, link: str) -> None:
    project.declare(outputs=[{"path": "out", "symlinks": "follow"}])
    job(project, f"mkdir out; echo r > out/r; ln -s {link} out/e")
    project.refuses("run")
    assert audit_cache(project.machine.cache) == []


def test_patterns_leave_outputs_out(project: Project) -> None:
    project.declare(outputs=[{"path": "out", "exclude": ["*.log", "/tmp/", "!keep.log"]}])
    job(project, "mkdir -p out/tmp; for f in tmp/x a.log keep.log r; do echo $f > out/$f; done; ln -s r out/x.log")
    uri = seeded(project.call("run"))
    assert packed(project, uri) == {"keep.log": "keep.log\n", "r": "r\n"}
    assert project.succeed("run") == f"Hit: {uri}"
    assert (project.folder / "out" / "a.log").exists()  # what is left out is no reason to place anew
    (project.folder / "out" / "a.log").write_text("mine\n")
    another(project)
    assert OCCUPIED in refuses_and_changes_nothing(project)


# ---- S5: two runs and one output

SLOW = (
    "echo begin >> log; mkdir -p out; echo 1 >> out/r; while [ ! -e go ]; do sleep .02; done; "
    "echo 2 >> out/r; echo end >> log"
)


# What the contract of the second run declares, where it differs.
SECOND: dict[str, dict[str, Any]] = {
    "ctxpack alone was killed": {},
    "two contracts": {"tool": "another"},
    "an output in the other's": {"outputs": [{"path": "out/r"}], "command": ["sh", "-c", SLOW]},
    "one of several outputs": {
        "outputs": [{"path": "a"}, {"path": "out"}],
        "command": ["sh", "-c", f"{SLOW}; echo > a"],
    },
    "by a link": {"tool": "another", "outputs": [{"path": "link/out"}]},
    "two caches": {},
    "two caches, and other variables": {},
}


@pytest.mark.parametrize("case", SECOND)
def test_two_runs_never_share_an_output(project: Project, case: str) -> None:
    job(project, SLOW)
    (project.folder / "link").symlink_to(".")
    log, said = project.folder / "log", project.folder / "said"
    first = project.machine.start("run")
    until(log.exists)
    if case == "ctxpack alone was killed":
        os.kill(first.pid, signal.SIGKILL)
    if "variables" in case:
        elsewhere = str(project.machine.home)
        project.machine.environment |= dict.fromkeys(("TMPDIR", "XDG_RUNTIME_DIR", "HOME"), elsewhere)
    cache, arguments = project.machine.cache, list[str]()
    if "two caches" in case:
        cache = project.machine.home / "another cache"
        arguments = ["--cache", str(cache), "--force"]  # it does not know what the first run left
    project.declare(**SECOND[case])
    second = project.machine.start("run", *arguments, prefix=("sh", "-c", 'exec "$@" 2> said', "sh"))
    until(lambda: "waiting" in said.read_text() or log.read_text() != "begin\n", said.exists)
    project.write({"go": ""})
    assert first.finish().status == (-signal.SIGKILL if case == "ctxpack alone was killed" else 0)
    done = second.finish()
    assert done.status == 0, said.read_text()
    assert "another ctxpack, or a command whose ctxpack was killed, uses " in said.read_text()
    assert log.read_text().split() == ["begin", "end", "begin", "end"]
    assert (project.folder / "out" / "r").read_text() == "1\n2\n"
    assert audit_cache(cache)


def test_what_another_cache_made_is_the_users(project: Project) -> None:
    job(project, COPY)
    seeded(project.call("run", "--cache", project.machine.home / "another cache"))
    another(project)
    assert OCCUPIED in refuses_and_changes_nothing(project)


def until(*moments: Callable[[], bool]) -> None:
    """Wait until all of moments were, from the last one to the first."""
    deadline = time.monotonic() + LIMIT
    for moment in reversed(moments):
        while not moment():
            assert time.monotonic() < deadline
            time.sleep(0.01)


# ---- S14: generations

LARGE = 96 << 20  # bytes


@contextlib.contextmanager
def generations(project: Project, *, writes: Callable[[Path, str], object]) -> Iterator[None]:
    """Make a and z anew, over and over, once they are there."""
    stop = threading.Event()
    out = project.folder / "out"

    def write() -> None:
        for number in itertools.count(1):
            if stop.is_set():
                return
            if (out / "z").exists():
                for name in ("a", "z"):
                    with contextlib.suppress(FileNotFoundError):
                        writes(out / name, f"{number}\n")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def rename_there(path: Path, text: str) -> None:
    fresh = path.parent.parent / f"fresh {path.name}"
    fresh.write_text(text)
    fresh.replace(path)


def write_there(path: Path, text: str) -> None:
    path.write_text(text)


@pytest.mark.parametrize("verb", ["run", "seed"])
@pytest.mark.parametrize("writes", [rename_there, write_there])
def test_outputs_that_change_while_they_are_copied_are_refused(
    project: Project, verb: str, writes: Callable[[Path, str], object]
) -> None:
    script = f"mkdir -p out; echo 0 > out/a; head -c {LARGE} /dev/urandom > out/m; echo 0 > out/z"
    job(project, script)
    if verb == "seed":
        os.makedirs(project.folder / "out")
        project.write({"out/a": "0\n", "out/m": os.urandom(LARGE), "out/z": "0\n"})
    with generations(project, writes=writes):
        done = project.call(verb)
    assert (done.status, done.stdout) == (2, "")
    assert "changed while it was copied, so nothing was seeded" in done.stderr
    assert (audit_cache(project.machine.cache), unfinished(project.machine.cache)) == ([], [])


# ---- S15: inputs that change meanwhile

MEANWHILE: dict[str, tuple[str, str]] = {
    "changed": ("echo x > in/a.txt", "refused"),
    "changed and back": ("cp -p in/a.txt s; echo x > in/a.txt; cat s > in/a.txt", "refused"),
    "replaced by an equal file": ("cp in/a.txt s; mv s in/a.txt", "refused"),
    "replaced by an equal file of the same mtime": ("cp -p in/a.txt s; mv s in/a.txt", "refused"),
    "touched": ("touch in/a.txt", "refused"),
    "touched to an earlier time": ("touch -d 2001-01-01 in/a.txt", "refused"),
    "another file": ("echo > in/b.txt", "refused"),
    "removed": ("rm in/a.txt", "refused"),
    "code touched": ("touch src/make.sh", "refused"),
    "environment touched": ("touch lock.txt", "refused"),
    "a hard link": ("ln in/a.txt backup", "weak"),
    "a hard link that came and went": ("ln in/a.txt backup; rm backup", "weak"),
    "a hard link of the code": ("ln src/make.sh backup", "weak"),
    "read": ("cat in/a.txt > copy", "same"),
    "the contract file touched": ("touch contract.json", "same"),
}


@pytest.mark.parametrize("case", MEANWHILE)
def test_an_input_that_changes_while_the_command_runs(project: Project, case: str) -> None:
    script, end = MEANWHILE[case]
    job(project, f"sleep .05; {COPY}; {script}")
    done = project.call("run")
    if end == "refused":
        assert (done.status, done.stdout) == (2, "")
        assert "changed while the command ran, so nothing was seeded" in done.stderr
        assert audit_cache(project.machine.cache) == []
        return
    uri = seeded(done)
    assert weak_points(project, uri) == (["touched"] if end == "weak" else [])
    assert ("weak point: " in done.stderr) == (end == "weak")
    again = project.call("run")
    assert (again.stdout, again.stderr) == (f"Hit: {uri}\n", "")


# ---- 21: holes, and modes

SPARSE = 64 << 20  # bytes


def on_disk(path: Path) -> int:
    """Return how many bytes a file takes on disk."""
    return path.stat().st_blocks * 512


def test_holes_stay_holes(project: Project, tmp_path: Path, forks: Forks) -> None:
    middle = f"printf y | dd of=out/h bs=1 seek={SPARSE // 2} conv=notrunc"
    job(project, f"mkdir -p out; truncate -s {SPARSE} out/h; printf x >> out/h; {middle}")
    uri = seeded(project.call("run"))
    assert on_disk(project.folder / "out" / "h") < SPARSE // 2, "this file system has no holes: set TMPDIR"
    project.succeed("pull", uri, "-o", "copy")
    project.remove("out")
    project.succeed("run")
    location = f"oci:{tmp_path / 'registry'}"
    project.machine.succeed("push", uri, registry=location)
    other = ForkedMachine(forks, tmp_path / "other", location)
    other.succeed("pull", uri, "-o", "copy")
    name = uri.rpartition(":")[2]
    content = (project.folder / "copy" / "h").read_bytes()
    assert (len(content), content[-1:], content[SPARSE // 2 : SPARSE // 2 + 1]) == (SPARSE + 1, b"x", b"y")
    for path in (
        project.folder / "out" / "h",
        project.folder / "copy" / "h",
        project.machine.cache / "v1" / "packs" / name / "artifacts" / "h",
        other.work / "copy" / "h",
        other.cache / "v1" / "packs" / name / "artifacts" / "h",
    ):
        assert path.read_bytes() == content
        assert on_disk(path) < 1 << 20, path


def test_private_outputs_are_said(project: Project) -> None:
    job(project, "umask 077; mkdir -p out; echo k > out/key; echo k > out/other")
    done = project.call("run")
    seeded(done)
    assert "private outputs (key and 1 more): only their owner may read them here" in done.stderr
    project.succeed("rm", *audit_cache(project.machine.cache))
    assert "private outputs (key and 1 more)" in project.call("seed").stderr
    job(project, COPY)
    assert "private" not in project.call("run").stderr


# ---- kill -9 at every step of a miss

RESULTS = ("out", "log", "deep/er/res")
SEVERAL = (
    'mkdir -p out/sub; cat in/a.txt | tee out/r out/sub/s > log; if [ "$FAIL" ]; then rm -r out log; '
    "echo part > deep/er/res; exit 9; fi; echo end > deep/er/res"
)


def made_from(text: str) -> dict[str, Any]:
    return {"out": {"r": text, "sub/s": text}, "log": text, "deep/er/res": "end\n"}


def content(path: Path) -> Any:
    """Return the content of an output: text, or files by path; None for none."""
    return files_in(path) if path.is_dir() else path.read_text() if path.exists() else None


def everywhere(project: Project, name: str) -> list[Any]:
    """Return what is at the place of an output, and what was moved aside from there."""
    return [content(path) for path in (project.folder / name, *aside(project, name)) if path.suffix != ".gone"]


def litter(project: Project) -> list[str]:
    return [str(path) for name in RESULTS for path in aside(project, name)]


def copy_anew(path: Path) -> None:
    """Replace a file or folder by an equal one: only a cached pack tells now that it is no user's."""
    fresh = path.with_name("fresh")
    shutil.copytree(path, fresh) if path.is_dir() else shutil.copy(path, fresh)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    fresh.rename(path)


def free(project: Project) -> None:
    """Wait until no command of a killed run is left."""
    with PathLocks([str(project.folder / name) for name in RESULTS]):
        return


def run_of_three(project: Project, *arguments: str, step: int = 0, **environment: str) -> tuple[int, str, str]:
    done = run_forked(
        project.machine, "run", *arguments, folder=project.folder, step=step, environment=dict(environment)
    )
    return done.status, done.stdout.strip().rpartition(" ")[2], done.stderr


def check_made(project: Project, uri: str, text: str) -> None:
    """Check that the pack of uri, and the outputs, are those that are made of an input."""
    wanted = made_from(text)
    assert {name: content(project.folder / name) for name in RESULTS} == wanted
    in_pack = {f"out/{path}": text for path, text in wanted["out"].items()}
    assert packed(project, uri) == in_pack | {"log": text, "res": "end\n"}


@pytest.fixture
def three(project: Project) -> Project:
    project.declare(outputs=[{"path": path} for path in RESULTS])
    job(project, SEVERAL)
    return project


def test_after_a_kill_at_any_step_nothing_is_lost_and_the_next_run_is_whole(three: Project) -> None:
    """Of three outputs, a cached pack holds the first, a run left the second, and a failed one the third."""
    status, _, _ = run_of_three(three)
    for step in itertools.count(1):
        text = f"{step}\n"
        three.write({"in/a.txt": text})
        assert run_of_three(three, FAIL="1")[0] == 9
        copy_anew(three.folder / "out")
        before = {name: content(three.folder / name) for name in RESULTS}
        assert before["deep/er/res"] == "part\n"
        status, uri, said = run_of_three(three, step=step)
        if status == 0:
            break
        assert status == -signal.SIGKILL, said
        free(three)
        made = made_from(text)
        for name in RESULTS:
            assert before[name] in everywhere(three, name) or content(three.folder / name) == made[name], (step, name)
        status, uri, said = run_of_three(three)
        assert status == 0, (step, said)
        check_made(three, uri, text)
    assert step > 25, "the failpoints saw few steps"
    check_made(three, uri, text)
    assert (litter(three), unfinished(three.machine.cache)) == ([], [])
    audit_cache(three.machine.cache)


def test_after_a_kill_at_any_step_of_a_forced_run_the_users_content_is_there_and_said(three: Project) -> None:
    """Of three outputs, the user wrote the first two, and a run left the third."""
    run_of_three(three)
    for step in itertools.count(1):
        text = f"{step}\n"
        three.write({"in/a.txt": text})
        mine = {"out": {"mine": text}, "log": f"mine {text}"}
        shutil.rmtree(three.folder / "out")
        three.write({"out/mine": text, "log": f"mine {text}"})
        status, uri, said = run_of_three(three, "--force", step=step)
        if status == 0:
            break
        free(three)
        packs = audit_cache(three.machine.cache)
        made = made_from(text)
        for name, users in mine.items():
            assert users in everywhere(three, name) or content(three.folder / name) == made[name], (step, name)
        again, uri, said = run_of_three(three)
        said_at = {path for path in litter(three) if path in said}
        was_made = uri in packs  # then the old content was to be replaced
        for name, users in mine.items():
            there = content(three.folder / name) == users
            found = [path for path in aside(three, name) if content(path) == users]
            assert there or found or was_made, (step, name, said)
            assert there or was_made or {str(path) for path in found} <= said_at, (step, said)
        if again == 2:
            assert OCCUPIED in said
            again, uri, said = run_of_three(three, "--force")
        assert again == 0, (step, said)
        check_made(three, uri, text)
        for path in said_at:
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    assert step > 25, "the failpoints saw few steps"
    check_made(three, uri, text)
    three.write({"in/a.txt": "last\n"})
    said = run_of_three(three)[2]
    assert [path for path in litter(three) if path not in said] == []


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("point", ["at once", "after one", "after a part", "at the end"])
def test_after_a_kill_in_the_command_the_next_run_is_whole(three: Project, point: str, alone: bool) -> None:
    run_of_three(three)
    points = {name: f'[ "$DIE" != "{name}" ] || die' for name in ("at once", "after one", "after a part", "at the end")}
    job(
        three,
        f"{DIE}{points['at once']}; mkdir -p out/sub; cat in/a.txt | tee out/r out/sub/s > p; {points['after one']}; "
        f"echo part > log; {points['after a part']}; mv p log; echo end > deep/er/res; {points['at the end']}",
    )
    text = "two\n"
    three.write({"in/a.txt": text})
    status, _, _ = run_of_three(three, DIE=point, ALONE="1" if alone else "")
    assert status == -signal.SIGKILL
    free(three)
    status, uri, said = run_of_three(three)
    assert status == 0, said
    check_made(three, uri, text)
    assert (litter(three), unfinished(three.machine.cache)) == ([], [])
