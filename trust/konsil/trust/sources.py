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
from pathlib import Path
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
    from collections.abc import Iterable, Sequence
    from io import BufferedReader

    from konsil.trust.report import Findings

LEDGER = "ledger"
BLOBS = "blobs"
ATTEMPTS = 5
"""A running node may replace its tail between two looks; then the folder is read again."""

READ_BYTES = 1 << 20
"""A file below this size is read at once."""
NEAR_BYTES = 1 << 14
"""A blob below this size stays near once it is found right: the log soon asks for it."""
MAX_NEAR_BYTES = 1 << 25
"""What stays near at most; the others are read again."""

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


def _open(path: Path | str, limit: int) -> tuple[int, int]:
    """As `open_regular`, but a bare handle."""
    try:
        handle = os.open(path, _OPENING)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ENOTDIR:
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


def read_file(path: Path | str, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes. Raises as `open_regular` does."""
    handle, size = _open(path, limit)
    try:
        return _read(handle, size, size)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error
    finally:
        os.close(handle)


def _read(handle: int, least: int, most: int) -> bytes:
    """At most `most` bytes of a file, at least `least`; less when it ends before."""
    data = os.read(handle, most)
    while data and len(data) < least and (more := os.read(handle, most - len(data))):
        data += more
    return data


def is_missing(path: str) -> bool:
    """Whether surely nothing is at `path`: what else may be there, whoever opens it is told."""
    with suppress(OSError):
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return True
    return False


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


def payload_digests(root: Path) -> list[bytes]:
    """The digests that the files of a payload store (`<root>/sha256/ab/<hex>`) are named.

    Raises `StorageError` when a folder cannot be listed.
    """
    found: list[bytes] = []
    for part in _below(root / "sha256"):
        folder = root / "sha256" / part
        for name in _below(folder):
            if _NAME.fullmatch(name) and name[:2] == part and _is_regular(folder / name):
                found.append(bytes.fromhex(name))
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
        self._stores: list[tuple[str, int]] = []
        self._good: dict[bytes, str] = {}
        """The root of the store that has it: a path for each would take as much as a blob."""
        self._bad: set[str] = set()
        self._near: dict[bytes, bytes] = {}
        self._room = MAX_NEAR_BYTES

    def add(self, root: Path, digests: Iterable[bytes], limit: int) -> int:
        """Adds the store at `root`, which listed these `digests`; returns how many are right.

        Every file is hashed, a wrong one is a finding, and so is one of more than `limit`
        bytes. A file that disappears meanwhile (a running node tidies up) is left out.
        """
        store = str(root)
        self._stores.append((store, limit))
        right = 0
        for digest in digests:
            try:
                right += self._check(digest, store, limit)
            except FileNotFoundError:
                continue
            except LimitExceeded as error:
                self._findings.add("layout.oversize", Path(blob_file(store, digest)), error.message)
            except EncodingRefused:
                path = Path(blob_file(store, digest))
                self._findings.add("layout.stray", path, "is not a regular file")
        return right

    def path(self, digest: bytes) -> Path | None:
        """Where a blob lies; None when it is missing or wrong. Raises `StorageError`."""
        store = self.store_of(digest)
        return None if store is None else Path(blob_file(store, digest))

    def get(self, digest: bytes, limit: int) -> bytes | None:
        """A blob of at most `limit` bytes; None when it is missing or wrong.

        Raises `LimitExceeded` for a larger one.
        """
        near = self._near.get(digest)
        if near is not None and len(near) <= limit:
            del self._near[digest]
            self._room += len(near)
            return near
        store = self.store_of(digest)
        return None if store is None else read_file(blob_file(store, digest), limit)

    def near(self, digests: Iterable[bytes]) -> dict[bytes, bytes]:
        """Those of some blobs that are in memory; they stay there."""
        return {one: self._near[one] for one in digests if one in self._near}

    def store_of(self, digest: bytes) -> str | None:
        """The root of the store that has a blob; None when it is missing or wrong.

        Raises `StorageError`.
        """
        if digest not in self._good:
            for store, limit in self._stores:
                with suppress(FileNotFoundError, RemoteError):
                    self._check(digest, store, limit)
                if digest in self._good:
                    break
        return self._good.get(digest)

    def altered(self, digest: bytes) -> bool:
        """Whether a file under this name was looked at and has other bytes, in any store."""
        return any(blob_file(store, digest) in self._bad for store, _ in self._stores)

    def _check(self, digest: bytes, store: str, limit: int) -> bool:
        """Whether a file matches its name; a small one that does stays near for a while."""
        path = blob_file(store, digest)
        if self._bad and path in self._bad:
            return False
        handle, size = _open(path, limit)
        try:
            # One byte more than there should be: a file that grows is not what its name says.
            data = _read(handle, size, size + 1) if size < READ_BYTES else None
            found = _digest(handle) if data is None else hashlib.sha256(data).digest()
        except OSError as error:
            raise StorageError(f"{path}: cannot be read: {error.strerror}") from error
        finally:
            os.close(handle)
        if found != digest:
            self._bad.add(path)
            message = "the bytes are not those of its name"
            self._findings.add("blob.corrupt", Path(path), message)
            return False
        self._good.setdefault(digest, store)
        if data is not None and len(data) < min(NEAR_BYTES, self._room):
            self._room -= len(data) - len(self._near.get(digest, b""))
            self._near[digest] = data
        return True


def blob_file(store: str, digest: bytes) -> str:
    """Where a store keeps a blob."""
    name = digest.hex()
    return f"{store}/sha256/{name[:2]}/{name}"


def _digest(handle: int) -> bytes:
    """SHA-256 of a file, which may be larger than memory."""
    with os.fdopen(handle, "rb", closefd=False) as file:
        return hashlib.file_digest(file, "sha256").digest()


def first_path(stores: Iterable[Blobs], digest: bytes) -> Path | None:
    """Where the first store that has a blob keeps it."""
    return next((path for store in stores if (path := store.path(digest)) is not None), None)
