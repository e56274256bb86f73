"""What is wrong with a scenario as a whole: one line each, before anything runs."""

from __future__ import annotations

import pytest

from konsil.protocol.errors import ConfigError
from konsil.simulations.sim.attacks import ATTACKS as registry
from konsil.simulations.sim.scenario_checks import LATER, WITH_DEGREE, check
from konsil.simulations.sim.scenario_reading import scenario_of

ATTACKS = (
    "sign_flip", "ipm", "alie", "min_max", "min_sum", "mimic", "dissensus", "creep", "label_flip",
    "label_flip_boosted", "backdoor", "free_rider", "on_off", "noisy_copy", "opt_ipm", "sybil",
)  # fmt: skip
RULES = (
    "evidence", "mean", "median", "trimmed_mean", "krum", "nnm_trimmed_mean", "clipped_gossip",
    "balance", "local_only", "oracle", "pooled",
)  # fmt: skip
KINDS = (
    "ring", "ring_chords", "star", "complete", "grid", "erdos_renyi", "small_world", "scale_free",
    "random_regular", "epidemic", "time_varying", "hospitals.graphml", "own/links.edgelist",
)  # fmt: skip


def scenario(**changes):
    """A good scenario with some keys of its sections changed: `section={"key": value}`."""
    values = {"population": {"nodes": 20, "dataset": "digits"}, "topology": {"kind": "ring"}}
    for section, keys in changes.items():
        values[section] = {**values.get(section, {}), **keys}
    return scenario_of(values)


def refusal(**changes):
    with pytest.raises(ConfigError) as caught:
        check(scenario(**changes))
    assert "\n" not in caught.value.diagnostics()
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_of_the_contract_is_known(attack):
    check(scenario(adversary={"fraction": 0.2, "attack": attack}))


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_of_the_contract_is_known(rule):
    check(scenario(trust={"rule": rule}))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_graph_is_known(kind):
    check(scenario(topology={"kind": kind}))


@pytest.mark.parametrize("dataset", ["digits", "breast_cancer", "heart_disease", "a.csv", "b.npz"])
@pytest.mark.parametrize("split", ["iid", "dirichlet", "pathological", "sites"])
def test_every_data_set_and_split_is_known(dataset, split):
    check(scenario(population={"dataset": dataset, "split": split}))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("population", "dataset", "mnist"),
        ("population", "dataset", "patients.xlsx"),
        ("population", "split", "even"),
        ("population", "metric", "beauty"),
        ("population", "metric", "log_loss"),
        ("topology", "kind", "moebius"),
        ("topology", "kind", "links.csv"),
        ("trust", "rule", "faith"),
        ("adversary", "attack", "kindness"),
    ],
)
def test_an_unknown_name_is_refused(section, key, value):
    more = {"fraction": 0.3} if section == "adversary" else {}
    said = refusal(**{section: {key: value, **more}})
    assert said == f'[{section}] {key} = "{value}" is not known'


@pytest.mark.parametrize(
    ("place", "name"), [(place, name) for place, names in LATER.items() for name in names]
)
def test_a_name_of_the_product_that_is_not_here_yet_is_told_apart(place, name):
    section, key = place.strip("[").split("] ")
    more = {"fraction": 0.3} if section == "adversary" else {}
    assert refusal(**{section: {key: name, **more}}).endswith("is not in this version")


def test_one_kind_of_artifact_travels():
    assert refusal(artifacts={"kinds": []}) == "[artifacts] kinds names 0 kinds"
    assert refusal(artifacts={"kinds": ["parameters"] * 2}) == "[artifacts] kinds names 2 kinds"


ANSWERED = {"logits": "logits", "weak_labels": "labels"}


@pytest.mark.parametrize("kind", ANSWERED)
@pytest.mark.parametrize("rule", ["evidence", "mean", "oracle", "local_only"])
@pytest.mark.parametrize("lie", ["flip", "lma", "cpa", "flip+noise", "lma+noise", "cpa+noise"])
def test_unlike_networks_answer_and_are_lied_to(kind, rule, lie):
    check(
        scenario(
            population={"model": ["mlp:8", "logistic"]},
            artifacts={"kinds": [kind], "question": "random", "question_rows": 9},
            trust={"rule": rule},
            adversary={"fraction": 0.2, "attack": [f"{ANSWERED[kind]}_{lie}", "label_flip"]},
        )
    )


