"""Which files a ledger's folder holds, held against the closed list of what may be there.

Nothing is trusted by its name: links, devices, strange names and files that are larger than
any genuine one are findings, and are not opened; so are files for entries so far on that
nothing here leads up to them. Unfinished `.tmp` files are never read.
"""

from __future__ import annotations

import os
import re
import stat
from bisect import bisect_left
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import tiles
from konsil.protocol.errors import StorageError
from konsil.protocol.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from konsil.trust.report import Findings

CHECKPOINT = "checkpoint"
COSIGNED = "cosigned"
INDEX = "index.sqlite"
LOCK = "LOCK"
MAX_TAIL_BYTES = DEFAULT_LIMITS.tail_bytes
MAX_BUNDLE_BYTES = tiles.WIDTH * (tiles.PREFIX_BYTES + DEFAULT_LIMITS.entry_bytes)
MAX_BLOB_BYTES = DEFAULT_LIMITS.blob_bytes
MAX_NOTE_BYTES = DEFAULT_LIMITS.note_file_bytes
MAX_LOST_GROUPS = DEFAULT_LIMITS.lost_groups
"""Groups of 256 entries that may be lost before what comes after them is believed to be there:
an audit goes through every entry up to a tail's first, so no mere name may say where that is."""
UNFINISHED = ".tmp"

_TAIL = re.compile(r"tail\.(0|[1-9][0-9]{0,18})")
_TILE = re.compile(r"tile/([0-7]|entries)/(.+)")
_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{2})/([0-9a-f]{64})")
_BLOBS = re.compile(r"blobs/sha256/[0-9a-f]{2}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FOLDER = re.compile(
    r"tile|tile/([0-7]|entries)(/x[0-9]{3})*|blobs|blobs/sha256|blobs/sha256/[0-9a-f]{2}"
)


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """The genuine files of one ledger."""

    folder: Path
    checkpoint: bool
    cosigned: bool
    tails: tuple[int, ...]
    """Starts of the tails, ascending; more than one only after a crash."""
    bundles: frozenset[int]
    tiles: frozenset[tuple[int, int]]
    """(tile level, tile number)."""
    blobs: tuple[bytes, ...]
    """The digests that blobs are named."""

    def path(self, name: str) -> Path:
        """A file below the ledger's folder."""
        return self.folder / name


