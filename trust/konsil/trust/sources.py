"""Bytes for an audit: files read within bounds, and blobs that match their names.

Only a blob whose bytes hash to its name is ever handed out; one that does not is reported
once and then counts as missing.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from konsil.protocol import tiles
from konsil.protocol.errors import EncodingRefused, LimitExceeded, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from konsil.trust.report import Findings

_NAME = re.compile(r"[0-9a-f]{64}")


def read_file(path: Path, limit: int | None = None) -> bytes:
    """The bytes of a file. Raises `FileNotFoundError`, `LimitExceeded` or `StorageError`."""
    try:
        with path.open("rb") as file:
            data = file.read() if limit is None else file.read(limit + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error
    if limit is not None and len(data) > limit:
        raise LimitExceeded(f"{path}: more than {limit} bytes")
    return data


def first_entry(folder: Path) -> bytes:
    """The bytes of entry 0 of the ledger in `folder`, unchecked.

    Raises `FileNotFoundError`, `StorageError`, or `EncodingRefused` for a malformed file.
    """
    bundle = folder / tiles.bundle_path(0)
    if bundle.exists():
        return tiles.read_bundle(read_file(bundle))[0][1]
    frames = tiles.read_tail(read_file(folder / "tail.0")).frames
    if not frames:
        raise EncodingRefused(f"{folder}: the log is empty")
    return frames[0].entry


def payload_files(root: Path) -> dict[bytes, Path]:
    """The files of a payload store (`<root>/sha256/ab/<hex>`) by the digest they are named."""
    found: dict[bytes, Path] = {}
    for path in sorted(root.glob("sha256/??/*")):
        named = _NAME.fullmatch(path.name) and path.parent.name == path.name[:2]
        if named and path.is_file() and not path.is_symlink():
            found[bytes.fromhex(path.name)] = path
    return found


class Blobs:
    """Blobs of one or several stores by digest."""

    def __init__(self) -> None:
        self._good: dict[bytes, Path] = {}
        self.bad = 0

    def add(self, files: Mapping[bytes, Path], findings: Findings) -> int:
        """Hashes every file, reports the wrong ones, and returns how many are right.

        A file that disappears meanwhile (a running node tidies up) is left out.
        """
        right = 0
        for digest, path in files.items():
            try:
                with path.open("rb") as file:
                    same = hashlib.file_digest(file, "sha256").digest() == digest
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StorageError(f"{path}: cannot be read: {error.strerror}") from error
            if same:
                right += 1
                self._good.setdefault(digest, path)
            else:
                self.bad += 1
                findings.add("blob.corrupt", path, "the bytes are not those of its name")
        return right

    def path(self, digest: bytes) -> Path | None:
        """Where a blob lies; None when it is missing or wrong."""
        return self._good.get(digest)

    def get(self, digest: bytes, limit: int) -> bytes | None:
        """A blob of at most `limit` bytes; None when it is missing or wrong.

        Raises `LimitExceeded` for a larger one.
        """
        path = self._good.get(digest)
        return None if path is None else read_file(path, limit)


def first_path(stores: Iterable[Blobs], digest: bytes) -> Path | None:
    """Where the first store that has a blob keeps it."""
    return next((path for store in stores if (path := store.path(digest)) is not None), None)
