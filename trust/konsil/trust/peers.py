"""What a home keeps of other members, held against what they signed: the folder `peers/`.

A genesis entry is that of the member in its file's name. The record of accepted checkpoints
(`witness.log`) chains, and every checkpoint in it is signed by its log. A mirror leads to every
root that this record has for its log, as far as it reaches and no revocation made the root void;
what it has taken beyond the newest of them counts for nothing yet, so there is nothing to hold it
against. A node writes no leaves that contradict what it accepted, whatever a member shows it.

What cannot be judged because a member's genesis entry or newer key is not here is said. Whether
a mirror was cut short, or the record cut at its end, no file can show.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import checkpoint, genesis, merkle, note, tiles
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.errors import EncodingRefused, ManifestRefused, RemoteError, StorageError
from konsil.protocol.note import NoteKey
from konsil.trust.layout import MAX_TAIL_BYTES, list_folder
from konsil.trust.salvage import salvage
from konsil.trust.sources import open_regular, read_file

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping
    from io import BufferedReader

    from konsil.protocol.keyring import Keyring
    from konsil.protocol.limits import Limits
    from konsil.trust.report import Findings

PEERS = "peers"
WITNESSED = "witness.log"
GENESIS = ".genesis"
MIRROR = ".mirror"
_PREFIX = 2
_NAME = re.compile(r"([a-z2-7]{32})\.(genesis|mirror)")


class Accepted(msgspec.Struct, frozen=True):
    """A checkpoint in the record: where its frame begins, and the note."""

    offset: int
    note: bytes


class Seen(msgspec.Struct, frozen=True):
    """A checkpoint that a home accepted, signed by the key in force at its size."""

    head: Checkpoint
    note: bytes
    path: Path
    offset: int


class Record(msgspec.Struct, frozen=True):
    """The record as far as it chains, and where it does not."""

    accepted: tuple[Accepted, ...]
    broken: int | None = None


def accepted_now(home: Path, limits: Limits) -> frozenset[bytes]:
    """The checkpoints that a home holds at this moment, unverified.

    Raises `StorageError` when the record cannot be read.
    """
    with suppress(FileNotFoundError, RemoteError):
        data = read_file(home / PEERS / WITNESSED, limits.witness_bytes)
        return frozenset(item.note for item in read_record(data).accepted)
    return frozenset()


def check_peers(
    home: Path, rings: Mapping[str, Keyring], findings: Findings, limits: Limits
) -> tuple[Seen, ...]:
    """Adds what is wrong in the folder `peers/` of a home; `rings` are the members' keys.

    Returns the checkpoints that the home accepted. Raises `StorageError` when the folder cannot
    be read. What a running node removes is passed over.
    """
    folder = home / PEERS
    found: tuple[Seen, ...] = ()
    with suppress(FileNotFoundError):
        names = list_folder(folder)
        heads, found = _check_record(folder / WITNESSED, rings, findings, limits)
        for name in names:
            match = _NAME.fullmatch(name)
            if match is None:
                if name.endswith((GENESIS, MIRROR)):
                    findings.add("peers.genesis", folder / name, "names no member")
            elif match[2] == "genesis":
                _check_genesis(folder / name, match[1], findings, limits)
            else:
                _check_mirror(folder / name, match[1], rings, heads.get(match[1], {}), findings)
    return found


def read_record(data: bytes) -> Record:
    """The frames of the record in order. A last one that a crash cut short is left out."""
    found: list[Accepted] = []
    link, offset = bytes(merkle.HASH_BYTES), 0
    written = len(data.rstrip(b"\0"))
    while offset < len(data):
        start = offset + _PREFIX
        end = start + int.from_bytes(data[offset:start], "big") + merkle.HASH_BYTES
        if end > len(data) or offset >= written:
            broken = offset if _has_frame(data, start, link) else None
            return Record(tuple(found), broken)
        body = data[start : end - merkle.HASH_BYTES]
        link = hashlib.sha256(b"\x02" + link + body).digest()
        if link != data[end - merkle.HASH_BYTES : end]:
            # The size of a file can reach the disk, and its content not.
            torn = end == len(data) and data.endswith(bytes(tiles.ZERO_FILL_BYTES))
            return Record(tuple(found), None if torn else offset)
        found.append(Accepted(offset, body))
        offset = end
    return Record(tuple(found))


def _has_frame(data: bytes, start: int, link: bytes) -> bool:
    """Whether a frame that chains begins here, whatever the length before it says."""
    hasher = hashlib.sha256(b"\x02" + link)
    for end in range(start, min(len(data) - merkle.HASH_BYTES, start + (1 << 16)) + 1):
        if hasher.copy().digest() == data[end : end + merkle.HASH_BYTES]:
            return True
        hasher.update(data[end : end + 1])
    return False


def _check_record(
    path: Path, rings: Mapping[str, Keyring], findings: Findings, limits: Limits
) -> tuple[dict[str, dict[int, bytes]], tuple[Seen, ...]]:
    """The signed roots that count, by node and log size; the same as checkpoints.

    Adds what is wrong with the record.
    """
    roots: dict[str, dict[int, bytes]] = {}
    seen: list[Seen] = []
    try:
        record = read_record(read_file(path, limits.witness_bytes))
    except FileNotFoundError:
        return roots, ()
    except RemoteError as error:
        findings.add("peers.witnessed", path, error.message)
        return roots, ()
    unknown: dict[str, int] = {}
    for item in record.accepted:
        try:
            head = checkpoint.from_text(note.parse(item.note, limits=limits)[0])
            node = checkpoint.node_of(head.origin)
            ring = rings.get(node)
            if ring is not None and _is_signed(item.note, head, ring, limits):
                # Void since, by a revocation: it says nothing of the log any more.
                with suppress(RemoteError):
                    ring.open_checkpoint(item.note, limits=limits)
                    roots.setdefault(node, {})[head.size] = head.root
                    seen.append(Seen(head, item.note, path, item.offset))
            else:
                unknown.setdefault(head.origin, item.offset)
        except RemoteError as error:
            findings.add("peers.witnessed", path, error.message, offset=item.offset)
    for origin, offset in unknown.items():
        message = f"a checkpoint of {origin}, whose genesis entry or newer key is not here"
        findings.add("peers.unknown", path, message, offset=offset)
    if record.broken is not None:
        message = "does not follow what stands before it; nothing from here on is judged"
        findings.add("peers.witnessed", path, message, offset=record.broken)
    return roots, tuple(seen)


def _is_signed(data: bytes, head: Checkpoint, ring: Keyring, limits: Limits) -> bool:
    """Whether a log key that is known signed; False when only unknown keys did.

    A revocation says nothing against the record: it is what was accepted then. Raises
    `RemoteError` when a known key's signature is wrong.
    """
    if ring.author.origin != head.origin:
        return False
    keys = [NoteKey(head.origin, one.key) for one in ring.periods if one.role == "log"]
    _, lines = note.parse(data, limits=limits)
    if not {(key.name, key.key_id) for key in keys} & {(one.name, one.key_id) for one in lines}:
        return False
    note.open_note(data, keys, limits=limits)
    return True


def _check_genesis(path: Path, node: str, findings: Findings, limits: Limits) -> None:
    try:
        found = genesis.read(read_file(path, limits.entry_bytes), limits=limits).node
        if found != node:
            raise ManifestRefused(f"it is the genesis entry of {found}")
    except FileNotFoundError:
        return
    except RemoteError as error:
        findings.add("peers.genesis", path, error.message)


class _Damaged(EncodingRefused):
    """A frame of a mirror that is wrong, and where."""

    def __init__(self, message: str, offset: int, index: int) -> None:
        super().__init__(message)
        self.offset = offset
        self.index = index


def _check_mirror(
    path: Path,
    node: str,
    rings: Mapping[str, Keyring],
    roots: Mapping[int, bytes],
    findings: Findings,
) -> None:
    try:
        file, size = open_regular(path, MAX_TAIL_BYTES)
    except FileNotFoundError:
        return
    except RemoteError as error:
        findings.add("peers.mirror", path, error.message)
        return
    with file:
        if node not in rings:
            findings.add("peers.unknown", path, "the genesis entry of its owner is not here")
            return
        try:
            for reached, root in _roots(_leaves(file, size), roots):
                if root != roots[reached]:
                    message = f"its first {reached} entries are not those that the member signed"
                    findings.add("peers.mirror", path, message, index=reached)
                    return
        except _Damaged as error:
            findings.add(
                "peers.mirror", path, error.message, offset=error.offset, index=error.index
            )
        except OSError as error:
            raise StorageError(f"{path}: cannot be read: {error.strerror}") from error


def _leaves(file: BufferedReader, size: int) -> Iterator[bytes]:
    """The leaf hashes of a mirror, one frame in memory at a time. Raises `_Damaged`.

    What a crash cut short at the end is left out.
    """
    offset = sure = index = since = 0
    while offset < size:
        length = int.from_bytes(file.read(tiles.PREFIX_BYTES), "big")
        entry, leaf = file.read(length), file.read(merkle.HASH_BYTES)
        offset += tiles.PREFIX_BYTES + length + merkle.HASH_BYTES
        if offset > size or (entry and merkle.leaf_hash(entry) != leaf):
            file.seek(sure)
            rest = file.read(size - sure)
            try:
                frames = tiles.read_tail(rest).frames
            except RemoteError as error:
                pieces = salvage(rest, index - since).pieces
                at = next((at for at, one in enumerate(pieces) if one.fault), 0)
                offset = sure + (pieces[at].offset if pieces else 0)
                raise _Damaged(error.message, offset, index - since + at) from error
            yield from (frame.leaf for frame in frames[since:])
            return
        if len(leaf) < merkle.HASH_BYTES:
            return  # a running node cut it back meanwhile
        yield leaf
        index, since = index + 1, 0 if entry else since + 1
        sure = offset if entry else sure


def _roots(leaves: Iterable[bytes], sizes: Container[int]) -> Iterator[tuple[int, bytes]]:
    """The root at each of the sizes that the leaves reach, in one pass."""
    peaks: list[tuple[int, bytes]] = []
    for size, leaf in enumerate(leaves, 1):
        level, found = 0, leaf
        while peaks and peaks[-1][0] == level:
            found = merkle.node_hash(peaks.pop()[1], found)
            level += 1
        peaks.append((level, found))
        if size in sizes:
            yield size, merkle.fold(one for _, one in peaks)
