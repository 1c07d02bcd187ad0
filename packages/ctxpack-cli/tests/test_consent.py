"""A question is asked only where a person sees it; everywhere else the answer is no."""

from __future__ import annotations

import io

import pytest

from ctxpack_cli import passwords
from ctxpack_cli.consent import asking
from ctxpack_cli.terminal import Terminal
from ctxpack_pantry import InvalidInput


def terminal(*, live: bool = True, quiet: bool = False, as_json: bool = False) -> Terminal:
    return Terminal(io.StringIO(), live=live, quiet=quiet, as_json=as_json)


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("y", True),
        ("Yes ", True),
        ("yes", True),
        ("", False),
        ("n", False),
        ("no", False),
        ("yess", False),
        ("ja", False),
    ],
)
def test_only_yes_is_consent(monkeypatch: pytest.MonkeyPatch, typed: str, answer: bool) -> None:
    monkeypatch.setattr(passwords, "ask_line", lambda prompt, hidden: typed)
    assert asking(terminal())("May I?") is answer


@pytest.mark.parametrize("members", [{"live": False}, {"quiet": True}, {"as_json": True}])
def test_nobody_is_asked_who_does_not_see_the_question(
    monkeypatch: pytest.MonkeyPatch, members: dict[str, bool]
) -> None:
    monkeypatch.setattr(passwords, "ask_line", lambda prompt, hidden: pytest.fail("asked"))
    assert asking(terminal(**members))("May I?") is False


def test_without_a_terminal_the_answer_is_no(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(prompt: str, hidden: bool) -> str:
        raise InvalidInput("there is no terminal")

    monkeypatch.setattr(passwords, "ask_line", cannot)
    assert asking(terminal())("May I?") is False
