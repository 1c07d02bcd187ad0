"""Map: the outputs of the items of an input become one pack. Only items that no pack and no earlier map has are made.

Items are looked up among those that an interrupted map finished, in cached packs, and in packs of the same kin in the
registry (`items.lookup`); the others are made (`items.making`). The pack is assembled from all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ctxpack_identity.errors import InvalidInput
from ctxpack_identity.hashing.workers import usable_cpus
from ctxpack_identity.lighttyping import TYPE_CHECKING, Any
from ctxpack_pantry.called import look_again, with_function
from ctxpack_pantry.context import Context
from ctxpack_pantry.contractfile import LoadedContractFile
from ctxpack_pantry.destination import Destination
from ctxpack_pantry.functions import name_function, parameters_of
from ctxpack_pantry.identify import identify, say_weak_points
from ctxpack_pantry.loadedcode import loaded_code
from ctxpack_pantry.misses import (
    alone,
    cached_if_admitted,
    if_there,
    push_or_adopt,
    require_conflict_word,
    require_push,
)
from ctxpack_pantry.outputs import require_apart, require_outputs
from ctxpack_pantry.results import Mapped

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from ctxpack_pantry.identified import Identified
    from ctxpack_pantry.items.making import ItemFunction
    from ctxpack_pantry.items.mapped import Making
    from ctxpack_pantry.outlet import Outlet
    from ctxpack_trust import PrivateKey

# As for `run`: what only a miss needs is imported where it is used.

__all__ = ["map_items"]

_MOST_JOBS = 8  # by default


def map_items(
    context: Context,
    contract_file: LoadedContractFile,
    function: Callable[..., object] | None = None,
    *,
    command: Sequence[str] = (),
    executor: Executor | None = None,
    jobs: int | None = None,
    push: bool = False,
    force: bool = False,
    offline: bool = False,
    dry_run: bool = False,
    on_conflict: str = "adopt",
    key: PrivateKey | None = None,
) -> Mapped:
    """Place the output of a map, made of the results of all items; make those that are not there yet.

    function: makes an item; it gets the paths of the item and of its result, each a pathlib.Path, and, for other
    parameters, the params of the contract's transforms by name. Without it the command makes them: command, or the
    contract's. executor: where the function is called, by default here, one item at a time. jobs: commands, or calls of
    an executor, at a time; by default as many as there are usable CPUs, at most 8, and 64 calls. push, force, offline,
    on_conflict, key: as for run. dry_run: only look how many items would be made.
    When items fail, the others are kept for the next time, there is no pack, and the output stays as it is. Inputs that
    changed meanwhile are an error, and what depends on them is not kept.
    Raises: InvalidInput, AccessDenied, Unavailable, Conflict, IntegrityError, PolicyRefused, LocalFailure.
    """
    _require_options(jobs, on_conflict)
    if key is not None:
        require_push(push=push)
    context = context._replace(offline=offline)
    contract_file = _mapped_file(contract_file, function, command)
    outputs = require_outputs(contract_file)
    identified = identify(context, contract_file)
    require_apart(contract_file, outputs, identified.hashed, context.cache)
    if function is not None:
        identified = with_function(identified, function, name_function(function))
    say_weak_points(context, identified)
    uri = identified.uri
    destination = Destination(context, uri, outputs, force=force)
    [tree] = outputs.values()

    def making() -> Making:
        from ctxpack_pantry.items.mapped import Making

        return Making(context, contract_file, identified, tree, force=force, sure=key is not None)

    if dry_run:
        return Mapped(uri, hit=True) if _is_there(destination.outlet) else making().plan()
    with destination.reserved():
        mapped = Mapped(uri, hit=destination.from_cache())
        if not mapped.hit:
            with alone(context, uri, "another process maps this contract; waiting"):
                mapped = Mapped(uri, hit=destination.from_anywhere())
                if not mapped.hit:
                    if function is None:
                        mapped = _make_by_command(making(), context, contract_file, identified, jobs)
                    else:
                        mapped = making().make(_called(contract_file, identified, function, executor, jobs))
                        look_again(identified, function, name_function(function))
                    if not mapped.status:
                        destination.fill()
        mapped = mapped._replace(registry=destination.outlet.registry)
        if not push or mapped.status:
            return mapped
        adopt = destination.adopt if on_conflict == "adopt" else None
        pushed, adopted = push_or_adopt(context, uri, replace=False, adopt=adopt, borrow=True, key=key)
        return mapped._replace(pushed=pushed, adopted=adopted)


def _mapped_file(
    contract_file: LoadedContractFile, function: Callable[..., object] | None, command: Sequence[str]
) -> LoadedContractFile:
    """Return the contract file with its command. Raises: InvalidInput when there is none to map, or it is no map."""
    if contract_file.file.each is None:
        raise InvalidInput(
            "`map` goes over the items of an input, and this contract does not say which",
            where=f"{contract_file.path}, /each",
            fix='add "each": {"input": NAME, "output": "{dir}{stem}.json"}; `ctxpack run` makes one result of all',
            code="E_EACH",
        )
    if function is not None:
        named = contract_file.file.command is not None
        return contract_file if named else contract_file.with_command(name_function(function).command)
    contract_file = contract_file.with_command(command)
    from ctxpack_pantry.items.words import require_words

    require_words(contract_file.file.command or (), f"{contract_file.path}, /command")
    return contract_file


def _require_options(jobs: int | None, on_conflict: str) -> None:
    require_conflict_word(on_conflict)
    if jobs is not None and jobs < 1:
        raise InvalidInput("too few jobs", where="jobs", expected="1 or more", got=str(jobs), code="E_USAGE")


def _is_there(outlet: Outlet) -> bool:
    """Return whether the cache has the pack, or, unless offline, the registry, and it is admitted.

    Raises: as Outlet.located does.
    """
    if cached_if_admitted(outlet, lambda folder: folder):
        return True
    return if_there(outlet, outlet.located) is not None


def _make_by_command(
    making: Making, context: Context, contract_file: LoadedContractFile, identified: Identified, jobs: int | None
) -> Mapped:
    from ctxpack_pantry.execution import offered_contract
    from ctxpack_pantry.items.making import ItemCommand

    contract = identified.contract
    with offered_contract(context.cache, identified.uri, identified.canonical) as of_map:
        jobs = jobs or min(_MOST_JOBS, usable_cpus())
        return making.make(
            ItemCommand(contract["command"], contract_file.base, contract["variables"], of_map, jobs=jobs)
        )


def _called(
    contract_file: LoadedContractFile,
    identified: Identified,
    function: Callable[..., object],
    executor: Executor | None,
    jobs: int | None,
) -> ItemFunction:
    """Return the maker that calls function with two paths, and with params by name.

    Raises: InvalidInput (E_FUNCTION) when it has a parameter that the contract's params do not give, or when a param
    has the name of the parameter for one of the two paths.
    """
    from functools import partial

    from ctxpack_identity import parse_canonical_contract
    from ctxpack_pantry.items.making import ItemFunction

    name, parameters = name_function(function), parameters_of(function)
    params: dict[str, Any] = {}
    for transform in parse_canonical_contract(identified.canonical)["transforms"]:  # 3.0 arrives as 3
        params |= transform["params"]
    others = [*parameters.positional[2:], *parameters.named]
    missing = [one for one in others if one not in params and one not in parameters.defaults]
    if len(parameters.positional) < 2 or missing:
        raise InvalidInput(
            "a function that makes an item gets two paths, and params by name",
            where=str(name),
            expected="parameters for the item and its result, and others that the params of the contract give",
            got=f"without params for {', '.join(missing)}" if missing else f"{len(parameters.positional)} parameters",
            fix="def parse(item, out, *, dpi): …, with dpi in the params of the contract",
            code="E_FUNCTION",
        )
    given = {one: value for one, value in params.items() if one in others or parameters.open}
    twice = sorted(given.keys() & set(parameters.positional[parameters.only : 2]))
    if twice:
        raise InvalidInput(
            "a param of the contract has the name of a parameter that gets a path",
            where=str(name),
            got=", ".join(twice),
            fix="let these parameters have no names for others: def parse(item, out, /, **params): …",
            code="E_FUNCTION",
        )
    if executor is not None:
        function = loaded_code(function).in_other_processes(function, name, identified.hashed)
    return ItemFunction(partial(function, **given), contract_file.base, executor, jobs)
