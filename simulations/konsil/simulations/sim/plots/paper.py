"""Paper: what all plots have in common: size, type, colours, title, and how they are kept.

Colours are those of Okabe and Ito, which people who see no red or green tell apart too; what
differs in colour differs in its line or shape as well. Nothing of the clock or the machine gets
into a file.
"""

from __future__ import annotations

import contextlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from konsil.simulations.report import metric_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from konsil.simulations.sim.result import Result
    from konsil.simulations.sim.scenario import Scenario

BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
INK, GREY, PALE = "#222222", "#666666", "#D9D9D9"
DOTTED, DASHED = (0, (1.5, 1.5)), (0, (6, 2))
DOTS_PER_INCH = 100
WIDTH = 8.0
"""Inches: 800 pixels."""

STYLE: Mapping[Any, Any] = MappingProxyType(
    {
        "font.family": "DejaVu Sans",
        "font.size": 11,
        "axes.labelsize": 11,
        "axes.edgecolor": GREY,
        "axes.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#EBEBEB",
        "xtick.color": INK,
        "ytick.color": INK,
        "text.color": INK,
        "figure.facecolor": "white",
        "legend.frameon": False,
        "svg.fonttype": "path",
        "svg.hashsalt": "konsil",
    }
)
"""For matplotlib, which otherwise takes these from its user's own file."""


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Within, figures look as ours do; afterwards matplotlib is as before."""
    import matplotlib

    with matplotlib.rc_context(dict(STYLE)):
        yield


def sheet(height: float) -> tuple[Figure, Axes]:
    """An empty figure of `height` inches that is drawn into memory, and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def keep(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write the figure as NAME.png and NAME.svg; returns both paths."""
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    figure.savefig(png, metadata={"Software": None})
    figure.savefig(svg, metadata={"Date": None, "Creator": None})
    return [png, svg]


def entitle(axes: Axes, title: str, scenario: Scenario, results: Sequence[Result]) -> None:
    """A title on the left, and in small type below it which runs these are."""
    axes.set_title(f"{title}\n", loc="left", fontsize=13, fontweight="bold")
    axes.text(
        0.0, 1.02, facts(scenario, results), transform=axes.transAxes, fontsize=9.5, color=GREY
    )


def facts(scenario: Scenario, results: Sequence[Result]) -> str:
    """The scenario in one line."""
    population, seeds = scenario.population, [one.seed for one in results]
    parts = [
        population.dataset,
        f"{population.nodes} nodes",
        scenario.topology.kind.replace("_", " "),
        f"rule {scenario.trust.rule}",
    ]
    if scenario.hostile:
        attacks = ", ".join(scenario.adversary.attacks).replace("_", " ")
        parts.append(f"{scenario.hostile} Byzantine: {attacks}")
    parts.append(f"seeds {seeds[0]}–{seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}")
    return " · ".join(parts)


def measured(scenario: Scenario) -> str:
    """The name of the metric on an axis."""
    name = metric_name(scenario.population.metric)
    return name if name == "AUC" else f"{name} (share of test rows)"
