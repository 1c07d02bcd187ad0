"""An OCI image layout as a Target: what it writes, what it refuses, and several writers at once."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ctxpack_identity.errors import IntegrityError, InvalidInput, LocalFailure, NotFound
from ctxpack_oci import IMAGE_MANIFEST_MEDIA_TYPE, Descriptor, ImageManifest, Layout, describe, encode_image_manifest
from ctxpack_oci.disk import Disk

CHUNK = b"chunk " * 1000
LAYER = describe(CHUNK, "application/vnd.ctxpack.chunk.v1.tar+gzip")
CONFIG = describe(b"{}", "application/vnd.ctxpack.contract.v1+json")
DATA = encode_image_manifest(ImageManifest(config=CONFIG, layers=(LAYER,)))
ROOT = describe(DATA, IMAGE_MANIFEST_MEDIA_TYPE)
REF_NAME = "org.opencontainers.image.ref.name"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "some" / "packs"


@pytest.fixture
def layout(folder: Path) -> Layout:
    return Layout(folder)


def push_all(layout: Layout) -> None:
    layout.push(LAYER, CHUNK)
    layout.push(CONFIG, b"{}")
    layout.push(ROOT, DATA)
    layout.tag(ROOT, "one")


def blob(folder: Path, descriptor: Descriptor) -> Path:
    return folder / "blobs" / "sha256" / descriptor.digest.removeprefix("sha256:")


def test_a_layout_that_does_not_exist_is_empty(layout: Layout, folder: Path) -> None:
    assert layout.fetch_tag("one") is None
    assert layout.exists(LAYER) is False
    assert list(layout.tags()) == []
    with pytest.raises(NotFound, match=f"^blob {LAYER.digest[:19]} of oci:{folder}: is not there$"):
        layout.fetch(LAYER)
    assert not folder.exists()


def test_what_was_pushed_and_tagged_is_fetched(layout: Layout, folder: Path) -> None:
    push_all(layout)
    for reader in (layout, Layout(folder)):
        assert reader.fetch_tag("one") == (ROOT, DATA)
        assert reader.fetch_tag("two") is None
        assert reader.fetch(ROOT) == DATA
        assert reader.fetch(LAYER) == CHUNK
        assert reader.exists(LAYER)
        assert list(reader.tags()) == ["one"]
    assert not layout.exists(describe(b"never pushed", "a/b"))


def test_the_files_are_those_of_the_image_spec(layout: Layout, folder: Path) -> None:
    push_all(layout)
    assert (folder / "oci-layout").read_bytes() == b'{"imageLayoutVersion":"1.0.0"}'
    assert json.loads((folder / "index.json").read_bytes()) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {
                "mediaType": IMAGE_MANIFEST_MEDIA_TYPE,
                "digest": ROOT.digest,
                "size": len(DATA),
                "annotations": {REF_NAME: "one"},
            }
        ],
    }
    assert blob(folder, LAYER).read_bytes() == CHUNK
    assert {entry.name for entry in (folder / "blobs" / "sha256").iterdir()} == {
        each.digest.removeprefix("sha256:") for each in (LAYER, CONFIG, ROOT)
    }
    assert list((folder / "ingest").iterdir()) == []


def test_blobs_are_not_writable(layout: Layout, folder: Path) -> None:
    push_all(layout)
    assert blob(folder, LAYER).stat().st_mode & 0o222 == 0


def test_a_tag_can_be_moved(layout: Layout) -> None:
    push_all(layout)
    data = encode_image_manifest(ImageManifest(config=CONFIG, layers=()))
    other = describe(data, IMAGE_MANIFEST_MEDIA_TYPE)
    layout.push(other, data)
    layout.tag(other, "one")
    layout.tag(ROOT, "two")
    assert layout.fetch_tag("one") == (other, data)
    assert layout.fetch_tag("two") == (ROOT, DATA)
    assert list(layout.tags()) == ["one", "two"]


def test_a_tag_needs_its_manifest(layout: Layout) -> None:
    with pytest.raises(NotFound, match="manifest is not there; run ctxpack push again"):
        layout.tag(ROOT, "one")


def test_annotations_and_artifact_type_of_a_tag_are_kept(layout: Layout) -> None:
    root = Descriptor(
        media_type=IMAGE_MANIFEST_MEDIA_TYPE,
        digest=ROOT.digest,
        size=ROOT.size,
        annotations={"a": "b"},
        artifact_type="c/d",
    )
    push_all(layout)
    layout.push(root, DATA)
    layout.tag(root, "one")
    assert layout.fetch_tag("one") == (root, DATA)


def test_a_manifest_is_accepted_only_when_all_that_it_names_is_there(layout: Layout) -> None:
    for missing in (CONFIG, LAYER):
        with pytest.raises(NotFound, match=f"{missing.digest} is not there; run ctxpack push again"):
            layout.push(ROOT, DATA)
        layout.push(missing, b"{}" if missing is CONFIG else CHUNK)
    layout.push(ROOT, DATA)
    assert layout.fetch(ROOT) == DATA


def test_entries_and_members_of_other_tools_are_kept(layout: Layout, folder: Path) -> None:
    push_all(layout)
    foreign = {"mediaType": "a/b", "digest": "sha512:" + "0" * 128, "size": 1, "platform": {"os": "linux"}}
    index = json.loads((folder / "index.json").read_bytes())
    index["manifests"].append(foreign)
    index["annotations"] = {"made": "elsewhere"}
    (folder / "index.json").write_text(json.dumps(index))
    layout.tag(ROOT, "two")
    after = json.loads((folder / "index.json").read_bytes())
    assert foreign in after["manifests"]
    assert after["annotations"] == {"made": "elsewhere"}
    assert list(layout.tags()) == ["one", "two"]


def test_pushing_again_repairs_a_blob(layout: Layout, folder: Path) -> None:
    push_all(layout)
    blob(folder, LAYER).unlink()
    blob(folder, LAYER).write_bytes(CHUNK[:10])
    assert not layout.exists(LAYER)
    layout.push(LAYER, CHUNK)
    assert layout.fetch(LAYER) == CHUNK


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (b"X" + CHUNK[1:], "digest differs"),
        (CHUNK[:-1], "size differs: expected 6000 bytes, got 5999"),
        (CHUNK + b"more than one byte", "size differs: expected 6000 bytes, got 6018"),
    ],
)
def test_a_damaged_blob_is_refused(layout: Layout, folder: Path, damaged: bytes, message: str) -> None:
    push_all(layout)
    blob(folder, LAYER).unlink()
    blob(folder, LAYER).write_bytes(damaged)
    with pytest.raises(IntegrityError, match=message):
        layout.fetch(LAYER)


def test_data_that_differs_from_its_descriptor_is_not_written(layout: Layout, folder: Path) -> None:
    with pytest.raises(IntegrityError, match="size differs"):
        layout.push(LAYER, b"other")
    assert not folder.exists()


def test_content_with_too_large_a_size_in_its_descriptor_is_not_read(layout: Layout) -> None:
    with pytest.raises(IntegrityError, match="too large: expected at most 33554432 bytes"):
        layout.fetch(Descriptor(media_type="a/b", digest=LAYER.digest, size=2**62))


@pytest.mark.parametrize("hostile", ["sha256:../../x", "sha256:" + "A" * 64])
def test_a_digest_is_checked_before_its_use_in_a_path(layout: Layout, hostile: str) -> None:
    with pytest.raises(InvalidInput, match="not a digest"):
        layout.exists(Descriptor(media_type="a/b", digest=hostile, size=1))  # type: ignore[arg-type]


def test_a_fifo_instead_of_a_blob_does_not_block(layout: Layout, folder: Path) -> None:
    push_all(layout)
    blob(folder, LAYER).unlink()
    os.mkfifo(blob(folder, LAYER))
    assert not layout.exists(LAYER)
    with pytest.raises(IntegrityError, match="not a regular file"):
        layout.fetch(LAYER)


# -- malformed layouts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("oci-layout", None, "no oci-layout file beside index.json"),
        ("oci-layout", b"{", "oci-layout: malformed: "),
        ("oci-layout", b"{}", "imageLayoutVersion: unknown version: expected 1.0.0, got None"),
        ("oci-layout", b'{"imageLayoutVersion":"2.0.0"}', "unknown version: expected 1.0.0, got 2.0.0"),
        ("oci-layout", b" " * 5000, "oci-layout: malformed: more than 4096 bytes"),
        ("index.json", b"", "index.json: malformed: "),
        ("index.json", b"[]", "index.json: malformed: Expected `object`, got `array`"),
        ("index.json", b"{}", "index.json manifests: malformed: expected a list of descriptors"),
        ("index.json", b'{"manifests":[1]}', "index.json manifests: malformed: expected a list of descriptors"),
        ("index.json", b"\xff\xfe", "index.json: malformed: "),
    ],
)
def test_a_malformed_layout_is_refused_and_not_changed(
    layout: Layout, folder: Path, name: str, content: bytes | None, message: str
) -> None:
    push_all(layout)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    before = {path: path.read_bytes() for path in folder.glob("*.json")}
    for use in (lambda: layout.fetch_tag("one"), lambda: list(layout.tags()), lambda: layout.tag(ROOT, "two")):
        with pytest.raises(IntegrityError, match=message):
            use()
    assert {path: path.read_bytes() for path in folder.glob("*.json")} == before


def entry(**members: object) -> dict[str, object]:
    base = {
        "mediaType": IMAGE_MANIFEST_MEDIA_TYPE,
        "digest": ROOT.digest,
        "size": ROOT.size,
        "annotations": {REF_NAME: "one"},
    }
    return base | members


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([entry(digest="sha256:../../../etc/passwd")], r"malformed entry of index.json: .*digest"),
        ([entry(size=-1)], "malformed entry of index.json"),
        ([entry(mediaType=7)], "malformed entry of index.json"),
        (
            [entry(), entry(digest="sha256:" + "0" * 64)],
            "^tag one of .*: the tag is in index.json more than once",
        ),
    ],
)
def test_a_malformed_tag_is_refused(layout: Layout, folder: Path, entries: list[object], message: str) -> None:
    push_all(layout)
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    fix = "(this folder is no intact OCI image layout; name another|`ctxpack push --repair URI` heals it)"
    with pytest.raises(IntegrityError, match=f"{message}.*; {fix}"):
        layout.fetch_tag("one")
    assert layout.fetch_tag("other") is None


@pytest.mark.parametrize("damaged", [b"X" + DATA[1:], DATA[:-1], DATA + b" "])
def test_a_tag_whose_manifest_is_damaged_is_refused(layout: Layout, folder: Path, damaged: bytes) -> None:
    push_all(layout)
    blob(folder, ROOT).unlink()
    blob(folder, ROOT).write_bytes(damaged)
    with pytest.raises(IntegrityError, match=r"(digest|size) differs"):
        layout.fetch_tag("one")


def test_a_tag_whose_manifest_is_missing_is_damage_and_not_a_miss(layout: Layout, folder: Path) -> None:
    push_all(layout)
    blob(folder, ROOT).unlink()
    with pytest.raises(
        IntegrityError, match=f"^tag one of .*: {ROOT.digest} is missing; `ctxpack push --repair URI` heals"
    ) as caught:
        layout.fetch_tag("one")
    assert caught.value.code == "E_INCOMPLETE"


def test_a_folder_with_other_files_is_not_changed(folder: Path, layout: Layout) -> None:
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("precious")
    with pytest.raises(InvalidInput, match=r"folder holds other files and is no OCI image layout: got thesis.txt;"):
        layout.push(LAYER, CHUNK)
    assert [path.name for path in folder.rglob("*")] == ["thesis.txt"]


# -- disks that fail --------------------------------------------------------------------------------------------------


class FailingDisk(Disk):
    """Works for a number of steps, then fails. A write fails after half of the data."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self) -> bool:
        self.left -= 1
        return self.left < 0

    def write(self, file: int, data: memoryview) -> int:
        if self.step():
            os.write(file, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(file, data)

    def sync(self, file: int) -> None:
        if self.step():
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def replace(self, source: Path, target: Path) -> None:
        if self.step():
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        super().replace(source, target)


def test_a_disk_that_fails_at_any_step_leaves_nothing_half_written(tmp_path: Path) -> None:
    outcomes = []
    for steps in range(40):
        folder = tmp_path / str(steps)
        layout = Layout(folder, disk=FailingDisk(steps))
        try:
            push_all(layout)
            outcomes.append("done")
        except LocalFailure as error:
            outcomes.append(error.what)
        drafts = folder / "ingest"
        assert list(drafts.iterdir() if drafts.exists() else ()) == []
        reader = Layout(folder)
        assert reader.fetch_tag("one") in (None, (ROOT, DATA))
        for each, data in ((LAYER, CHUNK), (CONFIG, b"{}"), (ROOT, DATA)):
            assert not reader.exists(each) or reader.fetch(each) == data
        push_all(reader)
        assert reader.fetch_tag("one") == (ROOT, DATA)
    reasons = ("no space left on the disk", "Input/output error", "permission denied")
    assert {f"cannot use the layout: {reason}" for reason in reasons} < set(outcomes)
    assert outcomes[-1] == "done"


LARGE = bytes(range(256)) * 2000  # several blocks
LARGE_LAYER = describe(LARGE, "application/octet-stream")


def test_a_disk_that_fails_at_any_step_leaves_nothing_of_a_file(tmp_path: Path) -> None:
    outcomes = []
    for steps in range(12):
        folder = tmp_path / str(steps)
        Layout(folder).push(CONFIG, b"{}")
        try:
            Layout(folder, disk=FailingDisk(steps)).push(LARGE_LAYER, io.BytesIO(LARGE))
            outcomes.append("done")
        except LocalFailure as error:
            outcomes.append(error.what.removeprefix("cannot use the layout: "))
        reader = Layout(folder)
        assert list((folder / "ingest").iterdir()) == []
        assert reader.exists(LARGE_LAYER) is (outcomes[-1] == "done")
        reader.push(LARGE_LAYER, io.BytesIO(LARGE))
        assert reader.fetch(LARGE_LAYER) == LARGE
    assert outcomes[:6] == ["no space left on the disk"] * 4 + ["Input/output error", "permission denied"]
    assert set(outcomes[6:]) == {"done"}


def test_a_file_that_differs_from_its_descriptor_leaves_nothing(layout: Layout, folder: Path) -> None:
    with pytest.raises(IntegrityError, match=f"digest differs: expected {LARGE_LAYER.digest}, got sha256:"):
        layout.push(LARGE_LAYER, io.BytesIO(b"X" + LARGE[1:]))
    assert not layout.exists(LARGE_LAYER)
    assert list((folder / "ingest").iterdir()) == []
    assert list((folder / "blobs" / "sha256").iterdir()) == []


@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_what_is_no_regular_file_is_no_blob(layout: Layout, folder: Path, kind: str) -> None:
    push_all(layout)
    blob(folder, LAYER).unlink()
    os.mkfifo(blob(folder, LAYER)) if kind == "fifo" else blob(folder, LAYER).mkdir()
    for use in (
        lambda: layout.fetch(LAYER),
        lambda: layout.fetch_range(LAYER, 0, 1),
        lambda: layout.fetch_into(LAYER, io.BytesIO()),
    ):
        with pytest.raises(IntegrityError, match="not a regular file; try again") as caught:
            use()
        assert caught.value.code == "E_SIZE"


def test_a_file_is_left_alone_when_the_blob_is_not_there(layout: Layout) -> None:
    file = io.BytesIO(b"before")
    with pytest.raises(NotFound):
        layout.fetch_into(LAYER, file)
    assert file.getvalue() == b"before"


def test_a_folder_that_cannot_be_created_is_a_local_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalFailure, match=r"Not a directory|File exists"):
        Layout(tmp_path / "file").push(LAYER, CHUNK)


