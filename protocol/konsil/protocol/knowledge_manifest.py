"""Knowledge manifests: what an artifact claims to know, and of what it says nothing.

One canonical JSON text (RFC 8785) for an artifact, named by its SHA-256 in the artifact's
manifest and in its publish entry. Rules: **absent means unknown, never zero**, and what is
unknown is not written, neither as null nor as an empty list; rows are counted in buckets; every
number is an integer in 1e-6 and names the digest of the evaluation that it is from; no label is
both known and not evaluated. What it says is a claim of its publisher: receivers measure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from konsil.protocol import jcs
from konsil.protocol.artifact import COHORT_BUCKETS, Identifier, Kind, Label, PrivacySpent
from konsil.protocol.errors import (
    EncodingRefused,
    LimitExceeded,
    LocalProtocolError,
    ManifestRefused,
    RemoteError,
)
from konsil.protocol.fields import Fraction
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.records import HexField, NodeField

if TYPE_CHECKING:
    from collections.abc import Iterator

TYPE: Final = "konsil:knowledge/v1"
UNIT_E6: Final = 1_000_000

Share = Annotated[int, Meta(ge=0, le=UNIT_E6)]
"""A fraction in 1e-6."""
Level = Annotated[int, Meta(ge=-jcs.INT_MAX, le=jcs.INT_MAX)]
"""A score in 1e-6, of either sign."""
Rows = Annotated[int, Meta(ge=0, le=COHORT_BUCKETS[-1])]
"""The lower edge of a bucket."""
Statement = Annotated[str, Meta(min_length=1, max_length=1_024)]
Month = Annotated[str, Meta(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])\Z")]


class _Part(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """A part of a manifest: only what is known is written."""


class Measured(_Part, frozen=True, kw_only=True):
    """A fraction with its 95 % interval, if there is one, and the digest of its evaluation."""

    value_e6: Share
    low_e6: Share | None = None
    high_e6: Share | None = None
    evaluation: HexField


class LabelName(_Part, frozen=True, kw_only=True):
    """A label by the code system that defines it (`task`: the classes of the task) and its code."""

    system: Identifier
    code: Label


class LabelKnowledge(_Part, frozen=True, kw_only=True):
    """What is known of one label: rows that were learned from, and how well it is recognised.

    `threshold` is the operating point of sensitivity and specificity, `calibration_error` the
    expected calibration error (ECE).
    """

    system: Identifier
    code: Label
    rows: Rows | None = None
    prevalence: Measured | None = None
    sensitivity: Measured | None = None
    specificity: Measured | None = None
    auroc: Measured | None = None
    calibration_error: Measured | None = None
    threshold: Measured | None = None

    @property
    def name(self) -> LabelName:
        """The label without what is known of it."""
        return LabelName(system=self.system, code=self.code)


class Group(_Part, frozen=True, kw_only=True):
    """People of one kind among those that were learned from."""

    kind: Literal["age", "sex", "other"]
    name: Label
    rows: Rows | None = None


class Period(_Part, frozen=True, kw_only=True):
    """When the data were taken: first and last month, both included."""

    first: Month
    last: Month


class OutOfDistribution(_Part, frozen=True, kw_only=True):
    """How to see that an input is foreign: inputs with a `score` beyond the threshold are.

    `coverage` is the share of known inputs that pass where 95 % should.
    """

    score: Identifier
    threshold_e6: Level
    coverage: Measured


class TrustIn(_Part, frozen=True, kw_only=True):
    """How far the publisher trusts another's artifacts of one kind, by its own evidence alone."""

    node: NodeField
    kind: Kind
    trust_e9: Fraction


