"""Network: the topology, each honest node coloured by its metric, each link by what is granted.

A link that goes both ways is drawn as two halves, each belonging to the node at its end: its
colour is what that node grants the other. One that goes one way is all the receiver's. What
bears no weight is dotted: nothing arrived, or the node is Byzantine and what it grants says
nothing. Where the graph changes, it is that of the last round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from konsil.simulations.sim.plots.paper import (
    BLUE,
    GREY,
    INK,
    VERMILION,
    entitle,
    measured,
    sheet,
)
from konsil.simulations.sim.plots.places import places

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection, PathCollection
    from matplotlib.figure import Figure

    from konsil.simulations.sim.links import Links
    from konsil.simulations.sim.plots.places import Places
    from konsil.simulations.sim.portrait import Portrait, Values
    from konsil.simulations.sim.result import Result
    from konsil.simulations.sim.scenario import Scenario

NARROWEST = 0.05
"""Difference of metrics that the colours span at least."""


def network(portrait: Portrait, result: Result, scenario: Scenario) -> Figure:
    """The figure of one run in its last round."""
    figure, axes = sheet(height=6.0)
    entitle(axes, "The network in its last round", scenario, [result])
    axes.set_axis_off()
    axes.set_aspect("equal", adjustable="datalim")
    where = places(scenario.topology.kind, portrait.links)
    halves = _links(axes, portrait, where)
    dots = _nodes(axes, portrait, where)
    figure.colorbar(dots, ax=axes, shrink=0.8, pad=0.02, label=measured(scenario))
    if halves is not None:
        from matplotlib.ticker import PercentFormatter

        bar = figure.colorbar(halves, ax=axes, shrink=0.8, pad=0.02, ticks=[0, 0.25, 0.5, 0.75, 1])
        bar.set_label("weight that the nearer node grants the other")
        bar.ax.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _links(axes: Axes, portrait: Portrait, where: Places) -> LineCollection | None:
    """Lines from each receiver; returns those that bear a weight, if any do."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LinearSegmentedColormap

    links, granted = portrait.links, portrait.granted
    lines = _lines(links, where)
    weights = np.full(len(links), np.nan) if granted is None else granted
    bears = np.isfinite(weights) & ~portrait.hostile[links.receiver]
    thin = float(np.clip(500 / max(len(links), 1), 0.4, 2.4))
    axes.add_collection(
        LineCollection(
            list(lines[~bears]), colors=GREY if granted is None else "#A6A6A6",
            linewidths=thin / 2, linestyles="-" if granted is None else ":", zorder=1,
            label=None if granted is None or bears.all() else "nothing came, or Byzantine",
        )
    )  # fmt: skip
    if not bears.any():
        return None
    order = np.argsort(-weights[bears], kind="stable")  # what is refused lies on top
    drawn = LineCollection(
        list(lines[bears][order]), linewidths=thin, zorder=2,
        cmap=LinearSegmentedColormap.from_list("granted", [VERMILION, "#F0C9A8", "#A9C6DA", BLUE]),
    )  # fmt: skip
    drawn.set_array(weights[bears][order])
    drawn.set_clim(0, 1)
    axes.add_collection(drawn)
    return drawn


def _lines(links: Links, where: Places) -> Places:
    """(links, 2, 2): from the receiver to half way, or all the way where nothing comes back."""
    keys = links.receiver * links.nodes + links.sender
    both = np.isin(links.sender * links.nodes + links.receiver, keys)
    begin, end = where[links.receiver], where[links.sender]
    return np.stack([begin, np.where(both[:, None], (begin + end) / 2, end)], axis=1)


def _nodes(axes: Axes, portrait: Portrait, where: Places) -> PathCollection:
    """Discs of honest nodes, whose colour is the metric, and crosses of Byzantine ones."""
    honest, size = ~portrait.hostile, _disc(portrait.links.nodes)
    (x, y), (bad_x, bad_y) = where[honest].T, where[portrait.hostile].T
    least, greatest = _span(portrait.metric[honest])
    dots = axes.scatter(
        x, y, c=portrait.metric[honest], s=size, cmap="viridis", vmin=least, vmax=greatest,
        edgecolors=INK, linewidths=0.8, zorder=4, plotnonfinite=True, label="honest node",
    )  # fmt: skip
    if portrait.hostile.any():
        axes.scatter(
            bad_x, bad_y, marker="X", s=max(size * 1.3, 50), color=INK, edgecolors="white",
            linewidths=0.8, zorder=4, label="Byzantine node",
        )  # fmt: skip
    return dots


def _span(metric: Values) -> tuple[float, float]:
    """From the least to the greatest, but wide enough that equal nodes look equal."""
    known = metric[np.isfinite(metric)]
    if not len(known):
        return 0.0, 1.0
    reach = max(float(known.max() - known.min()), NARROWEST)
    greatest = min(float(known.min() + known.max() + reach) / 2, 1.0)
    return greatest - reach, greatest


def _disc(nodes: int) -> float:
    """The area of a disc in square points, such that circles of them do not touch."""
    return float(np.clip(9000 / nodes, 25, 420))
