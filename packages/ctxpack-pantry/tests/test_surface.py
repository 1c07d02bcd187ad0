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
        "Denied",
        "Explained",
        "Exported",
        "FailedItem",
        "FileList",
        "Identified",
        "Initialised",
        "Inspected",
        "IntegrityError",
        "InvalidInput",
        "Keygen",
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
        "Rebuilt",
        "Reference",
        "Removed",
        "Replaced",
        "Schemas",
        "Seeded",
        "Settings",
        "ShownKey",
        "Signed",
        "SignedAll",
        "StoredPack",
        "Tagged",
        "Trusted",
        "Unavailable",
        "Unsigned",
        "Verdict",
        "Verified",
        "VerifiedPack",
        "error_as_json",
        "init",
        "keygen",
        "list_schemas",
        "load_contract_file",
        "load_settings",
        "memo",
        "open_signer",
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
