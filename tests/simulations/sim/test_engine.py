"""The engine: determinism, who mixes with whom under faults and attacks, and what is measured."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
import torch

from konsil.protocol.errors import ConfigError, TaskError
from konsil.simulations.sim.engine import Run, simulate, threads
from konsil.simulations.sim.result import faults_missed
from konsil.simulations.sim.scenario_checks import check
from konsil.simulations.sim.scenario_reading import scenario_of
from konsil.simulations.sim.setting import setting_of

PLAIN = {
    "seed": 11,
    "population": {
        "nodes": 8, "dataset": "breast_cancer", "split": "dirichlet", "alpha": 1.0,
        "model": "mlp:8", "metric": "accuracy",
    },
    "topology": {"kind": "ring_chords"},
    "training": {"rounds": 6, "lr": 0.05},
}  # fmt: skip


def scenario(**sections):
    values = {**PLAIN, **sections}
    return scenario_of(values)


def started(tmp_path, **sections) -> Run:
    return Run(setting_of(scenario(**sections), tmp_path), "cpu")


def lasting(result):
    """What must be the same twice: all but times and memory."""
    left_out = {"wall_s", "setup_s", "eval_s", "cpu_s", "node_rounds_per_cpu_s", "peak_rss_mb"}
    return {k: v for k, v in msgspec.structs.asdict(result).items() if k not in left_out}


ATTACKED = {"adversary": {"fraction": 0.25, "attack": ["sign_flip", "dissensus"]}}
FAULTY = {"faults": {"drop": 0.1, "churn": 0.1, "slow": 0.3, "heal": True}}


def test_a_seed_gives_the_same_run_twice_and_another_seed_another(tmp_path):
    several = {**ATTACKED, **FAULTY}
    first = simulate(scenario(**several), tmp_path, device="cpu")
    again = simulate(scenario(**several), tmp_path, device="cpu")
    other = simulate(scenario(seed=12, **several), tmp_path, device="cpu")
    assert lasting(first) == lasting(again)
    assert lasting(first) != lasting(other)


def test_the_mean_keeps_the_average_of_all_models_and_local_only_is_the_reference(tmp_path):
    run = started(tmp_path, trust={"rule": "mean"})
    with threads(1):
        for number in range(1, 4):
            trained = run._descent.round(run.models, number, run.setting.honest)
            run.round(number)
            torch.testing.assert_close(run.models.mean(0), trained.mean(0), atol=1e-5, rtol=1e-4)
    alone = simulate(scenario(trust={"rule": "local_only"}), tmp_path, device="cpu")
    assert alone.metric_mean == pytest.approx(alone.metric_local_mean)
    assert alone.metric_worst == pytest.approx(alone.metric_local_worst)


def test_the_pooled_rule_gives_everybody_the_pooled_model(tmp_path):
    result = simulate(scenario(trust={"rule": "pooled"}), tmp_path, device="cpu")
    assert result.metric_mean == pytest.approx(result.metric_pooled)
    assert result.metric_worst == pytest.approx(result.metric_pooled)
    assert result.attacker_weight_mean is None


def test_evidence_refuses_what_the_mean_believes(tmp_path):
    adversary = {"fraction": 0.25, "attack": "sign_flip"}
    training = {"rounds": 12, "lr": 0.05}
    believed, judged = (
        simulate(
            scenario(trust={"rule": rule}, adversary=adversary, training=training), tmp_path,
            device="cpu",
        )
        for rule in ("mean", "evidence")
    )  # fmt: skip
    assert believed.attacker_weight_mean == 1.0
    assert judged.attacker_weight_mean < 0.3
    assert judged.honest_weight_mean > 0.7
    assert judged.metric_mean > believed.metric_mean


def watched(run):
    """Every condition under which the run hands out messages."""
    conditions, inner = [], run._post.sent

    def sent(number, condition, before, trained):
        conditions.append(condition)
        return inner(number, condition, before, trained)

    run._post.sent = sent
    return conditions


def test_a_model_that_is_not_finite_is_as_good_as_not_sent(tmp_path):
    adversary = {"fraction": 0.25, "attack": "free_rider"}
    run = started(tmp_path, adversary=adversary)
    silent = started(tmp_path, adversary=adversary)
    inner = run._post.sent

    def broken(number, condition, before, trained):
        table, source = inner(number, condition, before, trained)
        table = table.clone()
        table[torch.from_numpy(run.setting.hostile)] = math.nan
        return table, source

    run._post.sent = broken
    rule = silent.rule

    class Deaf:
        def mix(self, exchange):
            heard = [sender not in exchange.hostile for sender in exchange.links.sender.tolist()]
            return rule.mix(exchange.keep(np.array(heard)))

    silent.rule = Deaf()
    with threads(1):
        for number in (1, 2):
            run.round(number)
            silent.round(number)
    assert torch.equal(run.models, silent.models)
    assert torch.isfinite(run.models).all()


def test_training_that_diverges_is_told_with_the_round_and_the_remedy(tmp_path):
    training = {"rounds": 6, "lr": 1e6}
    with pytest.raises(TaskError, match="round 1") as raised:
        simulate(scenario(training=training), tmp_path, device="cpu")
    assert "lr" in raised.value.hint


def test_who_is_away_keeps_the_model_and_is_heard_by_nobody(tmp_path):
    run = started(tmp_path, faults={"churn": 0.4}, trust={"rule": "mean"})
    conditions, away = watched(run), 0
    with threads(1):
        for number in range(1, 7):
            before = run.models
            run.round(number)
            present = conditions[-1].present
            gone = torch.from_numpy(~present)
            away += int(gone.sum())
            assert torch.equal(run.models[gone], before[gone])
            assert present[run.heard.sender].all()
            assert present[run.heard.receiver].all()
    assert away > 0


def test_a_late_message_brings_an_older_model(tmp_path):
    run = started(tmp_path, faults={"delay_rounds": 3}, trust={"rule": "mean"})
    released = {}
    seen = []

    class Looking:
        def mix(self, exchange):
            released[exchange.number] = exchange.trained
            for place, sender in enumerate(exchange.links.sender.tolist()):
                row = exchange.table[exchange.source[place]]
                ages = [
                    exchange.number - number
                    for number, models in released.items()
                    if torch.equal(models[sender], row)
                ]
                assert ages
                seen.extend(ages)
            return inner.mix(exchange)

    inner, run.rule = run.rule, Looking()
    with threads(1):
        for number in range(1, 7):
            run.round(number)
    assert set(seen) == {0, 1, 2, 3}
    assert run.counts["delay"] == sum(age > 0 for age in seen)


@pytest.mark.parametrize("fault", [
    {"drop": 0.3}, {"churn": 0.3}, {"churn": 0.3, "heal": True}, {"slow": 0.5}, {"late": 0.5},
    {"partition": [[2, 4]]}, {"delay_rounds": 1},
])  # fmt: skip
def test_every_fault_that_was_asked_for_is_counted(tmp_path, fault):
    asked = scenario(faults=fault)
    result = simulate(asked, tmp_path, device="cpu")
    assert faults_missed(asked, result) == ()
    assert all(count > 0 for count in result.faults.values())


def test_weights_and_metrics_leave_hostile_nodes_out(tmp_path):
    told = []
    result = simulate(scenario(**ATTACKED), tmp_path, device="cpu", tell=told.append)
    assert [one.round for one in told] == list(range(1, 7))
    assert result.history[-1].metric_mean == result.metric_mean
    assert 0 <= result.metric_worst <= result.metric_mean <= 1
    assert result.bytes_per_node_round == 4 * 266 * 3, "8 nodes with three links each"
    none = simulate(scenario(), tmp_path, device="cpu")
    assert none.attacker_weight_mean is None
    assert none.honest_weight_mean is not None


def test_unlike_models_and_an_absent_gpu_are_refused_in_one_line(tmp_path):
    unlike = {**PLAIN["population"], "model": ["mlp:8", "logistic"]}
    with pytest.raises(ConfigError, match=r"\[population\] model"):
        check(scenario(population=unlike))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no GPU"):
            simulate(scenario(), tmp_path, device="cuda")


def test_drift_reaches_everybody_who_looks_at_rows(tmp_path):
    """Alone, in the network and in the holdouts patients look alike in a round."""
    population = {**PLAIN["population"], "drift": 0.3}
    asked = {"population": population, "trust": {"rule": "local_only"}}
    alone = simulate(scenario(**asked), tmp_path, device="cpu")
    assert alone.metric_mean == pytest.approx(alone.metric_local_mean)
    run = started(tmp_path, population=population)
    with threads(1):
        run.round(1)
        first = run._judging._inputs.clone()
        run.round(2)
    assert not torch.equal(run._judging._inputs, first)
    assert torch.equal(run._judging._inputs, run.setting.cohorts_at(2).holdout_inputs)


def test_where_nothing_is_exchanged_nothing_is_sent(tmp_path):
    for rule in ("local_only", "pooled"):
        result = simulate(scenario(trust={"rule": rule}), tmp_path, device="cpu")
        assert result.bytes_per_node_round == 0


def test_a_forger_of_single_messages_does_not_go_with_late_ones():
    adversary = {"fraction": 0.25, "attack": "dissensus"}
    asked = scenario(adversary=adversary, faults={"delay_rounds": 2})
    with pytest.raises(ConfigError, match="delay_rounds"):
        check(asked)


@pytest.mark.parametrize("change", [{"feature_shift": 0.5}, {"drift": 0.1}, {"metric": "auc"}])
def test_every_kind_of_population_runs(tmp_path, change):
    population = {**PLAIN["population"], **change}
    result = simulate(scenario(population=population), tmp_path, device="cpu")
    assert result.metric_mean > 0.5


@pytest.mark.parametrize(
    ("sections", "stays"),
    [
        ({}, True),
        ({"trust": {"rule": "mean"}}, True),
        ({"topology": {"kind": "epidemic", "degree": 3}}, False),
        ({"faults": {"drop": 0.5}}, False),
    ],
)
def test_routes_last_as_long_as_nothing_changes(tmp_path, sections, stays):
    run = started(tmp_path, **sections)
    seen, inner = [], run.rule

    class Catching:
        def mix(self, exchange):
            seen.append(exchange)
            return inner.mix(exchange)

    run.rule = Catching()
    with threads(1):
        for number in (1, 2):
            run.round(number)
    first, second = seen
    assert (first.routes is second.routes) == stays
    for number, exchange in enumerate(seen, 1):
        links = run.setting.graphs.at(number)
        pairs = set(zip(links.receiver.tolist(), links.sender.tolist(), strict=True))
        heard = set(zip(exchange.links.receiver.tolist(), exchange.source.tolist(), strict=True))
        assert heard == pairs if "faults" not in sections else heard < pairs