@pytest.mark.parametrize("kind", ["parameters", "data_vector"])
def test_unlike_networks_share_no_weights(kind):
    words = {"parameters": "parameters", "data_vector": "data vectors"}[kind]
    said = refusal(population={"model": ["mlp:8", "logistic"]}, artifacts={"kinds": [kind]})
    assert said == f"[population] model: unlike models cannot mix their {words}"
    check(scenario(population={"model": ["mlp:8", "mlp:8"]}, artifacts={"kinds": [kind]}))


@pytest.mark.parametrize(
    ("kind", "attack"),
    [
        ("parameters", "logits_flip"),
        ("data_vector", "labels_cpa+noise"),
        ("logits", "labels_flip"),
        ("weak_labels", "logits_lma"),
        ("logits", "sign_flip"),
        ("weak_labels", "label_flip_boosted"),
    ],
)
def test_an_attack_that_does_not_fit_the_kind_is_refused_by_name(kind, attack):
    said = refusal(artifacts={"kinds": [kind]}, adversary={"fraction": 0.2, "attack": attack})
    assert said == f'[adversary] attack = "{attack}" cannot be made with {kind}'


@pytest.mark.parametrize("rule", ["median", "krum", "clipped_gossip", "pooled"])
def test_a_rule_for_weights_takes_no_answers(rule):
    said = refusal(artifacts={"kinds": ["logits"]}, trust={"rule": rule})
    assert said == f'[trust] rule = "{rule}" mixes weights of networks, and no logits'


def test_a_question_is_asked_where_answers_travel_only():
    for key, value in (("question", "pool"), ("question_rows", 9)):
        said = refusal(artifacts={key: value})
        assert said == f'[artifacts] {key} has no effect with kinds = ["parameters"]'
    said = refusal(artifacts={"kinds": ["logits"], "question": "riddle"})
    assert said == '[artifacts] question = "riddle" is not known'


def test_ledgers_are_kept_of_parameters_only():
    said = refusal(ledger={"enabled": True}, artifacts={"kinds": ["data_vector"]})
    assert said == "[ledger] enabled is for parameters, and data_vector travel"


@pytest.mark.parametrize("kind", KINDS)
def test_a_degree_needs_more_nodes_than_that(kind):
    said = refusal(topology={"kind": kind, "degree": 20})
    assert said == "[topology] degree = 20 needs at least 21 nodes"


@pytest.mark.parametrize("kind", KINDS)
def test_a_degree_that_would_do_nothing_is_refused(kind):
    topology = {"kind": kind, "degree": 4}
    if kind in WITH_DEGREE:
        check(scenario(topology=topology))
    else:
        said = refusal(topology=topology)
        assert said == f'[topology] degree = 4 has no effect with kind = "{kind}"'


@pytest.mark.parametrize("key", ["label", "site", "patient"])
@pytest.mark.parametrize("dataset", ["digits", "own.npz"])
def test_columns_are_those_of_a_csv_file(key, dataset):
    said = refusal(population={"dataset": dataset, key: "outcome"})
    assert said.startswith(f'[population] {key} = "outcome" names a column of a CSV file')
    check(scenario(population={"dataset": "own.csv", key: "outcome"}))


def test_a_strength_that_no_attack_has_is_refused():
    hostile = {"fraction": 0.3, "strength": 2.0}
    said = refusal(adversary={**hostile, "attack": ["mimic", "free_rider"]})
    assert said == "[adversary] strength = 2, but mimic, free_rider has none"
    check(scenario(adversary={**hostile, "attack": ["mimic", "ipm"]}))
    for attack in ATTACKS:
        found = registry[attack].strength
        if found is None:
            assert "has none" in refusal(adversary={**hostile, "attack": attack})
        else:
            check(scenario(adversary={**hostile, "attack": attack}))


@pytest.mark.parametrize("kind", ["random_regular", "time_varying"])
def test_an_odd_number_of_link_ends_makes_no_regular_graph(kind):
    said = refusal(population={"nodes": 21}, topology={"kind": kind, "degree": 3})
    assert said == "[topology] degree = 3: no graph of 21 nodes has exactly 3 links at each"
    check(scenario(population={"nodes": 21}, topology={"kind": kind, "degree": 4}))
    check(scenario(population={"nodes": 21}, topology={"kind": "epidemic", "degree": 3}))


def test_steps_and_epochs_contradict_each_other():
    said = refusal(training={"local_steps": 5, "local_epochs": 1})
    assert said == "[training] local_steps = 5 and local_epochs = 1 contradict each other"


