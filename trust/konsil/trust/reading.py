"""Reading a ledger's entries from its files: for whoever asks what a node has done.

Read-only, and only what verifies: positions, hashes, tree and signature are recomputed on the
way, so no answer rests on bytes that somebody changed. A running node may write meanwhile;
what it appends during the reading is looked at next time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.protocol.entries import Entry
from konsil.protocol.errors import StorageError, VerificationError
from konsil.protocol.genesis import Author
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.trust.layout import scan
from konsil.trust.report import TAMPERED, Findings
from konsil.trust.sources import ATTEMPTS, require_ledger
from konsil.trust.structure import Place, walk

if TYPE_CHECKING:
    from pathlib import Path


class Told(msgspec.Struct, frozen=True):
    """Who writes a ledger, and its entries in order."""

    author: Author
    entries: tuple[Entry, ...]


def read_entries(folder: Path, *, limits: Limits = DEFAULT_LIMITS) -> tuple[Entry, ...]:
    """The entries of the ledger in `folder`, in order. Raises as `read_ledger` does."""
    return read_ledger(folder, limits=limits).entries


def read_ledger(folder: Path, *, limits: Limits = DEFAULT_LIMITS) -> Told:
    """What the ledger in `folder` tells; entries of an unknown type are left out.

    A frame that is being written, or was torn by a crash, is not among them. Raises
    `VerificationError` naming what was changed, and `StorageError` when there is no ledger.
    """
    require_ledger(folder)
    for _ in range(ATTEMPTS):
        try:
            return _attempt(folder, limits)
        except FileNotFoundError as error:
            gone = error.filename
    raise StorageError(f"{gone}: disappeared while it was read", hint="try again")


def _attempt(folder: Path, limits: Limits) -> Told:
    findings = Findings(folder.name)
    read: list[Entry] = []

    def keep(_: Place, entry: Entry) -> None:
        read.append(entry)

    author = walk(scan(folder, findings), findings, limits, keep).author
    broken = [found for found in findings.found if found.exit_code == TAMPERED]
    if broken or author is None:
        what = broken[0].line() if broken else f"{folder}: no genesis entry"
        raise VerificationError(what, hint="run: konsil audit verify")
    return Told(author, tuple(read))
