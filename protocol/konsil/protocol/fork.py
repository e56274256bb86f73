"""Fork proofs: two checkpoints that one log signed and that cannot be of one history.

    konsil fork-proof@v1
    <base64 hash>                  with consistency: the root at the smaller size, then the proof
    <empty line>
    <checkpoint note A>
    <empty line>
    <checkpoint note B>            not larger than A

Equal sizes: no hashes, and the roots differ. Otherwise the hashes lead from a root r′ at the
size of B to the root of A, and r′ is not the root of B. Under A there is one root at each
smaller size, so nobody can find such an r′ against a log that only ever appended; a proof that
does not hold, a missing answer and a size that is behind prove nothing. A thief of the log's
key can fork it as its owner can; which signatures a revocation makes void, the keyring says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import checkpoint, merkle, note
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.errors import (
    EncodingRefused,
    LimitExceeded,
    ManifestRefused,
)
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.witness import decode_hashes

if TYPE_CHECKING:
    from konsil.protocol.identity import VerifyKey

HEADER = "konsil fork-proof@v1"

OpenHead = Callable[[bytes], Checkpoint]
"""Verifies a checkpoint note of one log: `open_with`, or a keyring's `open_checkpoint`."""


class ForkProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Two notes and the hashes that set them against each other; nothing is verified yet."""

    hashes: tuple[bytes, ...]
    newer: bytes
    older: bytes


class Fork(msgspec.Struct, frozen=True, kw_only=True):
    """A proven fork of one log: two heads that it signed, `newer.size` ≥ `older.size`."""

    newer: Checkpoint
    older: Checkpoint


def open_with(*, origin: str, key: VerifyKey, limits: Limits = DEFAULT_LIMITS) -> OpenHead:
    """What verifies checkpoints of the log `origin` as long as its key is `key`."""
    return partial(checkpoint.open_checkpoint, origin=origin, key=key, limits=limits)


def build(first: bytes, second: bytes, hashes: Sequence[bytes] = ()) -> bytes:
    """The fork proof over two checkpoint notes, in either order; one pair has one proof.

    Whether it proves anything is for `verify` to say. Raises `EncodingRefused` for what is no
    checkpoint note.
    """
    pair = [first, second]
    pair.sort(key=lambda item: (checkpoint.from_text(note.parse(item)[0]).size, item))
    return encode(ForkProof(hashes=tuple(hashes), newer=pair[1], older=pair[0]))


def build_from_tree(first: bytes, second: bytes, nodes: merkle.Nodes) -> bytes:
    """As `build`, the hashes from the tree under the larger one of the two checkpoints."""
    sizes = sorted(checkpoint.from_text(note.parse(item)[0]).size for item in (first, second))
    if sizes[0] in (0, sizes[1]):
        return build(first, second)
    root = merkle.range_root(nodes, 0, sizes[0])
    return build(first, second, [root, *merkle.consistency_proof(nodes, *sizes)])


def encode(proof: ForkProof) -> bytes:
    """The bytes of a fork proof."""
    lines = [HEADER, *(note.encode_base64(item) for item in proof.hashes)]
    return "\n".join(lines).encode() + b"\n\n" + proof.newer + b"\n" + proof.older


def decode(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> ForkProof:
    """The fork proof in some bytes; nothing is verified.

    Raises `EncodingRefused` or `LimitExceeded`.
    """
    if len(data) > limits.message_bytes:
        raise LimitExceeded(f"a fork proof of {len(data)} bytes")
    parts = data.split(b"\n\n")
    if len(parts) != 5:
        raise EncodingRefused("fork proof: not a head and two checkpoints")
    head, *notes = parts
    try:
        first, *lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise EncodingRefused("fork proof: not ASCII") from error
    if first != HEADER:
        raise EncodingRefused(f"fork proof: does not start with {HEADER}")
    # The root at the smaller size stands before a consistency proof of the usual length.
    hashes = decode_hashes(lines[:1], limits=limits) + decode_hashes(lines[1:], limits=limits)
    newer = notes[0] + b"\n\n" + notes[1] + b"\n"
    return ForkProof(hashes=hashes, newer=newer, older=notes[2] + b"\n\n" + notes[3])


def verify(data: bytes, *, origin: str, key: VerifyKey, limits: Limits = DEFAULT_LIMITS) -> Fork:
    """The fork of the log `origin` with key `key` that some bytes prove.

    Raises `EncodingRefused`, `LimitExceeded`, `SignatureRefused` when the log did not sign
    both checkpoints, and `ManifestRefused` when they can be of one history.
    """
    return verify_with(data, open_with(origin=origin, key=key, limits=limits), limits=limits)


def verify_with(data: bytes, open_head: OpenHead, *, limits: Limits = DEFAULT_LIMITS) -> Fork:
    """As `verify`, for a log whose keys changed: `open_head` knows which key signs when.

    `open_head` must verify checkpoints of one log only, whatever they say of themselves.
    """
    proof = decode(data, limits=limits)
    newer, older = open_head(proof.newer), open_head(proof.older)
    contradict(newer, older, proof.hashes)
    return Fork(newer=newer, older=older)


def contradict(newer: Checkpoint, older: Checkpoint, hashes: Sequence[bytes]) -> None:
    """Return if two heads, both signed by their log, cannot be of one history.

    Raises `ManifestRefused` if they can, or if the hashes do not show it.
    """
    if newer.origin != older.origin:
        raise ManifestRefused(f"{newer.origin} and {older.origin} are two logs")
    if newer.size < older.size:
        raise ManifestRefused("fork proof: the larger checkpoint comes first")
    if newer.size == older.size:
        if hashes or newer.root == older.root:
            raise ManifestRefused(f"no fork: one root at {newer.size}, or hashes beside it")
        return
    if not hashes:
        raise ManifestRefused("no fork: nothing shows what the larger tree holds")
    root, *proof = hashes
    merkle.verify_consistency(older.size, newer.size, proof, root, newer.root)
    if root == older.root:
        raise ManifestRefused(f"no fork: {newer.size} entries extend these {older.size}")


def shown_root(old: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """The root at `old` that a consistency proof to `size` itself speaks of; not verified.

    None where it leaves that root out, as RFC 9162 does when `old` is a power of two, and for
    what is no such proof. With it, a proof that fails against the root that we know may still
    prove a fork.
    """
    if not 0 < old < size or old & (old - 1) == 0 or not proof:
        return None
    position, last = old - 1, size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    found = proof[0]
    for item in proof[1:]:
        if position & 1 or position == last:
            found = merkle.node_hash(item, found)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        position, last = position >> 1, last >> 1
    return found
