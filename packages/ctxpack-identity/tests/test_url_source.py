"""A tree in a store has the digest that it has on disk, and is read no more often than necessary."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_store import MemoryStore

from ctxpack_identity import (
    Hashing,
    InvalidInput,
    LocalFailure,
    Resolution,
    Tree,
    TreeEntry,
    hash_tree,
    parse_contract_file,
    resolve,
)
from ctxpack_identity.exclude import compile_excludes
from ctxpack_identity.hashing.statcache import StatCache
from ctxpack_identity.hashing.urls import source
from ctxpack_identity.hashing.urls.store import READ_SIZE
from ctxpack_identity.hashing.workers import STREAMS

TREE = {
    "a/b": b"x",
    "a-b": b"",
    "a.b": b"2",
    "a0": b"3",
    "c": b"y" * (READ_SIZE + 1),
    "z/y/x": b"deep",
    "z/ü/é": b"4",
    "z/ü/e\u0301": b"5",
    ".DS_Store": b"junk",
    "what?/#1 %20": b"6",
}


def write_tree(folder: Path, tree: dict[str, bytes]) -> str:
    for path, data in tree.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return str(folder)


def put(store: MemoryStore, tree: dict[str, bytes], root: str = "b/docs") -> str:
    store.objects.update({f"{root}/{path}": data for path, data in tree.items()})
    return f"store://{root}"


def entries(root: str, **options: Any) -> tuple[Tree, list[TreeEntry]]:
    found: list[TreeEntry] = []
    return hash_tree(root, on_entry=found.append, **options), found


def test_a_folder_and_its_copy_on_disk_are_one_tree(store: MemoryStore, tmp_path: Path) -> None:
    url = put(store, TREE)
    assert entries(url) == entries(write_tree(tmp_path / "root", TREE))
    assert entries(url + "/") == entries(url)


def test_an_object_and_its_copy_on_disk_are_one_tree(store: MemoryStore, tmp_path: Path) -> None:
    url, local = put(store, TREE), write_tree(tmp_path / "root", TREE)
    for path in TREE:
        if "?" not in path:
            assert entries(f"{url}/{path}") == entries(f"{local}/{path}")


names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=4)
paths = st.lists(
    names.filter(lambda name: name not in (".", "..") and len(name.encode()) < 200), min_size=1, max_size=4
)


@st.composite
def trees(draw: st.DrawFn) -> dict[str, bytes]:
    """Files with content; no file where another one has a folder."""
    found: dict[str, bytes] = {}
    for parts, data in draw(st.lists(st.tuples(paths, st.binary(max_size=9)), min_size=1, max_size=9)):
        path = "/".join(parts)
        above = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
        if path not in found and found.keys().isdisjoint(above) and not any(f.startswith(f"{path}/") for f in found):
            found[path] = data
    return found


@given(trees())
def test_any_tree_has_the_same_digest_in_a_store_and_on_disk(
    stores: dict[str, MemoryStore], tree: dict[str, bytes]
) -> None:
    stores[""] = MemoryStore()
    with tempfile.TemporaryDirectory() as folder:
        assert entries(put(stores[""], tree)) == entries(write_tree(Path(folder), tree))


@given(trees())
def test_any_tree_has_the_same_digest_in_the_memory_store_of_fsspec(tree: dict[str, bytes]) -> None:
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for path, data in tree.items():
        memory.store[f"/docs/{path}"] = memory_file(memory, path, data)
    with tempfile.TemporaryDirectory() as folder:
        assert hash_tree("memory://docs") == hash_tree(write_tree(Path(folder), tree))
    memory.store.clear()


def memory_file(memory: Any, path: str, data: bytes) -> Any:
    from fsspec.implementations.memory import MemoryFile

    return MemoryFile(memory, path, data)


@pytest.mark.parametrize("patterns", [["a/"], ["*.b", "!a.b"], ["z/*", "!z/y"], ["/c", "ü/"], ["*"]])
def test_patterns_leave_out_the_same_in_a_store_and_on_disk(
    store: MemoryStore, tmp_path: Path, patterns: list[str]
) -> None:
    excludes = compile_excludes(patterns)
    local = write_tree(tmp_path / "root", TREE)
    assert entries(put(store, TREE), excludes=excludes) == entries(local, excludes=excludes)


def test_excluded_objects_are_not_requested(store: MemoryStore) -> None:
    url = put(store, {"in": b"1", "out/er": b"2", "out/in/ner": b"3"})
    hash_tree(url, excludes=compile_excludes(["out/"]))
    assert [path for what, path in store.asked if what == "list"] == ["b/docs"]
    assert store.read() == ["b/docs/in"]


def test_an_object_that_marks_a_folder_is_that_folder(store: MemoryStore, tmp_path: Path) -> None:
    def mark(folder: str) -> None:
        store.entries[folder] = [{"name": f"{folder}/", "size": 0, "type": "file", "ETag": '"d4"'}]

    url = put(store, {"full/a": b"1"})
    mark("b/docs")
    mark("b/docs/full")
    mark("b/docs/empty")
    store.entries["b/docs"] += [{"name": "b/docs/empty/", "size": 0, "type": "directory"}]
    local = write_tree(tmp_path / "root", {"full/a": b"1"})
    (tmp_path / "root" / "empty").mkdir()
    assert entries(url) == entries(local)
    mark("b/nothing")
    (tmp_path / "nothing").mkdir()
    assert entries("store://b/nothing") == entries(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ({"name": "b/docs/.."}, "store://b/docs/..: no file can have this name: got '..'; rename or exclude it"),
        ({"name": "b/docs/."}, "store://b/docs/.: no file can have this name: got '.'; rename or exclude it"),
        ({"name": "b/docs/a\0"}, "no file can have this name: got 'a\\x00'"),
        ({"name": "b/docs/x/y"}, "store://b/docs/x/y: no file can have this name: got 'x/y'"),
        ({"name": "b/docs/x/"}, "no file can have this name: got 'x/'"),
        ({"name": "b/docs/\udcff"}, "name is not Unicode text: got '\\udcff'"),
        ({"name": "b/docs/", "type": "directory"}, "the store has an entry without a name here: got 'b/docs/'"),
        ({"name": "b/docs", "type": "directory"}, "the store has an entry without a name here: got 'b/docs'"),
        ({"name": "b/docs/"}, "an entry without a name here: got 'b/docs/'; rename what has two slashes in a row"),
        ({"name": "elsewhere/a"}, "the store has an entry without a name here: got 'elsewhere/a'"),
        ({"name": "b/docs"}, "store://b/docs: no such object or folder"),
        ({"name": "b/docs/a"}, "store://b/docs: an object and a folder have the same name, or two objects: got 'a'"),
        (
            {"name": "b/docs/a", "type": "directory"},
            "store://b/docs: an object and a folder have the same name, or two objects: got 'a'; rename or exclude",
        ),
        ({"name": "b/docs/l", "type": "link"}, "store://b/docs/l: neither object nor folder: got link; remove or"),
        ({"name": "b/docs/l", "islink": True}, "store://b/docs/l: neither object nor folder: got link"),
        ({"name": "b/docs/l", "type": "other"}, "neither object nor folder: got other"),
        ({"name": "b/docs/s", "size": None}, "store://b/docs/s: the store does not say how large it is; download it"),
    ],
)
def test_entries_that_no_disk_could_hold_are_refused(store: MemoryStore, listed: dict[str, Any], message: str) -> None:
    url = put(store, {"a": b"1"})
    store.entries["b/docs"] = [{"size": 1, "type": "file", **listed}]
    with pytest.raises(InvalidInput, match=re.escape(message)):
        hash_tree(url)


class Name(str):
    """A text that counts comparisons."""

    __hash__ = str.__hash__
    compared = 0

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return super().__eq__(other)


def test_a_name_that_comes_twice_is_found_without_comparing_all_with_all() -> None:
    names: list[str] = [Name(number) for number in (*range(1000), 999)]
    with pytest.raises(InvalidInput, match="two objects: got '999'"):
        source._require_unique(names, "store://b")
    assert 0 < Name.compared < 10 * len(names)


def test_entries_that_no_disk_could_hold_can_be_excluded(store: MemoryStore, tmp_path: Path) -> None:
    url = put(store, {"a": b"1"})
    store.entries["b/docs"] = [{"name": f"b/docs/{name}", "size": 1, "type": "file"} for name in ("..", "\udcff", "x")]
    store.entries["b/docs"] += [{"name": "b/docs/l", "size": 1, "type": "link"}]
    excludes = compile_excludes(["*", "!a"])
    assert hash_tree(url, excludes=excludes) == hash_tree(write_tree(tmp_path / "root", {"a": b"1"}))


def test_several_objects_are_streamed_at_the_same_time(store: MemoryStore) -> None:
    together = threading.Barrier(STREAMS, timeout=20)
    data = b"x" * (2 * READ_SIZE + 5)

    def wait(what: str, path: str) -> None:
        if what == "open":
            together.wait()  # fails the read unless STREAMS objects are open at the same time

    store.before_answer = wait
    url = put(store, {str(number): data for number in range(STREAMS)})
    assert hash_tree(url).size == STREAMS * len(data)
    assert max(store.sizes) == READ_SIZE


def test_each_folder_is_listed_once(store: MemoryStore, tmp_path: Path) -> None:
    tree = {f"{a}/{b}/{c}": b"1" for a in range(9) for b in range(3) for c in range(2)}
    assert hash_tree(put(store, tree)) == hash_tree(write_tree(tmp_path / "root", tree))
    listed = [path for what, path in store.asked if what == "list"]
    assert len(listed) == len(set(listed)) == 1 + 9 + 27


def test_every_executor_gives_the_same_tree(store: MemoryStore, tmp_path: Path, executor: Executor | None) -> None:
    assert entries(put(store, TREE), hashing=Hashing(executor=executor)) == entries(write_tree(tmp_path / "root", TREE))


def test_progress_counts_every_byte_once(store: MemoryStore) -> None:
    seen: list[int] = []
    tree = hash_tree(put(store, TREE), hashing=Hashing(progress=lambda stage, advanced, total: seen.append(advanced)))
    assert sum(seen) == tree.size


# ---- changes


def when(asked: str, path: str, then: Callable[[], object]) -> Callable[[str, str], None]:
    """Return a before_answer that calls then once, at this request."""
    done: list[str] = []

    def act(what: str, where: str) -> None:
        if (what, where) == (asked, path) and not done:
            done.append(what)
            then()

    return act


@pytest.mark.parametrize("etags", [True, False])
@pytest.mark.parametrize(
    ("moment", "becomes", "message"),
    [
        ("open", b"longer", "expected 3 bytes, got "),
        ("open", b"s", "expected 3 bytes, got 1"),
        ("read", b"longer", "expected 3 bytes, got 6"),
        ("open", None, "store://b/docs/a: changed while it was read; try again when nothing writes to it"),
        ("read", None, "store://b/docs/a: changed while it was read; try again when nothing writes to it"),
    ],
)
def test_an_object_that_changes_while_it_is_read_is_an_error(
    store: MemoryStore, moment: str, becomes: bytes | None, message: str, etags: bool
) -> None:
    if not etags:
        store.etag = lambda data: ""
    url = put(store, {"a": b"old"})

    def change() -> None:
        del store.objects["b/docs/a"]
        store.objects.update({"b/docs/a": becomes} if becomes is not None else {"b/docs/other": b""})

    store.before_answer = when(moment, "b/docs/a", change)
    with pytest.raises(InvalidInput, match="changed while it was read") as caught:
        hash_tree(url)
    assert message in str(caught.value)
    assert caught.value.code == "E_INPUT_CHANGED"


def test_a_change_without_a_change_of_size_is_found_by_the_etag(store: MemoryStore) -> None:
    url = put(store, {"a": b"old"})
    store.before_answer = when("open", "b/docs/a", lambda: store.objects.update({"b/docs/a": b"new"}))
    with pytest.raises(
        InvalidInput, match=r'changed while it was read: expected etag "149603e\w+", got etag "22af645d'
    ):
        hash_tree(url)


def test_a_folder_that_became_an_object_is_missing(store: MemoryStore) -> None:
    url = put(store, {"d/a": b"1", "e": b"2"})

    def replace() -> None:
        del store.objects["b/docs/d/a"]
        store.objects["b/docs/d"] = b""

    store.before_answer = when("list", "b/docs/d", replace)
    with pytest.raises(InvalidInput, match="store://b/docs/d: no such object or folder"):
        hash_tree(url)


# ---- what is remembered


@pytest.fixture
def index(tmp_path: Path) -> str:
    return str(tmp_path / "cache" / "index.db")


def read(store: MemoryStore, url: str, index: str, **options: Any) -> list[str]:
    """Hash url with the index, which must not change the result; return the objects that were read."""
    known = StatCache(index, **options)
    store.asked.clear()
    try:
        tree = hash_tree(url, hashing=Hashing(known=known))
    finally:
        known.close()
    found = store.read()
    assert tree == hash_tree(url)
    return found


EVERY = sorted(f"b/docs/{path}" for path in TREE)


def test_unchanged_objects_are_not_read_again(store: MemoryStore, index: str) -> None:
    url = put(store, TREE)
    assert read(store, url, index) == EVERY
    assert read(store, url, index) == []
    assert read(store, f"{url}/z", index) == []
    assert read(store, f"{url}/a0", index) == ["b/docs/a0"]
    assert read(store, f"{url}/a0", index) == []
    assert read(store, url, index, rehash=True) == EVERY


def test_only_changed_objects_are_read_again(store: MemoryStore, index: str) -> None:
    url = put(store, TREE)
    read(store, url, index)
    store.objects["b/docs/a0"] = b"9"  # the same size
    store.objects["b/docs/z/new"] = b"n"
    del store.objects["b/docs/c"]
    assert read(store, url, index) == ["b/docs/a0", "b/docs/z/new"]
    assert read(store, url, index) == []


@pytest.mark.parametrize("etag", ["", 'W/"1"', "null"])
def test_without_a_version_nothing_is_remembered(store: MemoryStore, index: str, etag: str) -> None:
    store.etag = lambda data: etag
    url = put(store, TREE)
    assert read(store, url, index) == EVERY
    assert read(store, url, index) == EVERY


def test_two_stores_with_one_name_do_not_share(
    store: MemoryStore, index: str, monkeypatch: pytest.MonkeyPatch, another_store: MemoryStore
) -> None:
    store.etag = another_store.etag = lambda data: '"1"'
    url = put(store, {"a": b"old"})
    put(another_store, {"a": b"new"})
    assert read(store, url, index) == ["b/docs/a"]
    with monkeypatch.context() as patch:
        patch.setitem(fsspec.config.conf, "store", {"endpoint": "another"})
        assert read(another_store, url, index) == ["b/docs/a"]
        assert read(another_store, url, index) == []
    assert read(store, url, index) == []
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert read(store, url, index) == ["b/docs/a"]


def test_a_damaged_record_is_ignored(store: MemoryStore, index: str) -> None:
    import sqlite3

    url = put(store, TREE)
    read(store, url, index)
    with sqlite3.connect(index) as database:
        database.execute("UPDATE folders SET digests = replace(digests, substr(digests, 1, 2), '00')")
    database.close()
    assert read(store, url, index) == EVERY


def test_the_index_holds_no_url(store: MemoryStore, index: str) -> None:
    read(store, put(store, {"a": b"1"}, "secret-key@b/docs"), index)
    assert b"secret-key" not in b"".join(path.read_bytes() for path in Path(index).parent.iterdir())


# ---- contracts


def contract(inputs: list[dict[str, Any]], **members: Any) -> str:
    step = {"tool": "t", "tool_version": "1", "code_hash": "opaque", **members}
    return json.dumps({"inputs": inputs, "transforms": [step]})


def test_the_uri_does_not_depend_on_where_the_bytes_come_from(store: MemoryStore, tmp_path: Path) -> None:
    url = put(store, TREE)
    write_tree(tmp_path / "root", TREE)
    by_url = contract([{"name": "i", "path": url, "exclude": ["z"]}], environment={"path": f"{url}/a0"})
    local = contract([{"name": "i", "path": "root", "exclude": ["z"]}], environment={"path": "root/a0"})
    one, other = (resolve(parse_contract_file(text), str(tmp_path)) for text in (by_url, local))
    assert (one.uri, one.canonical, one.inputs) == (other.uri, other.canonical, other.inputs)


def test_code_may_lie_in_a_store(store: MemoryStore, tmp_path: Path) -> None:
    tree = {"run.py": b"run", "lib/lib.py": b"lib", "lib/__pycache__/lib.pyc": b"x", ".git/HEAD": b"ref"}
    url = put(store, tree)
    store.objects["b/docs/deep/empty/"] = b""
    write_tree(tmp_path / "src", tree)
    (tmp_path / "src" / "deep" / "empty").mkdir(parents=True)

    def code(value: Any) -> Resolution:
        step = {"tool": "t", "tool_version": "1", "code": value}
        return resolve(parse_contract_file(json.dumps({"inputs": [], "transforms": [step]})), str(tmp_path))

    assert code({"path": url}).uri == code({"path": "src"}).uri
    named = [{"path": url, "name": "a"}, {"path": f"{url}/run.py", "name": "b"}]
    array = code(named)
    assert array.uri == code([{"path": "src", "name": "a"}, {"path": "src/run.py", "name": "b"}]).uri
    assert [(root.location, root.is_url) for root in array.hashed] == [(url, True), (f"{url}/run.py", True)]


def test_an_output_may_have_the_path_that_a_url_has(store: MemoryStore, tmp_path: Path) -> None:
    url = put(store, {"a": b"x"})
    text = json.loads(contract([{"name": "i", "path": url}])) | {"outputs": [{"path": f"./{url}"}]}
    resolve(parse_contract_file(json.dumps(text)), str(tmp_path))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("file:///etc/passwd", "a path on this machine; give the path itself, without the scheme"),
        ("local://x", "a path on this machine; give the path itself, without the scheme"),
        ("FILE://x", "a path on this machine"),
        ("ctx://sha256:" + "1" * 64, 'the URI of a pack; give it as "uri"'),
        ("zip://a::store://b/c.zip", "a chain of URLs; give the URL of the files themselves"),
        ("s3://", "a URL that names nothing; say which bucket, host or repository"),
    ],
)
def test_urls_that_cannot_be_read_are_refused_in_contracts_and_by_hash_tree(path: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)) as caught:
        parse_contract_file(contract([{"name": "i", "path": path}]))
    assert caught.value.code == "E_SCHEME"
    with pytest.raises(InvalidInput, match=re.escape(message)) as caught:
        hash_tree(path)
    assert caught.value.code == "E_SCHEME"


def test_symlinks_of_a_url_and_outputs_that_are_urls_are_refused() -> None:
    with pytest.raises(InvalidInput, match="/inputs/0/symlinks: expected a path on this machine, got a URL; remove it"):
        parse_contract_file(contract([{"name": "i", "path": "s3://b/k", "symlinks": "follow"}]))
    text = json.loads(contract([])) | {"outputs": [{"path": "s3://b/k"}]}
    with pytest.raises(InvalidInput, match='/outputs/0/path: expected a path on this machine, got "s3://b/k"'):
        parse_contract_file(json.dumps(text))


def test_a_folder_may_have_the_name_of_a_scheme(tmp_path: Path) -> None:
    (tmp_path / "s3:").mkdir()
    (tmp_path / "s3:" / "b").write_bytes(b"local")
    text = contract([{"name": "i", "path": "./s3://b"}])
    assert (
        resolve(parse_contract_file(text), str(tmp_path)).inputs[0].digest == hash_tree(str(tmp_path / "s3:/b")).digest
    )


@pytest.mark.parametrize("url", ["nobody://b/k", "store+x://b/k"])
def test_an_unknown_scheme_is_in_the_error(url: str) -> None:
    scheme = url.partition("://")[0]
    with pytest.raises(InvalidInput) as caught:
        hash_tree(url)
    assert str(caught.value) == (
        f"{url}: nothing opens {scheme}:// URLs; check the scheme; a folder of that name is ./{scheme}:"
    )


def test_without_fsspec_the_error_says_what_to_install(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['fsspec'] = None\n"
        "from ctxpack_identity import LocalFailure, hash_tree\n"
        "try: hash_tree('s3://b/k')\n"
        "except LocalFailure as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (
        "s3://b/k: fsspec, which opens URLs, is not installed; pip install 'ctxpack-identity[urls]', and the package "
        "of the store, such as s3fs for s3://\n",
        "",
    )


def test_without_the_store_s_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(LocalFailure, match=r"gs://b/k: what opens such a URL is not installed; pip install 'ctxpack-"):
        hash_tree("gs://b/k")


def test_hashing_a_local_tree_loads_neither_fsspec_nor_threads(tmp_path: Path) -> None:
    script = "import sys; from ctxpack_identity import hash_tree; hash_tree('.'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True)
    loaded = set(done.stdout.split())
    unwanted = ("hashing.threads", "hashing.urls")
    assert loaded.isdisjoint({"fsspec", "threading"} | {f"ctxpack_identity.{name}" for name in unwanted})


def test_nothing_is_copied_to_this_machine(store: MemoryStore) -> None:
    url = put(store, TREE)
    hash_tree(url)  # so that imports write no more files
    written: list[str] = []

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            written.append(str(arguments[0]))

    sys.addaudithook(note)  # cannot be removed; it has no other effect
    hash_tree(url)
    assert written == []
