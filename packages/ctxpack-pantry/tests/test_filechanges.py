"""What differs between two listings turns the first into the second; renamed files are found by their content."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import InvalidInput, TreeEntry, tree_digest
from ctxpack_pantry import filechanges
from ctxpack_pantry.filechanges import ALL, FileChange, FileChanges, FileGroup, merge


def entry(path: str, content: str = "") -> TreeEntry:
    """A file whose digest stands for its content; its size is that of the content."""
    return TreeEntry(path, 0, "") if path.endswith("/") else TreeEntry(path, len(content), f"{content:0>64}")


def listing(tree: dict[str, str]) -> list[TreeEntry]:
    entries = [entry(path, content) for path, content in tree.items()]
    return sorted(entries, key=lambda entry: entry.path.removesuffix("/").split("/"))


def is_tree(tree: dict[str, str]) -> bool:
    try:
        tree_digest(listing(tree))
    except InvalidInput:
        return False
    return True


NAMES = st.sampled_from(["a", "b", "a-", "a.b", "a0", "ü", "\U0001f600", "\ufb33"])
PATHS = st.builds(
    lambda names, slash: "/".join(names) + slash,
    st.lists(NAMES, min_size=1, max_size=3),
    st.sampled_from(["", "", "/"]),
)
TREES = st.dictionaries(PATHS, st.sampled_from(["", "0", "1", "22", "333"]), max_size=8).filter(is_tree) | st.just(
    {"": "1"}
)


@given(TREES, TREES)
def test_the_changes_turn_the_first_listing_into_the_second(old: dict[str, str], new: dict[str, str]) -> None:
    found = merge(listing(old), listing(new), limit=ALL)
    entries = {one.path: one for one in listing(old)}
    after = {one.path: one for one in listing(new)}
    for file in found.removed.files:
        assert entries.pop(file.path).size == file.size
    moved = []
    for file in found.renamed.files:
        assert file.old_path is not None
        before = entries.pop(file.old_path)
        assert before.sha256 == after[file.path].sha256
        assert before.size == file.size > 0
        moved.append(before._replace(path=file.path))
    for file in found.changed.files:
        assert entries[file.path].size == file.old_size
        assert entries[file.path] != after[file.path]
        entries[file.path] = after[file.path]
    for added in [*moved, *(after[file.path] for file in found.added.files)]:
        assert added.path not in entries
        entries[added.path] = added
    assert entries == after
    for group in (found.added, found.removed, found.changed, found.renamed):
        assert (group.number, group.size) == (len(group.files), sum(file.size for file in group.files))
    contents = [
        {one.sha256 for one in listing(tree) if one.size and one.path in {file.path for file in group.files}}
        for tree, group in ((old, found.removed), (new, found.added))
    ]
    assert contents[0].isdisjoint(contents[1])  # nothing that was renamed is left


@given(TREES)
def test_equal_listings_do_not_differ(tree: dict[str, str]) -> None:
    changed_bits = [one._replace(executable=True) for one in listing(tree)]
    assert merge(listing(tree), changed_bits).number == 0


@given(TREES, TREES, st.integers(0, 3))
def test_a_limit_cuts_what_is_shown_and_no_total(old: dict[str, str], new: dict[str, str], limit: int) -> None:
    everything, few = merge(listing(old), listing(new), limit=ALL), merge(listing(old), listing(new), limit=limit)
    for kind in ("added", "removed", "changed", "renamed"):
        whole, part = getattr(everything, kind), getattr(few, kind)
        assert part == whole._replace(files=whole.files[:limit])


def changes(old: dict[str, str], new: dict[str, str]) -> dict[str, list[dict[str, object]]]:
    document = merge(listing(old), listing(new)).as_json()
    return {kind: group["files"] for kind, group in document.items() if kind != "renames_sought" and group["files"]}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": "1"}, {"a": "22"}, {"changed": [{"path": "a", "size": 2, "old_size": 1}]}),
        ({"a": "1"}, {"b": "1"}, {"renamed": [{"path": "b", "size": 1, "old_path": "a"}]}),
        ({"a": ""}, {"b": ""}, {"added": [{"path": "b", "size": 0}], "removed": [{"path": "a", "size": 0}]}),
        ({"a/": ""}, {"a/b": "1"}, {"added": [{"path": "a/b", "size": 1}], "removed": [{"path": "a/", "size": 0}]}),
        ({"a": "1"}, {"a/": ""}, {"added": [{"path": "a/", "size": 0}], "removed": [{"path": "a", "size": 1}]}),
        ({"a": "1"}, {"a/b": "1"}, {"renamed": [{"path": "a/b", "size": 1, "old_path": "a"}]}),
        ({"": "1"}, {"": "22"}, {"changed": [{"path": "", "size": 2, "old_size": 1}]}),
        ({"a/b": "1", "a-": "22"}, {"a/b": "1", "a-": "22"}, {}),
        (
            {"a": "1", "b": "1", "c": "1"},
            {"d": "1"},
            {
                "removed": [{"path": "b", "size": 1}, {"path": "c", "size": 1}],
                "renamed": [{"path": "d", "size": 1, "old_path": "a"}],
            },
        ),
    ],
    ids=[
        "changed",
        "renamed",
        "empty",
        "filled",
        "file to folder",
        "moved below",
        "a root that is a file",
        "order",
        "twice",
    ],
)
def test_what_is_a_change(old: dict[str, str], new: dict[str, str], expected: dict[str, object]) -> None:
    assert changes(old, new) == expected


def test_with_many_files_no_renames_are_sought(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filechanges, "MOST_SOUGHT", 3)

    def files(letter: str, count: int) -> Iterator[TreeEntry]:
        return (entry(f"{letter}{number}", "1") for number in range(count))

    few = merge(files("a", 3), files("b", 3), limit=1)
    assert (few.renamed.number, few.added.number, few.sought) == (3, 0, True)
    many = merge(files("a", 3), files("b", 4), limit=1)
    none = FileGroup(0, 0, ())
    assert many == FileChanges(
        FileGroup(4, 4, (FileChange("b0", 1),)), FileGroup(3, 3, (FileChange("a0", 1),)), none, none, False
    )


def test_memory_does_not_grow_with_the_number_of_files() -> None:
    import tracemalloc

    def files(letter: str) -> Iterator[TreeEntry]:
        return (entry(f"{letter}{number:09}", "1") for number in range(60_000))

    merge(files("a"), files("b"))
    tracemalloc.start()
    merge(files("a"), files("b"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 << 20  # 10,000 entries of each side; all of them would take 35 MB
