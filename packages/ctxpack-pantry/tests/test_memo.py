"""A decorated function runs once for equal inputs, params and code; its contract is that of an equal contract file."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctxpack_identity import CtxPackError, InvalidInput, canonical_json, parse_json
from ctxpack_pantry import Pantry, memo
from ctxpack_pantry.functions import WrongCall, name_function

PIPELINE = """
from pathlib import Path
from ctxpack_pantry import memo

ran = []
pantry = None


def options(**more):
    return memo(pantry=pantry, **more)
"""

PARSE = """
@options()
def parse(docs: Path, out: Path, *, dpi=300, sizes=(1, 2), labels=None):
    ran.append((docs, dpi, sizes, labels))
    out.mkdir()
    (out / "text").write_text(f"{docs.name} {dpi!r}")
"""


class Load(Protocol):
    """Writes a module with PIPELINE and text, and loads it; folder: in which it lies."""

    def __call__(self, text: str, *, name: str = ..., folder: Path | None = ...) -> Any: ...


@pytest.fixture
def load(pantry: Pantry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """The modules have the pantry of the test; the current folder is theirs, and has the input `raw`."""
    work = tmp_path / "work"
    (work / "raw").mkdir(parents=True)
    (work / "raw" / "a.txt").write_text("alpha")
    monkeypatch.chdir(work)
    names = set()

    def load(text: str, *, name: str = "pipeline", folder: Path | None = None) -> Any:
        file = (folder or work).joinpath(*name.split(".")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        names.add(name)
        file.write_text(PIPELINE.replace("pantry = None", "from builtins import _pantry as pantry") + text)
        monkeypatch.setattr("builtins._pantry", pantry, raising=False)
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in names:
        sys.modules.pop(name, None)


def refused(module_text: str, load: Load) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        load(module_text)
    assert caught.value.code == "E_FUNCTION"
    return caught.value


def test_a_call_makes_a_read_only_folder_and_an_equal_call_does_not_run(load: Load) -> None:
    pipeline = load(PARSE)
    result = pipeline.parse(Path("raw"), dpi=600)
    assert (result / "text").read_text() == "raw 600"
    assert os.stat(result).st_mode & 0o222 == 0
    assert pipeline.parse(Path("raw"), dpi=600) == result
    assert len(pipeline.ran) == 1
    assert not (Path.cwd() / "out").exists()


def test_the_result_is_where_pull_says_it_is(load: Load, pantry: Pantry) -> None:
    pipeline = load(PARSE)
    result = pipeline.parse(Path("raw"))
    assert pantry.pull(pipeline.parse.uri(Path("raw"))).folder == str(result)


@pytest.mark.parametrize(
    ("body", "is_file"),
    [
        ("out.write_text('x')", True),
        ("out.mkdir(); (out / 'out').write_text('x')", False),
        ("out.mkdir(); (out / 'r').write_text('x')", False),
        ("(out / 'out').mkdir(parents=True); (out / 'out/out').write_text('x')", False),
        ("out.mkdir()", False),
    ],
    ids=["file", "folder with a file out", "folder with a file", "folder with a folder out", "empty folder"],
)
def test_the_result_is_a_file_or_a_folder_as_the_function_made_it(load: Load, body: str, is_file: bool) -> None:
    pipeline = load(f"@options()\ndef make(out):\n    {body}\n")
    made, found = pipeline.make(), pipeline.make()
    assert made == found
    assert made.is_file() == is_file
    assert made.name == ("out" if is_file else "artifacts")


def test_the_function_gets_a_place_that_is_not_there_in_a_folder_that_is(load: Load) -> None:
    pipeline = load(
        "@options()\ndef make(out):\n    ran.append((out.exists(), out.parent.is_dir()))\n    out.mkdir()\n"
    )
    pipeline.make()
    assert pipeline.ran == [(False, True)]


def test_params_arrive_in_their_canonical_form_and_defaults_count_as_given(load: Load) -> None:
    pipeline = load(PARSE)
    result = pipeline.parse(Path("raw"), dpi=3.0)
    assert pipeline.ran == [(Path("raw"), 3, [1, 2], None)]
    assert type(pipeline.ran[0][1]) is int
    assert pipeline.parse(docs=Path("raw"), sizes=[1, 2], dpi=3, labels=None) == result
    assert len(pipeline.ran) == 1


def test_a_param_an_input_and_the_code_change_the_result(load: Load) -> None:
    pipeline = load(PARSE)
    uris = [pipeline.parse.uri(Path("raw")), pipeline.parse.uri(Path("raw"), dpi=1)]
    Path("raw/a.txt").write_text("beta")
    uris.append(pipeline.parse.uri(Path("raw")))
    uris.append(load(PARSE + "# changed").parse.uri(Path("raw")))
    assert len(set(uris)) == 4


def equivalent(**members: Any) -> dict[str, Any]:
    """The contract file of PARSE with its defaults."""
    transform = {
        "tool": "pipeline.parse",
        "tool_version": "1",
        "code": [{"path": "pipeline.py"}],
        "params": {"dpi": 300, "sizes": [1, 2], "labels": None},
        **members,
    }
    return {
        "inputs": [{"name": "docs", "path": "raw"}],
        "command": ["python", "pipeline:parse"],
        "transforms": [transform],
        "outputs": [{"path": "out"}],
    }


def test_the_uri_is_that_of_the_equivalent_contract_file(load: Load, pantry: Pantry) -> None:
    pipeline = load(PARSE)
    Path("contract.json").write_text(json.dumps(equivalent()))
    uri = pantry.resolve("contract.json").uri
    assert pipeline.parse.uri(Path("raw")) == uri
    pipeline.parse(Path("raw").absolute())
    assert [pack.uri for pack in pantry.list_packs().packs] == [uri]


def test_the_options_are_members_of_the_equivalent_contract_file(
    load: Load, pantry: Pantry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THREADS", "4")
    pipeline = load(
        PARSE.replace(
            "@options()",
            "@options(tool='t', version='2', code=['lib', Path('../shared/util.py')], environment='uv.lock', salt='s',"
            "variables=['THREADS'], platform={'os': 'linux'}, inputs={'docs': {'exclude': ['*.tmp']}},"
            "labels={'a': 'b'})",
        )
    )
    for name in ("lib/a.py", "../shared/util.py", "uv.lock"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("x = 1\n")
    Path("raw/x.tmp").write_text("left out")
    code = [{"path": "pipeline.py"}, {"path": "lib"}, {"path": "../shared/util.py"}]
    document = equivalent(tool="t", tool_version="2", code=code, environment={"path": "uv.lock"})
    document["inputs"][0]["exclude"] = ["*.tmp"]
    document |= {"salt": "s", "variables": ["THREADS"], "platform": {"os": "linux"}}
    assert pipeline.parse.uri(Path("raw")) == pantry.resolve(document).uri
    pipeline.parse(Path("raw"))
    [pack] = pantry.list_packs().packs
    assert pack.manifest is not None
    assert pack.manifest.provenance["labels"] == {"a": "b"}
    assert {"code/0.jsonl", "environment/0.jsonl", "environment/0.txt"} < {one.path for one in pack.manifest.listings}


def test_a_project_has_the_same_uris_wherever_it_lies(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uris = set()
    text = PARSE.replace("@options()", "@options(code=[Path(__file__).parent, '../uv.lock'])")
    for folder in (tmp_path / "one", tmp_path / "another" / "deep"):
        (folder / "raw").mkdir(parents=True)
        (folder / "raw/a.txt").write_text("alpha")
        (folder / "uv.lock").write_text("lock")
        pipeline = load(text, name="pkg.pipeline", folder=folder)
        monkeypatch.chdir(folder)
        uris.add(pipeline.parse.uri(Path("raw")))
        monkeypatch.chdir(folder / "pkg")
        uris.add(pipeline.parse.uri(Path("../raw")))
    assert len(uris) == 1


def test_a_helper_in_code_changes_the_uri_and_one_that_no_root_covers_is_named_once(
    load: Load, notices: list[str]
) -> None:
    for name in ("helper.py", "other.py"):
        Path(name).write_text("x = 1\n")
    imports = "def later():\n    import os, helper, other\n"
    covered = PARSE.replace("@options()", "@options(code='helper.py')")
    before = load(imports + covered).parse.uri(Path("raw"))
    Path("helper.py").write_text("x = 2\n")
    pipeline = load(imports + covered)
    assert pipeline.parse.uri(Path("raw")) != before
    notices.clear()
    pipeline = load(imports + PARSE)
    pipeline.parse(Path("raw"))
    pipeline.parse(Path("raw"))
    said = [notice for notice in notices if "imports" in notice]
    assert said == [
        'weak point: pipeline.py imports helper.py, and no root covers it; add it to "code"; '
        'pipeline.py imports other.py, and no root covers it; add it to "code"'
    ]
    assert len(notices) == len(set(notices))


def test_a_function_called_main_is_no_branch(load: Load, notices: list[str]) -> None:
    load("@options()\ndef main(out):\n    out.mkdir()\n").main()
    assert not [notice for notice in notices if "tomorrow" in notice]


def test_other_keywords_are_params_and_those_that_are_paths_inputs(load: Load) -> None:
    pipeline = load("@options()\ndef make(out, **more):\n    ran.append(more)\n    out.mkdir()\n")
    pipeline.make(b=2.0, a=Path("raw"))
    pipeline.make(a=Path("raw"), b=2)
    assert pipeline.ran == [{"a": Path("raw"), "b": 2}]


@pytest.mark.parametrize("signature", ["self, out", "out, **more", "*, out, self"])
def test_a_parameter_may_be_called_self(load: Load, signature: str) -> None:
    pipeline = load(f"@options()\ndef make({signature}):\n    ran.append(1)\n    out.mkdir()\n")
    assert pipeline.make.uri(self=1) == pipeline.make.uri(self=1.0)
    pipeline.make(self=1)
    pipeline.make(self=1.0)
    assert pipeline.ran == [1]


@pytest.mark.parametrize("signature", ["out, docs, n=1", "docs, out, n=1", "docs, n=1, *, out", "docs, out, /, n=1"])
def test_out_may_be_any_parameter_and_no_caller_gives_it(load: Load, signature: str) -> None:
    pipeline = load(f"@options()\ndef make({signature}):\n    ran.append((docs, n))\n    out.mkdir()\n")
    pipeline.make(Path("raw"), 2)
    pipeline.make(Path("raw"), n=2.0)
    assert pipeline.ran == [(Path("raw"), 2)]
    with pytest.raises(WrongCall, match="'out' is where the function writes, and not for callers"):
        pipeline.make(Path("raw"), out=Path("x"))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("parse()", "arguments are missing: expected docs, got no value"),
        ("parse(Path('raw'), 3)", "too many arguments: expected at most 1 by position, got 2"),
        ("parse(Path('raw'), docs=1)", "argument 'docs' by keyword: expected one value, got a keyword"),
        ("parse(Path('raw'), dpj=1)", "unknown argument: expected docs, dpi, sizes, labels, got dpj"),
    ],
)
def test_a_call_that_does_not_fit_is_a_type_error_that_says_so(load: Load, call: str, said: str) -> None:
    pipeline = load(PARSE)
    with pytest.raises(TypeError, match="pipeline:parse") as caught:
        eval(f"pipeline.{call}", {"pipeline": pipeline, "Path": Path})
    assert said in str(caught.value)
    assert isinstance(caught.value, InvalidInput)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({1: 2}, "E_NON_STRING_KEY"),
        (float("nan"), "E_NAN"),
        (float("inf"), "E_NAN"),
        (-0.0, "E_NEGATIVE_ZERO"),
        (2**70 + 1, "E_INT_RANGE"),
        ("\ud800", "E_SURROGATE"),
        (b"bytes", "E_TYPE"),
        ({1, 2}, "E_TYPE"),
        ([Path("raw")], "E_TYPE"),
        (type("Text", (str,), {})("x"), "E_TYPE"),
        (functools.partial(print), "E_TYPE"),
    ],
    ids=repr,
)
def test_what_is_no_json_is_refused_with_its_place(load: Load, value: Any, code: str) -> None:
    pipeline = load(PARSE)
    with pytest.raises(InvalidInput, match="pipeline:parse, /labels/deep") as caught:
        pipeline.parse(Path("raw"), labels={"deep": value})
    assert caught.value.code == code
    assert pipeline.ran == []


@pytest.mark.parametrize("value", ["raw", "raw/a.txt", "./raw", ".", ["x", {"deep": "raw"}], {"raw": 1}], ids=repr)
def test_a_text_that_is_the_path_of_something_is_refused_unless_it_is_said_to_be_none(load: Load, value: Any) -> None:
    pipeline = load(PARSE)
    with pytest.raises(InvalidInput, match=r'pass pathlib\.Path\(\.\.\.\).*@memo\(texts=\["labels"\]\)') as caught:
        pipeline.parse(Path("raw"), labels=value)
    assert caught.value.code == "E_PATH"
    load(PARSE.replace("@options()", "@options(texts='labels')")).parse(Path("raw"), labels=value)


def test_a_broken_link_is_something(load: Load) -> None:
    os.symlink("nowhere", "link")
    with pytest.raises(InvalidInput, match="the path of a file or folder"):
        load(PARSE).parse(Path("raw"), labels="link")


def test_an_input_that_is_not_there_is_refused(load: Load) -> None:
    with pytest.raises(CtxPackError, match="missing"):
        load(PARSE).parse(Path("missing"))


AROUND = """
def around(number):
    @options()
    def make(out):
        out.write_text(str(number))
    return make
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{AROUND}\naround(1)", "it uses variables of the function around it, which no contract names: number"),
        ("make = options()(lambda out: None)", "a lambda has no name of its own"),
        ("class A:\n    @options()\n    def make(self, out): ...", "a method; the object"),
        ("class A:\n    @staticmethod\n    @options()\n    def make(out): ...", "a method; the object"),
        ("class A:\n    def make(self, out): ...\noptions()(A().make)", "not a function: a method"),
        ("class A:\n    def __call__(self, out): ...\noptions()(A())", "not a function: an object of the class A"),
        ("options()(dict)", "not a function: a class"),
        ("options()(print)", "not a function: a function that is not written in Python"),
        ("import functools\noptions()(functools.partial(print))", "not a function: a partial"),
        ("@options()\ndef make(out):\n    yield", "a generator or coroutine"),
        ("@options()\nasync def make(out): ...", "a generator or coroutine"),
        ("@options()\nasync def make(out):\n    yield", "a generator or coroutine"),
        ("@options()\ndef make(*docs, out): ...", "arguments without names: *docs"),
        ("@options()\ndef make(docs): ...", "no parameter for the result"),
        ("@options(inputs={'dosc': {}})\ndef make(docs, out): ...", "no such parameter: expected docs, got dosc"),
        ("exec('@options()\\ndef make(out): ...')", "the function is in no file"),
        (
            "exec(compile('@options()\\ndef make(out): ...', '<ipython-input-3>', 'exec'))",
            "move it into a file of its own",
        ),
        ("exec(compile('@options()\\ndef make(out): ...', 'raw/a.txt', 'exec'))", "the function is in no file"),
    ],
)
def test_a_function_that_cannot_be_named_is_refused(load: Load, text: str, said: str) -> None:
    error = refused(text, load)
    assert said in str(error)
    assert error.fix or error.expected


