"""What a pack says of the files that were hashed: a listing of each root, and the text of a lock file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ctxpack_bundle import read_entries
from ctxpack_identity import Digest, FolderDigest, InvalidInput, TreeEntry, digest_of
from ctxpack_identity.tree import file_digest
from ctxpack_pantry import Pantry, Seeded

if TYPE_CHECKING:
    from pantry_project import Project


@pytest.fixture
def seeded(pantry: Pantry, project: Project) -> Callable[..., Seeded]:
    """Seed the outputs of a transform with this code and environment; other members are the contract's."""

    def seed(*, code: object = None, environment: object = None, **members: Any) -> Seeded:
        transform = {"tool": "cat", "tool_version": "9.1", "code": code or {"path": "ingest.sh"}}
        if environment is not None:
            transform["environment"] = environment
        project.write_contract(transforms=[transform], **members)
        return pantry.seed([], str(project.contract))

    return seed


def listings(seeded: Seeded) -> dict[str, list[str]]:
    """The paths in each listing but that of the outputs."""
    paths = [listing.path for listing in seeded.manifest.listings[1:]]
    return {path: [entry.path for entry in read_entries(seeded.folder, path)] for path in paths if ".jsonl" in path}


def digest_of_listing(folder: str, path: str) -> Digest:
    """The tree digest of the files that a listing names."""
    entries: list[TreeEntry] = list(read_entries(folder, path))
    if [entry.path for entry in entries] == [""]:
        return file_digest(entries[0].sha256, entries[0].size)
    tree = FolderDigest()
    for entry in entries:
        tree.add(entry)
    return tree.finish()


