"""What is in git's HEAD can be deleted; what is not certain is not in it, and nothing is run to find out."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctxpack_pantry import githead
from ctxpack_pantry.githead import is_in_head

ANSWERS = 0.2  # seconds that a git that never answers is given


def git(folder: Path, *arguments: str, check: bool = True) -> str:
    settings = ["-c", "user.name=us", "-c", "user.email=us@example.org", "-c", "protocol.file.allow=always"]
    done = subprocess.run(["git", "-C", folder, *settings, *arguments], capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "all")


def write(path: Path, text: str = "content\n", mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a folder out, which is in HEAD just as it is."""
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "-q")
    write(root / "out" / "a")
    write(root / "out" / "a.b")
    write(root / "out" / "a-folder" / "deep" / "b", "deep\n")
    write(root / "out" / "program", "#!/bin/sh\n", 0o755)
    write(root / "out" / "nothing", "")
    write(root / "beside", "beside\n")
    (root / "out" / "link").symlink_to("missing/target")
    commit(root)
    return root


def test_files_of_head_are_in_head(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_in_head(str(repository / "out"))
    assert is_in_head(f"{repository}/out/")
    for name in ("a", "a-folder", "a-folder/deep/b", "program", "nothing", "link"):
        assert is_in_head(str(repository / "out" / name)), name
    monkeypatch.chdir(repository / "out")
    assert is_in_head("a")
    assert is_in_head(".")
    assert is_in_head("../beside")


def test_what_only_head_has_does_not_matter(repository: Path) -> None:
    for name in ("a", "program", "link"):
        (repository / "out" / name).unlink()
    assert is_in_head(str(repository / "out"))
    shutil.rmtree(repository / "out" / "a-folder")
    assert is_in_head(str(repository / "out"))


def test_empty_folders_count_as_nothing(repository: Path) -> None:
    (repository / "out" / "empty" / "nested").mkdir(parents=True)
    (repository / "nothing").mkdir()
    assert is_in_head(str(repository / "out"))
    assert is_in_head(str(repository / "nothing"))


@pytest.mark.parametrize(
    "change",
    [
        "echo Content >a",
        "printf content >a",
        "printf 'content\\n\\n' >a",
        ">a",
        "chmod +x a",
        "rm a; mkdir a; echo content >a/x",
        "mv a ../a; ln -s ../a a",
        "rm a; mkfifo a",
        "mv a-folder ../a-folder; ln -s ../a-folder a-folder",
        "chmod -x program",
        "ln -sfn another link",
        "rm link; printf missing/target >link",
        "echo content >untracked",
        ">untracked",
        "ln -s a untracked",
        "echo 'before all others' >-",
        "echo 'behind all others' >zz",
        "echo content >a-folder/deep/c",
        "echo gitdir: nowhere >a-folder/.git",
        "echo content >.hidden",
    ],
)
def test_what_differs_from_head_is_not_in_head(repository: Path, change: str) -> None:
    subprocess.run(["sh", "-ec", change], cwd=repository / "out", check=True)
    assert not is_in_head(str(repository / "out"))
    assert is_in_head(str(repository / "beside"))


def test_what_is_added_but_not_committed_is_not_in_head(repository: Path) -> None:
    write(repository / "out" / "new")
    git(repository, "add", "-A")
    assert not is_in_head(str(repository / "out"))


def test_ignored_files_are_not_in_head(repository: Path) -> None:
    write(repository / ".gitignore", "*.log\n")
    write(repository / "out" / "a.log")
    commit(repository)
    assert not is_in_head(str(repository / "out"))


def test_the_index_is_not_believed(repository: Path) -> None:
    git(repository, "update-index", "--assume-unchanged", "out/a")
    write(repository / "out" / "a", "changed\n")
    assert not is_in_head(str(repository / "out"))


def test_the_repository_itself_is_not_in_head(repository: Path) -> None:
    """Deleting it would delete .git."""
    assert not is_in_head(str(repository))
    assert not is_in_head(str(repository / ".git"))
    assert not is_in_head(str(repository / ".git" / "config"))


def test_a_link_to_a_folder_above_is_not_followed(repository: Path) -> None:
    """As many files as HEAD has are found through a link, but the link is not in HEAD."""
    write(repository / "out" / "sub" / "x")
    commit(repository)
    (repository / "out" / "sub").rename(repository / "elsewhere")
    (repository / "out" / "sub").symlink_to("../elsewhere")
    assert not is_in_head(str(repository / "out"))


def test_a_path_through_links_is_resolved(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(repository)
    assert is_in_head(str(tmp_path / "alias" / "out"))
    (repository / "out" / "a").write_text("changed\n")
    assert not is_in_head(str(tmp_path / "alias" / "out"))


@pytest.mark.parametrize("attribute", ["text eol=crlf", "ident", "working-tree-encoding=UTF-16LE"])
def test_files_that_git_converts_are_not_in_head(repository: Path, attribute: str) -> None:
    write(repository / ".gitattributes", f"out/converted {attribute}\n")
    write(repository / "out" / "converted", "$Id$\n")
    if "UTF-16" in attribute:
        (repository / "out" / "converted").write_bytes("text\n".encode("utf-16-le"))
    commit(repository)
    (repository / "out" / "converted").unlink()
    git(repository, "checkout", "--", "out/converted")
    assert git(repository, "status", "--porcelain") == ""
    assert not is_in_head(str(repository / "out"))


def test_submodules_are_not_in_head(repository: Path, tmp_path: Path) -> None:
    git(repository, "submodule", "add", "-q", str(repository), "out/module")
    commit(repository)
    assert not is_in_head(str(repository / "out"))
    assert is_in_head(str(repository / "out" / "a"))


def test_a_repository_within_is_not_in_head(repository: Path) -> None:
    inner = repository / "out" / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    write(inner / "x")
    commit(inner)
    assert not is_in_head(str(repository / "out"))
    assert not is_in_head(str(inner))
    assert is_in_head(str(inner / "x"))


@pytest.mark.parametrize("name", ["*", ":(top)x", "a\nb", 'q"\\uote', "-r", " ", "ä", os.fsdecode(b"\xff\xfe"), "x\tx"])
def test_names_are_bytes(repository: Path, name: str) -> None:
    write(repository / "out" / "odd" / name)
    write(repository / name / "in")
    commit(repository)
    assert is_in_head(str(repository / "out"))
    assert is_in_head(str(repository / name))
    write(repository / name / "in", "changed\n")
    assert not is_in_head(str(repository / name))
    assert is_in_head(str(repository / "out" / "odd"))


NAMES = st.text("ab-./0~", min_size=1, max_size=5).filter(
    lambda name: all(part not in ("", ".", "..") for part in name.split("/"))
)


@given(tracked=st.sets(NAMES, max_size=6), more=st.sets(NAMES, max_size=2))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_git_and_we_walk_in_one_order(tmp_path: Path, tracked: set[str], more: set[str]) -> None:
    """Whatever the names: all that is tracked is found, and one file more is noticed."""
    root = tmp_path / "made"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    git(root, "init", "-q")

    def put(names: set[str]) -> bool:
        made = False
        for name in sorted(names):
            try:
                if not (root / "out" / name).exists():
                    write(root / "out" / name, name)
                    made = True
            except (FileExistsError, NotADirectoryError):  # a file is where a folder would have to be
                continue
        return made

    (root / "out").mkdir()
    put(tracked)
    commit(root)
    assert is_in_head(str(root / "out"))
    added = put(more)
    assert is_in_head(str(root / "out")) is not added


def test_sha256_repositories(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--object-format=sha256")
    file = write(tmp_path / "out" / "a")
    commit(tmp_path)
    assert is_in_head(str(file.parent))
    write(file, "changed\n")
    assert not is_in_head(str(file.parent))


def test_packed_objects_and_another_worktree(repository: Path, tmp_path: Path) -> None:
    git(repository, "gc", "-q")
    assert is_in_head(str(repository / "out"))
    git(repository, "worktree", "add", "-q", str(tmp_path / "second"))
    assert is_in_head(str(tmp_path / "second" / "out"))


def objects(repository: Path, name: str) -> Path:
    blob = git(repository, "rev-parse", f"HEAD:{name}").strip()
    return repository / ".git" / "objects" / blob[:2] / blob[2:]


def test_a_blob_that_the_repository_lost_is_not_in_head(repository: Path) -> None:
    objects(repository, "out/a-folder/deep/b").unlink()
    assert not is_in_head(str(repository / "out"))
    assert is_in_head(str(repository / "out" / "a"))


def test_a_tree_that_the_repository_lost_is_not_in_head(repository: Path) -> None:
    objects(repository, "out/a-folder").unlink()
    assert not is_in_head(str(repository / "out"))


def test_objects_that_replace_others_do_not_count(repository: Path) -> None:
    write(repository / "new", "replaced\n")
    blob = git(repository, "hash-object", "-w", "new").strip()
    git(repository, "replace", git(repository, "rev-parse", "HEAD:out/a").strip(), blob)
    assert is_in_head(str(repository / "out"))
    write(repository / "out" / "a", "replaced\n")
    assert not is_in_head(str(repository / "out"))


# --- no answer


def test_without_a_commit_a_repository_or_a_file(tmp_path: Path, repository: Path) -> None:
    file = write(tmp_path / "out" / "a")
    assert not is_in_head(str(file))
    git(tmp_path, "init", "-q")
    assert not is_in_head(str(file))
    git(tmp_path, "add", "out")
    assert not is_in_head(str(file))
    assert not is_in_head(str(repository / "missing"))
    assert not is_in_head(str(repository / "missing" / "deep"))
    assert not is_in_head("nul\0")


def test_without_git(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repository))
    assert not is_in_head(str(repository / "out"))


def test_a_repository_that_git_refuses(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git has a switch for its own tests of safe.directory, but takes it from the environment, as it does others."""
    git(repository, "config", "core.repositoryFormatVersion", "99")
    assert not is_in_head(str(repository / "out"))


def test_the_environment_cannot_name_another_repository(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(repository / "out" / "a", "changed\n")
    other = tmp_path / "other"
    shutil.copytree(repository, other, symlinks=True)
    commit(other)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(repository))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(other / ".git" / "objects"))
    assert not is_in_head(str(repository / "out"))


FAKE = """#!/bin/sh
for word; do case $word in
rev-parse) echo "{top}"; exit {parsed};;
ls-tree) printf '{tree}'; exit {listed};;
cat-file) read id; printf '{answer}'; exit 0;;
esac; done
"""
A = "d95f3ad14dee633a758d2e331151e950dd13e4ed"  # of "content\n"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, True),
        ({"parsed": "1"}, False),
        ({"listed": "1"}, False),
        ({"top": "/"}, False),
        ({"top": ""}, False),
        ({"tree": ""}, False),
        ({"tree": f"100644 blob {A}\\tout/a"}, False),  # cut
        ({"tree": "100644 blob\\000"}, False),
        ({"tree": f"100664 blob {A}\\tout/a\\000"}, False),
        ({"tree": f"100755 blob {A}\\tout/a\\000"}, False),
        ({"tree": f"120000 blob {A}\\tout/a\\000"}, False),
        ({"tree": f"160000 commit {A}\\tout/a\\000"}, False),
        ({"tree": f"100644 blob {A.upper()}\\tout/a\\000"}, False),
        ({"tree": f"100644 blob {A[:-1]}\\tout/a\\000"}, False),
        ({"tree": f"100644 blob {A}\\tout/a\\000160000 commit {A}\\tout/z\\000"}, False),
        ({"tree": f"100644 blob {A}\\tout/a\\000100644 blob {A}\\tout/z\\000"}, True),
        ({"answer": f"{A} missing\\n"}, False),
        ({"answer": f"{A} blob 7\\n"}, False),
        ({"answer": f"{A} tree 8\\n"}, False),
        ({"answer": f"{A} blob 8"}, False),
        ({"answer": ""}, False),
    ],
)
def test_odd_answers_of_git_mean_no(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: dict[str, str], expected: bool
) -> None:
    write(tmp_path / "out" / "a")
    ordinary = {"top": str(tmp_path), "parsed": "0", "listed": "0"}
    ordinary |= {"tree": f"100644 blob {A}\\tout/a\\000", "answer": f"{A} blob 8\\n"}
    write(tmp_path / "bin" / "git", FAKE.format_map(ordinary | said), 0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert is_in_head(str(tmp_path / "out")) is expected


@pytest.mark.parametrize("command", ["rev-parse", "ls-tree", "cat-file"])
def test_a_git_that_never_answers_is_given_up(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    real = shutil.which("git")
    script = f'#!/bin/sh\nfor word; do test "$word" != {command} || exec sleep 600; done\nexec {real} "$@"\n'
    write(tmp_path / "bin" / "git", script, 0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(githead, "_PATIENCE", ANSWERS)
    assert not is_in_head(str(repository / "out"))


def test_a_configuration_that_includes_a_fifo_does_not_hang(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(repository / "fifo")
    git(repository, "config", "include.path", str(repository / "fifo"))
    monkeypatch.setattr(githead, "_PATIENCE", ANSWERS)
    assert not is_in_head(str(repository / "out"))


def test_a_file_that_grows_while_it_is_read_is_not_in_head(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size was looked at before."""
    is_blob = githead._is_blob

    def grown(name: bytes, blocks: object, size: int) -> bool:
        with open(repository / "out" / "a", "ab") as file:
            file.write(b"more")
        return is_blob(name, blocks, size)  # type: ignore[arg-type]

    assert is_in_head(str(repository / "out" / "a"))
    monkeypatch.setattr(githead, "_is_blob", grown)
    assert not is_in_head(str(repository / "out" / "a"))


