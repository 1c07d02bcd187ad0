"""An identity and a cache hit are frequent, so they load neither the archive format nor the registry."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ctxpack_pantry import Pantry

if TYPE_CHECKING:
    from pantry_project import Project

HEAVY = (
    "ctxpack_bundle",
    "ctxpack_oci",
    "ctxpack_pantry.place",
    "ctxpack_pantry.seed",
    "concurrent.futures",
    "ctypes",
    "difflib",
    "importlib.resources",
    "isal",
    "msgspec",
    "pyfastcdc",
    "requests",
    "subprocess",
    "tomllib",
)

LOAD = """
import sys
{work}
print(*(name for name in {heavy} if name in sys.modules))
"""

WEAK = ("ctxpack_pantry.uncovered", "ctxpack_pantry.weakpoints")

OPEN = "from ctxpack_pantry import Pantry, load_settings, parse_uri\npantry = Pantry(load_settings())\n"


@pytest.mark.parametrize(
    "work",
    [
        "import ctxpack_pantry",
        OPEN + "pantry.resolve('contract.json')",
        OPEN + "pantry.pull(parse_uri({uri!r}))",
        OPEN + "pantry.remove(parse_uri({uri!r}))",
    ],
    ids=["import", "resolve", "hit", "remove"],
)
def test_frequent_work_loads_no_module_that_it_does_not_use(
    project: Project, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    uri = Pantry(project.settings).seed([], str(project.contract)).uri
    monkeypatch.setenv("CTXPACK_CACHE", project.settings.cache.value)
    heavy = HEAVY if "resolve" in work else (*HEAVY, *WEAK)
    script = LOAD.format(work=work.format(uri=uri), heavy=heavy)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=project.root, check=False)
    assert (done.stdout, done.stderr) == ("\n", "")


def test_a_miss_in_a_folder_loads_no_http(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTXPACK_CACHE", project.settings.cache.value)
    work = OPEN + (
        "from ctxpack_pantry import NotFound\n"
        "try: pantry.pull(parse_uri('ctx://sha256:' + '0' * 64))\n"
        "except NotFound: print('missed', *(name for name in ('requests', 'ssl') if name in sys.modules))"
    )
    script = "import sys\n" + work
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=project.root, check=False)
    assert (done.stdout, done.stderr) == ("missed\n", "")


def test_a_remembered_call_loads_no_result_of_another_verb(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTXPACK_CACHE", project.settings.cache.value)
    (project.root / "shouting.py").write_text(
        "import sys\nfrom pathlib import Path\nfrom ctxpack_pantry import memo\n\n@memo\n"
        "def shout(docs: Path, out: Path) -> None:\n    out.mkdir()\n\nif __name__ == '__main__':\n"
        f"    shout(Path('raw_docs'))\n    print(*(name for name in {(*HEAVY, 'ctxpack_pantry.results')} "
        "if name in sys.modules))\n"
    )
    script = [sys.executable, "shouting.py"]
    subprocess.run(script, capture_output=True, cwd=project.root, check=True)
    done = subprocess.run(script, capture_output=True, text=True, cwd=project.root, check=True)
    assert done.stdout == "\n"
