"""The tables at the end of a simulation, for people, on stdout.

They read the same `data` that `--json` prints, so that both say the same.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

from rich.table import Table

from konsil.simulations.report import bytes_text, metric_name, metric_text, percent_text
from konsil.simulations.screen import Screen
from konsil.simulations.sim.live import duration
from konsil.simulations.sim.spectrum import mixing_rounds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console


def print_run(data: Mapping[str, Any], *, console: Console | None = None) -> None:
    """One scenario: the metric, the references beside it, what was granted, and the cost."""
    console = console or Screen(file=sys.stdout)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("", "mean", "worst"):
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    for label, name in (("network", "metric"), ("local only", "metric_local")):
        table.add_row(label, *(_spread(data, f"{name}_{which}") for which in ("mean", "worst")))
    table.add_row("pooled reference", _spread(data, "metric_pooled"), "")
    console.print(table)
    seeds = data.get("seeds", [data["seed"]])
    rate = data["node_rounds_per_cpu_s"]
    for label, value in (
        ("metric", f"{metric_name(data['metric'])} of the honest nodes on common test rows"),
        ("network", f"{data['nodes']} nodes, {data['topology']}, {data['rounds']} rounds of"
                    f" {data['dataset']}, rule {data['rule']}"),
        ("spectral gap", _gap(data["spectral_gap"])),
        ("honest weight", percent_text(data["honest_weight_mean"])),
        ("attackers' weight", percent_text(data["attacker_weight_mean"])),
        *_backdoor(data["backdoor_success"]),
        ("faults", _counts(data["faults"])),
        ("a node and round", _sent(data["bytes_per_node_round"])),
        ("speed", "–" if rate is None else f"{rate:,.0f} node-rounds a CPU second"),
        ("time", f"{duration(data['wall_s'])}, peak {_memory(data['peak_rss_mb'])}"),
        ("seeds" if len(seeds) > 1 else "seed", ", ".join(map(str, seeds))),
    ):  # fmt: skip
        console.print(f"{label:<18} {value}", markup=False, highlight=False, soft_wrap=True)


def print_sweep(data: Mapping[str, Any], *, console: Console | None = None) -> None:
    """One row for each variant of a sweep."""
    console = console or Screen(file=sys.stdout)
    runs: Sequence[Mapping[str, Any]] = data["runs"]
    table = Table(box=None, pad_edge=False, header_style="dim")
    keys = list(runs[0]["set"])
    for key in keys:
        table.add_column(key)
    for title in ("mean", "worst", "local only", "honest", "attackers", "time"):
        table.add_column(title, justify="right", no_wrap=True)
    for one in runs:
        table.add_row(
            *(str(one["set"][key]) for key in keys),
            _spread(one, "metric_mean"),
            _spread(one, "metric_worst"),
            _spread(one, "metric_local_mean"),
            percent_text(one["honest_weight_mean"]),
            percent_text(one["attacker_weight_mean"]),
            duration(one["wall_s"]),
        )
    console.print(table)
    metric = metric_name(runs[0]["metric"])
    for line in (
        "",
        f"metric             {metric} of the honest nodes on common test rows",
        "honest, attackers  share of the topology's weight that honest nodes granted them",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _spread(data: Mapping[str, Any], name: str) -> str:
    """The value, and its spread where there are several seeds."""
    spread = data.get("sd", {}).get(name)
    value = metric_text(data[name])
    return value if spread is None else f"{value} ± {metric_text(spread)}"


def _gap(gap: float | None) -> str:
    """The gap, and how long it takes until nodes that only mix agree."""
    if gap is None:
        return "–"
    rounds = mixing_rounds(gap)
    if math.isinf(rounds):
        return f"{gap:.4f}: the nodes never come to agree"
    count = max(1, round(rounds))
    plural = "round" if count == 1 else "rounds"
    return f"{gap:.4f}: disagreement is a thousandth after {count} {plural} of mixing"


def _backdoor(share: float | None) -> list[tuple[str, str]]:
    """A line where somebody taught a hidden pattern."""
    if share is None:
        return []
    return [("backdoor", f"{percent_text(share)} of stamped rows are taken for its class")]


def _counts(faults: Mapping[str, float]) -> str:
    return ", ".join(f"{kind} {count:g}" for kind, count in faults.items()) or "none"


def _sent(count: float | None) -> str:
    return "–" if count is None else f"sends {bytes_text(round(count))}"


def _memory(mb: float | None) -> str:
    return "–" if mb is None else f"{mb:.0f} MB"
