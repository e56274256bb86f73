"""Canaries: bytes by which a patient's row or id betrays itself, however it was encoded.

Every value of the planted rows has digits of its own, so each is a pattern. A lone float32 has
four bytes and turns up by chance in megabytes of keys and hashes; it counts only together with
others. Everything else counts at once.
"""

from __future__ import annotations

import base64
import json
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np

DIGITS = 9
"""Characters of a decimal text, sign and point among them, that make it a pattern."""
LONE = 4
"""Different lone float32 values that are no coincidence any more."""


class Canaries:
    """The patterns of some patients: their ids, and their rows as a task sees them."""

    def __init__(self, ids: Iterable[str], rows: Sequence[Sequence[float]]) -> None:
        self._sure: dict[bytes, str] = {}
        self._weak: dict[bytes, str] = {}
        for name in ids:
            for form, pattern in _id_forms(name):
                self._sure[pattern] = f"{name} as {form}"
        for number, row in enumerate(rows):
            for form, pattern in _row_forms(row):
                self._sure[pattern] = f"row {number} as {form}"
            for value in row:
                for order in "<>":
                    self._weak[struct.pack(f"{order}f", value)] = f"{value!r} as float32"
        for column in zip(*rows, strict=True):
            for pair in pairwise(column):
                for form, pattern in _floats(pair, "two rows of a column"):
                    self._sure[pattern] = form

        self._by_head: dict[bytes, list[bytes]] = defaultdict(list)
        for pattern in [*self._sure, *self._weak]:
            self._by_head[pattern[:4]].append(pattern)
        self._heads = np.frombuffer(b"".join(self._by_head), "<u4")

    def found(self, data: bytes) -> set[str]:
        """What `data` betrays."""
        here: set[bytes] = set()
        for shift in range(min(4, len(data))):
            words = np.frombuffer(data, "<u4", (len(data) - shift) // 4, shift)
            for word in np.flatnonzero(np.isin(words, self._heads)).tolist():
                at = 4 * word + shift
                known = self._by_head[data[at : at + 4]]
                here.update(pattern for pattern in known if data.startswith(pattern, at))
        lone = {self._weak[pattern] for pattern in here & self._weak.keys()}
        sure = {self._sure[pattern] for pattern in here & self._sure.keys()}
        return sure | (lone if len(lone) >= LONE else set())


def _id_forms(name: str) -> Iterator[tuple[str, bytes]]:
    raw = name.encode()
    yield "text", raw
    yield "capitals", name.upper().encode()
    yield "small letters", name.lower().encode()
    yield "text backwards", raw[::-1]
    yield "JSON", json.dumps(name)[1:-1].encode()
    yield "UTF-16", name.encode("utf-16-le")
    yield "UTF-32", name.encode("utf-32-le")
    yield from _armoured(raw, "text")
    codes = [float(code) for code in raw]
    for kind in "fd":
        yield f"codes in {kind}", struct.pack(f"<{len(codes)}{kind}", *codes)


def _row_forms(row: Sequence[float]) -> Iterator[tuple[str, bytes]]:
    for value in row:
        yield "decimal text", repr(value)[:DIGITS].encode()
        # msgpack puts a marker before the big-endian bytes, so its doubles are found here too.
        for order in "<>":
            yield "float64", struct.pack(f"{order}d", value)
    for pair in pairwise(row):
        yield from _floats(pair, "two columns")
        yield "float32 in msgpack", b"".join(b"\xca" + struct.pack(">f", v) for v in pair)
    for kind in "fd":
        for order in "<>":
            yield from _armoured(struct.pack(f"{order}{len(row)}{kind}", *row), kind)


def _floats(pair: Sequence[float], what: str) -> Iterator[tuple[str, bytes]]:
    for order in "<>":
        yield f"{what} in float32", struct.pack(f"{order}2f", *pair)


def _armoured(raw: bytes, what: str) -> Iterator[tuple[str, bytes]]:
    """Hexadecimal and base64, at each of the three places where a base64 group may begin."""
    yield f"{what} in hex", raw.hex().encode()
    yield f"{what} in HEX", raw.hex().upper().encode()
    for skipped in range(3):
        inner = raw[skipped : skipped + (len(raw) - skipped) // 3 * 3]
        yield f"{what} in base64", base64.b64encode(inner)
        yield f"{what} in base64", base64.urlsafe_b64encode(inner)
