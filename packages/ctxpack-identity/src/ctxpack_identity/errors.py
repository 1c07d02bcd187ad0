"""Every error CtxPack raises on purpose, named after what the caller can do about it.

::

    CtxPackError
    ├── InvalidInput      correct the contract, URI, folder or setting, then try again
    ├── NotFound          there is no such pack: a miss
    ├── AccessDenied      log in, or ask for permission
    ├── IntegrityError    stop trusting: bytes differ from the digest that names them
    ├── Unavailable       registry, store or network did not answer; the same call may work later
    ├── PolicyRefused     the trust policy says no
    ├── Conflict          the same contract, but different bytes
    └── LocalFailure      this machine could not do it: disk full, no permission, a crash
"""

from __future__ import annotations

__all__ = [
    "AccessDenied",
    "Conflict",
    "CtxPackError",
    "IntegrityError",
    "InvalidInput",
    "LocalFailure",
    "NotFound",
    "PolicyRefused",
    "Unavailable",
    "printable",
    "shortened",
]

_MOST = 400  # characters of a part of a message; more than most paths have
_ENDING = 80  # of them from the end, where a path has the name of the file


class CtxPackError(Exception):
    """What failed, where, what was expected, what came, and what to do.

    what: the fault, in a few words. where: file, JSON pointer, digest or host it was found at.
    code: a stable name for programs, ``E_`` and upper case. No secrets, no credentials in URLs.

    >>> print(IntegrityError("digest differs", where="blob sha256:9f2c of team/notes",
    ...                      expected="4096 bytes", got="4021", fix="pull again"))
    blob sha256:9f2c of team/notes: digest differs: expected 4096 bytes, got 4021; pull again
    """

    code = "E_FAILED"
    may_retry = False

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        expected: str = "",
        got: str = "",
        fix: str = "",
        code: str = "",
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.expected = expected
        self.got = got
        self.fix = fix
        self.code = code or type(self).code

    def __str__(self) -> str:
        compared = ", ".join(
            f"{label} {shortened(value)}" for label, value in (("expected", self.expected), ("got", self.got)) if value
        )
        text = ": ".join(part for part in (shortened(self.where), self.what, compared) if part)
        return printable(f"{text}; {shortened(self.fix)}" if self.fix else text)


class InvalidInput(CtxPackError):
    """Correct what was given (contract, URI, folder, setting), then try again."""

    code = "E_INVALID"


class NotFound(CtxPackError):
    """There is no such pack here: a miss, never raised when the answer is not known."""

    code = "E_NOT_FOUND"


class AccessDenied(CtxPackError):
    """The registry or store wants other credentials, or more rights than these have."""

    code = "E_ACCESS"


class IntegrityError(CtxPackError):
    """Bytes differ from the digest, format or URI that names them: do not use them."""

    code = "E_INTEGRITY"


class Unavailable(CtxPackError):
    """The registry, the store or the network did not answer in time, after retries."""

    code = "E_UNAVAILABLE"
    may_retry = True


class PolicyRefused(CtxPackError):
    """The trust policy does not allow it."""

    code = "E_POLICY"


class Conflict(CtxPackError):
    """One contract, two different outputs: the transform is not deterministic, or one output is forged."""

    code = "E_CONFLICT"


class LocalFailure(CtxPackError):
    """This machine could not do it: disk full, permission denied, file vanished."""

    code = "E_LOCAL"


def shortened(text: str) -> str:
    """Return text without its middle if it is too long for a message, such as a path of thousands of characters.

    >>> shortened("a/" * 1000)[314:347]
    'a/a/a/… (2000 characters) …a/a/a/'
    """
    if len(text) <= _MOST:
        return text
    return f"{text[: _MOST - _ENDING]}… ({len(text)} characters) …{text[-_ENDING:]}"


def printable(text: str) -> str:
    """Return text with control and bidirectional-override characters escaped.

    File names and registry messages are not trusted; a terminal must not obey escape sequences in them.
    """
    return "".join(c if c.isprintable() else _escaped(ord(c)) for c in text)


def _escaped(code_point: int) -> str:
    return f"\\u{code_point:04x}" if code_point < 0x10000 else f"\\U{code_point:08x}"
