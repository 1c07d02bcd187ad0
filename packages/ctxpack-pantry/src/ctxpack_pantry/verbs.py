"""The verbs, one function each, as `Pantry` calls them. A verb's module is loaded when the verb is first used.

`id` and cache hits are frequent and need neither the registry nor the archive format, which take ten times as long to
load as the hit takes.
"""

from __future__ import annotations

from ctxpack_identity.lazy import lazy_front
from ctxpack_identity.lighttyping import TYPE_CHECKING

if TYPE_CHECKING:
    from ctxpack_pantry.denying import trust_deny
    from ctxpack_pantry.explain import explain
    from ctxpack_pantry.export import export
    from ctxpack_pantry.identify import identify, say_weak_points
    from ctxpack_pantry.inspection import inspect, list_files
    from ctxpack_pantry.lineage import trace_lineage
    from ctxpack_pantry.mapping import map_items
    from ctxpack_pantry.names import tag
    from ctxpack_pantry.outputs import locate_outputs
    from ctxpack_pantry.packs import list_packs
    from ctxpack_pantry.pull import pull
    from ctxpack_pantry.push import push
    from ctxpack_pantry.reference import find_uri
    from ctxpack_pantry.removal import remove_all, remove_packs
    from ctxpack_pantry.rotation import sign_all
    from ctxpack_pantry.run import compute, run
    from ctxpack_pantry.seed import seed
    from ctxpack_pantry.signing import sign
    from ctxpack_pantry.trusting import trust_add, trust_check, trust_list, trust_mode, trust_remove, trust_show
    from ctxpack_pantry.verification import verify, verify_recipe
else:
    __getattr__, __dir__ = lazy_front(
        __name__,
        {
            "denying": "trust_deny",
            "explain": "explain",
            "export": "export",
            "identify": "identify say_weak_points",
            "inspection": "inspect list_files",
            "lineage": "trace_lineage",
            "mapping": "map_items",
            "names": "tag",
            "outputs": "locate_outputs",
            "packs": "list_packs",
            "pull": "pull",
            "push": "push",
            "reference": "find_uri",
            "removal": "remove_all remove_packs",
            "rotation": "sign_all",
            "run": "compute run",
            "seed": "seed",
            "signing": "sign",
            "trusting": "trust_add trust_check trust_list trust_mode trust_remove trust_show",
            "verification": "verify verify_recipe",
        },
        package=__package__,
    )

__all__ = [
    "compute",
    "explain",
    "export",
    "find_uri",
    "identify",
    "inspect",
    "list_files",
    "list_packs",
    "locate_outputs",
    "map_items",
    "pull",
    "push",
    "remove_all",
    "remove_packs",
    "run",
    "say_weak_points",
    "seed",
    "sign",
    "sign_all",
    "tag",
    "trace_lineage",
    "trust_add",
    "trust_check",
    "trust_deny",
    "trust_list",
    "trust_mode",
    "trust_remove",
    "trust_show",
    "verify",
    "verify_recipe",
]
