"""Whatever happens becomes an exit status and one line, never a traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_process import write_contract

import ctxpack_pantry
from ctxpack_cli.exitcode import exit_code
from ctxpack_pantry import CtxPackError

if TYPE_CHECKING:
    from cli_process import Cli, Finished

STATUS = {
    "CtxPackError": 1,
    "LocalFailure": 1,
    "InvalidInput": 2,
    "NotFound": 3,
    "AccessDenied": 4,
    "IntegrityError": 5,
    "Unavailable": 6,
    "PolicyRefused": 7,
    "Conflict": 8,
}


def errors() -> list[type[CtxPackError]]:
    found = [getattr(ctxpack_pantry, name) for name in ctxpack_pantry.__all__]
    return [one for one in found if isinstance(one, type) and issubclass(one, CtxPackError)]


def test_every_class_of_error_has_its_status() -> None:
    assert {error.__name__: exit_code(error("x")) for error in errors()} == STATUS


def test_a_class_derived_from_one_has_its_status() -> None:
    class Special(ctxpack_pantry.Conflict):
        pass

    assert exit_code(Special("x")) == 8


def with_ls(cli: Cli, statement: str, *arguments: str, env: dict[str, str] | None = None) -> Finished:
    """Run `ctxpack ls` with its action replaced by a statement."""
    script = f"""
import sys, os, time
from ctxpack_cli.commands import ls
from ctxpack_pantry import *
def stand_in(arguments, terminal):
    {statement}
    return 0
