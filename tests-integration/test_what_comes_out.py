"""What comes out of the cache is what went in, whole and of one pack, or nothing: whatever happened to the cache.

And what a user has at a destination is lost to nobody.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from audit import audit_artifact, audit_cache
from examples import LARGE, content_of
from faults import flipped
from forks import ForkedMachine, Forks
from jsonschema import Draft202012Validator
from machine import Finished, Machine, without_first_contact
from plain_target import Layout, tag_of
from project import Project
from watched import Watch

from ctxpack_cache import Cache
from ctxpack_identity import parse_digest
from ctxpack_pantry import schema

Content = dict[str, tuple[bytes, bool] | None]

# The inputs, which the command copies to the outputs. Two have the same size; two are too large to be read in one go.
MADE: dict[str, str | bytes] = {
    "in/a.txt": "one\n",
    "in/b.txt": "two\n",
    "in/empty": "",
    "in/large.bin": LARGE[: 300 << 10],
    "in/nothing/here/": "",
    "in/sub/deep/größe.txt": "日本語\n",
    "in/sub/large.bin": LARGE[300 << 10 : 500 << 10],
    "in/sub/tool.sh": "#!/bin/sh\n",
    "src/make.sh": "echo run >> ran; cp -R in out\n",
}

# Root reads and writes files of every mode, unless it has no capabilities.
UNPRIVILEGED = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
NOBODY = 65534

NOT_REACHED = "127.0.0.1:1/team/packs"


class Case:
    """A project whose pack is in the cache of a machine, and in a registry.

    has, lacks: the locations of a registry with the pack, and of one without it.
    """

    def __init__(self, machine: ForkedMachine, uri: str, has: str) -> None:
        self.machine, self.uri, self.has = machine, uri, has
        self.lacks = f"oci:{machine.home}/lacks"
        self.work = machine.work

    @property
    def packs(self) -> Path:
        return self.machine.cache / "v1" / "packs"

    @property
    def pack(self) -> Path:
        return self.packs / self.uri[-64:]

    @property
    def cache(self) -> Cache:
        return Cache(self.machine.cache)

    def set_aside(self) -> list[str]:
        return [path.name[:64] for path in (self.machine.cache / "v1" / "damaged").glob("*")]

    def call(self, *arguments: str | Path, registry: str = "", prefix: Sequence[str] = ()) -> Finished:
        if prefix:
            return self.machine.start(*arguments, registry=registry or self.lacks, prefix=prefix).finish()
        return self.machine.run(*arguments, registry=registry or self.lacks)

    def published(self, folder: Path, inode: int = 0) -> None:
        """Publish the content of a folder as the pack; with this inode, if the file system hands it out again."""
        with self.cache.staging() as staging:
            tries = [Path(staging), *(Path(f"{staging}-{number}") for number in range(20 if inode else 0))]
            for path in tries[1:]:
                path.mkdir()
            for path in tries:
                if path.stat().st_ino == inode:
                    path.replace(staging)
                elif path != tries[0]:
                    path.rmdir()
            shutil.copytree(folder, staging, dirs_exist_ok=True)
            self.cache.publish(parse_digest(self.uri.removeprefix("ctx://")), staging)

    def remove(self) -> None:
        assert self.cache.remove(parse_digest(self.uri.removeprefix("ctx://")))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Case:
    """The case that the others are copies of."""
    folder = tmp_path_factory.mktemp("original")
    has = f"oci:{folder}/has"
    machine = ForkedMachine(forks, folder / "machine", has)
    project = Project(machine)
    project.write(MADE)
    (machine.work / "in" / "sub" / "tool.sh").chmod(0o755)
    uri = project.succeed("run").removeprefix("Seeded: ")
    project.succeed("push", uri)
    project.remove("out")
    project.remove("ran")
    return Case(machine, uri, has)


@pytest.fixture(scope="module")
def whole(original: Case) -> Content:
    return content_of(original.work / "in")


def copy_of(original: Case, folder: Path) -> Case:
    """Return a copy of a case. What is changed in its cache later has another ctime than what is there now."""
    machine = ForkedMachine(original.machine.forks, folder)
    shutil.copytree(original.work, machine.work, dirs_exist_ok=True)
    case = Case(machine, original.uri, original.has)
    case.published(original.pack)
    must_tick(case.pack)
    return case


def must_tick(path: Path) -> None:
    """Return when the clock of the file system shows another time than that of the newest change of path."""
    probe = path.parent.parent / "probe"
    probe.touch()
    while probe.stat().st_ctime_ns <= path.stat().st_ctime_ns:
        probe.touch()
    probe.unlink()


@pytest.fixture
def case(original: Case, tmp_path: Path) -> Case:
    return copy_of(original, tmp_path / "machine")


# ---- damage


class Damage(NamedTuple):
    """What happens to the folder of a pack, whose folders are writable meanwhile.

    harmless: the exits that need nothing of what is damaged, so that they may hand out what is whole.
    """

    do: Callable[[Path], object]
    harmless: frozenset[str] = frozenset()


COPIES = frozenset({"pull -o", "include", "run", "export", "push"})  # take what the listing names, and nothing else


def changed(name: str, position: int, *, keep_times: bool = False) -> Callable[[Path], None]:
    """Flip a bit of a file in place."""

    def do(pack: Path) -> None:
        path = pack / name
        status = path.stat()
        path.chmod(0o644)
        path.write_bytes(flipped(path.read_bytes(), position))
        path.chmod(status.st_mode)
        if keep_times:
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    return do


def rewritten(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def do(pack: Path) -> None:
        data = (pack / name).read_bytes()
        (pack / name).unlink()
        (pack / name).write_bytes(change(data))
        (pack / name).chmod(0o444)

    return do


def gone(name: str) -> Callable[[Path], None]:
    def do(pack: Path) -> None:
        shutil.rmtree(pack / name) if (pack / name).is_dir() else (pack / name).unlink()

    return do


def other(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Put something else in the place of what is there, if anything is."""

    def do(pack: Path) -> None:
        if (pack / name).exists():
            gone(name)(pack)
        make(pack / name)

    return do


def linked(name: str) -> Callable[[Path], None]:
    """Move something out of the pack, and put a link to it there."""

    def do(pack: Path) -> None:
        outside = pack.parent.parent / "outside"
        (pack / name).rename(outside)
        (pack / name).symlink_to(outside)

    return do


def swapped(pack: Path) -> None:
    one, two = pack / "artifacts" / "a.txt", pack / "artifacts" / "b.txt"
    one.rename(pack / "meanwhile")
    two.rename(one)
    (pack / "meanwhile").rename(two)


def mode(name: str, bits: int) -> Callable[[Path], None]:
    return lambda pack: (pack / name).chmod(bits)


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def without_a_line(pack: Path) -> None:
    """Delete a file, and its line in the listing."""
    gone("artifacts/a.txt")(pack)
    rewritten("files.jsonl", lambda data: data.partition(b"\n")[2])(pack)