# --- hostile repositories


@pytest.fixture
def trap(repository: Path, tmp_path: Path) -> tuple[str, Path]:
    """A program that the repository has configured wherever git may run one, and the file that it makes."""
    sprung = tmp_path / "sprung"
    program = str(write(tmp_path / "trap", f"#!/bin/sh\necho $0 $@ >>{sprung}\nexit 1\n", 0o755))
    hooks = tmp_path / "hooks"
    names = ["post-checkout", "post-index-change", "pre-commit", "reference-transaction", "fsmonitor-watchman"]
    for name in (*names, "query-watchman", "post-rewrite", "pre-auto-gc", "push-to-checkout"):
        shutil.copy(program, write(hooks / name, mode=0o755))
        shutil.copy(program, write(repository / ".git" / "hooks" / name, mode=0o755))
    write(repository / ".git" / "info" / "attributes", "* filter=x diff=x merge=x text eol=crlf\n")
    configured = {
        "core.fsmonitor": program,
        "core.hooksPath": str(hooks),
        "core.sshCommand": program,
        "core.pager": program,
        "core.editor": program,
        "core.askPass": program,
        "core.gitProxy": program,
        "core.alternateRefsCommand": program,
        "core.untrackedCache": "true",
        "sequence.editor": program,
        "pager.ls-tree": program,
        "pager.rev-parse": program,
        "pager.cat-file": program,
        "filter.x.clean": program,
        "filter.x.smudge": program,
        "filter.x.process": program,
        "filter.x.required": "true",
        "diff.external": program,
        "diff.x.command": program,
        "diff.x.textconv": program,
        "merge.x.driver": program,
        "credential.helper": program,
        "gpg.program": program,
        "interactive.diffFilter": program,
        "remote.origin.url": str(tmp_path / "nowhere"),
        "remote.origin.uploadpack": program,
        "remote.origin.promisor": "true",
        "remote.origin.partialclonefilter": "blob:none",
        "remote.origin.fetch": "+refs/heads/*:refs/remotes/origin/*",
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "origin",
    }
    for name in ("ls-tree", "rev-parse", "cat-file"):
        configured[f"alias.{name}"] = f"!{program}"
    for name, value in configured.items():
        git(repository, "config", name, value)
    sprung.unlink(missing_ok=True)
    return program, sprung


