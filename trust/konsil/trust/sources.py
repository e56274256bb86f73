"""Bytes for an audit: regular files read within bounds, and blobs that match their names.

Every file that an audit opens is opened here: without waiting, without following a link, and
only when it is a regular file of a size that it may have. Only a blob whose bytes hash to its
name is ever handed out; one that does not is reported once and then counts as missing.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from konsil.protocol import tiles
from konsil.protocol.errors import (
    EncodingRefused,
    LimitExceeded,
    RemoteError,
    StorageError,
    UsageError,
)
from konsil.trust.layout import MAX_BUNDLE_BYTES, MAX_TAIL_BYTES, list_folder, tail_start
from konsil.trust.salvage import Piece, salvage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from io import BufferedReader
    from pathlib import Path

    from konsil.trust.report import Findings

LEDGER = "ledger"
BLOBS = "blobs"
ATTEMPTS = 5
"""A running node may replace its tail between two looks; then the folder is read again."""

READ_BYTES = 1 << 20
"""A file below this size is read at once."""

_NAME = re.compile(r"[0-9a-f]{64}")
_OPENING = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_SPECIAL = frozenset({errno.ELOOP, errno.ENXIO, errno.ENODEV})
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP})


def open_regular(path: Path, limit: int) -> tuple[BufferedReader, int]:
    """A regular file of at most `limit` bytes, open for reading, and its size.

    Raises `FileNotFoundError`, `EncodingRefused` for what is no regular file (a link, a pipe,
    a device), `LimitExceeded`, and `StorageError` when it cannot be opened.
    """
    handle, size = _open(path, limit)
    return os.fdopen(handle, "rb"), size


def _open(path: Path, limit: int) -> tuple[int, int]:
    """As `open_regular`, but a bare handle."""
    try:
        handle = os.open(path, _OPENING)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise FileNotFoundError(errno.ENOENT, error.strerror, str(path)) from error
        if error.errno in _SPECIAL:
            raise EncodingRefused(f"{path}: is not a regular file") from error
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise EncodingRefused(f"{path}: is not a regular file")
    if status.st_size > limit:
        os.close(handle)
        raise LimitExceeded(f"{path}: {status.st_size} bytes (at most {limit})")
    return handle, status.st_size


def read_file(path: Path, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes. Raises as `open_regular` does."""
    handle, size = _open(path, limit)
    try:
        return _read(handle, size)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error
    finally:
        os.close(handle)


def _read(handle: int, size: int) -> bytes:
    """At most `size` bytes of a file; less when it ends before."""
    data = os.read(handle, size)
    while data and len(data) < size and (more := os.read(handle, size - len(data))):
        data += more
    return data


def ledger_of(home: Path) -> Path:
    """The folder of a home's ledger.

    Raises `UsageError` when there is no such home, and `StorageError` when it has no ledger
    or may not be looked at.
    """
    if not _is_folder(home):
        raise UsageError(f"{home}: there is no such home", hint="name the home of a node")
    require_ledger(home / LEDGER)
    return home / LEDGER


def require_ledger(folder: Path) -> None:
    """Raises `StorageError` when `folder` is no folder, or may not be looked at."""
    if not _is_folder(folder):
        raise StorageError(
            f"{folder}: there is no ledger here", hint="name the home of a node (konsil init)"
        )


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except OSError as error:
        if error.errno in _ABSENT:
            return False
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error


def first_entry(folder: Path) -> bytes:
    """The bytes of entry 0 of the ledger in `folder`, unchecked.

    Raises `FileNotFoundError`, `StorageError`, or `RemoteError` for a malformed file.
    """
    with suppress(FileNotFoundError):
        bundle = read_file(folder / tiles.bundle_path(0), MAX_BUNDLE_BYTES)
        return tiles.read_bundle(bundle)[0][1]
    data = read_file(folder / "tail.0", MAX_TAIL_BYTES)
    first = next(iter(pieces_of(data, 0)), None)
    entry = None if first is None else first.entry or first.found
    if not entry:
        raise EncodingRefused(f"{folder}: the log has no first entry")
    return entry


def pieces_of(data: bytes, first: int) -> Sequence[Piece]:
    """The places of a tail that begins with entry `first`, damaged or not."""
    try:
        return [Piece(one.offset, one.entry, one.leaf) for one in tiles.read_tail(data).frames]
    except RemoteError:
        return salvage(data, first).pieces


