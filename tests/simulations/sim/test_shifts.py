"""Shifts: each node its own scanner, of the size asked for, the same for a seed."""

from __future__ import annotations

import pytest
import torch

from konsil.simulations.sim.shifts import (
    directions,
    drifted,
    drifted_tests,
    feature_shift,
)


def test_a_shift_scales_and_moves_each_column_of_each_node():
    shift = feature_shift(3, (4,), 0.5, seed=1)
    inputs = torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(0))
    seen = shift.rows(inputs)
    for node in range(3):
        expected = inputs[node] * shift.scale[node] + shift.move[node]
        assert torch.equal(seen[node], expected)
        assert torch.equal(shift.view(inputs[node], node), expected)
    assert not torch.allclose(shift.scale[0], shift.scale[1])


def test_the_size_of_a_shift_is_that_of_its_factors():
    for size in (0.1, 2.0):
        shift = feature_shift(400, (5, 5), size, seed=3)
        assert float((shift.scale - 1).std()) == pytest.approx(size, rel=0.05)
        assert float(shift.move.std()) == pytest.approx(size, rel=0.05)
        assert float((shift.scale - 1).mean()) == pytest.approx(0, abs=0.1 * size)


def test_a_shift_and_a_direction_depend_on_the_seed_only():
    assert torch.equal(feature_shift(5, (3,), 1.0, 7).move, feature_shift(5, (3,), 1.0, 7).move)
    assert torch.equal(directions(5, (3,), 0.1, 7), directions(5, (3,), 0.1, 7))
    assert not torch.equal(directions(5, (3,), 0.1, 7), directions(5, (3,), 0.1, 8))


def test_drift_moves_by_so_many_deviations_a_round_along_one_line():
    inputs = torch.randn(6, 9, 2, 8, generator=torch.Generator().manual_seed(0))
    way = directions(6, (2, 8), 0.25, seed=2)
    assert torch.equal(drifted(inputs, way, 1), inputs)
    steps = [drifted(inputs, way, number + 1) - drifted(inputs, way, number) for number in (1, 5)]
    assert torch.allclose(steps[0], steps[1], atol=1e-5)
    lengths = steps[0].square().mean(dim=(2, 3)).sqrt()
    assert torch.allclose(lengths, torch.full((6, 9), 0.25), atol=1e-5)
    assert not torch.allclose(way[0], way[1])


def test_test_rows_drift_with_their_hospital():
    inputs = torch.zeros(3, 5, 4)
    way = directions(3, (4,), 0.1, seed=0)
    tests = drifted_tests((inputs[0],) * 3, way, 4)
    for node in range(3):
        assert torch.equal(tests[node], drifted(inputs, way, 4)[node])
