"""The public surface: the exported names, the cost of the import, and documents that are true."""

from __future__ import annotations

import doctest
import hashlib
import importlib
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ctxpack_identity
from ctxpack_identity import parse_contract_file
from ctxpack_identity.contractfile import CODE_PATTERNS

PACKAGE = Path(__file__).parents[1]
SPEC = (PACKAGE / "SPEC.md").read_text(encoding="utf-8")
LISTED = set(re.findall(r"^\| `(E_[A-Z_]+)` \|", SPEC, re.MULTILINE))  # error codes
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(ctxpack_identity.__path__, "ctxpack_identity.") if not module.ispkg
)

EXPORTED = (
    "DEFAULT_HASHING AccessDenied Conflict ContractFile ContractInvalid CtxPackError CtxUri Digest FolderDigest "
    "HashedRoot Hashing IntegrityError InvalidInput KnownDigests LocalFailure NotFound PolicyRefused Progress "
    "Resolution ResolvedInput Tree TreeEntry Unavailable canonical_contract canonical_json digest_from_hex digest_of "
    "hash_tree hex_of parse_canonical_contract parse_contract_file parse_digest parse_json parse_uri printable "
    "resolve silent tree_digest uri_digest uri_for with_command"
)


def test_the_package_exports_this_and_nothing_else() -> None:
    assert " ".join(ctxpack_identity.__all__) == EXPORTED
    assert all(hasattr(ctxpack_identity, name) for name in ctxpack_identity.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_is_public(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    assert module.__all__ == sorted(module.__all__, key=lambda item: (not item.isupper(), not item[0].isupper(), item))
    public = {
        item
        for item, value in vars(module).items()
        if getattr(value, "__module__", None) == name and not item.startswith("_")
    }
    assert public <= set(module.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_importing_is_cheap_and_needs_only_the_standard_library() -> None:
    code = "import sys; before = set(sys.modules); import ctxpack_identity; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    roots = {name.split(".")[0] for name in done.stdout.split()}
    assert roots - set(sys.stdlib_module_names) == {"ctxpack_identity"}
    slow = {
        "asyncio",
        "concurrent",
        "dataclasses",
        "decimal",
        "inspect",
        "logging",
        "multiprocessing",
        "pathlib",
        "typing",
    }
    assert roots & slow == set()
    assert roots & {"msgspec", "random", "shutil", "socket", "subprocess", "tempfile", "threading", "urllib"} == set()
    assert roots & {"contextlib", "fcntl", "pickle", "queue", "select", "signal", "sqlite3"} == set()


def test_the_readme_s_examples_are_true() -> None:
    failed, tried = doctest.testfile(str(PACKAGE / "README.md"), module_relative=False, encoding="utf-8")
    assert (failed, tried > 3) == (0, True)


def test_the_spec_s_examples_have_the_digests_it_gives() -> None:
    examples = re.findall(r"```text\n([^`]+)\n```\n\nSHA-256: `([0-9a-f]{64})`", SPEC)
    assert len(examples) == SPEC.count("SHA-256: `") == 6
    for document, digest in examples:
        assert hashlib.sha256(document.encode()).hexdigest() == digest


def test_the_spec_s_contract_is_the_vector_of_the_seed_format() -> None:
    vectors = json.loads((PACKAGE / "vectors" / "contract.json").read_text())
    (seed,) = [case for case in vectors["valid"] if case["name"] == "seed-format"]
    (written,) = re.findall(r"```json\n([^`]+)```\n\nhas the canonical contract", SPEC)
    assert json.loads(written) == json.loads(seed["contract"])
    assert f"\n{seed['canonical']}\n" in SPEC
    assert seed["uri"] in SPEC


def test_the_spec_lists_exactly_the_error_codes_of_the_sources() -> None:
    sources = "".join(
        path.read_text() for path in (PACKAGE / "src").rglob("*.py") if path.name not in ("disk.py", "errors.py")
    )
    raised = set(re.findall(r'"(E_[A-Z_]+)"', sources))
    assert raised == LISTED


def test_every_error_code_has_a_vector_that_data_can_show() -> None:
    def codes(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from (code for code, _ in value.get("faults", []))
            yield from (value["code"] for _ in range("code" in value))
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from codes(item)

    shown = {code for path in (PACKAGE / "vectors").glob("*.json") for code in codes(json.loads(path.read_text()))}
    assert LISTED - shown == {"E_INPUT_CHANGED", "E_INPUT_UNREADABLE", "E_NON_STRING_KEY"}
    assert shown <= LISTED


def test_the_spec_lists_exactly_the_patterns_that_code_has() -> None:
    (listed,) = re.findall(r"the code does not read\.\n\n```text\n([^`]+)```", SPEC)
    assert tuple(listed.splitlines()) == CODE_PATTERNS


def test_the_spec_s_map_is_one() -> None:
    (each,) = re.findall(r"```json\n(\"each\": [^`]+)```", SPEC)
    seed = json.loads(re.findall(r"```json\n([^`]+)```\n\nhas the canonical contract", SPEC)[0])
    read = parse_contract_file(json.dumps({**seed, "command": ["x"], **json.loads(f"{{{each}}}")}))
    assert read.each == ("raw_docs", "files", "path", "{dir}{stem}.json")


def test_links_in_the_spec_and_readme_exist() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lower().lstrip("# ")).replace(" ", "-")
        for line in SPEC.splitlines()
        if line.startswith("#")
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", SPEC)) <= headings
    for target in re.findall(r"\]\(([^#)][^)]*)\)", (PACKAGE / "README.md").read_text()):
        assert target.startswith("https://") or (PACKAGE / target).exists()
