"""CycloneDX 1.6: a model and everything it was made from, as a bill of materials (ML-BOM).

Each payload is a component; `pedigree.ancestors` names the parts that it was made of, with
their weights, and `dependencies` draws the whole graph. A model card is there where a signed
manifest is known: it says what the manifest says and nothing more, for absent means unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.trust.exports.names import instant, urn_uuid
from konsil.trust.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from konsil.protocol.artifact import Artifact
    from konsil.trust.lineage import Lineage
    from konsil.trust.steps import Step

MEDIA_TYPE = "application/vnd.cyclonedx+json; version=1.6"
SHORT = 12

Component = dict[str, object]


def to_cyclonedx(
    lineage: Lineage, model: bytes, manifests: Mapping[bytes, Artifact]
) -> dict[str, object]:
    """The bill of materials of a model; `manifests` are those known, by payload digest."""
    order = lineage.ordered(model)
    found = lineage.contributors(model)
    head = _component(lineage, lineage.steps[model], manifests.get(model))
    shares = [
        _property(f"share_e9:{item.node}", item.share_e9)
        for item in found.contributors
        if found.linear
    ]
    head["properties"] = [*_properties(lineage.steps[model]), *shares]
    others = [
        _component(lineage, step, manifests.get(step.out)) for step in order if step.out != model
    ]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": urn_uuid("cyclonedx", model.hex(), *(step.out.hex() for step in order)),
        "version": 1,
        "metadata": {
            "timestamp": instant(max(step.time_ms for step in order)),
            "component": head,
            "properties": [_property("lineage", "complete" if found.complete else "incomplete")],
        },
        "components": others,
        "dependencies": [
            {
                "ref": _reference(step.out),
                "dependsOn": sorted({_reference(source.model) for source in step.sources}),
            }
            for step in order
        ],
    }


def _component(lineage: Lineage, step: Step, manifest: Artifact | None) -> Component:
    """One payload, with its parts and, where known, its card."""
    component = _named(lineage, step.out)
    component["bom-ref"] = _reference(step.out)
    component["properties"] = _properties(step)
    if step.kind not in ("base", "unknown", "disputed"):
        component["manufacturer"] = {"name": lineage.name(step.node)}
    ancestors = [
        _named(lineage, source.model)
        | ({} if source.w_e9 is None else {"properties": [_property("weight_e9", source.w_e9)]})
        for source in step.sources
    ]
    if ancestors:
        component["pedigree"] = {"ancestors": ancestors}
    if manifest is not None:
        component["modelCard"] = _card(manifest)
    return component


def _named(lineage: Lineage, digest: bytes) -> Component:
    step = lineage.steps[digest]
    maker = "base" if step.kind == "base" else lineage.name(step.node)
    return {
        "type": "machine-learning-model",
        "name": f"{maker}-{digest.hex()[:SHORT]}",
        "version": digest.hex(),
        "hashes": [{"alg": "SHA-256", "content": digest.hex()}],
    }


def _properties(step: Step) -> list[dict[str, str]]:
    words = [_property("step", step.kind)]
    if step.kind != "base":
        words += (_property("node", node) for node in step.nodes)
    for name, value in (("index", step.index), ("round", step.round)):
        if value is not None:
            words.append(_property(name, value))
    if step.note:
        words.append(_property("note", printable(step.note)))
    return words


def _card(manifest: Artifact) -> dict[str, object]:
    """What the signed manifest says about the model."""
    coverage, privacy = manifest.coverage, manifest.privacy
    words = [
        _property("kind", manifest.kind),
        _property("publisher", manifest.publisher),
        _property("sequence", manifest.sequence),
        _property("rows_at_least", coverage.rows),
        *(_property(f"rows_at_least:{printable(one.name)}", one.rows) for one in coverage.classes),
        _property("privacy.mechanism", privacy.mechanism),
    ]
    if privacy.unit != "none":
        words.append(_property("privacy.unit", privacy.unit))
        words.append(_property("privacy.epsilon_micro", privacy.epsilon_micro))
        words.append(_property("privacy.delta_e12", privacy.delta_e12))
    card: dict[str, object] = {
        "modelParameters": {
            "task": manifest.task,
            "modelArchitecture": f"sha256:{manifest.architecture}",
        },
        "properties": words,
    }
    if coverage.not_evaluated:
        card["considerations"] = {
            "technicalLimitations": [
                f"not evaluated: {printable(name)}" for name in coverage.not_evaluated
            ]
        }
    return card


def _property(name: str, value: object) -> dict[str, str]:
    return {"name": f"konsil:{name}", "value": str(value)}


def _reference(digest: bytes) -> str:
    return f"sha256:{digest.hex()}"
