"""Misses: what `run`, `compute`, `map` and `@memo` do alike when a pack is not in the cache, and when they push it."""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ctxpack_cache.lock import Lock
from ctxpack_identity import Conflict, CtxUri, IntegrityError, InvalidInput, NotFound, PolicyRefused, uri_digest
from ctxpack_pantry.context import Context
from ctxpack_pantry.outlet import Outlet
from ctxpack_pantry.policy import not_adopted
from ctxpack_pantry.results import Identified, Pushed

if TYPE_CHECKING:
    from ctxpack_pantry.nearest import Listings
    from ctxpack_trust import PrivateKey

__all__ = [
    "alone",
    "cached_if_admitted",
    "fetched_if_there",
    "if_there",
    "not_within",
    "push_or_adopt",
    "require_conflict_word",
    "require_push",
    "say_miss",
]

T = TypeVar("T")

_ADOPTIONS = 3  # what is adopted may lose a race that was not decided yet

_at_work: set[tuple[int, str]] = set()  # threads, and what they make: contracts, and the places of outputs


@contextmanager
def not_within(*made: str) -> Iterator[None]:
    """A context in which this thread makes these: contracts by their URIs, outputs by their paths, links resolved.

    Raises: InvalidInput when it makes one of them already: it would wait for itself. Only a function that calls itself,
    or another one for the same output, gets there.
    """
    mine = {(get_ident(), one) for one in made}
    for _, twice in sorted(_at_work & mine):
        raise InvalidInput(
            "a function needs, to make this, that it is made already",
            where=twice,
            fix="let it call itself with other arguments only, and write to no output of a call around it",
            code="E_FUNCTION",
        )
    _at_work.update(mine)
    try:
        yield
    finally:
        _at_work.difference_update(mine)


def alone(context: Context, uri: CtxUri, waiting: str) -> Lock:
    """Return a context in which no other thread or process makes the pack of uri. waiting: said before a wait."""
    return context.cache.lock(uri_digest(uri), "run", on_wait=lambda: context.notice(waiting))


def cached_if_admitted(outlet: Outlet, use: Callable[[str], T]) -> T | None:
    """Return what use makes of the cached pack; None when there is none, or when it is not admitted, which is a miss.

    Raises: PolicyRefused when the contract itself is denied; as Outlet.cached does.
    """
    try:
        return outlet.cached(use)
    except PolicyRefused as refused:
        outlet.say_refused(refused)
        return None


def fetched_if_there(outlet: Outlet, use: Callable[[str], T]) -> T | None:
    """Return what use makes of the pack that the registry has; None when it has none. Raises: as if_there does."""
    return if_there(outlet, partial(outlet.fetched, use))


def if_there(outlet: Outlet, ask: Callable[[], T]) -> T | None:
    """Return what ask, a method of outlet that asks the registry, returns; None when that has no such pack, or offline.

    None also when it has one that is not admitted, which is said: it is a miss, and stays where it is.
    Raises: as ask does, but for damage of the cached pack, which was said when that was set aside.
    """
    try:
        return ask()
    except NotFound:
        return None
    except PolicyRefused as refused:
        outlet.say_refused(refused)
        return None
    except IntegrityError as error:
        if error is not outlet.damage:
            raise
        return None


def say_miss(context: Context, identified: Identified, listings: Listings | None = None) -> bool:
    """Give a notice of why nobody made this yet, when the cache has a pack that is nearly the same; return whether.

    listings: as for miss_line.
    """
    from ctxpack_pantry.nearest import miss_line

    line = miss_line(context, identified, listings)
    if line:
        context.notice(line)
    return bool(line)


def require_conflict_word(on_conflict: str) -> None:
    """Raise InvalidInput unless this says what a push does when the registry has other outputs."""
    if on_conflict not in ("adopt", "fail"):
        expected = '"adopt" or "fail"'
        raise InvalidInput(
            "unknown word", where="on_conflict", expected=expected, got=repr(on_conflict), code="E_USAGE"
        )


def require_push(*, push: bool) -> None:
    """Raise InvalidInput unless what is to be signed is pushed: a claim lies beside its pack."""
    if not push:
        raise InvalidInput(
            "--sign is about a push",
            where="key",
            fix="say --push too; `ctxpack push --sign` signs later what was made here",
            code="E_USAGE",
        )


def push_or_adopt(
    context: Context,
    uri: CtxUri,
    *,
    replace: bool,
    adopt: Callable[[], None] | None,
    borrow: bool = False,
    key: PrivateKey | None = None,
) -> tuple[Pushed, bool]:
    """Push the pack; return what that came to, and whether adopt was called: when the registry has other outputs.

    adopt: None makes other outputs a Conflict. key: signs the pack, unless it is not one's own, which is said. replace,
    borrow, Raises: as push.push.
    """
    from ctxpack_pantry.push import push

    def send() -> Pushed:
        return push(context, uri, borrow=borrow, replace=replace, key=key, if_own=True)

    for attempt in range(_ADOPTIONS):
        try:
            return send(), attempt > 0
        except Conflict as conflict:
            if adopt is None:
                raise
            try:
                adopt()
            except PolicyRefused as refused:
                raise not_adopted(conflict, refused) from refused
            _say_adopted(context, conflict)
    return send(), True


def _say_adopted(context: Context, conflict: Conflict) -> None:
    context.notice(
        f"{conflict.where} has other outputs of this contract: they are adopted ({conflict.expected}) in place of "
        f"those made here ({conflict.got}). The work is not deterministic, or something it depends on is missing from "
        "the contract; --on-conflict=fail makes this an error"
    )