def test_a_function_in_a_function_that_uses_none_of_its_variables_is_named(load: Load) -> None:
    pipeline = load(AROUND.replace("str(number)", "'x'"))
    assert pipeline.around(1)().read_text() == "x"


def test_a_function_of_the_prompt_is_refused() -> None:
    text = "from ctxpack_pantry import memo\n@memo\ndef make(out): ...\n"
    for arguments, stdin in ([sys.executable, "-"], text), ([sys.executable, "-c", text], None):
        done = subprocess.run(arguments, input=stdin, capture_output=True, text=True, check=False)
        assert "__main__:make: the function is in no file" in done.stderr
        assert "move it into a file of its own, and import it from there" in done.stderr


def test_code_that_changed_since_it_was_loaded_is_refused(load: Load) -> None:
    pipeline = load(PARSE)
    pipeline.parse(Path("raw"))
    with open("pipeline.py", "a") as file:
        file.write("# changed")
    with pytest.raises(InvalidInput, match="its code changed since this process loaded it"):
        pipeline.parse(Path("raw"))


def test_a_helper_that_changed_between_two_calls_is_refused(load: Load) -> None:
    Path("helper.py").write_text("x = 1\n")
    pipeline = load(PARSE.replace("@options()", "@options(code='helper.py')"))
    pipeline.parse(Path("raw"))
    Path("helper.py").write_text("x = 2\n")
    with pytest.raises(InvalidInput, match="its code changed since this process loaded it"):
        pipeline.parse(Path("raw"), dpi=1)


