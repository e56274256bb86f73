"""Offline proofs that an entry is in a log (C2SP tlog-proof@v1).

    c2sp.org/tlog-proof@v1
    extra <base64>                 the entry itself, when it travels along
    index <decimal>
    <base64 hash>                  the inclusion proof, from the leaf's sibling upwards
    <empty line>
    <checkpoint note, verbatim>

A publisher sends with every artifact the proof of its own `artifact.publish` entry, the
entry in the extra line: whoever receives the artifact knows that it stands in the
publisher's log, and at which place.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import entries, merkle, note, policy
from konsil.protocol.checkpoint import Checkpoint, open_checkpoint, parse_decimal
from konsil.protocol.entries import Entry
from konsil.protocol.errors import EncodingRefused, LimitExceeded, ManifestRefused
from konsil.protocol.learning_bodies import ArtifactPublish
from konsil.protocol.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from konsil.protocol.fork import OpenHead
    from konsil.protocol.genesis import Author
    from konsil.protocol.identity import VerifyKey
    from konsil.protocol.policy import Policy, Satisfied

HEADER = "c2sp.org/tlog-proof@v1"


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An inclusion proof with the checkpoint it leads to; nothing in it is verified yet."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A verified publish entry of another log, and the checkpoint that proves it."""

    entry: Entry
    body: ArtifactPublish
    checkpoint: Checkpoint


def encode(proof: Proof) -> bytes:
    """The text of a proof."""
    lines = [HEADER]
    if proof.extra is not None:
        lines.append(f"extra {note.encode_base64(proof.extra)}")
    lines.append(f"index {proof.index}")
    lines.extend(note.encode_base64(item) for item in proof.hashes)
    return "\n".join(lines).encode() + b"\n\n" + proof.checkpoint


def decode(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Proof:
    """The proof in a text; nothing is verified. Raises `EncodingRefused` or `LimitExceeded`."""
    if len(data) > limits.proof_bytes:
        raise LimitExceeded(f"a proof of {len(data)} bytes (at most {limits.proof_bytes})")
    head, separator, checkpoint = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise EncodingRefused("proof: not ASCII") from error
    if not separator or lines.pop(0) != HEADER:
        raise EncodingRefused(f"proof: does not start with {HEADER}")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = note.decode_base64(lines.pop(0).removeprefix("extra "))
    if not lines or not lines[0].startswith("index "):
        raise EncodingRefused("proof: no index line")
    index = parse_decimal(lines.pop(0).removeprefix("index "), "proof index")
    if len(lines) > limits.proof_hashes:
        raise LimitExceeded(f"a proof of {len(lines)} hashes")
    hashes = tuple(note.decode_base64(line) for line in lines)
    return Proof(index=index, hashes=hashes, checkpoint=checkpoint, extra=extra)


def verify(
    proof: Proof,
    leaf: bytes,
    *,
    origin: str,
    key: VerifyKey,
    limits: Limits = DEFAULT_LIMITS,
) -> Checkpoint:
    """The checkpoint under which leaf hash `leaf` stands at `proof.index` of log `origin`.

    Raises `EncodingRefused`, `LimitExceeded`, `SignatureRefused` or `ManifestRefused`.
    """
    head = open_checkpoint(proof.checkpoint, origin=origin, key=key, limits=limits)
    merkle.verify_inclusion(leaf, proof.index, head.size, proof.hashes, head.root)
    return head


def check(
    data: bytes, trusted: Policy, *, leaf: bytes | None = None, limits: Limits = DEFAULT_LIMITS
) -> Satisfied:
    """The checkpoint, witnessed as `trusted` demands, under which a proof shows its entry.

    The entry is the one in the extra line, or the one with the leaf hash `leaf`. Raises
    `ManifestRefused` when neither is there, when both are and differ, or when the entry is
    not under the checkpoint, and whatever `decode` and `policy.evaluate` raise.
    """
    proof = decode(data, limits=limits)
    shown = merkle.leaf_hash(proof.extra) if proof.extra is not None else leaf
    if shown is None or (leaf is not None and leaf != shown):
        raise ManifestRefused("proof: the entry does not travel with it, or is another one")
    found = policy.evaluate(trusted, proof.checkpoint, limits=limits)
    head = found.checkpoint
    merkle.verify_inclusion(shown, proof.index, head.size, proof.hashes, head.root)
    return found


def open_published(data: bytes, author: Author, *, limits: Limits = DEFAULT_LIMITS) -> Published:
    """The publish entry that travels in a proof, verified to stand in the log of `author`.

    Raises `ManifestRefused` when the entry is missing, is no publish entry or does not stand
    where it says, and whatever `decode` and `verify` raise.
    """
    open_head = partial(
        open_checkpoint, origin=author.origin, key=author.keys["log"], limits=limits
    )
    return open_published_with(data, open_head, limits=limits)


def open_published_with(
    data: bytes, open_head: OpenHead, *, limits: Limits = DEFAULT_LIMITS
) -> Published:
    """As `open_published`, for a log whose keys changed: `open_head` knows which key signs when."""
    proof = decode(data, limits=limits)
    if proof.extra is None:
        raise ManifestRefused("proof: the entry does not travel with it")
    head = open_head(proof.checkpoint)
    leaf = merkle.leaf_hash(proof.extra)
    merkle.verify_inclusion(leaf, proof.index, head.size, proof.hashes, head.root)
    entry = entries.decode(proof.extra, limits=limits)
    if not isinstance(entry.b, ArtifactPublish) or entry.n != proof.index:
        raise ManifestRefused(f"proof: entry {entry.n} ({entry.t}) is no publish entry here")
    return Published(entry=entry, body=entry.b, checkpoint=head)
