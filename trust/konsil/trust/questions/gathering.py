"""Several homes read at once: what their ledgers tell, the blobs beside them, who is who.

Every ledger is verified while it is read, and a blob is handed out only when its bytes are
those of its name; so an answer never rests on bytes that somebody changed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol.errors import IncompleteError, RemoteError, UsageError, VerificationError
from konsil.protocol.keyring import Keyring
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.trust.audit import known_authors
from konsil.trust.layout import MAX_BLOB_BYTES
from konsil.trust.printable import printable
from konsil.trust.questions.words import plural
from konsil.trust.reading import Told, read_ledger
from konsil.trust.report import Findings
from konsil.trust.sources import BLOBS, Blobs, ledger_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from konsil.protocol.entries import Entry
    from konsil.protocol.genesis import Author

_HEX = re.compile(r"[0-9a-f]{1,64}")


class GivenHome(msgspec.Struct, frozen=True, kw_only=True):
    """One home: where it lies, what its ledger tells, and its blobs."""

    path: Path
    told: Told
    keys: Keyring
    blobs: Blobs

    @property
    def node(self) -> str:
        """The node id of the home's owner."""
        return self.told.author.node


class Gathered:
    """The homes in the order in which they were given, and every member they know."""

    def __init__(self, homes: Sequence[GivenHome], authors: dict[str, Author]) -> None:
        self.homes = tuple(homes)
        self.authors = authors
        self._keys = {home.node: home.keys for home in reversed(self.homes)}

    def name(self, node: str) -> str:
        """The short name of a node, or the start of its id."""
        author = self.authors.get(node)
        return f"{node[:8]}…" if author is None else author.name

    def names(self) -> dict[str, str]:
        """The short name of every known member, by node id."""
        return {node: author.name for node, author in self.authors.items()}

    def keys_of(self, node: str) -> Keyring | None:
        """The keys of a member; from its genesis entry alone when its home is not given."""
        author = self.authors.get(node)
        return self._keys.get(node) or (None if author is None else Keyring.of(author))

    def entries(self) -> Iterator[tuple[GivenHome, Entry]]:
        """Every entry of every log, each log once and in order."""
        seen: set[str] = set()
        for home in self.homes:
            if home.node not in seen:
                seen.add(home.node)
                for entry in home.told.entries:
                    yield home, entry

    def lacking(self) -> str:
        """Which ledgers lack entries, in words; empty when all entries are here."""
        short = {home.node: home.told.lacking for home in self.homes if home.told.lacking}
        words = (f"{plural(count, 'entry')} of {self.name(node)}" for node, count in short.items())
        return f"not here: {', '.join(words)}" if short else ""

    def redacted(self, kind: str) -> str:
        """Which ledgers lack bodies of a type by their own word, in words; empty when none does."""
        counts = {home.node: [*home.told.redacted.values()].count(kind) for home in self.homes}
        words = (f"{count} {kind} of {self.name(node)}" for node, count in counts.items() if count)
        told = ", ".join(words)
        return f"redacted: {told}" if told else ""

    def blob(self, digest: bytes, limit: int) -> bytes | None:
        """A blob from whichever home has it; None when none has it as its name says."""
        for home in self.homes:
            data = home.blobs.get(digest, limit)
            if data is not None:
                return data
        return None

    def member(self, word: str) -> str:
        """The node id of the one known member with this name or beginning of an id.

        Raises `UsageError` when there are several, `IncompleteError` when there is none.
        """
        named = [node for node, author in self.authors.items() if author.name == word]
        found = named or [node for node in self.authors if word and node.startswith(word)]
        if len(found) == 1:
            return found[0]
        known = ", ".join(sorted(author.name for author in self.authors.values()))
        if found:
            ids = ", ".join(node[:12] for node in sorted(found))
            raise UsageError(f"{len(found)} members are meant by `{printable(word)}`: {ids}…")
        raise IncompleteError(
            f"no given home knows a member `{printable(word)}`", hint=f"known are: {known}"
        )


def gather(
    homes: Sequence[Path],
    *,
    left_out: dict[Path, str] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Gathered:
    """What the ledgers of these homes tell, verified.

    Homes whose files do not verify go to `left_out` with the reason, where that is given.
    Otherwise raises `VerificationError`; `UsageError` when there is no such home, and
    `StorageError` when one cannot be read.
    """
    folders = [ledger_of(home) for home in homes]
    authors = known_authors(homes, limits)
    found = []
    for home, folder in zip(homes, folders, strict=True):
        try:
            found.append(_given(home, folder, limits))
        except VerificationError as error:
            if left_out is None:
                raise
            left_out[home] = error.message
    return Gathered(found, authors)


def _given(home: Path, folder: Path, limits: Limits) -> GivenHome:
    told = read_ledger(folder, limits=limits)
    try:
        keys = told.keyring()
    except RemoteError as error:
        raise VerificationError(
            f"{folder}: {error.message}", hint="run: konsil audit verify"
        ) from error
    store = Blobs(Findings(printable(home.name)))
    store.add(folder / BLOBS, {}, MAX_BLOB_BYTES)
    store.add(home / BLOBS, {}, limits.payload_bytes)
    return GivenHome(path=home, told=told, keys=keys, blobs=store)


def hex_start(word: str) -> str:
    """The beginning of a digest as lower-case hexadecimal. Raises `UsageError`."""
    lower = word.lower()
    if not _HEX.fullmatch(lower):
        raise UsageError(
            f"`{printable(word[:80])}` is no digest",
            hint="a digest is up to 64 hexadecimal digits; its beginning is enough",
        )
    return lower
