"""The keys of members over time, looked up where others keep them: their homes, and mirrors.

A receiver's home shows what a publisher signed; with which keys, the publisher's own home
shows, or what somebody mirrors of its log. The recovery key signs a change, but not where in the
log it stands. So a mirror counts only as far as a checkpoint covers it that its holder accepted,
signed by a key in force by then; what lies beyond, anybody can have written. Checkpoints are
tried in the order of their sizes, for one may be signed by a key that the entries before it bring.

Two accounts of one log that cannot both be, and that no revocation makes void, are a fork of its
author: then every holder is taken at its own account, and the auditor concludes nothing about
others from either. This is only a look ahead, before any home is audited: what is wrong in a file
is found, and told, when its own home is.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import checkpoint, merkle, note, tiles
from konsil.protocol.errors import RemoteError
from konsil.protocol.identity import node_id
from konsil.protocol.keyring import CHANGE_WORD, Keyring
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.note import NoteKey
from konsil.trust.layout import MAX_BUNDLE_BYTES, MAX_TAIL_BYTES, Layout, scan
from konsil.trust.peers import MIRROR, PEERS, WITNESSED, read_record
from konsil.trust.report import Findings
from konsil.trust.sources import ATTEMPTS, LEDGER, first_entry, pieces_of, read_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from konsil.protocol.genesis import Author
    from konsil.trust.salvage import Piece

    _Numbered = tuple[int, bytes]
    """An entry that speaks of keys, and where it stands."""
    _Notes = Mapping[str, Mapping[int, Sequence[bytes]]]
    """The checkpoints that a home accepted, by origin and size."""


class Account(msgspec.Struct, frozen=True):
    """What one file says about the keys of a log: as far as it is signed, or its own home's."""

    at: int
    """The position of the home that it lies in."""
    path: Path
    ring: Keyring
    changes: Mapping[int, bytes]
    """The leaf hashes of the changes that count, by index."""
    size: int
    note: bytes | None = None
    """The checkpoint that covers a mirror; None for the log's own home."""


class Fork(msgspec.Struct, frozen=True):
    """Two accounts of one log that cannot both be: whose, and the files."""

    node: str
    one: Path
    other: Path


class Keyrings(msgspec.Struct, frozen=True):
    """The keys of members that changed, as far as some homes show them."""

    agreed: dict[str, Keyring]
    """By node id; of a log that forked, the account with most changes."""
    apart: dict[str, dict[int, Keyring]]
    """Of logs that forked: what each home has an account of, by its position."""
    forks: tuple[Fork, ...]

    def of(self, position: int) -> dict[str, Keyring]:
        """The keys that the home at this position is held against."""
        own = {node: held[position] for node, held in self.apart.items() if position in held}
        return self.agreed | own


def known_keyrings(
    homes: Sequence[Path], authors: Mapping[str, Author], limits: Limits = DEFAULT_LIMITS
) -> Keyrings:
    """The keyring of every member whose keys changed, as far as these homes show it.

    The member's own home counts in full, a mirror as far as it is signed. Raises `StorageError`
    when files cannot be read.
    """
    own = _own_homes(homes, authors)
    agreed: dict[str, Keyring] = {}
    apart: dict[str, dict[int, Keyring]] = {}
    forks: list[Fork] = []
    records: dict[int, _Notes] = {}
    for author in authors.values():
        found: list[Account] = []
        for at in own.get(author.node, ()) if len(homes) > 1 else ():
            found += _in_home(at, homes[at], author, limits)
        mirrors = [(at, home / PEERS / f"{author.node}{MIRROR}") for at, home in enumerate(homes)]
        told = [one for one in mirrors if _speaks_of_keys(one[1])]
        if not told and not any(one.changes for one in found):
            continue
        for at, path in mirrors:
            notes = records.setdefault(at, _accepted(homes[at], limits))
            found += _in_mirror(at, path, author, notes.get(author.origin, {}), limits)
        found = [one for one in found if not _is_void(one, found)]
        pair = _contradiction(found)
        if pair is not None:
            forks.append(Fork(author.node, pair[0].path, pair[1].path))
            apart[author.node] = {one.at: one.ring for one in found}
        best = max(found, key=lambda one: len(one.changes), default=None)
        if best is not None and best.changes:
            agreed[author.node] = best.ring
    return Keyrings(agreed, apart, tuple(forks))


def _own_homes(homes: Sequence[Path], authors: Mapping[str, Author]) -> dict[str, list[int]]:
    """The positions of the homes of each member."""
    found: dict[str, list[int]] = {}
    for at, home in enumerate(homes):
        with suppress(FileNotFoundError, RemoteError):
            node = node_id(first_entry(home / LEDGER))
            if node in authors:
                found.setdefault(node, []).append(at)
    return found


def _speaks_of_keys(path: Path) -> bool:
    with suppress(FileNotFoundError, RemoteError):
        return CHANGE_WORD in read_file(path, MAX_TAIL_BYTES)
    return False


def _accepted(home: Path, limits: Limits) -> dict[str, dict[int, list[bytes]]]:
    """The checkpoints that a home accepted, unverified, by origin and size."""
    found: dict[str, dict[int, list[bytes]]] = {}
    with suppress(FileNotFoundError, RemoteError):
        data = read_file(home / PEERS / WITNESSED, limits.witness_bytes)
        for item in read_record(data).accepted:
            with suppress(RemoteError):
                head = checkpoint.from_text(note.parse(item.note, limits=limits)[0])
                found.setdefault(head.origin, {}).setdefault(head.size, []).append(item.note)
    return found