def entries_now(folder: Path) -> int | None:
    """How many entries the log in `folder` has at this moment; None when it does not tell.

    Raises `StorageError` when its files cannot be read.
    """
    for _ in range(ATTEMPTS):
        with suppress(FileNotFoundError):
            starts = [tail_start(name) for name in list_folder(folder)]
            newest = max((start for start in starts if start is not None), default=None)
            if newest is None:
                return None
            try:
                data = read_file(folder / f"tail.{newest}", MAX_TAIL_BYTES)
            except RemoteError:
                return None
            return newest + len(pieces_of(data, newest))
    return None


def payload_files(root: Path) -> dict[bytes, Path]:
    """The files of a payload store (`<root>/sha256/ab/<hex>`) by the digest they are named.

    Raises `StorageError` when a folder cannot be listed.
    """
    found: dict[bytes, Path] = {}
    for part in _below(root / "sha256"):
        folder = root / "sha256" / part
        for name in _below(folder):
            path = folder / name
            if _NAME.fullmatch(name) and name[:2] == part and _is_regular(path):
                found[bytes.fromhex(name)] = path
    return found


def _below(folder: Path) -> list[str]:
    """The names in a folder; none where there is no folder."""
    return list_folder(folder) if _is_folder(folder) else []


def _is_regular(path: Path) -> bool:
    with suppress(FileNotFoundError):
        return stat.S_ISREG(os.lstat(path).st_mode)
    return False


class Blobs:
    """Blobs of one or several stores by digest.

    What a running node stores after the files were listed is found when it is asked for: a
    blob is durable before the entry that names it.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._stores: list[tuple[Path, int]] = []
        self._good: dict[bytes, Path] = {}
        self._bad: set[Path] = set()

    def add(self, root: Path, files: Mapping[bytes, Path], limit: int) -> int:
        """Adds the store at `root` with these `files`; returns how many of them are right.

        Every file is hashed, a wrong one is a finding, and so is one of more than `limit`
        bytes. A file that disappears meanwhile (a running node tidies up) is left out.
        """
        self._stores.append((root, limit))
        right = 0
        for digest, path in files.items():
            try:
                right += self._check(digest, path, limit)
            except FileNotFoundError:
                continue
            except LimitExceeded as error:
                self._findings.add("layout.oversize", path, error.message)
            except EncodingRefused:
                self._findings.add("layout.stray", path, "is not a regular file")
        return right

    def path(self, digest: bytes) -> Path | None:
        """Where a blob lies; None when it is missing or wrong. Raises `StorageError`."""
        for root, limit in self._stores:
            if digest in self._good:
                break
            with suppress(FileNotFoundError, RemoteError):
                name = digest.hex()
                self._check(digest, root / "sha256" / name[:2] / name, limit)
        return self._good.get(digest)

    def get(self, digest: bytes, limit: int) -> bytes | None:
        """A blob of at most `limit` bytes; None when it is missing or wrong.

        Raises `LimitExceeded` for a larger one.
        """
        path = self.path(digest)
        return None if path is None else read_file(path, limit)

    def _check(self, digest: bytes, path: Path, limit: int) -> bool:
        if path in self._bad:
            return False
        handle, size = _open(path, limit)
        try:
            same = _digest(handle, size) == digest
        except OSError as error:
            raise StorageError(f"{path}: cannot be read: {error.strerror}") from error
        finally:
            os.close(handle)
        if same:
            self._good.setdefault(digest, path)
        else:
            self._bad.add(path)
            self._findings.add("blob.corrupt", path, "the bytes are not those of its name")
        return same


def _digest(handle: int, size: int) -> bytes:
    """SHA-256 of a file, which may be larger than memory."""
    if size < READ_BYTES:
        return hashlib.sha256(_read(handle, READ_BYTES)).digest()
    with os.fdopen(handle, "rb", closefd=False) as file:
        return hashlib.file_digest(file, "sha256").digest()


def first_path(stores: Iterable[Blobs], digest: bytes) -> Path | None:
    """Where the first store that has a blob keeps it."""
    return next((path for store in stores if (path := store.path(digest)) is not None), None)
