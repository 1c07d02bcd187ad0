"""Sending: the blobs of one pack, made from its folder and sent while the rest is still being made.

Pieces are squeezed in parallel, laid into layers in order, and whole layers are sent in parallel. Where an earlier pack
has most of the pieces, its layers are borrowed, and only the other pieces are read again and sent.
"""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from itertools import accumulate, count, islice
from tempfile import TemporaryFile
from typing import BinaryIO, Final, NamedTuple, cast

from ctxpack_bundle import (
    FIRST_DATA_LAYER,
    Borrowed,
    Layering,
    Own,
    PackManifest,
    PackStream,
    Record,
    TableDraft,
    both_chunks,
    make_chunk,
    manifest_part,
    pack,
    plan_borrowing,
    stream_size,
    usage,
)
from ctxpack_bundle.remedy import IN_CACHE
from ctxpack_identity import Digest, IntegrityError, NotFound, Progress, digest_from_hex, digest_of
from ctxpack_oci import Descriptor, Target
from ctxpack_pantry.artifact import describe_contract, describe_layer, describe_table
from ctxpack_pantry.borrowing import Survey
from ctxpack_pantry.squeezing import squeezed
from ctxpack_pantry.transfer import in_order

__all__ = ["ABSENT_RUN", "PROBE", "Presence", "Sending", "Sent"]

ABSENT_RUN = 4  # layers: more than those that are new in every pack
PROBE = 8  # layers, of which one is asked for

_SENDING: Final = 20 << 20  # bytes of layers in memory, being sent or about to be
_IN_MEMORY: Final = 8 << 20  # bytes of a layer; a larger one is made in a file
_OWN: Final = 1 << 15  # in a draft, the first number of the layers that this push makes


class Sent(NamedTuple):
    """What an image manifest needs. layers: all of them, in order; table: its bytes."""

    layers: list[Descriptor]
    table: bytes


class _Task(NamedTuple):
    """A blob to send, or to ask for. weight: bytes of it in memory. run returns the descriptor of a new layer."""

    run: Callable[[], Descriptor | None]
    weight: int = 0


