"""What a ledger's files hold after any stop, and whether one may go on writing.

Reads the checkpoint, the tail and the right edge of the tiles only, so a start costs the
same for a long log. Rules: a torn last frame was never acknowledged and is cut off, with a
notice; whole frames beyond the checkpoint are adopted, with a notice; fewer durable entries
than were signed for, or bytes that contradict a hash, refuse the start, because signing on
would fork the log.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from konsil.node.store.durable import AS_IT_IS, TEMPORARY, storage_error, sync_folder
from konsil.node.store.edge import Edge, Row
from konsil.node.store.filestore import CHECKPOINT, FileStore, read, read_tile
from konsil.node.store.tailfile import PREFIX, TailFile
from konsil.protocol import checkpoint as heads
from konsil.protocol import entries, genesis, merkle, tiles
from konsil.protocol import note as notes
from konsil.protocol.errors import RemoteError, SignatureRefused, VerificationError
from konsil.protocol.keyring import Keyring
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.trust.layout import MAX_NOTE_BYTES, MAX_TAIL_BYTES
from konsil.trust.own_keys import follow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Recovered(msgspec.Struct, frozen=True):
    """A store that may be written to, and what a person should know of its start."""

    store: FileStore
    notices: tuple[str, ...]


def recover(folder: Path, *, limits: Limits = DEFAULT_LIMITS) -> Recovered:
    """Opens the ledger in `folder`, which the caller has locked.

    Raises `VerificationError` naming file and offset when it does not verify (nothing is
    changed then) and `StorageError` when the disk cannot be read.
    """
    start, older = _tails(folder)
    path = folder / f"{PREFIX}{start}"
    data = read(path, MAX_TAIL_BYTES)
    tail = _parse(path, data)
    pending = [item.entry for item in tail.frames]
    _check_positions(path, tail, start, limits)
    edge = _edge(folder, start)
    edge.extend(item.leaf for item in tail.frames)
    note = _checkpoint_bytes(folder)
    store = FileStore(folder, TailFile(path, start, tail.end), pending, edge, note)
    try:
        notices = _check_signed(store, note, limits)
        for number in older:
            _check_older(store, number)
    except VerificationError:
        store.close()
        raise
    _settle(path, tail.end)
    if tail.torn:
        notices.insert(0, f"{path}: a torn frame of {len(data) - tail.end} bytes was cut off")
    _clean(folder, older, store)
    return Recovered(store, tuple(notices))


def _tails(folder: Path) -> tuple[int, list[int]]:
    """The start of the newest tail, and those of tails that a crash kept beside it."""
    try:
        names = [item.name for item in folder.iterdir() if item.name.startswith(PREFIX)]
    except OSError as error:
        raise storage_error(folder, error) from error
    found = [tail_start(name) for name in names if not name.endswith(TEMPORARY)]
    starts = sorted(start for start in found if start is not None)
    if not starts or len(starts) != len(found):
        raise VerificationError(f"{folder}: no tail, or one whose name is no number")
    return starts[-1], starts[:-1]


def tail_start(name: str) -> int | None:
    """The entry at which the tail file `name` begins; None when it is no tail's name."""
    digits = name.removeprefix(PREFIX)
    if name == digits or not digits.isdecimal() or not digits.isascii():
        return None
    start = int(digits)
    return start if str(start) == digits and start % tiles.WIDTH == 0 else None


def _parse(path: Path, data: bytes) -> tiles.Tail:
    try:
        return tiles.read_tail(data)
    except RemoteError as error:
        raise VerificationError(f"{path}: {error.message}") from error


def _check_positions(path: Path, tail: tiles.Tail, start: int, limits: Limits) -> None:
    for position, item in enumerate(tail.frames, start):
        if not item.entry:
            continue  # pruned: its hash alone holds the place
        try:
            known = entries.quick(item.entry, limits=limits)
            index = (known or entries.peek(item.entry, limits=limits)).n
        except RemoteError as error:
            raise VerificationError(f"{path}: offset {item.offset}: {error.message}") from error
        if index != position:
            raise VerificationError(
                f"{path}: offset {item.offset}: entry {index} stands at position {position}"
            )


