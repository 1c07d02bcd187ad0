"""The public names, what importing costs, and documents that are true."""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from trust_samples import cases, vectors

import ctxpack_trust
from ctxpack_identity import InvalidInput
from ctxpack_trust import BUNDLE_MEDIA_TYPE, KINDS, MAX_BUNDLE_BYTES, MAX_CLAIM_BYTES, MAX_SOURCES, MODES

PACKAGE = Path(__file__).parents[1]
DOCUMENTS = {name: (PACKAGE / name).read_text(encoding="utf-8") for name in ("README.md", "CLAIM.md", "POLICY.md")}
MODULES = sorted(module.name for module in pkgutil.walk_packages(ctxpack_trust.__path__, "ctxpack_trust."))

EXPORTED = (
    "ALGORITHMS BUNDLE_MEDIA_TYPE COUNTING KINDS MAX_BUNDLE_BYTES MAX_CLAIM_BYTES MAX_SOURCES MODES NO_POLICY OWN "
    "PREDICATE_TYPE Claim Decision Denied Dependency Facts OutputRoot PrivateKey PublicKey Rule SignedClaim Signer "
    "Source Tool TrustPolicy Vote canonical_repository count_owners decide encode_claim encode_policy generate_key "
    "hint_of is_encrypted is_key_id is_within parse_claim parse_policy parse_private_key parse_public_key "
    "public_key_of read_claim sign_claim stricter verified_payload"
)

CRYPTOGRAPHY_S = {"_cffi_backend", "_openssl"}  # modules of it that are outside its package


def test_the_package_exports_this_and_nothing_else() -> None:
    assert " ".join(ctxpack_trust.__all__) == EXPORTED
    assert all(hasattr(ctxpack_trust, name) for name in ctxpack_trust.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_is_public(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    public = {
        item
        for item, value in vars(module).items()
        if getattr(value, "__module__", None) == name and not item.startswith("_")
    }
    assert public <= set(module.__all__)


@pytest.mark.parametrize(
    ("script", "foreign"),
    [
        ("import ctxpack_trust", set()),
        ("from ctxpack_trust import PublicKey, parse_policy, decide, read_claim, canonical_repository", set()),
        ("from ctxpack_trust import generate_key; generate_key()", {"cryptography"}),
    ],
)
def test_only_what_needs_cryptography_loads_it(script: str, foreign: set[str]) -> None:
    code = f"import sys; before = set(sys.modules); {script}; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    roots = {name.split(".")[0] for name in done.stdout.split()}
    assert roots - set(sys.stdlib_module_names) - CRYPTOGRAPHY_S == {"ctxpack_identity", "ctxpack_trust"} | foreign
    if not foreign:
        heavy = {"base64", "contextlib", "inspect", "random", "socket", "ssl", "subprocess", "threading", "typing"}
        assert roots & heavy == set()


def test_the_readme_runs() -> None:
    failed, attempted = doctest.testfile(str(PACKAGE / "README.md"), module_relative=False, encoding="utf-8")
    assert (failed, attempted > 8) == (0, True)


def test_the_claim_that_is_shown_is_a_vector() -> None:
    [shown] = re.findall(r"```json\n(\{\"_type\"[^`]+)```", DOCUMENTS["CLAIM.md"])
    [everything] = [case for case in vectors("claims.json")["valid"] if case["what"] == "everything"]
    assert json.loads(shown) == json.loads(everything["payload"])


def test_the_bundle_that_is_shown_has_the_members_of_a_vector() -> None:
    [shown] = re.findall(r"```json\n(\{\"dsseEnvelope\"[^`]+)```", DOCUMENTS["CLAIM.md"])
    vector = json.loads(vectors("claims.json")["valid"][0]["bundles"]["p256"])
    assert _shape(json.loads(shown)) == _shape(vector)
    assert json.loads(shown)["mediaType"] == vector["mediaType"] == BUNDLE_MEDIA_TYPE


def _shape(value: object) -> object:
    if isinstance(value, dict):
        return {name: _shape(member) for name, member in value.items()}
    return [_shape(element) for element in value] if isinstance(value, list) else ""


def test_the_policy_that_is_shown_is_a_vector() -> None:
    [shown] = re.findall(r"```json\n([^`]+)```", DOCUMENTS["POLICY.md"])
    assert json.loads(shown) == json.loads(vectors("policies.json")["valid"][0]["written"])


def test_the_documents_name_every_kind_and_mode_and_the_limits() -> None:
    assert all(f"`{kind}`" in DOCUMENTS["CLAIM.md"] for kind in KINDS)
    assert all(f"`{mode}`" in DOCUMENTS["POLICY.md"] for mode in MODES)
    for number in (MAX_BUNDLE_BYTES, MAX_CLAIM_BYTES, MAX_SOURCES):
        assert f"{number:,}" in DOCUMENTS["CLAIM.md"]


def test_the_documents_list_exactly_the_error_codes_of_the_sources() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (PACKAGE / "src").rglob("*.py"))
    raised = set(re.findall(r'"(E_[A-Z0-9_]+)"', sources))
    listed = set(re.findall(r"^\| `(E_[A-Z0-9_]+)` \|", DOCUMENTS["README.md"], re.MULTILINE))
    assert raised - {"E_BASE64"} == listed  # that one is always translated


def test_links_lead_somewhere() -> None:
    for text in DOCUMENTS.values():
        for target in re.findall(r"\]\(([^#)][^)]*)\)", text):
            assert target.startswith("https://") or (PACKAGE / target).exists()


@pytest.mark.parametrize("case", cases("keys.json", "invalid"))
def test_a_message_about_a_key_is_one_line(case: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        ctxpack_trust.parse_public_key(case["pem"].encode(), where="k\n.pub")
    assert str(caught.value).isprintable()
