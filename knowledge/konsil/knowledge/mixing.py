"""The replayable mixing kernel: the same files and integer weights give the same bytes.

`mix` writes ``sum_j w_j x_j`` over safetensors payloads of one architecture. An auditor without
torch replays it, so it is numpy only and fixes everything that could differ between two
machines: weights are integers in 1e-9 that sum to exactly 10**9, each is divided once to a
float64, products and sums are separate float64 operations (never fused), parts are taken in
the order given (the node's own first), and the result is rounded once, to nearest even, to
the stored element type. A part of weight 0 is never read, so whatever its bytes are, not
one bit of the result depends on them.

Inputs are memory-mapped and walked in blocks that fit a second-level cache; pages already
used are given back, so that the resident memory does not grow with the model. One thread
computes, a little ahead of the other, which hashes and writes. `mix_rows` makes many small
mixes of models in memory; one function adds up for both.
"""

from __future__ import annotations

import hashlib
import mmap
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from konsil.protocol import tensors
from konsil.protocol.errors import LocalProtocolError, ManifestRefused, StorageError
from konsil.protocol.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from io import FileIO
    from pathlib import Path

    from konsil.protocol.digest import Digest

UNIT_E9 = 10**9
"""The sum of all weights of one mix."""

BLOCK_ELEMENTS = 1 << 15
"""Elements mixed at a time: two float64 rows of this length fit a second-level cache."""

_PIECE_BYTES = 1 << 20
"""Computed at a time: so much of one tensor, or as many small tensors."""
_AHEAD = 3
"""Times `_PIECE_BYTES` that may be computed and not yet written."""
_DROP_BYTES = 4 << 20

Array: TypeAlias = npt.NDArray[Any]
Doubles: TypeAlias = npt.NDArray[np.float64]
Singles: TypeAlias = npt.NDArray[np.float32]
Integers: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """One payload and its weight in 1e-9."""

    path: Path
    w_e9: int


def quantise(weights: Sequence[float]) -> tuple[int, ...]:
    """Weights as integers in 1e-9 whose sum is exactly 10**9; the first is the node's own.

    Every weight but the first is rounded to the nearest integer (half to even) and the
    first takes the remainder. Raises `LocalProtocolError` when a weight is not finite or
    their sum is further than 1e-6 from 1.

    >>> quantise([0.5, 1 / 3, 1 / 6])
    (500000000, 333333333, 166666667)
    """
    if not weights or not all(np.isfinite(weight) for weight in weights):
        raise LocalProtocolError("weights to quantise are missing or not finite")
    if abs(sum(weights) - 1.0) > 1e-6:
        raise LocalProtocolError(f"weights sum to {sum(weights)!r}, not to 1")
    others = [round(weight * UNIT_E9) for weight in weights[1:]]
    return (UNIT_E9 - sum(others), *others)


def mix(
    parts: Sequence[Part],
    out: Path | None,
    *,
    vectors: Sequence[Part] = (),
    not_mixed: Collection[str] = (),
    limits: Limits = DEFAULT_LIMITS,
) -> Digest:
    """Write the weighted sum of `parts` to the new file `out`; the SHA-256 of its bytes.

    `vectors` are differences of models, added after the parts by weights of their own. They
    have just the tensors that are summed.

    With `out` None nothing is written and only the digest is computed, for an audit. The
    header is copied from the first part, as are tensors of an integer or boolean type and
    those named in `not_mixed`. A failure may leave a partial `out` behind; its maker owns it.

    Raises `LocalProtocolError` when the weights do not sum to 10**9 or a name in `not_mixed`
    does not exist, `ManifestRefused` when a payload is malformed or has other tensors than
    it must have, and `StorageError` when a file cannot be read, or `out` not be written or
    exists already.
    """
    if sum(part.w_e9 for part in parts) != UNIT_E9:
        raise LocalProtocolError(f"weights sum to {sum(p.w_e9 for p in parts)}, not to 10**9")
    try:
        sources = [_Source(part.path, part.w_e9, limits) for part in parts]
        _require_one_architecture(sources, not_mixed)
        added = [_Source(part.path, part.w_e9, limits) for part in vectors]
        _require_what_is_summed(added, sources[0], not_mixed)
        sources += added
        if out is None:
            return _write(sources, None, frozenset(not_mixed))
        with out.open("xb", buffering=0) as file:
            return _write(sources, file, frozenset(not_mixed))
    except OSError as fault:
        place = fault.filename or out
        raise StorageError(f"mixing failed at {place}: {fault.strerror}") from fault


