"""The bench compares equals: ceiling, plain loop and simulator do the same work."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from konsil.simulations.sim.bench import loop
from konsil.simulations.sim.bench.ceiling import Ceiling
from konsil.simulations.sim.bench.measuring import measure, simulated
from konsil.simulations.sim.bench.workload import HOLDOUT, accuracy, workload
from konsil.simulations.sim.cli import app
from konsil.simulations.sim.engine import Run, threads

pytestmark = pytest.mark.slow

ROUNDS = 3


@pytest.fixture(scope="module")
def setting():
    return workload("mean", ROUNDS)


def test_ceiling_and_loop_end_with_the_models_of_the_simulator(setting):
    with threads(1):
        models = simulated(Run(setting, "cpu"))
        limit, plain = Ceiling(setting).run(), loop.run(setting)
    assert not torch.allclose(models, setting.base.expand_as(models), atol=1e-2)
    assert (models - limit).abs().max() < 1e-4
    assert (models - plain).abs().max() < 1e-4
    assert accuracy(setting, models) == pytest.approx(accuracy(setting, plain), abs=0.005)


def test_a_ceiling_can_run_twice(setting):
    ceiling = Ceiling(setting)
    assert torch.equal(ceiling.run(), ceiling.run())


def test_all_train_on_equally_many_rows_and_nobody_judges_by_what_is_trained_on(setting):
    cohorts = setting.cohorts
    assert set(cohorts.train_rows.tolist()) == {22}
    assert set(cohorts.holdout_rows.tolist()) == {HOLDOUT}
    trained = {tuple(row) for row in cohorts.inputs.flatten(0, 1).tolist()}
    assert len(trained) == 64 * 22
    assert not trained & {tuple(row) for row in cohorts.holdout_inputs.flatten(0, 1).tolist()}


def test_the_data_have_every_figure_and_the_accuracies_agree():
    data = measure(2, turns=1, nodes=16)
    rates = [data[name] for name in ("ceiling", "mean", "evidence", "ledgered")]
    assert min(rates) > 0
    assert data["ratio_mean"] == pytest.approx(data["mean"] / data["ceiling"])
    assert data["peak_rss_mb"] > 0
    assert data["accuracy"] == pytest.approx(data["accuracy_loop"], abs=0.005)
    assert data["accuracy"] == pytest.approx(data["accuracy_ceiling"], abs=0.005)


@pytest.mark.parametrize("as_json", [True, False])
def test_the_verb_prints_what_was_measured(as_json, monkeypatch):
    told = {"nodes": 64, "rounds": 2, "ceiling": 10.0, "mean": 5.0, "ratio_mean": 0.5,
            "evidence": 2.0, "ledgered": 1.0, "accuracy": 0.9, "peak_rss_mb": 400.0}  # fmt: skip
    monkeypatch.setattr("konsil.simulations.sim.bench.measuring.measure", lambda rounds: told)
    done = CliRunner().invoke(app, ["bench", "--rounds", "2", *(["--json"] if as_json else [])])
    assert done.exit_code == 0, done.output
    if as_json:
        assert json.loads(done.stdout) == {"schema": "konsil.sim.bench/1", "ok": True, "data": told}
    else:
        assert "0.50" in done.stdout