DAMAGE: dict[str, Damage] = {
    "a bit": Damage(changed("artifacts/a.txt", 0)),
    "a bit, with the old mtime": Damage(changed("artifacts/b.txt", -1, keep_times=True)),
    "a bit of a large file": Damage(changed("artifacts/large.bin", 200_000, keep_times=True)),
    "a bit of a deep file": Damage(changed("artifacts/sub/deep/größe.txt", 1, keep_times=True)),
    "shorter": Damage(rewritten("artifacts/a.txt", lambda data: data[:-1])),
    "no bytes left": Damage(rewritten("artifacts/large.bin", lambda data: b"")),
    "longer": Damage(rewritten("artifacts/sub/large.bin", lambda data: data + b"\n")),
    "no longer empty": Damage(rewritten("artifacts/empty", lambda data: b"\0")),
    "two files in each other's place": Damage(swapped),
    "a file is gone": Damage(gone("artifacts/sub/deep/größe.txt")),
    "an empty file is gone": Damage(gone("artifacts/empty")),
    "a folder is gone": Damage(gone("artifacts/sub")),
    "an empty folder is gone": Damage(gone("artifacts/nothing"), COPIES),
    "all outputs are gone": Damage(gone("artifacts")),
    "another file": Damage(lambda pack: (pack / "artifacts" / "more").write_bytes(b"more"), COPIES),
    "another file in an empty folder": Damage(
        lambda pack: (pack / "artifacts" / "nothing" / "here" / "x").write_bytes(b""), COPIES
    ),
    "another folder": Damage(lambda pack: (pack / "artifacts" / "more").mkdir(), COPIES),
    "another file beside the manifest": Damage(lambda pack: (pack / "more").write_bytes(b"more"), COPIES),
    "a link for a file": Damage(linked("artifacts/a.txt")),
    "a broken link for a file": Damage(other("artifacts/a.txt", lambda path: path.symlink_to("nowhere"))),
    "a link to itself": Damage(other("artifacts/empty", lambda path: path.symlink_to("empty"))),
    "a link for a folder": Damage(linked("artifacts/sub"), COPIES),
    "a link for all outputs": Damage(linked("artifacts"), COPIES),
    "a folder for a file": Damage(other("artifacts/a.txt", Path.mkdir)),
    "a file for a folder": Damage(other("artifacts/sub", Path.touch)),
    "a file for an empty folder": Damage(other("artifacts/nothing/here", Path.touch), COPIES),
    "a pipe for a file": Damage(other("artifacts/empty", os.mkfifo)),
    "executable": Damage(mode("artifacts/a.txt", 0o555), frozenset({"export", "push"})),
    "not executable": Damage(mode("artifacts/sub/tool.sh", 0o444), frozenset({"export", "push"})),
    "the manifest is damaged": Damage(changed("manifest.json", 0)),
    "the manifest is written in another way": Damage(
        rewritten("manifest.json", lambda data: data.replace(b'"files":', b'"fil\\u0065s":'))
    ),
    "the manifest is empty": Damage(rewritten("manifest.json", lambda data: b"")),
    "the manifest is gone": Damage(gone("manifest.json")),
    "the manifest is a folder": Damage(other("manifest.json", Path.mkdir)),
    "the manifest is large": Damage(other("manifest.json", sparse)),
    "the listing is damaged": Damage(changed("files.jsonl", 20, keep_times=True)),
    "the listing ends early": Damage(rewritten("files.jsonl", lambda data: data[:-20])),
    "the listing is empty": Damage(rewritten("files.jsonl", lambda data: b"")),
    "the listing is gone": Damage(gone("files.jsonl")),
    "the listing is a folder": Damage(other("files.jsonl", Path.mkdir)),
    "a file and its line in the listing are gone": Damage(without_a_line),
    "the listing of an input is damaged": Damage(changed("inputs/docs.jsonl", 20), COPIES - {"export", "push"}),
    "the listing of an input is gone": Damage(gone("inputs/docs.jsonl"), COPIES - {"export", "push"}),
    "nothing is left": Damage(lambda pack: [gone(path.name)(pack) for path in pack.iterdir()]),
}


def damage(pack: Path, do: Callable[[Path], object]) -> None:
    """Do something to a pack, whose folders are writable meanwhile."""
    folders = [pack, *(path for path in pack.rglob("*") if path.is_dir() and not path.is_symlink())]
    for folder in folders:
        folder.chmod(0o755)
    do(pack)
    for folder in folders:
        if folder.is_dir() and not folder.is_symlink():
            folder.chmod(0o555)


class Exit(NamedTuple):
    """A way out of the cache. result: what came out, as text or content, to be compared with that of a sound cache.

    fetches: whether the pack is in the cache afterwards, also if it was fetched for that.
    """

    arguments: Callable[[Case], list[str]]
    result: Callable[[Case, Finished], object]
    fetches: bool = True


def placed(name: str) -> Callable[[Case, Finished], object]:
    return lambda case, done: content_of(case.work / name)


def exported(case: Case, done: Finished) -> object:
    with tarfile.open(case.work / "pack.tar.gz") as archive:
        return {member.name: _read(archive, member) for member in archive}


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[int, bytes]:
    file = archive.extractfile(member)
    return member.mode, file.read() if file else b""


def sent(case: Case, done: Finished) -> object:
    target = Layout(case.machine.home / "sent")
    assert audit_artifact(target, case.uri)
    assert case.call("pull", case.uri, "-o", "got", registry=target.location).status == 0
    return content_of(case.work / "got")


def inspected(case: Case, done: Finished) -> object:
    document = json.loads(done.stdout)
    return {name: document[name] for name in ("contract", "outputs", "provenance", "uri")}


def named(case: Case) -> list[str]:
    """Return the command that names a contract with the pack as its input."""
    contract = {
        "inputs": [{"name": "pack", "uri": case.uri}],
        "transforms": [{"tool": "t", "tool_version": "1", "code_hash": "opaque", "params": {}}],
    }
    (case.work / "next.json").write_text(json.dumps(contract))
    return ["id", "next.json", "--canonical"]


EXITS: dict[str, Exit] = {
    "pull": Exit(lambda case: ["pull", case.uri], lambda case, done: content_of(Path(done.stdout.strip()))),
    "pull -o": Exit(lambda case: ["pull", case.uri, "-o", "got"], placed("got")),
    "include": Exit(lambda case: ["pull", case.uri, "--include", "*", "-o", "got"], placed("got"), fetches=False),
    "run": Exit(lambda case: ["run"], placed("out")),
    "export": Exit(lambda case: ["export", case.uri, "--tar", "pack.tar.gz"], exported),
    "push": Exit(lambda case: ["push", case.uri, "--registry", f"oci:{case.machine.home}/sent"], sent, fetches=False),
    "inspect": Exit(lambda case: ["inspect", case.uri, "--json"], inspected, fetches=False),
    "input": Exit(named, lambda case, done: done.stdout, fetches=False),
}


