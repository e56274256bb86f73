"""Four real hospitals learn together without a centre, and nearly reach the pooled model.

Fed-Heart-Disease, FLamby's rule, ring of four, logistic model. AUC over the three sites whose
test part has both classes in number (Switzerland's has one negative). The figures that count
are means over ten splits (`exhaustive`); one split runs in every check, for fewer rounds, with the
network only required to be ahead of learning alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from statistics import mean

import pytest
import trio
from network import Network

from konsil.simulations.measuring import Measuring, Question, Site

SITES = ("cleveland", "hungarian", "switzerland", "va")
JUDGED = ("cleveland", "hungarian", "va")
RING = [("cleveland", "hungarian"), ("hungarian", "switzerland"), ("switzerland", "va"),
        ("va", "cleveland")]  # fmt: skip
ROUNDS, FEWER = 30, 12
HOW = ("network", "local")


def options(site, split):
    return {"dataset": "heart_disease", "model": "logistic", "site": site, "split_seed": split,
            "holdout": 0.3}  # fmt: skip


def measured(root, models, rounds):
    sites = tuple(
        Site(name=name, home=str(root / name), byzantine=False, models=(models[name],))
        for name in SITES
    )
    with Measuring(Question(sites=sites, rounds=rounds, seed=0)) as measuring:
        found = measuring.answer()
    assert not found.failures
    return {
        "network": mean(found.network[name][-1] for name in JUDGED),
        "local": mean(found.local[name][-1] for name in JUDGED),
        "pooled": mean(found.pooled[name] for name in JUDGED),
    }


async def learn(root, split, rounds=ROUNDS):
    root.mkdir()
    async with trio.open_nursery() as nursery:
        net = Network(
            root, nursery, SITES, edges=RING, rounds=rounds, patience_s=20.0,
            factory="konsil.knowledge.tabular:build",
            options={site: options(site, split) for site in SITES},
        )  # fmt: skip
        await net.start()
        await net.until(net.idle, seconds=300)
        models = {name: net.daemons[name].learner.memory.model.hex() for name in SITES}
        nursery.cancel_scope.cancel()
    return await trio.to_thread.run_sync(measured, root, models, rounds)


@pytest.fixture
def heart(data_folder, monkeypatch):
    if not (data_folder / "heart_disease").is_dir():
        pytest.skip(f"no heart-disease data in {data_folder}")
    monkeypatch.setenv("KONSIL_DATA", str(data_folder))
    return os.environ["KONSIL_DATA"]


@pytest.mark.slow
async def test_a_split_gains_from_the_network(heart, tmp_path):
    found = await learn(tmp_path / "3", 3, FEWER)
    assert found["network"] > found["local"]


@pytest.mark.exhaustive
async def test_ten_splits_reach_the_goal(heart, tmp_path):
    found = []
    for split in range(10):
        found.append(await learn(tmp_path / str(split), split))
        print({"split": split, **{key: round(value, 4) for key, value in found[-1].items()}})
    network, local, pooled = (mean(f[key] for f in found) for key in ("network", "local", "pooled"))
    print(f"mean AUC: network {network:.4f}, local {local:.4f}, pooled {pooled:.4f}")
    assert network >= local + 0.03
    assert network >= pooled - 0.015


@pytest.mark.exhaustive
def test_three_splits_reach_the_goal_over_libp2p(heart, tmp_path):
    found = []
    for split in range(3):
        told = subprocess.run(
            [sys.executable, "-m", "konsil.node.cli.app", "demo", "--task", "heart_disease",
             "--byzantine", "0", "--topology", "ring", "--rounds", str(ROUNDS),
             "--seed", str(split), "--out", str(tmp_path / str(split)), "--json"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert told.returncode == 0, told.stderr
        data = json.loads(told.stdout)["data"]
        assert all(ledger["verified"] for ledger in data["ledgers"])
        judged = [one for one in data["hospitals"] if one["name"] in {*JUDGED, "hungary"}]
        assert len(judged) == 3
        network, local = (mean(one[f"metric_{key}"] for one in judged) for key in HOW)
        found.append((network, local))
        print({"split": split, "network": round(network, 4), "local": round(local, 4)})
    assert mean(network for network, _ in found) >= mean(local for _, local in found) + 0.03
