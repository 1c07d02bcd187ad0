"""Download: the pieces of a pack, from cached packs that hold them, else from the layers in a target."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, closing
from functools import partial
from tempfile import TemporaryFile
from typing import IO, BinaryIO, NamedTuple, cast

from ctxpack_bundle import FIRST_DATA_LAYER, Record, read_chunk
from ctxpack_bundle.remedy import IN_REGISTRY
from ctxpack_identity import IntegrityError, NotFound, digest_from_hex
from ctxpack_oci import Descriptor
from ctxpack_pantry.context import Context
from ctxpack_pantry.holdings import Held
from ctxpack_pantry.lookup import Admitted, Examined, fetch_layer, missing_layer, open_pack, open_table
from ctxpack_pantry.parts import MOST, Part, Plan, plan_parts
from ctxpack_pantry.transfer import at_once, in_order

__all__ = ["Download"]

_RUN = 1 << 20  # bytes of pieces that one task inflates
_LOADED = 14 << 20  # bytes of layers in memory, received or about to be
_INFLATED = 6 << 20  # bytes of pieces in memory, inflated or about to be


class _Loaded(NamedTuple):
    """Bytes of a layer from start on, in memory or in a file."""

    layer: int
    start: int
    data: bytes = b""
    file: IO[bytes] | None = None

    def chunk(self, record: Record) -> bytes | memoryview:
        offset = record.offset - self.start
        if self.file is None:
            return memoryview(self.data)[offset : offset + record.chunk_size]
        return os.pread(self.file.fileno(), record.chunk_size, offset)


class _Files:
    """The files of one call of pieces. They have no names, and leaving this context manager closes them all.

    A thread that is still at work then does not keep its file either, and begins no other one. staging: a folder.
    """

    def __init__(self, staging: str) -> None:
        self._staging = staging
        self._open: set[IO[bytes]] = set()
        self._wholes: dict[int, IO[bytes]] = {}  # layers that were fetched whole although a part was asked for
        self._left = False
        self._lock, self._fetching = threading.Lock(), threading.Lock()

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:  # not self._fetching, which a thread holds while it waits for a layer
            self._left = True
            for file in self._open:
                file.close()

    def filled(self, write: Callable[[BinaryIO], object]) -> IO[bytes]:
        """Return a file that holds what write writes."""
        file = TemporaryFile(dir=self._staging)  # noqa: SIM115  # close or __exit__ does
        try:
            write(cast("BinaryIO", file))
            file.flush()
            with self._lock:
                if self._left:
                    raise CancelledError
                self._open.add(file)
        except BaseException:
            file.close()
            raise
        return file

    def whole(self, number: int, write: Callable[[BinaryIO], object]) -> IO[bytes]:
        """Return the file of a layer that all its parts share; write fills it the first time."""
        with self._fetching:
            if self._left:
                raise CancelledError
            if number not in self._wholes:
                self._wholes[number] = self.filled(write)
            return self._wholes[number]

    def has_whole(self, number: int) -> bool:
        return number in self._wholes

    def close(self, loaded: _Loaded) -> None:
        """Close the file of a part, unless other parts share it."""
        if loaded.file is not None and not self.has_whole(loaded.layer):
            with self._lock:
                self._open.discard(loaded.file)
            loaded.file.close()


class _Run:
    """Neighbouring records, each with the bytes that hold its chunk; None for a piece that is held.

    size: bytes of their pieces. used_up: what no later run needs.
    """

    def __init__(self) -> None:
        self.records: list[tuple[Record, _Loaded | None]] = []
        self.size = 0
        self.used_up: list[_Loaded] = []


class Download:
    """Fetches pieces of one pack that was admitted, or is examined, in one attempt or two.

    Making it opens the pack and fetches the table; if ahead, the first layers too, which only pays if nothing is held.
    opened, table: of the pack. received: bytes of layers fetched so far. where: for errors.
    Raises: as open_pack and open_table do.
    """

    def __init__(self, context: Context, located: Admitted | Examined, *, ahead: bool = False) -> None:
        self.where = located.where
        self.received = self._total = 0
        self._target, self._progress, self._located = context.target, context.progress, located
        self._lock = threading.Lock()
        self._early: dict[int, bytes] = {}
        early = _first_layers(located.layers) if ahead else range(0)
        at_once(self._open, self._open_table, *(partial(self._fetch_early, number) for number in early))

    def _open(self) -> None:
        self.opened = open_pack(self._target, self._located)
        self._count(self._located.layers[0].size)

    def _open_table(self) -> None:
        self.table = open_table(self._target, self._located)
        self._count(self._located.layers[FIRST_DATA_LAYER - 1].size)

    def _fetch_early(self, number: int) -> None:
        self._early[number] = fetch_layer(self._target, self._located, number)
        self._count(self._located.layers[number].size)

    def pieces(self, numbers: Sequence[int], held: Held, staging: str) -> Generator[bytes, None, None]:
        """Yield the pieces of the records with these numbers, ascending: held ones, or fetched ones, all checked.

        staging: a folder, for layers that are in use longer than they should stay in memory. Close the generator.
        Raises: IntegrityError, also when a layer is missing; AccessDenied, Unavailable, LocalFailure; OSError when
        staging cannot be written.
        """
        layers = [layer.size for layer in self._located.layers]
        wanted = [number for number in numbers if not held.has(self.table[number])]
        plan = plan_parts(self.table, wanted, layers, here=self._early)
        self._total = self.received + sum(part.size for part in plan.parts if part.layer not in self._early)

        def load(part: Part) -> _Loaded:
            return self._load(part, files)

        def weigh(part: Part) -> int:
            return 0 if part.filed and part.size == layers[part.layer] else part.size

        def inflate(run: _Run) -> tuple[deque[bytes], list[_Loaded]]:
            return deque(self._piece(record, loaded, held) for record, loaded in run.records), run.used_up

        with ExitStack() as stack:
            files = stack.enter_context(_Files(staging))
            loading = stack.enter_context(closing(in_order(load, plan.parts, weigh=weigh, budget=_LOADED)))
            runs = stack.enter_context(closing(self._runs(numbers, held, plan, self._checked(loading))))
            inflating = in_order(inflate, runs, weigh=lambda run: run.size, budget=_INFLATED)
            for pieces, used_up in stack.enter_context(closing(inflating)):
                while pieces:
                    yield pieces.popleft()
                for loaded in used_up:
                    files.close(loaded)

    def _runs(
        self, numbers: Sequence[int], held: Held, plan: Plan, loading: Iterator[_Loaded]
    ) -> Generator[_Run, None, None]:
        """Yield the records with these numbers in runs, each as soon as the parts that it needs are loaded."""
        loaded: dict[int, _Loaded] = {}
        position = 0  # in plan.part_of
        run = _Run()
        for number in numbers:
            record = self.table[number]
            if held.has(record):
                run.records.append((record, None))
            else:
                part = plan.part_of[position]
                if plan.parts[part].first == position:
                    loaded[part] = next(loading)
                run.records.append((record, loaded[part]))
                if plan.parts[part].last == position:
                    run.used_up.append(loaded.pop(part))
                position += 1
            run.size += record.size
            if run.size >= _RUN:
                yield run
                run = _Run()
        if run.records:
            yield run

    def _checked(self, loading: Iterator[_Loaded]) -> Iterator[_Loaded]:
        """Yield what is loaded, and check the digest of each layer whose parts come whole and in order."""
        running: dict[int, tuple[int, hashlib._Hash]] = {}
        for loaded in loading:
            layer = self._located.layers[loaded.layer]
            if loaded.file is None and layer.size > len(loaded.data):
                position, sha256 = running.pop(loaded.layer, (0, hashlib.sha256()))
                if loaded.start == position:
                    sha256.update(loaded.data)
                    running[loaded.layer] = position + len(loaded.data), sha256
                if position + len(loaded.data) == layer.size and digest_from_hex(sha256.hexdigest()) != layer.digest:
                    raise IntegrityError(
                        "digest differs",
                        where=f"{self.where}, layer {loaded.layer}",
                        expected=layer.digest,
                        got=digest_from_hex(sha256.hexdigest()),
                        fix=IN_REGISTRY,
                        code="E_DIGEST",
                    )
            yield loaded

    def _load(self, part: Part, files: _Files) -> _Loaded:
        """Fetch a part; more than that when the target serves whole layers only."""
        early = self._early.pop(part.layer, None)
        if early is not None:
            return _Loaded(part.layer, 0, early)
        layer = self._located.layers[part.layer]
        try:
            if part.filed and part.size == layer.size:
                return _Loaded(part.layer, 0, file=files.filled(partial(self._fetch_into, layer)))
            data = self._target.fetch(layer) if part.size == layer.size else self._fetch_range(part, layer, files)
            if data is None:
                return _Loaded(part.layer, 0, file=files.whole(part.layer, partial(self._fetch_into, layer)))
        except NotFound as error:
            raise missing_layer(self._located, part.layer) from error
        self._count(len(data))
        start = part.start if len(data) == part.size else 0
        if not part.filed:
            return _Loaded(part.layer, start, data)
        return _Loaded(part.layer, start, file=files.filled(lambda file: file.write(data)))

    def _fetch_range(self, part: Part, layer: Descriptor, files: _Files) -> bytes | None:
        if files.has_whole(part.layer):
            return None
        return self._target.fetch_range(layer, part.start, part.size)

    def _fetch_into(self, layer: Descriptor, file: BinaryIO) -> None:
        self._target.fetch_into(layer, file)
        self._count(layer.size)

    def _piece(self, record: Record, loaded: _Loaded | None, held: Held) -> bytes:
        if loaded is None:
            return held.piece(record)
        where = f"{self.where}, layer {record.layer}, {self._located.layers[record.layer].digest}, at {record.offset}"
        return read_chunk(loaded.chunk(record), record, where=where)

    def _count(self, size: int) -> None:
        with self._lock:
            self.received += size
            self._total = max(self._total, self.received)
            self._progress("pull", size, self._total)


def _first_layers(layers: Sequence[Descriptor]) -> range:
    """Return the numbers of the first layers of chunks, as many as are in memory at once."""
    stop, size = FIRST_DATA_LAYER, 0
    while stop < len(layers) and (size := size + layers[stop].size) <= MOST:
        stop += 1
    return range(FIRST_DATA_LAYER, stop)