@pytest.fixture(scope="module")
def sound(original: Case, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What comes out of each exit of a sound cache."""
    found = {}
    for name, way in EXITS.items():
        case = copy_of(original, tmp_path_factory.mktemp("sound") / "machine")
        done = case.call(*way.arguments(case))
        assert done.status == 0, done.stderr
        found[name] = way.result(case, done)
    return found


def at_once(work: Callable[[str], None], names: Iterator[str] | Sequence[str]) -> None:
    """Call work for each name. Raises: AssertionError that names all that failed."""
    failures = {}

    def tried(name: str) -> None:
        try:
            work(name)
        except AssertionError as error:
            failures[name] = str(error)[:1500]

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(tried, names))
    assert not failures, "\n\n".join(f"{name}: {text}" for name, text in failures.items())


def must_say(case: Case, done: Finished) -> None:
    """The damage is named, and the damaged pack is set aside and nowhere else."""
    assert "the cached pack is damaged, and was set aside in " in done.stderr, done
    assert case.uri[-64:] in done.stderr
    assert case.set_aside() == [case.uri[-64:]]


@pytest.mark.parametrize("exit_name", EXITS)
def test_what_is_damaged_does_not_come_out(
    original: Case, sound: dict[str, object], tmp_path: Path, exit_name: str
) -> None:
    way = EXITS[exit_name]

    def work(kind: str) -> None:
        case = copy_of(original, tmp_path / kind)
        damage(case.pack, DAMAGE[kind].do)
        done = case.call(*way.arguments(case))
        if done.status == 0 and exit_name in DAMAGE[kind].harmless:
            assert way.result(case, done) == sound[exit_name]
            return
        must_say(case, done)
        if exit_name == "run":
            assert (done.status, done.stdout) == (0, f"Seeded: {case.uri}\n"), done
            assert way.result(case, done) == sound[exit_name]
            assert (case.work / "ran").exists()
            return
        assert (done.status, done.stdout) == (5, ""), done
        assert [name for name in ("got", "pack.tar.gz") if (case.work / name).exists()] == []
        assert list(case.packs.iterdir()) == []
        if kind == "a bit":
            again = case.call(*way.arguments(case))
            assert (again.status, again.stdout) == (3, ""), again

    at_once(work, list(DAMAGE))


FETCHED = [
    "a bit",
    "a bit of a large file",
    "a file is gone",
    "a link for a file",
    "executable",
    "the manifest is gone",
    "the listing is damaged",
    "the listing of an input is gone",
    "nothing is left",
]


@pytest.mark.parametrize("exit_name", [name for name in EXITS if name != "push"])
def test_what_is_damaged_comes_from_the_registry(
    original: Case, sound: dict[str, object], tmp_path: Path, exit_name: str
) -> None:
    way = EXITS[exit_name]

    def work(kind: str) -> None:
        case = copy_of(original, tmp_path / kind)
        damage(case.pack, DAMAGE[kind].do)
        done = case.call(*way.arguments(case), registry=case.has)
        assert done.status == 0, done
        assert way.result(case, done) == sound[exit_name]
        assert not (case.work / "ran").exists()
        if exit_name in DAMAGE[kind].harmless:
            return
        must_say(case, done)
        assert audit_cache(case.machine.cache) == ([case.uri] if way.fetches else [])
        again = case.call("pull", case.uri, registry=case.has)
        assert again.status == 0, again
        said = without_first_contact(again.stderr)
        assert said == "" or (not way.fetches and said.startswith("ctxpack: fetched ")), again

    at_once(work, FETCHED)


def test_what_is_damaged_does_not_come_out_when_the_registry_is_not_reached(original: Case, tmp_path: Path) -> None:
    def work(name: str) -> None:
        case = copy_of(original, tmp_path / name)
        damage(case.pack, DAMAGE["a bit"].do)
        done = case.call(*EXITS[name].arguments(case), registry=NOT_REACHED)
        must_say(case, done)
        assert (done.status, done.stdout) == (6, ""), done
        assert [name for name in ("got", "out") if (case.work / name).exists()] == []

    at_once(work, ["pull -o", "run"])


def test_a_run_that_is_offline_makes_anew_what_is_damaged(case: Case, whole: Content) -> None:
    damage(case.pack, DAMAGE["a bit"].do)
    done = case.call("run", "--offline", registry=NOT_REACHED)
    must_say(case, done)
    assert (done.status, done.stdout) == (0, f"Seeded: {case.uri}\n"), done
    assert content_of(case.work / "out") == whole
    assert audit_cache(case.machine.cache) == [case.uri]


@pytest.mark.parametrize("what", ["another pack", "a file", "a link", "a broken link"])
@pytest.mark.parametrize("exit_name", ["pull", "pull -o", "include", "run", "push", "inspect"])
def test_what_is_no_folder_of_this_pack_does_not_come_out(
    original: Case, sound: dict[str, object], tmp_path: Path, what: str, exit_name: str
) -> None:
    case, way = copy_of(original, tmp_path / "machine"), EXITS[exit_name]
    if what == "another pack":
        project = Project(case.machine, tmp_path / "machine" / "other")
        foreign = case.packs / project.succeed("run")[-64:]
    else:
        foreign = tmp_path / "foreign"
        foreign.touch()
    outside = tmp_path / "outside"
    case.pack.chmod(0o755)
    case.pack.rename(outside)
    if what == "a link":
        case.pack.symlink_to(outside)
    elif what == "a broken link":
        case.pack.symlink_to("nowhere")
    else:
        foreign.chmod(0o755)
        foreign.rename(case.pack)
    done = case.call(*way.arguments(case))
    if exit_name == "run":
        assert (done.status, done.stdout) == (0, f"Seeded: {case.uri}\n"), done
    else:
        assert (done.status, done.stdout) in [(5, ""), (3, "")], done
        again = case.call(*way.arguments(case), registry=case.has)
        assert again.status == (3 if exit_name == "push" else 0), again
        if exit_name == "push":
            return
    assert way.result(case, done if exit_name == "run" else again) == sound[exit_name]


def test_the_names_of_two_packs_are_not_mixed_up(case: Case, whole: Content) -> None:
    """The folders of two packs change places: neither comes out as the other, and what was fetched is right."""
    project = Project(case.machine, case.machine.work.parent / "other")
    uri = project.succeed("run").removeprefix("Seeded: ")
    elsewhere, aside = case.packs / uri[-64:], case.packs.parent / "aside"
    for folder in (elsewhere, case.pack):
        folder.chmod(0o755)
    elsewhere.rename(aside)
    case.pack.rename(elsewhere)
    aside.rename(case.pack)
    done = case.call("verify", "--all")
    assert (done.status, done.stdout, len(case.set_aside())) == (5, "", 2), done
    assert case.call("pull", case.uri, "-o", "got", registry=case.has).status == 0
    assert content_of(case.work / "got") == whole


@pytest.mark.parametrize("name", ["manifest.json", "files.jsonl"])
@pytest.mark.parametrize("exit_name", ["pull", "run"])
def test_no_command_waits_for_a_pipe(case: Case, name: str, exit_name: str) -> None:
    damage(case.pack, other(name, os.mkfifo))
    done = case.call(*EXITS[exit_name].arguments(case), registry=case.has)
    must_say(case, done)
    assert done.status == 0, done


@pytest.mark.parametrize("kind", ["a bit", "the manifest is gone", "nothing is left", "the listing is damaged"])
def test_seed_replaces_a_damaged_pack(case: Case, whole: Content, kind: str) -> None:
    shutil.copytree(case.work / "in", case.work / "out")
    damage(case.pack, DAMAGE[kind].do)
    done = case.call("seed")
    must_say(case, done)
    assert (done.status, done.stdout) == (0, f"Seeded: {case.uri}\n"), done
    assert audit_cache(case.machine.cache) == [case.uri]
    assert content_of(Path(case.call("pull", case.uri).stdout.strip())) == whole


def test_seed_of_other_outputs_is_no_conflict_with_a_damaged_pack(case: Case) -> None:
    shutil.copytree(case.work / "in", case.work / "out")
    (case.work / "out" / "a.txt").write_text("another\n")
    damage(case.pack, DAMAGE["a file is gone"].do)
    done = case.call("seed")
    must_say(case, done)
    assert done.status == 0
    assert (Path(case.call("pull", case.uri).stdout.strip()) / "a.txt").read_text() == "another\n"


def test_what_is_set_aside_stays_once_and_goes_with_rm(case: Case) -> None:
    for _ in range(3):
        damage(case.pack, DAMAGE["a bit"].do)
        must_say(case, case.call("pull", case.uri, registry=case.has))
    (kept,) = (case.machine.cache / "v1" / "damaged").iterdir()
    assert (kept / "artifacts" / "b.txt").read_text() == "two\n"
    assert case.call("rm", case.uri).status == 0
    assert (case.set_aside(), list(case.packs.iterdir())) == ([], [])
    assert case.call("rm", case.uri).status == 3


def test_damage_of_one_pack_is_no_damage_of_another(case: Case, whole: Content) -> None:
    """Pieces of a damaged pack are not lent to one that is fetched."""
    project = Project(case.machine, case.machine.work.parent / "other")
    project.write(MADE | {"in/a.txt": "another\n"})
    uri = project.succeed("run").removeprefix("Seeded: ")
    assert case.call("push", uri, registry=case.has).status == 0
    assert case.call("push", case.uri, registry=case.has).status == 0
    assert case.call("rm", case.uri).status == 0
    damage(case.packs / uri[-64:], DAMAGE["a bit of a large file"].do)
    done = case.call("pull", case.uri, registry=case.has)
    assert done.status == 0, done
    assert content_of(Path(done.stdout.strip())) == whole
    assert case.call("verify", case.uri).status == 0


# ---- what is touched, and sound


def touched(pack: Path) -> None:
    os.utime(pack / "artifacts" / "a.txt")


def rewritten_as_it_was(pack: Path) -> None:
    rewritten("artifacts/large.bin", lambda data: data)(pack)


def linked_hard(pack: Path) -> None:
    """What a backup by hard links does."""
    os.link(pack / "artifacts" / "a.txt", pack.parent.parent / "backup")


def copied(pack: Path) -> None:
    """What a restored backup is."""
    shutil.copytree(pack, pack.parent / "copy")
    shutil.rmtree(pack)
    (pack.parent / "copy").rename(pack)


@pytest.mark.parametrize("touch", [touched, rewritten_as_it_was, linked_hard, copied])
def test_a_pack_that_was_touched_is_read_once(
    case: Case, whole: Content, tmp_path: Path, touch: Callable[[Path], None]
) -> None:
    watch = Watch(case.machine, tmp_path / "watch")

    def read() -> int:
        done = watch.start("pull", case.uri, part="open ").finish()
        assert (done.status, done.stderr) == (0, ""), done
        assert content_of(Path(done.stdout.strip())) == whole
        return sum(step.endswith((".bin", ".txt", "empty", ".sh")) for step in watch.steps())

    assert read() == 0
    damage(case.pack, touch)
    assert read() == sum(value is not None for value in whole.values())
    assert read() == 0
    damage(case.pack, DAMAGE["a bit"].do)
    assert case.call("pull", case.uri).status == 5


@pytest.mark.parametrize(
    "kept", ["", "\n", "local \n", f"local {'0' * 64}\n", f"network {'0' * 64}\n", "x" * 5000, None]
)
def test_a_print_that_is_damaged_costs_a_read_and_no_more(case: Case, whole: Content, kept: str | None) -> None:
    (path,) = (case.machine.cache / "v1" / "prints").iterdir()
    good = path.read_text()
    path.unlink()
    if kept is None:
        path.mkdir()
    else:
        path.write_text(kept)
    done = case.call("pull", case.uri)
    assert (done.status, done.stderr) == (0, ""), done
    assert content_of(Path(done.stdout.strip())) == whole
    if kept is not None:
        assert path.read_text() == good
    damage(case.pack, DAMAGE["a bit, with the old mtime"].do)
    assert case.call("pull", case.uri).status == 5


def test_a_print_does_not_vouch_for_the_next_pack_of_its_name(case: Case) -> None:
    """`rm`, killed or of an older version, may leave a print behind."""
    (path,) = (case.machine.cache / "v1" / "prints").iterdir()
    stale = path.read_text()
    case.remove()
    assert not path.exists()
    assert case.call("pull", case.uri, registry=case.has).status == 0
    path.write_text(stale)
    damage(case.pack, DAMAGE["a bit, with the old mtime"].do)
    assert case.call("pull", case.uri).status == 5


# ---- verify


def verified(case: Case, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = case.call("verify", "--json", *arguments)
    document = json.loads(done.stdout)
    Draft202012Validator(schema("verify")).validate(document)
    return done.status, document


def test_verify_reads_everything(original: Case, whole: Content, tmp_path: Path) -> None:
    def work(kind: str) -> None:
        case = copy_of(original, tmp_path / kind)
        damage(case.pack, DAMAGE[kind].do)
        status, document = verified(case, case.uri)
        (found,) = document["packs"]
        assert (status, sorted(found)) == (5, ["cached", "damage", "found_in", "uri"]), document
        assert (found["uri"], found["cached"], found["found_in"]) == (case.uri, True, str(case.pack)), document
        assert case.set_aside() == [case.uri[-64:]]

    at_once(work, list(DAMAGE))


def test_verify_says_what_is_sound_and_what_is_damaged(case: Case, whole: Content) -> None:
    project = Project(case.machine, case.machine.work.parent / "other")
    other_uri = project.succeed("run").removeprefix("Seeded: ")
    files = sum(value is not None for value in whole.values())
    size = sum(len(value[0]) for value in whole.values() if value)
    there_in = str(case.pack.with_name(other_uri[-64:]))
    here = {"uri": case.uri, "found_in": str(case.pack), "cached": True, "files": files, "size": size}
    there = {"uri": other_uri, "found_in": there_in, "cached": True, "files": 1, "size": 4}
    status, document = verified(case, case.uri)
    [named] = document["packs"]
    verdict = named.pop("verdict")
    assert (status, named.pop("contradictions"), named) == (0, [], here)
    assert (verdict["admitted"], verdict["claims"]) == (True, [])
    named_twice = verified(case, other_uri, case.uri, other_uri)[1]["packs"]
    assert [pack["uri"] for pack in named_twice] == [other_uri, case.uri]
    assert verified(case, "--all")[1]["packs"] == sorted([here, there], key=lambda pack: str(pack["uri"]))
    done = case.call("verify", "--all")
    assert (done.status, done.stderr, done.stdout.count("Sound: "), done.stdout.count("\n")) == (0, "", 2, 2)

    damage(case.pack, DAMAGE["a bit"].do)
    done = case.call("verify", case.uri, other_uri)
    assert (done.status, done.stdout.count("Sound: ")) == (5, 1)
    assert done.stdout.startswith(f"Sound: {other_uri} (1 file, 4 B)\n  ")
    must_say(case, done)
    assert f"ctxpack: error: {case.uri}: damaged, and set aside" in done.stderr
    assert verified(case, "--all") == (0, {"schema": "ctxpack/verify/v1", "packs": [there]})


@pytest.mark.parametrize("kind", ["a bit", "a bit, with the old mtime"])
def test_verify_does_not_trust_a_print(case: Case, kind: str) -> None:
    """Damage that no stat(2) shows, as that of a disk."""
    damage(case.pack, DAMAGE[kind].do)
    key = parse_digest(case.uri.removeprefix("ctx://"))
    case.cache.confirm(key, case.cache.fingerprint_of(key))
    assert case.call("pull", case.uri).status == 0
    for arguments in (["pull", case.uri, "-o", "got"], ["run"]):
        copy = case.pack.parent / "copy"
        shutil.copytree(case.pack, copy)
        done = case.call(*arguments)
        must_say(case, done)
        assert (done.status == 0) == (arguments == ["run"])
        if case.pack.exists():
            case.remove()
        copy.rename(case.pack)
    assert verified(case, case.uri)[0] == 5


def test_verify_needs_packs_that_are_there(case: Case) -> None:
    nowhere = "ctx://sha256:" + "0" * 64
    for arguments, status, message in (
        ([], 2, "say --all"),
        ([case.uri, "--all"], 2, "say --all"),
        (["ctx://sha256:0"], 2, "ctx://sha256:0"),
        ([nowhere], 3, f"{nowhere}: no such pack: neither the cache nor the registry has it"),
        ([case.uri, nowhere], 3, f"{nowhere}: no such pack: neither the cache nor the registry has it"),
    ):
        for json_too in ([], ["--json"]):
            done = case.call("verify", *arguments, *json_too)
            assert (done.status, done.stdout) == (status, ""), done
            assert message in done.stderr
    empty = case.call("verify", "--all", "--cache", "nothing", "--json")
    assert (empty.status, json.loads(empty.stdout)["packs"]) == (0, [])


# ---- a pack that is removed while it is read


OTHERS = {
    "a.txt": b"ONE\n",
    "b.txt": b"two\n",
    "empty": b"",
    "large.bin": LARGE[1 : (300 << 10) + 1],
    "more": b"more\n",
}


@pytest.fixture(scope="module")
def others(original: Case, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The case with other outputs under the same contract: of the same sizes, some of them the same."""
    case = copy_of(original, tmp_path_factory.mktemp("others") / "machine")
    case.remove()
    (case.work / "out").mkdir()
    for name, data in OTHERS.items():
        (case.work / "out" / name).write_bytes(data)
    assert case.call("seed").status == 0
    return case


@pytest.mark.parametrize("again", ["removed", "other outputs"])
@pytest.mark.parametrize("exit_name", ["pull", "pull -o", "include", "run", "export", "push", "inspect"])
def test_what_is_removed_while_it_comes_out_comes_out_whole_or_not(
    original: Case, others: Case, sound: dict[str, object], tmp_path: Path, exit_name: str, again: str
) -> None:
    way = EXITS[exit_name]
    first = copy_of(others, tmp_path / "first")
    assert first.call(*way.arguments(first)).status == 0
    theirs = way.result(first, Finished(0, first.call(*way.arguments(first)).stdout, "", 0))
    assert theirs != sound[exit_name]

    def work(step: str) -> None:
        case = copy_of(original, tmp_path / step)
        case.machine.environment["CTXPACK_REGISTRY"] = case.lacks
        watch = Watch(case.machine, tmp_path / f"watch-{step}")
        started, stopped = watch.stopped(*way.arguments(case), part=case.uri[-64:], at=int(step))
        if stopped:
            inode = case.pack.stat().st_ino
            case.remove()
            if again != "removed":
                case.published(others.pack, inode)
            os.kill(started.pid, signal.SIGCONT)
        else:
            ended.append(int(step))
        done = started.finish()
        where = f"{watch.steps()[int(step) - 1 :][:1]}: {done}"
        assert case.set_aside() == [], where
        if done.status:
            assert (done.status, done.stdout) == (3, ""), where
            assert "was removed from the cache meanwhile" in done.stderr or "no such pack" in done.stderr, where
            assert [name for name in ("got", "out", "pack.tar.gz") if (case.work / name).exists()] == [], where
            return
        if exit_name == "pull" and not Path(done.stdout.strip()).exists():
            assert again == "removed", where
            return
        result = way.result(case, done)
        assert result in (sound[exit_name], theirs), where
        if again != "other outputs":
            assert result == sound[exit_name], where

    ended: list[int] = []
    for begin in range(1, 1000, 4):
        at_once(work, [str(step) for step in range(begin, begin + 4)])
        if ended:
            break
    assert min(ended) > 2


@pytest.mark.parametrize("exit_name", ["pull -o", "run", "push"])
def test_what_the_command_rm_removes_meanwhile_is_fetched_again(
    original: Case, sound: dict[str, object], tmp_path: Path, exit_name: str
) -> None:
    case, way = copy_of(original, tmp_path / "machine"), EXITS[exit_name]
    case.machine.environment["CTXPACK_REGISTRY"] = case.has
    watch = Watch(case.machine, tmp_path / "watch")
    started, stopped = watch.stopped(*way.arguments(case), part="/sub/large.bin")
    assert stopped
    assert case.call("rm", case.uri).status == 0
    os.kill(started.pid, signal.SIGCONT)
    done = started.finish()
    if exit_name == "push":
        assert (done.status, "was removed from the cache meanwhile" in done.stderr) == (3, True), done
        assert Layout(case.machine.home / "sent").manifest(tag_of(case.uri)) is None
        return
    assert done.status == 0, done
    assert way.result(case, done) == sound[exit_name]
    assert not (case.work / "ran").exists()


# ---- what a user has at the destination


def project_of_one_file(machine: Machine) -> tuple[Project, str]:
    """A project whose output is a file, and the URI of its pack, which is in the cache."""
    project = Project(machine, machine.work.parent / "single")
    project.write({"src/make.sh": "echo run >> ran; cat in/a.txt > r.txt\n"})
    project.declare(outputs=[{"path": "r.txt"}])
    uri = project.succeed("run").removeprefix("Seeded: ")
    project.remove("r.txt")
    return project, uri


PLACING: dict[str, Callable[[Case], list[str]]] = {
    "pull -o": lambda case: ["pull", case.uri, "-o", "out"],
    "pull -o --force": lambda case: ["pull", case.uri, "-o", "out", "--force"],
    "include": lambda case: ["pull", case.uri, "--include", "*.txt", "-o", "out", "--force"],
    "run": lambda case: ["run"],
    "run --force": lambda case: ["run", "--force"],
}


def with_files(out: Path) -> None:
    (out / "deep").mkdir(parents=True)
    (out / "own").write_text("own")


BEFORE: dict[str, Callable[[Path, Case], object]] = {
    "nothing": lambda out, others: None,
    "an empty folder": lambda out, others: out.mkdir(),
    "another pack": lambda out, others: shutil.copytree(others.pack / "artifacts", out),
    "files of the user": lambda out, others: with_files(out),
}


@pytest.mark.parametrize(
    ("how", "before"),
    [
        ("pull -o", "nothing"),
        ("pull -o", "an empty folder"),
        ("pull -o", "another pack"),
        ("pull -o --force", "files of the user"),
        ("include", "files of the user"),
        ("run", "nothing"),
        ("run", "another pack"),
        ("run --force", "files of the user"),
    ],
)
def test_what_comes_to_the_destination_meanwhile_stays(
    original: Case, others: Case, tmp_path: Path, how: str, before: str
) -> None:
    """A file of the user comes at each step of the placing."""

    def work(step: str) -> None:
        case = copy_of(original, tmp_path / step)
        case.machine.environment["CTXPACK_REGISTRY"] = case.lacks
        out, watch = case.work / "out", Watch(case.machine, tmp_path / f"watch-{step}")
        if before == "another pack":
            key = parse_digest("sha256:" + "0" * 64)
            with case.cache.staging() as staging:
                shutil.copytree(others.pack, staging, dirs_exist_ok=True)
                case.cache.publish(key, staging)
        BEFORE[before](out, others)
        for folder in [out, *out.rglob("*")] if out.exists() else []:
            folder.chmod(0o755)
        started, stopped = watch.stopped(*PLACING[how](case), part=f"{case.work}/", at=int(step))
        must_stay = stopped
        if stopped:
            # With --force what is there when the copy begins may go.
            must_stay = bool(list(case.work.glob(".out.*.new"))) or "--force" not in PLACING[how](case)
            out.mkdir(exist_ok=True)
            (out / "mine").write_text("mine")
            os.kill(started.pid, signal.SIGCONT)
        else:
            ended.append(int(step))
        done = started.finish()
        where = f"{watch.steps()[int(step) - 1 :][:2]}: {done}"
        if must_stay:
            assert [path.read_text() for path in out.glob("mine")] == ["mine"], where
        if done.status:
            assert (done.status, done.stdout) in ((1, ""), (2, "")), where
            if before == "files of the user":
                assert [path.read_text() for path in case.work.rglob("own")] == ["own"], where

    ended: list[int] = []
    for begin in range(1, 1000, 4):
        at_once(work, [str(step) for step in range(begin, begin + 4)])
        if ended:
            break


def test_a_file_that_comes_to_the_destination_meanwhile_stays(original: Case, tmp_path: Path) -> None:
    _, uri = project_of_one_file(original.machine)
    for step in range(1, 100):
        folder = tmp_path / str(step)
        folder.mkdir()
        watch = Watch(original.machine, tmp_path / f"watch-{step}")
        started, stopped = watch.stopped("pull", uri, "-o", folder / "x.txt", part=f"{folder}/", at=step)
        if stopped:
            (folder / "x.txt").write_text("mine")
            os.kill(started.pid, signal.SIGCONT)
        done = started.finish()
        if not stopped:
            assert (done.status, (folder / "x.txt").read_text()) == (0, "one\n")
            break
        assert (folder / "x.txt").read_text() == "mine", f"{watch.steps()[step - 1 :]}: {done}"
        assert done.status == 0 or "x.txt: " in done.stderr, done
    assert step > 2


@pytest.mark.parametrize("how", ["pull -o", "run"])
def test_the_only_good_copy_is_not_replaced(original: Case, tmp_path: Path, how: str) -> None:
    """The destination holds a pack whose copy in the cache is damaged, in a way that stat(2) shows, or not."""
    for kind in ("a bit", "a file is gone", "the manifest is gone", "shorter"):
        case = copy_of(original, tmp_path / kind)
        project = Project(case.machine, case.machine.work.parent / "other")
        project.write(MADE | {"in/a.txt": "another\n"})
        uri = project.succeed("run").removeprefix("Seeded: ")
        shutil.move(project.folder / "out", case.work / "out")
        copy = content_of(case.work / "out")
        damage(case.packs / uri[-64:], DAMAGE[kind].do)
        done = case.call(*PLACING[how](case))
        assert (done.status, done.stdout) == (2, ""), (kind, done)
        assert "something else is there already" in done.stderr
        assert content_of(case.work / "out") == copy


def test_the_copy_of_a_sound_pack_is_replaced(case: Case, whole: Content) -> None:
    project = Project(case.machine, case.machine.work.parent / "other")
    project.write(MADE | {"in/a.txt": "another\n"})
    project.succeed("run")
    shutil.copytree(project.folder / "out", case.work / "out")
    assert case.call("pull", case.uri, "-o", "out").status == 0
    assert content_of(case.work / "out") == whole


def test_what_is_in_place_already_stays_when_the_cached_pack_is_damaged(case: Case, whole: Content) -> None:
    shutil.copytree(case.work / "in", case.work / "out")
    inode = (case.work / "out" / "a.txt").stat().st_ino
    damage(case.pack, DAMAGE["a bit"].do)
    for arguments in (["pull", case.uri, "-o", "out"], ["run"]):
        done = case.call(*arguments)
        assert done.status in (0, 2, 3, 5), done
        assert content_of(case.work / "out") == whole, done
    assert (case.work / "out" / "a.txt").stat().st_ino == inode


@pytest.mark.parametrize("how", [["run"], ["pull", "contract.json", "-o", "out"]])
@pytest.mark.parametrize("name", ["sub/tool.sh", "a.txt"])
def test_executable_bits_come_out_where_the_contents_are_in_place(
    case: Case, whole: Content, how: list[str], name: str
) -> None:
    assert case.call("run").status == 0
    path = case.work / "out" / name
    path.chmod(path.stat().st_mode ^ 0o111)
    assert content_of(case.work / "out") != whole
    assert case.call(*how).status == 0
    assert content_of(case.work / "out") == whole
    before = (case.work / "out").stat().st_ino
    assert case.call(*how).status == 0
    assert (case.work / "out").stat().st_ino == before


# ---- leftovers


@pytest.mark.parametrize("how", ["pull -o", "run", "include"])
def test_leftovers_of_killed_placements_are_swept(original: Case, whole: Content, tmp_path: Path, how: str) -> None:
    """kill -9 at each step leaves the old content or the new; the next placement leaves nothing else."""
    case = copy_of(original, tmp_path / "machine")
    case.machine.environment["CTXPACK_REGISTRY"] = case.lacks
    watch, out = Watch(case.machine, tmp_path / "watch"), case.work / "out"
    own = {
        ".out.new": "1",
        ".out.0123456.new": "2",
        ".out.0123456g.new": "3",
        ".out.01234567.txt": "4",
        ".outer.01234567.new": "5",
        ".out.d/01234567.new": "6",
        "out.01234567.new": "7",
        ".other.01234567.old": "8",
    }
    for name, text in own.items():
        (case.work / name).parent.mkdir(exist_ok=True)
        (case.work / name).write_text(text)
    most = 0
    for step in range(1, 200):
        if out.exists():
            shutil.rmtree(out)
        (out / "own").mkdir(parents=True)
        if step % 2:
            shutil.rmtree(out)
        started = watch.start(*PLACING[how](case), part=f"{case.work}/", at=step, number=signal.SIGKILL)
        done = started.finish()
        if done.status != -signal.SIGKILL:
            break
        left = [path for path in case.work.iterdir() if path.name.startswith(".out.") and path.name not in own]
        most = max(most, len([path for path in left if path.name.endswith((".new", ".old", ".gone"))]))
    assert most == 1
    assert step > 5
    arguments = [*PLACING[how](case), *([] if how == "include" else ["--force"])]
    assert case.call(*arguments).status == 0
    names = {path.relative_to(case.work).as_posix() for path in case.work.rglob(".*") if path.is_file()}
    assert names == {name for name in own if name.startswith(".") and "/" not in name}
    assert {name: (case.work / name).read_text() for name in own} == own
    if how != "include":
        assert content_of(out) == whole


def test_what_another_process_makes_at_the_moment_is_not_swept(original: Case, whole: Content, tmp_path: Path) -> None:
    case = copy_of(original, tmp_path / "machine")
    watch = Watch(case.machine, tmp_path / "watch")
    started, stopped = watch.stopped("pull", case.uri, "-o", "out", part="/sub/large.bin")
    assert stopped
    second = case.machine.start("pull", case.uri, "-o", "out")
    third = case.call("pull", case.uri, "-o", "elsewhere")
    assert third.status == 0
    assert second.running
    os.kill(started.pid, signal.SIGCONT)
    assert [started.finish().status, second.finish().status] == [0, 0]
    assert content_of(case.work / "out") == content_of(case.work / "elsewhere") == whole


# ---- a cache that cannot be written


def read_only(case: Case, how: str) -> list[str]:
    """Make the cache read-only; return what must come before a command."""
    top = case.machine.cache
    if how == "a mount":
        script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
        mount = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(top)]
        if shutil.which("unshare") is None or case.call("--version", prefix=mount).status:
            pytest.skip("this account may not mount")
        return mount
    for path in (top, *top.rglob("*")):
        if how == "another user" and os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)
        path.chmod(path.stat().st_mode & 0o555 | 0o444)
    return UNPRIVILEGED