def test_an_exception_passes_through_and_nothing_is_kept(
    load: Load, pantry: Pantry, leftovers: Callable[[], list[str]]
) -> None:
    pipeline = load("class Mine(Exception): ...\n@options()\ndef make(out):\n    out.mkdir()\n    raise Mine\n")
    with pytest.raises(pipeline.Mine):
        pipeline.make()
    assert (pantry.list_packs().packs, leftovers()) == ((), [])


def test_a_function_that_makes_nothing_or_changes_an_input_is_refused(load: Load, pantry: Pantry) -> None:
    pipeline = load(
        "@options()\ndef nothing(out): ...\n"
        "@options()\ndef changing(docs, out):\n    (docs / 'new').write_text('x')\n    out.mkdir()\n"
    )
    with pytest.raises(InvalidInput, match="the function did not make this output"):
        pipeline.nothing()
    with pytest.raises(InvalidInput, match="input docs: changed while the command ran"):
        pipeline.changing(Path("raw"))
    assert pantry.list_packs().packs == ()


def test_a_call_of_itself_with_the_same_arguments_is_an_error_and_with_others_is_not(load: Load) -> None:
    pipeline = load(
        "@options()\ndef count(out, *, n):\n"
        "    ran.append(n)\n    out.write_text(count(n=n - 1).read_text() + '+' if n else '.')\n"
        "@options()\ndef forever(out):\n    forever()\n"
        "@options()\ndef ping(out):\n    pong()\n"
        "@options()\ndef pong(out):\n    ping()\n"
    )
    assert pipeline.count(n=3).read_text() == ".+++"
    for function in (pipeline.forever, pipeline.ping):
        with pytest.raises(InvalidInput, match="needs, to make this, that it is made already") as caught:
            function()
        assert caught.value.code == "E_FUNCTION"
        with pytest.raises(InvalidInput, match="needs, to make this"):
            function()  # and nothing is held


