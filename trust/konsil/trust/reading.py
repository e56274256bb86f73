"""Reading a ledger's entries from its files: for whoever asks what a node has done.

Read-only, and only what verifies: positions, hashes, tree and signature are recomputed on the
way, so no answer rests on bytes that somebody changed. A running node may write meanwhile;
what it appends during the reading is looked at next time.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol.entries import Entry
from konsil.protocol.errors import StorageError, VerificationError
from konsil.protocol.genesis import Author
from konsil.protocol.keyring import Keyring
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.node_bodies import KeyRevoke, KeyRotate, LogRedact
from konsil.trust.hidden import explains
from konsil.trust.layout import scan
from konsil.trust.report import TAMPERED, Findings
from konsil.trust.sources import ATTEMPTS, require_ledger
from konsil.trust.walking import walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from konsil.trust.structure import Place, Structure


class Told(msgspec.Struct, frozen=True):
    """Who writes a ledger, and its entries in order."""

    author: Author
    entries: tuple[Entry, ...]
    lacking: int = 0
    """Entries that are not here, and of which no `log.redact` that holds says why."""
    redacted: Mapping[int, str] = MappingProxyType({})
    """The types of the entries whose bodies a `log.redact` took away, by index."""

    def keyring(self) -> Keyring:
        """Every key that the author ever had. Raises `RemoteError` for an impossible change."""
        return keyring_of(self.author, self.entries)


def keyring_of(author: Author, entries: Iterable[Entry]) -> Keyring:
    """Every key that `author` ever had, by the entries of its log in order.

    Raises `RemoteError` for an impossible change.
    """
    keys = Keyring.of(author)
    for entry in entries:
        if isinstance(entry.b, KeyRotate | KeyRevoke):
            keys = keys.after(entry.n, entry.b)
    return keys


def read_entries(folder: Path, *, limits: Limits = DEFAULT_LIMITS) -> tuple[Entry, ...]:
    """The entries of the ledger in `folder`, in order. Raises as `read_ledger` does."""
    return read_ledger(folder, limits=limits).entries


def read_ledger(folder: Path, *, limits: Limits = DEFAULT_LIMITS) -> Told:
    """What the ledger in `folder` tells; entries of an unknown type are left out.

    A frame that is being written, or was torn by a crash, is not among them. Raises
    `VerificationError` naming what was changed, and `StorageError` when there is no ledger.
    """
    read: list[Entry] = []

    def keep(_: Place, entry: Entry) -> None:
        read.append(entry)

    structure, findings = walk_ledger(folder, keep, again=read.clear, limits=limits)
    broken = [found for found in findings.found if found.exit_code == TAMPERED]
    if broken or structure.author is None:
        what = broken[0].line() if broken else f"{folder}: no genesis entry"
        raise VerificationError(what, hint="run: konsil audit verify")
    redacted = _redacted(structure, read)
    lacking = len(structure.lost) + len(structure.pruned) - len(redacted)
    return Told(structure.author, tuple(read), lacking, redacted)


def _redacted(structure: Structure, read: Sequence[Entry]) -> dict[int, str]:
    kinds = {
        (entry.b.index, entry.b.leaf): entry.b.kind
        for entry in read
        if isinstance(entry.b, LogRedact) and explains(entry.b, entry.n)
    }
    gone = {one.place.index: (one.place.index, one.leaf) for one in structure.pruned}
    return {index: kinds[key] for index, key in gone.items() if key in kinds}


def walk_ledger(
    folder: Path,
    take: Callable[[Place, Entry], None],
    *,
    again: Callable[[], None] = lambda: None,
    limits: Limits = DEFAULT_LIMITS,
) -> tuple[Structure, Findings]:
    """The structure of the ledger in `folder`, and whatever is wrong with it.

    `take` gets every readable entry; `again` is called before the files are read once more,
    because a running node replaced one meanwhile. Raises `StorageError`.
    """
    require_ledger(folder)
    for _ in range(ATTEMPTS):
        findings = Findings(folder.name)
        try:
            return walk(scan(folder, findings), findings, limits, take), findings
        except FileNotFoundError as error:
            gone = error.filename
            again()
    raise StorageError(f"{gone}: disappeared while it was read", hint="try again")
