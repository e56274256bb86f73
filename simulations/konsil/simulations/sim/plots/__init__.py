"""Plots: what one scenario came to, under one seed or more, as PNG and SVG.

    metric       mean and worst honest node over the rounds, beside learning alone and pooled
    attackers    the weight that honest nodes grant Byzantine ones, where there are any
    network      who hears whom, nodes coloured by metric, links by weight; of the first seed
    nodes        a histogram of the nodes' metrics instead, where nodes are too many for that

The same run gives the same bytes. matplotlib is an optional extra, imported when something is
drawn and used through its objects only; no window is ever opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.simulations.sim.plots.attackers import attackers
from konsil.simulations.sim.plots.curves import curves
from konsil.simulations.sim.plots.histogram import histogram
from konsil.simulations.sim.plots.network import network
from konsil.simulations.sim.plots.paper import keep, style
from konsil.simulations.sim.portrait import MOST_NODES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from konsil.simulations.sim.portrait import Portrait
    from konsil.simulations.sim.result import Result
    from konsil.simulations.sim.scenario import Scenario


def draw(
    results: Sequence[Result], portraits: Sequence[Portrait], scenario: Scenario, folder: Path
) -> list[Path]:
    """Draw everything into a folder that exists; results and portraits are by seed, in one order.

    Returns the files. Raises `ModuleNotFoundError` without matplotlib, and `OSError`.
    """
    with style():
        made = keep(curves(results, scenario), folder, "metric")
        if any(point.attacker_weight_mean is not None for one in results for point in one.history):
            made += keep(attackers(results, scenario), folder, "attackers")
        if portraits[0].links.nodes > MOST_NODES:
            made += keep(histogram(results, portraits, scenario), folder, "nodes")
        else:
            made += keep(network(portraits[0], results[0], scenario), folder, "network")
    return made
