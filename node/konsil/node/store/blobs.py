"""The content-addressed store: bytes under the name of their SHA-256, written once.

A blob lies at `<root>/sha256/<first two hex digits>/<64 hex digits>`. It appears with its
whole content or not at all, and durable, because its digest goes into the ledger next.
Synchronous: the daemon calls it from a thread.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, BinaryIO

from konsil.node.store.durable import Folders, replace, storage_error, sync_folder
from konsil.node.store.reading import opened
from konsil.protocol.digest import Digest, sha256
from konsil.protocol.errors import IncompleteError, VerificationError

if TYPE_CHECKING:
    from pathlib import Path

READ_BYTES = 1 << 20


class BlobStore:
    """Blobs below one folder, which is made when first needed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders = Folders(root.parent)

    def path(self, digest: Digest) -> Path:
        """Where the blob lies, or would lie."""
        name = digest.hex()
        return self.root / "sha256" / name[:2] / name

    def has(self, digest: Digest) -> bool:
        """Whether the blob is here."""
        return self.path(digest).is_file()

    def put(self, data: bytes) -> Digest:
        """Stores bytes durably and returns their digest; storing twice is one blob.

        Raises `StorageError`, or `VerificationError` when other bytes lie under that name.
        """
        digest = sha256(data)
        path = self.path(digest)
        self._make_folder(path)
        if not self.has(digest):
            replace(path, data)
        elif self.get(digest, verify=False) != data:
            raise _corrupt(path)
        else:
            self._sync_name(path)
        return digest

    def put_file(self, source: Path, digest: Digest) -> Path:
        """Moves a finished file into the store and returns its new path; the file is read once.

        The file must lie on the same file system. Raises `VerificationError` when its bytes
        are not those of `digest` (the file stays), and `StorageError`.
        """
        path = self.path(digest)
        try:
            if _hash_file(source, sync=True) != digest:
                raise _corrupt(source)
            self._make_folder(path)
            os.replace(source, path)
            sync_folder(path.parent)
        except OSError as error:
            raise storage_error(source, error) from error
        return path

    def open(self, digest: Digest) -> BinaryIO:
        """The blob, open for reading. Raises `IncompleteError` when it is not here."""
        path = self.path(digest)
        try:
            return opened(path)[0]
        except FileNotFoundError as error:
            raise IncompleteError(
                f"{path}: this blob is not here", hint="restore the file from a backup"
            ) from error

    def get(self, digest: Digest, *, verify: bool = True) -> bytes:
        """All bytes of a blob. Raises `IncompleteError`, or `VerificationError` for wrong bytes."""
        with self.open(digest) as file:
            data = file.read()
        if verify and sha256(data) != digest:
            raise _corrupt(self.path(digest))
        return data

    def check(self, digest: Digest) -> None:
        """Reads a blob of any size in pieces. Raises as `get` does."""
        with self.open(digest):
            pass
        path = self.path(digest)
        try:
            found = _hash_file(path, sync=False)
        except OSError as error:
            raise storage_error(path, error) from error
        if found != digest:
            raise _corrupt(path)

    def remove(self, digest: Digest) -> None:
        """Forgets a blob; nothing happens when it is not here. Raises `StorageError`."""
        path = self.path(digest)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(path, error) from error

    def _sync_name(self, path: Path) -> None:
        """A blob that is there may be what a killed process left without syncing its name."""
        try:
            sync_folder(path.parent)
        except OSError as error:
            raise storage_error(path, error) from error

    def _make_folder(self, path: Path) -> None:
        try:
            self.root.parent.mkdir(parents=True, exist_ok=True)
            self._folders.make(path.parent)
        except OSError as error:
            raise storage_error(path.parent, error) from error


def _hash_file(path: Path, *, sync: bool) -> Digest:
    state = hashlib.sha256()
    with opened(path)[0] as file:
        while piece := file.read(READ_BYTES):
            state.update(piece)
        if sync:
            os.fdatasync(file.fileno())
    return state.digest()


def _corrupt(path: Path) -> VerificationError:
    return VerificationError(
        f"{path}: the bytes are not those of their name", hint="restore the file from a backup"
    )
