"""A question is named by what is asked: quantised inputs, their shape, and the classes in order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from konsil.knowledge.teaching import question
from konsil.knowledge.teaching.question import Question
from konsil.protocol.errors import ConfigError

CLASSES = ("no", "yes")
GREY = arrays.arrays(np.uint8, (3, 1, 4, 4))


@given(GREY, st.integers(0, 47), st.integers(1, 255))
@settings(max_examples=30, deadline=None)
def test_one_level_elsewhere_is_another_question(levels, place, step):
    changed = levels.copy()
    changed.flat[place] = (int(levels.flat[place]) + step) % 256
    one, other = (Question("images", array, CLASSES) for array in (levels, changed))
    assert one.digest != other.digest


@given(GREY)
@settings(max_examples=30, deadline=None)
def test_what_is_quantised_twice_is_the_same_question(levels):
    asked = Question("images", levels, CLASSES)
    again = question.images(asked.inputs.numpy(), CLASSES)
    assert np.array_equal(again.levels, levels)
    assert again.digest == asked.digest


@given(arrays.arrays(np.float64, (4, 3), elements=st.floats(-1e4, 1e4)))
@settings(max_examples=30, deadline=None)
def test_tables_keep_their_values_to_half_a_step_and_do_not_move_again(values):
    asked = question.table(values, CLASSES)
    inputs = asked.inputs.double().numpy()
    assert asked.inputs.dtype == torch.float32
    # Half a step of the grid, and the rounding of float32.
    assert np.all(np.abs(inputs - values) <= 0.5e-4 + np.abs(values) * 2**-24 + 1e-12)
    small = values * 1e-3
    once = question.table(small, CLASSES)
    assert question.table(once.inputs.numpy(), CLASSES).digest == once.digest


def test_a_float_below_the_grid_changes_nothing():
    values = np.array([[0.5, -1.25], [3.0, 0.0]])
    assert question.table(values + 4e-5, CLASSES).digest == question.table(values, CLASSES).digest
    assert question.table(values + 6e-5, CLASSES).digest != question.table(values, CLASSES).digest


def test_classes_their_order_kind_and_shape_are_part_of_the_name():
    levels = np.arange(12, dtype=np.uint8).reshape(2, 1, 2, 3)
    variants = [
        Question("images", levels, ("no", "yes")),
        Question("images", levels, ("yes", "no")),
        Question("images", levels, ("no", "yes", "perhaps")),
        Question("images", levels, ("noyes", "")),
        Question("images", levels.reshape(2, 1, 3, 2), ("no", "yes")),
        Question("images", levels[::-1].copy(), ("no", "yes")),
        Question("table", levels.reshape(2, 6).astype("<i4"), ("no", "yes")),
    ]
    assert len({one.digest for one in variants}) == len(variants)


def test_the_digest_is_that_of_the_bytes_whatever_their_order_in_memory():
    levels = np.arange(12, dtype=np.uint8).reshape(2, 1, 2, 3)
    strided = np.asfortranarray(levels)
    assert Question("images", strided, CLASSES).digest == Question("images", levels, CLASSES).digest


def test_the_digest_of_an_example_stays():
    asked = question.table(np.arange(6).reshape(2, 3) / 7, CLASSES)
    assert asked.digest.hex()[:16] == "321e51777b8a58c1"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: question.images(np.full((1, 1, 2, 2), 1.5), CLASSES), "outside 0 … 1"),
        (lambda: question.images(np.full((1, 1, 2, 2), np.nan), CLASSES), "outside 0 … 1"),
        (lambda: question.table(np.full((1, 2), np.inf), CLASSES), "missing or beyond"),
        (lambda: question.table(np.full((1, 2), np.nan), CLASSES), "missing or beyond"),
        (lambda: question.table(np.zeros((0, 2)), CLASSES), "asks nothing"),
        (lambda: question.table(np.zeros((2, 2)), ("a", "a")), "different classes"),
        (lambda: question.table(np.zeros((2, 2)), ("a",)), "different classes"),
        (lambda: Question("table", np.zeros((2, 2), np.uint8), CLASSES), "uint8 levels"),
        (lambda: Question("sound", np.zeros((2, 2), np.uint8), CLASSES), "'sound'"),
    ],
)
def test_what_is_no_question_is_refused(make, told):
    with pytest.raises(ConfigError, match=told):
        make()
