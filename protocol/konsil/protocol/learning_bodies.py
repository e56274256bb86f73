"""Entry bodies of learning: models made, artifacts given and taken, trust, privacy spent.

Bodies carry digests, never the thing itself, and no patient: what an entry speaks of lies
beside the ledger under its digest.
"""

from __future__ import annotations

import msgspec

from konsil.protocol.fields import Code, Count, Fraction, Number, TensorName, Text
from konsil.protocol.records import DigestField, NodeField


class ModelBase(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model that came from outside: the root of a lineage."""

    model: DigestField
    source: Text
    licence: Text
    note: Text


class ModelTrain(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Local training: `base` became `out`. `cohort` is the lower edge of its bucket (rows)."""

    base: DigestField
    out: DigestField
    data: DigestField
    cohort: Count
    recipe: DigestField
    code: DigestField
    env: DigestField
    round: Count
    privacy: DigestField | None


class ArtifactPublish(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An artifact is about to be sent: it is logged first. `size` is in bytes."""

    art: DigestField
    chunk_root: DigestField
    kind: Code
    size: Count
    env: DigestField
    derived_from: list[DigestField]
    knowledge: DigestField | None
    policy: DigestField | None
    sequence: Number


class ArtifactReceive(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A verified artifact of a peer: `index` is its publish entry in the publisher's log,
    `size` and `root` are the checkpoint that proves it, `proof` the digest of the proof."""

    art: DigestField
    publisher: NodeField
    env: DigestField
    index: Count
    size: Count
    root: DigestField
    proof: DigestField


class ArtifactReject(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An artifact, or what claimed to be one, was refused at `stage`."""

    art: DigestField | None
    publisher: NodeField
    env: DigestField | None
    stage: Code
    reasons: list[Code]
    evidence: DigestField | None


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One summand of a mix: the artifact, who made it, its effective coefficient, its trust."""

    art: DigestField
    node: NodeField
    w_e9: Fraction
    trust_e9: Fraction


class ArtifactIntegrate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was taken in: `out` = Σ w·part over all tensors but `not_mixed`, which are the first
    part's. Under a rule of data vectors the others' parts are differences from the base model,
    under one of answers `out` is the first part, taught by what all parts together answer.

    The parts carry *effective* coefficients (gate × share × clip × step halving), the own
    trained model is one of them, and Σ w_e9 = 10⁹ exactly. `before` and `after` are the
    digests of the evaluations.
    """

    base: DigestField
    out: DigestField
    rule: Code
    parts: list[Part]
    not_mixed: list[TensorName]
    before: DigestField
    after: DigestField
    reason: Code
    round: Count


class TrustUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Trust in `node` for artifacts of `kind` moved; `evidence` explains it exactly."""

    node: NodeField
    kind: Code
    art: DigestField | None
    old_e9: Fraction
    new_e9: Fraction
    cause: Code
    evidence: DigestField


class PrivacySpend(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Privacy that one release cost. `dataset` is a salted commitment to the cohort; ε in
    1e-6, δ in 1e-12, ρ (zCDP) and the sampling rate in 1e-9; `cumulative_micro` is Σ ε."""

    dataset: DigestField
    mechanism: Code
    eps_micro: Count
    delta_e12: Count
    rho_e9: Count
    sampling_e9: Fraction
    steps: Count
    cumulative_micro: Count


class UnlearnDone(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`old` became `new`, from which something was taken out by `method`."""

    old: DigestField
    new: DigestField
    method: Code
    verification: DigestField
