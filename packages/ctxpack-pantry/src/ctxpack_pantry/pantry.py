"""The pantry: finished packs are looked up in the cache first, then in the registry.

::

    pantry = Pantry(load_settings())
    seeded = pantry.seed(["processed_data"], "contract.json")
    pantry.push(seeded.uri)
    Pantry(...).pull(seeded.uri).folder
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ctxpack_cache import Cache
from ctxpack_identity.hashing.statcache import StatCache
from ctxpack_identity.lighttyping import TYPE_CHECKING
from ctxpack_identity.progress import Progress, silent
from ctxpack_identity.uri import CtxUri
from ctxpack_pantry import verbs
from ctxpack_pantry.context import Context, Notice, ignore
from ctxpack_pantry.contractfile import AnyContractFile, LoadedContractFile, as_contract_file, load_contract_file
from ctxpack_pantry.settings import Settings

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from ctxpack_oci import Target
    from ctxpack_pantry.policy import Policy
    from ctxpack_pantry.results import (
        Exported,
        Identified,
        Inspected,
        Listed,
        Pulled,
        Pushed,
        Ran,
        Removed,
        Seeded,
        Verified,
    )

__all__ = ["Pantry"]


class Pantry:
    """The verbs, with the cache and the registry that settings name. Each returns one of the types in `results`.

    target: a registry that is open already, instead of the one in settings; it is not closed. progress: see
    ctxpack_identity.Progress. notice: hints for people. environ: for credentials; None means os.environ. rehash: read
    every input, and every output in its place, also those that did not change since they were hashed last. executor:
    any concurrent.futures.Executor to hash inputs on, instead of this machine's cores; it is not shut down. policy:
    decides which packs may be used.
    Nothing is opened before it is needed.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        target: Target | None = None,
        progress: Progress = silent,
        notice: Notice = ignore,
        environ: Mapping[str, str] | None = None,
        rehash: bool = False,
        executor: Executor | None = None,
        policy: Policy | None = None,
    ) -> None:
        self.settings = settings
        self.cache = Cache(settings.cache.value)
        self._given = self._opened = target
        self._announced = False
        self._progress, self._notice, self._environ = progress, notice, environ
        self._rehash, self._executor, self._policy = rehash, executor, policy

    def close(self) -> None:
        """Close connections that this pantry opened."""
        if self._opened is not None and self._opened is not self._given:
            self._opened.close()
        self._opened = self._given

    def __enter__(self) -> Pantry:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def target(self) -> Target:
        """The registry. Raises: InvalidInput when its setting is not a registry's name."""
        if self._opened is None:
            from ctxpack_pantry.access import open_registry  # a cache hit needs no registry

            environ = os.environ if self._environ is None else self._environ
            self._opened = open_registry(self.settings, environ, ignore if self._announced else self._notice)
            self._announced = True
        return self._opened

    def resolve(self, contract_file: AnyContractFile, command: Sequence[str] = ()) -> Identified:
        """Return the contract and URI of a contract file: a path, a loaded one, or its content as a mapping.

        The paths of a mapping are relative to the current folder.
        command: the contract's, where the contract file has none. Raises: as identify.identify does.
        """
        with self._context() as context:
            identified = verbs.identify(context, _loaded(contract_file).with_command(command))
            verbs.say_weak_points(context, identified)
            return identified

    def seed(self, outputs: Sequence[str] | Mapping[str, str], contract_file: AnyContractFile) -> Seeded:
        """Make a pack of outputs under the URI of a contract file, in the cache.

        outputs: those that do not lie where the contract file says, as paths, "NAME=PATH", or paths by name.
        Raises: as locate_outputs and seed.seed do.
        """
        loaded = _loaded(contract_file)
        with self._context() as context:
            return verbs.seed(context, loaded, verbs.locate_outputs(loaded, outputs))

    def push(self, uri: CtxUri, *, borrow: bool = False, repair: bool = False, replace: bool = False) -> Pushed:
        """Copy a pack from the cache to the registry; nothing is sent when it is there.

        Parameters, Raises: as push.push.
        """
        with self._context() as context:
            return verbs.push(context, uri, borrow=borrow, repair=repair, replace=replace)

    def pull(
        self, uri: CtxUri, output: str | None = None, *, include: Sequence[str] = (), force: bool = False
    ) -> Pulled:
        """Return the folder with a pack's outputs, all of them or some. Parameters, Raises: as pull.pull."""
        with self._context() as context:
            return verbs.pull(context, uri, output, include=include, force=force)

    def export(self, uri: CtxUri, tar: str, *, force: bool = False) -> Exported:
        """Write a pack to a file, as an ordinary .tar.gz. Parameters, Raises: as export.export."""
        with self._context() as context:
            return verbs.export(context, uri, tar, force=force)

    def inspect(self, uri: CtxUri, *, skip_cache: bool = False) -> Inspected:
        """Return what made a pack and what it holds. skip_cache: ask the registry even if the cache has the pack.

        Raises: as inspection.inspect does.
        """
        with self._context() as context:
            return verbs.inspect(context, uri, skip_cache=skip_cache)

    def run(
        self,
        contract_file: AnyContractFile,
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
        """Place the outputs if anybody made them already, else run the command. Parameters, Raises: as run.run."""
        with self._context() as context:
            return verbs.run(
                context,
                _loaded(contract_file),
                command,
                push=push,
                force=force,
                keep_outputs=keep_outputs,
                offline=offline,
                recompute=recompute,
                replace=replace,
                on_conflict=on_conflict,
                argv=argv,
            )

    def verify(self, *uris: CtxUri) -> Verified:
        """Read packs of the cache whole, all of them if none is named, and set damaged ones aside.

        Raises: as verification.verify does.
        """
        with self._context() as context:
            return verbs.verify(context, uris or None)

    def list_packs(self) -> Listed:
        """Return the packs of the cache, sorted by URI. The manifest of a damaged pack is None."""
        with self._context() as context:
            return verbs.list_packs(context)

    def remove(self, *uris: CtxUri, registry: bool = False) -> Removed:
        """Remove packs from the cache, and if asked from the registry. Parameters, Raises: as removal.remove_packs."""
        with self._context() as context:
            return verbs.remove_packs(context, *uris, registry=registry)

    def remove_all(self) -> Removed:
        """Remove all packs from the cache, also damaged ones that were set aside."""
        with self._context() as context:
            return verbs.remove_all(context)

    def _context(self) -> Context:
        known = StatCache(os.path.join(self.cache.side("hashes"), "index.db"), rehash=self._rehash)
        return Context(
            self.cache,
            lambda: self.target,
            known,
            self._executor,
            self._progress,
            self._notice,
            self._policy,
            settle=float(self.settings.settle.value),
        )


def _loaded(contract_file: AnyContractFile) -> LoadedContractFile:
    """Return a contract file: one that was loaded, one at a path, or one that is given as a mapping."""
    if isinstance(contract_file, LoadedContractFile):
        return contract_file
    if isinstance(contract_file, Mapping):
        return as_contract_file(contract_file)
    return load_contract_file(os.fspath(contract_file))
