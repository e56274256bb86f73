"""Curves: the metric over the rounds, beside what hospitals reach alone and with pooled rows.

Lines are means over the seeds, bands reach from the lowest to the highest seed. Grey spans are
rounds in which the graph is cut; a thin line marks the round in which late nodes join.
"""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

from konsil.simulations.sim.plots.paper import (
    BLUE,
    DASHED,
    DOTTED,
    GREEN,
    GREY,
    PALE,
    VERMILION,
    entitle,
    measured,
    sheet,
)
from konsil.simulations.sim.plots.series import known, series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from konsil.simulations.sim.plots.series import Series
    from konsil.simulations.sim.result import Result
    from konsil.simulations.sim.scenario import Scenario


def curves(results: Sequence[Result], scenario: Scenario) -> Figure:
    """The figure of the metric, of one scenario under all its seeds."""
    figure, axes = sheet(height=5.0)
    entitle(axes, "What the honest nodes learned", scenario, results)
    mean = series(results, lambda point: point.metric_mean)
    worst = series(results, lambda point: point.metric_worst)
    band(axes, mean, BLUE, "o", "network, mean")
    band(axes, worst, VERMILION, "s", "network, worst node")
    heights = [*mean.least, *mean.greatest, *worst.least, *worst.greatest]
    for values, label, colour, line in (
        ([one.metric_local_mean for one in results], "alone, mean", BLUE, DOTTED),
        ([one.metric_local_worst for one in results], "alone, worst node", VERMILION, DOTTED),
        ([one.metric_pooled for one in results], "all rows pooled", GREEN, DASHED),
    ):
        there = known(values)
        if there:
            heights.append(fmean(there))
            axes.axhline(fmean(there), color=colour, linestyle=line, linewidth=1.6, label=label)
    mark_faults(axes, scenario)
    over_rounds(axes, scenario)
    if heights:
        margin = max(0.05 * (max(heights) - min(heights)), 0.005)
        axes.set_ylim(min(heights) - margin, max(heights) + margin)
    axes.set_ylabel(measured(scenario))
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def band(axes: Axes, line: Series, colour: str, marker: str, label: str) -> None:
    """One line with markers, over the band of its seeds."""
    axes.fill_between(line.rounds, line.least, line.greatest, color=colour, alpha=0.18, lw=0)
    axes.plot(
        line.rounds, line.mean, color=colour, marker=marker, markersize=4, linewidth=2, label=label
    )


def over_rounds(axes: Axes, scenario: Scenario) -> None:
    """The axis of rounds, whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("round")
    axes.set_xlim(0, scenario.training.rounds * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def mark_faults(axes: Axes, scenario: Scenario) -> None:
    """Where in time the graph is cut, and where late nodes join."""
    faults, rounds = scenario.faults, scenario.training.rounds
    for number, (first, last) in enumerate(faults.partition):
        label = None if number else "graph cut in two"
        axes.axvspan(first - 0.5, last + 0.5, color=PALE, alpha=0.6, lw=0, label=label, zorder=0)
    if faults.late:
        axes.axvline(rounds // 2 + 1, color=GREY, linewidth=1.2, label="late nodes join", zorder=1)