def test_threads_that_call_at_once_run_it_once(load: Load, notices: list[str]) -> None:
    pipeline = load(
        "import threading\nbegun, go = threading.Event(), threading.Event()\n"
        "@options()\ndef make(out):\n    ran.append(1)\n    begun.set()\n    go.wait(30)\n    out.write_text('x')\n"
    )
    results = []
    threads = [threading.Thread(target=lambda: results.append(pipeline.make())) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert pipeline.begun.wait(30)
    # A thread that came too late to wait is served from the cache.
    pipeline.go.set()
    for thread in threads:
        thread.join(30)
    assert len(set(results)) == 1
    assert len(results) == 4
    assert pipeline.ran == [1]


def test_a_damaged_result_is_set_aside_and_made_again(load: Load, notices: list[str]) -> None:
    pipeline = load(PARSE)
    result = pipeline.parse(Path("raw"))
    text = result / "text"
    text.chmod(0o644)
    text.write_text("forged")
    assert (pipeline.parse(Path("raw")) / "text").read_text() == "raw 300"
    assert len(pipeline.ran) == 2
    assert any("set aside" in notice for notice in notices)


def test_what_is_pushed_is_a_hit_elsewhere(load: Load, open_pantry: Callable[..., Pantry]) -> None:
    text = "@memo(pantry={}, push=True)\ndef make(out):\n    ran.append(1)\n    out.write_text('x')\n"
    pipeline = load("here, there = None, None\n" + text.format("pantry"))
    assert pipeline.make().read_text() == "x"
    file = Path("pipeline.py").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins._pantry", open_pantry("elsewhere"))
        spec = importlib.util.spec_from_file_location("pipeline", "pipeline.py")
        assert spec is not None
        assert spec.loader is not None
        again = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(again)
    assert again.make().read_text() == "x"
    assert again.ran == []
    assert Path("pipeline.py").read_bytes() == file


def test_offline_the_registry_is_not_asked(load: Load, registry: Any) -> None:
    pipeline = load("@options(offline=True)\ndef make(out):\n    out.mkdir()\n")
    pipeline.make()
    assert registry.calls == []


def test_other_outputs_in_the_registry_are_adopted(load: Load, open_pantry: Callable[..., Pantry]) -> None:
    text = "value = 'mine'\n@options(push=True)\ndef make(out):\n    out.write_text(value)\n"
    pipeline = load(text)
    uri = pipeline.make.uri()
    elsewhere = open_pantry("elsewhere")
    Path("theirs").write_text("theirs")
    document = {
        "inputs": [],
        "command": ["python", "pipeline:make"],
        "transforms": [{"tool": "pipeline.make", "tool_version": "1", "code": [{"path": "pipeline.py"}]}],
        "outputs": [{"name": "out", "path": "theirs"}],
    }
    assert elsewhere.seed([], document).uri == uri
    assert load("@options()\ndef other(out):\n    out.mkdir()\n", name="other").other()
    offline = load(text.replace("push=True", "offline=True")).make  # another file, so another URI
    assert offline().read_text() == "mine"
    pipeline = load(text)
    elsewhere.push(uri)
    assert pipeline.make().read_text() == "theirs"


def test_a_decorated_function_keeps_its_name_and_is_pickled_by_it(load: Load) -> None:
    pipeline = load(PARSE)
    assert pipeline.parse.__name__ == "parse"
    assert pipeline.parse.__wrapped__.__qualname__ == "parse"
    assert pickle.loads(pickle.dumps(pipeline.parse)) is pipeline.parse


@pytest.mark.parametrize(
    ("name", "file", "base"),
    [
        ("pipeline", "pipeline.py", ""),
        ("pkg.mod", "pkg/mod.py", ""),
        ("pkg", "pkg/__init__.py", ""),
        ("other", "pkg/mod.py", "pkg"),
        ("pkg.mod", "site-packages/pkg/mod.py", "site-packages/pkg"),
    ],
)
def test_the_base_of_a_module_is_where_it_is_imported_from(tmp_path: Path, name: str, file: str, base: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("def make(out): ...\n")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    named = name_function(module.make)
    assert str(named) == f"{name}:make"
    assert Path(named.base) == tmp_path / base


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: str(x) != "-0.0")
    | st.text(st.characters(codec="utf-8"), max_size=8).filter(lambda text: not os.path.lexists(text)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(
            st.text(st.characters(codec="utf-8"), max_size=4).filter(lambda text: not os.path.lexists(text)),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)

got: list[object] = []


def keep(a: object, b: object, out: Path, *, c: object = 3.0) -> None:
    got.append((a, b, c))
    out.mkdir()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(a=json_values, b=json_values)
def test_params_of_any_value_arrive_canonical(pantry: Pantry, a: Any, b: Any) -> None:
    got.clear()
    memo(pantry=pantry)(keep)(a, b=b)
    for given_value, value in zip((a, b, 3), got[0] if got else (), strict=False):  # type: ignore[call-overload]
        assert canonical_json(value) == canonical_json(given_value)
        assert repr(value) == repr(parse_json(canonical_json(given_value)))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(a=json_values, b=json_values)
def test_equal_calls_have_equal_uris_however_arguments_are_given(pantry: Pantry, a: Any, b: Any) -> None:
    uri = memo(pantry=pantry)(keep).uri
    assert len({uri(a, b), uri(a, b=b), uri(b=b, a=a), uri(a, b, c=3), uri(c=3.0, b=b, a=a)}) == 1
    if canonical_json(a) != canonical_json(b):
        assert uri(a, b) != uri(b, a)


HEAVY = (
    "asyncio ctxpack_bundle ctxpack_oci ctxpack_pantry.making ctxpack_pantry.misses ctxpack_pantry.run "
    "ctxpack_pantry.seed inspect logging msgspec requests subprocess threading tomllib typing"
)

HIT = """
import sys
from pathlib import Path
from ctxpack_pantry import memo

@memo(environment="uv.lock")
def make(docs: Path, out: Path, *, n=1):
    out.{make}

make(Path("raw"))
print(*(name for name in "{heavy}".split() if name in sys.modules))
"""


@pytest.mark.parametrize("make", ["mkdir()", "write_text('x')"], ids=["folder", "file"])
def test_a_hit_loads_no_module_that_it_does_not_use(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: str
) -> None:
    monkeypatch.setenv("CTXPACK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CTXPACK_REGISTRY", f"oci:{tmp_path / 'registry'}")
    Path("uv.lock").write_text("lock")
    Path("script.py").write_text(HIT.format(make=make, heavy=HEAVY))
    seen = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        seen.append(done.stdout.split())
    assert "msgspec" in seen[0]
    assert seen[1] == []


def test_a_result_is_an_input_of_the_next_function(load: Load) -> None:
    pipeline = load(
        "@options()\ndef words(docs, out):\n    ran.append(1)\n    out.write_text((docs / 'a.txt').read_text())\n"
        "@options()\ndef count(words, out):\n    ran.append(2)\n    out.write_text(str(len(words.read_text())))\n"
    )
    assert pipeline.count(pipeline.words(Path("raw"))).read_text() == "5"
    Path("raw/b.txt").write_text("no matter")
    assert pipeline.count(pipeline.words(Path("raw"))).read_text() == "5"
    assert pipeline.ran == [1, 2, 1]


def test_the_current_folder_may_be_an_input_and_one_that_holds_the_cache_is_refused(load: Load) -> None:
    pipeline = load("@options()\ndef make(docs, out):\n    out.write_text('x')\n")
    assert pipeline.make(Path(".")).read_text() == "x"
    with pytest.raises(InvalidInput, match=r"the cache lies in what is hashed.*move the cache") as caught:
        pipeline.make(Path(".."))
    assert caught.value.code == "E_OUTPUT_INSIDE"
    left_out = "@options(inputs={'docs': {'exclude': ['/cache/', '/registry/']}})"
    pipeline = load(f"{left_out}\ndef make(docs, out):\n    out.write_text('x')\n")
    assert pipeline.make(Path("..")).read_text() == "x"


def test_a_miss_says_what_differs_from_the_nearest_pack(load: Load, notices: list[str]) -> None:
    pipeline = load(PARSE)
    pipeline.parse(Path("raw"))
    pipeline.parse(Path("raw"), dpi=600)
    [line] = [notice for notice in notices if notice.startswith("miss: ")]
    assert "300" in line
    assert "600" in line
