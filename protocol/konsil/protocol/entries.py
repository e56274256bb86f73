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
from konsil.protocol.records import DigestField, SaltField, typed

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    return open_frame(peek(data, limits=limits))
