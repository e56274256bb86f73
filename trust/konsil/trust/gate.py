"""The hard gate: facts that an artifact must satisfy before anyone looks at its values.

Never probabilistic (trust.md, step 0): each fact holds or the artifact is discarded, with
every reason named. A refusal counts against the publisher as `score.penalised`. Two signed
payloads for one sequence number are worse: both are kept as proof and the publisher stays in
quarantine until a person acts.

Signature and proof are verified before there are facts to speak of, and the payload's digest
and values after its transfer; what is here is what the manifest claims.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import msgspec

from konsil.protocol.fields import Code, Text
from konsil.protocol.records import DigestField, NodeField
from konsil.trust.evidence import Size
from konsil.trust.fixed import UNIT_E9

if TYPE_CHECKING:
    from collections.abc import Mapping

PENALTY_CAUSE = "gate.refused"
"""The cause of a trust update that a refusal made."""

OPERATOR_CAUSES: Mapping[str, str | None] = MappingProxyType(
    {
        "operator.pin": "pinned",
        "operator.mute": "muted",
        "operator.quarantine": "quarantined",
        "operator.release": None,
    }
)
"""The causes by which a trust update is an operator's word, and the word in force after it."""


def gate_of(word: str | None) -> int | None:
    """The gate that an operator's word stands for, in 1e-9; None leaves it to the evidence."""
    if word is None:
        return None
    return UNIT_E9 if word == "pinned" else 0


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a person decided about a peer: the evidence record of an operator's word."""

    v: Literal[1] = 1
    cause: Code
    node: NodeField
    reason: Text = ""
    """In the person's own words, for whoever reads the ledger."""


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a member's manifest says, held against its own log, our task and what we hold."""

    logged: bool
    """The publisher's log entry names this envelope, payload, kind and sequence."""
    about_ours: bool
    """The manifest names what our artifacts are relative to: the base model, or the question."""
    task_ours: bool
    """It names our task and our architecture."""
    parents_agree: bool
    """It names the parents that the publisher's log entry names, in the same order."""
    charter_ours: bool
    """It names the charter that is in force here."""
    sequence: int
    last_sequence: int
    """The newest sequence number held of this publisher and kind; 0 for none."""
    size: int
    largest: int
    """Bytes that a payload may have."""
    equivocates: bool = False
    """Another signed envelope with the same sequence number is held."""


def refusals(facts: Facts) -> tuple[Code, ...]:
    """Every reason to discard the artifact, in a fixed order; empty lets it pass."""
    rules = (
        ("equivocation", not facts.equivocates),
        ("unlogged", facts.logged),
        ("size", 0 < facts.size <= facts.largest),
        ("charter", facts.charter_ours),
        ("base", facts.about_ours),
        ("architecture", facts.task_ours),
        ("parents", facts.parents_agree),
        ("sequence", facts.sequence > max(facts.last_sequence, 0)),
    )
    return tuple(reason for reason, holds in rules if not holds)


def quarantines(reasons: tuple[Code, ...]) -> bool:
    """Do these reasons prove a lie that only a person can forgive?"""
    return "equivocation" in reasons


class Penalty(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Why a peer lost trust without being mixed: the evidence record of a refusal.

    `s_after_e9` is what `score.penalised` makes of `s_before_e9`, so an auditor recomputes it.
    """

    v: Literal[1] = 1
    node: str
    kind: Code
    stage: Code
    reasons: tuple[Code, ...]
    env: DigestField | None
    r_e9: Size
    s_before_e9: Size
    s_after_e9: Size
