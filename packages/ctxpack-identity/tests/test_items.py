"""Items of a map: together they are the input, each is the tree it says, and no result gets in the way of another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from contracts import TRANSFORM
from folders import write_folder
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import (
    Digest,
    FolderDigest,
    InvalidInput,
    TreeEntry,
    canonical_contract,
    digest_of,
    hash_tree,
    parse_canonical_contract,
    parse_contract_file,
    resolve,
    tree_digest,
    uri_for,
)
from ctxpack_identity.items import Item, ItemContracts, check_places, item_contract, items_of, places_in_order
from ctxpack_identity.packpath import check_path
from ctxpack_identity.rules import Each
from ctxpack_identity.template import split_path

Folder = dict[str, Any]

D = Digest("sha256:" + "1" * 64)

names = st.text(
    st.sampled_from("ab.é") | st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=5
).filter(lambda name: name not in (".", ".."))
contents = st.binary(max_size=2)
folders: st.SearchStrategy[Folder] = st.recursive(
    st.dictionaries(names, contents, max_size=3),
    lambda inner: st.dictionaries(names, inner | contents, max_size=4),
    max_leaves=8,
)
eaches = st.builds(
    Each,
    input=st.just("raw"),
    of=st.sampled_from(["files", "entries"]),
    by=st.sampled_from(["path", "content"]),
    output=st.sampled_from(["{path}", "{dir}{stem}.json", "{stem}", "{path}.{{x}}{suffix}", "out"]),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A new folder's path for every example."""
    return lambda: tmp_path_factory.mktemp("items") / "root"


def listing(root: Path) -> tuple[Digest, list[TreeEntry]]:
    entries: list[TreeEntry] = []
    return hash_tree(str(root), on_entry=entries.append).digest, entries


def below(item: Item, entries: list[TreeEntry]) -> list[TreeEntry]:
    return [entry for entry in entries if entry.path == item.path or entry.path.startswith(f"{item.path}/")]


@given(folders, eaches)
def test_the_items_are_the_files_or_the_entries_in_canonical_order(place: Any, content: Folder, each: Each) -> None:
    root = place()
    write_folder(root, content)
    _, entries = listing(root)
    found = [item.path for item in items_of(each, entries)]
    if each.of == "files":
        assert found == [entry.path for entry in entries if not entry.is_empty_folder]
    else:
        assert found == sorted(content)


@given(folders, st.sampled_from(["files", "entries"]), st.booleans())
def test_by_path_all_items_together_are_the_input(place: Any, content: Folder, of: str, ordered: bool) -> None:
    root = place()
    write_folder(root, content)
    digest, entries = listing(root)
    items = list(items_of(Each("raw", of, "path", "{path}"), entries))
    together = FolderDigest()
    for item in items:
        assert item.digest == tree_digest(below(item, entries))
        for entry in below(item, entries):
            together.add(entry)
    if of == "files":  # empty folders are no items of files
        for empty in [entry for entry in entries if entry.is_empty_folder]:
            entries.remove(empty)
        digest = tree_digest(entries)
    assert together.finish() == digest


@given(folders, st.sampled_from(["files", "entries"]))
def test_by_content_an_item_is_the_folder_that_the_command_sees(place: Any, content: Folder, of: str) -> None:
    root = place()
    write_folder(root, content)
    for item in items_of(Each("raw", of, "content", "{path}"), listing(root)[1]):
        given_item: Any = content
        for name in item.path.split("/"):
            given_item = given_item[name]
        folder = isinstance(given_item, dict)
        seen = place()
        write_folder(seen, {"item" + split_path(item.path, folder=folder).suffix: given_item})
        assert item.digest == hash_tree(str(seen)).digest


@given(eaches, st.lists(st.integers(0, 2**256 - 1), min_size=1, max_size=3), st.text("0123456789abcdef", max_size=70))
def test_the_quick_way_to_the_contracts_of_items_is_the_same(each: Each, numbers: list[int], salt: str) -> None:
    contract = map_contract(Digest(f"sha256:{'0' * 64}"), each=each, salt=salt)
    contracts = ItemContracts(contract)
    for number in numbers:
        digest = Digest(f"sha256:{number:064x}")
        data = item_contract(contract, digest)
        assert contracts.contract(digest) == data
        assert contracts.uri(digest) == uri_for(digest_of(data))
    assert contracts.common == ItemContracts(map_contract(each=each, salt=salt)).common
    assert contracts.common != ItemContracts(map_contract(each=each, salt=f"{salt}.")).common


@given(st.sets(st.text("ab./-é", min_size=1, max_size=6), max_size=8))
def test_places_come_in_the_canonical_order_of_paths(texts: set[str]) -> None:
    outputs = sorted(texts, key=hash)
    try:
        order = places_in_order(outputs, outputs)
    except InvalidInput:
        return
    found = [outputs[number] for number in order]
    assert found == sorted(outputs, key=lambda path: path.split("/"))


@given(folders, eaches)
def test_the_executable_bit_does_not_matter(place: Any, content: Folder, each: Each) -> None:
    root = place()
    write_folder(root, content)
    _, entries = listing(root)
    other = [entry._replace(executable=not entry.executable) for entry in entries]
    assert list(items_of(each, entries)) == list(items_of(each, other))


