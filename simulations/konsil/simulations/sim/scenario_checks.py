"""Checks: what is wrong with a scenario although each of its keys is in range.

`check` raises before anything runs, and in one line that names the key and what would do. It
knows names and sizes only: whether a graph comes out connected, or a file holds what it should,
is found by those who build it. Names are looked up in the registries of those who bear them,
and late, since these load torch.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from konsil.protocol.errors import ConfigError
from konsil.simulations.sim.ledgered import eligible
from konsil.simulations.sim.scenario import ANSWERS, KINDS, QUESTIONS

if TYPE_CHECKING:
    from collections.abc import Collection

    from konsil.simulations.sim.scenario import Scenario

METRICS = ("accuracy", "balanced_accuracy", "auc")
"""Those of `konsil.knowledge.evaluate` of which more is better."""
CLASSES = {"digits": 10, "breast_cancer": 2, "heart_disease": 2}
"""How many classes a data set has, where that is known before it is read."""
REGULAR = ("random_regular", "time_varying")
"""Kinds of graph in which every node has exactly `degree` links."""
WITH_DEGREE = (*REGULAR, "small_world", "scale_free", "erdos_renyi", "epidemic")
"""Kinds that `degree` says something about."""

STEADY = 2
"""Nodes that neither leave nor come late (`konsil.simulations.sim.presence`)."""

LATER = {
    "[population] dataset": ("nuclei",),
    "[population] metric": ("dice",),
}
"""Names that the product has, and this version of the simulator does not."""


def check(scenario: Scenario) -> None:
    """Raise `ConfigError` for the first thing that is wrong."""
    _population(scenario)
    _topology(scenario)
    _learning(scenario)
    _artifacts(scenario)
    _attacks(scenario)
    _fraction(scenario)
    _shares_of_faults(scenario)
    _spans_of_faults(scenario)
    eligible.check(scenario)


def _population(scenario: Scenario) -> None:
    from konsil.simulations.sim.datasets import FILES, NAMED
    from konsil.simulations.sim.shares import DEALS

    population = scenario.population
    _named("[population] dataset", population.dataset, NAMED, files=FILES)
    _named("[population] split", population.split, DEALS)
    _named("[population] metric", population.metric, METRICS)
    for name, key in (
        (population.label, "label"), (population.site, "site"), (population.patient, "patient")
    ):  # fmt: skip
        if name and PurePath(population.dataset).suffix != ".csv":
            raise ConfigError(
                f'[population] {key} = "{name}" names a column of a CSV file, and'
                f" {population.dataset} is none",
                hint="take it out; an NPZ file has arrays `site` and `patient`",
            )
    models = len(population.models)
    if not 1 <= models <= population.nodes:
        raise ConfigError(
            f"[population] model names {models} models for {population.nodes} nodes",
            hint="name one model, or at most one for each node",
        )
    classes = CLASSES.get(population.dataset, population.classes_each)
    if population.split == "pathological" and population.classes_each > classes:
        raise ConfigError(
            f"[population] classes_each = {population.classes_each}, but {population.dataset}"
            f" has {classes} classes",
            hint=f"1 to {classes}",
        )


def _topology(scenario: Scenario) -> None:
    from konsil.simulations.sim.graph_files import SUFFIXES
    from konsil.simulations.sim.graph_kinds import KINDS, checked_degree
    from konsil.simulations.sim.graphs import CHANGING

    topology, nodes = scenario.topology, scenario.population.nodes
    _named("[topology] kind", topology.kind, (*KINDS, *CHANGING), files=SUFFIXES)
    degree = checked_degree(topology, nodes)
    if degree is not None and topology.kind not in WITH_DEGREE:
        raise ConfigError(
            f'[topology] degree = {degree} has no effect with kind = "{topology.kind}"',
            hint=f"take it out; it is of {', '.join(WITH_DEGREE)}",
        )
    if topology.kind in REGULAR and degree is not None and degree * nodes % 2:
        raise ConfigError(
            f"[topology] degree = {degree}: no graph of {nodes} nodes has exactly {degree} links"
            " at each",
            hint="one of degree and [population] nodes must be even",
        )


def _learning(scenario: Scenario) -> None:
    from konsil.simulations.sim.rules import RULES

    training = scenario.training
    if training.local_steps is not None and training.local_epochs is not None:
        raise ConfigError(
            f"[training] local_steps = {training.local_steps} and"
            f" local_epochs = {training.local_epochs} contradict each other",
            hint="keep one of them",
        )
    _named("[trust] rule", scenario.trust.rule, RULES)


def _artifacts(scenario: Scenario) -> None:
    from konsil.simulations.sim.lessons import RULES

    artifacts, rule = scenario.artifacts, scenario.trust.rule
    for kind in artifacts.kinds:
        _named("[artifacts] kinds", kind, KINDS)
    if len(artifacts.kinds) != 1:
        raise ConfigError(
            f"[artifacts] kinds names {len(artifacts.kinds)} kinds",
            hint='write kinds = ["parameters"]',
        )
    if artifacts.question is not None:
        _named("[artifacts] question", artifacts.question, QUESTIONS)
    if artifacts.answers and rule not in RULES:
        raise ConfigError(
            f'[trust] rule = "{rule}" mixes weights of networks, and no {artifacts.kind}',
            hint=f"one of {', '.join(RULES)}",
        )
    for key in ("question", "question_rows"):
        value = getattr(artifacts, key)
        if value is not None and not artifacts.answers:
            raise ConfigError(
                f'[artifacts] {key} has no effect with kinds = ["{artifacts.kind}"]',
                hint=f"take it out; it is of {', '.join(ANSWERS)}",
            )
    if len(set(scenario.population.models)) > 1 and not artifacts.answers:
        raise ConfigError(
            "[population] model: unlike models cannot mix their"
            f" {'parameters' if artifacts.kind == 'parameters' else 'data vectors'}",
            hint=f'take one model for all, or [artifacts] kinds = ["{ANSWERS[0]}"]',
        )


def _attacks(scenario: Scenario) -> None:
    from konsil.simulations.sim.attacks import ATTACKS

    adversary, hostile = scenario.adversary, scenario.hostile
    for attack in adversary.attacks:
        _named("[adversary] attack", attack, ATTACKS)
        if scenario.artifacts.kind not in ATTACKS[attack].kinds:
            raise ConfigError(
                f'[adversary] attack = "{attack}" cannot be made with {scenario.artifacts.kind}',
                hint=f"it forges {', '.join(ATTACKS[attack].kinds)}",
            )
        if ATTACKS[attack].per_link is not None and scenario.faults.delay_rounds:
            raise ConfigError(
                f'[faults] delay_rounds does not go with [adversary] attack = "{attack}", which'
                " forges each message for its receiver and round",
                hint="take out one of them",
            )
    if adversary.strength is not None and not adversary.attacks:
        raise ConfigError(
            f"[adversary] strength = {adversary.strength:g}, but there is no attack",
            hint="name one, or take out strength",
        )
    strong = [one for one, attack in ATTACKS.items() if attack.strength is not None]
    if adversary.strength is not None and not set(strong) & set(adversary.attacks):
        raise ConfigError(
            f"[adversary] strength = {adversary.strength:g}, but"
            f" {', '.join(adversary.attacks)} has none",
            hint=f"take it out; it is of {', '.join(strong)}",
        )
    if 0 < hostile < len(adversary.attacks):
        raise ConfigError(
            f"[adversary] attack names {len(adversary.attacks)} attacks for {hostile} Byzantine"
            f" node{'s' if hostile > 1 else ''}",
            hint="raise fraction, or name fewer",
        )


def _fraction(scenario: Scenario) -> None:
    adversary, nodes = scenario.adversary, scenario.population.nodes
    said = f"[adversary] fraction = {adversary.fraction:g} of {nodes} nodes"
    attacks = ", ".join(adversary.attacks)
    if attacks and scenario.hostile == 0:
        raise ConfigError(
            f"{said} makes none Byzantine, so the attack {attacks} cannot happen",
            hint=f"{1 / nodes:.3g} is one node; or take out attack",
        )
    if adversary.fraction > 0 and not attacks:
        raise ConfigError(
            f"{said}, but there is no attack",
            hint='name one, for example attack = "sign_flip", or take out fraction',
        )
    if scenario.hostile >= nodes:
        raise ConfigError(f"{said} leaves no honest one", hint="lower it, or raise nodes")


def _shares_of_faults(scenario: Scenario) -> None:
    """Shares must come to a node at least; churn, in all rounds together."""
    faults, nodes, rounds = scenario.faults, scenario.population.nodes, scenario.training.rounds
    for name, share, times in (
        ("slow", faults.slow, 1),
        ("late", faults.late, 1),
        ("churn", faults.churn, rounds),
    ):
        if share > 0 and scenario.nodes_in(share * times) == 0:
            within = f" in {rounds} rounds" if times > 1 else ""
            raise ConfigError(
                f"[faults] {name} = {share:g} of {nodes} nodes{within} concerns nobody",
                hint=f"{1 / (nodes * times):.3g} is one node",
            )
        if share > 0 and name != "slow" and nodes <= STEADY:
            raise ConfigError(
                f"[faults] {name} = {share:g} needs more than {STEADY} nodes",
                hint="two are always there",
            )
    if scenario.nodes_in(faults.late) == nodes:
        raise ConfigError(
            f"[faults] late = {faults.late:g} of {nodes} nodes leaves nobody to begin",
            hint="lower it",
        )
    if faults.heal and faults.churn == 0:
        raise ConfigError(
            "[faults] heal = true, but nobody leaves", hint="set churn, or take out heal"
        )


def _spans_of_faults(scenario: Scenario) -> None:
    faults, rounds = scenario.faults, scenario.training.rounds
    for name, share in (("slow", faults.slow), ("late", faults.late)):
        if share > 0 and rounds == 1:
            raise ConfigError(
                f"[faults] {name} = {share:g} cannot happen in a single round",
                hint="raise [training] rounds",
            )
    if faults.delay_rounds >= rounds:
        raise ConfigError(
            f"[faults] delay_rounds = {faults.delay_rounds} is not shorter than the {rounds}"
            " rounds of [training]",
            hint=f"at most {rounds - 1}",
        )
    for number, (first, last) in enumerate(faults.partition):
        place = f"[faults] partition[{number}] = [{first}, {last}]"
        if first > last:
            raise ConfigError(f"{place} ends before it begins", hint="write [first, last]")
        if first < 1 or last > rounds:
            raise ConfigError(
                f"{place} is not within the {rounds} rounds of [training]",
                hint=f"rounds count from 1 to {rounds}",
            )


def _named(place: str, name: str, names: Collection[str], *, files: Collection[str] = ()) -> None:
    """Raise `ConfigError` unless `name` is one of `names`, or a path with one of these endings."""
    if name in names or PurePath(name).suffix in files:
        return
    unknown = "is not in this version" if name in LATER.get(place, ()) else "is not known"
    more = f", or the path of a file that ends in {' or '.join(files)}" if files else ""
    raise ConfigError(f'{place} = "{name}" {unknown}', hint=f"one of {', '.join(names)}{more}")
