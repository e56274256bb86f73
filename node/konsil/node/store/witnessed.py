"""The checkpoints of others that we accepted: an append-only file, durable before we answer.

    u16 length ‖ checkpoint note ‖ SHA-256(0x02 ‖ the hash before ‖ note)      32 zero bytes first

The chain shows any change but a cut at the end, which looks like a crash. When the file has
grown, it is written anew with the newest checkpoints of each log, its largest, and that up to
which it is mirrored, so that it never outgrows what an auditor reads.
What becomes void when a key is revoked, or turns out to be of another history than the one that is
held, is forgotten: all that stands here of one log is of one history.
"""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

from konsil.node.store.durable import replace, write_at
from konsil.node.store.reading import whole
from konsil.protocol import checkpoint, note
from konsil.protocol.errors import RemoteError, VerificationError
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.trust.peers import read_record

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping
    from pathlib import Path

    from konsil.protocol.checkpoint import Checkpoint

NAME = "witness.log"
HASH_BYTES = 32
PREFIX_BYTES = 2
COMPACT_BYTES = 4 << 20
KEPT = 64
"""Checkpoints of each log that a compaction keeps."""


class Witnessed:
    """The file at `path`; any thread may add."""

    def __init__(self, path: Path) -> None:
        """Raises `VerificationError` when the chain is broken, and `StorageError`."""
        self._path = path
        self._lock = threading.Lock()
        self._hash = bytes(HASH_BYTES)
        self._end = 0
        self._heads: dict[str, dict[Checkpoint, bytes]] = {}
        self._mirrored: dict[str, int] = {}
        self._compact = 0
        """How long the file was when it was written anew."""
        self._sure = True
        """Whether the file is what we know; a failure may have left the old one or the new."""
        try:
            data = whole(path, DEFAULT_LIMITS.witness_bytes)
        except FileNotFoundError:
            data = b""
        self._load(data)

    def heads(self, node: str) -> list[tuple[Checkpoint, bytes]]:
        """The accepted checkpoints of one member's log, oldest first."""
        with self._lock:
            return list(self._heads.get(node, {}).items())

    def add(self, data: bytes, *, mirrored: bool = False) -> None:
        """Remember a verified checkpoint note, durably; one that is known is no news.

        With `mirrored` its log is mirrored up to there. Raises `StorageError`; then it is not
        remembered.
        """
        with self._lock:
            head = checkpoint.from_text(note.parse(data)[0])
            node = checkpoint.node_of(head.origin)
            if head not in self._heads.get(node, {}):
                if not self._sure:
                    self._rewrite(lambda *_: True)
                self._compacted()
                frame = _frame(self._hash, data)
                write_at(self._path, frame, self._end)
                self._take(head, data, frame)
            if mirrored:
                self._mirrored[node] = head.size

    def _take(self, head: Checkpoint, data: bytes, frame: bytes) -> None:
        self._heads.setdefault(checkpoint.node_of(head.origin), {})[head] = data
        self._hash = frame[-HASH_BYTES:]
        self._end += len(frame)

    def _load(self, data: bytes) -> None:
        record = read_record(data)
        wrong, place = "does not follow what stands before it", record.broken
        try:
            for item in record.accepted:
                head = checkpoint.from_text(note.parse(item.note)[0])
                self._take(head, item.note, _frame(self._hash, item.note))
        except RemoteError as error:
            wrong, place = error.message, self._end
        if place is not None:
            raise VerificationError(
                f"{self._path}: offset {place}: {wrong}",
                hint="put the file back from a backup, or move it away to start afresh",
            )

    def compact(self, mirrored: Mapping[str, int]) -> None:
        """Forget old checkpoints if the file has grown; logs are mirrored up to `mirrored`.

        Raises `StorageError`.
        """
        with self._lock:
            self._mirrored = dict(mirrored)
            self._compacted()

    def forget(self, node: str, heads: Container[Checkpoint]) -> None:
        """Accept these checkpoints of a log no more, durably. Raises `StorageError`."""
        with self._lock:
            if any(head in heads for head in self._heads.get(node, {})):
                self._rewrite(lambda found, head: found != node or head not in heads)

    def _compacted(self) -> None:
        """Forget old checkpoints if the file has grown, and to twice what had to stay."""
        if self._end <= max(COMPACT_BYTES, 2 * self._compact):
            return
        newest = {head for heads in self._heads.values() for head in list(heads)[-KEPT:]}
        newest |= {max(heads, key=_size) for heads in self._heads.values() if heads}
        self._rewrite(
            lambda node, head: head in newest or head.size == self._mirrored.get(node),
        )
        self._compact = self._end

    def _rewrite(self, good: Callable[[str, Checkpoint], bool]) -> None:
        heads = {
            node: {head: data for head, data in known.items() if good(node, head)}
            for node, known in self._heads.items()
        }
        link, frames = bytes(HASH_BYTES), []
        for kept in heads.values():
            for data in kept.values():
                frames.append(_frame(link, data))
                link = frames[-1][-HASH_BYTES:]
        self._sure = False
        replace(self._path, b"".join(frames))
        self._heads, self._hash, self._end = heads, link, sum(map(len, frames))
        self._sure = True


def _frame(link: bytes, data: bytes) -> bytes:
    """The frame of a note behind the hash `link`."""
    found = hashlib.sha256(b"\x02" + link + data).digest()
    return len(data).to_bytes(PREFIX_BYTES, "big") + data + found


def _size(head: Checkpoint) -> int:
    return head.size
