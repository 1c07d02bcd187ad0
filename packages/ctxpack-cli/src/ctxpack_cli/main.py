"""Entry point. What takes time to load is imported inside main's ``try``, so that a Ctrl-C meanwhile is caught too."""

from __future__ import annotations

import os
import sys

from ctxpack_cli.memory import lacks_memory

TYPE_CHECKING = False  # typing itself takes 4 ms to load
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit: 0 done, 1 this machine failed, 2 usage or contract, 3 not found, 4 access, 5 integrity,
    6 registry or network, 7 trust policy, 8 conflict, 130 Ctrl-C; `run` exits as its command did.
    """
    try:
        _require_utf8()
        _reopen_closed_streams()
        from ctxpack_cli.signals import exit_after

        exit_after(lambda: _status(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:  # it came while the module signals was being loaded
        try:
            sys.stderr.write("\nctxpack: interrupted\n")
        finally:
            os._exit(130)
    except Exception as error:  # while our modules were being loaded, or another error was being said
        if os.environ.get("CTXPACK_DEBUG") or not lacks_memory(error):
            raise
        try:
            os.write(2, b"ctxpack: error: memory ran out\n")
        finally:
            os._exit(1)


def _status(argv: Sequence[str]) -> int:
    from ctxpack_cli.arguments import parse_arguments

    arguments = parse_arguments(argv)
    # Not sooner: this loads the pantry, which --help must not wait for.
    from ctxpack_cli.session import run_command

    return run_command(arguments)


def _require_utf8() -> None:
    """Start again in the UTF-8 mode of Python if the locale has another encoding, such as ASCII.

    File names are UTF-8 in contracts and packs. A locale must neither make others of them nor refuse some.
    """
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.utf8_mode:
        try:
            os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
        except OSError:
            return  # this Python cannot be started again; most names are ASCII


def _reopen_closed_streams() -> None:
    """Open /dev/null for each standard stream that is closed (`2>&-`).

    Otherwise the next file to be opened would get the stream's number, and what is written to the stream.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8")
