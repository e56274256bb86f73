"""Cosignatures: a member vouches that a checkpoint continues what it knew of that log.

    — <witness's origin> <base64 of key id (4) ‖ u64 unix seconds (8) ‖ signature (64)>

C2SP tlog-cosignature, `cosignature/v1`, signature type 0x04. What is signed is the text of
the checkpoint behind a line of its own and the time, so a cosignature never reads as a log's
signature, nor the other way round. A wrong line by a known witness refuses the whole note; a
witness counts once, at its earliest time, however many keys it has or had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from konsil.protocol import checkpoint, note
from konsil.protocol.errors import (
    EncodingRefused,
    LimitExceeded,
    LocalProtocolError,
    SignatureRefused,
)
from konsil.protocol.identity import VerifyKey
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.note import NoteKey, SignatureLine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from konsil.protocol.identity import SigningKey

COSIGNATURE = 0x04
"""The signature type byte of a timestamped Ed25519 cosignature."""
TIME_BYTES = 8
SIGNATURE_BYTES = TIME_BYTES + 64
MAX_SECONDS = 2**63 - 1


class WitnessKey(NoteKey):
    """A public `wit` key under its owner's origin."""

    __slots__ = ()
    kind: ClassVar[int] = COSIGNATURE

    def verify(self, signature: bytes, text: str) -> None:
        """Return if this key cosigned `text` at the time in `signature`; else raise."""
        self.key.verify(signature[TIME_BYTES:], message(text, time_of(signature)))


def message(text: str, seconds: int) -> bytes:
    """The bytes that a witness signs over the text of a checkpoint."""
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()


def time_of(signature: bytes) -> int:
    """The unix seconds in a cosignature. Raises `SignatureRefused` for another length or era."""
    seconds = int.from_bytes(signature[:TIME_BYTES], "big")
    if len(signature) != SIGNATURE_BYTES or seconds > MAX_SECONDS:
        raise SignatureRefused(f"no cosignature of {len(signature)} bytes at {seconds}")
    return seconds


def sign(data: bytes, name: str, key: SigningKey, seconds: int) -> bytes:
    """The line by which `key` of witness `name` vouches for the checkpoint note `data`.

    Whether the checkpoint deserves it is decided before. Raises `EncodingRefused` for what is
    no checkpoint, `LocalProtocolError` for an impossible time or name.
    """
    if not 0 <= seconds <= MAX_SECONDS:
        raise LocalProtocolError(f"a cosignature at {seconds}")
    text, _ = note.parse(data)
    checkpoint.from_text(text)
    signature = seconds.to_bytes(TIME_BYTES, "big") + key.sign(message(text, seconds))
    marker = WitnessKey(name, key.public).key_id
    return SignatureLine(name=name, key_id=marker, signature=signature).text.encode()


def seen_by(
    data: bytes, witnesses: Sequence[WitnessKey], *, limits: Limits = DEFAULT_LIMITS
) -> dict[str, int]:
    """The earliest verified time of each known witness under a note, whoever else signed it.

    For a reader who opened the checkpoint by other means (`keyring`): the log's own signature
    is not looked at. Raises `EncodingRefused`, `LimitExceeded`, or `SignatureRefused` when a
    known witness's line is wrong.
    """
    text, lines = note.parse(data, limits=limits)
    best = _verified(lines, witnesses, text)
    return earliest([(witness, line.signature) for witness, line in best])


def earliest(signed: Sequence[tuple[NoteKey, bytes]]) -> dict[str, int]:
    """The earliest time of each witness among verified signatures; other keys say no time."""
    times: dict[str, int] = {}
    for signer, signature in signed:
        if isinstance(signer, WitnessKey):
            seconds = time_of(signature)
            times[signer.name] = min(seconds, times.get(signer.name, seconds))
    return times


def merge(
    data: bytes,
    lines: bytes,
    witnesses: Sequence[WitnessKey],
    *,
    limits: Limits = DEFAULT_LIMITS,
) -> bytes:
    """The note `data` with the cosignatures of known witnesses among `lines` added.

    Law: the order and the number of merges do not matter. The lines of others stay first and
    as they were; behind them stands each key of a known witness once, with its earliest time,
    sorted. Lines of strangers are not taken over. Raises `EncodingRefused`, `LimitExceeded`
    (also when the result would be too large for a reader), or `SignatureRefused` for a wrong
    line of a known witness.
    """
    text, present = note.parse(data, limits=limits)
    fresh = note.parse_lines(lines, limits=limits) if lines else ()
    best: dict[tuple[str, bytes], SignatureLine] = {}
    for _, line in _verified((*present, *fresh), witnesses, text):
        place = (line.name, line.key_id)
        # The time comes first in the bytes, so the smaller signature is the earlier one.
        if place not in best or line.signature < best[place].signature:
            best[place] = line
    known = {(witness.name, witness.key_id) for witness in witnesses}
    others = [line for line in present if (line.name, line.key_id) not in known]
    merged = [*others, *(best[place] for place in sorted(best))]
    whole = "".join((text, "\n", *(line.text for line in merged))).encode()
    if len(merged) > limits.note_signatures or len(whole) > limits.proof_bytes:
        raise LimitExceeded(f"a note with {len(merged)} signatures in {len(whole)} bytes")
    return whole


def open_vkey(text: str) -> NoteKey:
    """The key in a C2SP verifier key: a log's (type 0x01) or a witness's (type 0x04).

    Raises `EncodingRefused` for another form or type, or a key id that is not that of the key,
    and `SignatureRefused` for a public key that is refused.
    """
    name, marker, material = [*text.split("+", 2), "", ""][:3]
    raw = note.decode_base64(material)
    kinds = {kind.kind: kind for kind in (NoteKey, WitnessKey)}
    if not note.is_key_name(name) or raw[:1] not in {bytes([kind]) for kind in kinds}:
        raise EncodingRefused(f"no verifier key of a known type: `{text[:64]}`")
    key = kinds[raw[0]](name, VerifyKey(raw[1:]))
    if key.key_id.hex() != marker:
        raise EncodingRefused(f"verifier key of {name}: its id is {key.key_id.hex()}")
    return key


def quorum(members: int, liars: int) -> int:
    """How many of `members` must vouch so that two quorums share a member who is no liar.

    Law: two sets of that many members have more than `liars` members in common. It can be
    reached without the liars' help only if members ≥ 3·liars + 1.

    >>> [quorum(4, 1), quorum(5, 1), quorum(7, 2), quorum(10, 3)]
    [3, 4, 5, 7]
    """
    if not 0 <= liars < members:
        raise LocalProtocolError(f"no quorum of {members} members with {liars} liars")
    return (members + liars) // 2 + 1


def _verified(
    lines: Sequence[SignatureLine], witnesses: Sequence[WitnessKey], text: str
) -> list[tuple[WitnessKey, SignatureLine]]:
    known = {(witness.name, witness.key_id): witness for witness in witnesses}
    found: list[tuple[WitnessKey, SignatureLine]] = []
    for line in lines:
        witness = known.get((line.name, line.key_id))
        if witness is not None:
            witness.verify(line.signature, text)
            found.append((witness, line))
    return found