@pytest.fixture(params=["its own user", "another user", "a mount"])
def barred(request: pytest.FixtureRequest, original: Case, tmp_path: Path) -> Iterator[tuple[Case, list[str]]]:
    """A case whose cache cannot be written, and what must come before a command."""
    case = copy_of(original, tmp_path / "machine")
    prefix = read_only(case, request.param)
    yield case, prefix
    for path in (case.machine.cache, *case.machine.cache.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)


def test_a_cache_that_cannot_be_written_serves_hits(barred: tuple[Case, list[str]], whole: Content) -> None:
    case, prefix = barred
    before = sorted(str(path) for path in case.machine.cache.rglob("*"))

    def call(*arguments: str, registry: str = "") -> str:
        done = case.call(*arguments, prefix=prefix, registry=registry)
        assert (done.status, "cannot" in done.stderr) == (0, False), done
        return done.stdout.strip()

    assert content_of(Path(call("pull", case.uri))) == whole
    assert call("pull", case.uri, "-o", "got") == "got"
    assert call("run") == call("run") == f"Hit: {case.uri}"
    assert content_of(case.work / "got") == content_of(case.work / "out") == whole
    assert call("pull", case.uri, "--include", "*.txt", "-o", "some") == "some"
    assert call("run", "--offline") == f"Hit: {case.uri}"
    assert call("export", case.uri, "--tar", "pack.tar.gz") == "pack.tar.gz"
    assert call("verify", "--all").startswith("Sound: ")
    assert json.loads(call("inspect", case.uri, "--json"))["uri"] == case.uri
    assert call("ls", "-q") == case.uri
    assert not (case.work / "ran").exists()
    assert sorted(str(path) for path in case.machine.cache.rglob("*")) == before


