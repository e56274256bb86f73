"""A lineage for the eye and for other tools: text, data, Graphviz dot, a drawing in SVG.

All views are pure functions of a `Lineage` and one model in it, and the same input gives the
same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

import networkx as nx

from konsil.protocol.fields import UNIT_E9
from konsil.trust.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from konsil.trust.lineage import Contributions, Lineage
    from konsil.trust.steps import Step

SHORT = 12
"""Hex digits of a digest that are shown to people."""
MAX_DRAWN = 400
"""Steps in one drawing; older ones are left out and counted."""

_PALETTE = ("#4269d0", "#d1763a", "#3a8f5c", "#a463b0", "#9c6b4e", "#c2415d", "#2f8f9d", "#7a7a2e")
_VERBS = {
    "base": "base model",
    "train": "trained by",
    "mix": "mixed by",
    "taught": "taught by answers at",
    "release": "released by",
    "unknown": "received from",
    "disputed": "claimed by",
}


def to_text(lineage: Lineage, model: bytes) -> str:
    """The lineage in lines for a person: how it was made, and every contributor's share."""
    found = lineage.contributors(model)
    step = lineage.steps[model]
    whose = ", ".join(lineage.current_of(model))
    lines = [model.hex() + (f"  (the current model of {whose})" if whose else "")]
    lines.append(_sentence(lineage, step))
    lines += [
        f"  {source.w_e9 / UNIT_E9:.6f}  {_sentence(lineage, lineage.steps[source.model])}"
        for source in step.sources
        if step.kind == "mix" and source.w_e9 is not None
    ]
    marked = ", incomplete" if found.missing else ""
    lines.append(f"contributors over {found.depth} mixes{marked}:")
    lines += [
        f"  {item.share_e9 / 1e7:6.2f} %  {item.name}  ({item.steps} steps)"
        if found.linear
        else f"       –    {item.name}  ({item.steps} steps since)"
        for item in found.contributors
    ]
    if not found.linear:
        lines.append("not linear: what others taught or handed out has no percentage")
        if found.influences:
            names = ", ".join(lineage.name(node) for node in found.influences)
            lines.append(f"  behind it, by their training: {names}")
    if found.missing:
        lines.append("{} ({})".format(*missing(lineage, found)))
    return "\n".join(lines) + "\n"


def missing(lineage: Lineage, found: Contributions) -> tuple[str, str]:
    """What a lineage that is not complete lacks, and what to do about it."""
    unknown = [step for step in found.missing if step.kind != "disputed"]
    count = len(unknown)
    if not unknown:
        many = len(found.missing)
        names = ", ".join(sorted({lineage.name(step.node) for step in found.missing}))
        message = "1 ancestor is" if many == 1 else f"{many} ancestors are"
        return f"{message} claimed by {names}", "ask them, and keep what either one signed"
    if {step.node for step in unknown} <= lineage.redacted:
        names = ", ".join(sorted({lineage.name(step.node) for step in unknown}))
        word = "1 ancestor" if count == 1 else f"{count} ancestors"
        return f"what made {word} may be redacted by {names}", "ask them what was unlearned"
    names = ", ".join(sorted({lineage.name(step.node) for step in unknown}))
    have, were = ("ancestors have", "they were") if count > 1 else ("ancestor has", "it was")
    message = f"{count} {have} no given ledger that says how {were} made"
    return message, f"name those homes too: {names}"


def to_data(lineage: Lineage, model: bytes, *, steps: bool = False) -> dict[str, object]:
    """The `data` object of `konsil audit lineage --json`.

    The graph of all steps grows with the life of the network, so it is there only with `steps`;
    `size` counts it always.
    """
    found = lineage.contributors(model)
    step = lineage.steps[model]
    order = lineage.ordered(model)
    return {
        "model": model.hex(),
        "current_of": lineage.current_of(model),
        "made": _step_data(lineage, step) | {"sources": _sources_data(lineage, step)},
        "contributors": [
            {
                "name": item.name,
                "node_id": item.node,
                "share": item.share_e9 / UNIT_E9 if found.linear else None,
                "share_e9": item.share_e9 if found.linear else None,
                "coefficient": item.coefficient,
                "rounded": item.rounded,
                "steps": item.steps,
            }
            for item in found.contributors
        ],
        "bases": [
            {"model": root.out.hex(), "source": root.note}
            for root in found.roots
            if root.kind == "base"
        ],
        "gaps": [
            {"model": root.out.hex(), "node_id": root.node, "name": lineage.name(root.node)}
            for root in found.roots
            if root.kind != "base"
        ],
        "linear": found.linear,
        "influences": [{"name": lineage.name(node), "node_id": node} for node in found.influences],
        "complete": found.complete,
        "depth": found.depth,
        "size": {"nodes": len(order), "edges": sum(len(item.sources) for item in order)},
        **({"graph": _graph(lineage, order)} if steps else {}),
    }


def _graph(lineage: Lineage, order: Sequence[Step]) -> dict[str, object]:
    """Every step of an ancestry, and what went into it."""
    return {
        "nodes": [_step_data(lineage, item) for item in order],
        "edges": [
            {"from": source.model.hex(), "to": item.out.hex(), "w_e9": source.w_e9}
            for item in order
            for source in item.sources
        ],
    }


