"""Ledger entries: the closed list of types, and the one canonical frame around them.

An entry is the canonical map {b: body, c: charter digest, n: index, s: salt, t: type,
ts: unix milliseconds, v: 1}. `n` pins the position, `s` (16 random bytes) stops anybody
from guessing a withheld entry from its leaf hash, `ts` is what the writer claims. No field
has a default, so a missing field is refused and one value has one encoding. A writer
refuses a type that is not in `TYPES`; a reader counts it as opaque (`peek`).
"""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Generic, Literal, TypeVar, cast

import msgspec

from konsil.protocol import cmp1
from konsil.protocol.batches import longest_text
from konsil.protocol.errors import EncodingRefused, LocalProtocolError
from konsil.protocol.fields import UNIT_E9, Count
from konsil.protocol.identity import ROLES
from konsil.protocol.learning_bodies import (
    ArtifactIntegrate,
    ArtifactPublish,
    ArtifactReceive,
    ArtifactReject,
    ModelBase,
    ModelTrain,
    PrivacySpend,
    TrustUpdate,
    UnlearnDone,
)
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.node_bodies import (
    AuditRun,
    KeyRevoke,
    KeyRotate,
    LogRedact,
    NodeBoot,
    NodeGenesis,
    PeerClear,
    PeerExposed,
    PeerSuspect,
)
from konsil.protocol.office_bodies import (
    ArtifactWithdraw,
    CharterAdopt,
    CharterPropose,
    CharterVote,
    HumanOverride,
    InferenceBatch,
    MemberAdd,
    MemberRemove,
    MemberSuspend,
    ModelDeploy,
    ModelRetire,
    ModelRollback,
    PolicyLocal,
    WithdrawAck,
)
from konsil.protocol.records import ENCODER, DigestField, SaltField, is_plain, plan, typed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NO_CHARTER = bytes(32)
"""The charter digest before a member list exists."""
SALT_BYTES = 16

Body = (
    NodeGenesis
    | NodeBoot
    | KeyRotate
    | KeyRevoke
    | CharterPropose
    | CharterVote
    | CharterAdopt
    | MemberAdd
    | MemberSuspend
    | MemberRemove
    | PolicyLocal
    | ModelBase
    | ModelTrain
    | PrivacySpend
    | ArtifactPublish
    | ArtifactReceive
    | ArtifactReject
    | ArtifactIntegrate
    | TrustUpdate
    | ModelDeploy
    | ModelRetire
    | ModelRollback
    | ArtifactWithdraw
    | WithdrawAck
    | UnlearnDone
    | InferenceBatch
    | HumanOverride
    | PeerExposed
    | PeerSuspect
    | PeerClear
    | LogRedact
    | AuditRun
)

TYPES: Mapping[str, type[Body]] = MappingProxyType(
    {
        "node.genesis": NodeGenesis,
        "node.boot": NodeBoot,
        "key.rotate": KeyRotate,
        "key.revoke": KeyRevoke,
        "charter.propose": CharterPropose,
        "charter.vote": CharterVote,
        "charter.adopt": CharterAdopt,
        "member.add": MemberAdd,
        "member.suspend": MemberSuspend,
        "member.remove": MemberRemove,
        "policy.local": PolicyLocal,
        "model.base": ModelBase,
        "model.train": ModelTrain,
        "privacy.spend": PrivacySpend,
        "artifact.publish": ArtifactPublish,
        "artifact.receive": ArtifactReceive,
        "artifact.reject": ArtifactReject,
        "artifact.integrate": ArtifactIntegrate,
        "trust.update": TrustUpdate,
        "model.deploy": ModelDeploy,
        "model.retire": ModelRetire,
        "model.rollback": ModelRollback,
        "artifact.withdraw": ArtifactWithdraw,
        "withdraw.ack": WithdrawAck,
        "unlearn.done": UnlearnDone,
        "inference.batch": InferenceBatch,
        "human.override": HumanOverride,
        "peer.exposed": PeerExposed,
        "peer.suspect": PeerSuspect,
        "peer.clear": PeerClear,
        "log.redact": LogRedact,
        "audit.run": AuditRun,
    }
)
"""The closed list: type word to body. A later version of the format only adds rows."""

_PLANS = MappingProxyType({word: plan(body) for word, body in TYPES.items()})
_WORDS: Mapping[type[Body], str] = MappingProxyType({body: word for word, body in TYPES.items()})