def test_a_cache_that_cannot_be_written_serves_hits_that_were_touched(
    original: Case, whole: Content, tmp_path: Path
) -> None:
    case = copy_of(original, tmp_path / "machine")
    damage(case.pack, touched)
    prefix = read_only(case, "another user")
    for arguments in (["pull", case.uri], ["pull", case.uri, "-o", "got"], ["run"], ["verify", case.uri]):
        done = case.call(*arguments, prefix=prefix)
        assert (done.status, done.stderr) == (0, ""), done


@pytest.mark.parametrize("kind", ["a bit", "the listing is gone"])
def test_damage_in_a_cache_that_cannot_be_written_is_named(original: Case, tmp_path: Path, kind: str) -> None:
    case = copy_of(original, tmp_path / "machine")
    damage(case.pack, DAMAGE[kind].do)
    prefix = read_only(case, "another user")
    for arguments in (["pull", case.uri], ["pull", case.uri, "-o", "got"], ["run"]):
        done = case.call(*arguments, prefix=prefix, registry=case.has)
        assert (done.status, done.stdout) == (5, ""), done
        assert str(case.pack) in done.stderr
    assert [name for name in ("got", "out") if (case.work / name).exists()] == []


def test_a_pack_of_the_registry_is_placed_without_a_cache_that_can_be_written(
    original: Case, whole: Content, tmp_path: Path
) -> None:
    case = copy_of(original, tmp_path / "machine")
    case.remove()
    prefix = read_only(case, "another user")
    for arguments in (["-o", "got"], ["-o", "new/folder/got"], ["--include", "*.txt", "-o", "some"]):
        done = case.call("pull", case.uri, *arguments, prefix=prefix, registry=case.has)
        assert done.status == 0, done
        assert "cannot be written, so it does not keep the pack" in done.stderr
    assert content_of(case.work / "got") == content_of(case.work / "new/folder/got") == whole
    assert (case.work / "some").is_dir()
    assert list(case.work.rglob(".ctxpack-*")) == []
    (case.work / "taken").write_text("the user's")
    done = case.call("pull", case.uri, "-o", "taken/got", prefix=prefix, registry=case.has)
    assert (done.status, "taken" in done.stderr) == (1, True), done


