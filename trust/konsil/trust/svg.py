"""A small writer of inline SVG, and the line chart drawn with it.

The drawings stand in an HTML report: they carry classes and no colours, so that the page's
style sheet decides light, dark and print. Text is escaped, and every number is checked: a
value that is not finite raises `ValueError` in `Drawing` and is a gap in `line_chart`.
Coordinates are user units (CSS pixels at scale 1), y downwards.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Point = tuple[float, float]
"""x, y; in a chart's series a value of the two axes, in a `Drawing` user units."""


def number(value: float) -> str:
    """A coordinate as text, at a hundredth of a unit. Raises `ValueError` when not finite."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is no coordinate")
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def path_of(points: Sequence[Point]) -> str:
    """The path data of straight lines through `points`."""
    return "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)


class Drawing:
    """Shapes in the order in which they are painted; `str()` is the SVG element."""

    def __init__(self, width: float, height: float, title: str, css: str = "") -> None:
        self.width, self.height = width, height
        self._title, self._css = title, css
        self._parts: list[str] = []

    def shape(self, tag: str, css: str, *, hover: str = "", **attributes: float | str) -> None:
        """Any element; numbers are checked, text is escaped, `hover` becomes its tooltip."""
        written = " ".join(
            f'{name.replace("_", "-")}="{escape(v) if isinstance(v, str) else number(v)}"'
            for name, v in attributes.items()
        )
        tip = f"<title>{escape(hover)}</title>" if hover else ""
        self._parts.append(f'<{tag} class="{escape(css)}" {written}>{tip}</{tag}>')

    def line(self, start: Point, end: Point, css: str) -> None:
        """A straight line."""
        self.shape("line", css, x1=start[0], y1=start[1], x2=end[0], y2=end[1])

    def path(self, data: str, css: str, *, hover: str = "", **attributes: float | str) -> None:
        """A path; `data` is made by `path_of` or from `number`."""
        self.shape("path", css, hover=hover, d=data, **attributes)

    def circle(self, centre: Point, radius: float, css: str, *, hover: str = "") -> None:
        """A disc."""
        self.shape("circle", css, hover=hover, cx=centre[0], cy=centre[1], r=radius)

    def rect(
        self, corner: Point, width: float, height: float, css: str, *, hover: str = ""
    ) -> None:
        """A box; `corner` is the upper left one."""
        self.shape("rect", css, hover=hover, x=corner[0], y=corner[1], width=width, height=height)

    def text(
        self, at: Point, words: str, css: str = "", *, anchor: str = "start", turn: float = 0.0
    ) -> None:
        """Words on a base line at `at`, turned by `turn` degrees about it."""
        turned = f' transform="rotate({number(turn)} {number(at[0])} {number(at[1])})"'
        self._parts.append(
            f'<text class="{escape(css)}" x="{number(at[0])}" y="{number(at[1])}" '
            f'text-anchor="{escape(anchor)}"{turned if turn else ""}>{escape(words)}</text>'
        )

    def __str__(self) -> str:
        return (
            f'<svg class="{escape(self._css)}" viewBox="0 0 {number(self.width)} '
            f'{number(self.height)}" role="img" xmlns="http://www.w3.org/2000/svg">'
            f"<title>{escape(self._title)}</title>{''.join(self._parts)}</svg>"
        )


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a chart; `css` names its colour and stroke, `label` stands at its end."""

    points: tuple[Point, ...]
    css: str
    label: str = ""
    hover: str = ""
    """What a single point tells who points at it."""


class Guide(msgspec.Struct, frozen=True, kw_only=True):
    """A horizontal line with a meaning, such as a threshold."""

    value: float
    label: str


class Axes(msgspec.Struct, frozen=True, kw_only=True):
    """The frame of a chart: its size in units, its ranges and what they mean."""

    width: float
    height: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    x_label: str
    y_label: str
    title: str
    margin_right: float = 110.0
    whole_x: bool = False
    """Whether only whole numbers mean something along x, as with rounds."""


_TOP, _LEFT, _BOTTOM, _LABEL_GAP = 14.0, 54.0, 40.0, 15.0