def to_dot(lineage: Lineage, model: bytes) -> str:
    """The graph of a model's ancestry in Graphviz dot."""
    lines = ["digraph lineage {", "  rankdir=LR;", "  node [shape=box];"]
    order = lineage.ordered(model)
    for step in order:
        label = _sentence(lineage, step).replace("\\", "\\\\").replace('"', "'")
        lines.append(f'  "{step.out.hex()}" [label="{label}\\n{step.out.hex()[:SHORT]}"];')
    for step in order:
        for source in step.sources:
            label = "influence" if source.w_e9 is None else f"{source.w_e9 / UNIT_E9:.4f}"
            lines.append(f'  "{source.model.hex()}" -> "{step.out.hex()}" [label="{label}"];')
    return "\n".join([*lines, "}"]) + "\n"


def to_svg(lineage: Lineage, model: bytes) -> str:
    """A drawing of a model's ancestry: one lane a hospital, time from left to right.

    Circles are trained models, squares mixes; a line is as thick as its weight. Base models
    have a lane of their own, for they belong to nobody.
    """
    order = lineage.ordered(model)
    drawn = order[-MAX_DRAWN:]
    lanes = sorted({_lane(step) for step in drawn}, key=lambda lane: _label(lineage, lane))
    places = _places(lineage, drawn, lanes)
    colours = {lane: _PALETTE[at % len(_PALETTE)] for at, lane in enumerate(lanes)}
    width = max(x for x, _ in places.values()) + 40
    height = 40 * len(lanes) + 30
    title = f"Lineage of {model.hex()[:SHORT]}"
    if len(drawn) < len(order):
        title += f", newest {len(drawn)} of {len(order)} steps"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' role="img" font-family="sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        *(
            f'<text x="8" y="{34 + 40 * at}" fill="{colours[lane]}">'
            f"{escape(_label(lineage, lane))}</text>"
            for at, lane in enumerate(lanes)
        ),
        *_edges(drawn, places, colours),
        *(_mark(lineage, step, places[step.out], colours[_lane(step)]) for step in drawn),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _lane(step: Step) -> str:
    """The lane that a step is drawn in: its hospital's, or the empty one of base models."""
    return "" if step.kind == "base" else step.node


def _label(lineage: Lineage, lane: str) -> str:
    return lineage.name(lane) if lane else "(base)"


def _places(
    lineage: Lineage, drawn: Sequence[Step], lanes: Sequence[str]
) -> dict[bytes, tuple[int, int]]:
    graph = lineage.graph.subgraph([step.out for step in drawn])
    columns = {
        digest: column
        for column, generation in enumerate(nx.topological_generations(graph))
        for digest in generation
    }
    left = 24 + 7 * max(len(_label(lineage, lane)) for lane in lanes)
    return {
        step.out: (left + 28 * columns[step.out], 30 + 40 * lanes.index(_lane(step)))
        for step in drawn
    }


def _edges(
    drawn: Sequence[Step],
    places: Mapping[bytes, tuple[int, int]],
    colours: Mapping[str, str],
) -> list[str]:
    lines: list[str] = []
    for step in drawn:
        x2, y2 = places[step.out]
        for source in step.sources:
            if source.model not in places:
                continue
            x1, y1 = places[source.model]
            weight = 0.3 if source.w_e9 is None else source.w_e9 / UNIT_E9
            middle = (x1 + x2) // 2
            lines.append(
                f'<path d="M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}" fill="none"'
                f' stroke="{colours.get(source.node, "#888")}" stroke-opacity="0.6"'
                f' stroke-width="{0.4 + 3.6 * weight:.2f}"/>'
            )
    return lines


def _mark(lineage: Lineage, step: Step, place: tuple[int, int], colour: str) -> str:
    x, y = place
    tip = escape(f"{_sentence(lineage, step)} {step.out.hex()[:SHORT]}")
    if step.kind in ("mix", "taught"):
        shape = f'<rect x="{x - 5}" y="{y - 5}" width="10" height="10" fill={quoteattr(colour)}>'
        return f"{shape}<title>{tip}</title></rect>"
    shape = f'<circle cx="{x}" cy="{y}" r="5" fill="#fff" stroke={quoteattr(colour)}>'
    return f"{shape}<title>{tip}</title></circle>"


def _sentence(lineage: Lineage, step: Step) -> str:
    """How one payload came to be, in words."""
    if step.kind == "base":
        return f"{_VERBS['base']} ({printable(step.note)})"
    when = "" if step.round is None else f", round {step.round}"
    where = "" if step.index is None else f", entry {step.index}"
    return f"{_VERBS[step.kind]} {lineage.name(step.node)}{when}{where}"


def _step_data(lineage: Lineage, step: Step) -> dict[str, object]:
    return {
        "model": step.out.hex(),
        "kind": step.kind,
        "node_id": step.node,
        "name": lineage.name(step.node),
        "index": step.index,
        "round": step.round,
        "time_ms": step.time_ms,
        "note": step.note,
    }


def _sources_data(lineage: Lineage, step: Step) -> list[dict[str, object]]:
    return [
        {
            "model": source.model.hex(),
            "node_id": source.node,
            "name": lineage.name(source.node),
            "w_e9": source.w_e9,
        }
        for source in step.sources
    ]
