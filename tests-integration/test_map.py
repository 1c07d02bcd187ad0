"""`ctxpack map`: only what changed is made, by a command for each item, for many, or by a function of Python."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from forks import ForkedMachine, Forks
from machine import Machine
from mapproject import COMMAND, ITEM, MapProject, counts
from plain_target import PlainTarget, open_target
from s3_double import S3Double

from ctxpack_identity import InvalidInput, LocalFailure, parse_canonical_contract
from ctxpack_identity.items import item_contract
from ctxpack_pantry import Pantry, load_settings

TEN = {f"{number % 3}/{number}.txt": f"text {number}" for number in range(10)}
OUTPUTS: dict[str, bytes | None] = {
    name.replace(".txt", ".out"): text.upper().encode() for name, text in sorted(TEN.items())
}
FOLLOW = 'printf "%s\\n" "$1" >> ran\ncp -RL "$1" "$2"\n'
COPY = 'printf "%s\\n" "$1" >> ran\ncp -R "$1" "$2"\n'

# Not forks of this process, which has threads.
processes: Callable[[int], Executor] = partial(ProcessPoolExecutor, mp_context=get_context("spawn"))

Files = Mapping[str, str | bytes]


@pytest.fixture
def machine(forks: Forks, tmp_path: Path) -> ForkedMachine:
    return ForkedMachine(forks, tmp_path / "machine")


@pytest.fixture
def ten(machine: ForkedMachine) -> MapProject:
    """A project with ten items that are made, and noted."""
    project = MapProject(machine, TEN)
    assert counts(project.map()) == {"made": 10}
    assert project.made_names() == sorted(TEN)
    assert project.outputs() == OUTPUTS
    return project


# ---- what is made


def test_of_what_did_not_change_nothing_is_looked_at(ten: MapProject) -> None:
    again = ten.map()
    assert (again["hit"], again["items"], counts(again)) == (True, 0, {})
    ten.remove("out")
    assert ten.call("map").stdout.startswith("Hit: ctx://")
    assert ten.made() == []
    assert ten.outputs() == OUTPUTS


def test_a_map_places_executable_bits_where_the_contents_are_in_place(ten: MapProject) -> None:
    results = [path for path in sorted((ten.folder / "out").rglob("*")) if path.is_file()]
    ten.write({"src/item.sh": ITEM + 'chmod +x "$2"\n'})
    assert counts(ten.map()) == {"made": 10}
    assert all(os.access(path, os.X_OK) for path in results)
    ten.write({"src/item.sh": ITEM})
    assert ten.map()["hit"]
    assert not any(os.access(path, os.X_OK) for path in results)


def add(project: MapProject) -> None:
    project.write({"in/new.txt": "new"})


def change(project: MapProject) -> None:
    project.write({"in/1/4.txt": "other"})


def remove(project: MapProject) -> None:
    project.remove("in/1/4.txt")


def rename(project: MapProject) -> None:
    (project.folder / "in/1/4.txt").rename(project.folder / "in/4.txt")


def touch(project: MapProject) -> None:
    os.utime(project.folder / "in/1/4.txt")
    (project.folder / "in/1/4.txt").chmod(0o755)


def add_parameter(project: MapProject) -> None:
    project.go_over(params={"dpi": 3})


def add_input(project: MapProject) -> None:
    project.write({"schema.json": "{}"})
    project.go_over(inputs=[{"name": "docs", "path": "in"}, {"name": "schema", "path": "schema.json"}])


def change_code(project: MapProject) -> None:
    project.write({"src/item.sh": ITEM + "# other\n"})


def change_lock_file(project: MapProject) -> None:
    project.write({"lock.txt": "numpy==2.0.1\n"})


def change_template(project: MapProject) -> None:
    project.go_over({"output": "{path}.out"})


@pytest.mark.parametrize(
    ("act", "cached", "made"),
    [
        (add, 10, 1),
        (change, 9, 1),
        (remove, 9, 0),
        (rename, 9, 1),
        (add_parameter, 0, 10),
        (add_input, 0, 10),
        (change_code, 0, 10),
        (change_lock_file, 0, 10),
        (change_template, 0, 10),
    ],
)
def test_only_what_changed_is_made(
    ten: MapProject, forks: Forks, act: Callable[[MapProject], None], cached: int, made: int
) -> None:
    act(ten)
    plan = ten.map("--dry-run")
    assert (plan["cached"], plan["missing"], plan["made"]) == (cached, made, 0)
    assert ten.made() == []
    document = ten.map()
    assert (document["cached"], document["made"], document["missing"]) == (cached, made, 0)
    assert len(ten.made()) == made
    files = {path.relative_to(ten.folder / "in").with_suffix(""): path for path in (ten.folder / "in").rglob("*.txt")}
    assert len(ten.outputs()) == len(files) == document["items"]
    other = MapProject(ForkedMachine(forks, ten.folder.parent / "undisturbed"))
    shutil.rmtree(other.folder)
    shutil.copytree(ten.folder, other.folder, ignore=shutil.ignore_patterns("out", "ran"))
    assert other.map()["made"] == document["items"]
    assert other.outputs() == ten.outputs()
    assert other.digest(document["uri"]) == ten.digest(document["uri"])


def test_times_and_modes_of_an_item_are_not_in_its_name(ten: MapProject) -> None:
    touch(ten)
    assert ten.map()["hit"]
    assert ten.made() == []


def test_a_plan_knows_the_pack_itself_and_makes_nothing(machine: ForkedMachine, tmp_path: Path) -> None:
    machine.environment["CTXPACK_REGISTRY"] = f"oci:{tmp_path / 'registry'}"
    project = MapProject(machine, TEN)
    plan = project.map("--dry-run")
    assert counts(plan) == {"missing": 10}
    assert not (project.folder / "out").exists()
    project.map("--push")
    project.remove("out")
    assert project.map("--dry-run")["hit"]
    machine.succeed("rm", plan["uri"])
    assert counts(project.map("--dry-run", "--offline")) == {"missing": 10}
    assert project.map("--dry-run")["hit"]
    assert not (project.folder / "out").exists()
    assert "10 items: 10 to be made" in project.call("map", "--dry-run", "--offline").stderr


@pytest.mark.parametrize(
    ("of", "by", "files"),
    [
        ("files", "path", {}),
        ("files", "content", {"skipped/x.txt": "x"}),
        ("entries", "path", {"skipped/x.txt": "x"}),
        ("entries", "content", {}),
    ],
)
def test_no_items_make_an_empty_pack(machine: ForkedMachine, of: str, by: str, files: Files) -> None:
    inputs = [{"name": "docs", "path": "in", "exclude": ["skipped"]}]
    project = MapProject(machine, files, each={"of": of, "by": by}, inputs=inputs)
    document = project.map("--push")
    assert (document["items"], counts(document), document["status"]) == (0, {}, 0)
    assert list((project.folder / "out").iterdir()) == []
    machine.succeed("rm", document["uri"])
    project.remove("out")
    assert project.map()["hit"]
    assert list((project.folder / "out").iterdir()) == []


def test_entries_are_files_and_folders(machine: ForkedMachine) -> None:
    files = {"a": "1", "b/x": "2", "b/y/z": "3", "c/": "", "d.e/f": "4", "g.txt": "5"}
    project = MapProject(machine, files, item=COPY, each={"of": "entries", "output": "r/{stem}{suffix}"})
    assert counts(project.map()) == {"made": 5}
    assert project.made_names() == ["a", "b", "c", "d.e", "g.txt"]
    assert project.outputs() == {
        "r/a": b"1",
        "r/b/x": b"2",
        "r/b/y/z": b"3",
        "r/c/": None,
        "r/d.e/f": b"4",
        "r/g.txt": b"5",
    }
    project.write({"in/b/new": "6"})
    project.remove("in/c")
    assert counts(project.map()) == {"cached": 3, "made": 1}
    assert project.made_names() == ["b"]


@pytest.mark.parametrize("of", ["files", "entries"])
def test_by_content_equal_items_are_made_once(machine: ForkedMachine, of: str) -> None:
    files = {"a.txt": "same", "b.txt": "same", "c.md": "same", "d.txt": "other"}
    project = MapProject(machine, files, each={"by": "content", "of": of, "output": "{path}.out"})
    assert counts(project.map()) == {"made": 4}
    names = [Path(path).name for path in project.made()]
    assert sorted(names) == ["item.md", "item.txt", "item.txt"]
    assert project.outputs() == {f"{name}.out": text.upper().encode() for name, text in files.items()}
    (project.folder / "in/a.txt").rename(project.folder / "in/z.txt")
    project.write({"in/sub.d/e.txt": "other"} if of == "files" else {"in/e.txt": "other"})
    assert counts(project.map()) == {"cached": 5}
    assert project.made() == []
    assert project.outputs()["z.txt.out"] == b"SAME"


def test_by_content_a_folder_with_the_same_content_is_the_same_item(machine: ForkedMachine) -> None:
    files = {"a/x.txt": "1", "b/x.txt": "1", "c/y.txt": "1"}
    project = MapProject(machine, files, item=COPY, each={"by": "content", "of": "entries", "output": "{path}"})
    assert counts(project.map()) == {"made": 3}
    assert len(project.made()) == 2
    assert project.outputs() == dict.fromkeys(files, b"1")


@pytest.mark.parametrize(
    ("template", "outputs"),
    [
        ("{path}", ["a.tar.gz", "b/.rc", "b/c"]),
        ("{path}.json", ["a.tar.gz.json", "b/.rc.json", "b/c.json"]),
        ("{dir}{stem}-{{x}}{suffix}", ["a.tar-{x}.gz", "b/.rc-{x}", "b/c-{x}"]),
        ("all/{dir}{stem}/result", ["all/a.tar/result", "all/b/.rc/result", "all/b/c/result"]),
        ("{stem}{stem}", [".rc.rc", "a.tara.tar", "cc"]),
    ],
)
def test_templates_say_where_results_lie(machine: ForkedMachine, template: str, outputs: list[str]) -> None:
    project = MapProject(machine, {"a.tar.gz": "1", "b/.rc": "2", "b/c": "3"}, each={"output": template})
    project.map()
    assert sorted(project.outputs()) == outputs


@pytest.mark.parametrize(
    ("files", "each", "code", "shown"),
    [
        ({"a.md": "", "a.txt": ""}, {}, "E_EACH", "items 'a.md' and 'a.txt'"),
        ({"a": "", "b": ""}, {"output": "one"}, "E_EACH", "items 'a' and 'b'"),
        ({"a": "", "b/c": ""}, {"output": "{stem}/{dir}x"}, "", ""),
        ({"a": "", "a.x/c": ""}, {"output": "{dir}{stem}"}, "", ""),
        ({"x": "", "y": "", "x.d/y": ""}, {"output": "o/{dir}{stem}.d"}, "E_EACH", "'o/x.d' and 'o/x.d/y.d'"),
        ({"a": ""}, {"output": "../{path}"}, "E_PATH", "item 'a'"),
        ({"a": ""}, {"output": "/{path}"}, "E_PATH", "item 'a'"),
        ({"a": ""}, {"output": "{path}/"}, "E_PATH", "item 'a'"),
        ({"a": ""}, {"output": "{dir}"}, "E_PATH", "item 'a'"),
        ({"line\nfeed": ""}, {}, "E_PATH", "item 'line\\nfeed'"),
        ({"line\nfeed": ""}, {"output": "x"}, "", ""),
    ],
)
def test_places_that_collide_are_refused_before_anything_is_made(
    machine: ForkedMachine, files: Files, each: Mapping[str, str], code: str, shown: str
) -> None:
    project = MapProject(machine, files, each=each)
    if not code:
        assert counts(project.map()) == {"made": len(files)}
        return
    done = project.call("map", "--json")
    assert done.status == 2
    error = json.loads(done.stderr.splitlines()[-1])
    assert error["code"] == code
    assert shown in error["message"]
    assert project.made() == []
    assert project.call("map", "--dry-run").status == 2
    assert project.call("id").status == 0


NAMES = [
    "a b.txt",
    "'.txt",
    '".txt',
    "-dash.txt",
    "--",
    "$(x) `y`.txt",
    "{item}{out}.txt",
    "\u00fc/\u4e2d.txt",
    "*",
    ";",
]


@pytest.mark.parametrize("by", ["path", "content"])
@pytest.mark.parametrize("batch", [False, True])
def test_any_name_reaches_the_command_as_it_is(machine: ForkedMachine, by: str, batch: bool) -> None:
    command = BATCH if batch else COMMAND
    files = {name: f"text {number}" for number, name in enumerate(NAMES)}
    project = MapProject(machine, files, each={"by": by, "output": "{path}.out"}, command=command)
    project.write({"src/batch.py": BATCH_PY})
    project.map()
    assert project.outputs() == {f"{name}.out": text.upper().encode() for name, text in files.items()}
    if by == "path" and not batch:
        assert project.made_names() == sorted(NAMES)


def test_a_name_that_is_not_utf_8_is_refused(machine: ForkedMachine) -> None:
    project = MapProject(machine, {"a": ""})
    os.close(os.open(os.fsencode(project.folder / "in") + b"/\xff", os.O_CREAT))
    assert "file name is not UTF-8" in project.refuses("map")
    assert project.made() == []


def test_excludes_and_links_of_the_input_count_as_in_any_contract(machine: ForkedMachine) -> None:
    project = MapProject(machine, {"a.txt": "a", "b.tmp": "b", "x/c.txt": "c", "x/d.tmp": "d"}, item=FOLLOW)
    (project.folder / "elsewhere.txt").write_text("linked")
    (project.folder / "in/link.txt").symlink_to("../elsewhere.txt")
    options = {"exclude": ["*.tmp"], "symlinks": "follow"}
    project.go_over(inputs=[{"name": "docs", "path": "in", **options}])
    assert counts(project.map()) == {"made": 3}
    assert project.made_names() == ["a.txt", "link.txt", "x/c.txt"]
    assert project.outputs() == {"a.out": b"a", "link.out": b"linked", "x/c.out": b"c"}
    (project.folder / "elsewhere.txt").write_text("other")
    assert counts(project.map()) == {"cached": 2, "made": 1}
    project.go_over(
        {"of": "entries", "by": "content", "output": "{path}"}, inputs=[{"name": "docs", "path": "in", **options}]
    )
    project.map()
    assert project.outputs() == {"a.txt": b"a", "link.txt": b"other", "x/c.txt": b"c"}  # a copy has what was hashed


def test_excludes_and_links_of_the_output_count_as_in_any_contract(machine: ForkedMachine) -> None:
    item = 'mkdir -p "$2/logs"; cp "$1" "$2/a.txt"; echo log > "$2/b.log"; ln -s a.txt "$2/link"; echo > "$2/logs/x"\n'
    output = {"path": "out", "exclude": ["*.log", "x/logs/*", "z"], "symlinks": "follow"}
    project = MapProject(machine, {"x": "1", "z": "2"}, item=item, each={"output": "{path}"}, outputs=[output])
    assert counts(project.map()) == {"made": 2}
    assert project.outputs() == {"x/a.txt": b"1", "x/link": b"1", "x/logs/": None}
    project.write({"in/y": "3"})
    document = project.map()
    assert document["made"] in (1, 2)  # of what was left out, nobody knows that it was made
    assert project.outputs()["y/a.txt"] == b"3"


def test_results_may_be_folders_executables_and_empty(machine: ForkedMachine) -> None:
    item = (
        'case "$1" in *folder) mkdir -p "$2/e/f"; cp "$1" "$2/x"; chmod 700 "$2/x";; *empty) mkdir "$2";;'
        ' *tool) cp "$1" "$2"; chmod 755 "$2";; *) : > "$2";; esac\n'
    )
    files = {name: name for name in ("folder", "empty", "tool", "nothing")}
    project = MapProject(machine, files, item=item, each={"output": "{path}"})
    for expected in ({"made": 4}, {"cached": 4, "made": 1}):
        assert counts(project.map()) == expected
        outputs = project.outputs()
        outputs.pop("more", None)
        assert outputs == {
            "empty/": None,
            "folder/e/f/": None,
            "folder/x": b"folder",
            "nothing": b"",
            "tool": b"tool",
        }
        executable = [
            path.name for path in (project.folder / "out").rglob("*") if path.is_file() and os.access(path, os.X_OK)
        ]
        assert sorted(executable) == ["tool", "x"]
        project.write({"in/more": ""})


# ---- other kinds of input


def test_an_input_that_is_a_pack_is_fetched_when_it_is_missing(machine: ForkedMachine, tmp_path: Path) -> None:
    machine.environment["CTXPACK_REGISTRY"] = f"oci:{tmp_path / 'registry'}"
    source = MapProject(machine, TEN, folder=tmp_path / "source")
    uri = source.map("--push")["uri"]
    project = MapProject(machine, item=COPY, inputs=[{"name": "docs", "uri": uri}])
    assert counts(project.map()) == {"made": 10}
    assert all(os.path.isabs(path) for path in project.made())
    assert project.outputs() == OUTPUTS
    project.write({"src/item.sh": COPY + "# other code"})
    machine.succeed("rm", uri)
    refused = project.call("map", "--offline")
    assert (refused.status, refused.stdout) == (3, "")
    assert f"offline the registry is not asked; `ctxpack pull {uri}` brings it into the cache" in refused.stderr
    machine.succeed("pull", uri)
    assert counts(project.map("--offline")) == {"made": 10}
    source.write({"in/0/0.txt": "changed"})
    newer = source.map("--push")["uri"]
    machine.succeed("rm", newer)
    project.go_over(inputs=[{"name": "docs", "uri": newer}])
    assert counts(project.map()) == {"cached": 9, "made": 1}


def test_an_input_at_a_url_is_copied_where_it_is_missing(tmp_path: Path, forks: Forks) -> None:
    with S3Double() as s3:
        s3.buckets["corpus"] = {f"raw/{name}": text.encode() for name, text in TEN.items()}
        machine = ForkedMachine(forks, tmp_path / "machine", environment=s3.environment)
        project = MapProject(machine, inputs=[{"name": "docs", "path": "s3://corpus/raw"}])
        assert counts(project.map()) == {"made": 10}
        assert all(os.path.isabs(path) for path in project.made())
        assert project.outputs() == OUTPUTS
        s3.buckets["corpus"]["raw/0/0.txt"] = b"other"
        s3.requests.clear()
        assert counts(project.map()) == {"cached": 9, "made": 1}
        assert {one for one in s3.requests if one.startswith("GET ") and "txt" in one} == {"GET corpus/raw/0/0.txt"}
        assert project.outputs()["0/0.out"] == b"OTHER"
        assert len(project.made()) == 1


# ---- what a command gets

SHOW = """
import json, os, sys
item, out = sys.argv[1:3]
told = {name: os.environ.get(name) for name in ("CTXPACK_CONTRACT", "CTXPACK_URI", "GIVEN")}
contract = open(told["CTXPACK_CONTRACT"], "rb").read()
shown = {"item": item, "out": out, "cwd": os.getcwd(), "parent": os.path.isdir(os.path.dirname(out)),
    "there": os.path.lexists(out), "stdin": sys.stdin.read(), "rest": sys.argv[3:], **told,
    "contract": contract.decode(), "content": open(item).read()}
