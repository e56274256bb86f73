"""Coverage: what the artifacts in a model's ancestry claim to cover, and what none of them does.

A label is covered when some ancestor was made from rows of it; what was mixed in with weight 0 is
no ancestor. Law: a mix covers exactly what its parts cover together. Three answers are kept
apart: an ancestor covers it; an ancestor says that it did not look at it; nobody says anything.
The last is unknown, never zero, and so is all that lies behind an ancestor whose manifest is not
at hand. These are claims, signed by those who make them; whether they hold, receivers measure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import envelope, knowledge_manifest
from konsil.protocol.artifact import read_statement
from konsil.protocol.digest import sha256
from konsil.protocol.errors import RemoteError
from konsil.protocol.learning_bodies import ArtifactPublish, ArtifactReceive

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from konsil.protocol.artifact import Artifact
    from konsil.protocol.entries import Entry
    from konsil.protocol.knowledge_manifest import KnowledgeManifest
    from konsil.protocol.limits import Limits
    from konsil.trust.lineage import Lineage
    from konsil.trust.steps import Step

    Blob = Callable[[bytes, int], bytes | None]
    """A blob by its digest and the most bytes that it may have; None where it is not."""


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """One artifact's claims about labels: covered ones with their bucket of rows (None:
    not said), and those that it says it did not look at."""

    art: bytes
    node: str
    round: int
    rows: tuple[tuple[str, int | None], ...]
    not_evaluated: tuple[str, ...]


class Covering(msgspec.Struct, frozen=True, kw_only=True):
    """One hospital's part in covering a label: the largest bucket of rows that it claims."""

    node: str
    name: str
    rows: int | None


class LabelCoverage(msgspec.Struct, frozen=True, kw_only=True):
    """What a model's ancestry claims about one label."""

    label: str
    covered_by: tuple[Covering, ...]
    not_evaluated_by: tuple[str, ...]
    """Names of hospitals of which no ancestor covers it, and some says that it did not look."""

    @property
    def gap(self) -> bool:
        """Whether no ancestor that we know covers it."""
        return not self.covered_by


class LineageCoverage(msgspec.Struct, frozen=True, kw_only=True):
    """What the whole ancestry of a model claims, label by label."""

    model: bytes
    labels: tuple[LabelCoverage, ...]
    told: int
    """Ancestors that say what they cover."""
    silent: tuple[str, ...]
    """Names of hospitals with training or models in the ancestry that no claim explains."""
    unexplained: int
    """Ancestors of which no given ledger says what went into them."""


def claims(entries: Iterable[Entry], blob: Blob, limits: Limits) -> dict[bytes, list[Claimed]]:
    """What the artifacts that a log published or received claim, by payload digest.

    Whatever is not at hand, or cannot be read, claims nothing.
    """
    found: dict[bytes, list[Claimed]] = {}
    for entry in entries:
        body = entry.b
        if not isinstance(body, ArtifactPublish | ArtifactReceive):
            continue
        sealed = blob(body.env, limits.envelope_bytes)
        artifact = None if sealed is None else _manifest(sealed, limits)
        if artifact is not None and artifact.payload.digest == body.art.hex():
            known = _knowledge(artifact, blob, limits)
            found.setdefault(body.art, []).append(claim(artifact, known))
    return found


def claim(artifact: Artifact, known: KnowledgeManifest | None) -> Claimed:
    """What one artifact claims, by its manifest and, if there is one, its knowledge manifest.

    A class of the task is named as it is, a label of another code system as `system:code`. Where
    both speak of a label, the larger bucket counts, and covering it counts before not.
    """
    rows: dict[str, int | None] = {one.name: one.rows for one in artifact.coverage.classes}
    missing = list(artifact.coverage.not_evaluated)
    if known is not None:
        for one in known.labels:
            label = label_of(one.system, one.code)
            rows[label] = _larger(rows.get(label), one.rows)
        missing += [label_of(one.system, one.code) for one in known.not_evaluated]
    return Claimed(
        art=bytes.fromhex(artifact.payload.digest),
        node=artifact.publisher,
        round=artifact.round,
        rows=tuple(rows.items()),
        not_evaluated=tuple(dict.fromkeys(one for one in missing if one not in rows)),
    )


