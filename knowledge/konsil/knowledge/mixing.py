"""The replayable mixing kernel: the same files and integer weights give the same bytes.

`mix` writes ``sum_j w_j x_j`` over safetensors payloads of one architecture. An auditor without
torch replays it, so it is numpy only and fixes everything that could differ between two
machines: weights are integers in 1e-9 that sum to exactly 10**9, each is divided once to a
float64, products and sums are separate float64 operations (never fused), parts are taken in
the order given (the node's own first), and the result is rounded once, to nearest even, to
the stored element type. A part of weight 0 is never read, so whatever its bytes are, not
one bit of the result depends on them.

Inputs are memory-mapped and walked in blocks that fit a second-level cache; pages already
used are given back, so that the resident memory does not grow with the model. Hashing and
writing what is finished takes a second thread, in the same order.
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
    from collections.abc import Callable, Collection, Sequence
    from io import FileIO
    from pathlib import Path
    from types import TracebackType

    from konsil.protocol.digest import Digest

UNIT_E9 = 10**9
"""The sum of all weights of one mix."""

BLOCK_ELEMENTS = 1 << 15
"""Elements mixed at a time: two float64 rows of this length fit a second-level cache."""

_PIECE_BLOCKS = 8
_PIECES = 4
"""Finished pieces, of so many blocks each, that may wait to be hashed and written."""
_DROP_BYTES = 4 << 20

Array: TypeAlias = npt.NDArray[Any]
Doubles: TypeAlias = npt.NDArray[np.float64]


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
    not_mixed: Collection[str] = (),
    limits: Limits = DEFAULT_LIMITS,
) -> Digest:
    """Write the weighted sum of `parts` to the new file `out`; the SHA-256 of its bytes.

    With `out` None nothing is written and only the digest is computed, for an audit. The
    header is copied from the first part, as are tensors of an integer or boolean type and
    those named in `not_mixed`. A failure may leave a partial `out` behind; its maker owns it.

    Raises `LocalProtocolError` when the weights do not sum to 10**9 or a name in `not_mixed`
    does not exist, `ManifestRefused` when a payload is malformed or has other tensors than
    the first, and `StorageError` when a file cannot be read, or `out` not be written or
    exists already.
    """
    if sum(part.w_e9 for part in parts) != UNIT_E9:
        raise LocalProtocolError(f"weights sum to {sum(p.w_e9 for p in parts)}, not to 10**9")
    try:
        sources = [_Source(part.path, part.w_e9, limits) for part in parts]
        _require_one_architecture(sources, not_mixed)
        with np.errstate(over="ignore", invalid="ignore"):
            if out is None:
                return _write(sources, None, frozenset(not_mixed))
            with out.open("xb", buffering=0) as file:
                return _write(sources, file, frozenset(not_mixed))
    except OSError as fault:
        place = fault.filename or out
        raise StorageError(f"mixing failed at {place}: {fault.strerror}") from fault


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


class _Output:
    """Hashes and writes pieces in the order in which they are emitted, in a thread of its own."""

    def __init__(self, file: FileIO | None) -> None:
        self._file = file
        self._state = hashlib.sha256()
        self._waiting: deque[Future[None]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mixing")

    def __enter__(self) -> _Output:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def emit(self, data: bytes | memoryview) -> None:
        """Take over `data`, which must not change any more. Raises what an earlier piece did."""
        self._waiting.append(self._thread.submit(self._put, data))
        while len(self._waiting) > _PIECES:
            self._waiting.popleft().result()

    def digest(self) -> Digest:
        """The SHA-256 of all pieces, once they are written."""
        while self._waiting:
            self._waiting.popleft().result()
        return self._state.digest()

    def _put(self, data: bytes | memoryview) -> None:
        self._state.update(data)
        written = 0 if self._file else len(data)
        while self._file and written < len(data):
            written += self._file.write(data[written:])


def _write(sources: Sequence[_Source], file: FileIO | None, not_mixed: frozenset[str]) -> Digest:
    used = [source for source in sources if source.weight != 0.0]
    with _Output(file) as output:
        output.emit(sources[0].head)
        for name, spec in sources[0].specs.items():
            element = _ELEMENTS.get(spec.dtype)
            if element is None or name in not_mixed:
                _copy(sources[0], spec, output)
            else:
                _blend(used, name, element, output)
        return output.digest()


def _copy(source: _Source, spec: tensors.TensorSpec, output: _Output) -> None:
    for begin in range(spec.begin, spec.end, _DROP_BYTES):
        end = min(begin + _DROP_BYTES, spec.end)
        # A copy, because the pages below it are given back before it is written.
        output.emit(source.view(begin, end, _BYTES).tobytes())
        source.drop(end)


def _blend(sources: Sequence[_Source], name: str, element: _Element, output: _Output) -> None:
    """Emit the weighted sum of one tensor, piece by piece."""
    whole = _PIECE_BLOCKS * BLOCK_ELEMENTS * element.stored.itemsize
    size = sources[0].specs[name].end - sources[0].specs[name].begin
    total = np.empty(BLOCK_ELEMENTS)
    term = np.empty(BLOCK_ELEMENTS)
    for offset in range(0, size, whole):
        piece = np.empty(min(whole, size - offset) // element.stored.itemsize, element.stored)
        for first in range(0, len(piece), BLOCK_ELEMENTS):
            mixed = piece[first : first + BLOCK_ELEMENTS]
            start = offset + first * element.stored.itemsize
            _sum(sources, name, start, element, total[: len(mixed)], term[: len(mixed)])
            mixed[:] = element.narrow(total[: len(mixed)])
        output.emit(piece.view(np.uint8).data)


def _sum(
    sources: Sequence[_Source],
    name: str,
    offset: int,
    element: _Element,
    total: Doubles,
    term: Doubles,
) -> None:
    """The weighted sum of one block, `offset` bytes into the tensor, into `total`."""
    for position, source in enumerate(sources):
        begin = source.specs[name].begin + offset
        end = begin + len(total) * element.stored.itemsize
        row = term if position else total
        element.widen(source.view(begin, end, element.stored), row)
        np.multiply(row, source.weight, out=row)
        if position:
            np.add(total, row, out=total)
        source.drop(end)


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
