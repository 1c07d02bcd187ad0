"""Results go to stdout; hints, errors and progress go to stderr, in a form that depends on what stderr is."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_cli.terminal import Terminal, columns, human_size, json_text
from ctxpack_identity import ContractInvalid
from ctxpack_identity.faults import Fault
from ctxpack_pantry import IntegrityError

ERROR = IntegrityError("digest differs", where="blob 9f2c", expected="4096 bytes", got="4021", fix="pull again")


class Clock:
    """A clock that only a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Screen:
    """A terminal that writes into memory, and its clock."""

    def __init__(self, *, live: bool = False, quiet: bool = False, as_json: bool = False, color: bool = False) -> None:
        self.errors = io.StringIO()
        self.clock = Clock()
        self.terminal = Terminal(self.errors, live=live, quiet=quiet, as_json=as_json, color=color, clock=self.clock)

    def advance(self, seconds: float, count: int, total: int | None = None, stage: str = "pull") -> None:
        self.clock.now += seconds
        self.terminal.progress(stage, count, total)

    @property
    def shown(self) -> str:
        return self.errors.getvalue()


def test_a_hint_is_one_line() -> None:
    screen = Screen()
    screen.terminal.hint("share it")
    assert screen.shown == "ctxpack: share it\n"


def test_quiet_shows_errors_only() -> None:
    screen = Screen(live=True, quiet=True)
    screen.terminal.hint("share it")
    screen.advance(0, 1)
    screen.advance(60, 1)
    assert screen.shown == ""
    screen.terminal.fail(ERROR)
    assert screen.shown == "ctxpack: error: blob 9f2c: digest differs: expected 4096 bytes, got 4021; pull again\n"


def test_an_error_is_red_where_colors_are_wanted() -> None:
    screen = Screen(color=True)
    screen.terminal.fail(ERROR)
    assert screen.shown.startswith("ctxpack: \033[1;31merror:\033[0m blob 9f2c: digest differs")


def test_with_json_an_error_is_one_line() -> None:
    screen = Screen(as_json=True, color=True)
    screen.terminal.fail(ERROR)
    assert screen.shown.count("\n") == 1
    assert json.loads(screen.shown) == {
        "schema": "ctxpack/error/v1",
        "exit": 5,
        "message": str(ERROR),
        "code": "E_INTEGRITY",
        "what": "digest differs",
        "where": "blob 9f2c",
        "expected": "4096 bytes",
        "got": "4021",
        "fix": "pull again",
    }


FAULTS = [
    Fault("E_TYPE", "/salt", "a text", "1", "write it in quotes"),
    Fault("E_EMPTY", "", "something", "nothing", ""),
]


def test_several_faults_have_a_line_each() -> None:
    screen = Screen()
    screen.terminal.fail(ContractInvalid("c.json", FAULTS))
    assert screen.shown == (
        "ctxpack: error: c.json: 2 faults\n"
        "  /salt: expected a text, got 1; write it in quotes\n"
        "  (whole document): expected something, got nothing\n"
    )


def test_of_many_faults_the_first_have_a_line_each_and_the_others_are_counted() -> None:
    screen = Screen()
    screen.terminal.fail(ContractInvalid("c.json", FAULTS, more=3))
    assert screen.shown == (
        "ctxpack: error: c.json: 5 faults\n"
        "  /salt: expected a text, got 1; write it in quotes\n"
        "  (whole document): expected something, got nothing\n"
        "  and 3 more\n"
    )


def test_one_fault_is_one_line() -> None:
    screen = Screen()
    screen.terminal.fail(ContractInvalid("c.json", FAULTS[:1]))
    assert screen.shown == "ctxpack: error: c.json: /salt: expected a text, got 1; write it in quotes\n"


def test_with_json_several_faults_are_one_line() -> None:
    screen = Screen(as_json=True)
    error = ContractInvalid("c.json", FAULTS)
    screen.terminal.fail(error)
    assert screen.shown.count("\n") == 1
    document = json.loads(screen.shown)
    assert (document["code"], document["exit"], document["message"]) == ("E_TYPE", 2, str(error))
    assert document["faults"] == [fault._asdict() for fault in FAULTS]