def label_of(system: str, code: str) -> str:
    """The one word for a label: classes of the task go without their system."""
    return code if system == "task" else f"{system}:{code}"


def covered(
    lineage: Lineage,
    model: bytes,
    claimed: Mapping[bytes, Collection[Claimed]],
    labels: Collection[str] = (),
) -> LineageCoverage:
    """The union of what the ancestors of `model`, and it itself, claim.

    Labels are those asked for, else all that any ancestor names. A training step speaks through
    the artifact that its hospital published in that round.
    """
    rounds = {(one.node, one.round): one for some in claimed.values() for one in some}
    spoken: dict[tuple[bytes, str], Claimed] = {}
    silent: dict[str, None] = {}
    unexplained = 0
    for step in _ancestry(lineage, model):
        unexplained += step.kind == "unknown"
        found = [*claimed.get(step.out, ())]
        if not found and step.kind == "train":
            found = [rounds[key] for key in _rounds(step) if key in rounds]
        spoken |= {(one.art, one.node): one for one in found}
        if not found and step.kind not in ("base", "mix", "taught"):
            silent.update(dict.fromkeys(step.nodes))
    told = [*spoken.values()]
    named = {label for one in told for label in (*dict(one.rows), *one.not_evaluated)}
    wanted = [*dict.fromkeys(labels)] if labels else sorted(named)
    return LineageCoverage(
        model=model,
        labels=tuple(_label(lineage, label, told) for label in wanted),
        told=len(told),
        silent=tuple(sorted(lineage.name(node) for node in silent)),
        unexplained=unexplained,
    )


def gaps(found: LineageCoverage) -> tuple[str, ...]:
    """The labels that no ancestor covers."""
    return tuple(one.label for one in found.labels if one.gap)


def _ancestry(lineage: Lineage, model: bytes) -> Iterator[Step]:
    """The model's own step and those of all that went into it: of weight 0, nothing did."""
    waiting, seen = [model], {model}
    while waiting:
        step = lineage.steps[waiting.pop()]
        yield step
        further = {source.model for source in step.sources if source.w_e9 != 0} - seen
        seen |= further
        waiting += sorted(further)


def _label(lineage: Lineage, label: str, told: Collection[Claimed]) -> LabelCoverage:
    by: dict[str, int | None] = {}
    missing: set[str] = set()
    for one in told:
        rows = dict(one.rows)
        if label in rows:
            by[one.node] = _larger(by.get(one.node), rows[label])
        elif label in one.not_evaluated:
            missing.add(one.node)
    hospitals = [Covering(node=node, name=lineage.name(node), rows=by[node]) for node in by]
    return LabelCoverage(
        label=label,
        covered_by=tuple(sorted(hospitals, key=lambda one: (-(one.rows or -1), one.name))),
        not_evaluated_by=tuple(sorted(lineage.name(node) for node in missing - set(by))),
    )


def _rounds(step: Step) -> list[tuple[str, int]]:
    return [] if step.round is None else [(node, step.round) for node in step.nodes]


def _larger(one: int | None, other: int | None) -> int | None:
    known = [rows for rows in (one, other) if rows is not None]
    return max(known, default=None)


def _manifest(sealed: bytes, limits: Limits) -> Artifact | None:
    try:
        return read_statement(envelope.unpack(sealed, limits=limits).payload, limits=limits)
    except RemoteError:
        return None


def _knowledge(artifact: Artifact, blob: Blob, limits: Limits) -> KnowledgeManifest | None:
    if artifact.knowledge is None:
        return None
    digest = bytes.fromhex(artifact.knowledge)
    data = blob(digest, limits.knowledge_bytes)
    if data is None or sha256(data) != digest:
        return None
    try:
        return knowledge_manifest.read(data, limits=limits)
    except RemoteError:
        return None
