"""Integration: which integer coefficients the mix gets, and how far the whole step may go.

``x + sum_j w_j (x_j - x)`` with the clip inside `w_j` is the same as ``w_0 x + sum_j w_j x_j``
with ``w_0`` the remainder (trust.md, step 7). The step is halved while the private loss rises
too far; at worst the node keeps its own model, bit for bit.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, overload

import msgspec

from konsil.protocol.digest import Digest
from konsil.protocol.errors import LocalProtocolError
from konsil.trust.evidence import EvidenceRecord, recompute
from konsil.trust.fixed import UNIT_E9

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from konsil.protocol.learning_bodies import ArtifactIntegrate
    from konsil.trust.fixed import Integers, Truths

RULE = "evidence-gated/1"
"""The name of these rules in the ledger, where models are mixed."""
VECTORS = "evidence-vectors/1"
"""The same where the others' parts are data vectors on our base model: ``w_j (base + tau_j)``."""
LOGITS = "evidence-logits/1"
LABELS = "evidence-labels/1"
"""The same where the others' parts are answers, from which the own model was taught further."""
PROTOTYPES = "evidence-prototypes/1"
"""The same where they are prototypes, towards which the own model was trained further."""
TAUGHT = frozenset({LOGITS, LABELS, PROTOTYPES})
"""Rules whose result is not linear in the parts, and which only the hospital can repeat."""
RULES: Mapping[str, str] = MappingProxyType(
    {
        "parameters": RULE,
        "data_vector": VECTORS,
        "logits": LOGITS,
        "prototypes": PROTOTYPES,
        "weak_labels": LABELS,
    }
)
"""The rule for each kind of artifact."""
ANSWERS = ("logits", "weak_labels")
"""Kinds of one form: what somebody answers to the common question. How they are learned from is
the receiver's choice, and the rule of its own kind says which it made."""


def alike(kind: str) -> tuple[str, ...]:
    """The kinds that a node which hands out `kind` takes in, as if all were of that kind."""
    return ANSWERS if kind in ANSWERS else (kind,)


def is_taught(mix: ArtifactIntegrate) -> bool:
    """Did others teach here? Without a part of theirs there is nothing but the own model, and
    it is computed again like any other mix."""
    return mix.rule in TAUGHT and len(mix.parts) > 1


def fits(rule: str, kind: str | None) -> bool:
    """May this rule take in artifacts of this kind? Of an unknown kind nothing is concluded.

    Parameters have rules beside ours, as long as the result is the weighted sum of the parts.
    """
    if kind in (None, "parameters"):
        return kind is None or rule not in (*TAUGHT, VECTORS)
    return rule in {RULES.get(other) for other in alike(kind)}


STEPS_E9 = (UNIT_E9, UNIT_E9 // 2, UNIT_E9 // 4, 0)
"""The parts of the whole step that are tried, in this order."""


class Coefficient(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One part of a mix: `w_e9` of the model whose payload is `art`, made by `node`."""

    art: Digest
    node: str
    w_e9: int
    trust_e9: int


@overload
def acceptable(before_e9: int, after_e9: int) -> bool: ...
@overload
def acceptable(before_e9: Integers, after_e9: Integers) -> Truths: ...
def acceptable(before_e9: int | Integers, after_e9: int | Integers) -> bool | Truths:
    """Is a private loss of `after_e9` tolerable: at most ``1.25 before + 0.05``?"""
    return 4 * after_e9 <= 5 * before_e9 + UNIT_E9 // 5


def choose_step(before_e9: int, loss_at: Callable[[int], int]) -> int:
    """The largest step of `STEPS_E9` whose loss is acceptable; `loss_at(step)` measures it.

    A step of 0 is the node's own model and is never measured.
    """
    for step in STEPS_E9[:-1]:
        if acceptable(before_e9, loss_at(step)):
            return step
    return 0


def choose_better(before_e9: int, loss_at: Callable[[int], int]) -> int:
    """The largest step of `STEPS_E9` whose loss is below that of the own model; else 0."""
    return next((step for step in STEPS_E9[:-1] if loss_at(step) < before_e9), 0)


def at_step(records: Sequence[EvidenceRecord], step_e9: int) -> tuple[EvidenceRecord, ...]:
    """The records of a round with every weight computed for another step."""
    return tuple(recompute(msgspec.structs.replace(record, step_e9=step_e9)) for record in records)


def coefficients(
    trained: Digest, node: str, records: Sequence[EvidenceRecord]
) -> tuple[Coefficient, ...]:
    """The parts of the mix: the node's own trained model first, then each with a weight.

    They sum to exactly 10**9. Raises `LocalProtocolError` when the peers' weights alone do
    not leave room for the own model, which Metropolis weights always do.
    """
    peers = tuple(
        Coefficient(art=record.art, node=record.node, w_e9=record.w_e9, trust_e9=record.trust_e9)
        for record in records
        if record.w_e9 > 0
    )
    rest = UNIT_E9 - sum(peer.w_e9 for peer in peers)
    if rest < 0:
        raise LocalProtocolError(f"the peers' weights exceed one by {-rest}e-9")
    return (Coefficient(art=trained, node=node, w_e9=rest, trust_e9=UNIT_E9), *peers)