class Shown:
    """A result."""

    def as_json(self) -> dict[str, str]:
        return {"schema": "ctxpack/push/v1", "name": "ä"}


def test_a_result_is_a_line_or_with_json_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().terminal.show(Shown(), "Pushed: x")
    assert capsys.readouterr().out == "Pushed: x\n"
    Screen(as_json=True).terminal.show(Shown(), "Pushed: x")
    assert capsys.readouterr().out == '{\n  "name": "ä",\n  "schema": "ctxpack/push/v1"\n}\n'


def test_with_quiet_the_bare_result_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(quiet=True).terminal.show(Shown(), "Pushed: x", bare="x")
    assert capsys.readouterr().out == "x\n"
    Screen(quiet=True).terminal.show(Shown(), "Pushed: x")
    Screen().terminal.show(Shown(), "Pushed: x", bare="x")
    assert capsys.readouterr().out == "Pushed: x\nPushed: x\n"
    Screen(quiet=True, as_json=True).terminal.show(Shown(), "Pushed: x", bare="x")
    assert json.loads(capsys.readouterr().out) == Shown().as_json()
    screen = Screen()
    screen.errors.close()
    screen.terminal.hint("nobody reads this")
    screen.terminal.show(Shown(), "Pushed: x", bare="x")
    assert capsys.readouterr().out == "Pushed: x\n"


CONTROLS = "\0\x1b\n\r\x7f\x80\x9b\x9f\u061c\u200e\u200f\u2028\u2029\u202a\u202e\u2066\u2069\ufeff\U000e0001"