@given(folders, folders, eaches)
def test_what_is_beside_an_item_does_not_matter(place: Any, one: Folder, other: Folder, each: Each) -> None:
    found = []
    for content in (one, other, {**other, **one}):
        root = place()
        write_folder(root, content)
        found.append({item.path: item for item in items_of(each, listing(root)[1])})
    first, _, both = found
    same = {path for path in both if path.partition("/")[0] in one}
    assert {path: both[path] for path in same} == first


def test_a_renamed_file_is_another_item_by_path_and_the_same_by_content() -> None:
    sha256 = "1" * 64
    before, after = [TreeEntry("a.pdf", 3, sha256)], [TreeEntry("x/b.pdf", 3, sha256)]

    def digests(by: str) -> set[Digest]:
        return {next(items_of(Each("raw", "files", by, "out"), entries)).digest for entries in (before, after)}

    assert (len(digests("path")), len(digests("content"))) == (2, 1)
    after = [TreeEntry("a.txt", 3, sha256)]  # another suffix may mean another thing to the command
    assert len(digests("content")) == 2


# ---- contracts of items


def map_contract(raw: Digest = D, **members: Any) -> dict[str, Any]:
    step = {**TRANSFORM, "environment_hash": "undeclared", "params": {}}
    each = Each("raw", "files", "path", "{path}")
    inputs = {"raw": raw, "model": D}
    return parse_canonical_contract(
        canonical_contract(inputs, [step], **{"command": ["x"], "outputs": ["out"], "each": each, **members})
    )


@given(st.binary(max_size=3).map(digest_of), st.sampled_from(["files", "entries"]), st.text(max_size=3))
def test_the_contract_of_an_item_is_that_of_the_map_with_its_digest(digest: Digest, of: str, salt: str) -> None:
    each = Each("raw", of, "content", "{path}.json")
    whole = map_contract(each=each, salt=salt.encode(errors="ignore").decode(), variables={"A": "1"})
    before = json.dumps(whole)
    data = item_contract(whole, digest)
    assert json.dumps(whole) == before
    inputs = {"raw": {"digest": digest}, "model": {"digest": D}}
    assert parse_canonical_contract(data) == {**whole, "schema": "ctxpack/item/v1", "inputs": inputs}
    assert resolve(parse_contract_file(data), "/nowhere").uri == uri_for(digest_of(data))


def test_items_that_differ_in_digest_template_or_command_have_uris_of_their_own() -> None:
    other = Digest("sha256:" + "2" * 64)
    each = Each("raw", "files", "path", "{path}.json")
    contracts = {
        item_contract(map_contract(), D),
        item_contract(map_contract(), other),
        item_contract(map_contract(each=each), D),
        item_contract(map_contract(each=each._replace(by="content")), D),
        item_contract(map_contract(each=each._replace(of="entries")), D),
        item_contract(map_contract(command=["y"]), D),
    }
    assert len(contracts) == 6


# ---- where results lie

outputs = st.lists(st.text("ab/.-", min_size=1, max_size=5) | st.sampled_from(["a", "a/b", "a-b"]), max_size=5)


def items_at(paths: list[str]) -> list[Item]:
    return [Item(f"item {number}", D, path) for number, path in enumerate(paths)]


def is_a_path(path: str) -> bool:
    try:
        check_path(path)
    except InvalidInput:
        return False
    return not path.endswith("/")


@given(outputs)
def test_places_are_right_exactly_where_all_results_can_be_written_there(place: Any, paths: list[str]) -> None:
    try:
        check_places(items_at(paths))
    except InvalidInput as error:
        refused = error.code
    else:
        refused = ""
    if not all(map(is_a_path, paths)):
        assert refused == "E_PATH"
        return
    root = place()
    root.mkdir()
    can_write = True
    for path in sorted(paths):
        try:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            with open(root / path, "x"):
                pass
        except OSError:
            can_write = False
    assert refused == ("" if can_write else "E_EACH")


@pytest.mark.parametrize(
    ("one", "other", "text"),
    [
        (
            ("a.pdf", "a.json"),
            ("a.txt", "a.json"),
            "items 'a.pdf' and 'a.txt': the results of two items have one place: got 'a.json' and 'a.json'; "
            'give each its own, for example "output": "{path}.json"',
        ),
        (
            ("a/b", "a/b"),
            ("a.x", "a"),
            "items 'a.x' and 'a/b': one result lies below another: got 'a' and 'a/b'; "
            'give each its own, for example "output": "{path}.json"',
        ),
    ],
)
def test_the_error_names_both_items(one: tuple[str, str], other: tuple[str, str], text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_places([Item(path, D, output) for path, output in (one, other)])
    assert str(caught.value) == text


def test_the_error_of_a_place_that_no_pack_may_hold_names_the_item() -> None:
    with pytest.raises(InvalidInput) as caught:
        check_places(items_at(["a", "../b"]))
    assert str(caught.value) == (
        "item 'item 1': the result of an item cannot lie there: path is not relative and normal: got '../b'; "
        "change /each/output, or rename the item"
    )
    with pytest.raises(InvalidInput, match="it ends in a slash: got 'a/'"):
        check_places(items_at(["a/"]))


def test_many_items_are_checked_in_their_order_and_none_is_kept_twice() -> None:
    check_places(items_at([f"{number % 100}/{number}" for number in range(20_000)]))
    with pytest.raises(InvalidInput, match="items 'item 7' and 'item 20000'"):
        check_places(items_at([*(str(number) for number in range(20_000)), "7"]))
