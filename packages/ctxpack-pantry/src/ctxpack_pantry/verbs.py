"""The verbs, one function each, as `Pantry` calls them. A verb's module is loaded when the verb is first used.

`id` and cache hits are frequent and need neither the registry nor the archive format, which take ten times as long to
load as the hit takes.
"""

from __future__ import annotations

from ctxpack_identity.lazy import lazy_front
from ctxpack_identity.lighttyping import TYPE_CHECKING

if TYPE_CHECKING:
    from ctxpack_pantry.export import export
    from ctxpack_pantry.identify import identify, say_weak_points
    from ctxpack_pantry.inspection import inspect
    from ctxpack_pantry.outputs import locate_outputs
    from ctxpack_pantry.packs import list_packs
    from ctxpack_pantry.pull import pull
    from ctxpack_pantry.push import push
    from ctxpack_pantry.removal import remove_all, remove_packs
    from ctxpack_pantry.run import run
    from ctxpack_pantry.seed import seed
    from ctxpack_pantry.verification import verify
else:
    __getattr__, __dir__ = lazy_front(
        __name__,
        {
            "export": "export",
            "identify": "identify say_weak_points",
            "inspection": "inspect",
            "outputs": "locate_outputs",
            "packs": "list_packs",
            "pull": "pull",
            "push": "push",
            "removal": "remove_all remove_packs",
            "run": "run",
            "seed": "seed",
            "verification": "verify",
        },
        package=__package__,
    )

__all__ = [
    "export",
    "identify",
    "inspect",
    "list_packs",
    "locate_outputs",
    "pull",
    "push",
    "remove_all",
    "remove_packs",
    "run",
    "say_weak_points",
    "seed",
    "verify",
]
