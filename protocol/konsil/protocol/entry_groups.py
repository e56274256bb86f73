"""Neighbouring ledger entries of one moment, encoded together.

Byte for byte what `entries.encode` makes of each of them, and refused with the same words: the
bodies are packed at once, and the frame around each is put together from the pieces that the
encoder writes, for only the position and the salt differ. Where that is not sure to be right,
every entry is encoded alone. It draws no salts and reads no clock.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from konsil.protocol.batches import cut, pack_all
from konsil.protocol.entries import RULED, SALT_BYTES, TYPES, encode, entry, fault_of
from konsil.protocol.errors import LocalProtocolError
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.records import ENCODER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import msgspec

    from konsil.protocol.entries import Body

_GROUP = 6
"""So many entries are quicker to encode together than one by one."""
_LAST = 2**63 - 1
"""The last position that an entry can have (`fields.Count`)."""
_WORDS: Mapping[type, bytes] = MappingProxyType(
    {body: ENCODER.encode(word) for word, body in TYPES.items()}
)


def encode_group(
    bodies: Sequence[Body],
    *,
    index: int,
    time_ms: int,
    salts: Sequence[bytes],
    charter: bytes,
    limits: Limits = DEFAULT_LIMITS,
) -> list[bytes]:
    """The canonical bytes of neighbouring entries of one moment, the first at `index`.

    The same as `encode` of each, and raises the same; a group costs less than its entries.
    """

    def alone(at: int) -> bytes:
        one = entry(bodies[at], index=index + at, time_ms=time_ms, salt=salts[at], charter=charter)
        return encode(one, limits=limits)

    if len(bodies) != len(salts):
        raise LocalProtocolError(f"{len(salts)} salts for {len(bodies)} entries")
    packed = _packed(bodies, salts, limits)
    if packed is not None:
        # Only what is counted or was checked differs from frame to frame: one speaks for all.
        first = alone(0)
        found = _framed(packed, bodies, (index, time_ms, charter), salts)
        counted = index + len(bodies) - 1 <= _LAST
        if counted and found[0] == first and max(map(len, found)) <= _bound(limits):
            return found
    return [alone(at) for at in range(len(bodies))]


def _bound(limits: Limits) -> int:
    """So long an entry is surely within both limits: a value takes a byte at least."""
    return min(limits.entry_bytes, limits.items)


def _packed(
    bodies: Sequence[Body], salts: Sequence[bytes], limits: Limits
) -> list[msgspec.Raw] | None:
    """The bytes of all bodies when all surely keep every rule, and so do the salts."""
    if len(bodies) < _GROUP or not _WORDS.keys() >= {*map(type, bodies)}:
        return None
    if {*map(type, salts)} != {bytes} or {*map(len, salts)} != {SALT_BYTES}:
        return None
    packed = pack_all(bodies, limits)
    ruled = (body for body in bodies if type(body) in RULED)
    return None if packed is None or any(map(fault_of, ruled)) else packed


def _framed(
    packed: Sequence[msgspec.Raw],
    bodies: Sequence[Body],
    frame: tuple[int, int, bytes],
    salts: Sequence[bytes],
) -> list[bytes]:
    """Packed bodies in their frames, whose keys stand in the order of the alphabet."""
    start, time_ms, charter = frame
    write, join = ENCODER.encode, b"".join
    numbers = cut(write(list(range(start, start + len(packed)))))
    before, salted = b"\xa1c" + write(charter) + b"\xa1n", b"\xa1s\xc4\x10"
    when = b"\xa2ts" + write(time_ms) + b"\xa1v\x01"
    kinds = [*map(type, bodies)]
    after = {kind: b"\xa1t" + _WORDS[kind] + when for kind in {*kinds}}
    return [
        join((b"\x87\xa1b", body, before, number, salted, salt, after[kind]))
        for body, number, salt, kind in zip(packed, numbers, salts, kinds, strict=True)
    ]