# ---- a pack of one file


def test_a_pack_of_one_file_is_placed_as_that_file(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    project, uri = project_of_one_file(machine)
    (project.folder / "here").mkdir()
    (project.folder / "link").symlink_to("here")
    for output, path in (
        ("x.txt", "x.txt"),
        ("new/deep/x.txt", "new/deep/x.txt"),
        ("made/", "made/r.txt"),
        ("here", "here/r.txt"),
        ("link", "here/r.txt"),
        (".", "r.txt"),
    ):
        for _ in range(2):
            done = project.call("pull", uri, "-o", output, "--json")
            assert done.status == 0, done
            assert (project.folder / path).read_text() == "one\n"
            assert (project.folder / json.loads(done.stdout)["folder"]).resolve() == (project.folder / path).resolve()
    assert (project.folder / "link").is_symlink()
    assert project.succeed("run") == f"Hit: {uri}"
    assert (project.folder / "r.txt").read_text() == "one\n"
    project.remove("r.txt")
    assert project.succeed("run") == f"Hit: {uri}"
    assert (project.folder / "r.txt").read_text() == "one\n"
    assert project.runs() == 1


def test_a_pack_of_one_file_replaces_nothing_that_is_something_else(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    project, uri = project_of_one_file(machine)
    project.write({"x.txt": "mine", "here/r.txt": "mine", "in/b.txt": "two\n"})
    for output, path in (("x.txt", "x.txt"), ("here", "here/r.txt"), ("here/", "here/r.txt")):
        assert "something else is there already" in project.refuses("pull", uri, "-o", output)
        assert (project.folder / path).read_text() == "mine"
    project.remove("here/r.txt")
    project.write({"here/r.txt/own": "mine"})
    project.refuses("pull", uri, "-o", "here")
    assert (project.folder / "here" / "r.txt" / "own").read_text() == "mine"
    assert project.succeed("pull", uri, "-o", "x.txt", "--force") == "x.txt"
    assert (project.folder / "x.txt").read_text() == "one\n"


def test_a_file_of_a_pack_of_one_file_that_is_damaged_is_not_placed(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    project, uri = project_of_one_file(machine)
    damage(machine.cache / "v1" / "packs" / uri[-64:], changed("artifacts/r.txt", 0, keep_times=True))
    done = project.call("pull", uri, "-o", "x.txt")
    assert (done.status, (project.folder / "x.txt").exists()) == (5, False), done
    assert project.succeed("run") == f"Seeded: {uri}"
    assert (project.folder / "r.txt").read_text() == "one\n"


# ---- unusual destinations


def test_a_link_at_the_destination_stays(original: Case, whole: Content, tmp_path: Path) -> None:
    for kind in ("empty", "nothing there", "own files"):
        case = copy_of(original, tmp_path / kind)
        there = tmp_path / f"{kind} there"
        if kind != "nothing there":
            there.mkdir()
        if kind == "own files":
            (there / "own").touch()
        for name in ("got", "out"):
            (case.work / name).symlink_to(there)
        arguments = ["pull", case.uri, "-o", "got"]
        if kind == "own files":
            assert case.call(*arguments).status == 2
            assert case.call("pull", case.uri, "-o", "got/").status == 2
            arguments.append("--force")
        assert case.call(*arguments).status == 0
        assert content_of(there) == whole
        assert case.call("run").stdout == f"Hit: {case.uri}\n"
        assert ((case.work / "got").is_symlink(), (case.work / "out").is_symlink()) == (True, True)
        assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_mount_point_at_the_destination_stays(case: Case, whole: Content) -> None:
    store = case.work / "store"
    for name in ("store", "got", "out"):
        (case.work / name).mkdir()
    script = 'mount --bind store got && mount --bind store out && exec "$@"'
    prefix = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    if shutil.which("unshare") is None or case.call("--version", prefix=prefix).status:
        pytest.skip("this account may not mount")
    for arguments, status in (
        (["pull", case.uri, "-o", "got"], 0),
        (["pull", case.uri, "-o", "got"], 0),
        (["run"], 0),
    ):
        done = case.call(*arguments, prefix=prefix)
        assert done.status == status, done
        assert content_of(store) == whole
    (store / "own").touch()
    assert case.call("pull", case.uri, "-o", "got", prefix=prefix).status == 2
    assert (store / "own").exists()
    assert case.call("pull", case.uri, "-o", "got", "--force", prefix=prefix).status == 0
    assert content_of(store) == whole
    damage(case.pack, DAMAGE["a bit"].do)
    shutil.rmtree(store / "sub")
    assert case.call("pull", case.uri, "-o", "got", "--force", prefix=prefix).status == 5
    assert (store / "a.txt").read_text() == "one\n"


def test_a_deep_pack_comes_out_with_few_descriptors(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", f"oci:{tmp_path}/registry")
    project = Project(machine)
    deep = "/".join(["d"] * 300)
    project.write({f"out/{deep}/x": "deep\n", f"out/{deep}/y": "deeper\n"})
    few = ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh"]
    uri = project.succeed("seed").removeprefix("Seeded: ")
    whole = content_of(project.folder / "out")
    project.remove("out")

    def call(*arguments: str) -> str:
        done = machine.run(*arguments, prefix=few)
        assert done.status == 0, done
        return done.stdout.strip()

    assert content_of(Path(call("pull", uri))) == whole
    call("pull", uri, "-o", "got")
    call("pull", uri, "-o", "got")
    assert call("run") == f"Hit: {uri}"
    call("pull", uri, "--include", "y", "-o", "some")
    call("export", uri, "--tar", "pack.tar.gz")
    call("push", uri)
    call("verify", uri)
    assert content_of(project.folder / "got") == content_of(project.folder / "out") == whole
    assert (project.folder / "some" / deep / "y").read_text() == "deeper\n"
    damage(machine.cache / "v1" / "packs" / uri[-64:], changed(f"artifacts/{deep}/x", 0, keep_times=True))
    assert content_of(Path(call("pull", uri))) == whole
    call("rm", uri)
    call("seed")
    project.remove("got")
    call("rm", uri)
    call("pull", uri, "-o", "got")
    assert content_of(project.folder / "got") == whole


# ---- another pack that is removed meanwhile


def with_another_pack(case: Case) -> tuple[str, Path]:
    """Make another pack in the cache, whose outputs stay at out; return its URI and what is left to remove."""
    project = Project(case.machine, case.machine.work.parent / "other")
    project.write(MADE | {"in/a.txt": "another\n"})
    uri = project.succeed("run").removeprefix("Seeded: ")
    shutil.move(project.folder / "out", case.work / "out")
    return uri, case.packs / uri[-64:]


def test_a_pack_that_is_removed_while_it_is_compared_holds_nothing(case: Case, tmp_path: Path) -> None:
    uri, _ = with_another_pack(case)
    copy = content_of(case.work / "out")
    watch = Watch(case.machine, tmp_path / "watch")
    started, stopped = watch.stopped("pull", case.uri, "-o", "out", part=f"prints/{uri[-64:]}")
    assert stopped
    assert case.call("rm", uri).status == 0
    os.kill(started.pid, signal.SIGCONT)
    done = started.finish()
    assert (done.status, done.stdout) == (2, ""), done
    assert content_of(case.work / "out") == copy


def test_verify_all_passes_over_what_is_removed_meanwhile(case: Case, tmp_path: Path) -> None:
    uri, _ = with_another_pack(case)
    first, second = sorted([uri, case.uri])
    watch = Watch(case.machine, tmp_path / "watch")
    started, stopped = watch.stopped("verify", "--all", part=f"packs/{first[-64:]}")
    assert stopped
    assert case.call("rm", second).status == 0
    os.kill(started.pid, signal.SIGCONT)
    done = started.finish()
    assert (done.status, done.stdout.count("Sound: "), done.stderr) == (0, 1, ""), done


def test_a_seed_survives_the_removal_of_the_pack_it_compares_with(case: Case, tmp_path: Path) -> None:
    shutil.copytree(case.work / "in", case.work / "out")
    watch = Watch(case.machine, tmp_path / "watch")
    started, stopped = watch.stopped("seed", part=f"prints/{case.uri[-64:]}")
    assert stopped
    assert case.call("rm", case.uri).status == 0
    os.kill(started.pid, signal.SIGCONT)
    done = started.finish()
    assert (done.status, done.stdout) == (0, f"Seeded: {case.uri}\n"), done
    assert audit_cache(case.machine.cache) == [case.uri]


@pytest.mark.parametrize("exit_name", ["pull", "inspect"])
def test_what_is_shown_and_removed_meanwhile_is_looked_up_again(
    original: Case, sound: dict[str, object], tmp_path: Path, exit_name: str
) -> None:
    case, way = copy_of(original, tmp_path / "machine"), EXITS[exit_name]
    case.machine.environment["CTXPACK_REGISTRY"] = case.has
    watch = Watch(case.machine, tmp_path / "watch")
    started, stopped = watch.stopped(*way.arguments(case), part=f"prints/{case.uri[-64:]}")
    assert stopped
    assert case.call("rm", case.uri).status == 0
    os.kill(started.pid, signal.SIGCONT)
    done = started.finish()
    assert done.status == 0, done
    assert way.result(case, done) == sound[exit_name]
