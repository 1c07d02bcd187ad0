"""Rules for a Relay: what a broken, busy, slow or lying registry does to the requests that pass it."""

from __future__ import annotations

import itertools
import json
import re
import threading

from relay import Answer, Forward, Hold, Request, Rule

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
    "where",
    "wrong_length",
]


def flipped(data: bytes, position: int) -> bytes:
    """Return data with one bit of one byte changed; a negative position counts from the end."""
    position %= len(data)
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def where(rule: Rule, *, method: str = "", path: str = "") -> Rule:
    """Apply rule to requests of method whose path matches the pattern, and forward the others."""

    def chosen(request: Request, forward: Forward) -> Answer:
        if method in ("", request.method) and re.search(path, request.path):
            return rule(request, forward)
        return forward(request)

    return chosen


def first(count: int, rule: Rule, then: Rule | None = None) -> Rule:
    """Apply rule to the first count requests, and then, if given, to the others."""
    numbers = itertools.count()
    rest = then or (lambda request, forward: forward(request))
    return lambda request, forward: (rule if next(numbers) < count else rest)(request, forward)


def nth(number: int, rule: Rule) -> Rule:
    """Apply rule to one request only; number 0 arrives first."""
    numbers = itertools.count()
    lock = threading.Lock()

    def chosen(request: Request, forward: Forward) -> Answer:
        with lock:
            mine = next(numbers) == number
        return rule(request, forward) if mine else forward(request)

    return chosen


def flipping(position: int) -> Rule:
    """Change one bit of the answer's body."""

    def rule(request: Request, forward: Forward) -> Answer:
        answer = forward(request)
        return answer._replace(body=flipped(answer.body, position)) if answer.body else answer

    return rule


def wrong_length(difference: int) -> Rule:
    """Change Content-Length by difference bytes, and leave the body as it is."""

    def rule(request: Request, forward: Forward) -> Answer:
        answer = forward(request)
        true = answer.length if request.method == "HEAD" else len(answer.body)
        return answer._replace(length=(true or 0) + difference)

    return rule


def cut_short(size: int) -> Rule:
    """Send only the first size bytes of the body, with a Content-Length of size."""

    def rule(request: Request, forward: Forward) -> Answer:
        answer = forward(request)
        return answer._replace(body=answer.body[:size])

    return rule


def resetting(request: Request, forward: Forward) -> Answer:
    """Send half of the answer's body, then reset the connection."""
    answer = forward(request)
    return answer._replace(pause_at=len(answer.body) // 2)


def refusing(status: int, **headers: str) -> Rule:
    """Answer as an overloaded registry does, and forward nothing. headers: ``Retry_After`` for ``Retry-After``."""
    body = json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request, forward: Answer(status, named, body)


def holding(hold: Hold) -> Rule:
    """Wait at hold before the request is forwarded."""

    def rule(request: Request, forward: Forward) -> Answer:
        hold.wait()
        return forward(request)

    return rule


def holding_body(hold: Hold) -> Rule:
    """Forward, send half of the body, and wait at hold before the rest."""

    def rule(request: Request, forward: Forward) -> Answer:
        answer = forward(request)
        return answer._replace(pause_at=len(answer.body) // 2, hold=hold)

    return rule
