"""Run and compute: place the outputs of a contract if anybody made them already, otherwise make and seed them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ctxpack_bundle import OutputTree
from ctxpack_identity import InvalidInput
from ctxpack_identity.lighttyping import TYPE_CHECKING, NamedTuple
from ctxpack_pantry.called import look_again, with_function
from ctxpack_pantry.context import Context
from ctxpack_pantry.contractfile import LoadedContractFile
from ctxpack_pantry.destination import Destination
from ctxpack_pantry.functions import name_function, parameters_of
from ctxpack_pantry.identify import identify, say_weak_points
from ctxpack_pantry.makers import CommandMaker, FunctionMaker, Maker
from ctxpack_pantry.misses import alone, push_or_adopt, require_conflict_word, require_push, say_miss
from ctxpack_pantry.outputs import require_apart, require_outputs
from ctxpack_pantry.results import Identified, Ran

if TYPE_CHECKING:
    from pathlib import Path

    from ctxpack_trust import PrivateKey

# A hit in the cache is the most frequent case, so what only a miss needs is imported where it is used.

__all__ = ["compute", "run"]


def run(
    context: Context,
    contract_file: LoadedContractFile,
    command: Sequence[str] = (),
    *,
    push: bool = False,
    force: bool = False,
    keep_outputs: bool = False,
    offline: bool = False,
    recompute: bool = False,
    replace: bool = False,
    on_conflict: str = "adopt",
    argv: bool = True,
    key: PrivateKey | None = None,
) -> Ran:
    """Place the declared outputs if their pack is in the cache or the registry; else run the command and seed them.

    command: the contract's, where the contract file has none. It is run in the folder of the contract file, and begins
    without outputs. push: send the pack to the registry too. force: replace what is at an output's place, also if it
    cannot be made again. keep_outputs: on a miss, keep what a failed run of this contract left there. offline: ask the
    cache only, for packs that are inputs, too. recompute: run the command though there is a pack; the cache keeps the
    new one. replace: so does the registry. on_conflict: when the registry has other outputs, "adopt" takes them in
    place of those made here, unless the command was to be run again; "fail" is a Conflict. argv: without it, a command
    that the contract file does not name is no part of the contract, and its arguments are not in the pack. key: signs
    what is pushed, if it was made here; that it was not is said.
    On a miss nothing is seeded when the command fails (its status is returned), an output is missing, or an input or
    output changed meanwhile. Of two processes with one contract or one output the second waits.
    Raises: AccessDenied, Unavailable when the registry's answer is not known, which is not a miss; InvalidInput,
    Conflict, IntegrityError, PolicyRefused, LocalFailure.
    """
    _require_options(push=push, replace=replace, on_conflict=on_conflict, key=key)
    context = context._replace(offline=offline)
    hidden = not argv and contract_file.file.command is None
    contract_file = _runnable(contract_file if hidden else contract_file.with_command(command), command)
    outputs = require_outputs(contract_file)
    identified = _identified(context, contract_file, outputs)
    say_weak_points(context, identified)
    if not (argv or hidden):
        context.notice("the contract file names the command, so the pack shows its arguments")
    maker = CommandMaker(command if hidden else identified.contract["command"], shown=not hidden)
    wanted = _Wanted(push, force, keep_outputs, recompute, replace, on_conflict, key)
    return _make_or_place(context, contract_file, identified, outputs, maker, wanted)


def compute(
    context: Context,
    contract_file: LoadedContractFile,
    function: Callable[..., object],
    *,
    push: bool = False,
    force: bool = False,
    offline: bool = False,
    recompute: bool = False,
    replace: bool = False,
    on_conflict: str = "adopt",
    key: PrivateKey | None = None,
) -> Ran:
    """Place the declared outputs if their pack is in the cache or the registry; else call function and seed them.

    function: one of a module, with at most one parameter: it gets the place of the output, a pathlib.Path, or, when the
    contract declares several outputs, a dict of their places by name. Places are absolute; nothing is there, and the
    folders above them are. What it returns is ignored. It is called in this process, thread and folder. A contract file
    without a command gets ``["python", "<module>:<qualname>"]``; one with a command keeps it, and says so that this
    function does the same. The other parameters: as for run.
    An exception of the function passes through; nothing is seeded then, and what was at the outputs is treated as after
    a command that failed. Nobody looks for processes that the function left behind.
    Raises: InvalidInput (E_FUNCTION) for a function that has no name (see functions.name_function), or needs other
    arguments; E_VARIABLE when a variable of the contract has another value here; as run does.
    """
    _require_options(push=push, replace=replace, on_conflict=on_conflict, key=key)
    contract_file.require_no_map("compute")
    context = context._replace(offline=offline)
    name = name_function(function)
    pass_places = _places_parameter(function, str(name))
    if contract_file.file.command is None:
        contract_file = contract_file.with_command(name.command)
    outputs = require_outputs(contract_file)
    identified = _identified(context, contract_file, outputs)
    identified = with_function(identified, function, name)
    say_weak_points(context, identified)

    def call(places: dict[str, Path]) -> None:
        if not pass_places:
            function()
        elif len(places) == 1:
            function(*places.values())
        else:
            function(places)
        look_again(identified, function, name)

    maker = FunctionMaker(call, name.command)
    wanted = _Wanted(push, force, False, recompute, replace, on_conflict, key)
    return _make_or_place(context, contract_file, identified, outputs, maker, wanted)


class _Wanted(NamedTuple):
    """The options of run that are not about the command."""

    push: bool
    force: bool
    keep_outputs: bool
    recompute: bool
    replace: bool
    on_conflict: str
    key: PrivateKey | None


def _make_or_place(
    context: Context,
    contract_file: LoadedContractFile,
    identified: Identified,
    outputs: Mapping[str, OutputTree],
    maker: Maker,
    wanted: _Wanted,
) -> Ran:
    uri = identified.uri
    destination = Destination(context, uri, outputs, force=wanted.force)
    with destination.reserved():
        hit, status = not wanted.recompute and destination.from_cache(), 0
        if not hit:
            with alone(context, uri, "another process runs this contract; waiting"):
                hit = not wanted.recompute and destination.from_anywhere()
                if not hit:
                    from ctxpack_pantry.making import make

                    if not wanted.recompute:
                        say_miss(context, identified)
                    with destination.held() as held:
                        status = make(
                            context,
                            contract_file,
                            identified,
                            outputs,
                            maker,
                            held=held,
                            force=wanted.force,
                            keep_outputs=wanted.keep_outputs,
                            replace=wanted.recompute,
                        )
                    if not status:
                        destination.require_not_denied()
        ran = Ran(uri, hit, status, destination.outlet.registry)
        if not wanted.push or status:
            return ran
        may_adopt = not (wanted.recompute or wanted.replace or wanted.on_conflict == "fail")
        adopt = destination.adopt if may_adopt else None
        pushed, adopted = push_or_adopt(context, uri, replace=wanted.replace, adopt=adopt, key=wanted.key)
        return ran._replace(pushed=pushed, adopted=adopted)


def _identified(context: Context, contract_file: LoadedContractFile, outputs: Mapping[str, OutputTree]) -> Identified:
    """Return the contract. Raises: InvalidInput when an output is, or holds, what a run must not clear; as identify."""
    identified = identify(context, contract_file)
    require_apart(contract_file, outputs, identified.hashed, context.cache)
    return identified


def _places_parameter(function: Callable[..., object], where: str) -> bool:
    """Return whether function takes the places of the outputs. Raises: InvalidInput when it needs anything else."""
    parameters = parameters_of(function)
    needed = [name for name in parameters.positional[1:] + parameters.named if name not in parameters.defaults]
    if needed:
        raise InvalidInput(
            "the function needs other arguments than the place of the output",
            where=where,
            expected="at most one parameter without a default",
            got=", ".join(needed),
            fix="let it read them from an input, or use @memo, which makes params of them",
            code="E_FUNCTION",
        )
    return bool(parameters.positional)


def _require_options(*, push: bool, replace: bool, on_conflict: str, key: PrivateKey | None) -> None:
    """Raise InvalidInput for options that do not go together."""
    if key is not None:
        require_push(push=push)
    if replace and not push:
        fix = "say --push too; `ctxpack run --recompute` replaces the cached pack by itself"
        raise InvalidInput("--replace is about a push", where="run", fix=fix, code="E_USAGE")
    require_conflict_word(on_conflict)


def _runnable(contract_file: LoadedContractFile, command: Sequence[str]) -> LoadedContractFile:
    """Return contract_file. Raises: InvalidInput when neither it nor command says what to run, or when it is a map."""
    contract_file.require_no_map("run")
    if contract_file.file.command is None and not command:
        raise InvalidInput(
            "no command",
            where=f"{contract_file.path}, /command",
            fix='say what makes the outputs: "command": ["sh", "run.sh"], or: ctxpack run -- sh run.sh',
            code="E_COMMAND",
        )
    return contract_file
