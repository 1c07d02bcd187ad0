"""A front loads a module when one of its names is first used, and has no other names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from ctxpack_identity.lazy import lazy_front


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A package whose modules each have a name or two."""
    folder = tmp_path / "lazy_example"
    folder.mkdir()
    (folder / "one.py").write_text("first = object()\nsecond = object()\n")
    (folder / "two.py").write_text("raise RuntimeError('loaded')\n")
    (folder / "__init__.py").write_text(
        "from ctxpack_identity.lazy import lazy_front\n"
        "__getattr__, __dir__ = lazy_front(__name__, {'one': 'first second', 'two': 'third'})\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield import_module("lazy_example")
    for name in [name for name in sys.modules if name.startswith("lazy_example")]:
        del sys.modules[name]


def test_a_name_is_that_of_its_module_and_its_module_only_is_loaded(package: ModuleType) -> None:
    assert "lazy_example.one" not in sys.modules
    first = package.first
    assert first is sys.modules["lazy_example.one"].first
    assert "lazy_example.two" not in sys.modules


def test_a_name_is_looked_up_once(package: ModuleType) -> None:
    assert package.second is vars(package)["second"]


def test_the_failure_of_a_module_is_not_hidden(package: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="loaded"):
        package.third  # noqa: B018


def test_another_name_is_no_attribute(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match="module 'lazy_example' has no attribute 'fourth'"):
        package.fourth  # noqa: B018


def test_names_that_are_not_loaded_yet_are_listed(package: ModuleType) -> None:
    """As notebooks do to complete a name."""
    assert {"first", "second", "third"} <= set(dir(package))
    assert "lazy_example.one" not in sys.modules


def test_a_module_can_be_the_front_of_a_package() -> None:
    find, _ = lazy_front(__name__, {"digest": "digest_of"}, package="ctxpack_identity")
    from ctxpack_identity.digest import digest_of

    assert find("digest_of") is digest_of


def test_the_front_alone_loads_no_module_that_it_offers() -> None:
    name = "ctxpack_identity"
    code = f"import sys, {name}; print(*sorted(one for one in sys.modules if one.startswith('{name}.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ctxpack_identity.lazy", "ctxpack_identity.lighttyping"]
