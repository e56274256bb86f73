"""Resizing: means and ranges stay, masks stay masks, the same size changes no bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.knowledge.data.resizing import resized, resized_mask

sides = st.integers(1, 40)


@settings(max_examples=60, deadline=None)
@given(sides, sides, sides, sides, st.integers(0, 99))
def test_the_mean_and_the_range_of_an_image_stay(height, width, new_height, new_width, seed):
    image = np.random.default_rng(seed).random((2, height, width), dtype=np.float32)
    seen = resized(image, new_height, new_width)
    assert (seen.shape, seen.dtype) == ((2, new_height, new_width), np.float32)
    assert np.allclose(seen.mean(axis=(1, 2)), image.mean(axis=(1, 2)), atol=1e-5)
    assert image.min() <= seen.min() <= seen.max() <= image.max()


def test_a_whole_factor_is_the_mean_of_blocks():
    image = np.random.default_rng(0).random((1, 12, 8), dtype=np.float32)
    wanted = image.reshape(1, 4, 3, 4, 2).mean(axis=(2, 4))
    assert np.allclose(resized(image, 4, 4), wanted, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(sides, sides, sides, sides, st.integers(2, 4), st.integers(0, 99))
def test_a_mask_keeps_to_its_classes(height, width, new_height, new_width, classes, seed):
    mask = np.random.default_rng(seed).integers(0, classes, (height, width))
    seen = resized_mask(mask, new_height, new_width, classes)
    assert (seen.shape, seen.dtype) == ((new_height, new_width), np.int64)
    assert set(np.unique(seen)) <= set(np.unique(mask))


def test_each_pixel_of_a_mask_takes_what_covers_most_of_it():
    mask = np.zeros((4, 4), dtype=np.int64)
    mask[:2, :2] = [[2, 2], [2, 1]]
    mask[2:, 2:] = [[0, 0], [1, 1]]
    assert resized_mask(mask, 2, 2, 3).tolist() == [[2, 0], [0, 0]]


def test_the_same_size_changes_nothing():
    image = np.random.default_rng(0).random((3, 5, 6), dtype=np.float32)
    mask = np.random.default_rng(0).integers(0, 2, (5, 6))
    assert np.array_equal(resized(image, 5, 6), image)
    assert np.array_equal(resized_mask(mask, 5, 6, 2), mask)
