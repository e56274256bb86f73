"""The SVG writer: well-formed, escaped, finite, and its labels apart."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.trust.svg import (
    Axes,
    Drawing,
    Guide,
    Series,
    line_chart,
    number,
    scales,
    spread,
    ticks,
)

AXES = Axes(
    width=400, height=200, x_range=(1, 8), y_range=(0, 1), x_label="<x>", y_label="a & b",
    title='"t"',
)  # fmt: skip
NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn")), max_size=20)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=6), WORDS)
@settings(max_examples=60, deadline=None)
def test_any_series_gives_a_finite_well_formed_drawing(points, label):
    drawn = line_chart(AXES, [Series(points=tuple(points), css="h0", label=label)])
    root = ElementTree.fromstring(drawn)
    assert not re.search(r"\bnan\b|\binf\b", re.sub(r"<(title|text)[^>]*>[^<]*", "", drawn))
    shown = [node.text for node in root.iter() if node.tag.endswith("text")]
    assert "a & b" in shown
    if label and any(math.isfinite(x) and math.isfinite(y) for x, y in points):
        assert label in shown


def test_text_and_classes_are_escaped():
    drawing = Drawing(10, 10, "</title><script>")
    drawing.text((1, 1), "</text><script>alert(1)</script>", 'x"><script>')
    drawing.circle((1, 1), 1, 'y" onload="z', hover="<b>")
    assert "<script>" not in str(drawing)
    root = ElementTree.fromstring(str(drawing))
    assert root[1].text == "</text><script>alert(1)</script>"
    assert root[2].attrib["class"] == 'y" onload="z'


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_coordinate_that_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="no coordinate"):
        number(value)


def test_numbers_are_short():
    assert [number(v) for v in (1.0, 0.125, -0.001, 2.5)] == ["1", "0.12", "0", "2.5"]


def test_a_gap_breaks_the_line_and_a_lone_point_is_a_dot():
    points = ((1.0, 0.1), (2.0, 0.2), (3.0, math.nan), (4.0, 0.4))
    drawn = line_chart(AXES, [Series(points=points, css="h0")])
    assert drawn.count('class="line h0"') == 1
    assert drawn.count('class="dot h0"') == 1


def test_values_beyond_the_range_stay_on_the_drawing():
    x_of, y_of = scales(AXES)
    assert x_of(-5) == x_of(1)
    assert y_of(9) == y_of(1) == 14
    assert y_of(-9) == 160


def test_guides_are_drawn_with_their_words():
    assert "no weight" in line_chart(AXES, [], [Guide(value=0.3, label="no weight")])


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 12))
@settings(max_examples=80, deadline=None)
def test_ticks_are_few_ordered_and_inside(low, span, most):
    found = ticks(low, low + span, most)
    assert len(found) <= most + 1
    assert found == sorted(found)
    slack = span * 1e-6 + 1e-9
    assert all(low - slack <= tick <= low + span + slack for tick in found)


@given(st.integers(-1_000, 1_000), st.integers(0, 3_000), st.integers(2, 12))
@settings(max_examples=80, deadline=None)
def test_whole_ticks_are_whole_and_begin_no_later_than_a_step_after_the_lowest(low, span, most):
    found = ticks(float(low), float(low + span), most, whole=True)
    assert all(tick == int(tick) for tick in found)
    assert found
    assert len(found) <= most + 1
    assert ticks(1.0, 4.0, 9, whole=True) == [1.0, 2.0, 3.0, 4.0]


def test_an_axis_of_rounds_has_no_half_round():
    rounds = Axes(
        width=400, height=200, x_range=(1, 4), y_range=(0, 1), x_label="round", y_label="y",
        title="t", whole_x=True,
    )  # fmt: skip
    assert ">1.5<" not in line_chart(rounds, [])
    assert ">1.5<" in line_chart(msgspec.structs.replace(rounds, whole_x=False), [])


def test_ticks_of_an_empty_range():
    assert ticks(2.0, 2.0) == [2.0]
    assert ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=7))
@settings(max_examples=80, deadline=None)
def test_labels_are_apart_in_order_and_inside(wanted):
    placed = spread(wanted, 15.0, 0.0, 100.0)
    assert all(-1e-9 <= y <= 100 + 1e-9 for y in placed)
    ordered = sorted(placed)
    assert all(b - a >= 15.0 - 1e-6 for a, b in pairwise(ordered))
    ranks = sorted(range(len(wanted)), key=lambda i: wanted[i])
    assert [placed[i] for i in ranks] == ordered
