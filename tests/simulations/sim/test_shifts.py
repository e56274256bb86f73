"""Shifts: each node its own scanner, of the size asked for, the same for a seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from konsil.simulations.sim.cohorts import Cohorts
from konsil.simulations.sim.shifts import at_round, directions, feature_shift


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


def some_cohorts(nodes, rows, columns):
    inputs = torch.randn(nodes, rows, *columns, generator=torch.Generator().manual_seed(0))
    targets = torch.zeros(nodes, rows, dtype=torch.int64)
    return Cohorts(
        inputs=inputs, targets=targets, train_rows=np.full(nodes, rows),
        holdout_inputs=inputs[:, :2], holdout_targets=targets[:, :2],
        holdout_rows=np.full(nodes, 2), test_inputs=(inputs[0],) * nodes,
        test_targets=(targets[0],) * nodes, classes=2, metric="accuracy",
    )  # fmt: skip


def test_drift_moves_by_so_many_deviations_a_round_along_one_line():
    cohorts = some_cohorts(6, 9, (2, 8))
    assert at_round(cohorts, 0.25, 2, 1) is cohorts
    assert at_round(cohorts, 0.0, 2, 5) is cohorts
    first, second, sixth, seventh = (
        at_round(cohorts, 0.25, 2, number).inputs for number in (1, 2, 6, 7)
    )
    assert torch.allclose(second - first, seventh - sixth, atol=1e-5)
    lengths = (second - first).square().mean(dim=(2, 3)).sqrt()
    assert torch.allclose(lengths, torch.full((6, 9), 0.25), atol=1e-5)
    assert not torch.allclose((second - first)[0], (second - first)[1])


def test_holdout_and_test_rows_drift_with_their_hospital():
    cohorts = some_cohorts(3, 5, (4,))
    later = at_round(cohorts, 0.1, 0, 4)
    moved = later.inputs - cohorts.inputs
    assert torch.allclose(later.holdout_inputs - cohorts.holdout_inputs, moved[:, :2], atol=1e-6)
    for node in range(3):
        way = later.test_inputs[node] - cohorts.test_inputs[node]
        assert torch.allclose(way, moved[node], atol=1e-6)
