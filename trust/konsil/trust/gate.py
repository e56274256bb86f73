"""The hard gate: facts that an artifact must satisfy before anyone looks at its values.

Never probabilistic (trust.md, step 0): each fact holds or the artifact is discarded, with
every reason named. A refusal counts against the publisher as `score.penalised`. Two signed
payloads for one sequence number are worse: both are kept as proof and the publisher stays in
quarantine until a person acts.
"""

from __future__ import annotations

import msgspec


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is known of one received artifact; each is established elsewhere, by exact checks."""

    member: bool
    """The publisher is a member whose key is valid and not revoked."""
    signed: bool
    """The signature is the publisher's, over the bytes received."""
    logged: bool
    """The publisher's own log proves the artifact's publication."""
    intact: bool
    """The payload has the declared digest, chunk root and size."""
    base_known: bool
    """The base is the one this network started from."""
    same_architecture: bool
    parents_known: bool
    """Every declared parent is in a ledger."""
    charter_known: bool
    """The charter named is one that is or was in force."""
    finite: bool
    sequence: int
    last_sequence: int
    """The newest sequence number accepted from this publisher and kind; 0 for none."""
    size: int
    largest: int
    """Bytes that a payload may have."""
    equivocates: bool = False
    """Another signed payload with the same sequence number is known."""


def refusals(facts: Facts) -> tuple[str, ...]:
    """Every reason to discard the artifact, in a fixed order; empty lets it pass."""
    rules = (
        ("not_a_member", facts.member),
        ("signature", facts.signed),
        ("equivocation", not facts.equivocates),
        ("unlogged", facts.logged),
        ("payload", facts.intact),
        ("size", 0 < facts.size <= facts.largest),
        ("charter", facts.charter_known),
        ("base", facts.base_known),
        ("architecture", facts.same_architecture),
        ("parents", facts.parents_known),
        ("sequence", facts.sequence > max(facts.last_sequence, 0)),
        ("not_finite", facts.finite),
    )
    return tuple(reason for reason, holds in rules if not holds)


def quarantines(reasons: tuple[str, ...]) -> bool:
    """Do these reasons prove a lie that only a person can forgive?"""
    return "equivocation" in reasons


class Penalty(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Why a peer lost trust without being mixed: the evidence record of a refusal.

    `s_after_e9` is what `score.penalised` makes of `s_before_e9`, so an auditor recomputes it.
    """

    v: int = 1
    node: str
    kind: str
    stage: str
    reasons: tuple[str, ...]
    env: bytes | None
    r_e9: int
    s_before_e9: int
    s_after_e9: int
