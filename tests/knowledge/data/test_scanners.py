"""Scanners: pixels stay in 0 … 1, each step does what it says, and only the seed decides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from konsil.knowledge.data import scanners
from konsil.knowledge.data.fields import smooth_fields
from konsil.knowledge.data.scanners import IDENTITY, SCANNERS, XRAY_SCANNERS, Scanner, scanned
from konsil.protocol.errors import ConfigError

EVERY = sorted({*SCANNERS, *XRAY_SCANNERS}, key=lambda one: one.name)


def pictures(seed=0, count=3, channels=2, side=16):
    shape = (count, channels, side, side)
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def random(seed=0):
    return np.random.default_rng(seed)


machines = st.builds(
    Scanner,
    name=st.just("any"),
    gamma=st.floats(0.2, 5),
    contrast=st.floats(0, 3),
    noise=st.floats(0, 0.5),
    blur=st.booleans(),
    bias=st.floats(0, 0.9),
    inverted=st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(machines, st.integers(0, 1000))
def test_any_machine_gives_pixels_of_the_same_shape_from_0_to_1(machine, seed):
    given_ = pictures(seed)
    before = given_.copy()
    seen = scanned(given_, machine, random(seed))
    assert (seen.dtype, seen.shape) == (np.float32, given_.shape)
    assert 0 <= seen.min() <= seen.max() <= 1
    assert np.array_equal(given_, before)
    assert np.array_equal(seen, scanned(given_, machine, random(seed)))


def test_a_plain_machine_changes_no_bit():
    given_ = pictures()
    assert scanned(given_, IDENTITY, random()).tobytes() == given_.tobytes()


@pytest.mark.parametrize("machine", [one for one in EVERY if one.noise or one.bias])
def test_what_is_random_depends_on_the_seed(machine):
    given_ = pictures()
    seen = [scanned(given_, machine, random(seed)) for seed in (1, 2)]
    assert not np.array_equal(*seen)


def test_gamma_keeps_black_white_and_order():
    ramp = np.linspace(0, 1, 101, dtype=np.float32).reshape(1, 1, 1, 101)
    for exponent in (0.5, 1.8):
        seen = scanners.with_gamma(ramp, exponent)
        assert seen[..., [0, -1]].ravel().tolist() == [0, 1]
        assert np.all(np.diff(seen.ravel()) > 0)
        assert np.allclose(seen, ramp.astype(np.float64) ** exponent, atol=1e-6)


def test_contrast_pulls_towards_the_middle_grey():
    seen = scanners.with_contrast(np.array([[[[0, 0.25, 0.5, 1]]]], np.float32), 0.5)
    assert seen.ravel().tolist() == [0.25, 0.375, 0.5, 0.75]


def test_blur_is_the_mean_of_nine():
    given_ = pictures()
    wanted = ndimage.uniform_filter(given_.astype(np.float64), (1, 1, 3, 3), mode="nearest")
    assert np.allclose(scanners.blurred(given_), wanted, atol=1e-6)


def test_noise_has_its_deviation_and_no_bias():
    grey = np.full((4, 1, 64, 64), 0.5, np.float32)
    noise = scanners.with_noise(grey, 0.08, random()) - grey
    assert abs(noise.std() - 0.08) < 0.002
    assert abs(noise.mean()) < 0.002


def test_a_bias_field_is_smooth_within_its_depth_and_the_same_in_all_channels():
    grey = np.full((3, 2, 32, 32), 0.5, np.float32)
    field = scanners.with_bias(grey, 0.4, random()) / grey
    assert np.allclose([field.min(), field.max()], [0.6, 1.4], atol=1e-5)
    assert np.array_equal(field[:, 0], field[:, 1])
    assert not np.array_equal(field[0], field[1])
    assert np.abs(np.diff(field, axis=3)).max() < 0.1


@given(st.integers(0, 50))
@settings(max_examples=10, deadline=None)
def test_inverting_twice_gives_the_image_back(seed):
    given_ = pictures(seed)
    assert np.allclose(scanners.inverted(scanners.inverted(given_)), given_, atol=1e-6)


@pytest.mark.parametrize("wrong", [{"gamma": 0}, {"contrast": -1}, {"noise": -0.1}, {"bias": 1}])
def test_impossible_machines_are_refused(wrong):
    with pytest.raises(ConfigError, match="scanner 'plain'"):
        replace(IDENTITY, **wrong)


def test_the_machines_shift_what_a_model_sees():
    """By more than noise: the mean grey or the spread of some machine is another."""
    given_ = pictures(count=8)
    found = [scanned(given_, one, random()) for one in SCANNERS]
    means = [float(one.mean()) for one in found]
    spreads = [float(one.std()) for one in found]
    assert max(means) - min(means) > 0.2
    assert max(spreads) > 1.5 * min(spreads)
    assert len({one.name for one in SCANNERS}) == 5
    assert len({one.name for one in XRAY_SCANNERS}) == 4


@pytest.mark.parametrize(("height", "width", "knots"), [(7, 9, 3), (32, 32, 8), (5, 5, 1)])
def test_fields_are_smooth_between_0_and_1(height, width, knots):
    fields = smooth_fields(4, height, width, knots, random())
    assert fields.shape == (4, height, width)
    assert 0 <= fields.min() <= fields.max() <= 1
    if knots > 1:
        assert np.allclose(fields.max(axis=(1, 2)), 1)
        assert np.allclose(fields.min(axis=(1, 2)), 0)
        steps = np.abs(np.diff(fields, axis=2)).max()
        assert steps < 2.5 * (knots - 1) / (width - 1)
