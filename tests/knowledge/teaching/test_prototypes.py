"""Prototypes: of enough patients only, fused by weight, and pulling embeddings together."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from konsil.knowledge import pack, train
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.networks import perceptron
from konsil.knowledge.task import Rows, Task
from konsil.knowledge.teaching.prototypes import (
    distance,
    embedded,
    fused,
    prototypes,
    train_towards,
)
from konsil.protocol.errors import ConfigError, LocalProtocolError, TaskError


def rows(targets: list[int], first: int = 0) -> Rows:
    draw = torch.Generator().manual_seed(first)
    inputs = torch.randn(len(targets), 4, generator=draw)
    inputs[torch.arange(len(targets)), torch.tensor(targets)] += 2
    return Rows(inputs, torch.tensor(targets), [f"p{first + k}" for k in range(len(targets))])


def network() -> nn.Module:
    torch.manual_seed(5)
    return perceptron(4, (6,), 3)


def sheet(seed: int, counts=(10, 50, 0)) -> NamedTensors:
    draw = torch.Generator().manual_seed(seed)
    means = nn.functional.normalize(torch.randn(3, 6, generator=draw), dim=1) * 0.9
    return NamedTensors({"means": means, "rows": torch.tensor(counts)})


def test_an_embedding_is_what_enters_the_last_layer_at_length_one():
    module = network()
    given_ = rows([0, 1, 2]).inputs
    outputs, values = embedded(module, given_)
    hidden = module[:2](given_)
    assert torch.equal(outputs, module(given_))
    assert torch.allclose(values, nn.functional.normalize(hidden, dim=1))


@pytest.mark.parametrize(
    "module",
    [perceptron(4, (), 3), nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), nn.Conv1d(1, 1, 1)],
)
def test_a_network_without_a_hidden_layer_has_no_embedding(module):
    with pytest.raises(TaskError, match="no embedding"):
        embedded(module, torch.zeros(2, 4))


def test_a_class_of_few_patients_is_not_sent_and_rows_are_told_in_buckets():
    given_ = rows([0] * 9 + [1] * 10 + [2] * 37)
    found = prototypes(network(), given_, 3)
    assert found["rows"].tolist() == [0, 10, 20]
    assert float(found["means"][0].abs().max()) == 0.0
    _, values = embedded(network(), given_.inputs)
    assert torch.allclose(found["means"][2], values[19:].mean(dim=0), atol=1e-6)


def test_many_rows_of_few_patients_are_few():
    given_ = dataclasses.replace(rows([1] * 40), patients=[f"p{k % 9}" for k in range(40)])
    assert prototypes(network(), given_, 3)["rows"].tolist() == [0, 0, 0]
    with pytest.raises(ConfigError, match="single patient"):
        prototypes(network(), given_, 3, fewest=5)


@given(st.integers(0, 2**20), st.floats(0.01, 10), st.floats(0.01, 10))
@settings(max_examples=30, deadline=None)
def test_sheets_are_fused_by_weight_whatever_rows_they_claim(seed, one, other):
    a, b = sheet(seed), sheet(seed + 1, (20, 0, 0))
    found = fused([a, b], [one, other])
    shares = torch.tensor([one, other], dtype=torch.float64)
    mean = (shares[0] * a["means"][0] + shares[1] * b["means"][0]) / shares.sum()
    assert torch.allclose(found["means"][0], mean.float(), atol=1e-6)
    assert torch.allclose(found["means"][1], a["means"][1], atol=1e-6)
    assert found["rows"].tolist() == [30, 50, 0]
    turned = fused([b, a], [other, one])
    assert torch.allclose(turned["means"], found["means"], atol=1e-6)


@given(st.integers(0, 2**20))
@settings(max_examples=30, deadline=None)
def test_a_sheet_of_weight_0_changes_no_bit(seed):
    broken = NamedTensors({"means": torch.full((3, 6), torch.nan), "rows": torch.tensor([9] * 3)})
    without = fused([sheet(seed), sheet(seed + 1)], [1.0, 2.0])
    among = fused([sheet(seed), broken, sheet(seed + 1)], [1.0, 0.0, 2.0])
    assert pack.to_bytes(among) == pack.to_bytes(without)


@pytest.mark.parametrize("weights", [[-1.0, 1.0], [0.0, 0.0], [float("inf"), 1.0]])
def test_weights_that_mean_nothing_are_refused(weights):
    with pytest.raises(LocalProtocolError):
        fused([sheet(1), sheet(2)], weights)


def test_the_distance_counts_only_rows_whose_class_has_a_prototype():
    values, targets = torch.ones(4, 6), torch.tensor([0, 1, 2, 2])
    one = sheet(3)
    wanted = ((values[:2] - one["means"][:2]) ** 2).sum(dim=1).mean()
    assert float(distance(values, targets, one)) == pytest.approx(float(wanted))
    assert float(distance(values[2:], targets[2:], one)) == 0.0


def test_training_towards_prototypes_brings_embeddings_nearer_and_leaves_the_start_alone():
    one = Task(
        name="toy", classes=("a", "b", "c"), model=partial(perceptron, 4, (6,), 3),
        train=rows([0, 1, 2] * 20), holdout=rows([0, 1, 2] * 5, first=500), local_epochs=10,
    )  # fmt: skip
    start = train.initial_model(one, 1)
    before = pack.to_bytes(start)
    wanted = sheet(4, (10, 10, 10)).map(torch.abs)

    def towards(weight: float, model=start, rounds=10):
        for number in range(1, rounds + 1):
            done = train_towards(one, model, wanted, seed=1, node="n", number=number, weight=weight)
            model = done.model
        return done

    def far(model) -> float:
        module = one.model()
        model.load_into(module)
        values = embedded(module, one.train.inputs)[1].detach()
        return float(distance(values, one.train.targets, wanted))

    assert far(towards(1.0).model) < 0.8 * far(towards(0.0).model)
    assert pack.to_bytes(start) == before
    assert pack.to_bytes(towards(1.0).model) == pack.to_bytes(towards(1.0).model)
    brief = dataclasses.replace(one, local_epochs=1)
    alone = train.train(brief, start, seed=1, node="n", number=1).model
    assert pack.to_bytes(towards(0.0, rounds=1).model) == pack.to_bytes(alone)
