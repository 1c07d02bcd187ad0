"""The public names of the package; and the example in its README runs."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

import ctxpack_pantry


def test_the_public_names_are_these() -> None:
    assert ctxpack_pantry.__all__ == [
        "AccessDenied",
        "Candidate",
        "Conflict",
        "Context",
        "CtxPackError",
        "CtxUri",
        "Explained",
        "Exported",
        "FailedItem",
        "FileList",
        "Identified",
        "Initialised",
        "Inspected",
        "IntegrityError",
        "InvalidInput",
        "Lineage",
        "Listed",
        "LoadedContractFile",
        "LocalFailure",
        "Mapped",
        "NamedBefore",
        "NotFound",
        "Pantry",
        "Policy",
        "PolicyRefused",
        "Progress",
        "Pulled",
        "Pushed",
        "Ran",
        "Reference",
        "Removed",
        "Replaced",
        "Schemas",
        "Seeded",
        "Settings",
        "StoredPack",
        "Tagged",
        "Unavailable",
        "Verified",
        "VerifiedPack",
        "error_as_json",
        "init",
        "list_schemas",
        "load_contract_file",
        "load_settings",
        "memo",
        "parse_reference",
        "parse_uri",
        "printable",
        "schema",
        "schema_names",
        "transforms",
    ]
    assert all(hasattr(ctxpack_pantry, name) for name in ctxpack_pantry.__all__)


def test_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = Path(__file__).parents[1] / "README.md"
    monkeypatch.chdir(tmp_path)
    failed, attempted = doctest.testfile(str(readme), module_relative=False)
    assert attempted > 8
    assert failed == 0
