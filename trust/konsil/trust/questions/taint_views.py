"""What became of a payload, in lines and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.trust.printable import printable
from konsil.trust.questions.words import plural, short, when

if TYPE_CHECKING:
    from konsil.trust.questions.gathering import Gathered
    from konsil.trust.questions.taint import Taint, Tainted

_VERBS = {
    "train": "trained", "mix": "mixed", "taught": "taught", "release": "released", "base": "base",
    "unknown": "",
}  # fmt: skip


def to_lines(homes: Gathered, found: Taint) -> list[str]:
    """The taint in lines: a headline, then each hospital's models in the order of its log."""
    nodes = list(dict.fromkeys(one.step.node for one in found.tainted))
    nodes += [node for node, model in found.holders if node not in nodes and model != found.origin]
    models = {one.step.out: one for one in found.tainted}
    holders = dict(found.holders)
    where = f" in {plural(len(nodes), 'hospital')}" if nodes else ""
    made = found.made
    origin = ""
    if made is not None:
        origin = f" ({_VERBS[made.kind]} by {homes.name(made.node)}, entry {made.index})"
    lines = [f"{found.origin.hex()}{origin}: {plural(len(found.tainted), 'descendant')}{where}"]
    for node in nodes:
        mine = [one for one in found.tainted if one.step.node == node]
        last = models.get(holders.get(node, b""))
        state = "its current model holds none of it"
        if last is not None:
            also = "" if last in mine else f" (as made by {homes.name(last.step.node)}, too)"
            state = f"its current model holds {_share(last)}{also}"
        elif node in holders:
            state = "its current model is it"
        lines.append(f"{homes.name(node)}: {plural(len(mine), 'descendant')}; {state}")
        lines += [f"  {_line(one)}" for one in mine]
    free = [homes.name(node) for node in found.free if node not in nodes]
    if free:
        lines.append(f"nothing of it in: {', '.join(free)}")
    return [printable(line) for line in lines]


def missing(homes: Gathered, found: Taint) -> tuple[str, str] | None:
    """What is needed for the whole answer and not here, with the remedy; None when nothing is."""
    told = []
    makers = dict.fromkeys(step.node for step in found.unexplained if step.node)
    names = sorted({homes.name(node) for node in (*found.unseen, *makers)})
    if found.unseen:
        told.append(f"{plural(len(found.unseen), 'member')} may hold some of it unseen")
    if found.unexplained:
        told.append(f"{plural(len(found.unexplained), 'payload')} may be made from it")
    if lacking := homes.lacking():
        told.append(lacking)
    if hidden := homes.redacted("unlearn.done"):
        told.append(f"{hidden}, and a line of descent may end there")
    if not told:
        return None
    hint = f"name those homes too: {', '.join(names)}" if names else "put the files back"
    return printable("; ".join(told)), printable(hint)


def _share(one: Tainted) -> str:
    share = one.share_e9
    if share is None or one.exact is None:
        return "an amount that is not linear"
    if not one.exact[0]:
        return "a share of 0 %"
    return "less than 0.0000001 %" if share == 0 else f"{share / 1e7:.6g} %"


def _line(one: Tainted) -> str:
    step = one.step
    share = "not linear" if one.exact is None else _share(one).removeprefix("a share of ")
    when_made = "" if step.round is None else f" in round {step.round}"
    sent = "".join(f", published as {out.kind} {out.sequence}" for out in one.published)
    mark = "  CURRENT MODEL" if one.current else ""
    made = f"{_VERBS[step.kind]}{when_made}"
    return (
        f"entry {step.index}  {short(step.out)}  {share}  {made}, {when(step.time_ms)}{sent}{mark}"
    )


def to_data(homes: Gathered, found: Taint) -> dict[str, object]:
    """The `data` object of `konsil audit taint --json`."""
    made = found.made
    return {
        "origin": found.origin.hex(),
        "made": None if made is None else {
            "kind": made.kind, "node_id": made.node, "name": homes.name(made.node),
            "index": made.index, "time_ms": made.time_ms,
        },
        "descendants": [
            {
                "model": one.step.out.hex(),
                "kind": one.step.kind,
                "node_id": one.step.node,
                "name": homes.name(one.step.node),
                "index": one.step.index,
                "round": one.step.round,
                "time_ms": one.step.time_ms,
                "linear": one.exact is not None,
                "share": one.share,
                "share_e9": one.share_e9,
                "current": one.current,
                "published": [msgspec.to_builtins(outlet) for outlet in one.published],
            }
            for one in found.tainted
        ],
        "current_models": [homes.name(node) for node, model in found.holders],
        "free": [homes.name(node) for node in found.free],
        "complete": missing(homes, found) is None,
        "unseen": [homes.name(node) for node in found.unseen],
        "unexplained": [step.out.hex() for step in found.unexplained],
    }  # fmt: skip
