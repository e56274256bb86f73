"""Ledger entries: the closed list of types, and the one canonical frame around them.

An entry is the canonical map {b: body, c: charter digest, n: index, s: salt, t: type,
ts: unix milliseconds, v: 1}. `n` pins the position, `s` (16 random bytes) stops anybody
from guessing a withheld entry from its leaf hash, `ts` is what the writer claims. No field
has a default, so a missing field is refused and one value has one encoding. A writer
refuses a type that is not in `TYPES`; a reader counts it as opaque (`peek`).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal, cast

import msgspec

from konsil.protocol import cmp1
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
_NO_PLAN = plan(object)
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


class _Opened(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A frame whose body is not read yet; nothing says that the bytes are canonical."""

    b: msgspec.Raw
    c: DigestField
    n: Count
    s: SaltField
    t: str
    ts: Count
    v: Literal[1]


_FRAMES = msgspec.msgpack.Decoder(_Opened)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
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
    plain = msgspec.to_builtins(item, builtin_types=(bytes,))
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
    words = [type_of(body) for body in bodies]
    quickly = _quick_group(words, bodies, (index, time_ms, charter), salts, limits)
    return quickly or [
        encode(entry(body, index=at, time_ms=time_ms, salt=salt, charter=charter), limits=limits)
        for at, (body, salt) in enumerate(zip(bodies, salts, strict=True), index)
    ]


def _quick_group(
    words: Sequence[str],
    bodies: Sequence[Body],
    frame: tuple[int, int, bytes],
    salts: Sequence[bytes],
    limits: Limits,
) -> list[bytes] | None:
    """The group when all of it surely keeps every rule; None where `encode` must look."""
    start, time_ms, charter = frame
    write, raw = ENCODER.encode, msgspec.Raw
    found: list[bytes] = []
    read: list[Body] = []
    try:
        for at, (word, body, salt) in enumerate(zip(words, bodies, salts, strict=True), start):
            decoder, depth = _PLANS[word]
            data = write(body)
            read.append(decoder.decode(data))
            if depth >= limits.depth:
                return None
            item = _Opened(b=raw(data), c=charter, n=at, s=salt, t=word, ts=time_ms, v=1)
            found.append(write(item))
        _FRAMES.decode(found[0])
        _FRAMES.decode(found[-1])
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError):
        return None
    bound = min(limits.entry_bytes, limits.items)
    fits = max(map(len, found)) <= bound and {*map(len, salts)} == {SALT_BYTES}
    ruled = [body for body in bodies if isinstance(body, _RULED)]
    if not fits or any(map(fault_of, ruled)) or not is_plain(read, limits):
        return None
    return found


_RULED = (NodeGenesis, ArtifactIntegrate, NodeBoot)
"""Bodies that have a rule beyond their schema."""


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
    if len(data) > min(limits.entry_bytes, limits.items):
        return None
    found = _opened(data, limits)
    return found if found is not None and ENCODER.encode(found) == data else None


def _quickly_encoded(item: Entry, limits: Limits) -> bytes | None:
    """The bytes of an entry that surely keeps every rule; None where `encode` must look."""
    try:
        data = ENCODER.encode(item)
    except (TypeError, ValueError, OverflowError):
        return None
    if len(data) > min(limits.entry_bytes, limits.items) or _WORDS.get(type(item.b)) != item.t:
        return None
    return data if _opened(data, limits) is not None and not fault_of(item.b) else None


def _opened(data: bytes, limits: Limits) -> Entry | None:
    """The entry in bytes that keep all rules if they are what our encoder makes of it."""
    try:
        frame = _FRAMES.decode(data)
        decoder, depth = _PLANS.get(frame.t, _NO_PLAN)
        if depth >= limits.depth:
            return None
        body: Body = decoder.decode(frame.b)
    except (msgspec.MsgspecError, ValueError, OverflowError):
        return None
    if not is_plain(body, limits):
        return None
    return Entry(b=body, c=frame.c, n=frame.n, s=frame.s, t=frame.t, ts=frame.ts)
