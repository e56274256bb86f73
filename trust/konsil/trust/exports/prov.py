"""W3C PROV-JSON: how a model came to be, for tools that draw and query provenance.

A payload is an Entity, training, mixing and releasing are Activities, a hospital's node is an
Agent. What was used carries its weight in units of 1e-9; a step that is not linear has none.
Base models, and payloads that no given ledger explains, are Entities that nothing generated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.trust.exports.names import instant
from konsil.trust.printable import printable

if TYPE_CHECKING:
    from konsil.trust.lineage import Lineage
    from konsil.trust.steps import Step

MEDIA_TYPE = "application/json"
PREFIXES = {
    "konsil": "konsil:prov/",
    "entry": "konsil:entry/",
    "node": "konsil:node/",
    "payload": "konsil:payload/sha256/",
}
MADE = ("train", "mix", "taught", "release")
"""Kinds of step that are Activities."""

Records = dict[str, dict[str, object]]


def to_prov(lineage: Lineage, model: bytes) -> dict[str, object]:
    """The PROV-JSON document of a model's ancestry."""
    order = lineage.ordered(model)
    parts: dict[str, Records] = {
        "entity": {_payload(step.out): _entity(step) for step in order},
        "activity": {_entry(step): _activity(step) for step in order if step.kind in MADE},
        "agent": _agents(lineage, order),
    }
    for step in order:
        relations = _making(step) if step.kind in MADE else _origin(step)
        for name, relation in relations:
            part = parts.setdefault(name, {})
            part[f"_:{name}{len(part)}"] = relation
    return {"prefix": PREFIXES} | {name: part for name, part in parts.items() if part}


def _making(step: Step) -> list[tuple[str, dict[str, object]]]:
    """The relations of a step that made something, by name."""
    activity, out = _entry(step), _payload(step.out)
    found: list[tuple[str, dict[str, object]]] = [
        (
            "wasGeneratedBy",
            {"prov:entity": out, "prov:activity": activity, "prov:time": instant(step.time_ms)},
        ),
        ("wasAssociatedWith", {"prov:activity": activity, "prov:agent": _node(step.node)}),
    ]
    for source in step.sources:
        used = _payload(source.model)
        weight = {} if source.w_e9 is None else {"konsil:weight_e9": source.w_e9}
        derived = {"prov:generatedEntity": out, "prov:usedEntity": used, "prov:activity": activity}
        found.append(("used", {"prov:activity": activity, "prov:entity": used, **weight}))
        found.append(("wasDerivedFrom", {**derived, **weight}))
    return found


def _origin(step: Step) -> list[tuple[str, dict[str, object]]]:
    """Whose a payload is that no ledger explains, or who claim it; a base model is nobody's."""
    if step.kind == "base":
        return []
    out = _payload(step.out)
    return [
        ("wasAttributedTo", {"prov:entity": out, "prov:agent": _node(node)}) for node in step.nodes
    ]


def _entity(step: Step) -> dict[str, object]:
    words: dict[str, object] = {
        "prov:type": _type("BaseModel" if step.kind == "base" else "Payload"),
        "konsil:sha256": step.out.hex(),
    }
    if step.kind == "base" and step.note:
        words["konsil:source"] = printable(step.note)
    return words


def _activity(step: Step) -> dict[str, object]:
    words: dict[str, object] = {
        "prov:endTime": instant(step.time_ms),
        "prov:type": _type(step.kind.capitalize()),
        "konsil:node": step.node,
    }
    if step.index is not None:
        words["konsil:index"] = step.index
    if step.round is not None:
        words["konsil:round"] = step.round
    if step.note:
        words["konsil:rule"] = printable(step.note)
    return words


def _agents(lineage: Lineage, order: list[Step]) -> Records:
    """The nodes that made something here, each with its short name."""
    nodes = sorted({node for step in order if step.kind != "base" for node in step.nodes})
    return {
        _node(node): {
            "prov:type": {"$": "prov:Organization", "type": "prov:QUALIFIED_NAME"},
            "prov:label": lineage.name(node),
        }
        for node in nodes
    }


def _type(word: str) -> dict[str, str]:
    return {"$": f"konsil:{word}", "type": "prov:QUALIFIED_NAME"}


def _payload(digest: bytes) -> str:
    return f"payload:{digest.hex()}"


def _entry(step: Step) -> str:
    return f"entry:{step.node}/{step.index}"


def _node(node: str) -> str:
    return f"node:{node}"
