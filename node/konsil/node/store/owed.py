"""What a log owes us, and what exposes it: two small files that survive a stop.

    <node id>.owed    u64 unix seconds ‖ u16 length ‖ checkpoint note, for each open question
    <node id>.fork    the fork proof

A checkpoint whose history nobody has shown yet may be the second side of a fork, so it is kept
until somebody answers. Both files are evidence, not state: whoever reads them verifies them
again, a fork proof with the keys of its time, and what does not parse is passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.node.store.durable import replace
from konsil.node.store.reading import whole
from konsil.protocol.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

OWED, FORK = ".owed", ".fork"
DUE_BYTES, PREFIX_BYTES = 8, 2

Debt = tuple[int, bytes]
"""When the answer is due (unix seconds), and the checkpoint note that it is about."""


class Owed:
    """The open questions about the log of `node`, and the proof that it forked."""

    def __init__(self, folder: Path, node: str) -> None:
        """Raises `StorageError`."""
        self._folder = folder
        self._owed, self._fork = folder / f"{node}{OWED}", folder / f"{node}{FORK}"
        self.debts: tuple[Debt, ...] = tuple(_parse(_read(self._owed)))
        self.fork = _read(self._fork) or None

    def keep(self, debts: Sequence[Debt]) -> None:
        """Exactly these are open from now on, durably. Raises `StorageError`."""
        if self.debts == tuple(debts):
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        replace(self._owed, b"".join(_pack(*one) for one in debts))
        self.debts = tuple(debts)

    def expose(self, proof: bytes) -> None:
        """Keep a fork proof, durably. Raises `StorageError`."""
        if self.fork is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            replace(self._fork, proof)
            self.fork = proof


def _pack(due: int, note: bytes) -> bytes:
    return due.to_bytes(DUE_BYTES, "big") + len(note).to_bytes(PREFIX_BYTES, "big") + note


def _parse(data: bytes) -> list[Debt]:
    found: list[Debt] = []
    while len(data) > DUE_BYTES + PREFIX_BYTES:
        start = DUE_BYTES + PREFIX_BYTES
        end = start + int.from_bytes(data[DUE_BYTES:start], "big")
        if end > len(data):
            break
        found.append((int.from_bytes(data[:DUE_BYTES], "big"), data[start:end]))
        data = data[end:]
    return found


def _read(path: Path) -> bytes:
    try:
        return whole(path, DEFAULT_LIMITS.witness_bytes)
    except FileNotFoundError:
        return b""