class Sending:
    """Sends the blobs of the pack of manifest, which is in folder; with a survey, only what its base lacks.

    has: returns whether the target has a layer. padding: empty gzip members that each layer begins with, so that all
    layers, and the table, have other digests. sent: bytes of blobs that the target did not have; blobs: these blobs.
    """

    def __init__(
        self,
        target: Target,
        folder: str,
        manifest: PackManifest,
        survey: Survey | None,
        progress: Progress,
        *,
        has: Callable[[Descriptor], bool] | None = None,
        padding: int = 0,
    ) -> None:
        self.sent = 0
        self.blobs: list[Descriptor] = []
        self._target, self._folder, self._manifest = target, folder, manifest
        self._survey, self._progress = survey, progress
        self._first = manifest_part(manifest)
        self._total = stream_size(manifest)
        self._layering = Layering(self._total)
        self._has = has or Presence(target).of
        self._padding = padding
        self._layers_made: set[_Layer] = set()  # and not sent yet
        self._begun: set[Digest] = set()  # layers of chunks: two of a pack can be the same
        self._counting = threading.Lock()
        self._own = Own()
        self._draft = TableDraft(0 if survey is None else len(survey.sizes))
        self._kept: dict[int, Borrowed] = {}
        self._table = b""

    def send(self, staging: str) -> Sent:
        """Send all blobs but the image manifest. staging: a folder, for layers that are too large for memory.

        Raises: NotFound when the target lacks what survey says; IntegrityError when the pack's folder is damaged;
        AccessDenied, Unavailable, LocalFailure; OSError when staging cannot be written.
        """
        with ExitStack() as stack:
            stack.callback(self._close_layers)
            tasks = stack.enter_context(closing(self._tasks(staging)))
            sending = stack.enter_context(
                closing(in_order(lambda task: task.run(), tasks, weigh=lambda task: task.weight, budget=_SENDING))
            )
            first, *own, table = [layer for layer in sending if layer is not None]
        return Sent([first, table, *(self._base_layer(layer) for layer in sorted(self._kept)), *own], self._table)

    def _tasks(self, staging: str) -> Generator[_Task, None, None]:
        """Yield what to send: the first layer, the contract, the layers of chunks, the table."""
        chunk = make_chunk(self._first)
        if self._padding:  # a layer of one chunk: there is no room for more
            chunk = next(other for other in both_chunks(self._first) if other != chunk)
        yield _Task(partial(self._send, describe_layer(digest_of(chunk), len(chunk)), chunk), len(chunk))
        yield _Task(self._send_contract)
        with closing(
            self._layers(staging) if self._survey is None else self._other_layers(self._survey, staging)
        ) as layers:
            yield from layers
        order = [*sorted(self._kept), *range(_OWN, _OWN + self._own.layers)]
        self._table = self._draft.finish({layer: number for number, layer in enumerate(order, FIRST_DATA_LAYER)})
        yield _Task(partial(self._send, describe_table(self._table), self._table), len(self._table))
        self._progress("push", self._total, self._total)  # an estimate, which the caller makes good

    def _layers(self, staging: str) -> Generator[_Task, None, None]:
        """Yield all layers of a pack that borrows nothing."""
        with closing(pack(self._folder)) as pieces:
            yield from self._filled(islice(pieces, 1, None), count(), staging)

    def _other_layers(self, survey: Survey, staging: str) -> Generator[_Task, None, None]:
        """Yield the layers with pieces that are not borrowed, and questions for what is."""
        base, found = survey.base, survey.found
        sizes = [layer.size for layer in base.manifest.layers]
        kept, new = usage(base.table, found, sizes), _estimate(survey)
        placed = bytearray(len(found))
        asked = False
        yield _Task(partial(self._require, base.image))
        while True:
            kept, new = plan_borrowing(kept, new, self._own, self._layering), 0
            numbers = array("I")
            for number, there in enumerate(found):
                if not placed[number] and (there < 0 or base.table[there].layer not in kept):
                    numbers.append(number)
                    placed[number] = 1
            if not asked:
                yield from (_Task(partial(self._require, base.manifest.layers[layer])) for layer in kept)
                self._progress("push", sum(survey.sizes) - sum(survey.sizes[n] for n in numbers), self._total)
                asked = True
            if not numbers:
                break
            with closing(self._read_again(numbers, survey)) as pieces:
                yield from self._filled(pieces, iter(numbers), staging)
        for number, there in enumerate(found):
            if not placed[number]:
                self._draft.put(number, base.table[there])
        self._kept = kept

    def _read_again(self, numbers: Iterable[int], survey: Survey) -> Generator[bytes, None, None]:
        offsets = array("Q", accumulate(survey.sizes, initial=len(self._first)))
        with PackStream(self._folder) as stream:
            for number in numbers:
                yield stream.read(offsets[number], survey.sizes[number])

    def _filled(self, pieces: Iterable[bytes], numbers: Iterator[int], staging: str) -> Iterator[_Task]:
        """Yield layers filled with pieces, and put their records, which have these numbers, into the draft."""
        layer = self._new_layer(staging)
        with closing(squeezed(pieces)) as chunks:
            for size, sha256, chunk in chunks:
                if not layer.has_room(len(chunk)):
                    yield self._finished(layer)
                    layer = self._new_layer(staging)
                number = next(numbers)
                self._require_same(number, sha256)
                offset, chunk_size = layer.add(sha256, chunk)
                self._draft.put(number, Record(sha256, size, chunk_size, _OWN + layer.number, offset))
                if not self._own.rounds:  # pieces of later rounds were counted as borrowed
                    self._progress("push", size, self._total)
                if self._layering.ends_after(layer.size, sha256):
                    yield self._finished(layer)
                    layer = self._new_layer(staging)
        if not layer.is_empty:
            yield self._finished(layer)
        self._own = self._own._replace(rounds=self._own.rounds + 1)

    def _new_layer(self, staging: str) -> _Layer:
        layer = _Layer(self._own.layers, self._layering, staging, make_chunk(b"") * self._padding)
        self._layers_made.add(layer)
        return layer

    def _close_layers(self) -> None:
        """Remove the files of layers that were not sent; a thread that still sends one fails."""
        for layer in [*self._layers_made]:
            with suppress(OSError):
                layer.close()

    def _finished(self, layer: _Layer) -> _Task:
        self._own = self._own._replace(size=self._own.size + layer.size, layers=self._own.layers + 1)
        return _Task(partial(self._send_layer, layer), layer.weight)

    def _send_layer(self, layer: _Layer) -> Descriptor:
        descriptor, content = layer.finish()
        try:
            if self._begins(descriptor) and not self._has(descriptor):
                self._send(descriptor, content)
        finally:
            layer.close()
            self._layers_made.discard(layer)
        return descriptor

    def _begins(self, descriptor: Descriptor) -> bool:
        """Return whether this is the first layer with this content."""
        with self._counting:
            first = descriptor.digest not in self._begun
            self._begun.add(descriptor.digest)
        return first

    def _send(self, descriptor: Descriptor, content: bytes | BinaryIO) -> Descriptor:
        self._target.push(descriptor, content)
        with self._counting:
            self.sent += descriptor.size
            self.blobs.append(descriptor)
        return descriptor

    def _send_contract(self) -> None:
        contract = describe_contract(self._manifest.contract_bytes)
        self._target.push(contract, self._manifest.contract_bytes)
        with self._counting:
            self.blobs.append(contract)

    def _require(self, descriptor: Descriptor) -> None:
        if not self._target.exists(descriptor):
            raise NotFound(f"{descriptor.digest} is not there any more", where=self._target.name)

    def _base_layer(self, number: int) -> Descriptor:
        assert self._survey is not None
        return self._survey.base.manifest.layers[number]

    def _require_same(self, number: int, sha256: bytes) -> None:
        """Check that a piece that was read again is still the same."""
        if self._survey is not None and self._survey.sha256[32 * number : 32 * (number + 1)] != sha256:
            raise IntegrityError("pack changed while it was pushed", where=self._folder, fix=IN_CACHE)


