"""Modules that the tests of one folder share: pytest's importlib mode gives them no package to import them from."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

__all__ = ["load"]


def load(folder: Path, name: str) -> ModuleType:
    """Return the module `folder`/`name`.py, from now on importable as `name`, which no other module may have."""
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
