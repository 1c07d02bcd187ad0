"""Passwords, typed on the terminal and nowhere else: stdin may be a file or a pipe, and belongs to the command."""

from __future__ import annotations

import os

from ctxpack_pantry import InvalidInput

TYPE_CHECKING = False  # typing itself takes 4 ms to load
if TYPE_CHECKING:
    import argparse

    from ctxpack_cli.terminal import Terminal
    from ctxpack_pantry import Settings
    from ctxpack_pantry.signer import PrivateKey

__all__ = ["ask_line", "ask_new_password", "ask_password", "open_key"]

_TERMINAL = "/dev/tty"


def open_key(arguments: argparse.Namespace, terminal: Terminal, settings: Settings) -> PrivateKey:
    """Return the key to sign with, which --key, CTXPACK_KEY or settings name; ask for its password if there is none.

    Call it before anything else is done: nobody should wait for hours to be asked. Raises: as signer.open_signer does.
    """
    from ctxpack_pantry.signer import open_signer

    return open_signer(settings, os.environ, key=arguments.key, ask_password=ask_password, notice=terminal.hint)


def ask_password(prompt: str) -> str:
    """Return a line that is typed on the terminal and not shown. Raises: as ask_line does."""
    return ask_line(prompt, hidden=True)


def ask_line(prompt: str, *, hidden: bool) -> str:
    """Return a line that is typed on the terminal. Bytes that are not UTF-8 become surrogates. hidden: it is not shown.

    Raises: InvalidInput (E_PASSWORD), at once, when this process has no terminal, or is in its background; and when the
    input ends before a line does.
    """
    import termios  # few commands ask

    try:
        terminal = os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise _cannot_ask("there is no terminal to ask for the password") from error
    try:
        if os.tcgetpgrp(terminal) != os.getpgrp():  # the system would stop it for ever
            raise _cannot_ask("a process in the background cannot ask for the password")
        shown = termios.tcgetattr(terminal)
        asking = [*shown]
        if hidden:
            asking[3] &= ~termios.ECHO  # the local modes
        try:
            termios.tcsetattr(terminal, termios.TCSAFLUSH, asking)  # what was typed before the question does not count
            os.write(terminal, os.fsencode(prompt))
            line = _line(terminal)
        finally:
            termios.tcsetattr(terminal, termios.TCSADRAIN, shown)
            if hidden:
                os.write(terminal, b"\n")
    except (OSError, termios.error) as error:
        raise _cannot_ask("the terminal cannot ask for the password") from error
    finally:
        os.close(terminal)
    if line is None:
        raise _cannot_ask("no password was typed")
    return os.fsdecode(line)


def ask_new_password(what: str) -> str:
    """Return a password that was typed twice. what: it is of. Raises: InvalidInput (E_PASSWORD), as ask_password does,
    when the two differ, and when it is empty."""
    password = ask_password(f"New password of {what}: ")
    if not password:
        raise InvalidInput("the password is empty", where=what, fix="choose a password", code="E_PASSWORD")
    if ask_password("The same again: ") != password:
        raise InvalidInput("the two passwords differ", where=what, fix="run the command again", code="E_PASSWORD")
    return password


def _line(terminal: int) -> bytes | None:
    """Return the next line; None when the input ends first."""
    data = b""
    while not data.endswith(b"\n"):
        more = os.read(terminal, 1 << 12)
        if not more:
            return None
        data += more
    return data.rstrip(b"\r\n")


def _cannot_ask(what: str) -> InvalidInput:
    return InvalidInput(
        what, where="password", fix="set CTXPACK_KEY_PASSWORD, or run the command on a terminal", code="E_PASSWORD"
    )
