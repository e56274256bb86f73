"""The checkpoints of others that we accepted: an append-only file, durable before we answer.

    u16 length ‖ checkpoint note ‖ SHA-256(0x02 ‖ the hash before ‖ note)      32 zero bytes first

The chain shows any change but a cut at the end, which looks like a crash. When the file has
grown, a start keeps the newest checkpoints of each log only.
"""

from __future__ import annotations

import hashlib
import os
import threading
from typing import TYPE_CHECKING

from konsil.node.store.durable import replace, storage_error, sync_folder, write_all
from konsil.protocol import checkpoint, note
from konsil.protocol.errors import RemoteError, VerificationError
from konsil.protocol.tiles import ZERO_FILL_BYTES

if TYPE_CHECKING:
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
        try:
            data = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise storage_error(path, error) from error
        self._load(data)
        if self._end > COMPACT_BYTES:
            self._compact()

    def heads(self, node: str) -> list[tuple[Checkpoint, bytes]]:
        """The accepted checkpoints of one member's log, oldest first."""
        with self._lock:
            return list(self._heads.get(node, {}).items())

    def add(self, data: bytes) -> None:
        """Remember a verified checkpoint note, durably; one that is known is no news.

        Raises `StorageError`; then it is not remembered.
        """
        with self._lock:
            head = checkpoint.from_text(note.parse(data)[0])
            if head in self._heads.get(_node(head), {}):
                return
            frame = self._frame(data)
            self._write(frame)
            self._take(head, data, frame)

    def _frame(self, data: bytes) -> bytes:
        link = hashlib.sha256(b"\x02" + self._hash + data).digest()
        return len(data).to_bytes(PREFIX_BYTES, "big") + data + link

    def _take(self, head: Checkpoint, data: bytes, frame: bytes) -> None:
        self._heads.setdefault(_node(head), {})[head] = data
        self._hash = frame[-HASH_BYTES:]
        self._end += len(frame)

    def _load(self, data: bytes) -> None:
        while self._end < len(data):
            start = self._end + PREFIX_BYTES
            end = start + int.from_bytes(data[self._end : start], "big") + HASH_BYTES
            if end > len(data) or not any(data[self._end :]):
                return  # a write that a crash cut short: nobody was answered
            body = data[start : end - HASH_BYTES]
            frame = self._frame(body)
            try:
                if frame != data[self._end : end]:
                    if end == len(data) and data.endswith(bytes(ZERO_FILL_BYTES)):
                        return  # the size reached the disk, the content did not
                    raise VerificationError(
                        f"{self._path}: offset {self._end}: does not follow what stands before it",
                        hint="put the file back from a backup, or move it away to start afresh",
                    )
                self._take(checkpoint.from_text(note.parse(body)[0]), body, frame)
            except RemoteError as error:
                raise VerificationError(
                    f"{self._path}: offset {self._end}: {error.message}",
                    hint="put the file back from a backup, or move it away to start afresh",
                ) from error

    def _write(self, frame: bytes) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh = not self._path.exists()
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.ftruncate(handle, self._end)
                write_all(handle, frame, self._end)
                os.fdatasync(handle)
            finally:
                os.close(handle)
            if fresh:
                sync_folder(self._path.parent)
        except OSError as error:
            raise storage_error(self._path, error) from error

    def _compact(self) -> None:
        kept = {node: dict(list(heads.items())[-KEPT:]) for node, heads in self._heads.items()}
        self._heads, self._hash, self._end = {}, bytes(HASH_BYTES), 0
        frames = []
        for heads in kept.values():
            for head, data in heads.items():
                frames.append(self._frame(data))
                self._take(head, data, frames[-1])
        replace(self._path, b"".join(frames))


def _node(head: Checkpoint) -> str:
    return head.origin.rpartition("/")[2]
