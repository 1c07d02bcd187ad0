"""Run: place the outputs of a contract if anybody made them already, otherwise make and seed them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ctxpack_identity import Conflict, CtxUri, IntegrityError, InvalidInput, NotFound, uri_digest
from ctxpack_pantry.context import Context
from ctxpack_pantry.contractfile import LoadedContractFile
from ctxpack_pantry.identify import identify, say_weak_points
from ctxpack_pantry.outlet import Outlet, manifest_of
from ctxpack_pantry.outputs import require_apart, require_outputs
from ctxpack_pantry.place import each_to, hold, place
from ctxpack_pantry.results import Pushed, Ran

# A hit in the cache is the most frequent case, so what only a miss needs is imported where it is used.

__all__ = ["run"]

_ADOPTIONS = 3  # what is adopted may lose a race that was not decided yet


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
) -> Ran:
    """Place the declared outputs if their pack is in the cache or the registry; else run the command and seed them.

    command: the contract's, where the contract file has none. It is run in the folder of the contract file, and begins
    without outputs. push: send the pack to the registry too. force: replace what is at an output's place, also if it
    cannot be made again. keep_outputs: on a miss, keep what a failed run of this contract left there. offline: ask the
    cache only. recompute: run the command though there is a pack; the cache keeps the new one. replace: so does the
    registry. on_conflict: when the registry has other outputs, "adopt" takes them in place of those made here, unless
    the command was to be run again; "fail" is a Conflict. argv: without it, a command that the contract file does not
    name is no part of the contract, and its arguments are not in the pack.
    On a miss nothing is seeded when the command fails (its status is returned), an output is missing, or an input or
    output changed meanwhile. Of two processes with one contract or one output the second waits.
    Raises: AccessDenied, Unavailable when the registry's answer is not known, which is not a miss; InvalidInput,
    Conflict, IntegrityError, PolicyRefused, LocalFailure.
    """
    _require_options(push=push, replace=replace, on_conflict=on_conflict)
    hidden = not argv and contract_file.file.command is None
    contract_file = _runnable(contract_file if hidden else contract_file.with_command(command), command)
    outputs = require_outputs(contract_file)
    identified = identify(context, contract_file)
    require_apart(contract_file, outputs, identified.hashed, context.cache)
    say_weak_points(context, identified)
    if not (argv or hidden):
        context.notice("the contract file names the command, so the pack shows its arguments")
    uri = identified.uri
    outlet = Outlet(context, uri)
    places = [tree.location for tree in outputs.values()]

    def use(folder: str) -> bool:
        manifest = manifest_of(uri, folder)
        with hold(context, places):
            place(context, folder, manifest, each_to(manifest, outputs), force=force)
        return True

    hit, status = not recompute and outlet.cached(use), 0
    if not hit:
        waiting = "another process runs this contract; waiting"
        with context.cache.lock(uri_digest(uri), "run", on_wait=lambda: context.notice(waiting)):
            hit = not recompute and (outlet.cached(use) or (not offline and _is_fetched(outlet, use)))
            if not hit:
                from ctxpack_pantry.making import make

                with hold(context, places) as held:
                    status = make(
                        context,
                        contract_file,
                        identified,
                        outputs,
                        command=command if hidden else identified.contract["command"],
                        held=held,
                        force=force,
                        keep_outputs=keep_outputs,
                        replace=recompute,
                        argv=not hidden,
                    )
    ran = Ran(uri, bool(hit), status, outlet.registry)
    if not push or status:
        return ran

    def adopt_theirs() -> None:
        from ctxpack_pantry.adopting import adopt

        adopt(context, uri, outputs, force=force)
        outlet.take(use)

    may_adopt = not (recompute or replace or on_conflict == "fail")
    pushed, adopted = _push(context, uri, replace=replace, adopt=adopt_theirs if may_adopt else None)
    return ran._replace(pushed=pushed, adopted=adopted)


def _require_options(*, push: bool, replace: bool, on_conflict: str) -> None:
    """Raise InvalidInput for options that do not go together."""
    if replace and not push:
        fix = "say --push too; `ctxpack run --recompute` replaces the cached pack by itself"
        raise InvalidInput("--replace is about a push", where="run", fix=fix, code="E_USAGE")
    if on_conflict not in ("adopt", "fail"):
        expected = '"adopt" or "fail"'
        raise InvalidInput(
            "unknown word", where="on_conflict", expected=expected, got=repr(on_conflict), code="E_USAGE"
        )


def _push(context: Context, uri: CtxUri, *, replace: bool, adopt: Callable[[], None] | None) -> tuple[Pushed, bool]:
    """Push the pack; return what that came to, and whether adopt was called: when the registry has other outputs."""
    from ctxpack_pantry.push import push

    for attempt in range(_ADOPTIONS):
        try:
            return push(context, uri, replace=replace), attempt > 0
        except Conflict as conflict:
            if adopt is None:
                raise
            _say_adopted(context, conflict)
        adopt()
    return push(context, uri, replace=replace), True


def _say_adopted(context: Context, conflict: Conflict) -> None:
    context.notice(
        f"{conflict.where} has other outputs of this contract: they are adopted ({conflict.expected}) in place of "
        f"those made here ({conflict.got}). The work is not deterministic, or something it depends on is missing from "
        "the contract; --on-conflict=fail makes this an error"
    )


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


def _is_fetched(outlet: Outlet, use: Callable[[str], bool]) -> bool:
    """Return whether the registry has the pack, which was used then."""
    try:
        return outlet.fetched(use)
    except NotFound:
        return False
    except IntegrityError as error:
        if error is not outlet.damage:
            raise
        return False  # said, when the pack was set aside
