"""Populate: tensors of the right rows, standardised by training rows only, the same for a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from konsil.knowledge import heart, tabular
from konsil.knowledge.task import TaskConfig
from konsil.protocol.errors import ConfigError
from konsil.simulations.sim import populate as populating
from konsil.simulations.sim.populate import plan_of, populate
from konsil.simulations.sim.scenario import Population

HERE = Path("/nowhere")


def population(nodes=8, dataset="digits", **changes):
    return Population(nodes=nodes, dataset=dataset, **changes)


def test_the_common_workload_in_numbers():
    cohorts = populate(population(64, holdout=0.2, metric="auc"), 0, HERE)
    assert cohorts.nodes == 64
    assert cohorts.columns == (64,)
    assert (cohorts.train_rows + cohorts.holdout_rows).tolist() == [22] * 64
    assert (cohorts.classes, cohorts.metric) == (10, "auc")
    assert cohorts.inputs.dtype == cohorts.holdout_inputs.dtype == torch.float32
    assert cohorts.targets.dtype == cohorts.holdout_targets.dtype == torch.int64
    assert [tuple(one.shape) for one in cohorts.test_inputs] == [(360, 64)]
    assert [tuple(one.shape) for one in cohorts.test_targets] == [(360,)]
    assert cohorts.targets.shape == cohorts.inputs.shape[:2]
    assert cohorts.holdout_targets.shape == cohorts.holdout_inputs.shape[:2]


@pytest.mark.parametrize("dataset", ["digits", "breast_cancer"])
def test_inputs_are_standardised_by_all_training_rows_and_no_others(dataset):
    plan = plan_of(population(dataset=dataset), 0, HERE)
    raw = plan.data.rows.inputs
    known = raw[plan.data.train]
    varies = np.ptp(known, axis=0) > 0
    spread = np.where(varies, known.std(axis=0, ddof=1), 1.0)
    cohorts = populate(population(dataset=dataset), 0, HERE)
    for node in range(8):
        rows = plan.train.of(node)
        expected = (raw[rows] - known.mean(axis=0)) / spread
        got = cohorts.inputs[node, : len(rows)].numpy()
        assert np.allclose(got, expected, atol=1e-5)
        assert cohorts.targets[node, : len(rows)].tolist() == plan.data.rows.labels[rows].tolist()
    expected = (raw[plan.data.test] - known.mean(axis=0)) / spread
    assert np.allclose(cohorts.test_inputs[0].numpy(), expected, atol=1e-4)
    assert np.isfinite(expected).all()


def test_padding_is_of_the_node_s_own_rows():
    cohorts = populate(population(20, split="dirichlet", alpha=0.3), 1, HERE)
    for inputs, counts in (
        (cohorts.inputs, cohorts.train_rows),
        (cohorts.holdout_inputs, cohorts.holdout_rows),
    ):
        assert counts.max() == inputs.shape[1]
        assert counts.min() < counts.max()
        for node, count in enumerate(counts):
            for row in range(count, inputs.shape[1]):
                assert torch.equal(inputs[node, row], inputs[node, row % count])


@pytest.mark.parametrize("changes", [{}, {"split": "dirichlet"}, {"rows": 12}, {"drift": 0.1}])
def test_the_seed_decides_and_nothing_else(changes):
    wanted = population(feature_shift=0.2, **changes)
    one, again, other = (populate(wanted, seed, HERE) for seed in (4, 4, 5))
    assert torch.equal(one.inputs, again.inputs)
    assert torch.equal(one.holdout_targets, again.holdout_targets)
    assert all(map(torch.equal, one.test_inputs, again.test_inputs))
    assert one.inputs.shape != other.inputs.shape or not torch.equal(one.inputs, other.inputs)
    assert torch.equal(one.test_targets[0], other.test_targets[0]), "every seed has one test set"


def test_a_shifted_node_sees_all_of_its_patients_through_one_scanner():
    plain = populate(population(), 2, HERE)
    shifted = populate(population(feature_shift=0.5), 2, HERE)
    assert len(shifted.test_inputs) == len(shifted.test_targets) == 8
    assert torch.equal(plain.targets, shifted.targets)
    for node in range(8):
        columns = plain.inputs[node].std(dim=0) > 0.1
        x, y = plain.inputs[node][:, columns], shifted.inputs[node][:, columns]
        scale = (y[1:] - y[:1]).sum(dim=0) / (x[1:] - x[:1]).sum(dim=0)
        move = y[0] - x[0] * scale
        for before, after in (
            (plain.holdout_inputs[node], shifted.holdout_inputs[node]),
            (plain.test_inputs[0], shifted.test_inputs[node]),
        ):
            expected = before[:, columns] * scale + move
            assert (after[:, columns] - expected).abs().median() < 1e-3
    assert not torch.equal(shifted.test_inputs[0], shifted.test_inputs[1])


def test_drifting_nodes_have_a_test_set_each_without_a_copy_each():
    cohorts = populate(population(drift=0.1), 0, HERE)
    assert len(cohorts.test_inputs) == 8
    assert len({one.data_ptr() for one in cohorts.test_inputs}) == 1


def test_thousands_of_nodes_draw_their_rows():
    cohorts = populate(population(3000, rows=22, split="dirichlet", alpha=0.1), 0, HERE)
    assert (cohorts.train_rows + cohorts.holdout_rows).tolist() == [22] * 3000
    assert cohorts.train_rows.min() >= 1
    assert cohorts.holdout_rows.min() >= 1
    assert len(cohorts.test_inputs) == 1


def test_images_keep_their_shape(tmp_path):
    random = np.random.default_rng(0)
    x = random.integers(0, 255, (60, 3, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "scans.npz", x=x, y=np.arange(60) % 2, site=np.arange(60) % 3)
    cohorts = populate(population(4, dataset="scans.npz"), 0, tmp_path)
    assert cohorts.columns == (3, 8, 8)
    assert cohorts.test_inputs[0].shape[1:] == (3, 8, 8)
    by_site = populate(population(3, dataset="scans.npz", split="sites"), 0, tmp_path)
    assert len(by_site.test_inputs) == 3
    means = [by_site.inputs[i, :count].mean() for i, count in enumerate(by_site.train_rows)]
    assert max(map(abs, means)) < 1e-5, "each hospital by its own training rows"


def test_heart_hospitals_are_those_of_the_tabular_task(data_folder, monkeypatch):
    monkeypatch.setenv("KONSIL_DATA", str(data_folder))
    wanted = population(4, dataset="heart_disease", split="sites", metric="auc", holdout=0.3)
    plan, cohorts = plan_of(wanted, 1, HERE), populate(wanted, 1, HERE)
    for node, site in enumerate(heart.SITES):
        options = {"dataset": "heart_disease", "site": site, "holdout": 0.3}
        config = TaskConfig(HERE, "any", 1, options)
        task, test = tabular.build(config), tabular.common_test(config)
        assert cohorts.train_rows[node] == len(task.train)
        assert cohorts.holdout_rows[node] == len(task.holdout)
        assert [plan.data.rows.patients[row] for row in plan.tests[node]] == list(test.patients)
        assert cohorts.test_targets[node].tolist() == test.targets.tolist()
        own = cohorts.inputs[node, : cohorts.train_rows[node]]
        assert float(own.mean(dim=0).abs().max()) < 1e-5
        ones = own.std(dim=0)
        assert torch.allclose(ones[ones > 0], torch.ones(int((ones > 0).sum())), atol=1e-4)
    pooled = populate(population(6, dataset="heart_disease"), 1, HERE)
    assert len(pooled.test_inputs) == 1
    assert len(pooled.test_inputs[0]) == sum(len(one) for one in cohorts.test_inputs)


def test_a_hospital_without_test_patients_is_named(tmp_path):
    rows = [*(f"{n},{n % 2},big" for n in range(20)), *(f"{n},{n},small" for n in range(2))]
    (tmp_path / "own.csv").write_text("\n".join(["age,label,ward", *rows]) + "\n")
    wanted = population(2, dataset="own.csv", split="sites", site="ward")
    with pytest.raises(ConfigError, match="hospital 'small' has too few patients to test on"):
        populate(wanted, 0, tmp_path)


def test_an_unknown_split_and_too_many_views_are_told(monkeypatch):
    with pytest.raises(ConfigError, match='split = "shards" is not known'):
        populate(population(split="shards"), 0, HERE)
    monkeypatch.setattr(populating, "MAX_TEST_BYTES", 100_000)
    with pytest.raises(ConfigError, match="feature_shift over 8 nodes needs"):
        populate(population(feature_shift=0.1), 0, HERE)