class _Layer:
    """A layer that is being filled. number: of the layers that this push makes; size: bytes so far; weight: in memory.

    A layer that may become large is in a file without a name.
    """

    def __init__(self, number: int, layering: Layering, staging: str, padding: bytes) -> None:
        self.number, self.size = number, len(padding)
        self._most = layering.most
        self._chunks = [padding]
        self._file: BinaryIO | None = None
        self._sha256 = hashlib.sha256()
        if layering.most > _IN_MEMORY:
            self._file = cast("BinaryIO", TemporaryFile(dir=staging))  # noqa: SIM115  # close does
            self._file.write(padding)
            self._sha256.update(padding)
        self._places: dict[bytes, tuple[int, int]] = {}

    @property
    def is_empty(self) -> bool:
        return not self._places

    @property
    def weight(self) -> int:
        return 0 if self._file else self.size

    def has_room(self, size: int) -> bool:
        """Return whether a chunk of size bytes fits."""
        return self.is_empty or self.size + size <= self._most

    def add(self, sha256: bytes, chunk: bytes) -> tuple[int, int]:
        """Return offset and size of the chunk of the piece with this digest, added unless it is here already."""
        if sha256 not in self._places:
            self._places[sha256] = self.size, len(chunk)
            self.size += len(chunk)
            if self._file is None:
                self._chunks.append(chunk)
            else:
                self._file.write(chunk)
                self._sha256.update(chunk)
        return self._places[sha256]

    def finish(self) -> tuple[Descriptor, bytes | BinaryIO]:
        """Return the layer. Nothing can be added then."""
        if self._file is not None:
            self._file.flush()
            return describe_layer(digest_from_hex(self._sha256.hexdigest()), self.size), self._file
        content = b"".join(self._chunks)
        self._chunks.clear()
        return describe_layer(digest_of(content), self.size), content

    def close(self) -> None:
        """Remove the file."""
        if self._file is not None:
            self._file.close()


class Presence:
    """Whether target has a layer already. It is asked less often after several negative answers in a row.

    Asking takes a third of all requests. After ABSENT_RUN negative answers in a row only every PROBE-th layer is asked
    for, until an answer is positive: a new pack costs few requests, and one that was cut sends little for nothing.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._absent = 0  # negative answers in a row
        self._unasked = 0  # layers since the last question

    def of(self, layer: Descriptor) -> bool:
        """Return whether layer is certainly there. Called from several threads; a lost count does no harm."""
        if self._absent >= ABSENT_RUN and self._unasked < PROBE - 1:
            self._unasked += 1
            return False
        self._unasked = 0
        if self._target.exists(layer):
            self._absent = 0
            return True
        self._absent += 1
        return False


def _estimate(survey: Survey) -> int:
    """Return about how many bytes the pieces that base lacks have when they are squeezed."""
    table = survey.base.table
    ratio = sum(record.chunk_size for record in table) / max(1, sum(record.size for record in table))
    return int(ratio * sum(size for size, there in zip(survey.sizes, survey.found, strict=True) if there < 0))
