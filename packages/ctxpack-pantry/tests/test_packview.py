"""What a pack says of itself is the same from the cache and from the registry, and compared with its contract."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pantry_context import context_of
from pantry_project import Project

from ctxpack_identity import CtxUri, IntegrityError, TreeEntry
from ctxpack_pantry import Pantry
from ctxpack_pantry.packview import PackView

ROOTS = ("files", "inputs/raw_docs", "code/0")


def view(pantry: Pantry, uri: CtxUri) -> PackView:
    return PackView(context_of(pantry.cache, pantry.target), uri)


def listings(pack: PackView) -> dict[str, list[TreeEntry] | None]:
    found = {root: pack.listing(root) for root in ROOTS}
    return {root: None if entries is None else list(entries) for root, entries in found.items()}


@pytest.fixture
def uri(open_pantry: Callable[..., Pantry], project: Project) -> CtxUri:
    """A pack in the cache of "maker" and in the registry."""
    maker = open_pantry("maker")
    uri = maker.seed([], str(project.contract)).uri
    maker.push(uri)
    return uri


def test_cache_and_registry_say_the_same(open_pantry: Callable[..., Pantry], uri: CtxUri) -> None:
    with view(open_pantry("maker"), uri) as cached, view(open_pantry("other"), uri) as remote:
        assert (cached.cached, remote.cached) == (True, False)
        assert cached.manifest == remote.manifest
        assert remote.found_in == open_pantry("other").target.name
        found = listings(cached)
        assert found == listings(remote)
        assert [entry.path for entry in found["inputs/raw_docs"] or ()] == ["a.txt", "b.txt", "empty/"]
        [script] = found["code/0"] or [TreeEntry("?", 0, "")]
        assert script.path == ""  # a single file
        assert "joined" in [entry.path for entry in found["files"] or ()]
        assert cached.listing("inputs/nothing") is remote.listing("inputs/nothing") is None
        assert cached.text("environment/0") is remote.text("environment/0") is None


def test_text_of_a_lock_file(open_pantry: Callable[..., Pantry], project: Project) -> None:
    lock = project.root / "uv.lock"
    lock.write_text("one\n")
    maker = open_pantry("maker")
    environment = {"path": "uv.lock", "text": True}
    transform = {"tool": "t", "tool_version": "1", "code": {"path": "ingest.sh"}, "environment": environment}
    project.write_contract(transforms=[transform])
    uri = maker.seed([], str(project.contract)).uri
    maker.push(uri)
    with view(maker, uri) as cached, view(open_pantry("other"), uri) as remote:
        assert cached.text("environment/0") == remote.text("environment/0") == b"one\n"


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [TreeEntry("a.txt", 5, "0" * 64), TreeEntry("b.txt", 4, "1" * 64)],
        [TreeEntry("", 5, "0" * 64), TreeEntry("b.txt", 4, "1" * 64)],
        [TreeEntry("b.txt", 5, "0" * 64), TreeEntry("a.txt", 4, "1" * 64)],
        [TreeEntry("../a.txt", 5, "0" * 64)],
    ],
    ids=["none", "other files", "an entry without a path", "out of order", "unsafe"],
)
def test_a_listing_that_is_not_the_contracts_is_refused(
    open_pantry: Callable[..., Pantry], uri: CtxUri, lines: list[TreeEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctxpack_pantry.packview.read_entries", lambda *given: iter(lines))
    with view(open_pantry("maker"), uri) as pack:
        entries = pack.listing("inputs/raw_docs")
        assert entries is not None
        with pytest.raises(IntegrityError):
            list(entries)
