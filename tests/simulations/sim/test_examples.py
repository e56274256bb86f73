"""The ready scenarios under `examples/scenarios`: each in small form, and what it promises."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from konsil.simulations.sim.attacks import ATTACKS
from konsil.simulations.sim.datasets import NAMED
from konsil.simulations.sim.engine import simulate
from konsil.simulations.sim.graph_kinds import KINDS
from konsil.simulations.sim.graphs import CHANGING
from konsil.simulations.sim.result import faults_missed
from konsil.simulations.sim.rules import RULES
from konsil.simulations.sim.scenario import KINDS as ARTIFACTS
from konsil.simulations.sim.scenario import QUESTIONS
from konsil.simulations.sim.scenario_checks import METRICS, check
from konsil.simulations.sim.scenario_reading import keys, read_scenario
from konsil.simulations.sim.shares import DEALS

CHECKOUT = Path(__file__).resolve().parents[3]
FOLDER = CHECKOUT / "examples" / "scenarios"
FILES = sorted(FOLDER.glob("*.toml"))
ROUNDS = 12
NODES = 24
CUT = ((4, 8),)
"""Where the graph is cut in the small form."""


def small(scenario):
    """The same question to fewer nodes, for fewer rounds."""
    change = msgspec.structs.replace
    population, faults = scenario.population, scenario.faults
    found = change(
        scenario,
        population=change(population, nodes=min(population.nodes, NODES)),
        training=change(scenario.training, rounds=ROUNDS),
        faults=change(faults, partition=CUT if faults.partition else ()),
        output=change(scenario.output, eval_every=3),
    )
    check(found)
    return found


@pytest.fixture(scope="module", params=FILES, ids=lambda path: path.stem)
def ran(request):
    """Scenario, result and portrait of one file."""
    scenario = small(read_scenario(request.param))
    portraits = []
    result = simulate(scenario, FOLDER, device="cpu", portray=portraits.append)
    return scenario, result, portraits[0]


def test_there_are_thirteen_and_each_says_what_it_asks():
    assert len(FILES) == 13
    for path in FILES:
        asks, more = path.read_text().splitlines()[:2]
        assert asks.startswith("# ")
        assert asks.endswith("?"), path.name
        assert more.startswith("# ")


def test_it_runs_and_everything_asked_for_happened(ran):
    scenario, result, _ = ran
    assert faults_missed(scenario, result) == ()
    assert len(result.history) == ROUNDS // 3
    for value in (result.metric_mean, result.metric_worst, result.metric_pooled):
        assert value is not None
        assert 0 < value <= 1
    for point in result.history:
        assert point.metric_worst <= point.metric_mean


def test_nodes_learn_more_together_than_alone(ran):
    """On average; and the worst off too, unless it was away all the time."""
    scenario, result, _ = ran
    assert result.metric_mean > result.metric_local_mean
    if not scenario.faults.churn:
        # A student that is no better than its hospital's own model is not kept.
        kept = scenario.artifacts.kind == "weak_labels"
        worst, alone = result.metric_worst, result.metric_local_worst
        assert worst > alone or (kept and worst == alone)


def test_attackers_are_granted_less_than_honest_nodes(ran):
    scenario, result, _ = ran
    if scenario.hostile:
        assert result.attacker_weight_mean < 0.5 < result.honest_weight_mean
    else:
        assert result.attacker_weight_mean is None


def test_the_portrait_is_of_the_same_nodes_and_weights(ran):
    scenario, result, portrait = ran
    honest = ~portrait.hostile
    assert portrait.hostile.sum() == scenario.hostile
    assert (np.isfinite(portrait.metric) == honest).all()
    assert portrait.metric[honest].mean() == pytest.approx(result.metric_mean)
    assert portrait.metric[honest].min() == pytest.approx(result.metric_worst)
    assert len(portrait.granted) == len(portrait.links)
    known = portrait.granted[np.isfinite(portrait.granted)]
    assert 0 <= known.min() <= known.max() <= 1 + 1e-9


def test_the_reference_names_every_key_kind_rule_and_attack():
    page = (CHECKOUT / "docs" / "simulator.md").read_text()
    said = set(re.findall(r"[a-z_+]+", " ".join(re.findall(r"`([^`\n]+)`", page))))
    plain = {name.removesuffix("+noise") for name in ATTACKS}
    assert "`+noise`" in page
    wanted = {*KINDS, *CHANGING, *RULES, *plain, *NAMED, *DEALS, *METRICS, *ARTIFACTS, *QUESTIONS}
    for names in keys().values():
        wanted |= set(names)
    assert wanted - said == set()


def test_the_tutorial_begins_with_a_ready_scenario():
    page = (CHECKOUT / "docs" / "simulator.md").read_text()
    shown = page.partition("```toml\n")[2].partition("```")[0]
    ready = (FOLDER / "dirichlet-6-regular-sign-flip.toml").read_bytes()
    assert msgspec.toml.decode(shown) == msgspec.toml.decode(ready)


def test_pictures_of_the_tutorial_are_there_and_small():
    page = (CHECKOUT / "docs" / "simulator.md").read_text()
    for name in re.findall(r"\((pictures/[^)]+)\)", page):
        assert 1_000 < (CHECKOUT / "docs" / name).stat().st_size < 60_000, name
