"""Clearing: before a command runs, what is at the places of its outputs is moved aside, so that it makes all of them.

Killed at any moment, nothing is lost that cannot be made again: a note (`runnotes`) is written before each step, and
the next run puts back, or deletes, what was moved aside.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack

from ctxpack_bundle import OutputTree
from ctxpack_identity import CtxUri
from ctxpack_identity.hashing.filesystem import TICK_NS
from ctxpack_pantry.context import Context
from ctxpack_pantry.replacing import FIXED, Site, not_written
from ctxpack_pantry.runnotes import RunNote, RunNotes
from ctxpack_pantry.standing import Standing
from ctxpack_pantry.weakpoints import WeakPoint

__all__ = ["Clearing", "finish_killed"]


class Clearing:
    """The places of the outputs of one run, as a context manager; the caller holds them.

    Entering it clears them. Leaving it puts back what was moved aside where the command left nothing. Elsewhere that is
    deleted, if it can be made again or the run made a pack, and else stays beside the output, which is said.
    force: clear also what cannot be made again. keep: keep what a failed run of the same contract left. weak: a weak
    point for each output that was kept. made: set it once there is a pack.
    Raises: InvalidInput when something else is there; LocalFailure. Then nothing has changed.
    """

    def __init__(
        self, context: Context, uri: CtxUri, outputs: Mapping[str, OutputTree], *, force: bool, keep: bool
    ) -> None:
        self._context, self._uri, self._force, self._keep = context, uri, force, keep
        self._notes = RunNotes(context.cache)
        self._outputs = {name: _Cleared(tree, self._notes) for name, tree in outputs.items()}
        self._undo = ExitStack()
        self.weak = tuple[WeakPoint, ...]()
        self.made = False

    def __enter__(self) -> Clearing:
        outputs = self._outputs
        sites = {name: output.site for name, output in outputs.items()}
        finish_killed(self._context, sites.values())
        for output in outputs.values():
            output.site.tidy()
            output.before = self._notes.read(output.site.real)
        standing = Standing(self._context, sites, {name: output.tree.follow for name, output in outputs.items()})
        kept = self._kept(standing)
        held = standing.require_held(force=self._force, keep=kept)
        with ExitStack() as undo:
            for name, output in outputs.items():
                undo.callback(self._settle, output)
                if name not in kept:
                    output.clear(self._uri, standing.seen[name], held=held[name])
            for name, output in outputs.items():
                output.start(self._uri, kept=name in kept)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._undo.close()

    def missing(self) -> list[str]:
        """Return the paths of the outputs that the command did not make."""
        return [output.site.path for output in self._outputs.values() if output.is_missing]

    def made_outputs(self) -> dict[str, OutputTree]:
        """Return the outputs with links resolved that were there before the command ran."""
        return {name: output.tree._replace(location=output.location) for name, output in self._outputs.items()}

    def _kept(self, standing: Standing) -> frozenset[str]:
        """Return the outputs whose place stays as it is: what a failed run of this contract left."""
        left = {}
        for name, output in self._outputs.items():
            note = output.before
            if note is not None and note.uri == self._uri and not note.made and standing.is_left(name):
                left[name] = output.site.path
        if not self._keep:
            for path in left.values():
                what = "what a failed run of this contract left is deleted; --keep-outputs would keep it"
                self._context.notice(f"{path}: {what}")
            return frozenset()
        what = "what a failed run of this contract left was kept, so the pack may hold some of it"
        self.weak = tuple(WeakPoint("kept", f"output {name}: {what}") for name in left)
        return frozenset(left)

    def _settle(self, output: _Cleared) -> None:
        kept = output.settle(self._uri, made=self.made)
        if kept:
            self._context.notice(f"what was at {output.site.path} is in {kept}")


class _Cleared:
    """One output. before: the note that was there."""

    def __init__(self, tree: OutputTree, notes: RunNotes) -> None:
        self.tree, self._notes = tree, notes
        self.site = site = Site(tree.location)
        self._link = site.path.rstrip("/") if os.path.islink(site.path.rstrip("/")) else ""
        self._stays = site.stays or bool(self._link)
        self._began = 0
        self._started = self._held = False
        self.before: RunNote | None = None

    @property
    def location(self) -> str:
        """Where the output is: the path, or what it leads to if it was a link before the command ran."""
        return os.path.realpath(self._link) if self._link else self.site.path

    @property
    def is_missing(self) -> bool:
        """Whether nothing is there, or just the empty folder that was left there."""
        location = self.location
        return not os.path.lexists(location) or (self._stays and location == self.site.real and self.site.is_empty)

    def clear(self, uri: CtxUri, seen: str, *, held: bool) -> None:
        """Move aside what is there, or delete the contents of what stays. seen: a look at it; held: see RunNote."""
        site, self._held = self.site, held
        try:
            os.makedirs(os.path.dirname(site.real), exist_ok=True)
            if not self._stays:
                note = RunNote(uri, ours=held, left=seen, made=True, held=held)
                self._notes.write(site.real, note._replace(aside=site.old, aside_of=self._failed))
                try:
                    site.move_aside(seen)
                except OSError as error:
                    if error.errno not in FIXED:
                        raise
                    self._stays = True
            if self._stays:
                self._notes.replace(site.real, None)  # what a kill leaves of it cannot be told from the user's
                site.delete_contents(seen)
        except OSError as error:
            raise not_written(site, error) from error

    def start(self, uri: CtxUri, *, kept: bool) -> None:
        """Note that from now on the work of the command is there. kept: beside that of an earlier run."""
        self._started = True
        self._began = self.before.began if kept and self.before else time.time_ns() - TICK_NS
        note = RunNote(uri, ours=True, began=self._began)
        if os.path.lexists(self.site.old):
            note = note._replace(aside=self.site.old, held=self._held, aside_of=self._failed)
        self._notes.write(self.site.real, note)

    def settle(self, uri: CtxUri, *, made: bool) -> str:
        """Put back or delete what was moved aside; return where it is when it has to be kept."""
        site, started, kept = self.site, self._started, ""
        try:
            if os.path.lexists(site.old):
                if site.is_empty and not made:
                    site.delete_empty()
                    self._notes.replace(site.real, self.before)  # first: after a kill, tidy puts back
                    site.put_back()
                    return ""
                if made or self._held:
                    site.delete_old()
                else:
                    kept = site.keep_old()
        except OSError as error:
            raise not_written(site, error) from error
        if not started:
            self._notes.replace(site.real, self.before)
        elif not os.path.lexists(site.real):
            self._notes.replace(site.real, None)
        else:
            self._notes.write(site.real, RunNote(uri, ours=True, left=site.look(), made=made, began=self._began))
        return kept

    @property
    def _failed(self) -> str:
        """The contract whose failed run left what was there before, if one did."""
        return self.before.uri if self.before is not None and not self.before.made else ""


def finish_killed(context: Context, sites: Iterable[Site]) -> None:
    """Put back or delete what killed runs moved aside from these places, which the caller holds.

    Raises: LocalFailure.
    """
    notes = RunNotes(context.cache)
    for site in sites:
        note = notes.read(site.real)
        if note is not None and site.is_old(note.aside):
            try:
                _finish(context, site, note, notes)
            except OSError as error:
                raise not_written(site, error) from error


def _finish(context: Context, site: Site, note: RunNote, notes: RunNotes) -> None:
    if not os.path.lexists(note.aside):
        # Killed before it moved anything (left), or after it deleted or kept what it had moved (no left).
        is_valid = not note.left or site.look() == note.left
        notes.replace(site.real, note._replace(aside="") if is_valid else None)
        return
    if site.is_empty:
        site.delete_empty()
        left = site.look_at_old(note.aside)
        back = RunNote(note.aside_of or note.uri, ours=True, left=left, made=not note.aside_of)
        notes.replace(site.real, back if note.held else None)  # first: after a kill, tidy puts back
        site.put_back(note.aside)
        return
    if note.held:
        site.delete_old(note.aside)
    else:
        context.notice(f"what a killed run replaced at {site.path} is in {site.keep_old(note.aside)}")
    notes.write(site.real, note._replace(aside=""))