def test_the_error_for_a_full_disk_says_what_to_do(folder: Path) -> None:
    Layout(folder).push(CONFIG, b"{}")
    with pytest.raises(LocalFailure) as caught:
        Layout(folder, disk=FailingDisk(0)).push(LAYER, CHUNK)
    assert str(caught.value) == (
        f"blob {LAYER.digest[:19]} of oci:{folder}: "
        "cannot use the layout: no space left on the disk; free some space, or name another folder"
    )


def test_drafts_of_dead_processes_are_removed(layout: Layout, folder: Path) -> None:
    push_all(layout)
    old, new = folder / "ingest" / "old", folder / "ingest" / "new"
    old.touch()
    new.touch()
    os.utime(old, (time.time() - 25 * 3600,) * 2)
    layout.tag(ROOT, "two")
    assert not old.exists()
    assert new.exists()


# -- at once ----------------------------------------------------------------------------------------------------------

TAGGER = """
import sys
from pathlib import Path
from ctxpack_oci import Layout, IMAGE_MANIFEST_MEDIA_TYPE, ImageManifest, describe, encode_image_manifest
folder, name = Path(sys.argv[1]), sys.argv[2]
layout = Layout(folder)
config = describe(b"{}", "application/json")
layout.push(config, b"{}")
for n in range(15):
    data = encode_image_manifest(ImageManifest(config=config, layers=(), annotations={"n": f"{name}{n}"}))
    root = describe(data, IMAGE_MANIFEST_MEDIA_TYPE)
    layout.push(root, data)
    layout.tag(root, f"{name}{n}")
"""