def test_classes_each_is_at_most_the_classes_there_are():
    pathological = {"split": "pathological", "classes_each": 3}
    said = refusal(population={"dataset": "breast_cancer", **pathological})
    assert said == "[population] classes_each = 3, but breast_cancer has 2 classes"
    check(scenario(population=pathological))
    check(scenario(population={"dataset": "breast_cancer", "classes_each": 3}))
    check(scenario(population={"dataset": "own.csv", **pathological}))


@pytest.mark.parametrize("models", [[], ["logistic"] * 21])
def test_models_are_one_to_as_many_as_nodes(models):
    said = refusal(population={"model": models})
    assert said == f"[population] model names {len(models)} models for 20 nodes"
    check(scenario(population={"model": ["logistic"] * 20}))


@pytest.mark.parametrize("fraction", [0.0, 0.02])
def test_an_attack_needs_a_byzantine_node(fraction):
    said = refusal(adversary={"fraction": fraction, "attack": "ipm"})
    assert said == (
        f"[adversary] fraction = {fraction:g} of 20 nodes makes none Byzantine,"
        " so the attack ipm cannot happen"
    )


def test_a_byzantine_node_needs_an_attack():
    said = refusal(adversary={"fraction": 0.3})
    assert said == "[adversary] fraction = 0.3 of 20 nodes, but there is no attack"
    assert refusal(adversary={"fraction": 0.3, "attack": []}) == said
    assert refusal(adversary={"fraction": 0.01}).endswith("but there is no attack")
    assert refusal(adversary={"strength": 5.0}).startswith("[adversary] strength = 5, but")


def test_somebody_is_honest():
    said = refusal(adversary={"fraction": 0.98, "attack": "ipm"})
    assert said == "[adversary] fraction = 0.98 of 20 nodes leaves no honest one"
    check(scenario(adversary={"fraction": 0.95, "attack": "ipm"}))


def test_every_attack_of_a_list_has_a_node():
    said = refusal(adversary={"fraction": 0.05, "attack": ["ipm", "alie"]})
    assert said == "[adversary] attack names 2 attacks for 1 Byzantine node"
    check(scenario(adversary={"fraction": 0.1, "attack": ["ipm", "alie"]}))
    unknown = refusal(adversary={"fraction": 0.1, "attack": ["ipm", ""]})
    assert unknown == '[adversary] attack = "" is not known'


@pytest.mark.parametrize("name", ["slow", "late"])
def test_a_share_of_a_fault_is_a_node_at_least(name):
    said = refusal(faults={name: 0.02})
    assert said == f"[faults] {name} = 0.02 of 20 nodes concerns nobody"
    check(scenario(faults={name: 0.05}))
    single = refusal(faults={name: 0.5}, training={"rounds": 1})
    assert single == f"[faults] {name} = 0.5 cannot happen in a single round"


def test_churn_is_counted_over_all_rounds():
    check(scenario(faults={"churn": 0.001}))
    said = refusal(faults={"churn": 0.001}, training={"rounds": 10})
    assert said == "[faults] churn = 0.001 of 20 nodes in 10 rounds concerns nobody"


def test_somebody_is_there_from_the_beginning():
    said = refusal(faults={"late": 1.0})
    assert said == "[faults] late = 1 of 20 nodes leaves nobody to begin"


@pytest.mark.parametrize("name", ["churn", "late"])
def test_two_nodes_are_always_there(name):
    said = refusal(population={"nodes": 2}, faults={name: 0.5})
    assert said == f"[faults] {name} = 0.5 needs more than 2 nodes"
    check(scenario(population={"nodes": 3}, faults={name: 0.5}))
    check(scenario(population={"nodes": 2}, faults={"slow": 0.5}))


def test_delay_is_shorter_than_the_run():
    said = refusal(faults={"delay_rounds": 40})
    assert said == "[faults] delay_rounds = 40 is not shorter than the 40 rounds of [training]"
    check(scenario(faults={"delay_rounds": 39}))


def test_healing_needs_somebody_who_leaves():
    assert refusal(faults={"heal": True}) == "[faults] heal = true, but nobody leaves"
    check(scenario(faults={"heal": True, "churn": 0.1}))


@pytest.mark.parametrize(
    ("span", "said"),
    [
        ([20, 10], "ends before it begins"),
        ([0, 5], "is not within the 40 rounds of [training]"),
        ([-3, 5], "is not within the 40 rounds of [training]"),
        ([30, 41], "is not within the 40 rounds of [training]"),
    ],
)
def test_a_partition_lies_within_the_run(span, said):
    assert refusal(faults={"partition": [[1, 40], span]}) == (
        f"[faults] partition[1] = [{span[0]}, {span[1]}] {said}"
    )
    check(scenario(faults={"partition": [[1, 40], [3, 3]]}))