def line_chart(axes: Axes, series: Sequence[Series], guides: Sequence[Guide] = ()) -> str:
    """The lines in one frame, each with its label at its right end; labels never overlap."""
    drawing = Drawing(axes.width, axes.height, axes.title, "chart")
    x_of, y_of = scales(axes)
    _frame(drawing, axes, x_of, y_of)
    for guide in guides:
        y = y_of(guide.value)
        drawing.line((_LEFT, y), (axes.width - axes.margin_right, y), "guide")
        drawing.text((_LEFT + 6, y - 4), guide.label, "note")
    ends: dict[int, Point] = {}
    for index, one in enumerate(series):
        for run in _runs(one.points):
            where = [(x_of(x), y_of(y)) for x, y in run]
            if len(where) == 1:
                drawing.circle(where[0], 2.5, f"dot {one.css}", hover=one.hover)
            else:
                drawing.path(path_of(where), f"line {one.css}", hover=one.label)
            ends[index] = where[-1]
    _end_labels(drawing, axes, {i: at for i, at in ends.items() if series[i].label}, series)
    return str(drawing)


def scales(axes: Axes) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """The two maps from values to units; values beyond a range are drawn at its edge."""

    def along(value: float, span: tuple[float, float], start: float, end: float) -> float:
        low, high = span
        share = (min(max(value, low), high) - low) / ((high - low) or 1.0)
        return start + share * (end - start)

    right, bottom = axes.width - axes.margin_right, axes.height - _BOTTOM
    return (
        lambda value: along(value, axes.x_range, _LEFT, right),
        lambda value: along(value, axes.y_range, bottom, _TOP),
    )


def ticks(low: float, high: float, most: int = 6, *, whole: bool = False) -> list[float]:
    """Round values within [low, high], at most `most` of them; only `whole` numbers if asked."""
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [low]
    rough = max(span / max(most - 1, 1), 1.0 if whole else 0.0)
    power = 10.0 ** math.floor(math.log10(rough))
    steps = [s * power for s in (1, 2, 2.5, 5, 10) if not whole or (s * power).is_integer()]
    step = next(step for step in steps if step >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    # A wide step may have no multiple here.
    return [round(index * step, 12) for index in range(first, last + 1)] or [low]


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions near `wanted`, in its order, at least `gap` apart while [low, high] has room."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    gap = min(gap, (high - low) / max(len(wanted) - 1, 1))
    placed: list[float] = []
    for index in order:
        placed.append(max(wanted[index], placed[-1] + gap if placed else low))
    ceiling = high
    for rank in range(len(placed) - 1, -1, -1):
        placed[rank] = min(placed[rank], ceiling)
        ceiling = placed[rank] - gap
    result = [0.0] * len(wanted)
    for rank, index in enumerate(order):
        result[index] = placed[rank]
    return result


def _runs(points: Sequence[Point]) -> list[list[Point]]:
    """The unbroken stretches of finite points."""
    runs: list[list[Point]] = [[]]
    for point in points:
        if math.isfinite(point[0]) and math.isfinite(point[1]):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _frame(
    drawing: Drawing,
    axes: Axes,
    x_of: Callable[[float], float],
    y_of: Callable[[float], float],
) -> None:
    right, bottom = axes.width - axes.margin_right, axes.height - _BOTTOM
    for value in ticks(*axes.y_range):
        y = y_of(value)
        drawing.line((_LEFT, y), (right, y), "grid")
        drawing.text((_LEFT - 7, y + 4), f"{value:g}", "tick", anchor="end")
    for value in ticks(*axes.x_range, most=9, whole=axes.whole_x):
        drawing.text((x_of(value), bottom + 17), f"{value:g}", "tick", anchor="middle")
    drawing.line((_LEFT, bottom), (right, bottom), "axis")
    drawing.text(((_LEFT + right) / 2, axes.height - 5), axes.x_label, "name", anchor="middle")
    middle = (_TOP + bottom) / 2
    drawing.text((11, middle), axes.y_label, "name", anchor="middle", turn=-90)


def _end_labels(
    drawing: Drawing, axes: Axes, ends: Mapping[int, Point], series: Sequence[Series]
) -> None:
    high = axes.height - _BOTTOM
    heights = spread([at[1] for at in ends.values()], _LABEL_GAP, _TOP, high)
    left = axes.width - axes.margin_right
    for (index, end), y in zip(ends.items(), heights, strict=True):
        css = series[index].css
        drawing.path(path_of([end, (left + 4, end[1]), (left + 11, y)]), f"leader {css}")
        drawing.text((left + 14, y + 4), series[index].label, f"label {css}")
