"""The JSON Schemas (draft 2020-12) of contract files, contracts and results: files of this package and of identity."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, NamedTuple

from ctxpack_identity import InvalidInput
from ctxpack_identity.faults import did_you_mean

__all__ = ["Schemas", "list_schemas", "schema", "schema_names"]

# Each is the file schemas/<name>.json of a package.
_PACKAGES = {
    "ctxpack_identity": ("contract-file", "contract", "map", "item"),
    "ctxpack_pantry": (
        "init",
        "id",
        "seed",
        "push",
        "sign",
        "sign-all",
        "tag",
        "pull",
        "export",
        "inspection",
        "explain",
        "files",
        "lineage",
        "run",
        "mapped",
        "ls",
        "rm",
        "verify",
        "trust",
        "trust-key",
        "trust-check",
        "trust-deny",
        "keygen",
        "schemas",
        "error",
    ),
}
_HOMES = {name: package for package, names in _PACKAGES.items() for name in names}


class Schemas(NamedTuple):
    """All schemas: the name, ``$id`` and title of each."""

    schemas: tuple[dict[str, str], ...]

    def as_json(self) -> dict[str, Any]:
        return {"schema": "ctxpack/schemas/v1", "schemas": list(self.schemas)}


def schema_names() -> tuple[str, ...]:
    """Return the names of all schemas: of contract files and contracts, then of what commands print."""
    return tuple(_HOMES)


def schema(name: str) -> dict[str, Any]:
    """Return the schema with this name. A document ``ctxpack/<name>/v1`` follows it. Raises: InvalidInput."""
    if name not in _HOMES:
        near = did_you_mean(name.removeprefix("ctxpack/").removesuffix("/v1"), _HOMES)
        raise InvalidInput(
            "no such schema",
            where=name,
            expected=f"one of {', '.join(_HOMES)}",
            fix=near or "`ctxpack schema` lists them",
            code="E_USAGE",
        )
    text = files(_HOMES[name]).joinpath("schemas", f"{name}.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def list_schemas() -> Schemas:
    """Return what schemas there are."""
    found = {name: schema(name) for name in _HOMES}
    return Schemas(tuple({"name": name, "id": one["$id"], "title": one["title"]} for name, one in found.items()))