@given(st.recursive(st.text() | st.text(CONTROLS), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_no_character_of_a_document_controls_the_terminal(value: object) -> None:
    for indent in (None, 2):
        text = json_text(value, indent=indent)
        assert all(c.isprintable() or c == "\n" for c in text)
        assert indent or "\n" not in text
        assert json.loads(text) == value


def test_what_controls_a_terminal_is_escaped_in_documents() -> None:
    text = json_text({CONTROLS: CONTROLS + "\udc80\udfff größe 読む"})
    assert text.isprintable()
    assert "größe 読む" in text
    assert text.count("\\u009b") == 2
    assert "\\udc80\\udfff" in text
    assert "\\udb40\\udc01" in text


def test_a_path_that_is_not_valid_text_is_printed_as_its_bytes(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    Screen().terminal.say(os.fsdecode(b"a\xff\xc3\xa4"))
    sys.stdout.flush()
    assert capfdbinary.readouterr().out == b"a\xff\xc3\xa4\n"


def test_short_work_shows_no_progress() -> None:
    screen = Screen(live=True)
    for _ in range(10):
        screen.advance(0.09, 1)
    assert screen.shown == ""


MIB = 1 << 20


def test_on_a_terminal_one_line_is_redrawn() -> None:
    screen = Screen(live=True)
    screen.advance(0, 0, 100 * MIB)
    for _ in range(4):
        screen.advance(0.5, 10 * MIB, 100 * MIB)
    assert screen.shown.split("\r\033[K") == [
        "",
        "pulling 20.0 MiB of 100 MiB, 20.0 MiB/s, 0:05 left",
        "pulling 30.0 MiB of 100 MiB, 20.0 MiB/s, 0:04 left",
        "pulling 40.0 MiB of 100 MiB, 20.0 MiB/s, 0:04 left",
    ]
    screen.terminal.close()
    assert screen.shown.endswith("\r\033[K")


def test_items_are_counted_and_named_once() -> None:
    screen = Screen(live=True)
    screen.terminal.progress("map", 0, 9)
    screen.clock.now += 2
    screen.terminal.progress("map", 1, 9)
    assert screen.shown == "\r\033[Kmapping 1 of 9 items, 0.5 items/s, 0:17 left"


def test_progress_is_drawn_at_most_ten_times_a_second() -> None:
    screen = Screen(live=True)
    for _ in range(1000):
        screen.advance(0.01, 1)
    assert 80 <= screen.shown.count("\r") <= 100


def test_in_a_log_a_line_is_written_every_ten_seconds() -> None:
    screen = Screen()
    for _ in range(1, 251):
        screen.advance(0.1, MIB)
    assert screen.shown.count("\n") == 2
    assert re.fullmatch(r"(ctxpack: pulling \d\d\d MiB, 10\.\d MiB/s\n)+", screen.shown)
    assert "\r" not in screen.shown
    assert "\033" not in screen.shown


def test_an_unknown_total_gives_no_time_left() -> None:
    screen = Screen(live=True)
    screen.advance(0, 0)
    screen.advance(2, 10 * MIB)
    assert screen.shown == "\r\033[Kpulling 10.0 MiB, 5.00 MiB/s"


def test_more_than_the_total_gives_no_time_left() -> None:
    screen = Screen(live=True)
    screen.advance(0, 0, MIB)
    screen.advance(2, 2 * MIB, MIB)
    assert "left" not in screen.shown


def test_each_stage_counts_from_zero() -> None:
    screen = Screen(live=True)
    screen.advance(0, 0)
    screen.advance(2, 10 * MIB)
    screen.advance(5, MIB, stage="place")
    screen.advance(2, MIB, stage="place")
    assert screen.shown.endswith("\r\033[Kplacing 2.00 MiB, 1.00 MiB/s")


def test_a_stage_that_goes_on_after_its_end_counts_from_zero() -> None:
    """As when `run` hashes inputs before and after the command."""
    screen = Screen(live=True)
    screen.advance(0, 0, 2 * MIB)
    screen.advance(2, 2 * MIB, 2 * MIB)
    screen.advance(100, MIB, 4 * MIB)
    screen.advance(1, MIB, 4 * MIB)
    assert screen.shown.endswith("pulling 2.00 MiB of 4.00 MiB, 2.00 MiB/s, 0:02 left")


@pytest.mark.parametrize(
    "act",
    [lambda terminal: terminal.hint("x"), lambda terminal: terminal.fail(ERROR), lambda terminal: terminal.say("x")],
    ids=["hint", "error", "result"],
)
def test_any_other_output_first_erases_the_progress_line(
    act: Callable[[Terminal], object], capsys: pytest.CaptureFixture[str]
) -> None:
    screen = Screen(live=True)
    screen.advance(0, 0)
    screen.advance(2, 1)
    before = screen.shown
    act(screen.terminal)
    assert screen.shown.startswith(before + "\r\033[K")


@pytest.mark.parametrize("live", [True, False])
def test_after_its_end_a_command_draws_nothing(live: bool) -> None:
    """Threads of an interrupted transfer still report."""
    screen = Screen(live=live)
    screen.advance(0, 0)
    screen.advance(20, 10 * MIB)
    screen.terminal.close()
    shown = screen.shown
    assert shown
    for stage in ("pull", "place"):
        screen.advance(20, MIB, stage=stage)
    screen.terminal.hint("nobody waits for this")
    assert screen.shown == shown
    screen.terminal.fail(ERROR)
    assert screen.shown.count("error") == 1


def test_a_closed_stderr_raises_nothing() -> None:
    screen = Screen(live=True)
    screen.errors.close()
    screen.terminal.hint("nobody")
    screen.terminal.fail(ERROR)
    screen.advance(60, 1)
    screen.terminal.close()


def test_control_characters_in_a_hint_are_escaped() -> None:
    screen = Screen()
    screen.terminal.hint("née\x1b[2K\n\u202e")
    assert screen.shown == "ctxpack: née\\u001b[2K\\u000a\\u202e\n"


@given(st.text())
def test_no_text_controls_the_terminal(text: str) -> None:
    screen = Screen()
    screen.terminal.hint(text)
    screen.terminal.fail(IntegrityError(text))
    assert screen.shown.count("\n") == 2
    assert all(c.isprintable() for c in screen.shown.replace("\n", ""))


@given(st.text(), st.lists(st.builds(Fault, *[st.text()] * 5), min_size=2, max_size=4))
def test_no_fault_controls_the_terminal(where: str, faults: list[Fault]) -> None:
    screen = Screen()
    screen.terminal.fail(ContractInvalid(where, faults))
    assert screen.shown.count("\n") == 1 + len(faults)
    assert all(c.isprintable() for c in screen.shown.replace("\n", ""))


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.98 KiB"),
        (1536, "1.50 KiB"),
        (15 * 1024, "15.0 KiB"),
        (999 * 1024, "999 KiB"),
        (5 * 1024**3, "5.00 GiB"),
        (3 * 1024**6, "3072 PiB"),
    ],
)
def test_sizes_have_three_digits(count: int, shown: str) -> None:
    assert human_size(count) == shown


@pytest.mark.parametrize(("seconds", "left"), [(4, "0:05"), (64, "1:05"), (3719, "1:02:00")])
def test_time_left_is_shown_in_hours_minutes_and_seconds(seconds: int, left: str) -> None:
    screen = Screen(live=True)
    screen.advance(0, 0)
    screen.advance(2, 2, 2 + seconds)  # at one byte each second
    assert screen.shown.endswith(f", {left} left")


class Tty(NamedTuple):
    """A pseudo-terminal: the end that a program writes to, and the end that shows it."""

    stream: TextIO
    leader: int

    def shown(self) -> str:
        self.stream.flush()
        return os.read(self.leader, 65536).decode()


@pytest.fixture
def tty() -> Iterator[Tty]:
    leader, follower = os.openpty()
    with os.fdopen(follower, "w", encoding="utf-8") as stream:
        yield Tty(stream, leader)
    os.close(leader)


@pytest.fixture
def terminal_on(monkeypatch: pytest.MonkeyPatch) -> Callable[[TextIO], Terminal]:
    """Make the terminal of a command whose stderr is this stream."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")

    def make(stream: TextIO) -> Terminal:
        monkeypatch.setattr(sys, "stderr", stream)
        return Terminal.of(argparse.Namespace(quiet=False, json=False))

    return make


def test_a_terminal_gets_color(tty: Tty, terminal_on: Callable[[TextIO], Terminal]) -> None:
    terminal_on(tty.stream).fail(ERROR)
    assert "\033[1;31merror:\033[0m" in tty.shown()


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_gets_no_color_when_it_is_not_wanted(
    tty: Tty, terminal_on: Callable[[TextIO], Terminal], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    terminal_on(tty.stream).fail(ERROR)
    assert tty.shown() == "ctxpack: error: blob 9f2c: digest differs: expected 4096 bytes, got 4021; pull again\r\n"


def test_a_file_gets_neither_color_nor_drawing(tmp_path: Path, terminal_on: Callable[[TextIO], Terminal]) -> None:
    with open(tmp_path / "log", "w") as log:
        terminal_on(log).fail(ERROR)
    assert "\033" not in (tmp_path / "log").read_text()


class Long:
    """A result with many elements, of which one may fail."""

    def __init__(self, count: int, *, fails: bool = False) -> None:
        self.count, self.fails = count, fails

    def head_as_json(self) -> dict[str, object]:
        return {"schema": "long", "uri": "ctx://…"}

    def elements(self) -> Iterator[dict[str, object]]:
        for number in range(self.count):
            yield {"path": f"größe\x1b {number}"}
        if self.fails:
            raise ERROR


@pytest.mark.parametrize("count", [0, 1, 2, 10_000])
def test_a_result_of_many_elements_is_one_document(capfdbinary: pytest.CaptureFixture[bytes], count: int) -> None:
    Screen(as_json=True).terminal.show_many(Long(count), [])
    out = capfdbinary.readouterr().out.decode()
    document = json.loads(out)
    assert document.pop("entries") == [*Long(count).elements()]
    assert document == Long(count).head_as_json()
    assert all(c.isprintable() or c == "\n" for c in out)
    Screen().terminal.show_many(Long(count), (f"line {number}" for number in range(count)))
    assert capfdbinary.readouterr().out.decode() == "".join(f"line {number}\n" for number in range(count))


def test_a_result_that_fails_early_prints_nothing(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with pytest.raises(IntegrityError):
        Screen(as_json=True).terminal.show_many(Long(3, fails=True), [])
    assert capfdbinary.readouterr().out == b""


@pytest.mark.parametrize(
    ("given", "width"), [("60", 60), ("0", 80), ("", 80), ("-5", 80), ("٨٠", 80), ("5", 20), ("9" * 5000, 999_999)]
)
def test_the_width_is_that_of_columns_or_80(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], given: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", given)
    assert columns() == width