class Frame(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An entry whose body is still a plain map."""

    b: dict[str, object]
    c: DigestField
    n: Count
    s: SaltField
    t: Annotated[str, msgspec.Meta(pattern=r"^[a-z]{1,16}\.[a-z_]{1,16}\Z")]
    ts: Count
    v: Literal[1]


_B = TypeVar("_B")


class _Typed(
    msgspec.Struct, Generic[_B], frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False
):
    """A frame with a body of one type; nothing says that the bytes are canonical."""

    b: _B
    c: DigestField
    n: Count
    s: SaltField
    t: str
    ts: Count
    v: Literal[1]


class _Way(msgspec.Struct, frozen=True):
    """How entries of one type are read the quick way."""

    word: str
    decoder: msgspec.msgpack.Decoder[_Typed[Body]]
    together: msgspec.msgpack.Decoder[list[_Typed[Body]]]
    depth: int
    longest: int
    """The most bytes of a text in the body, or far more than any limit."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry with its typed body; see the module for the letters."""

    b: Body
    c: bytes
    n: int
    s: bytes
    t: str
    ts: int
    v: int = 1


def type_of(body: Body) -> str:
    """The type word of a body. Raises `LocalProtocolError` for a foreign object."""
    word = _WORDS.get(type(body))
    if word is None:
        raise LocalProtocolError(f"{type(body).__name__} is no ledger entry")
    return word


def entry(body: Body, *, index: int, time_ms: int, salt: bytes, charter: bytes) -> Entry:
    """The entry that carries `body` at position `index`."""
    return Entry(b=body, c=charter, n=index, s=salt, t=type_of(body), ts=time_ms)


def encode(item: Entry, *, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The canonical bytes of an entry.

    Raises `LocalProtocolError` when the entry breaks its schema, its size bound or the rules
    of its type: what we write must be readable.
    """
    data = _quickly_encoded(item, limits)
    if data is not None:
        return data
    try:
        plain = msgspec.to_builtins(item, builtin_types=(bytes,))
    except (TypeError, ValueError, OverflowError) as error:
        raise LocalProtocolError(f"cannot write a {item.t} entry: {error}") from None
    data = cmp1.encode(plain)
    if len(data) > limits.entry_bytes:
        raise LocalProtocolError(f"a {item.t} entry of {len(data)} bytes is too large")
    if item.t != type_of(item.b):
        raise LocalProtocolError(f"cannot write a {item.t} entry: the body is of another type")
    try:
        open_frame(typed(plain, Frame))
    except EncodingRefused as error:
        raise LocalProtocolError(f"cannot write a {item.t} entry: {error.message}") from None
    if fault := fault_of(item.b):
        raise LocalProtocolError(f"cannot write a {item.t} entry: {fault}")
    return data


RULED = frozenset({NodeGenesis, ArtifactIntegrate, NodeBoot})
"""The types of the bodies that have a rule beyond their schema."""


def fault_of(body: Body) -> str:
    """Which rule beyond the schema a body breaks, in words; empty when none."""
    if isinstance(body, NodeGenesis):
        missing = set(ROLES) - set(body.keys)
        return f"keys are missing: {', '.join(sorted(missing))}" if missing else ""
    if isinstance(body, ArtifactIntegrate):
        total = sum(part.w_e9 for part in body.parts)
        if total != UNIT_E9:
            return f"the weights sum to {total} instead of {UNIT_E9}"
        if len({(part.art, part.node) for part in body.parts}) != len(body.parts):
            return "a part is listed twice"
    if isinstance(body, NodeBoot):
        behind = 0
        for span in body.lost:
            if not behind <= span.first <= span.last < body.size:
                return f"lost entries {span.first} to {span.last}: out of order, or not before it"
            behind = span.last + 1
    return ""


def peek(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Frame:
    """The checked frame of an entry of any type, known or not.

    Raises `EncodingRefused` or `LimitExceeded`.
    """
    return typed(cmp1.decode(data, limits=limits, max_bytes=limits.entry_bytes), Frame)


def open_frame(frame: Frame) -> Entry:
    """The typed entry in a frame. Raises `EncodingRefused` for an unknown type or a bad body."""
    kind = TYPES.get(frame.t)
    if kind is None:
        raise EncodingRefused(f"entry {frame.n}: type `{frame.t}` is not known here")
    try:
        body = typed(cast("cmp1.Value", frame.b), kind)
    except EncodingRefused as error:
        raise EncodingRefused(f"entry {frame.n} ({frame.t}): {error.message}") from None
    return Entry(b=body, c=frame.c, n=frame.n, s=frame.s, t=frame.t, ts=frame.ts)


def decode(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Entry:
    """The typed entry in canonical bytes. Raises `EncodingRefused` or `LimitExceeded`."""
    return quick(data, limits=limits) or open_frame(peek(data, limits=limits))


def quick(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Entry | None:
    """The typed entry as `decode` reads it, some ten times faster; None where it cannot tell.

    As in `records`: equal bytes prove the form, the type proves the rest. Entries that may be
    in order and yet are not for the quick way: other types, free maps, texts beyond ASCII.
    """
    if len(data) > limits.entry_bytes or len(data) > limits.items:
        return None
    way = _way(_word(data))
    if way is None or way.depth >= limits.depth:
        return None
    try:
        frame = way.decoder.decode(data)
        if ENCODER.encode(frame) != data or frame.t != way.word:
            return None
    except (msgspec.MsgspecError, ValueError, OverflowError):
        return None
    if way.longest > limits.text_bytes and not is_plain(frame.b, limits):
        return None
    return _entry(frame)


def quick_all(items: Sequence[bytes], *, limits: Limits = DEFAULT_LIMITS) -> list[Entry | None]:
    """`quick` of each; many of a type cost less than one by one."""
    found: list[Entry | None] = [None] * len(items)
    kinds: dict[bytes, list[int]] = {}
    for at, data in enumerate(items):
        kinds.setdefault(_word(data), []).append(at)
    for word, places in kinds.items():
        way = _way(word)
        if way is None:
            continue
        alike = [items[at] for at in places]
        read = _together(way, alike, limits)
        if read is None:
            read = [quick(data, limits=limits) for data in alike]
        for at, one in zip(places, read, strict=True):
            found[at] = one
    return found


def _together(way: _Way, items: list[bytes], limits: Limits) -> Sequence[Entry | None] | None:
    """`quick` of entries that seem to be of one type; None where they must be looked at alone.

    Each is held against what the encoder makes of it, so that none can end where another should.
    """
    bound = min(limits.entry_bytes, limits.items)
    if way.depth >= limits.depth or max(map(len, items)) > bound:
        return None
    try:
        frames = way.together.decode(b"\xdd%b%b" % (len(items).to_bytes(4, "big"), b"".join(items)))
        if [*map(ENCODER.encode, frames)] != items:
            return None
    except (msgspec.MsgspecError, ValueError, OverflowError):
        return None
    if {frame.t for frame in frames} != {way.word}:
        return None
    if way.longest > limits.text_bytes and not is_plain([frame.b for frame in frames], limits):
        return None
    # Without a call for each: a long log has many.
    return [Entry(b=one.b, c=one.c, n=one.n, s=one.s, t=one.t, ts=one.ts, v=1) for one in frames]


def _entry(frame: _Typed[Body]) -> Entry:
    return Entry(b=frame.b, c=frame.c, n=frame.n, s=frame.s, t=frame.t, ts=frame.ts)


def _word(data: bytes) -> bytes:
    """What stands where the type word should; only the frame says whether it is the type."""
    end = data.rfind(b"\xa2ts")
    return data[data.rfind(b"\xa1t", 0, end) + 3 : end]


@lru_cache(maxsize=64)
def _way(word: bytes) -> _Way | None:
    """The quick way for the type of this word; None for an unknown type."""
    text = word.decode("ascii", "replace")
    body = TYPES.get(text)
    if body is None:
        return None
    return _Way(
        word=text,
        decoder=msgspec.msgpack.Decoder(_Typed[body]),  # type: ignore[valid-type]
        together=msgspec.msgpack.Decoder(list[_Typed[body]]),  # type: ignore[valid-type]
        depth=_PLANS[text][1],
        longest=longest_text(body),
    )


def _quickly_encoded(item: Entry, limits: Limits) -> bytes | None:
    """The bytes of an entry that surely keeps every rule; None where `encode` must look."""
    try:
        data = ENCODER.encode(item)
    except (TypeError, ValueError, OverflowError):
        return None
    # A value that is written as it stands (`msgspec.Raw`) may have any form: it is never equal.
    return data if quick(data, limits=limits) == item and not fault_of(item.b) else None