def scan(folder: Path, findings: Findings, *, opens_blobs: bool = False) -> Layout:
    """Looks through a ledger's folder.

    Whoever `opens_blobs` sees the size of each then; here it is not looked at.
    Raises `StorageError` when it cannot be listed, and `FileNotFoundError` when a running node
    replaced its tail meanwhile.
    """
    root = str(folder)  # one path for each file would cost more than to look at it
    tails: list[int] = []
    bundles: list[int] = []
    hashes: set[tuple[int, int]] = set()
    blobs: list[bytes] = []
    checkpoint = cosigned = False
    for name, status in _walk(folder, blobs if opens_blobs else None):
        if (match := _BLOB.fullmatch(name)) and match[2].startswith(match[1]):
            if _bounded(f"{root}/{name}", status, MAX_BLOB_BYTES, findings):
                blobs.append(bytes.fromhex(match[2]))
            continue
        path = f"{root}/{name}"
        if name == CHECKPOINT:
            checkpoint = _bounded(path, status, MAX_NOTE_BYTES, findings)
        elif name == COSIGNED:
            cosigned = _bounded(path, status, MAX_NOTE_BYTES, findings)
        elif name == LOCK:
            _bounded(path, status, 0, findings)
        elif name == INDEX and status is not None:
            continue  # disposable: whatever it says, nothing is judged by it
        elif (start := tail_start(name)) is not None:
            if _bounded(path, status, MAX_TAIL_BYTES, findings):
                tails.append(start)
        elif (place := _tile_place(name)) is not None:
            if _bounded(path, status, MAX_BUNDLE_BYTES, findings):
                level, number = place
                if level is None:
                    bundles.append(number)
                else:
                    hashes.add((level, number))
        elif status is None or not name.endswith(UNFINISHED):
            findings.add("layout.stray", Path(path), "does not belong to a ledger")
    groups = sorted({*bundles, *(number for level, number in hashes if level == 0)})

    def reached(name: str, group: int) -> bool:
        return _reached(f"{root}/{name}", group, groups, findings)

    return Layout(
        folder=folder,
        checkpoint=checkpoint,
        cosigned=cosigned,
        tails=tuple(at for at in sorted(tails) if reached(f"tail.{at}", at // tiles.WIDTH)),
        bundles=frozenset(at for at in bundles if reached(tiles.bundle_path(at), at)),
        tiles=frozenset(hashes),
        blobs=tuple(blobs),
    )


def _reached(path: str, group: int, groups: Sequence[int], findings: Findings) -> bool:
    """Whether so many of the groups before `group` are here that it may be believed in."""
    lost = group - bisect_left(groups, group)
    if lost > MAX_LOST_GROUPS:
        message = f"nothing here leads up to it: {lost} groups of 256 entries are missing"
        findings.add("layout.stray", Path(path), message)
    return lost <= MAX_LOST_GROUPS


def list_folder(folder: Path) -> list[str]:
    """The sorted names in a folder. Raises `FileNotFoundError` or `StorageError`."""
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(f"{folder}: cannot be read: {error.strerror}") from error


def _walk(folder: Path, blobs: list[bytes] | None) -> Iterator[tuple[str, os.stat_result | None]]:
    """(name below the folder, status); status is None for what is neither file nor known.

    With `blobs` the regular files that are named as blobs go there, without a status.
    """
    root, waiting = str(folder), [""]
    while waiting:
        below = waiting.pop()
        if blobs is None or _BLOBS.fullmatch(below) is None:
            names = _names(folder / below)
        else:
            names = _beside_blobs(folder / below, blobs)
        for item in names:
            name = f"{below}/{item}" if below else item
            try:
                status = os.lstat(f"{root}/{name}")
            except FileNotFoundError:
                if tail_start(name) is not None:
                    raise  # a running node put a new tail in its place: look again
                continue
            except OSError as error:
                raise StorageError(f"{folder / name}: {error.strerror}") from error
            if stat.S_ISREG(status.st_mode):
                yield name, status
            elif stat.S_ISDIR(status.st_mode) and _FOLDER.fullmatch(name):
                waiting.append(name)
            else:
                yield name, None


def _beside_blobs(folder: Path, blobs: list[bytes]) -> list[str]:
    """Adds the digests of a folder's blobs, which cost no look at each; the other sorted names."""
    others: list[str] = []
    try:
        with os.scandir(folder) as items:
            regular = {item.name: item.is_file(follow_symlinks=False) for item in items}
    except OSError as error:
        raise StorageError(f"{folder}: cannot be read: {error.strerror}") from error
    for name in sorted(regular):
        if regular[name] and name[:2] == folder.name and _DIGEST.fullmatch(name):
            blobs.append(bytes.fromhex(name))
        else:
            others.append(name)
    return others


def _names(folder: Path) -> list[str]:
    try:
        return list_folder(folder)
    except FileNotFoundError as error:
        raise StorageError(f"{folder}: cannot be read: {error.strerror}") from error


def _bounded(path: str, status: os.stat_result | None, limit: int, findings: Findings) -> bool:
    if status is None:
        findings.add("layout.stray", Path(path), "is not a regular file")
        return False
    if status.st_size > limit:
        findings.add("layout.oversize", Path(path), f"{status.st_size} bytes (at most {limit})")
        return False
    return True


def tail_start(name: str) -> int | None:
    """The entry that a tail of this name begins with; None for any other name."""
    match = _TAIL.fullmatch(name)
    start = int(match[1]) if match else 1
    return start if start % tiles.WIDTH == 0 else None


def _tile_place(name: str) -> tuple[int | None, int] | None:
    match = _TILE.fullmatch(name)
    number = tiles.parse_index(match[2]) if match else None
    if match is None or number is None:
        return None
    return (None if match[1] == "entries" else int(match[1])), number
