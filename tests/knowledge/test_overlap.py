"""Overlap of masks: definitions by hand, against brute force, and against MONAI where it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.knowledge import overlap


def drawn(seed: int, images: int = 3, classes: int = 3, size: int = 9) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.choice(classes, size=(images, size, size), p=[0.6, *[0.4 / (classes - 1)] * 2])


def edge_pixels(region):
    """Pixels of a region with a four-neighbour outside it or outside the image."""
    height, width = region.shape
    found = []
    for y, x in np.argwhere(region):
        near = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        inside = [0 <= a < height and 0 <= b < width and region[a, b] for a, b in near]
        if not all(inside):
            found.append((y, x))
    return np.array(found, dtype=float)


def brute_hausdorff95(one, other):
    edges = edge_pixels(one), edge_pixels(other)
    apart = np.linalg.norm(edges[0][:, None] - edges[1][None], axis=2)
    return max(np.percentile(apart.min(axis=1), 95), np.percentile(apart.min(axis=0), 95))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_dice_and_distance_equal_brute_force(seed):
    predicted, targets = drawn(seed), drawn(seed + 1)
    for k in (1, 2):
        dices, distances = [], []
        for one, other in zip(predicted == k, targets == k, strict=True):
            dices.append(2 * np.sum(one & other) / (one.sum() + other.sum()))
            distances.append(brute_hausdorff95(one, other))
        assert overlap.dice_of_classes(predicted, targets, 3)[k - 1] == pytest.approx(
            np.mean(dices), abs=1e-12
        )
        assert overlap.hausdorff95_of_classes(predicted, targets, 3)[k - 1] == pytest.approx(
            np.mean(distances), abs=1e-9
        )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_dice_and_distance_do_not_care_which_is_which(seed):
    one, other = drawn(seed, 1)[0] == 1, drawn(seed + 1, 1)[0] == 1
    assert overlap.dice(one, other) == overlap.dice(other, one)
    assert overlap.hausdorff95(one, other) == overlap.hausdorff95(other, one)
    assert overlap.dice(one, one) == 1
    assert overlap.hausdorff95(one, one) == 0
    for axis in (0, 1):
        turned = overlap.hausdorff95(np.flip(one, axis), np.flip(other, axis))
        assert turned == overlap.hausdorff95(one, other)


def test_two_far_squares_by_hand():
    one, other = np.zeros((20, 20), dtype=bool), np.zeros((20, 20), dtype=bool)
    one[2:5, 2:5] = True
    other[2:5, 12:15] = True
    assert overlap.dice(one, other) == 0
    # Columns 2, 3, 4 are 10, 9, 8 pixels from column 12: the 95th percentile of 3 × 10, 2 × 9, …
    assert overlap.hausdorff95(one, other) == pytest.approx(10.0)
    single = np.zeros((20, 20), dtype=bool)
    single[3, 3] = True
    apart = np.zeros((20, 20), dtype=bool)
    apart[6, 7] = True
    assert overlap.hausdorff95(single, apart) == 5


def test_empty_masks_praise_nobody():
    nothing = np.zeros((1, 6, 8), dtype=np.int64)
    something = nothing.copy()
    something[0, 2:4, 2:4] = 1
    assert overlap.dice(nothing[0] == 1, nothing[0] == 1) is None
    assert overlap.hausdorff95(nothing[0] == 1, nothing[0] == 1) is None
    assert overlap.evaluate(nothing, nothing, 2) == {"foreground": 0.0, "true_foreground": 0.0}
    missed = overlap.evaluate(nothing, something, 2)
    assert missed["dice"] == 0
    assert missed["hausdorff95"] == math.hypot(6, 8)
    assert (missed["foreground"], missed["true_foreground"]) == (0.0, 4 / 48)
    invented = overlap.evaluate(something, nothing, 2)
    assert (invented["dice"], invented["hausdorff95"]) == (0.0, 10.0)
    both = overlap.evaluate(np.concatenate([nothing, something]), np.repeat(nothing, 2, 0), 2)
    assert both["dice"] == 0, "the image without anything is left out, it is not a 1"


def test_a_class_that_is_nowhere_is_left_out_of_the_mean():
    masks = np.zeros((2, 5, 5), dtype=np.int64)
    masks[:, 1:3, 1:3] = 1
    assert overlap.dice_of_classes(masks, masks, 4) == (1.0, None, None)
    found = overlap.evaluate(masks, masks, 4)
    assert set(found) == set(overlap.METRICS)
    assert (found["dice"], found["hausdorff95"]) == (1.0, 0.0)
    assert overlap.evaluate(masks[:0], masks[:0], 4) == {}
    assert overlap.foreground_share(masks[:0]) == 0


def test_monai_agrees():
    metrics = pytest.importorskip("monai.metrics", reason="MONAI is not installed")
    import torch

    predicted, targets = drawn(3, 4, 3, 16), drawn(4, 4, 3, 16)
    hot = [
        torch.nn.functional.one_hot(torch.from_numpy(one), 3).movedim(-1, 1)
        for one in (predicted, targets)
    ]
    dice = metrics.compute_dice(hot[0], hot[1], include_background=False)
    apart = metrics.compute_hausdorff_distance(*hot, include_background=False, percentile=95)
    mine = overlap.dice_of_classes(predicted, targets, 3)
    assert mine == pytest.approx(tuple(dice.mean(0).tolist()), abs=1e-6)
    far = overlap.hausdorff95_of_classes(predicted, targets, 3)
    assert far == pytest.approx(tuple(apart.mean(0).tolist()), abs=1e-5)
