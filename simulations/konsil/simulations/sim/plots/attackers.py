"""Attackers: how much of the topology's weight honest nodes grant Byzantine ones, over time.

In a plain mean it is all of it, 100 %. Beside it, the weight that honest senders are granted.
"""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

from konsil.simulations.sim.plots.curves import band, mark_faults, over_rounds
from konsil.simulations.sim.plots.paper import BLUE, DASHED, VERMILION, entitle, sheet
from konsil.simulations.sim.plots.series import known, series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from konsil.simulations.sim.result import Result
    from konsil.simulations.sim.scenario import Scenario


def attackers(results: Sequence[Result], scenario: Scenario) -> Figure:
    """The figure of the attackers' weight, of one scenario under all its seeds."""
    from matplotlib.ticker import PercentFormatter

    figure, axes = sheet(height=4.2)
    entitle(axes, "What honest nodes grant", scenario, results)
    weight = series(results, lambda point: point.attacker_weight_mean)
    band(axes, weight, VERMILION, "s", "to attackers")
    honest = known(one.honest_weight_mean for one in results)
    if honest:
        axes.axhline(
            fmean(honest), color=BLUE, linestyle=DASHED, linewidth=1.6,
            label="to honest nodes, mean of the last three quarters",
        )  # fmt: skip
    mark_faults(axes, scenario)
    over_rounds(axes, scenario)
    axes.set_ylim(-0.02, 1.05)
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    axes.set_ylabel("share of the graph's weight")
    figure.legend(loc="outside lower center", ncols=2)
    return figure
