"""A user names a pack by a URI, by the first digits of a cached one, by a contract file, or by a name."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, Digest, InvalidInput, NotFound, digest_from_hex, hex_of, uri_digest, uri_for
from ctxpack_pantry import Pantry, Reference, parse_reference
from ctxpack_pantry.referencekind import ANY, CONTRACT, LOCAL, LONGEST_NAME, NAME, PREFIX, URI, parse_name

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import FaultyTarget

DIGITS = "0123456789abcdef" * 4

# Texts near the borders between the kinds, and any others.
texts = st.one_of(
    st.text(),
    st.text(alphabet="0123456789abcdefABCDEF", max_size=70),
    st.from_regex(r"[A-Za-z0-9._/:-]{0,130}(\.json)?", fullmatch=True),
    st.from_regex(r"(ctx|CTX|sha256)?:(//)?(sha256:)?[0-9a-f]{0,65}", fullmatch=True),
)


def test_a_contract_of_any_form_means_its_pack(
    pantry: Pantry, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    uri = pantry.push(pantry.seed([], str(project.contract)).uri).uri
    content = json.loads(project.contract.read_text())
    for contract in (project.contract, content, project.load(), Reference(CONTRACT, str(project.contract))):
        assert pantry.find(contract) == uri
        assert pantry.pull(contract).uri == uri
        assert pantry.inspect(contract).manifest.uri == uri
        assert pantry.lineage(contract).uri == uri
        assert pantry.tag(contract, "named").uri == uri
        with pantry.list_files(contract) as files:
            assert next(iter(files))
    with pytest.raises(InvalidInput, match="only a name can be pinned"):
        pantry.pull(content, lock=True)


@pytest.mark.parametrize("given", [None, 7, b"contract.json", ["contract.json"], ("name", "rag-index")])
def test_what_is_neither_a_reference_nor_a_contract_is_refused(pantry: Pantry, given: Any) -> None:
    for call in (pantry.find, pantry.pull, pantry.inspect, pantry.resolve, pantry.map):
        with pytest.raises(InvalidInput, match=f"names no contract: .*, got {type(given).__name__}") as caught:
            call(given)
        assert caught.value.code == "E_REFERENCE"


@pytest.mark.parametrize("given", [None, {}, Path("contract.json"), "contract.json", "ctx://sha256:00"])
def test_what_takes_only_uris_refuses_everything_else(pantry: Pantry, given: Any) -> None:
    for call in (pantry.push, pantry.verify, pantry.remove, lambda one: pantry.export(one, "pack.tar.gz")):
        with pytest.raises(InvalidInput, match="not a ctx URI"):
            call(given)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f"ctx://sha256:{DIGITS}", URI),
        (DIGITS[:8], PREFIX),
        (DIGITS, PREFIX),
        ("20240101", PREFIX),
        ("contract.json", CONTRACT),
        (".json", CONTRACT),
        ("deadbeef.json", CONTRACT),
        ("./rag-index", CONTRACT),
        ("a/b", CONTRACT),
        ("/", CONTRACT),
        ("rag-index", NAME),
        ("v1.0_x-", NAME),
        ("deadbee", NAME),
        ("deadbeefs", NAME),
        ("2024-01-01", NAME),
        ("CONTRACT.JSON", NAME),
        ("ctx", NAME),
        ("x" * LONGEST_NAME, NAME),
    ],
)
def test_the_first_kind_that_fits(text: str, kind: str) -> None:
    assert parse_reference(text) == Reference(kind, text)
    assert parse_reference(text, kinds=(kind,)) == Reference(kind, text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no pack"),
        (" ", "names no pack"),
        ("-x", "names no pack"),
        (".x", "names no pack"),
        ("_x", "names no pack"),
        ("größe", "names no pack"),
        ("a b", "names no pack"),
        ("a\n", "names no pack"),
        ("\0/", "names no pack"),
        ("x" * (LONGEST_NAME + 1), "names no pack"),
        (f"sha256:{DIGITS}", "write ctx:// before a digest"),
        ("DEADBEEF", "write 8 to 64 digits in lower case"),
        (DIGITS[:-1] + "F", "in lower case"),
        (DIGITS + "0", "write 8 to 64 digits"),
        ("ctx:", "not a ctx URI"),
        ("ctx:rag", "not a ctx URI"),
        (f"ctx://sha256:{DIGITS[:-1]}", "not a ctx URI"),
        (f"CTX://SHA256:{DIGITS}", "not a ctx URI"),
        (f"ctx://sha256:{DIGITS}\n", "not a ctx URI"),
        ("ctx://a/contract.json", "not a ctx URI"),
    ],
)
def test_what_is_of_no_kind_is_refused_with_the_reason(text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(says)):
        parse_reference(text)


@pytest.mark.parametrize("text", ["rag-index", "contract.json"])
def test_a_kind_that_the_caller_cannot_use_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="cannot stand here: expected a URI or the first digits of a cached one"):
        parse_reference(text, kinds=LOCAL)


@given(texts)
@example("0" * 8)
@example("A" * 8)
def test_a_text_has_exactly_one_kind_or_is_refused(text: str) -> None:
    def is_of(kind: str) -> bool:
        try:
            return parse_reference(text, kinds=(kind,)) == (kind, text)
        except InvalidInput:
            return False

    kinds = [kind for kind in ANY if is_of(kind)]
    try:
        assert kinds == [parse_reference(text).kind]
    except InvalidInput:
        assert kinds == []


@given(texts)
def test_what_can_be_a_name_is_read_back_as_that_name_and_fits_a_tag(text: str) -> None:
    try:
        name = parse_name(text)
    except InvalidInput:
        return
    assert parse_reference(name) == Reference(NAME, text)
    assert re.fullmatch(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", f"name-{name}")


@given(st.text(alphabet="0123456789abcdef", min_size=8, max_size=64))
def test_no_prefix_of_a_uri_is_a_name(digits: str) -> None:
    assert parse_reference(digits).kind == PREFIX
    with pytest.raises(InvalidInput, match="cannot be a name"):
        parse_name(digits)


def publish(cache: Cache, *digits: str) -> None:
    """Publish an empty pack for each beginning of a digest."""
    for beginning in digits:
        with cache.staging() as staging:
            cache.publish(key_of(beginning), staging)


def key_of(beginning: str) -> Digest:
    return digest_from_hex(beginning.ljust(64, "0"))


@pytest.mark.parametrize("count", [8, 9, 63, 64])
def test_the_first_digits_stand_for_the_only_cached_pack_that_begins_with_them(pantry: Pantry, count: int) -> None:
    publish(pantry.cache, "1f2e3d4c", "1f2e3d4d", "f")
    key = key_of("1f2e3d4c")
    assert pantry.find(hex_of(key)[:count]) == uri_for(key)


def test_digits_that_several_packs_begin_with_are_refused_with_those_packs(pantry: Pantry) -> None:
    publish(pantry.cache, *(f"1f2e3d4c{number}" for number in range(6)))
    with pytest.raises(InvalidInput) as caught:
        pantry.find("1f2e3d4c")
    assert caught.value.code == "E_AMBIGUOUS"
    assert caught.value.what == "6 cached packs begin with these digits"
    assert caught.value.got == ", ".join(uri_for(key_of(f"1f2e3d4c{n}")) for n in range(4)) + " and 2 more"
    assert str(caught.value).endswith("and 2 more; write more digits")
    assert pantry.find("1f2e3d4c5") == uri_for(key_of("1f2e3d4c5"))


def test_digits_that_no_cached_pack_begins_with_are_never_asked_of_the_registry(
    pantry: Pantry, open_pantry: Callable[..., Pantry], project: Project, registry: FaultyTarget
) -> None:
    uri = pantry.seed([], str(project.contract)).uri
    pantry.push(uri)
    before = len(registry.calls)
    elsewhere, digits = open_pantry("elsewhere"), hex_of(uri_digest(uri))
    with pytest.raises(NotFound, match=f"no cached pack begins with {digits[:12]}; .* only a whole URI asks"):
        elsewhere.pull(digits[:12])
    with pytest.raises(NotFound, match=f"no cached pack has the digest {digits}; .*ctx://sha256:{digits} asks the reg"):
        elsewhere.pull(digits)
    assert len(registry.calls) == before
    elsewhere.pull(uri)
    assert elsewhere.find(digits[:12]) == uri


def test_a_pack_that_was_set_aside_is_found_by_its_digits_too(pantry: Pantry) -> None:
    publish(pantry.cache, "1f2e3d4c")
    pantry.cache.set_aside(key_of("1f2e3d4c"))
    assert pantry.find("1f2e3d4c") == uri_for(key_of("1f2e3d4c"))


def test_a_contract_file_is_identified_and_its_uri_is_said(
    pantry: Pantry, project: Project, notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = pantry.seed([], str(project.contract)).uri
    monkeypatch.chdir(project.root)
    assert pantry.find("contract.json") == uri
    assert notices[-1] == f"contract.json is {uri}"
    assert pantry.find(str(project.contract)) == uri
    pulled = pantry.pull("./contract.json")
    assert (pulled.uri, pulled.received) == (uri, 0)
    assert pantry.inspect("./contract.json").manifest.uri == uri


def test_a_contract_file_that_is_not_there(pantry: Pantry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match=r"none\.json: no such contract file"):
        pantry.pull("none.json")


def test_a_uri_is_taken_as_it_is(pantry: Pantry, registry: FaultyTarget, notices: list[str]) -> None:
    uri = CtxUri(f"ctx://sha256:{DIGITS}")
    assert pantry.find(uri) == pantry.find(Reference(URI, uri)) == uri
    assert registry.calls == []
    assert notices == []
    assert not os.path.exists(pantry.cache.root)