def test_nothing_that_a_repository_configures_is_run(repository: Path, trap: tuple[str, Path]) -> None:
    _, sprung = trap
    assert is_in_head(str(repository / "out"))
    os.utime(repository / "out" / "a", (1, 1))  # git would look into it
    assert is_in_head(str(repository / "out"))
    write(repository / "out" / "a", "changed\n")
    assert not is_in_head(str(repository / "out"))
    assert not sprung.exists()
    git(repository, "status", check=False)
    assert sprung.exists()


@pytest.mark.parametrize(
    ("scheme", "lost"), [("", "out/a"), ("", "out"), ("ssh://localhost", "out/a"), ("ext::", "out/a-folder")]
)
@pytest.mark.parametrize("knows", [True, False], ids=["", "older-git"])
def test_nothing_is_fetched(
    repository: Path, trap: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, scheme: str, lost: str, knows: bool
) -> None:
    """Of a partial clone, git fetches what it lacks, by a program that the repository names."""
    program, sprung = trap
    if not knows:
        monkeypatch.delitem(githead._SETTINGS, "GIT_NO_LAZY_FETCH")
    url = f"ext::{program}" if scheme == "ext::" else f"{scheme}{repository}"
    git(repository, "config", "remote.origin.url", url)
    git(repository, "config", "protocol.allow", "always")
    blob = objects(repository, lost)
    blob.unlink()
    assert not is_in_head(str(repository / "out"))
    assert not sprung.exists()
    git(repository, "cat-file", "-t", blob.parent.name + blob.name, check=False)
    assert sprung.exists()
