"""Called: what holds for a function that makes the outputs of a contract file, or items of a map.

Its code is what the contract names, and lies in what is hashed.
"""

from __future__ import annotations

import os

from ctxpack_identity.hashing.outside import is_hashed
from ctxpack_identity.lighttyping import TYPE_CHECKING
from ctxpack_pantry.loadedcode import loaded_code
from ctxpack_pantry.weakpoints import WeakPoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from ctxpack_pantry.functions import FunctionName
    from ctxpack_pantry.results import Identified

__all__ = ["look_again", "with_function"]


def with_function(identified: Identified, function: Callable[..., object], name: FunctionName) -> Identified:
    """Return what a contract file came to when a function is called for it: a weak point more if no root covers it.

    Raises: InvalidInput (E_FUNCTION) when this process loaded other code than was hashed.
    """
    code = loaded_code(function)
    code.see(function, name)
    code.require(function, name, identified.hashed)
    if _covers(identified, name.file):
        return identified
    file = os.path.relpath(name.file, name.base)
    point = WeakPoint("file", f'the function {name} lies in {file}, and no root covers it; add it to "code"')
    return identified._replace(weak=(*identified.weak, point))


def look_again(identified: Identified, function: Callable[..., object], name: FunctionName) -> None:
    """Look at what is loaded after a call, which may have imported more."""
    loaded_code(function).see(function, name, [root.location for root in identified.hashed if not root.is_url])


def _covers(identified: Identified, file: str) -> bool:
    """Return whether what is hashed covers the file of a function, as far as that is known here."""
    codes = [transform["code_hash"] for transform in identified.contract["transforms"]]
    roots = [root for root in identified.hashed if not root.is_url]
    by_digest = len(codes) > len({root.listing for root in roots if root.is_code})
    return by_digest or any(is_hashed(file, root.place()) for root in roots)
