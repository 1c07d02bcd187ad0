"""The pantry: finished packs are looked up in the cache first, then in the registry.

::

    pantry = Pantry(load_settings())
    seeded = pantry.seed(["processed_data"], "contract.json")
    pantry.push(seeded.uri)
    Pantry(...).pull(seeded.uri).path
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from ctxpack_cache import Cache
from ctxpack_identity import (
    CtxUri,
    Digest,
    Hashing,
    IntegrityError,
    NotFound,
    Progress,
    Resolution,
    resolve,
    silent,
    uri_digest,
    uri_for,
)
from ctxpack_identity.lighttyping import TYPE_CHECKING, NamedTuple
from ctxpack_pantry.contractfile import LoadedContractFile, load_contract_file
from ctxpack_pantry.settings import Settings

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from ctxpack_bundle import PackManifest
    from ctxpack_identity.hashing.statcache import StatCache
    from ctxpack_oci import Target
    from ctxpack_pantry.inspection import Inspection
    from ctxpack_pantry.pick import Picked
    from ctxpack_pantry.pull import Pulled
    from ctxpack_pantry.push import Pushed
    from ctxpack_pantry.run import Ran
    from ctxpack_pantry.seed import Run, Seeded

# What a method needs beyond this is imported inside it: `id` and cache hits are frequent and need neither the
# registry nor the archive format, which take ten times as long to import as the hit takes.

__all__ = ["Pantry", "Stored"]

VERSION = "0.1.0"

Notice = Callable[[str], None]
"""Called with one line for people, such as "waiting for another process"."""


def unheard(message: str) -> None:
    """A Notice that nobody reads."""


class Stored(NamedTuple):
    """A pack of the cache. path: its folder; manifest: None when it is damaged."""

    uri: CtxUri
    path: str
    manifest: PackManifest | None


class Pantry:
    """The operations on packs, with the cache and the registry that settings name.

    progress: see ctxpack_identity.Progress. notice: hints for people. environ: where credentials are looked for.
    rehash: read every input, and every output in its place, also what did not change since it was hashed last.
    executor: any concurrent.futures.Executor to hash inputs on, instead of this machine's cores; it is not shut down.
    Nothing is opened before it is needed.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        progress: Progress = silent,
        notice: Notice = unheard,
        environ: Mapping[str, str] = os.environ,
        rehash: bool = False,
        executor: Executor | None = None,
    ) -> None:
        self.settings = settings
        self.cache = Cache(settings.cache.value)
        self._progress = progress
        self._notice = notice
        self._environ = environ
        self._rehash = rehash
        self._executor = executor
        self._target: Target | None = None

    def close(self) -> None:
        """Give back connections."""
        if self._target is not None:
            self._target.close()
            self._target = None

    def __enter__(self) -> Pantry:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def target(self) -> Target:
        """The registry. Raises: InvalidInput when its setting is not a registry's name."""
        if self._target is None:
            from ctxpack_oci import open_target, parse_location

            self._target = open_target(parse_location(self.settings.registry.value), environ=self._environ)
        return self._target

    def resolve(self, contract: str | LoadedContractFile) -> Resolution:
        """Return the canonical contract and URI of a contract file. Hashes its inputs; no side effects.

        Raises: InvalidInput, LocalFailure; NotFound when an input's URI is nowhere; for a remote input AccessDenied,
        Unavailable.
        """
        loaded = self._load(contract)
        with self._known() as known:
            resolution = resolve(
                loaded.file,
                loaded.base,
                where=loaded.path,
                pack_outputs=self.outputs_of,
                hashing=Hashing(self._executor, known, self._progress),
            )
        self._warn_of_junk(resolution.junk)
        return resolution

    def outputs_of(self, uri: CtxUri) -> Digest:
        """Return the tree digest of a pack's outputs, without fetching them. Raises: NotFound; see inspect."""
        return self.inspect(uri).manifest.outputs_digest

    def seed(
        self,
        outputs: Sequence[str],
        contract: str | LoadedContractFile,
        *,
        run: Run | None = None,
        expected: Resolution | None = None,
    ) -> Seeded:
        """Make a pack of outputs under the URI of contract, in the cache.

        outputs: files and folders; none means those that the contract declares. run: the command that made them, for
        provenance. expected: what the contract resolved to before it ran.
        Raises: Conflict when the cache holds other outputs for this URI; InvalidInput, LocalFailure.
        """
        from ctxpack_pantry.run import require_outputs
        from ctxpack_pantry.seed import seed

        loaded = self._load(contract)
        with self._known() as known:
            seeded = seed(
                self.cache,
                loaded,
                outputs or require_outputs(loaded),
                version=VERSION,
                pack_outputs=self.outputs_of,
                executor=self._executor,
                known=known,
                progress=self._progress,
                run=run,
                expected=expected,
            )
        self._warn_of_junk(seeded.junk)
        return seeded

    def push(self, uri: CtxUri) -> Pushed:
        """Copy a pack from the cache to the registry; nothing is sent when it is there.

        Raises: NotFound when the cache has no such pack; Conflict when the registry has other outputs for this URI;
        IntegrityError, AccessDenied, Unavailable.
        """
        from ctxpack_pantry.holdings import Holdings
        from ctxpack_pantry.pull import not_found
        from ctxpack_pantry.push import push

        folder = self.cache.find(uri_digest(uri))
        if folder is None:
            raise not_found(uri, f"cache {self.settings.cache.value}")
        return push(self.target, folder, uri, progress=self._progress, holdings=Holdings(self.cache))

    def fetch(self, uri: CtxUri) -> int:
        """See to it that the cache has the pack; return the bytes of chunks fetched for it, 0 when it was there.

        Chunks that other packs in the cache hold are not fetched. Raises: as pull does.
        """
        return 0 if self.cache.find(uri_digest(uri)) else self._fetch(uri).received

    def pull(self, uri: CtxUri, output: str | None = None, *, force: bool = False) -> str:
        """Return the folder that holds the pack's outputs, fetched if the cache has not got it.

        output: where to put an ordinary copy; then that is returned. force: replace what stands there.
        Raises: NotFound, IntegrityError, AccessDenied, Unavailable, LocalFailure; InvalidInput when output is taken.
        """
        folder = self.cache.find(uri_digest(uri)) or self._fetch(uri).path
        if output is None:
            return os.path.join(folder, "artifacts")
        from ctxpack_pantry.place import all_into, place

        with self._known() as known:
            place(self.cache, folder, all_into(output), force=force, progress=self._progress, known=known)
        return output

    def pick(self, uri: CtxUri, include: Sequence[str], output: str, *, force: bool = False) -> Picked:
        """Put those of a pack's outputs that include means, in gitignore syntax, into a folder as ordinary copies.

        Unless the cache has the pack, only the chunks that hold them are fetched; the cache gets nothing.
        force: replace what stands at output.
        Raises: InvalidInput when nothing matches, or output is taken; otherwise as pull does.
        """
        from ctxpack_pantry.pick import Pick

        with self._known() as known:
            pick = Pick(self.cache, uri, include, output, force=force, progress=self._progress, known=known)
            folder = self.cache.find(uri_digest(uri))
            return pick.from_target(self.target) if folder is None else pick.from_cache(folder)

    def inspect(self, uri: CtxUri, *, remote: bool = False) -> Inspection:
        """Return what made a pack and what it holds; from the registry only its first chunk is fetched.

        remote: ask the registry even when the cache has it. Raises: NotFound, IntegrityError, AccessDenied,
        Unavailable.
        """
        from ctxpack_bundle import read_pack_manifest
        from ctxpack_pantry.artifact import find_artifact
        from ctxpack_pantry.inspection import Inspection
        from ctxpack_pantry.pull import not_found

        folder = None if remote else self.cache.find(uri_digest(uri))
        if folder is not None:
            return Inspection(read_pack_manifest(folder), folder, None)
        artifact = find_artifact(self.target, uri)
        if artifact is None:
            raise not_found(uri, self.target.name)
        return Inspection(artifact.pack, self.target.name, artifact)

    def run(
        self,
        contract: str,
        command: Sequence[str],
        *,
        push: bool = False,
        force: bool = False,
        offline: bool = False,
    ) -> Ran:
        """Place the contract's outputs if their pack is anywhere; else run command, then seed its outputs.

        push: see to it that the registry has the pack. force: replace what stands at an output's place. offline: ask
        the cache only.
        On a miss nothing is seeded when the command fails (its status is returned), an output is missing, or an
        input changed meanwhile. Of two processes with one contract the second waits, and then hits.
        Raises: AccessDenied, Unavailable when the registry's answer is not known, which is not a miss; InvalidInput,
        Conflict, IntegrityError, LocalFailure.
        """
        from ctxpack_bundle import read_pack_manifest
        from ctxpack_pantry.place import each_to, place
        from ctxpack_pantry.run import Ran, execute, require_made, require_outputs

        loaded = self._load(contract)
        outputs = require_outputs(loaded)
        resolution = self.resolve(loaded)
        key = uri_digest(resolution.uri)
        with self.cache.lock(key, "run", on_wait=lambda: self._notice("another process runs this contract; waiting")):
            folder = self._look_up(resolution.uri, offline=offline)
            hit = folder is not None
            if folder is not None:
                placings = each_to(read_pack_manifest(folder), outputs)
                with self._known() as known:
                    place(self.cache, folder, placings, force=force, progress=self._progress, known=known)
            else:
                status, done = execute(command, resolution.uri)
                if status != 0:
                    return Ran(resolution.uri, False, status)
                require_made(outputs)
                self.seed(outputs, loaded, run=done, expected=resolution)
        if push:
            self.push(resolution.uri)
        return Ran(resolution.uri, hit, 0)

    def packs(self) -> Iterator[Stored]:
        """Yield the packs of the cache, by URI. A damaged one comes without its manifest."""
        from ctxpack_bundle import read_pack_manifest

        for pack in self.cache.packs():
            try:
                manifest = read_pack_manifest(pack.path)
            except IntegrityError:
                manifest = None
            yield Stored(uri_for(pack.key), pack.path, manifest)

    def remove(self, uri: CtxUri) -> bool:
        """Remove a pack from the cache, never from the registry; return whether it was there."""
        return self.cache.remove(uri_digest(uri))

    def _known(self) -> StatCache:
        from ctxpack_identity.hashing.statcache import StatCache

        return StatCache(os.path.join(self.cache.side("hashes"), "index.db"), rehash=self._rehash)

    def _load(self, contract: str | LoadedContractFile) -> LoadedContractFile:
        return load_contract_file(contract) if isinstance(contract, str) else contract

    def _look_up(self, uri: CtxUri, *, offline: bool) -> str | None:
        """Return the pack's folder, fetched if need be, or None for a miss. Raises when that is not known."""
        folder = self.cache.find(uri_digest(uri))
        if folder is not None or offline:
            return folder
        try:
            return self._fetch(uri).path
        except NotFound:
            return None

    def _fetch(self, uri: CtxUri) -> Pulled:
        from ctxpack_pantry.pull import pull

        return pull(
            self.cache,
            self.target,
            uri,
            progress=self._progress,
            on_wait=lambda: self._notice("another process fetches this pack; waiting"),
        )

    def _warn_of_junk(self, junk: Sequence[str]) -> None:
        for path in junk:
            self._notice(f"{path} was left by a file manager, and changes the URI; remove or exclude it")
