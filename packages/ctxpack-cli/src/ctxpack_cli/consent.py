"""Consent: a question that the user answers on the terminal with yes or no. Where nobody can be asked, it is no."""

from __future__ import annotations

from ctxpack_pantry import InvalidInput

TYPE_CHECKING = False  # typing itself takes 4 ms to load
if TYPE_CHECKING:
    from collections.abc import Callable

    from ctxpack_cli.terminal import Terminal

__all__ = ["asking"]


def asking(terminal: Terminal) -> Callable[[str], bool]:
    """Return a function that asks a question on terminal, and returns whether the answer was yes."""

    def ask(question: str) -> bool:
        if not terminal.can_ask:
            return False
        from ctxpack_cli.passwords import ask_line  # hardly any command asks

        terminal.hint(question)
        try:
            return ask_line("Yes or no? [no] ", hidden=False).strip().lower() in ("y", "yes")
        except InvalidInput:
            return False

    return ask