ls.act = stand_in
from ctxpack_cli.main import main
main(["ls", *sys.argv[1:]])
"""
    return cli.python("-c", script, *arguments, env=env)


@pytest.mark.parametrize("name", [name for name in STATUS if name != "CtxPackError"])
def test_an_error_is_one_line_and_its_status(cli: Cli, name: str) -> None:
    done = with_ls(cli, f"raise {name}('it failed', where='here', fix='try again')")
    assert done == (STATUS[name], "", "ctxpack: error: here: it failed; try again\n")


BUG = "ctxpack: error: unexpected ZeroDivisionError: division by zero; this is a bug in ctxpack; CTXPACK_DEBUG=1 shows "


def test_a_bug_is_one_line_and_status_1(cli: Cli) -> None:
    assert with_ls(cli, "1 / 0") == (1, "", f"{BUG}where it happened\n")


def test_with_ctxpack_debug_a_bug_shows_its_traceback(cli: Cli) -> None:
    done = with_ls(cli, "1 / 0", env={"CTXPACK_DEBUG": "1"})
    assert done.status == 1
    assert done.err.startswith("Traceback (most recent call last):")
    assert done.err.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("open('missing')", "missing: No such file or directory"),
        ("raise OSError(28, os.strerror(28))", "No space left on device"),
        ("raise OSError('odd')", "OSError"),
        ("raise MemoryError", "memory ran out; give this process more memory"),
        ("raise MemoryError('no room')", "memory ran out: no room; give this process more memory"),
        ("raise OSError(12, os.strerror(12))", "memory ran out: [Errno 12] Cannot allocate memory; give "),
        ('raise RuntimeError("can\'t start new thread")', "memory ran out: can't start new thread; give this process"),
        (
            "raise SystemError('error return without exception set')",
            "memory ran out: error return without exception set",
        ),
        ("raise ImportError('x.so: failed to map segment from shared object')", "memory ran out: x.so: failed to map"),
        ("raise ImportError('x')", "unexpected ImportError: x; this is a bug in ctxpack"),
        ("raise RuntimeError('x')", "unexpected RuntimeError: x; this is a bug in ctxpack"),
        ("raise BrokenPipeError(32, os.strerror(32))", "Broken pipe"),
        ("raise ValueError('\\x1b[2K')", "unexpected ValueError: \\u001b[2K; this is a bug in ctxpack"),
    ],
)
def test_a_failure_of_the_machine_is_shown_in_the_words_of_the_system(cli: Cli, statement: str, said: str) -> None:
    done = with_ls(cli, statement)
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
    assert done.err.startswith(f"ctxpack: error: {said}")


def test_hanging_threads_do_not_delay_the_exit(cli: Cli) -> None:
    """Threads of an interrupted transfer may wait for a slow registry."""
    done = with_ls(
        cli, "import threading; threading.Thread(target=time.sleep, args=(60,)).start(); raise Conflict('x')"
    )
    assert done == (8, "", "ctxpack: error: x\n")


def test_version_and_help(cli: Cli) -> None:
    assert cli("--version") == (0, f"ctxpack {version('ctxpack-cli')}\n", "")
    assert cli("--help").status == 0
    usage = "usage: ctxpack run [options] [--contract FILE] [-- COMMAND [ARG ...]]\n"
    assert cli("run", "--help").out.startswith(usage)
    assert cli().status == 2


def test_bad_usage_is_status_2(cli: Cli) -> None:
    done = cli("ls", "--nonsense")
    assert (done.status, done.out) == (2, "")
    assert done.err.endswith("ctxpack: error: ctxpack ls has no option --nonsense\n")


def shell(cli: Cli, script: str) -> Finished:
    """Run a bash script in which ctxpack is the command line."""
    program = f'ctxpack() {{ "{sys.executable}" -m ctxpack_cli "$@"; }}\n'
    done = subprocess.run(
        ["bash", "-c", program + script],
        cwd=cli.folder,
        env=cli.environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return type(cli("ls"))(done.returncode, done.stdout.decode(), done.stderr.decode())


def test_a_closed_pipe_on_stdout_ends_the_command_silently(cli: Cli, project: Path) -> None:
    done = shell(cli, 'ctxpack id --canonical | true; echo "${PIPESTATUS[0]}"')
    assert done.err == ""
    assert done.out == "0\n"
    leaving = "r, w = os.pipe(); os.dup2(w, 1); os.close(w); os.close(r)"
    assert with_ls(cli, f"{leaving}; terminal.say('x'); terminal.say('x' * 100000)") == (0, "", "")
    assert with_ls(cli, f"{leaving}; terminal.say('x'); raise Conflict('x')") == (8, "", "ctxpack: error: x\n")
    assert with_ls(cli, f"{leaving}; print('x')") == (0, "", "")
    assert with_ls(cli, f"{leaving}; terminal.say('x'); open('made', 'x').write('made')") == (0, "", "")
    assert (project / "made").read_text() == "made"


def test_a_pipe_that_breaks_elsewhere_is_an_error(cli: Cli) -> None:
    done = with_ls(cli, "r, w = os.pipe(); os.close(r); terminal.say('x'); os.write(w, b'x')")
    assert done == (1, "x\n", "ctxpack: error: Broken pipe\n")


def test_a_reader_of_stderr_that_leaves_is_no_failure(cli: Cli) -> None:
    leaving = "r, w = os.pipe(); os.dup2(w, 2); os.close(w); os.close(r)"
    assert with_ls(cli, f"{leaving}; terminal.hint('x'); terminal.say('x')") == (0, "x\n", "")
    assert with_ls(cli, f"{leaving}; terminal.hint('x'); raise Conflict('x')") == (8, "", "")


@pytest.mark.parametrize("line", ["--help", "--version", "ls --help", "schema contract", "id --canonical", "ls -q"])
def test_nobody_needs_to_read_the_output(cli: Cli, project: Path, line: str) -> None:
    assert shell(cli, f"trap '' PIPE; ctxpack {line} | exit 0; exit $PIPESTATUS") == (0, "", "")


def test_memory_that_runs_out_while_modules_load_is_one_line(cli: Cli) -> None:
    script = (
        "import sys\n"
        "class Full:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'ctxpack_cli.session': raise MemoryError\n"
        "sys.meta_path.insert(0, Full())\n"
        "from ctxpack_cli.main import main; main(['ls'])"
    )
    assert cli.python("-c", script) == (1, "", "ctxpack: error: memory ran out\n")
    done = cli.python("-c", script, env={"CTXPACK_DEBUG": "1"})
    assert (done.status, done.err.splitlines()[-1]) == (1, "MemoryError")


@pytest.mark.parametrize(
    "environment",
    [{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"}, {"PYTHONUTF8": "0", "LANG": "C"}],
    ids=lambda environment: " ".join(environment.values()),
)
def test_file_names_are_utf8_whatever_the_locale_is(cli: Cli, environment: dict[str, str]) -> None:
    environment |= {"PYTHONCOERCECLOCALE": "0"}
    there = cli("init", "größe.json", "--input", "読む", env=environment)
    assert (there.status, there.out) == (0, "größe.json\n"), there.err
    assert cli("init", "größe.json", env=environment).err == cli("init", "größe.json").err
    assert '"path": "読む"' in (cli.folder / "größe.json").read_text(encoding="utf-8")
    script = "import os; from ctxpack_cli.main import main; os.write(2, b'started '); main(['init', '\\xe9'])"
    assert cli.python("-c", script, env=environment).err.startswith("started started ctxpack: ")
    assert cli.python("-X", "utf8", "-c", script, env=environment).err.startswith("started ctxpack: ")


def test_a_full_disk_for_stdout_is_an_error(cli: Cli, project: Path) -> None:
    done = shell(cli, "ctxpack id >/dev/full")
    assert done == (1, "", "ctxpack: error: No space left on device\n")


@pytest.mark.parametrize(
    ("closing", "status"),
    [("id 2>&-", 0), ("id >&-", 0), ("id <&-", 0), ("id missing.json 2>&-", 2), ("seed <&- >&- 2>&-", 0), ("2>&-", 2)],
)
def test_closed_streams_do_no_harm(cli: Cli, project: Path, closing: str, status: int) -> None:
    assert shell(cli, f"ctxpack {closing}").status == status


def test_what_is_written_to_a_closed_stream_is_in_no_file(cli: Cli, project: Path) -> None:
    """The next file to be opened would get the number of the stream."""
    shutil.rmtree(project / "processed_data")
    write_contract(project, command=["sh", "-c", "echo into stdout; sh ingest.sh"])
    assert shell(cli, "ctxpack run -q >&- 2>&-").status == 0
    held = [path.read_bytes() for path in cli.folder.parent.rglob("*") if path.is_file()]
    assert not any(b"into stdout" in data for data in held if b"echo" not in data)


def test_a_path_that_is_not_valid_text_is_printed_as_its_bytes(cli: Cli, project: Path) -> None:
    cli("seed")
    uri = cli("id").out.strip()
    command = [os.fsencode(word) for word in (sys.executable, "-m", "ctxpack_cli", "pull", uri, "-o", b"there\xff")]
    environment = cli.environment | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, cwd=cli.folder, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"there\xff\n", b"")
    assert os.path.isdir(os.fsencode(cli.folder) + b"/there\xff")
