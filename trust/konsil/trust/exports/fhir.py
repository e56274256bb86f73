"""HL7 FHIR R5: a model's making and use, for the audit repository of a hospital's own systems.

A Bundle of one Provenance for each mix, one AuditEvent for each round of training and one for
each logged batch of inferences. No patient, no cohort size and no local path is in it: only
what the ledger says. Models and nodes are logical references, for no FHIR server holds them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.protocol.office_bodies import InferenceBatch
from konsil.trust.exports.names import instant, urn_uuid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from konsil.protocol.entries import Entry
    from konsil.trust.lineage import Lineage
    from konsil.trust.reading import Told
    from konsil.trust.steps import Source, Step

MEDIA_TYPE = "application/fhir+json; fhirVersion=5.0"
DIGESTS = "konsil:payload/sha256"
NODES = "konsil:node"
STEPS = "konsil:step"
WEIGHT = "konsil:fhir/weight_e9"
_OPERATION = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"

Resource = dict[str, object]


def to_fhir(lineage: Lineage, model: bytes, ledgers: Sequence[Told]) -> Resource:
    """The Bundle of a model: how it was made, and where `ledgers` say that it was used."""
    order = lineage.ordered(model)
    models = {step.out for step in order}
    found: list[tuple[int, str, int, Resource]] = []
    for step in order:
        if step.kind in ("mix", "taught"):
            found.append((step.time_ms, step.node, step.index or 0, _provenance(lineage, step)))
        elif step.kind == "train":
            found.append((step.time_ms, step.node, step.index or 0, _training(lineage, step)))
    for told in {told.author.node: told for told in ledgers}.values():
        for entry in told.entries:
            if isinstance(entry.b, InferenceBatch) and entry.b.model in models:
                resource = _batch(lineage, told.author.node, entry, entry.b)
                found.append((entry.ts, told.author.node, entry.n, resource))
    found.sort(key=lambda item: item[:3])
    newest = max((item[0] for item in found), default=lineage.steps[model].time_ms)
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": instant(newest),
        "identifier": {"system": DIGESTS, "value": model.hex()},
        "entry": [
            {"fullUrl": urn_uuid("fhir", node, index), "resource": resource}
            for _, node, index, resource in found
        ],
    }


def _provenance(lineage: Lineage, step: Step) -> Resource:
    """One mix: what came out, who mixed, and every part with its weight."""
    return {
        "resourceType": "Provenance",
        "id": f"{step.node}-{step.index}",
        "target": [_model(step.out)],
        "occurredDateTime": instant(step.time_ms),
        "recorded": instant(step.time_ms),
        "activity": _concept(_OPERATION, "merge", "Merge Record Lifecycle Event", "mix"),
        "agent": [{"who": _node(lineage, step.node)}],
        "entity": [_part(lineage, source) for source in step.sources],
    }


def _part(lineage: Lineage, source: Source) -> Resource:
    part: Resource = {
        "role": "source",
        "what": _model(source.model),
        "agent": [{"who": _node(lineage, source.node)}],
    }
    if source.w_e9 is not None:
        part["extension"] = [{"url": WEIGHT, "valueInteger": source.w_e9}]
    return part


def _training(lineage: Lineage, step: Step) -> Resource:
    """One round of training on a hospital's own data."""
    event = _event(lineage, step.node, step.index or 0, step.time_ms, "train", "C")
    event["occurredDateTime"] = instant(step.time_ms)
    event["entity"] = [
        *({"what": _model(source.model)} for source in step.sources),
        {"what": _model(step.out), "detail": [_detail("round", step.round or 0)]},
    ]
    return event


def _batch(lineage: Lineage, node: str, entry: Entry, body: InferenceBatch) -> Resource:
    """One batch of inferences; the records themselves never left the hospital."""
    event = _event(lineage, node, entry.n, entry.ts, "infer", "E")
    event["occurredPeriod"] = {"start": instant(body.from_ms), "end": instant(body.to_ms)}
    details = [_detail("count", body.count), _detail("root", body.root.hex())]
    event["entity"] = [{"what": _model(body.model), "detail": details}]
    return event


def _event(
    lineage: Lineage, node: str, index: int, time_ms: int, word: str, action: str
) -> Resource:
    return {
        "resourceType": "AuditEvent",
        "id": f"{node}-{index}",
        "code": {"coding": [{"system": STEPS, "code": word}], "text": word},
        "action": action,
        "recorded": instant(time_ms),
        "agent": [{"who": _node(lineage, node), "requestor": True}],
        "source": {"observer": _node(lineage, node)},
    }


def _detail(word: str, value: int | str) -> Resource:
    """A fact about an entity; a number that FHIR's 32-bit integers lack is written as text."""
    kind = {"coding": [{"system": STEPS, "code": word}], "text": word}
    if isinstance(value, int) and value < 2**31:
        return {"type": kind, "valueInteger": value}
    return {"type": kind, "valueString": str(value)}


def _model(digest: bytes) -> Resource:
    return {"identifier": {"system": DIGESTS, "value": digest.hex()}}


def _node(lineage: Lineage, node: str) -> Resource:
    return {
        "type": "Organization",
        "identifier": {"system": NODES, "value": node},
        "display": lineage.name(node),
    }


def _concept(system: str, code: str, display: str, word: str) -> Resource:
    foreign = {"system": system, "code": code, "display": display}
    return {"coding": [foreign, {"system": STEPS, "code": word}], "text": word}
