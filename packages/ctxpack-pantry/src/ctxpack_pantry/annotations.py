"""Annotations: what a registry's pages show of a pack. FORMAT.md of ctxpack-bundle, "On a registry".

They are made of the pack manifest alone, so the image manifest of a pack is the same whoever makes it, and whenever.
"""

from __future__ import annotations

import datetime
import re
from typing import Any

from ctxpack_bundle import PackManifest
from ctxpack_identity.contractview import transforms
from ctxpack_pantry.gitremote import public_url

__all__ = ["annotations_of"]

_PREFIX = "org.opencontainers.image."  # image-spec, "Pre-Defined Annotation Keys"
_MOST = 300  # characters of a value; registries show one line
_PART = 80  # characters of one tool or label in it

# By number, since str.isprintable is another function in each version of Python, and the bytes must stay the same.
_controls = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_is_time = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?"
    r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
).fullmatch
_is_commit = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}").fullmatch


def annotations_of(pack: PackManifest) -> dict[str, str]:
    """Return the annotations of the image manifest of a pack: those for which the pack manifest has a value."""
    tools = [_tool(transform) for transform in transforms(pack.contract)]
    git = pack.provenance.get("git")
    git = git if isinstance(git, dict) else {}
    found = {
        "title": next((tool for tool in tools if tool), "") or _first_output(pack),
        "description": _description([tool for tool in tools if tool], pack.provenance.get("labels")),
        "created": _time(pack.provenance.get("created")),
        "source": public_url(git.get("remote", "")) if isinstance(git.get("remote", ""), str) else None,
        "revision": _commit(git.get("commit")),
    }
    return {f"{_PREFIX}{name}": value for name, value in found.items() if value}


def _tool(transform: dict[str, Any]) -> str:
    tool, version = transform.get("tool"), transform.get("tool_version")
    words = [word for word in (tool, version) if isinstance(word, str) and word]
    return _line(" ".join(words), _PART) if isinstance(tool, str) and tool else ""


def _first_output(pack: PackManifest) -> str:
    return next((_line(root.name, _PART) for root in pack.outputs.roots), "")


def _description(tools: list[str], labels: Any) -> str:
    pairs = sorted(labels.items()) if isinstance(labels, dict) else []
    texts = [_line(f"{key}={value}", _PART) for key, value in pairs if isinstance(value, str)]
    return _line("; ".join(", ".join(part) for part in (tools, texts) if part), _MOST)


def _time(created: Any) -> str | None:
    """Return created if it is a date-time of RFC 3339."""
    found = _is_time(created) if isinstance(created, str) else None
    if found is None:
        return None
    try:
        datetime.date.fromisoformat(found[1])
    except ValueError:
        return None
    return found[0]


def _commit(commit: Any) -> str | None:
    return commit if isinstance(commit, str) and _is_commit(commit) else None


def _line(text: str, most: int) -> str:
    """Return text as one line of at most so many characters."""
    line = " ".join(word for word in _controls.sub(" ", text[: 2 * most]).split(" ") if word)
    return line if len(line) <= most and len(text) <= 2 * most else f"{line[: most - 1]}…"
