"""The table at the end of a run, for people, on stdout."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from konsil.simulations.report import (
    bytes_text,
    metric_name,
    metric_text,
    percent_text,
    signed_text,
)
from konsil.simulations.screen import Screen

if TYPE_CHECKING:
    from rich.console import Console

    from konsil.simulations.facts import HospitalFacts, RunFacts

NOTABLE = 0.1
"""A hostile hospital with this share of the weight gets a word of explanation."""


def print_summary(facts: RunFacts, *, console: Console | None = None) -> None:
    """Print one row a hospital, then the means, the reference and what was sent."""
    console = console or Screen(file=sys.stdout)
    name = metric_name(facts.metric)
    table = Table(box=None, pad_edge=False, header_style="dim", show_footer=True)
    counted = facts.counted()
    local = facts.mean([h.metric_local for h in counted])
    network = facts.mean([h.metric_network for h in counted])
    columns = (
        ("hospital", "mean of the honest"), ("rows", ""), ("local only", metric_text(local)),
        ("network", metric_text(network)), ("gain", _gain(local, network)), ("weight", ""),
    )  # fmt: skip
    for title, footer in columns:
        left = title == "hospital"
        table.add_column(title, footer=footer, justify="left" if left else "right", no_wrap=True)
    for one in facts.hospitals:
        table.add_row(*_cells(one, facts))
    console.print(table)
    verified = sum(one.verified for one in facts.ledgers)
    artifacts = ", ".join(f"{kind}: {count}" for kind, count in sorted(facts.artifacts.items()))
    for line in (
        "",
        f"metric             {name} on patients that nobody trained on",
        "weight             share of the topology's weight that honest peers granted, last quarter",
        *_on_liars(facts),
        f"pooled reference   {metric_text(facts.metric_pooled)} (one model on everybody's rows)",
        f"artifacts          {artifacts or 'none'}",
        f"on the wire        {bytes_text(facts.bytes_on_wire)}",
        f"ledgers verified   {verified} of {len(facts.ledgers)}",
        f"wall time          {facts.wall_s:.0f} s",
        f"report             {facts.report}",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _on_liars(facts: RunFacts) -> list[str]:
    """What to make of a hostile hospital that was given weight in the end."""
    heard = [
        one.name
        for one in facts.hospitals
        if one.byzantine and (one.weight_received_by_honest or 0.0) >= NOTABLE
    ]
    return [
        f"{name} is hostile and was heard in the end: once its own training has converged, its"
        " reversed step is short, and some hospital's patients show no harm (see the report)"
        for name in heard
        if facts.attack == "sign_flip"
    ]


def _cells(one: HospitalFacts, facts: RunFacts) -> list[Text | str]:
    label = Text(one.name, style="red" if one.byzantine else "bold")
    if one.byzantine:
        label.append(" (Byzantine)")
    elif one.name in facts.killed:
        label.append(f" (killed in round {facts.killed[one.name]})")
    return [
        label,
        "–" if one.n_train is None else str(one.n_train),
        metric_text(one.metric_local),
        metric_text(one.metric_network),
        "–" if one.byzantine else _gain(one.metric_local, one.metric_network),
        percent_text(one.weight_received_by_honest),
    ]


def _gain(local: float | None, network: float | None) -> str:
    return signed_text(None if local is None or network is None else network - local)
