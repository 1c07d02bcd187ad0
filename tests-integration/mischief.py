"""Tricks for a Relay: what a broken, busy, slow or lying registry does to the requests that pass it."""

from __future__ import annotations

import itertools
import json
import re
import threading

from relay import Answer, Asked, Forward, Hold, Trick

__all__ = [
    "cut_short",
    "first",
    "flipped",
    "flipping",
    "holding",
    "holding_body",
    "nth",
    "refusing",
    "resetting",
    "sizing",
    "where",
]


def flipped(data: bytes, position: int) -> bytes:
    """Return data with one bit of one byte changed; a negative position counts from the end."""
    position %= len(data)
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def where(trick: Trick, *, method: str = "", path: str = "") -> Trick:
    """Apply trick to requests of method whose path matches the pattern, and forward the others."""

    def chosen(asked: Asked, forward: Forward) -> Answer:
        if method in ("", asked.method) and re.search(path, asked.path):
            return trick(asked, forward)
        return forward(asked)

    return chosen


def first(count: int, trick: Trick, then: Trick | None = None) -> Trick:
    """Apply trick to the first count requests it is asked about, then to the others, if anything."""
    numbers = itertools.count()
    rest = then or (lambda asked, forward: forward(asked))
    return lambda asked, forward: (trick if next(numbers) < count else rest)(asked, forward)


def nth(number: int, trick: Trick) -> Trick:
    """Apply trick to one request only; 0 is the first to arrive."""
    numbers = itertools.count()
    lock = threading.Lock()

    def chosen(asked: Asked, forward: Forward) -> Answer:
        with lock:
            mine = next(numbers) == number
        return trick(asked, forward) if mine else forward(asked)

    return chosen


def flipping(position: int) -> Trick:
    """Change one bit of the body on its way back."""

    def trick(asked: Asked, forward: Forward) -> Answer:
        answer = forward(asked)
        return answer._replace(body=flipped(answer.body, position)) if answer.body else answer

    return trick


def sizing(difference: int) -> Trick:
    """Lie in Content-Length, by difference bytes; the body is what it was."""

    def trick(asked: Asked, forward: Forward) -> Answer:
        answer = forward(asked)
        true = answer.length if asked.method == "HEAD" else len(answer.body)
        return answer._replace(length=(true or 0) + difference)

    return trick


def cut_short(size: int) -> Trick:
    """Send only the first size bytes of the body, and a Content-Length that says so."""

    def trick(asked: Asked, forward: Forward) -> Answer:
        answer = forward(asked)
        return answer._replace(body=answer.body[:size])

    return trick


def resetting(asked: Asked, forward: Forward) -> Answer:
    """Send half of the answer's body, then reset the connection."""
    answer = forward(asked)
    return answer._replace(pause_at=len(answer.body) // 2)


def refusing(status: int, **headers: str) -> Trick:
    """Answer as an overloaded registry does, without asking it. headers: ``Retry_After`` for ``Retry-After``."""
    body = json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda asked, forward: Answer(status, named, body)


def holding(hold: Hold) -> Trick:
    """Wait at hold before the request is forwarded."""

    def trick(asked: Asked, forward: Forward) -> Answer:
        hold.wait()
        return forward(asked)

    return trick


def holding_body(hold: Hold) -> Trick:
    """Forward, send half of the body, and wait at hold before the rest."""

    def trick(asked: Asked, forward: Forward) -> Answer:
        answer = forward(asked)
        return answer._replace(pause_at=len(answer.body) // 2, hold=hold)

    return trick
