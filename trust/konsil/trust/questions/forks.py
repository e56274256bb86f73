"""A fork proof from a file, verified with nothing but the keys of its log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import fork
from konsil.protocol.errors import RemoteError, VerificationError
from konsil.protocol.fork import Fork
from konsil.trust.questions.strangers import origin_of

if TYPE_CHECKING:
    from konsil.trust.questions.strangers import Known


class ProvenFork(msgspec.Struct, frozen=True, kw_only=True):
    """A fork that is proven: whose, and between which two signed heads."""

    origin: str
    name: str
    """The short name of the author."""
    fork: Fork

    @property
    def verdict(self) -> str:
        """Who forked and where, in one line."""
        newer, older = self.fork.newer, self.fork.older
        if newer.size == older.size:
            where = f"it signed two different logs of {newer.size} entries"
        else:
            where = f"it signed {older.size} entries that are not among the {newer.size} it signed"
        return (
            f"{self.name} ({self.origin}) forked its log: {where};"
            f" they part before entry {older.size}"
        )

    def lines(self) -> list[str]:
        """Both signed heads in lines for a person."""
        pair = (self.fork.newer, self.fork.older)
        return [f"signed: {head.size} entries with the root {head.root.hex()}" for head in pair]

    def to_data(self) -> dict[str, object]:
        """The fork as plain data."""
        heads = {"newer": self.fork.newer, "older": self.fork.older}
        return {
            "kind": "fork",
            "proven": True,
            "origin": self.origin,
            "name": self.name,
            "verdict": self.verdict,
            **{word: {"size": head.size, "root": head.root.hex()} for word, head in heads.items()},
        }


def check_fork(data: bytes, known: Known) -> ProvenFork:
    """The fork that some bytes prove, of a log whose key is known.

    Raises `VerificationError` when they prove none, and `IncompleteError` when the signer is
    not known.
    """
    try:
        origin = origin_of(fork.decode(data).newer)
        found = fork.verify_with(data, known.reader(origin))
    except RemoteError as error:
        raise VerificationError(
            f"this proves no fork: {error.message}", hint="nobody is accused by it"
        ) from error
    return ProvenFork(origin=origin, name=known.name(origin), fork=found)
