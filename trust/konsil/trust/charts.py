"""The two drawings of a consortium: who is linked with whom, and where a model comes from.

Both are pure: facts in, inline SVG out (see `svg`). Hospitals keep one colour class in every
drawing of a report: `h0`, `h1`, … in the order of the member list, and `bad` when Byzantine.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from konsil.trust.svg import Drawing, Point, number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Edge = tuple[str, str]
"""Two linked members, by name."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One model in the history of another: a base, a local training or a mix.

    `lane` is the hospital that made it (absent for the common base), `at` its place in time:
    the hospital's own round for a mix, half a round earlier for a training, 0 for the base.
    """

    key: str
    lane: str | None
    at: float
    kind: str
    hover: str = ""


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """Knowledge that went from one model into another, with its exact share (0–1)."""

    source: str
    target: str
    share: float


def overlay(names: Sequence[str], links: Sequence[Edge], css: Mapping[str, str]) -> str:
    """The members on a circle, with their links."""
    width, height, radius = 380.0, 250.0, 88.0
    drawing = Drawing(width, height, "Who is linked with whom", "overlay")
    where: dict[str, Point] = {}
    for index, name in enumerate(names):
        angle = 2 * math.pi * index / len(names) - math.pi / 2
        where[name] = (
            width / 2 + radius * math.cos(angle),
            height / 2 + radius * math.sin(angle),
        )
    for a, b in links:
        drawing.line(where[a], where[b], "link")
    for name in names:
        drawing.circle(where[name], 8, f"fill {css[name]}", hover=name)
        x, y = where[name]
        side = (
            "middle" if abs(x - width / 2) < radius * 0.3 else "start" if x > width / 2 else "end"
        )
        shift = {"middle": 0.0, "start": 14.0, "end": -14.0}[side]
        down = 4.0 if shift else (26.0 if y > height / 2 else -15.0)
        drawing.text((x + shift, y + down), name, f"label {css[name]}", anchor=side)
    return str(drawing)


class _Plane:
    """Places (time, lane) on the drawing: time to the right, or downwards on a narrow page."""

    def __init__(
        self, lanes: Sequence[str], rounds: float, upright: bool, first: float = 0.0
    ) -> None:
        self.upright, self.first = upright, first
        self.lanes = {name: index for index, name in enumerate(lanes)}
        self.rounds = max(rounds, 1.0)
        count = len(lanes)
        if upright:
            self.lane_gap = 292.0 / max(count, 1)
            self.width, self.time_length = 360.0, 46.0 * self.rounds
            self.height = 96.0 + self.time_length + 34.0
            self.start, self.first_lane = 96.0, 36.0 + self.lane_gap / 2
        else:
            self.lane_gap = 46.0
            self.width, self.time_length = 760.0, 592.0
            self.height = 34.0 + self.lane_gap * count + 34.0
            self.start, self.first_lane = 148.0, 34.0 + self.lane_gap / 2

    @property
    def last(self) -> float:
        """The round at which time ends."""
        return self.first + self.rounds

    def lane(self, name: str | None) -> float:
        """The coordinate across of a hospital, or of the middle for the common base."""
        index = (len(self.lanes) - 1) / 2 if name is None else self.lanes[name]
        return self.first_lane + self.lane_gap * index

    def point(self, at: float, across: float) -> Point:
        """User units of a time and a coordinate across."""
        along = self.start + self.time_length * (at - self.first) / self.rounds
        return (across, along) if self.upright else (along, across)

    def bend(self, start: Point, end: Point) -> str:
        """A curve that leaves and arrives along the time axis."""
        (x1, y1), (x2, y2) = start, end
        a, b = ((x1, (y1 + y2) / 2), (x2, (y1 + y2) / 2))
        if not self.upright:
            a, b = (((x1 + x2) / 2, y1), ((x1 + x2) / 2, y2))
        knots = " ".join(number(v) for v in (*a, *b, x2, y2))
        return f"M{number(x1)} {number(y1)}C{knots}"


def lineage(
    steps: Sequence[Step],
    flows: Sequence[Flow],
    lanes: Sequence[str],
    css: Mapping[str, str],
    *,
    final: str,
    upright: bool = False,
    first: float = 0.0,
) -> str:
    """The history of the model `final`: a lane for each hospital, time along it.

    The width of a line is the share that went into the mix; `upright` runs time downwards.
    Time begins at round `first`; no step may lie before it.
    """
    last = max((step.at for step in steps), default=first + 1.0)
    plane = _Plane(lanes, last - first, upright, first)
    title = "Where the final model comes from"
    drawing = Drawing(plane.width, plane.height, title, "lineage")
    _lane_frame(drawing, plane, lanes, css)
    where = {step.key: plane.point(step.at, plane.lane(step.lane)) for step in steps}
    by_key = {step.key: step for step in steps}
    for flow in sorted(flows, key=lambda flow: -flow.share):
        source, target = by_key[flow.source], by_key[flow.target]
        own = source.lane == target.lane
        tint = css[source.lane] if source.lane is not None else "base"
        drawing.path(
            plane.bend(where[flow.source], where[flow.target]),
            f"flow {'own' if own else 'across'} {tint}",
            hover=f"{source.hover or source.key} → {target.hover or target.key}: {flow.share:.1%}",
            stroke_width=0.7 + 3.3 * flow.share,
        )
    for step in steps:
        tint = css[step.lane] if step.lane is not None else "base"
        if step.key == final:
            drawing.circle(where[step.key], 9.5, f"ring {tint}")
        radius = {"train": 3.0, "base": 6.5}.get(step.kind, 5.0)
        look = "hollow" if step.kind == "train" else "fill"
        drawing.circle(where[step.key], radius, f"{look} {tint}", hover=step.hover)
    return str(drawing)


def _lane_frame(
    drawing: Drawing, plane: _Plane, lanes: Sequence[str], css: Mapping[str, str]
) -> None:
    for name in lanes:
        across = plane.lane(name)
        start, end = plane.point(plane.first, across), plane.point(plane.last, across)
        drawing.line(start, end, "grid")
        if plane.upright:
            drawing.text((across - 4, 66), name, f"label {css[name]}", turn=-52)
        else:
            drawing.text((16, across + 4), name, f"label {css[name]}")
    step = max(1, round(plane.rounds / 10))
    for at in range(math.ceil(plane.first), int(plane.last) + 1, step):
        x, y = plane.point(float(at), 0.0)
        words = "base" if at == 0 else str(at)
        if plane.upright:
            drawing.text((6, y + 4), words, "tick")
        else:
            drawing.text((x, 18), words, "tick", anchor="middle")
    if plane.upright:
        drawing.text((6, plane.height - 6), "own rounds run downwards", "name")
    else:
        end = (plane.width - 20, plane.height - 8)
        drawing.text(end, "own round of each hospital", "name", anchor="end")


def shares_bar(shares: Sequence[tuple[str, float]], css: Mapping[str, str]) -> str:
    """One bar cut into the exact shares of those whose training is in a model."""
    drawing = Drawing(760, 22, "Whose training is in the final model", "bar")
    total = sum(share for _, share in shares) or 1.0
    x = 0.0
    for name, share in shares:
        width = 760 * share / total
        tint = css.get(name, "base")
        drawing.rect((x, 0), max(width - 2, 0), 22, f"fill {tint}", hover=f"{name}: {share:.1%}")
        x += width
    return str(drawing)
