"""Passwords are typed on the terminal; without one, nobody is asked and nothing waits. (Terminals: test_keys.py.)"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctxpack_cli import passwords
from ctxpack_cli.options import add_key_option
from ctxpack_cli.passwords import ask_new_password, ask_password
from ctxpack_pantry import InvalidInput


@pytest.mark.parametrize("place", ["missing", "file", "folder"])
def test_what_is_no_terminal_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (tmp_path / "file").write_text("s3cret\n")
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(passwords, "_TERMINAL", str(tmp_path / place))
    with pytest.raises(
        InvalidInput, match=r"password: .*set CTXPACK_KEY_PASSWORD, or run the command on a term"
    ) as caught:
        ask_password("? ")
    assert caught.value.code == "E_PASSWORD"
    assert (tmp_path / "file").read_text() == "s3cret\n"


def test_stdin_is_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    kept = os.dup(0)
    try:
        os.dup2(reader, 0)
        os.write(writer, b"s3cret\n")
        monkeypatch.setattr(passwords, "_TERMINAL", os.devnull)
        with pytest.raises(InvalidInput):
            ask_password("? ")
        assert os.read(reader, 100) == b"s3cret\n"
    finally:
        os.dup2(kept, 0)
        for fd in (reader, writer, kept):
            os.close(fd)


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str) -> Iterator[str]:
    """Let these be what is typed; return what is left of them."""
    left = iter(lines)
    monkeypatch.setattr(passwords, "ask_password", lambda prompt: next(left))
    return left


@pytest.mark.parametrize("password", ["s3cret", " ", "größe", "\udcff"])
def test_a_new_password_is_what_was_typed_twice(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    typed(monkeypatch, password, password)
    assert ask_new_password("ci.key") == password


@pytest.mark.parametrize(
    ("lines", "what", "left"),
    [
        (["", "rest"], "empty", ["rest"]),
        (["s3cret", "s3cre", "rest"], "differ", ["rest"]),
        (["s3cret", ""], "differ", []),
    ],
)
def test_a_new_password_that_is_empty_or_mistyped_is_refused(
    monkeypatch: pytest.MonkeyPatch, lines: list[str], what: str, left: list[str]
) -> None:
    rest = typed(monkeypatch, *lines)
    with pytest.raises(InvalidInput, match=what) as caught:
        ask_new_password("ci.key")
    assert (caught.value.code, list(rest)) == ("E_PASSWORD", left)
    assert "s3cre" not in str(caught.value)


def test_the_option_names_a_file() -> None:
    parser = argparse.ArgumentParser()
    add_key_option(parser)
    assert parser.parse_args(["--key", "ci.key"]).key == "ci.key"
    assert parser.parse_args([]).key is None
