"""Lessons: unlike networks learn from answers, liars are refused, and a seed decides everything."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from konsil.knowledge.teaching.answers import written
from konsil.knowledge.teaching.consensus import consensus, speaking
from konsil.protocol.errors import ConfigError
from konsil.simulations.sim.engine import Run, simulate, threads
from konsil.simulations.sim.lessons import RULES
from konsil.simulations.sim.lessons.lesson import losses_e9
from konsil.simulations.sim.lessons.run import LessonRun
from konsil.simulations.sim.lessons.sheets import Sheets, logarithms
from konsil.simulations.sim.scenario_checks import check
from konsil.simulations.sim.scenario_reading import scenario_of
from konsil.simulations.sim.setting import setting_of
from konsil.simulations.sim.shard import Shard

PLAIN = {
    "seed": 105,
    "population": {
        "nodes": 8, "dataset": "digits", "split": "dirichlet", "alpha": 0.5, "rows": 60,
        "model": ["mlp:16", "logistic"],
    },
    "topology": {"kind": "complete"},
    "training": {"rounds": 3},
    "artifacts": {"kinds": ["logits"], "question_rows": 64},
}  # fmt: skip
LYING = {"adversary": {"fraction": 0.25, "attack": "logits_lma"}}
FAULTY = {"faults": {"drop": 0.1, "churn": 0.1, "slow": 0.3, "delay_rounds": 1}}


def scenario(**sections):
    found = scenario_of({**PLAIN, **sections})
    check(found)
    return found


def started(**sections) -> LessonRun:
    return LessonRun(setting_of(scenario(**sections), Path()), "cpu")


def simulated(**sections):
    return simulate(scenario(**sections), Path(), device="cpu")


def lasting(result):
    """What must be the same twice: all but times and memory."""
    left_out = {"wall_s", "setup_s", "eval_s", "cpu_s", "node_rounds_per_cpu_s", "peak_rss_mb"}
    return {k: v for k, v in msgspec.structs.asdict(result).items() if k not in left_out}


@pytest.fixture(scope="module")
def peaceful():
    """Results of eight hospitals with two networks by rule."""
    return {rule: simulated(trust={"rule": rule}) for rule in RULES}


def test_unlike_networks_learn_more_together_than_alone(peaceful):
    for rule in ("evidence", "mean", "oracle"):
        assert peaceful[rule].metric_mean > peaceful[rule].metric_local_mean + 0.03, rule
        assert peaceful[rule].honest_weight_mean > 0.5
    assert lasting(peaceful["mean"])["history"] == lasting(peaceful["oracle"])["history"]


def test_alone_everybody_is_its_own_reference_and_sends_nothing(peaceful):
    alone = peaceful["local_only"]
    assert alone.metric_mean == pytest.approx(alone.metric_local_mean)
    assert alone.bytes_per_node_round == 0
    assert peaceful["mean"].bytes_per_node_round == 7 * 64 * 10 * 2


def test_a_seed_gives_the_same_run_twice_and_faults_happen():
    first, again = (simulated(**LYING, **FAULTY) for _ in range(2))
    assert lasting(first) == lasting(again)
    assert first.faults["drop"] > 0
    assert first.faults["delay"] > 0
    assert lasting(simulated(seed=106, **LYING, **FAULTY)) != lasting(first)


def test_evidence_refuses_the_lie_that_the_mean_believes():
    training = {"training": {"rounds": 6}}
    believed, judged = (
        simulated(trust={"rule": rule}, **LYING, **training) for rule in ("mean", "evidence")
    )
    assert believed.attacker_weight_mean == 1.0
    assert judged.attacker_weight_mean < 0.5 < judged.honest_weight_mean
    assert judged.metric_mean > believed.metric_mean


@pytest.mark.parametrize("rule", ["mean", "evidence"])
def test_a_student_of_weak_labels_is_kept_only_if_it_is_better(rule):
    artifacts = {"kinds": ["weak_labels"], "question_rows": 64}
    lying = {"adversary": {"fraction": 0.25, "attack": "labels_lma"}}
    run = started(trust={"rule": rule}, artifacts=artifacts, **lying)
    lessons, inner = [], run._rule

    class Watching:
        def learn(self, lesson):
            lessons.append((lesson, inner.learn(lesson)))
            return lessons[-1][1]

    run._rule = Watching()
    with threads(1):
        run.round(1)
    ((lesson, learned),) = lessons
    everybody = np.arange(8)
    before = losses_e9(lesson, lesson.trained, everybody)
    after = losses_e9(lesson, learned.models, everybody)
    assert ((after < before) | (after == before)).all()
    changed = np.array([not torch.equal(*pair) for pair in _each(lesson.trained, learned.models)])
    assert changed.any()
    assert not changed.all()
    granted = np.zeros(8)
    np.add.at(granted, lesson.links.receiver, learned.granted.numpy())
    assert (sorted(np.concatenate([kind.nodes for kind in run.setting.architectures])[~changed])
            == np.flatnonzero(granted == 0).tolist())  # fmt: skip


def _each(one, other):
    return [pair for rows in zip(one, other, strict=True) for pair in zip(*rows, strict=True)]


def test_what_one_sheet_says_is_the_consensus_of_one_teacher():
    draw = torch.Generator().manual_seed(1)
    logits, beside = torch.randn(2, 6, 5, 4, generator=draw).double()
    classes = ("a", "b", "c", "d")
    seen = (classes, ("a", "c"), ("b",), (), ("b", "c", "d"), classes)
    sheets = Sheets(logarithms(written(logits)), classes, seen)
    rows, authors = np.array([0, 1, 2, 3, 4, 0]), np.array([0, 1, 2, 3, 4, 4])
    own = beside.softmax(-1)
    said = sheets.spoken(rows, authors, own)
    for place, (row, author) in enumerate(zip(rows, authors, strict=True)):
        weights = speaking([1.0], [seen[author]], classes)
        expected = consensus([sheets.said[row]], weights, own[place].log())
        torch.testing.assert_close(said[place], expected)


def test_a_second_sheet_of_the_same_bytes_counts_nothing():
    run = started(**LYING)
    with threads(1):
        run.round(1)
    share = run.judgement.measures.share_e9
    hostile = np.isin(run.heard.sender, run.setting.hostile)
    for node in np.flatnonzero(run.setting.honest):
        mine = run.heard.receiver == node
        assert share[mine & hostile].tolist() == [10**9, 0]
        assert (share[mine & ~hostile] == 10**9).all()


def test_a_model_is_a_witness_once_it_has_learned_its_own_rows():
    run = started()
    everybody, seen = np.ones(8, dtype=bool), torch.ones(8, 10, dtype=torch.bool)
    models, found = run._students.start(), []
    with threads(1):
        for number in (1, 2, 3):
            found.append(run._students.witnesses(models, seen).sum())
            models = run._students.trained(models, number, everybody)
        assert run._students.witnesses(models, seen).all()
        assert not run._students.witnesses(models, seen & (torch.arange(10) < 1)).any()
    assert found[0] < 4, "models that have just begun"


def test_nobody_is_dealt_what_is_asked_and_half_the_rows_are_not_asked():
    setting = setting_of(scenario(), Path())
    asked = setting.question.inputs
    dealt = setting.cohorts.inputs.flatten(0, 1)
    assert asked.shape == (64, 64)
    assert (torch.cdist(asked, dealt).min(1).values > 1e-3).all()
    small = {"nodes": 8, "dataset": "breast_cancer"}
    few = setting_of(scenario(population=small, artifacts={"kinds": ["logits"]}), Path())
    assert len(few.question) == 113, "a quarter of what there is"
    many = {"kinds": ["logits"], "question_rows": 800}
    with pytest.raises(ConfigError, match="question_rows = 800 is more than half of the 1437"):
        setting_of(scenario(artifacts=many), Path())


def test_answers_travel_in_one_process(monkeypatch):
    monkeypatch.setattr(
        "konsil.simulations.sim.lessons.run.whole_or_ranks", lambda nodes: Shard(nodes, 0, 2)
    )
    with pytest.raises(ConfigError, match="in one process, not in 2"):
        started()


def test_data_vectors_are_weighed_and_mixed_as_the_models_that_they_make():
    same = {**PLAIN["population"], "model": "mlp:8"}
    lying = {"adversary": {"fraction": 0.25, "attack": "sign_flip"}}
    runs = []
    for kind in ("parameters", "data_vector"):
        found = scenario(population=same, artifacts={"kinds": [kind]}, **lying)
        run = Run(setting_of(found, Path()), "cpu")
        with threads(1):
            for number in (1, 2, 3):
                run.round(number)
        runs.append(run)
    models, vectors = runs
    torch.testing.assert_close(vectors.models, models.models, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(vectors.granted, models.granted, atol=1e-3, rtol=1e-3)
    assert not torch.equal(vectors.models, models.models)
    assert vectors.sent_bytes == models.sent_bytes
