"""The keys of members over time, looked up where others keep them: their homes, and mirrors.

A receiver's home shows what a publisher signed; with which keys, the publisher's own home
shows, or what the receiver mirrors of its log. A change of keys is signed by the recovery key,
so it counts wherever it is found, around damage too. This is only a look ahead, before any home
is audited: what is wrong in a file is found, and told, when its own home is.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from konsil.protocol import tiles
from konsil.protocol.errors import RemoteError
from konsil.protocol.identity import node_id
from konsil.protocol.keyring import CHANGE_WORD, Keyring
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.trust.layout import MAX_BUNDLE_BYTES, MAX_TAIL_BYTES, scan
from konsil.trust.report import Findings
from konsil.trust.sources import ATTEMPTS, LEDGER, first_entry, pieces_of, read_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from konsil.protocol.genesis import Author

    _Numbered = tuple[int, bytes]
    """An entry that speaks of keys, and where it stands."""

PEERS = "peers"
MIRROR = ".mirror"


def known_keyrings(
    homes: Sequence[Path], authors: Mapping[str, Author], limits: Limits = DEFAULT_LIMITS
) -> dict[str, Keyring]:
    """The keyring of every member whose keys changed, as far as these homes show it, by node id.

    Of several accounts of one log the one with most changes counts. Raises `StorageError` when
    files cannot be read.
    """
    found: dict[str, Keyring] = {}
    for home in homes:
        for author, data in _accounts(home, authors, alone=len(homes) == 1):
            ring = _follow(data, Keyring.of(author), limits)
            known = found.get(author.node, Keyring.of(author))
            if len(ring.periods) > len(known.periods):
                found[author.node] = ring
    return found


def _accounts(
    home: Path, authors: Mapping[str, Author], *, alone: bool
) -> Iterator[tuple[Author, list[_Numbered]]]:
    """Whose logs a home tells of, and their entries that speak of keys.

    A home that is audited `alone` has its own changes in front of what they change.
    """
    for author in authors.values():
        with suppress(FileNotFoundError, RemoteError):
            data = read_file(home / PEERS / f"{author.node}{MIRROR}", MAX_TAIL_BYTES)
            yield author, list(_in_tail(data, 0))
    for _ in range(0 if alone else ATTEMPTS):
        with suppress(FileNotFoundError, RemoteError):
            owner = authors.get(node_id(first_entry(home / LEDGER)))
            if owner is not None:
                yield owner, list(_in_ledger(home / LEDGER))
            return


def _follow(found: Iterable[_Numbered], ring: Keyring, limits: Limits) -> Keyring:
    """The keyring after every good change among some entries."""
    for index, data in found:
        with suppress(RemoteError):
            ring = ring.follow(index, data, limits)
    return ring


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
