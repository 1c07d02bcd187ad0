"""The pantry: finished packs are looked up in the cache first, then in the registry.

::

    pantry = Pantry(load_settings())
    seeded = pantry.seed(["processed_data"], "contract.json")
    pantry.push(seeded.uri)
    Pantry(...).pull(seeded.uri).folder
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from ctxpack_cache import Cache
from ctxpack_identity.hashing.statcache import StatCache
from ctxpack_identity.lighttyping import TYPE_CHECKING
from ctxpack_identity.progress import Progress, silent
from ctxpack_identity.uri import CtxUri, parse_uri
from ctxpack_pantry import verbs
from ctxpack_pantry.context import Context, Notice, ignore
from ctxpack_pantry.contractfile import AnyContractFile, any_contract_file
from ctxpack_pantry.policyfile import trust_of
from ctxpack_pantry.settings import Settings
from ctxpack_pantry.state import state_folder

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from ctxpack_oci import Target
    from ctxpack_pantry.difference import Explained
    from ctxpack_pantry.inspection import FileList
    from ctxpack_pantry.lineage import Lineage
    from ctxpack_pantry.policy import Policy
    from ctxpack_pantry.reference import AnyPack
    from ctxpack_pantry.results import (
        Exported,
        Identified,
        Inspected,
        Listed,
        Mapped,
        Pulled,
        Pushed,
        Ran,
        Removed,
        Seeded,
        Signed,
        SignedAll,
        Tagged,
        Verified,
    )
    from ctxpack_pantry.trustresults import Denied, ShownKey, Trusted
    from ctxpack_pantry.verdict import Verdict
    from ctxpack_trust import PrivateKey

__all__ = ["Pantry"]


class Pantry:
    """The verbs, with the cache and the registry that settings name. Each returns one of the types in `results`.

    target: a registry that is open already, instead of the one in settings; it is not closed. progress: see
    ctxpack_identity.Progress. notice: hints for people. environ: for credentials; None means os.environ. rehash: read
    every input, and every output in its place, also those that did not change since they were hashed last. executor:
    any concurrent.futures.Executor to hash inputs on, instead of this machine's cores; it is not shut down. policy:
    decides, besides the user's policy file, which packs may be used. consent: asks the user a question that is answered
    with yes or no, such as whether a registry that only a folder's ctxpack.toml names may be used; None answers no.
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
        consent: Callable[[str], bool] | None = None,
    ) -> None:
        self.settings = settings
        self.cache = Cache(settings.cache.value)
        self._given = self._opened = target
        self._announced = False
        self._progress, self._notice, self._environ = progress, notice, environ
        self._rehash, self._executor, self._policy = rehash, executor, policy
        self._consent = consent

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
            identified = verbs.identify(context, any_contract_file(contract_file).with_command(command))
            verbs.say_weak_points(context, identified)
            return identified

    def seed(self, outputs: Sequence[str] | Mapping[str, str], contract_file: AnyContractFile) -> Seeded:
        """Make a pack of outputs under the URI of a contract file, in the cache.

        outputs: those that do not lie where the contract file says, as paths, "NAME=PATH", or paths by name.
        Raises: as locate_outputs and seed.seed do.
        """
        loaded = any_contract_file(contract_file)
        with self._context() as context:
            return verbs.seed(context, loaded, verbs.locate_outputs(loaded, outputs))

    def push(
        self,
        uri: CtxUri,
        *,
        borrow: bool = False,
        repair: bool = False,
        replace: bool = False,
        key: PrivateKey | None = None,
        if_own: bool = False,
    ) -> Pushed:
        """Copy a pack from the cache to the registry; nothing is sent when it is there.

        Parameters, Raises: as push.push.
        """
        with self._context() as context:
            return verbs.push(
                context, parse_uri(uri), borrow=borrow, repair=repair, replace=replace, key=key, if_own=if_own
            )

    def sign(self, pack: AnyPack, key: PrivateKey, *, vouch: bool = False) -> Signed:
        """Sign a pack of the registry. pack: see find. Parameters, Raises: as reference.find and signing.sign do."""
        with self._context() as context:
            return verbs.sign(context, verbs.find_uri(context, pack), key, vouch=vouch)

    def sign_all(self, key: PrivateKey, signed_by: str) -> SignedAll:
        """Sign with a new key what an old one signed. Parameters, Raises: as rotation.sign_all."""
        with self._context() as context:
            return verbs.sign_all(context, key, signed_by)

    def find(self, pack: AnyPack) -> CtxUri:
        """Return the URI of a pack, meant by its URI, the first digits of a cached one's, a contract file or a name.

        pack: a text that is any of these, or a contract file: a path, a mapping, or one that was loaded.

        Raises: as reference.find does.
        """
        with self._context() as context:
            return verbs.find_uri(context, pack)

    def tag(self, pack: AnyPack, name: str) -> Tagged:
        """Give a name to a pack of the registry. pack: see find. Raises: as reference.find and names.tag do."""
        with self._context() as context:
            return verbs.tag(context, verbs.find_uri(context, pack), name)

    def pull(
        self,
        pack: AnyPack,
        output: str | None = None,
        *,
        include: Sequence[str] = (),
        force: bool = False,
        lock: bool = False,
        locked: bool = False,
    ) -> Pulled:
        """Return the folder with a pack's outputs, all of them or some. Parameters, Raises: as pull.pull."""
        with self._context() as context:
            return verbs.pull(context, pack, output, include=include, force=force, lock=lock, locked=locked)

    def export(self, uri: CtxUri, tar: str, *, force: bool = False) -> Exported:
        """Write a pack to a file, as an ordinary .tar.gz. Parameters, Raises: as export.export."""
        with self._context() as context:
            return verbs.export(context, parse_uri(uri), tar, force=force)

    def inspect(self, pack: AnyPack, *, skip_cache: bool = False) -> Inspected:
        """Return what made a pack and what it holds. skip_cache: ask the registry even if the cache has the pack.

        pack: see find. Raises: as reference.find and inspection.inspect do.
        """
        with self._context() as context:
            return verbs.inspect(context, verbs.find_uri(context, pack), skip_cache=skip_cache)

    def list_files(self, pack: AnyPack, *, input: str | None = None, skip_cache: bool = False) -> FileList:
        """Return the files of a pack's outputs, or of one of its inputs; a context manager.

        pack: see find. Parameters, Raises: as reference.find and inspection.list_files do.
        """
        with self._context() as context:
            return verbs.list_files(context, verbs.find_uri(context, pack), input=input, skip_cache=skip_cache)

    def lineage(self, pack: AnyPack, *, ask_registry: bool = False) -> Lineage:
        """Return what a pack was made from, and what was made from it.

        pack: see find. Parameters, Raises: as reference.find and lineage.trace_lineage do.
        """
        with self._context() as context:
            return verbs.trace_lineage(context, verbs.find_uri(context, pack), ask_registry=ask_registry)

    def explain(
        self,
        one: AnyContractFile,
        other: AnyContractFile | None = None,
        *,
        command: Sequence[str] = (),
        limit: int | None = 20,
    ) -> Explained:
        """Return why two URIs differ; of one alone, what differs from the nearest pack, that is, why it is a miss.

        one, other: contract files; or texts, each any reference (see find). Parameters, Raises: as explain.explain.
        """
        sides = [
            side if isinstance(side, str) else any_contract_file(side) for side in (one, other) if side is not None
        ]
        with self._context() as context:
            return verbs.explain(context, *sides, command=command, limit=limit)

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
        key: PrivateKey | None = None,
    ) -> Ran:
        """Place the outputs if anybody made them already, else run the command. Parameters, Raises: as run.run."""
        with self._context() as context:
            return verbs.run(
                context,
                any_contract_file(contract_file),
                command,
                push=push,
                force=force,
                keep_outputs=keep_outputs,
                offline=offline,
                recompute=recompute,
                replace=replace,
                on_conflict=on_conflict,
                argv=argv,
                key=key,
            )

    def compute(
        self,
        contract_file: AnyContractFile,
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
        """Place the outputs if anybody made them already, else call function. Parameters, Raises: as run.compute."""
        with self._context() as context:
            return verbs.compute(
                context,
                any_contract_file(contract_file),
                function,
                push=push,
                force=force,
                offline=offline,
                recompute=recompute,
                replace=replace,
                on_conflict=on_conflict,
                key=key,
            )

    def map(
        self,
        contract_file: AnyContractFile,
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
        """Place the output of a map; make the items that nobody made yet. Parameters, Raises: as mapping.map_items."""
        with self._context() as context:
            return verbs.map_items(
                context,
                any_contract_file(contract_file),
                function,
                command=command,
                executor=executor,
                jobs=jobs,
                push=push,
                force=force,
                offline=offline,
                dry_run=dry_run,
                on_conflict=on_conflict,
                key=key,
            )

    def verify(
        self,
        *uris: CtxUri,
        skip_cache: bool = False,
        rebuild: AnyContractFile | None = None,
        command: Sequence[str] = (),
        tolerance: Sequence[str] = (),
        key: PrivateKey | None = None,
    ) -> Verified:
        """Read packs whole, all of the cache if none is named, and set damaged ones there aside; say who vouches.

        rebuild: the contract file of the one pack that is named, whose recipe is run again; command, tolerance and key
        are about that. Other parameters, Raises: as verification.verify and verify_recipe.
        """
        with self._context() as context:
            named = tuple(map(parse_uri, uris))
            if rebuild is None and not (command or tolerance or key):
                return verbs.verify(context, named or None, skip_cache=skip_cache)
            return verbs.verify_recipe(
                context,
                named,
                None if rebuild is None else any_contract_file(rebuild),
                command,
                skip_cache=skip_cache,
                tolerance=tolerance,
                key=key,
            )

    def trust_list(self) -> Trusted:
        """Return the policy of the user. Raises: as trusting.trust_list."""
        with self._context() as context:
            return verbs.trust_list(context)

    def trust_add(
        self,
        owner: str,
        *,
        pub: str | bytes | None = None,
        pack: AnyPack | None = None,
        key_id: str = "",
        scopes: Sequence[str] = (),
        name: str = "",
    ) -> ShownKey:
        """Add a signer to the policy. pack: whose claims say the key (see find). Parameters, Raises: as trust_add."""
        with self._context() as context:
            uri = None if pack is None else verbs.find_uri(context, pack)
            return verbs.trust_add(context, owner, pub=pub, uri=uri, key_id=key_id, scopes=scopes, name=name)

    def trust_mode(self, mode: str, *, scope: str | None = None, threshold: int | None = None) -> Trusted:
        """Set the mode of a scope, None for the default. Parameters, Raises: as trusting.trust_mode."""
        with self._context() as context:
            return verbs.trust_mode(context, mode, scope=scope, threshold=threshold)

    def trust_remove(self, name: str | None = None, *, scope: str | None = None, pin: str | None = None) -> Trusted:
        """Remove a signer, the mode of a scope, or a pinned key. Parameters, Raises: as trusting.trust_remove."""
        with self._context() as context:
            return verbs.trust_remove(context, name, scope=scope, pin=pin)

    def trust_show(self, what: str) -> ShownKey:
        """Return a key of the policy, by the name of a signer or its key id. Raises: as trusting.trust_show."""
        with self._context() as context:
            return verbs.trust_show(context, what)

    def trust_check(self, pack: AnyPack, *, skip_cache: bool = False) -> Verdict:
        """Return whether the policy admits a pack, by whom, and why not.

        pack: see find. Parameters, Raises: as reference.find and trusting.trust_check do.
        """
        with self._context() as context:
            return verbs.trust_check(context, verbs.find_uri(context, pack), skip_cache=skip_cache)

    def trust_deny(
        self, what: str, *, kind: str = "", undo: bool = False, dry_run: bool = False, show_affected: bool = False
    ) -> Denied:
        """Deny a key, a pack or outputs from now on. Parameters, Raises: as denying.trust_deny."""
        with self._context() as context:
            return verbs.trust_deny(context, what, kind=kind, undo=undo, dry_run=dry_run, show_affected=show_affected)

    def list_packs(
        self,
        *,
        sort: str = "used",
        tool: str | None = None,
        label: Sequence[str] = (),
        input: str | None = None,
        since: str | None = None,
    ) -> Listed:
        """Return the packs of the cache, all of them or some. Parameters, Raises: as packs.list_packs."""
        with self._context() as context:
            return verbs.list_packs(context, sort=sort, tool=tool, label=label, input=input, since=since)

    def remove(self, *uris: CtxUri, registry: bool = False) -> Removed:
        """Remove packs from the cache, and if asked from the registry. Parameters, Raises: as removal.remove_packs."""
        with self._context() as context:
            return verbs.remove_packs(context, *map(parse_uri, uris), registry=registry)

    def remove_all(self) -> Removed:
        """Remove all packs from the cache, also damaged ones that were set aside."""
        with self._context() as context:
            return verbs.remove_all(context)

    def _context(self) -> Context:
        known = StatCache(os.path.join(self.cache.side("hashes"), "index.db"), rehash=self._rehash)
        environ = os.environ if self._environ is None else self._environ
        registry = self.settings.registry
        foreign = registry.origin if registry.from_folder and self._given is None else ""
        return Context(
            self.cache,
            lambda: self.target,
            known,
            self._executor,
            self._progress,
            self._notice,
            self._policy,
            settle=float(self.settings.settle.value),
            state=state_folder(environ),
            registry="" if self._given is not None else _absolute(registry.value),
            trust=trust_of(environ, foreign=foreign, users=self.settings.users_registry),
            consent=self._consent,
        )


def _absolute(registry: str) -> str:
    """Return the name of a registry, of a layout with its absolute path: what is remembered of it holds anywhere."""
    folder = registry.removeprefix("oci:")
    return registry if folder == registry else f"oci:{os.path.abspath(folder)}"
