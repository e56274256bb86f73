"""The files of one ledger as a store: a tail that grows, full bundles and tiles, a checkpoint.

An append is one write and one `fdatasync` on `tail.<start>`. Full groups of 256 entries move
into bundles and hash tiles when a checkpoint is saved (`roll`), away from the path of an
append; only then does a new, short tail replace the old one. Whatever a crash leaves is a
prefix of what was written, plus at most a second, older tail. The right edge of the tree
is kept in memory, so roots never read the disk.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from konsil.node.store.durable import Folders, replace, stage, storage_error, sync_folder
from konsil.node.store.edge import Edge
from konsil.node.store.tailfile import TailFile
from konsil.protocol import merkle, tiles
from konsil.protocol.errors import EncodingRefused, RemoteError, VerificationError
from konsil.trust.layout import MAX_BUNDLE_BYTES
from konsil.trust.sources import read_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CHECKPOINT = "checkpoint"
ROLL_AT = 16 * tiles.WIDTH
"""Entries in the tail at which an append moves full bundles by itself (no checkpoint came)."""


class FileStore:
    """A durable `konsil.trust.entry_store.Store` in one folder; one process, any thread."""

    def __init__(
        self,
        folder: Path,
        tail: TailFile,
        pending: list[bytes],
        edge: Edge,
        checkpoint: bytes | None,
    ) -> None:
        """`pending` are the entries in `tail`; `edge` is the tree's right edge over all entries."""
        self.folder = folder
        self._tail = tail
        self._pending = pending
        self._edge = edge
        self._folders = Folders(folder)
        self._checkpoint = checkpoint
        self._bundle: tuple[int, list[bytes]] = (-1, [])
        self._lock = threading.RLock()
        self._rolling = threading.Lock()

    @classmethod
    def create(cls, folder: Path) -> FileStore:
        """An empty store in an existing, empty folder. Raises `StorageError`."""
        return cls(folder, TailFile.create(folder, 0, b""), [], Edge(), None)

    @property
    def size(self) -> int:
        """The number of durable entries."""
        return self._tail.start + len(self._pending)

    @property
    def tail_start(self) -> int:
        """The first entry in the tail."""
        return self._tail.start

    @property
    def checkpoint(self) -> bytes | None:
        """The last saved checkpoint note."""
        return self._checkpoint

    def append(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Adds (entry, leaf hash) pairs with one `fdatasync`. Raises `StorageError`.

        After an error none is added; when the disk cannot even be brought back to that
        state, every later call raises too, and the next start recovers.
        """
        with self._lock:
            self._tail.append(tiles.frames(items))
            self._pending += [data for data, _ in items]
            self._edge.extend(leaf for _, leaf in items)
            if len(self._pending) >= ROLL_AT:
                self._roll(wait=False)

    def entry(self, index: int) -> bytes:
        """The bytes of entry `index`. Raises `VerificationError` for a malformed bundle."""
        with self._lock:
            if index >= self._tail.start:
                return self._pending[index - self._tail.start]
        number, place = divmod(index, tiles.WIDTH)
        held = self._bundle
        if held[0] != number:
            # One bundle is kept, because entries are mostly read in order.
            held = self._bundle = (number, self._read_bundle(number))
        return held[1][place]

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree. Raises `VerificationError` for a malformed tile."""
        row, height = divmod(level, tiles.HEIGHT)
        begin, count = index << height, 1 << height
        with self._lock:
            hashes = self._edge.slice(row, begin, count)
        if hashes is None:
            path = self.folder / tiles.tile_path(row, begin // tiles.WIDTH)
            hashes = read_tile(path)[begin % tiles.WIDTH :][:count]
        return merkle.root_of(hashes)

    def save_checkpoint(self, data: bytes) -> None:
        """Replaces the checkpoint and moves full bundles out of the tail. Raises `StorageError`."""
        replace(self.folder / CHECKPOINT, data)
        self._checkpoint = data
        self._roll(wait=True)

    def prune(self, index: int) -> None:
        """Takes the body of entry `index` away, durably; its leaf hash stays.

        Doing it twice is no harm. Raises `StorageError`.
        """
        with self._rolling, self._lock:
            if index >= self._tail.start:
                self._pending[index - self._tail.start] = b""
                leaves = self._edge.slice(0, self._tail.start, len(self._pending)) or []
                frames = tiles.frames(list(zip(self._pending, leaves, strict=True)))
                fresh = TailFile.create(self.folder, self._tail.start, frames)
                self._tail.close()
                self._tail = fresh
                return
            number, place = divmod(index, tiles.WIDTH)
            bodies = self._read_bundle(number)
            bodies[place] = b""
            replace(self.folder / tiles.bundle_path(number), tiles.bundle(bodies))
            self._bundle = (-1, [])

    def close(self) -> None:
        """Closes the tail."""
        with self._lock:
            self._tail.close()

    def _read_bundle(self, number: int) -> list[bytes]:
        path = self.folder / tiles.bundle_path(number)
        try:
            return [entry for _, entry in tiles.read_bundle(read(path, MAX_BUNDLE_BYTES))]
        except EncodingRefused as error:
            raise VerificationError(f"{path}: {error.message}") from error

    def _roll(self, *, wait: bool) -> None:
        if not self._rolling.acquire(blocking=wait):
            return
        try:
            with self._lock:
                full = self.size // tiles.WIDTH * tiles.WIDTH
                moving = self._pending[: full - self._tail.start]
                hashes = self._edge.full()
            if not moving:
                return
            files = {
                tiles.bundle_path((full - len(moving) + at) // tiles.WIDTH): tiles.bundle(
                    moving[at : at + tiles.WIDTH]
                )
                for at in range(0, len(moving), tiles.WIDTH)
            }
            files |= {tiles.tile_path(*place): b"".join(row) for place, row in hashes.items()}
            self._write_once(files)
            self._switch(full, list(hashes))
        finally:
            self._rolling.release()

    def _write_once(self, files: dict[str, bytes]) -> None:
        """Writes immutable files, all durable on return; an equal one may be there already."""
        path = self.folder
        folders: set[Path] = set()
        try:
            for name, data in files.items():
                path = self.folder / name
                self._folders.make(path.parent)
                folders.add(path.parent)
                if not path.exists():
                    os.replace(stage(path, data), path)
                elif read(path, MAX_BUNDLE_BYTES) != data:
                    raise VerificationError(f"{path}: differs from the entries in the tail")
            for path in folders:
                sync_folder(path)
        except OSError as error:
            raise storage_error(path, error) from error

    def _switch(self, start: int, on_disk: list[tuple[int, int]]) -> None:
        """Replaces the tail by one that begins at entry `start`; the tiles are on disk."""
        with self._lock:
            kept = self._pending[start - self._tail.start :]
            # Not hashed again: a pruned body has only the leaf hash that the edge holds.
            leaves = self._edge.slice(0, start, len(kept)) or []
            frames = tiles.frames(zip(kept, leaves, strict=True))
            fresh = TailFile.create(self.folder, start, frames)
            self._tail.discard()
            self._tail, self._pending = fresh, kept
            self._edge.trim(on_disk)


def read(path: Path, limit: int) -> bytes:
    """The bytes of a file of the truth, of which there may be `limit`.

    Raises `VerificationError` when it is missing, larger, or no regular file, and `StorageError`
    when it is unreadable.
    """
    try:
        return read_file(path, limit)
    except FileNotFoundError as error:
        raise VerificationError(f"{path}: is missing") from error
    except RemoteError as error:
        raise VerificationError(error.message) from error


def read_tile(path: Path) -> list[bytes]:
    """The hashes of a full tile. Raises `VerificationError` or `StorageError`."""
    try:
        return tiles.read_tile(read(path, tiles.TILE_BYTES))
    except EncodingRefused as error:
        raise VerificationError(f"{path}: {error.message}") from error