def write(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def test_inputs_code_and_environment_of_every_transform_are_listed(
    pantry: Pantry, project: Project, seeded: Callable[..., Seeded]
) -> None:
    write(project.root, {"src/a.py": "1", "src/deep/b.py": "2", "uv.lock": "locked", "env/x.txt": "x"})
    (project.root / "env" / "none").mkdir()
    transforms = [
        {"tool": "a", "tool_version": "1", "code": {"path": "src"}, "environment": {"path": "uv.lock"}},
        {"tool": "b", "tool_version": "1", "code": {"path": "ingest.sh"}, "environment": {"path": "env"}},
    ]
    project.write_contract(transforms=transforms)
    made = pantry.seed([], str(project.contract))
    assert listings(made) == {
        "code/0.jsonl": ["a.py", "deep/b.py"],
        "code/1.jsonl": [""],
        "environment/0.jsonl": [""],
        "environment/1.jsonl": ["none/", "x.txt"],
        "inputs/raw_docs.jsonl": ["a.txt", "b.txt", "empty/"],
    }
    contract = made.manifest.contract
    for number, transform in enumerate(contract["transforms"]):
        for kind in ("code", "environment"):
            assert digest_of_listing(made.folder, f"{kind}/{number}.jsonl") == transform[f"{kind}_hash"]
    assert digest_of_listing(made.folder, "inputs/raw_docs.jsonl") == contract["inputs"]["raw_docs"]["digest"]


def test_what_patterns_leave_out_is_not_listed(project: Project, seeded: Callable[..., Seeded]) -> None:
    write(project.root, {"src/a.py": "1", "src/notes.txt": "2", "src/__pycache__/a.pyc": "3"})
    (project.root / "src" / "none").mkdir()
    made = seeded(code={"path": "src", "exclude": ["*.txt"]})
    assert listings(made)["code/0.jsonl"] == ["a.py"]


def test_the_line_of_a_single_file_has_no_path(project: Project, seeded: Callable[..., Seeded]) -> None:
    made = seeded(inputs=[{"name": "one", "path": "raw_docs/a.txt"}])
    line = Path(made.folder, "inputs/one.jsonl").read_text()
    assert line == f'{{"mode":"0644","sha256":"{digest_of(b"alpha").removeprefix("sha256:")}","size":5}}\n'


def test_of_an_array_the_names_of_the_roots_come_first(project: Project, seeded: Callable[..., Seeded]) -> None:
    write(project.root, {"src/a.py": "1", "src/deep/b.py": "2", "lib/c.py": "3", "uv.lock": "locked", "none/x": ""})
    (project.root / "none" / "x").unlink()
    code = [{"path": "src", "name": "zoo"}, {"path": "ingest.sh"}, {"path": "lib"}]
    made = seeded(code=code, environment=[{"path": "none"}, {"path": "uv.lock", "name": "lock"}])
    assert listings(made) == {
        "code/0.jsonl": ["ingest.sh", "lib/c.py", "zoo/a.py", "zoo/deep/b.py"],
        "environment/0.jsonl": ["lock", "none/"],
        "inputs/raw_docs.jsonl": ["a.txt", "b.txt", "empty/"],
    }
    transform = made.manifest.contract["transforms"][0]
    assert digest_of_listing(made.folder, "code/0.jsonl") == transform["code_hash"]
    assert digest_of_listing(made.folder, "environment/0.jsonl") == transform["environment_hash"]


@pytest.mark.parametrize(
    ("left_out", "listing"),
    [
        ("input", "inputs/raw_docs.jsonl"),
        ("first root", "code/0.jsonl"),
        ("second root", "code/0.jsonl"),
        ("environment", "environment/0.jsonl"),
    ],
)
def test_a_listing_can_be_left_out_and_the_name_stays(
    pantry: Pantry, project: Project, seeded: Callable[..., Seeded], left_out: str, listing: str
) -> None:
    write(project.root, {"uv.lock": "locked"})

    def seed(left_out: str) -> Seeded:
        def root(what: str, **members: object) -> dict[str, object]:
            return {**members, **({"listing": False} if what == left_out else {})}

        return seeded(
            code=[root("first root", path="ingest.sh"), root("second root", path="raw_docs/a.txt")],
            environment=root("environment", path="uv.lock"),
            inputs=[root("input", name="raw_docs", path="raw_docs")],
        )

    every = seed("nothing")
    before = set(listings(every))
    pantry.remove(every.uri)
    made = seed(left_out)
    assert (made.uri, made.new) == (every.uri, True)
    assert before - set(listings(made)) == {listing}


TEXT = "a==1\nä==2\n\n"


def test_the_text_of_a_lock_file_is_in_the_pack_to_the_byte(project: Project, seeded: Callable[..., Seeded]) -> None:
    (project.root / "uv.lock").write_bytes(TEXT.encode())
    made = seeded(environment={"path": "uv.lock", "text": True})
    assert Path(made.folder, "environment/0.txt").read_bytes() == TEXT.encode()
    [listing] = [listing for listing in made.manifest.listings if listing.path == "environment/0.txt"]
    assert (listing.digest, listing.size) == (digest_of(TEXT.encode()), len(TEXT.encode()))
    assert "environment/0.jsonl" in listings(made)


def test_a_text_has_no_part_in_the_name_and_needs_no_listing(
    pantry: Pantry, project: Project, seeded: Callable[..., Seeded]
) -> None:
    write(project.root, {"uv.lock": TEXT})
    plain = seeded(environment={"path": "uv.lock"})
    pantry.remove(plain.uri)
    made = seeded(environment={"path": "uv.lock", "text": True, "listing": False})
    assert made.uri == plain.uri
    assert [listing.path for listing in made.manifest.listings] == [
        "files.jsonl",
        "code/0.jsonl",
        "environment/0.txt",
        "inputs/raw_docs.jsonl",
    ]


def test_a_text_of_one_mebibyte_is_held(project: Project, seeded: Callable[..., Seeded]) -> None:
    write(project.root, {"uv.lock": "x" * (1 << 20)})
    made = seeded(environment={"path": "uv.lock", "text": True})
    assert Path(made.folder, "environment/0.txt").stat().st_size == 1 << 20


@pytest.mark.parametrize(
    ("content", "message", "code"),
    [
        (
            b"x" * ((1 << 20) + 1),
            "too large for a text that a pack holds: expected at most 1048576 bytes",
            "E_TOO_LARGE",
        ),
        (b"a\xff", '"text" is for a file of UTF-8', "E_TEXT"),
        (None, '"text" is for a single file: got a folder', "E_TEXT"),
    ],
    ids=["too large", "not UTF-8", "folder"],
)
def test_what_is_no_text_is_refused_by_every_verb(
    pantry: Pantry,
    project: Project,
    seeded: Callable[..., Seeded],
    leftovers: Callable[[], list[str]],
    content: bytes | None,
    message: str,
    code: str,
) -> None:
    lock = project.root / "uv.lock"
    if content is None:
        lock.mkdir()
    else:
        lock.write_bytes(content)
    with pytest.raises(InvalidInput, match=message) as caught:
        seeded(environment={"path": "uv.lock", "text": True})
    assert caught.value.code == code
    for verb in (pantry.resolve, pantry.run):
        with pytest.raises(InvalidInput, match=message):
            verb(str(project.contract))
    assert pantry.list_packs().packs == ()
    assert leftovers() == []


def test_a_pack_as_an_input_is_listed_unless_it_shall_not_be(
    pantry: Pantry, project: Project, seeded: Callable[..., Seeded]
) -> None:
    upstream = pantry.seed([], str(project.contract))
    inputs = [
        {"name": "listed", "uri": upstream.uri},
        {"name": "silent", "uri": upstream.uri, "listing": False},
    ]
    made = seeded(inputs=inputs, outputs=[{"path": "raw_docs"}])
    assert listings(made) == {
        "code/0.jsonl": [""],
        "inputs/listed.jsonl": ["deep/empty/", "joined", "manifest.json", "tool"],
    }
    contract = made.manifest.contract
    assert digest_of_listing(made.folder, "inputs/listed.jsonl") == contract["inputs"]["silent"]["digest"]


def test_a_pack_with_all_listings_can_be_pushed_and_pulled(
    pantry: Pantry, open_pantry: Callable[..., Pantry], project: Project, seeded: Callable[..., Seeded]
) -> None:
    write(project.root, {"src/a.py": "1", "uv.lock": TEXT})
    made = seeded(code=[{"path": "src"}], environment={"path": "uv.lock", "text": True})
    pantry.push(made.uri)
    pulled = Path(open_pantry("elsewhere").pull(made.uri).folder).parent
    assert (pulled / "environment/0.txt").read_text() == TEXT
    for listing in made.manifest.listings:
        assert (pulled / listing.path).read_bytes() == Path(made.folder, listing.path).read_bytes()
