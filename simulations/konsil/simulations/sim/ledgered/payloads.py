"""Payloads: rows of a matrix as the bytes that a daemon would store, hash and send.

All models of a run have one header; the tensors behind it stand in the order of the format,
not of the network.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from konsil.knowledge import pack
from konsil.protocol import chunks, tensors
from konsil.protocol.digest import sha256
from konsil.protocol.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.protocol.digest import Digest
    from konsil.simulations.sim.layout import Layout


class Payload(NamedTuple):
    """One model: the digest of its payload, and what follows the header."""

    digest: Digest
    data: memoryview


class Payloads:
    """Turns rows into payloads. Laws: equal rows have equal digests; the bytes are `pack`'s."""

    def __init__(self, layout: Layout, row: Tensor) -> None:
        """`row` is any model of this layout."""
        whole = pack.to_bytes(layout.tensors(row.cpu()))
        length = tensors.LENGTH_BYTES + tensors.header_length(whole[: tensors.LENGTH_BYTES])
        self.head = whole[:length]
        table = tensors.read_table(self.head, len(whole))
        self.architecture = tensors.architecture(table)
        self.size = len(whole)
        """Of each payload, in bytes."""
        ends = np.cumsum([0, *(shape.numel() for shape in layout.shapes)]).tolist()
        spans = dict(zip(layout.names, map(slice, ends, ends[1:]), strict=True))
        self._spans = [spans[spec.name] for spec in table.tensors]
        self._started = hashlib.sha256(self.head)

    def of(self, rows: Tensor) -> list[Payload]:
        """The payload of each row (n, p)."""
        values = rows.cpu().numpy()
        stored = np.concatenate([values[:, span] for span in self._spans], axis=1, dtype="<f4")
        found = []
        for row in stored:
            data, state = row.view(np.uint8).data, self._started.copy()
            state.update(data)
            found.append(Payload(state.digest(), data))
        return found

    def chunk_root(self, payload: Payload) -> Digest:
        """The root over the chunks of a payload, of the size that daemons cut."""
        step = DEFAULT_LIMITS.chunk_bytes
        if self.size <= step:
            return chunks.chunk_root([payload.digest])
        whole = self.head + payload.data
        pieces = (sha256(whole[begin : begin + step]) for begin in range(0, len(whole), step))
        return chunks.chunk_root(list(pieces))
