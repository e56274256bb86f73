"""Histogram: how the honest nodes' metrics spread, for networks too large to be drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from konsil.simulations.sim.plots.paper import (
    BLUE,
    DASHED,
    DOTTED,
    INK,
    VERMILION,
    entitle,
    measured,
    sheet,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from matplotlib.figure import Figure

    from konsil.simulations.sim.portrait import Portrait
    from konsil.simulations.sim.result import Result
    from konsil.simulations.sim.scenario import Scenario

    Values: TypeAlias = npt.NDArray[np.float64]

MOST_BARS = 40
_SAME = 1e-9


def histogram(
    results: Sequence[Result], portraits: Sequence[Portrait], scenario: Scenario
) -> Figure:
    """The figure of all honest nodes of all seeds, in the last round."""
    figure, axes = sheet(height=4.6)
    entitle(axes, "How the honest nodes differ", scenario, results)
    values = np.concatenate([one.metric for one in portraits])
    values = values[np.isfinite(values)]
    if len(values):
        axes.hist(values, bins=list(edges(values)), color=BLUE, edgecolor="white", linewidth=0.6)
        axes.axvline(float(values.mean()), color=INK, linestyle=DASHED, linewidth=1.8, label="mean")
        axes.axvline(
            float(values.min()), color=VERMILION, linestyle=DOTTED, linewidth=1.8,
            label="worst node",
        )  # fmt: skip
    axes.set_xlabel(f"{measured(scenario)} after the last round")
    axes.set_ylabel("honest nodes")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def edges(values: Values) -> Values:
    """Where bars begin and end: each as many whole steps wide, for a metric moves in steps.

    A step is one test row, the least difference of two nodes; without whole steps some bars
    would stand for more possible values than others.
    """
    distinct = np.unique(values)
    gaps = np.diff(distinct)
    gaps = gaps[gaps > _SAME]
    step = float(gaps.min()) if len(gaps) else 0.01
    reach = float(distinct[-1] - distinct[0])
    width = step * max(1, int(np.ceil(reach / step / MOST_BARS)))
    bars = int(np.floor(reach / width + 0.5)) + 1
    begin = float(distinct[0]) - step / 2
    found: Values = np.array([begin + width * bar for bar in range(bars + 1)])
    return found