def test_no_tag_of_processes_that_tag_at_once_is_lost(folder: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", TAGGER, str(folder), name]) for name in "abcd"]
    assert [process.wait(60) for process in processes] == [0, 0, 0, 0]
    layout = Layout(folder)
    assert set(layout.tags()) == {f"{name}{n}" for name in "abcd" for n in range(15)}
    for tag in layout.tags():
        assert layout.fetch_tag(tag) is not None


def test_no_tag_of_threads_that_tag_at_once_is_lost(layout: Layout) -> None:
    push_all(layout)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: layout.tag(ROOT, f"t{n}"), range(40)))
    assert {f"t{n}" for n in range(40)} < set(layout.tags())


KILLED = """
import io, os, sys
from pathlib import Path
from ctxpack_oci import Layout, IMAGE_MANIFEST_MEDIA_TYPE, ImageManifest, describe, encode_image_manifest
from ctxpack_oci.disk import Disk

class Killed(Disk):
    left = int(sys.argv[2])
    def step(self):
        self.left -= 1
        return self.left < 0
    def write(self, file, data):
        if self.step():
            os.write(file, data[:len(data) // 2])
            os._exit(9)
        return super().write(file, data)
    def sync(self, file):
        if self.step():
            os._exit(9)
    def replace(self, source, target):
        if self.step():
            os._exit(9)
        super().replace(source, target)
        if self.step():
            os._exit(9)

layout = Layout(Path(sys.argv[1]), disk=Killed())
config = describe(b"{}", "application/json")
layout.push(config, b"{}")
large = bytes(range(256)) * 2000
layer = describe(large, "application/octet-stream")
layout.push(layer, io.BytesIO(large))
data = encode_image_manifest(ImageManifest(config=config, layers=(layer,)))
root = describe(data, IMAGE_MANIFEST_MEDIA_TYPE)
layout.push(root, data)
layout.tag(root, "new")
"""


