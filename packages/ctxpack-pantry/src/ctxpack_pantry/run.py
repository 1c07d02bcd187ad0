"""Run: place the outputs of a contract if anybody made them already, otherwise make and seed them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ctxpack_identity import IntegrityError, InvalidInput, NotFound, uri_digest
from ctxpack_pantry.context import Context
from ctxpack_pantry.contractfile import LoadedContractFile
from ctxpack_pantry.identify import identify, say_weak_points
from ctxpack_pantry.outlet import Outlet, manifest_of
from ctxpack_pantry.outputs import require_apart, require_outputs
from ctxpack_pantry.place import each_to, hold, place
from ctxpack_pantry.results import Ran

# A hit in the cache is the most frequent case, so what only a miss needs is imported where it is used.

__all__ = ["run"]


def run(
    context: Context,
    contract_file: LoadedContractFile,
    command: Sequence[str] = (),
    *,
    push: bool = False,
    force: bool = False,
    keep_outputs: bool = False,
    offline: bool = False,
) -> Ran:
    """Place the declared outputs if their pack is in the cache or the registry; else run the command and seed them.

    command: the contract's, where the contract file has none. It is run in the folder of the contract file, and begins
    without outputs. push: send the pack to the registry too. force: replace what is at an output's place, also if it
    cannot be made again. keep_outputs: on a miss, keep what a failed run of this contract left there. offline: ask the
    cache only. On a miss nothing is seeded when the command fails (its status is returned), an output is missing, or
    an input or output changed meanwhile. Of two processes with one contract or one output the second waits.
    Raises: AccessDenied, Unavailable when the registry's answer is not known, which is not a miss; InvalidInput,
    Conflict, IntegrityError, PolicyRefused, LocalFailure.
    """
    contract_file = _runnable(contract_file.with_command(command))
    outputs = require_outputs(contract_file)
    identified = identify(context, contract_file)
    require_apart(contract_file, outputs, identified.hashed, context.cache)
    say_weak_points(context, identified)
    uri = identified.uri
    outlet = Outlet(context, uri)
    places = [tree.location for tree in outputs.values()]

    def use(folder: str) -> bool:
        manifest = manifest_of(uri, folder)
        with hold(context, places):
            place(context, folder, manifest, each_to(manifest, outputs), force=force)
        return True

    hit, status = outlet.cached(use), 0
    if not hit:
        waiting = "another process runs this contract; waiting"
        with context.cache.lock(uri_digest(uri), "run", on_wait=lambda: context.notice(waiting)):
            hit = outlet.cached(use) or (not offline and _is_fetched(outlet, use))
            if not hit:
                from ctxpack_pantry.making import make

                with hold(context, places) as held:
                    status = make(
                        context, contract_file, identified, outputs, held=held, force=force, keep_outputs=keep_outputs
                    )
    if push and not status:
        from ctxpack_pantry.push import push as push_pack

        push_pack(context, uri)
    return Ran(uri, bool(hit), status)


def _runnable(contract_file: LoadedContractFile) -> LoadedContractFile:
    """Return contract_file. Raises: InvalidInput when it has no command, or is a map."""
    contract_file.require_no_map("run")
    if contract_file.file.command is None:
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