def _edge(folder: Path, start: int) -> Edge:
    """The right edge of the tree over the first `start` entries, from full tiles."""
    rows: list[Row] = []
    count, level = start, 0
    while count or not rows:
        begin = count // tiles.WIDTH * tiles.WIDTH
        hashes = [
            merkle.root_of(read_tile(folder / tiles.tile_path(level - 1, number)))
            for number in range(begin, count)
        ]
        rows.append(Row(begin, hashes))
        count, level = count // tiles.WIDTH, level + 1
    return Edge(rows)


def _checkpoint_bytes(folder: Path) -> bytes | None:
    path = folder / CHECKPOINT
    return read(path, MAX_NOTE_BYTES) if os.path.lexists(path) else None


def _check_signed(store: FileStore, note: bytes | None, limits: Limits) -> list[str]:
    """Compares the durable entries with the last signature; returns notices."""
    path = store.folder / CHECKPOINT
    if store.size == 0:
        raise VerificationError(f"{store.folder}: not even the genesis entry is there")
    try:
        author = genesis.read(store.entry(0), limits=limits)
        if note is None:
            if store.size > 1:
                raise VerificationError(f"{path}: is missing, with {store.size} entries")
            return [f"{path}: was never signed; one entry adopted"]
        head = _signed_head(store, note, Keyring.of(author), limits)
    except RemoteError as error:
        raise VerificationError(f"{path}: {error.message}") from error
    if store.size < head.size:
        raise VerificationError(
            f"{store.folder}: {store.size} entries are durable, but {head.size} were signed for",
            hint="entries are lost; restore the ledger from peers or a backup, never sign on",
        )
    if merkle.range_root(store, 0, head.size) != head.root:
        raise VerificationError(f"{store.folder}: the entries are not those of the checkpoint")
    beyond = store.size - head.size
    return [f"{store.folder}: {beyond} entries after the checkpoint adopted"] if beyond else []


def _signed_head(store: FileStore, note: bytes, ring: Keyring, limits: Limits) -> heads.Checkpoint:
    """The head that the node signed last, under the key that was in force then."""
    try:
        return ring.open_checkpoint(note, only_known=True, limits=limits)
    except SignatureRefused:
        # Only a log whose keys changed costs a look at every entry. A change behind the
        # checkpoint does not count: a stop came between the two.
        size = heads.from_text(notes.parse(note, limits=limits)[0]).size
        changed = follow(store, ring, limits=limits).before(size)
        return changed.open_checkpoint(note, only_known=True, limits=limits)


def _check_older(store: FileStore, start: int) -> None:
    """A crash between two tails leaves the older one; all of it must be in the store by now."""
    path = store.folder / f"{PREFIX}{start}"
    for position, item in enumerate(_parse(path, read(path, MAX_TAIL_BYTES)).frames, start):
        if position >= store.size or store.entry(position) != item.entry:
            raise VerificationError(f"{path}: offset {item.offset}: is not entry {position}")


def _settle(path: Path, end: int) -> None:
    """Cuts the tail at `end` and makes it durable, with its name and that of its folder.

    What is read here may be in the system's cache only, left there by a process that was killed
    before it synced: nothing may be signed, or removed, on its account before it is on the disk.
    """
    try:
        handle = os.open(path, os.O_RDWR | AS_IT_IS)
        try:
            if os.fstat(handle).st_size > end:
                os.ftruncate(handle, end)
            os.fsync(handle)
        finally:
            os.close(handle)
        sync_folder(path.parent)
        sync_folder(path.parent.parent)
    except OSError as error:
        raise storage_error(path, error) from error


def _clean(folder: Path, older: list[int], store: FileStore) -> None:
    """Removes what a crash left behind: older tails and unfinished files."""
    first = min([*older, store.tail_start])
    path = folder
    try:
        tails = [folder / f"{PREFIX}{number}" for number in older]
        for path in [*tails, *folder.glob(f"*{TEMPORARY}")]:
            path.unlink()
        for name in _moving(first, store.size):
            path = folder / f"{name}{TEMPORARY}"
            path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(path, error) from error


def _moving(first: int, size: int) -> Iterator[str]:
    """The bundles and tiles that a move of the entries from `first` on may write."""
    yield from (
        tiles.bundle_path(group) for group in range(first // tiles.WIDTH, size // tiles.WIDTH)
    )
    for level in range(tiles.MAX_LEVEL + 1):
        span = tiles.WIDTH ** (level + 1)
        yield from (tiles.tile_path(level, at) for at in range(first // span, size // span))
