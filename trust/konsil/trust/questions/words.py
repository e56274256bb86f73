"""How answers say things: moments, fractions, digests, and what an entry means in one line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import learning_bodies as learning
from konsil.protocol import node_bodies as node
from konsil.protocol import office_bodies as office
from konsil.trust.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from konsil.protocol.entries import Body

SHORT = 12
"""Hex digits of a digest that are shown to people."""
_LAST_MS = 253_402_300_799_999


def when(time_ms: int) -> str:
    """Unix milliseconds as a moment in UTC; a number where no calendar reaches.

    >>> when(1_760_000_000_123)
    '2025-10-09 08:53:20Z'
    """
    if not 0 <= time_ms <= _LAST_MS:
        return f"{time_ms} ms"
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def fraction(value_e9: int, digits: int = 3) -> str:
    """An integer in 1e-9 as a decimal.

    >>> fraction(648_000_000), fraction(-12_300_000, 4)
    ('0.648', '-0.0123')
    """
    return f"{value_e9 / 1e9:.{digits}f}"


def short(digest: bytes | None) -> str:
    """The start of a digest; a dash for none."""
    return "–" if digest is None else digest.hex()[:SHORT]


def plural(count: int, noun: str) -> str:
    """A count with its noun.

    >>> plural(1, "mix"), plural(2, "entry"), plural(3, "release")
    ('1 mix', '2 entries', '3 releases')
    """
    if count == 1:
        return f"1 {noun}"
    if noun.endswith("y"):
        return f"{count} {noun[:-1]}ies"
    return f"{count} {noun}{'es' if noun.endswith('x') else 's'}"


def plain(body: Body) -> dict[str, object]:
    """The fields of a body for JSON, digests as hexadecimal."""
    found = _plain(msgspec.to_builtins(body, builtin_types=(bytes,)))
    assert isinstance(found, dict)
    return found


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def describe(body: Body, name: Callable[[str], str]) -> str:
    """What an entry says, in one printable line; `name` knows short names by node id."""
    return printable(_learning(body, name) or _trust(body, name) or _other(body, name))


def _learning(body: Body, name: Callable[[str], str]) -> str:
    if isinstance(body, learning.ModelBase):
        return f"base model {short(body.model)} from {body.source}"
    if isinstance(body, learning.ModelTrain):
        return f"round {body.round}: trained {short(body.out)} from {short(body.base)}"
    if isinstance(body, learning.ArtifactPublish):
        return f"published {body.kind} {body.sequence}: {short(body.art)}, {body.size} bytes"
    if isinstance(body, learning.ArtifactReceive):
        of = f"of {name(body.publisher)}, its entry {body.index}"
        return f"received {short(body.art)} {of}"
    if isinstance(body, learning.ArtifactReject):
        reasons = ", ".join(body.reasons) or "no reason"
        return f"refused {short(body.art)} of {name(body.publisher)} at {body.stage}: {reasons}"
    if isinstance(body, learning.ArtifactIntegrate):
        parts = ", ".join(f"{fraction(part.w_e9)} {name(part.node)}" for part in body.parts[:12])
        more = f" and {len(body.parts) - 12} more" if len(body.parts) > 12 else ""
        return f"round {body.round}: mixed {short(body.out)} of {parts}{more} ({body.reason})"
    return ""


def _trust(body: Body, name: Callable[[str], str]) -> str:
    if isinstance(body, learning.TrustUpdate):
        moved = f"{fraction(body.old_e9)} → {fraction(body.new_e9)}"
        return f"trust in {name(body.node)} for {body.kind}: {moved} ({body.cause})"
    if isinstance(body, learning.PrivacySpend):
        cost = f"ε {body.eps_micro / 1e6:g}, δ {body.delta_e12 / 1e12:g} by {body.mechanism}"
        return f"privacy spent on data set {short(body.dataset)}: {cost}"
    if isinstance(body, node.PeerExposed):
        return f"{name(body.node)} is exposed: {body.kind}, shown by {short(body.evidence)}"
    if isinstance(body, node.PeerSuspect):
        return f"{name(body.node)} is suspected: {body.kind}"
    if isinstance(body, node.PeerClear):
        return f"{name(body.node)} is cleared: {body.kind}"
    return ""


def _other(body: Body, name: Callable[[str], str]) -> str:
    if isinstance(body, node.NodeGenesis):
        return f"the log of {body.name} in {body.consortium} begins"
    if isinstance(body, node.NodeBoot):
        return f"started with {plural(body.size, 'entry')}"
    if isinstance(body, node.KeyRotate | node.KeyRevoke):
        return f"the {body.role} key is replaced ({body.reason})"
    if isinstance(body, node.LogRedact):
        return f"the body of entry {body.index} is redacted ({body.legal})"
    if isinstance(body, node.AuditRun):
        return f"audited entries {body.from_size} to {body.to_size}: result {body.result}"
    if isinstance(body, office.ModelDeploy | office.ModelRetire | office.ModelRollback):
        verb = type(body).__name__.removeprefix("Model").lower()
        return f"{verb} of model {short(body.model)} (step {body.step})"
    if isinstance(body, office.ArtifactWithdraw):
        by = when(body.deadline_ms)
        return f"{short(body.art)} is withdrawn ({body.reason}), answers are due by {by}"
    if isinstance(body, office.WithdrawAck):
        return f"answer to the withdrawal at entry {body.index} of {name(body.node)}: {body.action}"
    return _fields(body, name)


def _fields(body: Body, name: Callable[[str], str]) -> str:
    """Every field of a body that is short enough for a line."""
    said = []
    for field in body.__struct_fields__:
        value = getattr(body, field)
        if isinstance(value, bytes):
            value = short(value)
        if field == "node":
            value = name(value)
        if isinstance(value, str | int):
            said.append(f"{field} {value}")
    return ", ".join(said)