class KnowledgeManifest(_Part, frozen=True, kw_only=True, tag_field="type", tag=TYPE):
    """All claims of one artifact about what it knows; `type` names this form of them."""

    labels: tuple[LabelKnowledge, ...] = ()
    not_evaluated: tuple[LabelName, ...] = ()
    known_weak: tuple[LabelName, ...] = ()
    modalities: tuple[Label, ...] = ()
    devices: tuple[Label, ...] = ()
    protocols: tuple[Label, ...] = ()
    groups: tuple[Group, ...] = ()
    period: Period | None = None
    annotation: Statement | None = None
    out_of_distribution: OutOfDistribution | None = None
    privacy: PrivacySpent | None = None
    base: HexField | None = None
    teachers: tuple[HexField, ...] = ()
    intended_use: Statement | None = None
    cautioned_use: Statement | None = None
    contact: Statement | None = None
    update_plan: Statement | None = None
    opinions: tuple[TrustIn, ...] = ()


def write(manifest: KnowledgeManifest) -> bytes:
    """The canonical JSON of a manifest.

    Raises `LocalProtocolError` when it breaks a rule that a reader would refuse.
    """
    data = jcs.canonical(msgspec.to_builtins(manifest))
    try:
        read(data)
    except RemoteError as fault:
        raise LocalProtocolError(f"this knowledge manifest would be refused: {fault}") from None
    return data


def read(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> KnowledgeManifest:
    """The manifest in `data`.

    Raises `EncodingRefused` on bytes that are not canonical, on unknown fields, nulls, empty lists
    and values of another type, `LimitExceeded` beyond `limits`, and `ManifestRefused` when it
    contradicts itself.
    """
    value = jcs.parse(data, limits=limits, max_bytes=limits.knowledge_bytes)
    try:
        manifest = msgspec.convert(value, KnowledgeManifest, strict=True)
    except msgspec.ValidationError as fault:
        raise EncodingRefused(str(fault)) from None
    if jcs.canonical(msgspec.to_builtins(manifest)) != data:
        raise EncodingRefused("a knowledge manifest without type, or that writes what is not known")
    labels = len(manifest.labels) + len(manifest.not_evaluated)
    if labels > limits.classes:
        raise LimitExceeded(f"{labels} labels; at most {limits.classes} are read")
    if len(manifest.teachers) > limits.parents:
        raise LimitExceeded(f"{len(manifest.teachers)} teachers; at most {limits.parents} are read")
    if len(manifest.opinions) > limits.opinions:
        raise LimitExceeded(
            f"{len(manifest.opinions)} opinions; at most {limits.opinions} are read"
        )
    _check(manifest)
    return manifest


def _check(manifest: KnowledgeManifest) -> None:
    known = [label.name for label in manifest.labels]
    for found, what in (
        ((*known, *manifest.not_evaluated), "a label"),
        (manifest.known_weak, "a weak label"),
        (manifest.modalities, "a modality"),
        (manifest.devices, "a device"),
        (manifest.protocols, "a protocol"),
        (tuple((group.kind, group.name) for group in manifest.groups), "a group"),
        (manifest.teachers, "a teacher"),
        (tuple((one.node, one.kind) for one in manifest.opinions), "a peer"),
    ):
        if len(set(found)) != len(found):
            raise ManifestRefused(f"{what} is named twice")
    if not set(manifest.known_weak) <= set(known):
        raise ManifestRefused("a label is weak of which nothing else is said")
    counts = [label.rows for label in manifest.labels] + [one.rows for one in manifest.groups]
    for rows in counts:
        if rows is not None and rows not in COHORT_BUCKETS:
            raise ManifestRefused(f"{rows} rows are not the lower edge of a bucket")
    for one in _measured(manifest):
        low, high = one.low_e6, one.high_e6
        if (low is None) != (high is None):
            raise ManifestRefused("an interval with one end")
        if low is not None and high is not None and not low <= one.value_e6 <= high:
            raise ManifestRefused("a value outside its interval")
    if manifest.period is not None and manifest.period.first > manifest.period.last:
        raise ManifestRefused("a period that ends before it begins")


def _measured(manifest: KnowledgeManifest) -> Iterator[Measured]:
    for label in manifest.labels:
        values = (getattr(label, name) for name in label.__struct_fields__)
        yield from (value for value in values if isinstance(value, Measured))
    if manifest.out_of_distribution is not None:
        yield manifest.out_of_distribution.coverage
