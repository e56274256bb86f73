"""Descent: node by node what a daemon's worker trains, however nodes are put into blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from konsil.knowledge.named import NamedTensors
from konsil.knowledge.task import Rows, Task
from konsil.knowledge.train import seed_of, train
from konsil.simulations.sim import descent
from konsil.simulations.sim.descent import Descent, blocks
from konsil.simulations.sim.networks import network_of
from konsil.simulations.sim.scenario import Training

ROWS = np.array([5, 12, 1, 9])


def make():
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


def the_data():
    generator = torch.Generator().manual_seed(3)
    return (
        torch.randn(4, 12, 4, generator=generator),
        torch.randint(3, (4, 12), generator=generator),
    )


def start(network):
    torch.manual_seed(9)
    return network.layout.row(make().state_dict()).repeat(4, 1)


@pytest.mark.parametrize("training", [
    Training(batch=4, lr=0.2), Training(batch=4, local_epochs=3, lr=0.2),
    Training(batch=5, local_steps=7, lr=0.2),
])  # fmt: skip
@pytest.mark.parametrize("block", [1, 1 << 20])
def test_each_node_learns_what_its_daemon_would(training, block, monkeypatch):
    monkeypatch.setattr(descent, "BLOCK_BYTES", block)
    network = network_of(make, (4,))
    inputs, targets = the_data()
    seeds = [seed_of(7, "batches", f"node-{node}") for node in range(4)]
    trainer = Descent(network, inputs, targets, ROWS, seeds, training)
    models = start(network)
    trained = trainer.round(models, 3, np.ones(4, dtype=bool))
    assert torch.equal(models, start(network)), "the start is left as it was"
    for node, count in enumerate(ROWS):
        rows = Rows(inputs[node, :count], targets[node, :count], [f"p{i}" for i in range(count)])
        held = Rows(inputs[node, :1], targets[node, :1], ["held"])
        task = Task(
            name="t", classes=("a", "b", "c"), model=make, train=rows, holdout=held,
            batch_size=training.batch, local_epochs=training.epochs or 1,
            local_steps=training.local_steps, learning_rate=training.lr,
        )  # fmt: skip
        base = NamedTensors(network.layout.tensors(models[node]))
        alone = train(task, base, seed=7, node=f"node-{node}", number=3).model
        torch.testing.assert_close(trained[node], network.layout.row(alone), atol=1e-6, rtol=1e-5)


def test_who_is_away_keeps_the_own_model_and_the_others_do_not_notice():
    network = network_of(make, (4,))
    inputs, targets = the_data()
    trainer = Descent(network, inputs, targets, ROWS, [1, 2, 3, 4], Training(batch=4))
    models = start(network)
    everybody = trainer.round(models, 1, np.ones(4, dtype=bool))
    some = trainer.round(models, 1, np.array([True, False, True, False]))
    assert torch.equal(some[[1, 3]], models[[1, 3]])
    torch.testing.assert_close(some[[0, 2]], everybody[[0, 2]])
    assert torch.equal(trainer.round(models, 1, np.zeros(4, dtype=bool)), models)


def test_blocks_cover_every_node_once():
    for nodes, elements in [(1, 10), (7, 3), (100, 2410), (5, 10**8)]:
        found = [node for begin, end in blocks(nodes, elements) for node in range(begin, end)]
        assert found == list(range(nodes))