def test_a_kill_at_any_step_leaves_the_old_state_or_the_new(tmp_path: Path) -> None:
    new = []
    for steps in range(60):
        fresh, used = tmp_path / f"fresh{steps}", tmp_path / f"used{steps}"
        push_all(Layout(used))
        children = [
            subprocess.Popen([sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n" + KILLED, *args])
            for args in ((str(fresh), str(steps)), (str(used), str(steps)))
        ]
        codes = [child.wait(60) for child in children]
        for folder, old in ((fresh, None), (used, (ROOT, DATA))):
            layout = Layout(folder)
            assert layout.fetch_tag("one") == old
            new.append(layout.fetch_tag("new") is not None)
            assert layout.exists(LARGE_LAYER) or not new[-1]
            assert not layout.exists(LARGE_LAYER) or layout.fetch(LARGE_LAYER) == LARGE
            push_all(layout)
            assert layout.fetch_tag("one") == (ROOT, DATA)
        if codes == [0, 0]:
            break
    assert codes == [0, 0], "the test did not reach the last step"
    assert steps > 15
    assert True in new
    assert False in new


def test_a_file_instead_of_the_folder_is_not_an_empty_layout(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InvalidInput, match="not a folder; name the folder of an OCI image layout"):
        Layout(tmp_path / "file").fetch_tag("v1")


OTHER_DATA = encode_image_manifest(ImageManifest(config=CONFIG, layers=(LAYER, LAYER)))
OTHER = describe(OTHER_DATA, IMAGE_MANIFEST_MEDIA_TYPE)


def test_a_tag_is_resolved_whatever_it_names(layout: Layout, folder: Path) -> None:
    assert layout.resolve_tag("one") is None
    push_all(layout)
    blob(folder, ROOT).unlink()
    assert (layout.resolve_tag("one"), layout.resolve_tag("two")) == (ROOT.digest, None)


def test_a_tag_is_set_only_if_it_names_what_was_expected(layout: Layout) -> None:
    push_all(layout)
    layout.push(OTHER, OTHER_DATA)
    assert layout.conditional_tags
    for before in (None, OTHER.digest):
        assert not layout.tag_if(OTHER, "one", before)
        assert layout.resolve_tag("one") == ROOT.digest
    assert layout.tag_if(OTHER, "one", ROOT.digest)
    assert layout.tag_if(ROOT, "new", None)
    assert (layout.resolve_tag("one"), layout.resolve_tag("new")) == (OTHER.digest, ROOT.digest)


def test_of_many_that_set_a_new_tag_at_once_one_succeeds(layout: Layout) -> None:
    push_all(layout)
    data = [encode_image_manifest(ImageManifest(config=CONFIG, layers=(LAYER,) * number)) for number in range(2, 10)]
    images = [describe(one, IMAGE_MANIFEST_MEDIA_TYPE) for one in data]
    for image, one in zip(images, data, strict=True):
        layout.push(image, one)
    with ThreadPoolExecutor(len(images)) as pool:
        won = list(pool.map(lambda image: layout.tag_if(image, "new", None), images))
    [winner] = [image for image, is_first in zip(images, won, strict=True) if is_first]
    assert layout.resolve_tag("new") == winner.digest


def test_a_deleted_tag_is_gone_with_its_manifest_and_their_other_tags(layout: Layout, folder: Path) -> None:
    push_all(layout)
    layout.push(OTHER, OTHER_DATA)
    layout.tag(OTHER, "kept")
    layout.tag(ROOT, "alias")
    assert layout.delete("one") == ROOT.digest
    assert layout.delete("one") is None
    assert list(layout.tags()) == ["kept"]
    assert not layout.exists(ROOT)
    assert layout.exists(LAYER)
    with pytest.raises(NotFound, match="manifest is not there"):
        layout.tag(ROOT, "one")


def test_a_tag_of_a_missing_manifest_can_be_deleted(layout: Layout, folder: Path) -> None:
    push_all(layout)
    blob(folder, ROOT).unlink()
    assert layout.delete("one") == ROOT.digest
    assert layout.fetch_tag("one") is None


def test_deleting_from_a_layout_that_does_not_exist_makes_none(layout: Layout, folder: Path) -> None:
    assert layout.delete("one") is None
    assert not folder.exists()
