"""What is called is what the contract names: code that was edited since this process loaded it is refused."""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ctxpack_identity import InvalidInput
from ctxpack_pantry import Pantry, loadedcode
from ctxpack_pantry.functions import name_function
from ctxpack_pantry.loadedcode import LoadedCode, loaded_code

CHANGED = "its code changed since this process loaded it"

STEP = """
from pathlib import Path
import {lib}.helper

SIZE = 1

def make(out):
    out.write_text({lib}.helper.word())

def parse(item, out):
    out.write_text(item.read_text() + {lib}.helper.word())
"""
MEMO = "from builtins import _pantry\nfrom ctxpack_pantry import memo\n"
REMEMBERED = "\n@memo(pantry=_pantry, code=['{lib}'])\ndef remembered(out):\n    make(out)\n"
HELPER = "WORD = 'old'\ndef word():\n    return WORD\n"

Call = Callable[[ModuleType], str]


class Work:
    """A project of a module, called `step` here, which needs lib/helper.py. The names are unique to a test."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.lib, self.step = folder, f"lib{number}", f"step{number}"
        self.write("helper", HELPER)
        self.write("step", MEMO + STEP.format(lib=self.lib) + REMEMBERED.format(lib=self.lib))

    def path(self, name: str) -> Path:
        return self.folder / (f"{self.step}.py" if name == "step" else f"{self.lib}/{name}.py")

    def write(self, name: str, text: str) -> None:
        self.path(name).parent.mkdir(exist_ok=True)
        self.path(name).write_text(text)
        importlib.invalidate_caches()

    def edit(self, name: str, old: str, new: str) -> None:
        text = self.path(name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def load(self) -> Any:
        return importlib.import_module(self.step)

    def load_anew(self) -> Any:
        for name in [name for name in sys.modules if name.partition(".")[0] in (self.lib, self.step)]:
            del sys.modules[name]
        return self.load()

    def reload(self, *names: str) -> Any:
        for name in names:
            importlib.reload(sys.modules[self.step if name == "step" else f"{self.lib}.{name}"])
        return sys.modules[self.step]

    def contract(self, **members: Any) -> dict[str, Any]:
        code = [{"path": f"{self.step}.py"}, {"path": self.lib}]
        transform = {"tool": "t", "tool_version": "1", "code": code, "params": {}}
        inputs = [{"name": "in", "path": "in"}]
        return {"inputs": inputs, "transforms": [transform], "outputs": [{"path": "out"}], **members}


_numbers = iter(range(1000))


@pytest.fixture
def work(tmp_path: Path, pantry: Pantry, monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    folder = tmp_path / "work"
    (folder / "in").mkdir(parents=True)
    (folder / "in/a.txt").write_text("a ")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr("builtins._pantry", pantry, raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a .pyc knows seconds only
    work = Work(folder, next(_numbers))
    yield work
    for name in [name for name in sys.modules if name.partition(".")[0] in (work.lib, work.step)]:
        del sys.modules[name]


@pytest.fixture(params=["memo", "compute", "map"])
def call(request: pytest.FixtureRequest, pantry: Pantry, work: Work) -> Call:
    """Calls the function of a module in one of the three ways; returns what it made."""

    def call(step: Any) -> str:
        if request.param == "memo":
            return str(step.remembered().read_text())
        if request.param == "compute":
            pantry.compute(work.contract(), step.make, force=True)
            return Path("out").read_text()
        mapped = pantry.map(work.contract(each={"input": "in", "output": "{path}"}), step.parse, force=True)
        assert mapped.status == 0, mapped.failed
        return Path("out/a.txt").read_text().removeprefix("a ")

    return call


def refuse(call: Call, step: Any, file: Path) -> None:
    with pytest.raises(InvalidInput, match=CHANGED) as caught:
        call(step)
    assert caught.value.code == "E_FUNCTION"
    assert caught.value.got == str(file.relative_to(Path.cwd()))
    assert "importlib.reload" in caught.value.fix


@pytest.mark.parametrize("called", [True, False], ids=["after a call", "before the first"])
@pytest.mark.parametrize("name", ["step", "helper"])
def test_an_edited_function_is_refused_until_its_module_is_loaded_again(
    work: Work, call: Call, name: str, called: bool
) -> None:
    step = work.load()
    if called:
        assert call(step) == "old"
    if name == "step":
        work.edit(name, "helper.word()", "helper.word().upper()")
    else:
        work.edit(name, "return WORD", "return WORD.upper()")
    refuse(call, step, work.path(name))
    refuse(call, step, work.path(name))
    assert call(work.reload(*dict.fromkeys([name, "step"]))) == "OLD"


@pytest.mark.parametrize("name", ["step", "helper"])
def test_an_edited_constant_is_refused_once_the_module_was_seen(work: Work, call: Call, name: str) -> None:
    step = work.load()
    call(step)
    work.edit(name, "SIZE = 1" if name == "step" else "'old'", "SIZE = 2" if name == "step" else "'new'")
    refuse(call, step, work.path(name))
    assert call(work.reload(*dict.fromkeys([name, "step"]))) == ("old" if name == "step" else "new")


def test_memo_sees_modules_when_it_decorates(work: Work) -> None:
    step = work.load()
    work.edit("helper", "'old'", "'new'")
    refuse(lambda step: str(step.remembered()), step, work.path("helper"))


def test_a_function_that_memo_decorates_is_that_of_the_module_that_is_loaded_again(work: Work) -> None:
    work.edit("step", "    make(out)", "    out.write_text('old')")
    step = work.load()
    assert step.remembered().read_text() == "old"
    work.edit("step", "'old'", "'new'")
    refuse(lambda step: str(step.remembered()), step, work.path("step"))
    assert work.reload("step").remembered().read_text() == "new"


def test_all_of_a_module_is_compared_when_memo_decorates_as_it_is_run(work: Work) -> None:
    edit = "text = Path(__file__).read_text()\nPath(__file__).write_text(text.replace('SIZE = 1', 'SIZE = 2'))\n"
    work.edit("step", "SIZE = 1\n", f"SIZE = 1\n{edit}")
    step = work.load()
    refuse(lambda step: str(step.remembered()), step, work.path("step"))


def test_a_compiled_file_of_a_former_content_is_refused(
    work: Work, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python takes it when the source was edited within a second and kept its size."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(loadedcode, "_began", lambda: 2.0**62)
    now = 1_700_000_000_000_000_000
    os.utime(work.path("helper"), ns=(now, now))
    compiled = work.load_anew().__dict__[work.lib].helper.__cached__
    os.utime(compiled, ns=(now + 1, now + 1))
    work.edit("helper", "'old'", "'new'")
    os.utime(work.path("helper"), ns=(now + 2, now + 2))
    step = work.load_anew()
    assert sys.modules[f"{work.lib}.helper"].word() == "old"
    refuse(call, step, work.path("helper"))
    os.unlink(compiled)
    assert call(work.load_anew()) == "new"


def test_a_module_that_a_call_imports_is_seen_after_it(work: Work, call: Call) -> None:
    work.edit("step", f"import {work.lib}.helper\n", "")
    work.edit("step", f"    out.write_text({work.lib}", f"    import {work.lib}.helper\n    out.write_text({work.lib}")
    work.edit("step", "    out.write_text(item", f"    import {work.lib}.helper\n    out.write_text(item")
    step = work.load()
    assert call(step) == "old"
    work.edit("helper", "'old'", "'new'")
    refuse(call, step, work.path("helper"))


def test_a_function_from_before_a_reload_is_refused(work: Work, pantry: Pantry) -> None:
    make = work.load().make
    pantry.compute(work.contract(), make)
    work.edit("step", "helper.word()", "helper.word().upper()")
    step = work.reload("step")
    with pytest.raises(InvalidInput, match=CHANGED):
        pantry.compute(work.contract(), make, force=True)
    pantry.compute(work.contract(), step.make, force=True)
    assert Path("out").read_text() == "OLD"


@pytest.mark.parametrize("reloaded", ["step", "helper"])
def test_all_that_the_edit_is_about_must_be_loaded_again(work: Work, call: Call, reloaded: str) -> None:
    """Of a helper alone, the module of the function may hold names; of the module alone, the helper is what it was."""
    step = work.load()
    call(step)
    work.edit("helper", "'old'", "'new'")
    refuse(call, work.reload(reloaded), work.path("helper"))
    assert call(work.reload("helper", "step")) == "new"
    assert step is work.load()


def test_the_same_content_is_no_edit(work: Work, call: Call) -> None:
    step = work.load()
    call(step)
    for name in ("step", "helper"):
        os.utime(work.path(name), (1, 1))
        text = work.path(name).read_text()
        work.path(name).unlink()
        work.write(name, text)
    assert call(step) == "old"
    work.edit("helper", "'old'", "'new'")
    refuse(call, step, work.path("helper"))
    work.edit("helper", "'new'", "'old'")
    assert call(step) == "old"


def test_what_no_root_covers_is_no_matter(work: Work, call: Call) -> None:
    work.write("left_out", "X = 1\n")
    work.edit("step", f"code=['{work.lib}']", f"code=['{work.lib}/helper.py']")
    work.edit("step", "SIZE = 1", f"import {work.lib}.left_out")
    work.contract = lambda **members: {  # type: ignore[method-assign]
        **Work.contract(work, **members),
        "transforms": [
            {
                "tool": "t",
                "tool_version": "1",
                "code": [{"path": f"{work.step}.py"}, {"path": work.lib, "exclude": ["left_out.py"]}],
                "params": {},
            }
        ],
    }
    step = work.load()
    call(step)
    work.edit("left_out", "1", "2")
    assert call(step) == "old"


def test_a_helper_that_is_gone_is_an_edit(work: Work, pantry: Pantry) -> None:
    step = work.load()
    pantry.compute(work.contract(), step.make)
    work.write("other", "")
    work.path("helper").unlink()
    with pytest.raises(InvalidInput, match=CHANGED):
        pantry.compute(work.contract(), step.make, force=True)


def test_a_file_that_is_older_than_the_process_is_not_compiled(
    work: Work, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(loadedcode, "_began", lambda: 2.0**62)
    monkeypatch.setattr(loadedcode, "_compiled", fail)
    step = work.load()
    assert call(step) == "old"
    work.edit("helper", "'old'", "'new'")
    refuse(call, step, work.path("helper"))


def test_a_file_that_is_no_python_any_more_is_an_edit(work: Work, call: Call) -> None:
    step = work.load()
    work.edit("helper", "def word", "def (")
    refuse(call, step, work.path("helper"))


def test_methods_and_what_decorators_wrap_are_compared(work: Work, pantry: Pantry) -> None:
    text = (
        "import functools\n"
        "def plain(function):\n    return functools.wraps(function)(lambda: function())\n"
        "class A:\n    me = None\n"
        "    def one(self):\n        return 1\n"
        "    @staticmethod\n    def two():\n        return 2\n"
        "    @property\n    def three(self):\n        return 3\n"
        "A.me = A\n"
        "@plain\ndef word():\n    return 'old'\n"
    )
    for old, new in (("return 1", "return 0"), ("return 2", "return 0"), ("return 3", "return 0"), ("'old'", "'x'")):
        work.write("helper", text)
        step = work.load_anew()
        work.edit("helper", old, new)
        with pytest.raises(InvalidInput, match=CHANGED):
            pantry.compute(work.contract(), step.make, force=True)


def test_it_travels_to_another_process_and_is_compared_there(work: Work) -> None:
    step = work.load()
    name = name_function(step.make)
    code = loaded_code(step.make)
    code.see(step.make, name, [work.lib])
    there: LoadedCode = pickle.loads(pickle.dumps(code))
    there.require(step.make, name, [])
    work.edit("step", "SIZE = 1", "SIZE = 2")
    arrived: dict[str, Any] = {"__file__": step.__file__, "__name__": step.__name__}
    exec(compile("def make(out): ...", step.__file__, "exec"), arrived)
    with pytest.raises(InvalidInput, match=CHANGED):
        there.require(arrived["make"], name, [])
    work.edit("step", "SIZE = 2", "SIZE = 1")
    there.require(arrived["make"], name, [])  # it was compared where it is from


@pytest.mark.parametrize("name", ["step", "helper"])
def test_workers_that_loaded_former_code_fail(work: Work, pantry: Pantry, name: str) -> None:
    step, contract = work.load(), work.contract(each={"input": "in", "output": "{path}"})
    with ProcessPoolExecutor(1, get_context("fork")) as executor:
        assert pantry.map(contract, step.parse, executor=executor).status == 0
        work.edit(name, "helper.word()", "helper.word().upper()") if name == "step" else work.edit(
            name, "'old'", "'new'"
        )
        work.reload(*dict.fromkeys([name, "step"]))
        mapped = pantry.map(contract, step.parse, executor=executor, force=True)
        assert (mapped.status, mapped.made) == (1, 0)
        assert CHANGED in mapped.failed[0].reason
    with ProcessPoolExecutor(1, get_context("fork")) as executor:
        assert pantry.map(contract, step.parse, executor=executor, force=True).status == 0
    assert Path("out/a.txt").read_text() == ("a OLD" if name == "step" else "a new")


def test_a_function_of_a_script_is_compared_with_its_file(tmp_path: Path, pantry: Pantry) -> None:
    script = (
        "from pathlib import Path\n"
        "from ctxpack_pantry import InvalidInput, Pantry, load_settings\n"
        "def make(out):\n    out.write_text('old')\n"
        "contract = {'inputs': [], 'outputs': [{'path': 'out'}],\n"
        "    'transforms': [{'tool': 't', 'tool_version': '1', 'code': {'path': 'script.py'}}]}\n"
        "with Pantry(load_settings(cache='cache')) as pantry:\n"
        "    pantry.compute(contract, make, offline=True)\n"
        "    print(Path('out').read_text())\n"
        "    text = Path('script.py').read_text()\n"
        "    Path('script.py').write_text(text.replace(\"'old'\", \"'new'\", 1))\n"
        "    try:\n        pantry.compute(contract, make, offline=True)\n"
        "    except InvalidInput as error:\n        print(error.code)\n"
    )
    (tmp_path / "script.py").write_text(script)
    environment = {**os.environ, "CTXPACK_REGISTRY": f"oci:{tmp_path}/registry", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["old", "E_FUNCTION"], done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says when a process began")
def test_a_forked_process_began_when_its_program_did() -> None:
    script = (
        "import os, sys, time\n"
        "time.sleep(1)\n"
        "child = os.fork()\n"
        "from ctxpack_pantry.loadedcode import _began\n"
        "print(_began(), flush=True)\n"
        "if child: os.waitpid(child, 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    one, other = map(float, done.stdout.split())
    assert abs(one - other) < 0.5
