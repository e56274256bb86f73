"""The adaptive attacker: it keeps inside what it says it does, and the rule holds against it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from konsil.knowledge.judge import TRIAL
from konsil.simulations.sim.attacks import ATTACKS, adaptive
from konsil.simulations.sim.attacks.view import Learning, View
from konsil.simulations.sim.engine import Run, simulate, threads
from konsil.simulations.sim.scenario_reading import scenario_of
from konsil.simulations.sim.setting import setting_of


def scenario(**trust):
    return scenario_of(
        {
            "seed": 105,
            "population": {
                "nodes": 12, "dataset": "breast_cancer", "split": "dirichlet", "alpha": 1.0,
                "metric": "balanced_accuracy",
            },
            "topology": {"kind": "random_regular", "degree": 5},
            "training": {"rounds": 12, "local_steps": 5},
            "adversary": {"fraction": 0.25, "attack": "adaptive"},
            "trust": trust,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def view(tmp_path_factory):
    """What Byzantine nodes see in the second round."""
    setting = setting_of(scenario(rule="mean"), tmp_path_factory.mktemp("any"))
    with threads(1):
        run = Run(setting, "cpu")
        run.round(1)
        before = run.models
        trained = run._descent.round(before, 2, np.ones(12, dtype=bool))
    return View(
        number=2, rounds=12, before=before, trained=trained, links=setting.graphs.at(2),
        hostile=setting.hostile, strength=None, generator=torch.Generator().manual_seed(1),
        learning=Learning.of(setting.network, setting.cohorts, setting.hostile, "cpu"),
    )  # fmt: skip


def test_it_stays_within_what_counts_as_near(view):
    sent, links = ATTACKS["adaptive"].per_link(view), view.links
    for place, link in enumerate(view.hostile_links):
        own = view.trained[links.receiver[link]]
        heard = links.sender[(links.receiver == links.receiver[link])]
        honest = view.trained[np.setdiff1d(heard, view.hostile)]
        apart = (honest - own).norm(dim=1).sort().values
        third = apart[len(apart) // 3]
        assert (sent[place] - own).norm() <= 5 / 3 * third


def test_no_two_of_its_models_are_near_copies(view):
    sent, receivers = ATTACKS["adaptive"].per_link(view), view.links.receiver[view.hostile_links]
    pairs = 0
    for receiver in np.unique(receivers):
        mine = sent[receivers == receiver]
        way = (mine - view.trained[receiver]).norm(dim=1)
        apart = torch.cdist(mine, mine) + torch.eye(len(mine)) * 1e9
        if len(mine) > 1 and way.min() > 0:
            pairs += 1
            assert apart.min() > 0.2 * way.max()
    assert pairs > 0


def test_what_its_own_rows_show_of_the_harm_is_little_and_there_is_some(view):
    sent, learning = ATTACKS["adaptive"].per_link(view), view.learning
    receivers = view.links.receiver[view.hostile_links]
    before = view.before[receivers]

    def gains(way):
        return learning.losses(before) - learning.losses(before + way * (sent - before))

    usual = learning.losses(view.before[view.honest]) - learning.losses(view.trained[view.honest])
    assert gains(TRIAL).min() > -usual.abs().median()
    assert learning.losses(sent).mean() > learning.losses(view.trained[receivers]).mean()


def test_without_rows_it_goes_against_the_honest_step(view):
    alone = View(**{**view.__dict__, "learning": None})
    receivers = np.unique(view.links.receiver[view.hostile_links])
    directions = adaptive._directions(alone, view.trained[receivers])
    step = view.updates(view.honest).mean(0)
    assert torch.allclose(directions, (-step / step.norm()).expand_as(directions), atol=1e-5)


def test_the_rule_holds_and_sees_through_part_of_it(tmp_path):
    best, found = (simulate(scenario(rule=rule), tmp_path) for rule in ("oracle", "evidence"))
    assert best.metric_mean - found.metric_mean <= 0.05
    assert found.attacker_weight_mean < 0.9 * found.honest_weight_mean