def _in_mirror(
    at: int, path: Path, author: Author, notes: Mapping[int, Sequence[bytes]], limits: Limits
) -> Iterator[Account]:
    """The account of a mirror, as far as one of the `notes` covers it, if any does."""
    pieces: Sequence[Piece] = ()
    with suppress(FileNotFoundError, RemoteError):
        pieces = pieces_of(read_file(path, MAX_TAIL_BYTES), 0) if notes else ()
    ring, changes = Keyring.of(author), dict[int, bytes]()
    tree = merkle.Tree()
    covered: Account | None = None
    for index, piece in enumerate(pieces):
        if piece.fault or piece.leaf is None:
            break
        tree.append(piece.leaf)
        if piece.entry and CHANGE_WORD in piece.entry:
            with suppress(RemoteError):
                before, ring = ring, ring.follow(index, piece.entry, limits)
                if ring is not before:
                    changes[index] = piece.leaf
        for data in notes.get(index + 1, ()):
            with suppress(RemoteError):
                if ring.open_checkpoint(data, limits=limits).root == tree.root():
                    covered = Account(at, path, ring, dict(changes), index + 1, data)
    if covered is not None:
        yield covered


def _in_home(at: int, home: Path, author: Author, limits: Limits) -> Iterator[Account]:
    """The account of the log's own home, around damage too."""
    for _ in range(ATTEMPTS):
        with suppress(FileNotFoundError, RemoteError):
            ring, changes = Keyring.of(author), dict[int, bytes]()
            for index, data in _in_ledger(home / LEDGER):
                with suppress(RemoteError):
                    before, ring = ring, ring.follow(index, data, limits)
                    if ring is not before:
                        changes[index] = merkle.leaf_hash(data)
            yield Account(at, home / LEDGER, ring, changes, 0)
            return


def _is_void(one: Account, accounts: Iterable[Account]) -> bool:
    """Whether another account has a revocation of the keys that signed for this one."""
    return one.note is not None and any(
        _voids(other.ring, one.note, one.size)
        and not (other.note is not None and _voids(one.ring, other.note, other.size))
        for other in accounts
    )


def _voids(ring: Keyring, data: bytes, size: int) -> bool:
    """Whether every log key of this ring that signed a checkpoint is revoked at its size."""
    origin = ring.author.origin
    _, lines = note.parse(data)
    signed = {line.key_id for line in lines if line.name == origin}
    logs = [one for one in ring.periods if one.role == "log"]
    by = [one for one in logs if NoteKey(origin, one.key).key_id in signed]
    return bool(by) and all(one.void_from is not None and size > one.void_from for one in by)


def _contradiction(accounts: Sequence[Account]) -> tuple[Account, Account] | None:
    """Two accounts of which one has a change of keys where the other has something else."""
    wanted = {index for one in accounts for index in one.changes}
    held = [_leaves(one, wanted) for one in accounts] if len(accounts) > 1 else []
    for one in accounts:
        for other, theirs in zip(accounts, held, strict=False):
            if any(theirs.get(index, leaf) != leaf for index, leaf in one.changes.items()):
                return one, other
    return None


def _leaves(account: Account, wanted: Iterable[int]) -> dict[int, bytes]:
    """The leaf hashes that an account has at these places, as far as it can be read."""
    found: dict[int, bytes] = {}
    with suppress(FileNotFoundError, RemoteError):
        if account.note is not None:
            pieces = pieces_of(read_file(account.path, MAX_TAIL_BYTES), 0)[: account.size]
            places = ((index, pieces[index]) for index in wanted if index < len(pieces))
            return {index: one.leaf for index, one in places if one.leaf is not None}
        layout = scan(account.path, Findings(""))
        start = layout.tails[-1] if layout.tails else 0
        for index in wanted:
            leaf = _leaf_of(layout, start, index)
            if leaf is not None:
                found[index] = leaf
    return found


def _leaf_of(layout: Layout, start: int, index: int) -> bytes | None:
    """The leaf hash of one entry of a ledger; None where it cannot be told."""
    if index >= start and layout.tails:
        pieces = pieces_of(read_file(layout.path(f"tail.{start}"), MAX_TAIL_BYTES), start)
        piece = pieces[index - start] if index - start < len(pieces) else None
        return None if piece is None or piece.fault else piece.leaf
    group = index // tiles.WIDTH
    if group not in layout.bundles:
        return None
    data = read_file(layout.path(tiles.bundle_path(group)), MAX_BUNDLE_BYTES)
    entry = tiles.read_bundle(data)[index % tiles.WIDTH][1]
    return merkle.leaf_hash(entry) if entry else None


def _in_ledger(folder: Path) -> Iterator[_Numbered]:
    layout = scan(folder, Findings(folder.name))
    for group in sorted(layout.bundles):
        data = read_file(layout.path(tiles.bundle_path(group)), MAX_BUNDLE_BYTES)
        if CHANGE_WORD in data:
            with suppress(RemoteError):
                found = enumerate(tiles.read_bundle(data), group * tiles.WIDTH)
                yield from ((index, item) for index, (_, item) in found if CHANGE_WORD in item)
    if layout.tails:
        start = layout.tails[-1]
        yield from _in_tail(read_file(layout.path(f"tail.{start}"), MAX_TAIL_BYTES), start)


def _in_tail(data: bytes, first: int) -> Iterator[_Numbered]:
    if CHANGE_WORD in data:
        for index, piece in enumerate(pieces_of(data, first), first):
            if piece.entry and CHANGE_WORD in piece.entry:
                yield index, piece.entry
