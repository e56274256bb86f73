"""A made-up run, so that pages and tables are tested without any daemon."""

from __future__ import annotations

import random

import pytest

from konsil.simulations import population, topology
from konsil.simulations.facts import (
    Curve,
    HospitalFacts,
    Judgement,
    LedgerFacts,
    LineageFacts,
    RunFacts,
)
from konsil.trust.charts import Flow, Step


def make_run(honest=4, byzantine=1, rounds=8, kind="ring_chords", seed=1, **changes) -> RunFacts:
    """Facts of a run that could have been."""
    draw = random.Random(seed)
    plan = population.hospitals(honest=honest, byzantine=byzantine, seed=seed, task="breast_cancer")
    names = [one.name for one in plan]
    links = topology.edges(kind, names, seed=seed)
    bad = {one.name for one in plan if one.byzantine}
    judgements = []
    for a, b in [*links, *((y, x) for x, y in links)]:
        trust = 0.5
        for at in range(1, rounds + 1):
            goal = 0.02 if b in bad else 0.93
            before = trust
            trust += (goal - trust) * draw.uniform(0.2, 0.6)
            granted = min(max((trust - 0.3) / 0.2, 0), 1)
            judgements.append(
                Judgement(
                    observer=a, peer=b, round=at, trust=trust, granted=granted, before=before,
                    why="a step towards it raises the private loss", helped=b not in bad,
                )
            )  # fmt: skip
    curves = tuple(
        Curve(
            name=name,
            network=tuple(
                0.985 - 0.2 / (at + 1) + draw.uniform(-0.01, 0.01) for at in range(rounds)
            ),
            local=tuple(
                0.955 - 0.25 / (at + 1) + draw.uniform(-0.02, 0.02) for at in range(rounds)
            ),
        )
        for name in names
        if name not in bad
    )
    good = [name for name in names if name not in bad]
    facts = {
        "version": "0.1.0", "started_ms": 1_795_000_000_000, "wall_s": 34.2, "seed": seed,
        "rounds": rounds, "topology": kind, "task": "breast_cancer", "attack": "sign_flip",
        "killed": {}, "links": tuple(links), "metric": "auc", "metric_pooled": 0.988,
        "hospitals": tuple(
            HospitalFacts(
                name=name, node_id="k" * 32, byzantine=name in bad, n_train=draw.randint(20, 120),
                metric_local=0.95 + draw.uniform(-0.02, 0.01), metric_network=0.975,
                weight_received_by_honest=0.004 if name in bad else 0.97,
            )
            for name in names
        ),
        "curves": curves, "judgements": tuple(judgements),
        "lineage": make_lineage(good, rounds, links),
        "ledgers": tuple(
            LedgerFacts(name=name, entries=118, root="ab" * 32, verified=True) for name in names
        ),
        "artifacts": {"parameters": rounds * len(names)}, "bytes_on_wire": 1_234_567,
        "out": "konsil-demo/20261121-040000-1", "report": "report.html",
    }  # fmt: skip
    return RunFacts(**(facts | changes))


def make_lineage(good, rounds, links) -> LineageFacts:
    """Each honest hospital trains, then mixes its neighbours' models of the same round."""
    steps = [Step(key="base", lane=None, at=0.0, kind="base", hover="common base")]
    flows = []
    for at in range(1, rounds + 1):
        for name in good:
            if at == rounds and name != good[0]:
                continue
            steps.append(Step(key=f"t {name} {at}", lane=name, at=at - 0.5, kind="train"))
            before = f"m {name} {at - 1}" if at > 1 else "base"
            flows.append(Flow(source=before, target=f"t {name} {at}", share=1.0))
            steps.append(Step(key=f"m {name} {at}", lane=name, at=float(at), kind="mix"))
            peers = [b if a == name else a for a, b in links if name in (a, b)]
            peers = [p for p in peers if p in good and at < rounds]
            for peer in peers:
                flows.append(Flow(source=f"t {peer} {at}", target=f"m {name} {at}", share=0.25))
            own = 1 - 0.25 * len(peers)
            flows.append(Flow(source=f"t {name} {at}", target=f"m {name} {at}", share=own))
    shares = tuple((name, 1 / len(good)) for name in good)
    final = f"m {good[0]} {rounds}"
    return LineageFacts(
        hospital=good[0], final=final, steps=tuple(steps), flows=tuple(flows), shares=shares
    )


@pytest.fixture
def run() -> RunFacts:
    """A made-up run of the default demo."""
    return make_run()


@pytest.fixture
def making():
    """Makes such runs to measure."""
    return make_run
