"""Inspect: what made a pack and what it holds, without fetching its outputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

from ctxpack_bundle import PackManifest
from ctxpack_identity import CtxUri, Digest, InvalidInput, NotFound, TreeEntry, digest_from_hex
from ctxpack_identity.contractview import input_names
from ctxpack_pantry.context import Context
from ctxpack_pantry.outlet import Outlet, manifest_of, require_intact
from ctxpack_pantry.results import Inspected
from ctxpack_pantry.weakpoints import WeakPoint, in_contract, limited

__all__ = ["FileList", "admitted", "inspect", "list_files", "outputs_digest_of"]

_LONGEST = 1000  # characters of a weak point that somebody else noted


def inspect(context: Context, uri: CtxUri, *, skip_cache: bool = False) -> Inspected:
    """Return what made a pack and what it holds, admitted or not, and what the policy says of it.

    From the registry only its first layer and the claims about it are fetched; nothing is placed or cached. On a cached
    pack the registry is not asked. Raises: NotFound, IntegrityError, AccessDenied, Unavailable; InvalidInput,
    LocalFailure for a policy that cannot be read.
    """
    from ctxpack_pantry.verdict import judge_cached, judge_located

    outlet = Outlet(context, uri, examine=True)

    def look(folder: str) -> Inspected:
        manifest, _ = _intact(context, uri, folder)
        return Inspected(manifest, folder, None, limited(_weak_points(manifest)), judge_cached(context, uri, folder))

    cached = None if skip_cache else outlet.cached(look)
    if cached is not None:
        return cached
    from ctxpack_pantry.lookup import open_pack  # HTTP is loaded only when the registry is asked

    located, manifest, _ = open_pack(context.target, outlet.located())
    verdict = judge_located(context, uri, located.image, manifest)
    return Inspected(manifest, context.target.name, located, limited(_weak_points(manifest)), verdict)


class FileList:
    """The files of a pack's outputs, or of one of its inputs, as a context manager; made by list_files.

    uri: of the pack; found_in: its folder, or the registry; input: its name, None for the outputs. To enter it raises:
    NotFound, also for an input that the pack does not list; InvalidInput for a name that is no input; IntegrityError,
    AccessDenied, Unavailable, LocalFailure. That the policy does not admit the pack is said.
    """

    found_in: str

    def __init__(self, context: Context, uri: CtxUri, input: str | None, *, skip_cache: bool) -> None:
        self.uri, self.input = uri, input
        from ctxpack_pantry.packview import PackView  # it loads HTTP, which inspecting a cached pack does not need

        self._view = PackView(context, uri, skip_cache=skip_cache, examine=True)
        self._open = ExitStack()

    def __enter__(self) -> FileList:
        with ExitStack() as stack:
            view = stack.enter_context(self._view)
            self.found_in = view.found_in
            if self.input is not None:
                _require_listed(view.manifest, self.input)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def __iter__(self) -> Iterator[TreeEntry]:
        """Yield files and empty folders, in canonical order; an input that is one file has the path "".

        Raises: IntegrityError, before the last one at the latest, when they are not what was hashed; AccessDenied,
        Unavailable, LocalFailure.
        """
        yield from self._view.listing("files" if self.input is None else f"inputs/{self.input}") or ()

    def elements(self) -> Iterator[dict[str, Any]]:
        """Yield the members of `entries`. Raises: as iterating over it does."""
        for entry in self:
            digest = None if entry.is_empty_folder else digest_from_hex(entry.sha256)
            yield {"path": entry.path, "size": entry.size, "digest": digest, "executable": entry.executable}

    def head_as_json(self) -> dict[str, Any]:
        """Return the document without its entries, of which there may be a million."""
        return {"schema": "ctxpack/files/v1", "uri": self.uri, "found_in": self.found_in, "input": self.input}

    def as_json(self) -> dict[str, Any]:
        return {**self.head_as_json(), "entries": list(self.elements())}


def list_files(context: Context, uri: CtxUri, *, input: str | None = None, skip_cache: bool = False) -> FileList:
    """Return the files of the outputs, or of the input with this name, with size and digest of each.

    From a registry only the chunks that hold their listing are fetched. skip_cache: ask the registry even if the cache
    has the pack.
    """
    return FileList(context, uri, input, skip_cache=skip_cache)


def _require_listed(manifest: PackManifest, name: str) -> None:
    """Raise InvalidInput unless the pack has this input; NotFound unless it lists what is in it."""
    names = input_names(manifest.contract)
    if name not in names:
        raise InvalidInput(
            "the pack has no such input",
            where=manifest.uri,
            expected=f"one of {', '.join(names)}" if names else "no name: it has no inputs",
            got=repr(name),
            code="E_USAGE",
        )
    if not any(listing.path == f"inputs/{name}.jsonl" for listing in manifest.listings):
        raise NotFound(
            f"the pack does not list the files of its input {name}",
            where=manifest.uri,
            fix='its contract file gave only a digest or a pack that was not cached, or said "listing": false',
        )


def outputs_digest_of(context: Context, uri: CtxUri, *, skip_cache: bool = False) -> Digest:
    """Return the tree digest of a pack's outputs, admitted, without fetching them.

    Raises: NotFound, IntegrityError, PolicyRefused, AccessDenied, Unavailable.
    """
    return admitted(context, uri, skip_cache=skip_cache)[0].outputs_digest


def admitted(context: Context, uri: CtxUri, *, skip_cache: bool = False) -> tuple[PackManifest, str]:
    """Return the manifest of a pack that is admitted, and its folder or the registry. Raises: as outputs_digest_of."""
    outlet = Outlet(context, uri)
    cached = None if skip_cache else outlet.cached(partial(_intact, context, uri))
    if cached is not None:
        return cached
    from ctxpack_pantry.lookup import open_pack  # HTTP is loaded only when the registry is asked

    return open_pack(context.target, outlet.located()).manifest, context.target.name


def _intact(context: Context, uri: CtxUri, folder: str) -> tuple[PackManifest, str]:
    require_intact(context, uri, folder)
    return manifest_of(uri, folder), folder


def _weak_points(manifest: PackManifest) -> Iterator[WeakPoint]:
    """Yield the weak points that the contract shows, and those that the maker of the pack was told of."""
    yield from in_contract(manifest.contract)
    told = manifest.provenance.get("weak")
    for point in told if isinstance(told, list | tuple) else ():
        code, what = (point.get("code"), point.get("what")) if isinstance(point, dict) else (None, None)
        if isinstance(code, str) and isinstance(what, str):
            yield WeakPoint(code[:_LONGEST], what[:_LONGEST])
