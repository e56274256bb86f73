"""Mirrors: what this node keeps of the logs of others, so that they can be held to their word.

One file a member, frames as in a tail (a body that is withheld has length 0), appended only
when the leaves lead to a root that the member signed. A mirror that does not agree with its
signed roots any more is thrown away and asked for again: it is a copy, never the truth.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from konsil.node.store.durable import storage_error, sync_folder, write_all
from konsil.protocol import merkle, mirror, tiles
from konsil.protocol.errors import ManifestRefused, RemoteError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from konsil.protocol.checkpoint import Checkpoint
    from konsil.protocol.mirror import Leaf

SUFFIX = ".mirror"
READ_BYTES = 1 << 20


class Mirror:
    """What is held of one log: the first `size` leaves, and the bodies that we may see."""

    def __init__(self, path: Path, roots: Mapping[int, bytes]) -> None:
        """Opens the file at `path`, or begins one; `roots` are signed roots by log size.

        Raises `StorageError`.
        """
        self._path = path
        self._tree = merkle.Tree()
        self._offsets: list[int] = []
        self._end = 0
        try:
            data = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise storage_error(path, error) from error
        if not self._load(data, roots):
            self._tree, self._offsets, self._end = merkle.Tree(), [], 0
        if self._end < len(data):
            self._truncate()

    @property
    def size(self) -> int:
        """How many entries are held."""
        return self._tree.size

    def root(self, size: int) -> bytes:
        """The root over the first `size` entries, which are held."""
        return self._tree.root(size)

    def consistency(self, old: int, size: int) -> list[bytes]:
        """The consistency proof between two sizes that are held."""
        return self._tree.consistency(old, size)

    def leaves(self, first: int) -> Iterator[Leaf]:
        """The entries from `first` on. Raises `StorageError`."""
        if first >= self.size:
            return
        try:
            with self._path.open("rb") as file:
                file.seek(self._offsets[first])
                data = file.read(mirror.PAGE_BYTES + READ_BYTES)
        except OSError as error:
            raise storage_error(self._path, error) from error
        try:
            for _, leaf in mirror.read_page(data[: self._end - self._offsets[first]], first):
                yield leaf
        except RemoteError:
            return  # the page was cut at what was read; whoever asks goes on from there

    def extend(self, leaves: Sequence[Leaf], head: Checkpoint) -> None:
        """Adds leaves that make up `head`, durably.

        Raises `ManifestRefused` when they do not lead to its root (nothing is added), and
        `StorageError`.
        """
        grown = (
            self.size + len(leaves),
            merkle.grown_root(self._tree, self.size, (one.leaf for one in leaves)),
        )
        if grown != (head.size, head.root):
            raise ManifestRefused(f"the leaves do not lead to the signed root of {head.size}")
        frames = [tiles.frame(item.entry or b"", item.leaf) for item in leaves]
        self._write(b"".join(frames))
        for item, data in zip(leaves, frames, strict=True):
            self._tree.append(item.leaf)
            self._offsets.append(self._end)
            self._end += len(data)

    def _write(self, data: bytes) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh = not self._path.exists()
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                write_all(handle, data, self._end)
                os.fdatasync(handle)
            finally:
                os.close(handle)
            if fresh:
                sync_folder(self._path.parent)
        except OSError as error:
            raise storage_error(self._path, error) from error

    def _load(self, data: bytes, roots: Mapping[int, bytes]) -> bool:
        """Takes the frames up to the last signed size; False when they contradict it."""
        tree, offsets, end = merkle.Tree(), [0], 0
        signed = 0
        try:
            for behind, leaf in mirror.read_page(data, 0):
                tree.append(leaf.leaf)
                offsets.append(behind)
                if tree.size in roots:
                    if tree.root() != roots[tree.size]:
                        return False
                    signed, end = tree.size, behind
        except RemoteError:
            pass  # a torn last frame, or damage: what was signed for before it is still good
        self._tree = merkle.Tree(tree.node(0, index) for index in range(signed))
        self._offsets, self._end = offsets[:signed], end
        return True

    def _truncate(self) -> None:
        try:
            os.truncate(self._path, self._end)
        except OSError as error:
            raise storage_error(self._path, error) from error
