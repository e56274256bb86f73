"""Two copies of one log: where they part, found by the hashes of whole subtrees.

The first complete subtree whose hashes differ is entered, and its left or right half after it,
so that only one group of entries is looked at. A copy that does not verify is compared all the
same; that it does not is part of the answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from konsil.protocol import merkle
from konsil.protocol.entries import Entry
from konsil.protocol.errors import (
    IncompleteError,
    ManifestRefused,
    UsageError,
    VerificationError,
)
from konsil.protocol.genesis import Author
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.trust.questions.words import plain
from konsil.trust.reading import walk_ledger
from konsil.trust.report import TAMPERED
from konsil.trust.sources import ledger_of
from konsil.trust.structure import Place, Structure

Relation = Literal["equal", "prefix", "divergent"]


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """One of the copies."""

    home: Path
    size: int
    signed: int
    """Entries under its checkpoint."""
    fault: str
    """The first thing that does not verify; empty when all does."""
    entry: Entry | None
    """Its entry at the first divergent index, where it can be read."""


class Divergence(msgspec.Struct, frozen=True, kw_only=True):
    """How two copies of one log relate."""

    author: Author
    relation: Relation
    first: int | None
    """The first index at which they differ; with `prefix` the first that one of them lacks."""
    one: Copy
    other: Copy
    differs: tuple[str, ...]
    """The fields that differ in the two entries there."""

    @property
    def forked(self) -> bool:
        """Whether the author signed for both: a fork, not merely a changed file."""
        first = self.first
        return (
            self.relation == "divergent"
            and first is not None
            and not (self.one.fault or self.other.fault)
            and min(self.one.signed, self.other.signed) > first
        )

    @property
    def sound(self) -> bool:
        """Whether nothing speaks against either copy."""
        return self.relation != "divergent" and not (self.one.fault or self.other.fault)


class _Read(msgspec.Struct, frozen=True):
    structure: Structure
    entries: dict[int, Entry]
    fault: str


def diff(home: Path, other: Path, *, limits: Limits = DEFAULT_LIMITS) -> Divergence:
    """Compares the logs of two homes.

    Raises `UsageError` when they are not copies of one log, `VerificationError` when one is so
    damaged that it has no author, `IncompleteError` when a part cannot be read again,
    `UsageError` and `StorageError` as `ledger_of` does.
    """
    first, second = (_read(path, limits) for path in (home, other))
    authors = first.structure.author, second.structure.author
    if authors[0] is None or authors[1] is None:
        read = first if authors[0] is None else second
        raise VerificationError(
            read.fault or f"{home}: no genesis entry says whose log this is",
            hint="nothing is left to compare; run: konsil audit verify",
        )
    if authors[0].node != authors[1].node:
        raise UsageError(
            f"these are two logs: of {authors[0].name} ({authors[0].node}) and of"
            f" {authors[1].name} ({authors[1].node})",
            hint="name two copies of one log; different logs: konsil audit verify",
        )
    sizes = first.structure.size, second.structure.size
    size = min(sizes)
    try:
        at = first_difference(first.structure, second.structure, size)
    except ManifestRefused as error:
        raise IncompleteError(error.message, hint="run: konsil audit verify") from error
    relation: Relation = "divergent" if at is not None else "equal"
    if at is None and sizes[0] != sizes[1]:
        relation, at = "prefix", size
    pair = tuple(None if at is None else read.entries.get(at) for read in (first, second))
    return Divergence(
        author=authors[0],
        relation=relation,
        first=at,
        one=_copy(home, first, pair[0]),
        other=_copy(other, second, pair[1]),
        differs=_differing(pair[0], pair[1]) if relation == "divergent" else (),
    )


def first_difference(one: Structure, other: Structure, size: int) -> int | None:
    """The first of `size` leaves that differs; None when none does.

    Raises `ManifestRefused` when a group cannot be read again.
    """
    for level, index in merkle.cover(0, size):
        if one.node(level, index) == other.node(level, index):
            continue
        while level:
            level, index = level - 1, 2 * index
            index += one.node(level, index) == other.node(level, index)
        return index
    return None


def _read(home: Path, limits: Limits) -> _Read:
    entries: dict[int, Entry] = {}

    def keep(place: Place, entry: Entry) -> None:
        entries[place.index] = entry

    structure, findings = walk_ledger(ledger_of(home), keep, again=entries.clear, limits=limits)
    broken = [found.line() for found in findings.found if found.exit_code == TAMPERED]
    return _Read(structure, entries, next(iter(broken), ""))


def _copy(home: Path, read: _Read, entry: Entry | None) -> Copy:
    head = read.structure.head
    return Copy(
        home=home,
        size=read.structure.size,
        signed=0 if head is None else head.size,
        fault=read.fault,
        entry=entry,
    )


def _differing(one: Entry | None, other: Entry | None) -> tuple[str, ...]:
    """The fields that two entries say differently; those of the body by their names."""
    if one is None or other is None:
        return ()
    words = {"c": "charter", "s": "salt", "t": "type", "ts": "time"}
    found = [word for field, word in words.items() if getattr(one, field) != getattr(other, field)]
    if one.t == other.t:
        mine, theirs = plain(one.b), plain(other.b)
        found += [field for field in mine if mine[field] != theirs[field]]
    return tuple(found)
