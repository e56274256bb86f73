"""Positions: which elements of a row are meant, in the fewer bytes of two ways.

`gaps`: how many elements are skipped before each one, as LEB128 integers (seven bits a byte,
lowest first, the high bit says that more follow), one byte each while fewer than 128 are
skipped. `bits`: one bit for each element of the row, the lowest bit of a byte first. Bits win
where more than about one element in eight is meant. Law: `read(write(p, n), n) == p` for
every ascending p below n, and no other bytes are read than those that `write` makes.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from konsil.protocol.errors import ManifestRefused

Places: TypeAlias = npt.NDArray[np.int64]
Octets: TypeAlias = npt.NDArray[np.uint8]

GAPS, BITS = ":gaps", ":bits"
_GROUP_BITS = 7
_MORE = 0x80
_GROUPS = 6
"""Bytes of the longest gap that is read: 2^42 elements."""


def write(places: Places, length: int) -> tuple[str, Octets]:
    """`GAPS` or `BITS`, and the bytes, for ascending places in a row of `length` elements."""
    gaps = np.diff(places, prepend=-1) - 1
    groups = _groups(gaps)
    if groups.sum() <= -(-length // 8):
        return GAPS, _gap_bytes(gaps, groups)
    marks = np.zeros(length, dtype=np.uint8)
    marks[places] = 1
    return BITS, np.packbits(marks, bitorder="little")


def read(name: str, data: Octets, count: int, length: int) -> Places:
    """The `count` places that `write` wrote under `name`. Raises `ManifestRefused`."""
    if count > length:
        raise ManifestRefused(f"{count} places in a row of {length}")
    found = _from_gaps(data, count, length) if name == GAPS else _from_bits(data, length)
    if len(found) != count or (count and int(found[-1]) >= length):
        raise ManifestRefused("the places do not fit the values or the model")
    again, written = write(found, length)
    if again != name or not np.array_equal(written, data):
        raise ManifestRefused("places that are not written in their one way")
    return found


def _groups(gaps: Places) -> Places:
    """How many bytes each gap takes."""
    edges = np.array([1 << (_GROUP_BITS * n) for n in range(1, _GROUPS)], dtype=np.int64)
    return np.searchsorted(edges, gaps, side="right") + 1


def _gap_bytes(gaps: Places, groups: Places) -> Octets:
    ends = np.cumsum(groups)
    out = np.zeros(int(ends[-1]) if len(ends) else 0, dtype=np.uint8)
    for n in range(int(groups.max()) if len(groups) else 0):
        longer = groups > n
        low = (gaps[longer] >> (_GROUP_BITS * n)) & (_MORE - 1)
        more = np.where(groups[longer] > n + 1, _MORE, 0)
        out[(ends - groups)[longer] + n] = low | more
    return out


def _from_gaps(data: Octets, count: int, length: int) -> Places:
    last = (data & _MORE) == 0
    if int(last.sum()) != count or (len(data) and not last[-1]):
        raise ManifestRefused("the gaps do not fit the values")
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if int((ends - starts).max()) >= _GROUPS:
        raise ManifestRefused("a gap that is too long")
    within = np.arange(len(data)) - np.repeat(starts, ends - starts + 1)
    bits = (data & (_MORE - 1)).astype(np.int64) << (_GROUP_BITS * within)
    gaps = np.add.reduceat(bits, starts)
    if int(gaps.max()) >= length:
        raise ManifestRefused("a gap that is longer than the model")
    return np.cumsum(gaps + 1) - 1


def _from_bits(data: Octets, length: int) -> Places:
    if len(data) != -(-length // 8):
        raise ManifestRefused("the bits do not fit the model")
    return np.flatnonzero(np.unpackbits(data, count=length, bitorder="little")).astype(np.int64)
