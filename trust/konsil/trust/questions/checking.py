"""A proof from a file, verified without any ledger: the entry in it stands in that log.

With a policy the checkpoint must also be witnessed as the policy demands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import entries, fork, merkle, policy, proof
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.entries import Entry, Frame
from konsil.protocol.errors import (
    EncodingRefused,
    IncompleteError,
    ManifestRefused,
    RemoteError,
    VerificationError,
)
from konsil.trust.printable import printable
from konsil.trust.questions.forks import ProvenFork, check_fork
from konsil.trust.questions.proving import FILE_LIMITS
from konsil.trust.questions.strangers import origin_of
from konsil.trust.questions.words import describe, plain, when

if TYPE_CHECKING:
    from konsil.trust.questions.strangers import Known


class HeldProof(msgspec.Struct, frozen=True, kw_only=True):
    """A proof that holds, and what it shows."""

    name: str
    head: Checkpoint
    frame: Frame
    entry: Entry | None
    """The typed entry; None when its type is not known here."""
    witnesses: dict[str, int] | None
    """Who vouches since when (seconds), by the names of the policy; None without a policy."""

    @property
    def verdict(self) -> str:
        """What is proven, in one line."""
        size, origin = self.head.size, self.head.origin
        place = f"entry {self.frame.n} of {size}"
        words = f"it holds: this is {place} of the log of {self.name} ({origin})"
        if self.witnesses is None:
            return f"{words}, by its own signature; no witness was asked for (--policy)"
        return f"{words}, witnessed by {', '.join(sorted(self.witnesses)) or 'nobody'}"

    def lines(self) -> list[str]:
        """The proof in lines for a person."""
        frame = self.frame
        said = "" if self.entry is None else describe(self.entry.b, lambda node: node[:8] + "…")
        lines = [
            self.verdict,
            f"{frame.t}, {when(frame.ts)}: {said or 'a type that is not known here'}",
            f"under the root {self.head.root.hex()} of {self.head.size} entries",
        ]
        for name, seconds in sorted((self.witnesses or {}).items()):
            lines.append(f"{name} vouches for it since {when(1000 * seconds)}")
        return [printable(line) for line in lines]

    def to_data(self) -> dict[str, object]:
        """The proof as plain data."""
        return {
            "kind": "proof",
            "origin": self.head.origin,
            "name": self.name,
            "index": self.frame.n,
            "size": self.head.size,
            "root": self.head.root.hex(),
            "type": self.frame.t,
            "time_ms": self.frame.ts,
            "entry": None if self.entry is None else plain(self.entry.b),
            "witnesses": self.witnesses,
            "verdict": self.verdict,
        }


def check(data: bytes, known: Known) -> HeldProof | ProvenFork:
    """What a proof file shows; its first line says which kind it is.

    Raises `VerificationError` when it does not hold, and `IncompleteError` when its signer is
    not known or the entry does not travel with it.
    """
    header, _, _ = data.partition(b"\n")
    if header == _FORK:
        return check_fork(data, known)
    if header != proof.HEADER.encode():
        shown = printable(header[:40].decode("latin-1"))
        raise VerificationError(
            f"neither a tlog-proof nor a fork proof: it begins with `{shown}`",
            hint="make one: konsil audit prove HOME INDEX -o FILE",
        )
    try:
        return _check_proof(data, known)
    except RemoteError as error:
        raise VerificationError(
            f"the proof does not hold: {error.message}", hint="ask its maker for another one"
        ) from error


_FORK = fork.HEADER.encode()


def _check_proof(data: bytes, known: Known) -> HeldProof:
    shown = proof.decode(data, limits=FILE_LIMITS)
    if shown.extra is None:
        raise IncompleteError(
            "the proof comes without its entry, so nothing tells what it is a proof of",
            hint="make one with the entry in it: konsil audit prove",
        )
    origin = origin_of(shown.checkpoint, limits=FILE_LIMITS)
    head = known.reader(origin, limits=FILE_LIMITS)(shown.checkpoint)
    leaf = merkle.leaf_hash(shown.extra)
    merkle.verify_inclusion(leaf, shown.index, head.size, shown.hashes, head.root)
    frame = entries.peek(shown.extra, limits=FILE_LIMITS)
    if frame.n != shown.index:
        raise ManifestRefused(f"entry {frame.n} stands at index {shown.index}")
    rules = known.policy_for(origin)
    times = None
    if rules is not None:
        times = policy.evaluate(rules, shown.checkpoint, limits=FILE_LIMITS).times
    return HeldProof(
        name=known.name(origin),
        head=head,
        frame=frame,
        entry=_opened(frame),
        witnesses=None if times is None else dict(times),
    )


def _opened(frame: Frame) -> Entry | None:
    """The typed entry in a frame; None for a type that this version does not know."""
    if frame.t not in entries.TYPES:
        return None
    try:
        return entries.open_frame(frame)
    except EncodingRefused as error:
        raise ManifestRefused(error.message) from error