open(out, "w").write(json.dumps(shown))
"""


@pytest.mark.parametrize("written", ["in", "./in", "sub/../in", "ABSOLUTE"])
def test_a_command_gets_paths_and_the_contract_of_its_item(machine: ForkedMachine, written: str) -> None:
    project = MapProject(machine, {"a/b.txt": "text"})
    path = str(project.folder / "in") if written == "ABSOLUTE" else written
    (project.folder / "sub").mkdir()
    project.write({"src/show.py": SHOW})
    command = [sys.executable, "src/show.py", "{item}", "{out}", "{x}", "{{item}}", "{batch", "a{item}b"]
    project.go_over(inputs=[{"name": "docs", "path": path}], command=command, variables={"GIVEN": "it"})
    uri = project.map()["uri"]
    shown = json.loads((project.folder / "out/a/b.out").read_text())
    assert shown["item"] == f"{path}/a/b.txt"
    assert shown["out"].endswith("/a/b.out")
    assert not shown["out"].startswith(f"{project.folder}/")
    assert (shown["parent"], shown["there"], shown["stdin"]) == (True, False, "")
    assert shown["cwd"] == str(project.folder)
    assert shown["rest"] == ["{x}", f"{{{path}/a/b.txt}}", "{batch", f"a{path}/a/b.txtb"]
    assert shown["GIVEN"] == "it"
    contract = shown["contract"].encode()
    assert "ctx://sha256:" + hashlib.sha256(contract).hexdigest() == shown["CTXPACK_URI"]
    whole = json.loads(machine.succeed("inspect", uri, "--json"))["contract"]
    digest = json.loads(contract)["inputs"]["docs"]["digest"]
    assert contract == item_contract(whole, digest)
    assert parse_canonical_contract(contract)["schema"] == "ctxpack/item/v1"
    assert not os.path.exists(shown["CTXPACK_CONTRACT"])


def test_by_content_a_command_sees_a_copy_with_a_neutral_name(machine: ForkedMachine) -> None:
    project = MapProject(machine, {"secret name.tar.gz": "text"}, each={"by": "content", "output": "{path}.json.b"})
    project.write({"src/show.py": SHOW})
    project.go_over(
        {"by": "content", "output": "{path}.json.b"}, command=[sys.executable, "src/show.py", "{item}", "{out}"]
    )
    project.map()
    shown = json.loads((project.folder / "out/secret name.tar.gz.json.b").read_text())
    assert (Path(shown["item"]).name, Path(shown["out"]).name) == ("item.gz", "out.b")
    assert shown["content"] == "text"
    assert "secret" not in json.dumps(shown)
    assert not os.path.exists(shown["item"])


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["true"], "expected {item} and {out}, or {batch} alone, got none of them"),
        (["cat", "{item}"], "got {item}"),
        (["make", "{out}"], "got {out}"),
        (["make", "{batch}", "{item}"], "got {batch} and {item}"),
        (["make", "{batch}{item}{out}"], "got {batch} and {item} and {out}"),
        (["sh", "-c", "cat {item} > {out}"], "names of files would be run as code"),
        (["python", "-c", "{item}", "{out}"], "names of files would be run as code"),
    ],
)
def test_a_command_says_where_item_and_result_are(machine: ForkedMachine, command: list[str], expected: str) -> None:
    project = MapProject(machine, {"a": ""}, command=command)
    assert expected in project.refuses("map")
    project.go_over(command=None)
    assert expected in project.refuses("map", "--", *command)


def test_a_command_may_be_given_beside_the_contract(machine: ForkedMachine) -> None:
    project = MapProject(machine, TEN, command=None)
    assert project.map("--", *COMMAND)["made"] == 10
    assert project.map("--", *COMMAND)["hit"]
    project.go_over()
    assert project.map()["hit"]
    assert "the contract has another command" in project.refuses("map", "--", "cp", "{item}", "{out}")


def test_run_says_that_it_is_a_map(ten: MapProject) -> None:
    said = "`run` makes one result, and this contract goes over the items of an input; use `ctxpack map`"
    assert said in ten.refuses("run")


def test_a_map_that_was_made_elsewhere_is_seeded_whole(ten: MapProject, forks: Forks, tmp_path: Path) -> None:
    other = MapProject(ForkedMachine(forks, tmp_path / "other"), TEN)
    shutil.copytree(ten.folder / "out", other.folder / "out")
    other.write({"out/more.out": "x"})
    assert "the result of no item" in other.refuses("seed")
    other.remove("out/more.out")
    other.remove("out/0/0.out")
    assert "item '0/0.txt' has no result" in other.refuses("seed")
    other.write({"out/0/0.out": OUTPUTS["0/0.out"] or b""})
    assert other.succeed("seed").startswith("Seeded: ")
    assert other.map()["hit"]
    assert other.made() == []


def test_a_contract_without_each_is_no_map(machine: ForkedMachine) -> None:
    project = MapProject(machine, TEN)
    project.declare()
    assert "`map` goes over the items of an input, and this contract does not say which" in project.refuses("map")


@pytest.mark.parametrize("jobs", ["0", "-1", "x"])
def test_a_wrong_number_of_jobs_is_refused(ten: MapProject, jobs: str) -> None:
    assert ten.call("map", "--jobs", jobs).status == 2


# ---- batches

BATCH = [sys.executable, "src/batch.py", "{batch}"]
BATCH_PY = """
import json, os, sys
lines = open(sys.argv[1], "rb").read().decode().split("\\n")
assert lines.pop() == ""
for line in lines:
    job = json.loads(line)
    assert line == json.dumps(job, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    assert sorted(job) == ["id", "item", "out"] and os.path.isabs(job["item"]) and os.path.isabs(job["out"])
    assert os.path.isdir(os.path.dirname(job["out"])) and not os.path.lexists(job["out"])
    open(job["out"], "w").write(open(job["item"]).read().upper())
    print(job["item"], file=open("ran", "a"))
assert os.environ["CTXPACK_URI"] == "ctx://sha256:" + __import__("hashlib").sha256(
    open(os.environ["CTXPACK_CONTRACT"], "rb").read()).hexdigest()
print(len(lines), os.environ["CTXPACK_URI"], file=open("batches", "a"))
"""


def batches(project: MapProject) -> list[int]:
    """Return the sizes of the batches since the last call."""
    path = project.folder / "batches"
    sizes = [int(line.split()[0]) for line in path.read_text().splitlines()] if path.exists() else []
    path.unlink(missing_ok=True)
    return sorted(sizes)


def test_a_batch_is_a_file_of_canonical_lines(machine: ForkedMachine) -> None:
    project = MapProject(machine, TEN, command=BATCH)
    project.write({"src/batch.py": BATCH_PY})
    uri = project.map("--jobs", "3")["uri"]
    assert {line.split()[1] for line in (project.folder / "batches").read_text().splitlines()} == {uri}
    assert batches(project) == [2, 4, 4]
    assert project.outputs() == OUTPUTS
    project.write({"in/new.txt": "new"})
    assert counts(project.map("--jobs", "3")) == {"cached": 10, "made": 1}
    assert batches(project) == [1]


def test_a_batch_has_at_most_a_thousand_items(machine: ForkedMachine) -> None:
    project = MapProject(machine, {str(number): "" for number in range(1001)}, command=BATCH)
    project.write({"src/batch.py": BATCH_PY})
    assert counts(project.map("--jobs", "1")) == {"made": 1001}
    assert batches(project) == [1, 1000]


DOING = """
import json, os, sys
jobs = [json.loads(line) for line in open(sys.argv[1])]
done = open(os.environ["CTXPACK_DONE"], "a")
mode = open("mode").read() if os.path.exists("mode") else "all"
for number, job in enumerate(jobs):
    print(job["item"], file=open("ran", "a"))
    if mode != "nothing" or number % 2:
        open(job["out"], "w").write(open(job["item"]).read().upper())
    if mode == "named" and number < 3:
        print(job["id"], file=done, flush=True)
    if mode == "cut" and number < 3:
        done.write(job["id"] + ("\\n" if number < 2 else "")); done.flush()
    if mode == "lies":
        os.unlink(job["out"]); print(job["id"], file=done, flush=True)
if mode == "garbage":
    done.write("garbage\\n\\n\\u00fc\\0\\n" + "0" * 64 + "\\n" + jobs[1]["id"] + " x\\n"); done.flush()
sys.exit(0 if mode in ("all", "nothing") else 3)
"""


@pytest.mark.parametrize(
    ("mode", "made", "reason"),
    [
        ("nothing", 5, "its command ended with 0 and left nothing at {out}"),
        ("named", 3, "its command failed with status 3 before it named this item in $CTXPACK_DONE"),
        ("cut", 2, "its command failed with status 3 before it named this item in $CTXPACK_DONE"),
        ("lies", 0, "left nothing at {out}"),
        ("garbage", 0, "before it named this item in $CTXPACK_DONE"),
    ],
)
def test_of_a_batch_that_fails_what_it_named_counts(machine: ForkedMachine, mode: str, made: int, reason: str) -> None:
    project = MapProject(machine, TEN, command=BATCH)
    project.write({"src/batch.py": DOING, "mode": mode})
    document, _ = project.fail("--jobs", "1")
    assert counts(document) == {name: count for name, count in (("made", made), ("missing", 10 - made)) if count}
    assert len(document["failed"]) == 10 - made
    assert {reason in one["reason"] for one in document["failed"]} == {True}
    assert {one["status"] for one in document["failed"]} == {3 if "status 3" in reason or mode == "garbage" else 1}
    assert not (project.folder / "out").exists()
    project.made()
    project.remove("mode")
    assert project.map()["finished"] == made
    assert project.made_names() == sorted(str(project.folder / "in" / one["path"]) for one in document["failed"])
    assert project.outputs() == OUTPUTS


# ---- failures


def test_an_item_that_fails_does_not_lose_the_others(ten: MapProject) -> None:
    before = ten.outputs()
    failing = 'case "$1" in *bad*) test -e ok || { echo this is why >&2; exit 7; };; esac\n'
    ten.write({"src/item.sh": ITEM + failing, "in/bad 1.txt": "x", "in/sub/bad2.txt": "y"})
    document, done = ten.fail()
    assert (document["items"], document["status"], counts(document)) == (12, 1, {"made": 10, "missing": 2})
    assert document["failed"] == [
        {"path": "bad 1.txt", "reason": "its command failed with status 7", "status": 7},
        {"path": "sub/bad2.txt", "reason": "its command failed with status 7", "status": 7},
    ]
    assert "this is why" in done.stderr
    assert ten.outputs() == before
    assert len(ten.made()) == 12
    plain = ten.call("map")
    assert (plain.status, plain.stdout) == (1, "")
    assert "12 items: 10 finished by an earlier map, 2 failed" in plain.stderr
    assert "failed: sub/bad2.txt: its command failed with status 7" in plain.stderr
    assert ten.made_names() == ["bad 1.txt", "sub/bad2.txt"]
    assert json.loads(ten.succeed("ls", "--json"))["packs"][0]["uri"] != document["uri"]
    ten.write({"ok": ""})
    assert counts(ten.map()) == {"finished": 10, "made": 2}
    assert ten.made_names() == ["bad 1.txt", "sub/bad2.txt"]
    assert len(ten.outputs()) == 12


@pytest.mark.parametrize(
    ("bad", "reason", "status"),
    [
        ("exit 9", "its command failed with status 9", 9),
        ("kill -9 $$", "its command failed with status 137", 137),
        ("exit 0", "its command ended with 0 and left nothing at {out}", 1),
        ('ln -s /dev/null "$2"', "its result cannot be sealed: ", 1),
        ('mkfifo "$2"', "its result cannot be sealed: ", 1),
        ('mkdir "$2"; ln -s x "$2/y"', "its result cannot be sealed: ", 1),
        ('mkdir "$2"; : > "$2/a\\b"', "its result cannot be sealed: ", 1),
        ('mkdir "$2"; mkfifo "$2/y"', "its result cannot be sealed: ", 1),
        ('cp "$1" "$2"; echo more >> "$1"', "changed while it was made", 1),
        ('cp "$1" "$2"; rm "$1"', "changed while it was made", 1),
        ('cp "$1" "$2"; touch -r "$1" t; echo x > "$1"; printf bad > "$1"; touch -r t "$1"', "changed while", 1),
        ('cp "$1" "$2"; mv "$1" b; cp -p b "$1"', "changed while it was made", 1),
    ],
)
def test_what_no_pack_may_hold_fails_only_this_item(machine: ForkedMachine, bad: str, reason: str, status: int) -> None:
    item = f'case "$1" in *bad.txt) {bad}; exit;; esac\n{ITEM}'
    project = MapProject(machine, TEN | {"bad.txt": "bad"}, item=item)
    document, _ = project.fail()
    [failed] = document["failed"]
    assert (failed["path"], failed["status"]) == ("bad.txt", status)
    assert reason in failed["reason"]
    assert counts(document) == {"made": 10, "missing": 1}
    project.write({"in/bad.txt": "bad"})
    document, _ = project.fail()
    assert counts(document) == {"finished": 10, "missing": 1}
    (project.folder / "in/bad.txt").unlink(missing_ok=True)
    assert counts(project.map()) == {"finished": 10}
    assert project.outputs() == OUTPUTS


@pytest.mark.parametrize("of_batch", [False, True])
@pytest.mark.parametrize("program", ["no-such-program", "./src/item.sh", "./nothing/x", "src"])
def test_a_command_that_cannot_be_started_is_said_for_each_item(
    machine: ForkedMachine, program: str, of_batch: bool
) -> None:
    project = MapProject(machine, TEN, command=[program, *(["{batch}"] if of_batch else COMMAND[2:])])
    document, _ = project.fail()
    assert len(document["failed"]) == 10
    assert {(one["status"], one["reason"].partition(":")[0]) for one in document["failed"]} == {
        (127, "its command cannot be started")
    }


def test_programs_are_found_on_path_and_next_to_the_contract(machine: ForkedMachine) -> None:
    project = MapProject(machine, TEN, command=["src/tool", "{item}", "{out}"])
    (project.folder / "src/tool").write_text("#!/bin/sh\n" + ITEM)
    (project.folder / "src/tool").chmod(0o755)
    assert counts(project.map()) == {"made": 10}
    project.go_over(command=["tool", "{item}", "{out}"], variables={"PATH": f"{project.folder}/src:/usr/bin:/bin"})
    assert counts(project.map()) == {"made": 10}


# ---- what is at the output


@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_what_is_not_ours_at_the_output_is_refused_before_anything_is_run(machine: ForkedMachine, what: str) -> None:
    project = MapProject(machine, TEN)
    out = project.folder / "out"
    if what == "file":
        out.write_text("mine")
    else:
        where = out if what == "folder" else project.folder / "mine"
        where.mkdir()
        (where / "mine").write_text("mine")
        if what == "link":
            out.symlink_to("mine")
    assert "something else is there already" in project.refuses("map")
    assert project.made() == []
    assert project.map("--force")["made"] == 10
    assert project.outputs() == OUTPUTS


def test_an_output_that_was_changed_by_hand_is_refused(ten: MapProject) -> None:
    ten.write({"out/mine": "x", "in/new.txt": "new"})
    assert "something else is there already" in ten.refuses("map")
    assert ten.made() == []
    assert counts(ten.map("--force")) == {"cached": 10, "made": 1}
    assert "mine" not in ten.outputs()


# ---- registries


@pytest.mark.parametrize("kind", ["auth_registry", "layout"])
def test_another_machine_makes_only_what_changed(
    tmp_path: Path, forks: Forks, kind: str, request: pytest.FixtureRequest
) -> None:
    target: PlainTarget = open_target(kind, request)
    files = {f"{number % 5}/{number}.txt": random.Random(number).randbytes(20_000) for number in range(100)}
    environment = target.environment | {"CTXPACK_KEY_PASSWORD": "not secret"}
    maker, user = (
        MapProject(ForkedMachine(forks, tmp_path / name, target.location, environment), files, item=MIXED)
        for name in ("maker", "user")
    )
    maker.succeed("keygen", tmp_path / "key")
    user.succeed("trust", "add", tmp_path / "key.pub", "--owner", "maker")
    user.succeed("trust", "mode", "signed")  # or the user's push borrows nothing of what the maker pushed
    pushed = maker.map("--push", "--sign", "--key", tmp_path / "key.key")["pushed"]
    size = sum(layer["size"] for layer in json.loads(target.manifest("ctx-" + pushed["uri"][13:]) or b"")["layers"])
    for project in (maker, user):
        project.write({"in/1/1.txt": "changed"})
    plan = user.map("--dry-run")
    assert counts(plan) == {"fetched": 99, "missing": 1}
    some = {name: data for name, data in files.items() if name.startswith("0/")}
    document = MapProject(user.machine, some, item=MIXED, folder=tmp_path / "some").map()
    assert counts(document) == {"fetched": 20}
    assert 0 < document["received"] < size / 2
    document = user.map("--push")
    assert counts(document) == {"cached": 20, "fetched": 79, "made": 1}
    assert user.made_names() == ["1/1.txt"]
    assert 0 < document["received"] < size * 1.1
    assert document["pushed"]["sent"] < size / 2
    maker.remove("out")
    assert maker.map()["hit"]
    assert maker.outputs() == user.outputs()
    modes = [[path.stat().st_mode & 0o111 for path in sorted((one.folder / "out").rglob("*"))] for one in (maker, user)]
    assert modes[0] == modes[1]
    lone = MapProject(ForkedMachine(forks, tmp_path / "lone", target.location, target.environment), files, item=MIXED)
    lone.write({"in/2/2.txt": "changed, too"})
    assert counts(lone.map("--offline")) == {"made": 100}


# Results of several kinds: a folder, an empty folder, an executable file, a file.
MIXED = ITEM + (
    'case "$1" in *7.txt) mv "$2" "$2.x"; mkdir "$2"; mv "$2.x" "$2/x"; mkdir "$2/e";;'
    ' *8.txt) rm "$2"; mkdir "$2";; *9.txt) chmod 755 "$2";; esac\n'
)


def provenance(project: MapProject, uri: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(project.succeed("inspect", uri, "--json"))["provenance"].get("items", [])
    return items


def test_provenance_names_the_packs_that_items_were_taken_from(tmp_path: Path, forks: Forks) -> None:
    registry = f"oci:{tmp_path / 'registry'}"
    maker = MapProject(ForkedMachine(forks, tmp_path / "maker", registry), TEN)
    first = maker.map("--push")["pushed"]
    assert provenance(maker, first["uri"]) == []
    maker.write({"in/0/0.txt": "second"})
    second = maker.map("--push")["pushed"]
    assert provenance(maker, second["uri"]) == [
        {"admitted_by": ["own"], "image": first["image"], "items": 9, "uri": first["uri"]}
    ]
    user = MapProject(ForkedMachine(forks, tmp_path / "user", registry), TEN)
    user.write({"in/0/0.txt": "second", "in/1/1.txt": "third"})
    third = user.map()
    assert counts(third) == {"fetched": 9, "made": 1}
    assert provenance(user, third["uri"]) == [
        {"image": second["image"], "items": 9, "uri": second["uri"]},
        {"admitted_by": ["own"], "image": first["image"], "uri": first["uri"]},
    ]


def test_a_machine_with_an_empty_cache_says_how_the_pack_of_the_registry_differs(tmp_path: Path, forks: Forks) -> None:
    registry = f"oci:{tmp_path / 'registry'}"
    maker, user = (MapProject(ForkedMachine(forks, tmp_path / name, registry), TEN) for name in ("maker", "user"))
    uri = maker.map("--push")["pushed"]["uri"]
    for files, line in (
        ({"in/0/0.txt": "second"}, f"0/0.txt changed since ctx://{uri[13:21]}…, in {registry}"),
        ({"in/1/1.txt": "third"}, "1/1.txt changed since "),  # the cache has one by now
    ):
        user.write(files)
        said = [one for one in user.call("map").stderr.splitlines() if "miss: " in one]
        assert len(said) == 1
        assert line in said[0]
        assert (registry in said[0]) == (registry in line)


ANY = 'printf "%s\\n" "$1" >> ran\nhead -c 16 /dev/urandom | od -An -tx1 > "$2"\n'


def test_who_comes_second_adopts_what_is_there(tmp_path: Path, forks: Forks) -> None:
    registry = f"oci:{tmp_path / 'registry'}"
    first, second, third = (
        MapProject(ForkedMachine(forks, tmp_path / name, registry), TEN, item=ANY) for name in ("a", "b", "c")
    )
    for project in (first, second, third):
        project.map("--offline")
    uri = first.map("--push")["pushed"]["uri"]
    done = second.call("map", "--push")
    assert done.status == 0
    assert done.stdout == f"Adopted: {uri}\n"
    assert "they are adopted" in done.stderr
    assert second.outputs() == first.outputs() != third.outputs()
    before = third.outputs()
    assert third.call("map", "--push", "--on-conflict=fail").status == 8
    assert third.outputs() == before
    document = third.map("--push")
    assert (document["adopted"], document["pushed"]["new"]) == (True, False)
    assert third.outputs() == first.outputs()


# ---- from Python

FUNCTIONS = """
import os
import time
from pathlib import Path


def note(item: Path) -> None:
    with open(Path(__file__).parent / "ran", "a") as ran:
        ran.write(f"{item}\\n")


def parse(item: Path, out: Path) -> None:
    note(item)
    out.write_text(item.read_text().upper())


def scaled(item: Path, out: Path, *, dpi: int, mode: str = "plain") -> None:
    out.write_text(f"{dpi} {mode}")


def open_to_all(item: Path, out: Path, **params: object) -> None:
    out.write_text(repr(sorted(params.items())))


def failing(item: Path, out: Path) -> None:
    if item.name == "4.txt" and not (Path(__file__).parent / "ok").exists():
        raise ValueError("no fours")
    if item.name == "5.txt" and not (Path(__file__).parent / "ok").exists():
        return
    parse(item, out)


def where(item: Path, out: Path) -> None:
    note(Path(str(os.getpid())))
    out.mkdir()
    (out / "text").write_text(item.read_text().upper())
    (out / "text").chmod(0o755)
    (out / "empty").mkdir()


def folders(item: Path, out: Path) -> None:
    out.write_text(" ".join(sorted(str(one.relative_to(item)) for one in item.rglob("*"))))


def dying(item: Path, out: Path) -> None:
    os._exit(1)


def changing(item: Path, out: Path) -> None:
    parse(item, out)
    if item.name == "4.txt":
        item.write_text("other")


def lacking(item: Path) -> None: ...
"""


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module of functions, in the folder of the contract, which workers can import, too."""
    folder = tmp_path / "python/work"
    folder.mkdir(parents=True)
    (folder / "map_functions.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    import map_functions  # type: ignore[import-not-found]

    yield map_functions
    del sys.modules["map_functions"]


@pytest.fixture
def called(functions: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MapProject:
    """A project for functions, and a home for this process."""
    folder = tmp_path / "python"
    shutil.move(folder / "work", folder / "kept")
    project = MapProject(Machine(folder), TEN, command=None, code={"path": "map_functions.py"})
    shutil.move(folder / "kept/map_functions.py", project.folder)
    for name, value in project.machine.environment.items():
        if name.startswith(("XDG_", "CTXPACK_")) or name == "HOME":
            monkeypatch.setenv(name, value)
    return project


def pantry_of(project: MapProject, notice: Callable[[str], None] = print) -> Pantry:
    settings = load_settings(cache=str(project.machine.cache), registry=f"oci:{project.folder.parent / 'registry'}")
    return Pantry(settings, notice=notice)


@pytest.mark.parametrize("executor", [None, ThreadPoolExecutor, processes])
def test_a_function_makes_items(called: MapProject, functions: Any, executor: Callable[[int], Executor] | None) -> None:
    contract = str(called.folder / "contract.json")
    with pantry_of(called) as pantry:
        if executor is None:
            mapped = pantry.map(contract, functions.parse)
        else:
            with executor(2) as running:
                mapped = pantry.map(contract, functions.parse, executor=running)
        assert (mapped.made, mapped.items, mapped.status) == (10, 10, 0)
        assert called.made() == sorted(str(called.folder / "in" / name) for name in TEN)
        assert called.outputs() == OUTPUTS
        assert pantry.map(contract, functions.parse).hit
        called.write({"in/new.txt": "new"})
        assert pantry.map(contract, functions.parse)[3:8] == (11, 0, 10, 0, 1)
    command = json.loads(called.succeed("inspect", mapped.uri, "--json"))["contract"]["command"]
    assert command == ["python", "map_functions:parse"]


@pytest.mark.parametrize("executor", [None, processes])
def test_a_function_gets_params_by_name(
    called: MapProject, functions: Any, executor: Callable[[int], Executor] | None
) -> None:
    called.go_over(command=None, code={"path": "map_functions.py"}, params={"dpi": 300.0, "other": [1]})
    running = executor(1) if executor else None
    with pantry_of(called) as pantry:
        contract = str(called.folder / "contract.json")
        pantry.map(contract, functions.scaled, executor=running)
        assert set(called.outputs().values()) == {b"300 plain"}
        pantry.map(contract, functions.open_to_all, executor=running)
        assert set(called.outputs().values()) == {b"[('dpi', 300), ('other', [1])]"}
        called.go_over(command=None, code={"path": "map_functions.py"})
        for function in (functions.scaled, functions.lacking):
            with pytest.raises(InvalidInput) as caught:
                pantry.map(contract, function, executor=running)
            assert caught.value.code == "E_FUNCTION"
    if running:
        running.shutdown()


@pytest.mark.parametrize("executor", [None, ThreadPoolExecutor, processes])
def test_an_exception_fails_one_item(
    called: MapProject, functions: Any, executor: Callable[[int], Executor] | None
) -> None:
    running = executor(2) if executor else None
    contract = str(called.folder / "contract.json")
    with pantry_of(called) as pantry:
        mapped = pantry.map(contract, functions.failing, executor=running)
        assert (mapped.status, mapped.made, mapped.missing) == (1, 8, 2)
        assert [(one.path, one.status) for one in mapped.failed] == [("1/4.txt", 1), ("2/5.txt", 1)]
        assert mapped.failed[0].reason == "ValueError: no fours"
        assert mapped.failed[1].reason == "the function returned and left nothing at its second path"
        called.write({"ok": ""})
        called.made()
        again = pantry.map(contract, functions.failing, executor=running)
        assert (again.status, again.finished, again.made) == (0, 8, 2)
        assert [Path(path).name for path in called.made()] == ["4.txt", "5.txt"]
    if running:
        running.shutdown()


def test_a_function_that_changes_its_item_fails_it(called: MapProject, functions: Any) -> None:
    with pantry_of(called) as pantry:
        mapped = pantry.map(str(called.folder / "contract.json"), functions.changing)
    assert [(one.path, one.reason.partition(";")[0]) for one in mapped.failed] == [
        ("1/4.txt", "changed while it was made")
    ]


def test_workers_that_die_are_said_and_lose_nothing_else(called: MapProject, functions: Any) -> None:
    contract = str(called.folder / "contract.json")
    with pantry_of(called) as pantry, processes(1) as running:
        mapped = pantry.map(contract, functions.dying, executor=running)
        assert (mapped.status, mapped.missing) == (1, 10)
        assert len(mapped.failed) == 10
        with pytest.raises(LocalFailure) as caught:
            pantry.map(contract, functions.dying, executor=running)
        assert str(caught.value).startswith("the executor given for the map failed: got BrokenProcessPool: ")
    assert not (called.folder / "out").exists()


def test_an_interrupt_keeps_what_is_made(called: MapProject, functions: Any) -> None:
    contract = str(called.folder / "contract.json")
    calls = 0

    def progress(stage: str, advanced: int, total: int | None) -> None:
        nonlocal calls
        if stage == "map" and advanced:
            calls += 1
            if calls == 5:
                raise KeyboardInterrupt

    settings = load_settings(cache=str(called.machine.cache), registry=f"oci:{called.folder.parent / 'registry'}")
    with Pantry(settings, progress=progress) as pantry, pytest.raises(KeyboardInterrupt):
        pantry.map(contract, functions.parse)
    made = len(called.made())
    with pantry_of(called) as pantry:
        mapped = pantry.map(contract, functions.parse)
    assert (mapped.finished + mapped.made, len(called.made())) == (10, mapped.made)
    assert mapped.finished in (made, made - 1)
