"""Fronts that load a module when one of its names is first used (PEP 562).

A command line must start fast: the import of one name loads the module of that name, not all modules.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

__all__ = ["lazy_front"]


def lazy_front(
    front: str, modules: Mapping[str, str], *, package: str = ""
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a front: a package, or a module that offers names of other modules.

    modules: for each module, those of its names that the front offers, separated by blanks. No name may be that of a
    module directly in the front: Python binds a loaded module to its own name. package: holds the modules; by default
    the front itself.
    """
    homes = {name: f"{package or front}.{module}" for module, names in modules.items() for name in names.split()}

    def find(name: str) -> object:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {front!r} has no attribute {name!r}")
        value: object = getattr(__import__(home, fromlist=[name]), name)
        setattr(sys.modules[front], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[front]), *homes})

    return find, names
