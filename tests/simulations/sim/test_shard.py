"""Sharding: several processes compute what one does."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from konsil.protocol.errors import ConfigError
from konsil.simulations.__main__ import without_out
from konsil.simulations.sim.engine import simulate
from konsil.simulations.sim.result import as_json
from konsil.simulations.sim.scenario_reading import read_scenario
from konsil.simulations.sim.shard import Shard, whole_or_ranks

SCENARIO = """
seed = 5
[population]
nodes = 7
dataset = "breast_cancer"
split = "dirichlet"
alpha = 1.0
model = "mlp:8"
[topology]
kind = "ring_chords"
[training]
rounds = 4
[trust]
rule = "{rule}"
[adversary]
fraction = 0.3
attack = "{attack}"
[faults]
drop = 0.2
churn = 0.1
{late}
"""
MEASURED = (
    "metric_mean", "metric_worst", "metric_local_mean", "metric_pooled", "attacker_weight_mean",
    "honest_weight_mean", "bytes_per_node_round",
)  # fmt: skip


@given(st.integers(1, 200), st.integers(1, 20))
def test_every_node_has_one_process(nodes, processes):
    shards = [Shard(nodes, rank, processes) for rank in range(processes)]
    owned = [node for one in shards for node in range(one.begin, one.end)]
    assert owned == list(range(nodes))
    sizes = [one.end - one.begin for one in shards]
    assert max(sizes) - min(sizes) <= 1


def test_more_processes_than_nodes_are_refused_by_each_of_them(monkeypatch):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: 2)
    monkeypatch.setattr(dist, "get_world_size", lambda: 4)
    assert whole_or_ranks(4) == Shard(4, 2, 4)
    with pytest.raises(ConfigError, match="nodes = 3 are too few for 4 processes") as caught:
        whole_or_ranks(3)
    assert caught.value.hint == "start 3 processes at most"


def test_only_one_process_writes():
    words = ["run", "a.toml", "--out", "place", "--json"]
    assert without_out(words) == ["run", "a.toml", "--json"]
    assert without_out(["run", "a.toml", "--out=place"]) == ["run", "a.toml"]


def answer(words):
    done = subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    return json.loads(line)["data"]


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "attack"), [("evidence", "sign_flip"), ("mean", "dissensus")])
def test_two_processes_compute_what_one_does(tmp_path, rule, attack):
    path = tmp_path / "scenario.toml"
    path.write_text(
        SCENARIO.format(
            rule=rule, attack=attack, late="delay_rounds = 1" if attack == "sign_flip" else ""
        )
    )
    run = ["konsil.simulations", "run", str(path), "--json", "--device", "cpu"]
    alone = json.loads(json.dumps(as_json(simulate(read_scenario(path), tmp_path))))
    together = answer(
        ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", *run]
    )
    for name in MEASURED:
        assert together[name] == pytest.approx(alone[name], abs=1e-5), name
    assert together["faults"] == alone["faults"]
    assert [p["metric_mean"] for p in together["history"]] == pytest.approx(
        [p["metric_mean"] for p in alone["history"]], abs=1e-5
    )