def mix_rows(rows: Singles, parts: Integers, weights_e9: Integers) -> Singles:
    """(n, p): n mixes at once of the rows (m, p) that `parts` (n, k) names, by weights (n, k).

    Row i of the result holds the elements that `mix` writes for float32 payloads with the
    elements of these rows, in this order and with these weights, to the bit. A part of weight 0
    is not read. Raises `LocalProtocolError` when the weights of a mix do not sum to 10**9.
    """
    if (weights_e9.sum(1) != UNIT_E9).any() or (weights_e9 < 0).any():
        raise LocalProtocolError("the weights of a mix do not sum to 10**9")
    used = weights_e9 > 0
    # Those in use first, in their order.
    order = np.argsort(~used, axis=1, kind="stable")
    counts = used.sum(1)
    mixed = np.empty((len(parts), rows.shape[1]), dtype=np.float32)
    for count in np.unique(counts):
        alike = np.flatnonzero(counts == count)
        first = order[alike, :count]
        chosen = np.take_along_axis(parts[alike], first, 1)
        weights = np.take_along_axis(weights_e9[alike], first, 1) / UNIT_E9
        _mix_alike(rows, chosen, weights, mixed, alike)
    return mixed


def _mix_alike(
    rows: Singles, parts: Integers, weights: Doubles, mixed: Singles, places: Integers
) -> None:
    """Mixes of equally many parts, into the rows of `mixed` at `places`, a few at a time."""
    width = rows.shape[1]
    together = max(1, BLOCK_ELEMENTS // width)
    element = _ELEMENTS["F32"]
    total, term = np.empty((2, min(together, len(parts)), min(width, BLOCK_ELEMENTS)))
    with np.errstate(over="ignore", invalid="ignore"):
        for begin in range(0, len(parts), together):
            few = slice(begin, begin + together)
            shares = [column[:, None] for column in weights[few].T]
            for left in range(0, width, BLOCK_ELEMENTS):
                block = slice(left, left + BLOCK_ELEMENTS)
                blocks = [rows[column, block] for column in parts[few].T]
                room = (slice(len(blocks[0])), slice(blocks[0].shape[1]))
                _weighted_sum(blocks, shares, element, total[room], term[room])
                mixed[places[few], block] = element.narrow(total[room])


class _Source:
    """One memory-mapped payload: its table, its weight, and views on its tensors."""

    def __init__(self, path: Path, w_e9: int, limits: Limits) -> None:
        self.path = path
        self.weight = w_e9 / UNIT_E9
        with path.open("rb") as file:
            length = tensors.header_length(file.read(tensors.LENGTH_BYTES), limits=limits)
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.head = self._map[: tensors.LENGTH_BYTES + length]
        table = tensors.read_table(self.head, len(self._map), limits=limits)
        self.specs = {spec.name: spec for spec in table.tensors}
        self.architecture = tensors.architecture(table)
        self._dropped = 0

    def view(self, begin: int, end: int, stored: np.dtype[Any]) -> Array:
        """The elements between two data offsets, flat, without a copy."""
        count = (end - begin) // stored.itemsize
        return np.frombuffer(self._map, stored, count, len(self.head) + begin)

    def drop(self, end: int) -> None:
        """Give back the pages before data offset `end`, once enough of them are used."""
        upto = (len(self.head) + end) // mmap.PAGESIZE * mmap.PAGESIZE
        if upto - self._dropped >= _DROP_BYTES:
            self._map.madvise(mmap.MADV_DONTNEED, self._dropped, upto - self._dropped)
            self._dropped = upto


def _require_one_architecture(sources: Sequence[_Source], not_mixed: Collection[str]) -> None:
    first = sources[0]
    unknown = set(not_mixed) - set(first.specs)
    if unknown:
        raise LocalProtocolError(f"not_mixed names {min(unknown)!r}, which no part has")
    for source in sources[1:]:
        if source.architecture != first.architecture:
            raise ManifestRefused(f"{source.path} has other tensors than {first.path}")


def _require_what_is_summed(
    vectors: Sequence[_Source], model: _Source, not_mixed: Collection[str]
) -> None:
    summed = {
        name: (spec.dtype, spec.shape)
        for name, spec in model.specs.items()
        if spec.dtype in _ELEMENTS and name not in not_mixed
    }
    for vector in vectors:
        has = {name: (spec.dtype, spec.shape) for name, spec in vector.specs.items()}
        if has != summed:
            raise ManifestRefused(f"{vector.path} is no difference of two models like {model.path}")


@dataclass(frozen=True)
class _Piece:
    """One stretch of one tensor, from byte `begin` to `end`: a sum, or a copy of the first."""

    sources: Sequence[_Source]
    name: str
    element: _Element | None
    begin: int
    end: int

    def views(self) -> list[Array]:
        """This stretch of each source."""
        stored = _BYTES if self.element is None else self.element.stored
        starts = [source.specs[self.name].begin for source in self.sources]
        return [
            source.view(start + self.begin, start + self.end, stored)
            for source, start in zip(self.sources, starts, strict=True)
        ]

    def drop(self) -> None:
        """Give back the pages that lie behind."""
        for source in self.sources:
            source.drop(source.specs[self.name].begin + self.end)


class _Rows:
    """The two rows of float64 in which everything is computed, by one thread."""

    def __init__(self) -> None:
        self._total = np.empty(BLOCK_ELEMENTS)
        self._term = np.empty(BLOCK_ELEMENTS)

    def results(self, batch: Sequence[_Piece]) -> list[memoryview]:
        """The bytes of these pieces of the result, in memory of their own."""
        with np.errstate(over="ignore", invalid="ignore"):
            return [self._result(piece).view(np.uint8).data for piece in batch]

    def _result(self, piece: _Piece) -> Array:
        views = piece.views()
        if piece.element is None:
            return views[0].copy()
        mixed = np.empty_like(views[0])
        weights = [source.weight for source in piece.sources]
        for begin in range(0, len(mixed), BLOCK_ELEMENTS):
            block = slice(begin, begin + BLOCK_ELEMENTS)
            total, term = self._total[: len(mixed[block])], self._term[: len(mixed[block])]
            _weighted_sum([view[block] for view in views], weights, piece.element, total, term)
            mixed[block] = piece.element.narrow(total)
        return mixed


def _weighted_sum(
    blocks: Sequence[Array],
    weights: Sequence[float | Doubles],
    element: _Element,
    total: Doubles,
    term: Doubles,
) -> None:
    """The sum of `blocks` by their weights, into `total`; `term` is room of the same shape.

    Of a block of many models (b, p) each has a weight of its own (b, 1).
    """
    element.widen(blocks[0], total)
    np.multiply(total, weights[0], out=total)
    for block, weight in zip(blocks[1:], weights[1:], strict=True):
        element.widen(block, term)
        np.multiply(term, weight, out=term)
        np.add(total, term, out=total)


def _pieces(sources: Sequence[_Source], not_mixed: frozenset[str]) -> Iterator[_Piece]:
    used = [source for source in sources if source.weight != 0.0]
    for name, spec in sources[0].specs.items():
        element = None if name in not_mixed else _ELEMENTS.get(spec.dtype)
        size = spec.end - spec.begin
        for begin in range(0, size, _PIECE_BYTES):
            end = min(begin + _PIECE_BYTES, size)
            yield _Piece(sources[:1] if element is None else used, name, element, begin, end)


def _batches(pieces: Iterator[_Piece]) -> Iterator[list[_Piece]]:
    batch: list[_Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += piece.end - piece.begin
        if size >= _PIECE_BYTES:
            yield batch
            batch, size = [], 0
    yield batch


def _write(sources: Sequence[_Source], file: FileIO | None, not_mixed: frozenset[str]) -> Digest:
    state = hashlib.sha256()

    def emit(data: bytes | memoryview) -> None:
        state.update(data)
        written = 0 if file else len(data)
        while file and written < len(data):
            written += file.write(data[written:])

    def finish(batch: list[_Piece], results: Future[list[memoryview]]) -> None:
        for piece, data in zip(batch, results.result(), strict=True):
            emit(data)
            piece.drop()

    emit(sources[0].head)
    rows, ahead = _Rows(), deque[tuple[list[_Piece], Future[list[memoryview]]]]()
    with ThreadPoolExecutor(1, thread_name_prefix="mixing") as thread:
        for batch in _batches(_pieces(sources, not_mixed)):
            ahead.append((batch, thread.submit(rows.results, batch)))
            if len(ahead) > _AHEAD:
                finish(*ahead.popleft())
        while ahead:
            finish(*ahead.popleft())
    return state.digest()


def _widen_plain(stored: Array, out: Doubles) -> None:
    np.copyto(out, stored)


def _widen_bfloat16(stored: Array, out: Doubles) -> None:
    """A bfloat16 is the upper half of a float32."""
    np.copyto(out, (stored.astype(np.uint32) << 16).view(np.float32))


def _narrow_bfloat16(total: Doubles) -> Array:
    """Round float64 to bfloat16 once, to nearest even.

    Going through a float32 would round twice, so that step rounds to odd: toward zero,
    with the lowest bit set when anything was lost (Boldo and Melquiond, 2008).
    """
    single = total.astype(np.float32)
    widened = single.astype(np.float64)
    bits = single.view(np.uint32)
    bits = bits - (np.abs(widened) > np.abs(total))
    bits = bits.astype(np.uint32) | (widened != total)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(total), 0x7FC0, rounded).astype("<u2")


def _narrow_to(stored: str) -> Callable[[Doubles], Array]:
    return lambda total: total.astype(stored)


@dataclass(frozen=True)
class _Element:
    """How one element type is stored, read as float64 and rounded back."""

    stored: np.dtype[Any]
    widen: Callable[[Array, Doubles], None]
    narrow: Callable[[Doubles], Array]


_BYTES = np.dtype(np.uint8)
_ELEMENTS = {
    "F64": _Element(np.dtype("<f8"), _widen_plain, _narrow_to("<f8")),
    "F32": _Element(np.dtype("<f4"), _widen_plain, _narrow_to("<f4")),
    "F16": _Element(np.dtype("<f2"), _widen_plain, _narrow_to("<f2")),
    "BF16": _Element(np.dtype("<u2"), _widen_bfloat16, _narrow_bfloat16),
}
