"""A personal model is drawn to the consensus, which stays as it is; local parts stay local."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from konsil.knowledge import pack, train
from konsil.knowledge.judge import local_names
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.personal import train_personal, with_own
from konsil.knowledge.task import Rows, Task
from konsil.protocol.errors import ConfigError, LocalProtocolError, ManifestRefused


def rows(count: int, seed: int, letter: str) -> Rows:
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 4, generator=draw)
    return Rows(inputs, (inputs[:, 0] > 0).long(), [f"{letter}{n}" for n in range(count)])


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))


def task(**changes) -> Task:
    plain = Task(
        name="toy", classes=("no", "yes"), model=normed,
        train=rows(33, 1, "a"), holdout=rows(12, 2, "b"), local=("3.",),
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


ROUND = {"seed": 5, "node": "a", "number": 2}


def ditto(toy: Task, own: NamedTensors, consensus: NamedTensors, mu: float):
    return train_personal(toy, own, consensus, mu=mu, **ROUND)


def test_without_a_pull_it_is_plain_training_bit_for_bit():
    toy = task()
    own, consensus = train.initial_model(toy, 1), train.initial_model(toy, 2)
    plain = train.train(toy, own, **ROUND)
    drawn = ditto(toy, own, consensus, 0.0)
    assert pack.to_bytes(drawn.model) == pack.to_bytes(plain.model)
    assert drawn.loss == plain.loss


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99), st.sampled_from([0.1, 1.0, 5.0]))
def test_one_step_is_that_of_the_penalised_loss(seed, mu):
    toy = task(model=lambda: nn.Linear(4, 2), local=(), batch_size=64)
    own, consensus = train.initial_model(toy, seed), train.initial_model(toy, seed + 1)
    module = nn.Linear(4, 2)
    own.load_into(module)
    loss = functional.cross_entropy(module(toy.train.inputs), toy.train.targets)
    loss = loss + mu / 2 * sum(
        (weight - consensus[name]).square().sum() for name, weight in module.named_parameters()
    )
    gradients = torch.autograd.grad(loss, [module.weight, module.bias])
    found = ditto(toy, own, consensus, mu).model
    for name, gradient in zip(("weight", "bias"), gradients, strict=True):
        assert torch.allclose(found[name], own[name] - 0.1 * gradient, atol=1e-5)


def test_a_stronger_pull_ends_nearer_and_leaves_the_consensus_alone():
    toy = task(local_epochs=6)
    own, consensus = train.initial_model(toy, 1), train.initial_model(toy, 2)
    before = pack.to_bytes(own), pack.to_bytes(consensus)
    shared = ["0.weight", "0.bias"]
    ways = [
        ditto(toy, own, consensus, mu).model.select(shared).distance(consensus.select(shared))
        for mu in (0.0, 0.3, 3.0)
    ]
    assert ways[0] > ways[1] > ways[2]
    assert (pack.to_bytes(own), pack.to_bytes(consensus)) == before


def test_what_is_local_is_not_pulled():
    toy = task()

    def idle(module, _rows, _generator):
        loss = sum((0.0 * weight).sum() for weight in module.parameters())
        torch.autograd.backward(loss)
        moved = {name for name, weight in module.named_parameters() if weight.grad.abs().sum() > 0}
        seen.append(moved)
        return 0.25

    seen: list[set[str]] = []
    own, consensus = train.initial_model(toy, 1), train.initial_model(toy, 2)
    done = ditto(dataclasses.replace(toy, fit=idle), own, consensus, 1.0)
    assert seen == [{"0.weight", "0.bias"}], "a task's own loop is pulled too"
    assert done.loss == 0.25
    names = local_names(toy, normed())
    assert not seen[0] & set(names)


def test_a_plan_of_rounds_goes_on():
    class Plan:
        def __call__(self, module, own, generator):
            raise AssertionError("a plan is asked for its round")

        def at(self, number):
            return lambda module, own, generator: number / 8

    toy = task(fit=Plan())
    own = train.initial_model(toy, 1)
    assert ditto(toy, own, own, 1.0).loss == 0.25


def test_an_impossible_pull_is_refused():
    toy = task()
    own = train.initial_model(toy, 1)
    for mu in (-0.1, math.nan, math.inf):
        with pytest.raises(ConfigError, match="mu ="):
            ditto(toy, own, own, mu)
    with pytest.raises(ConfigError, match="overshoots") as caught:
        ditto(toy, own, own, 10.0)
    assert caught.value.hint == "take a mu below 10"


def test_the_local_head_is_kept_and_the_rest_is_taken_over():
    toy = task()
    own, consensus = train.initial_model(toy, 1), train.initial_model(toy, 2)
    own = train.train(toy, own, **ROUND).model
    names = local_names(toy, normed())
    mixed = with_own(consensus, own, names)
    assert all(torch.equal(mixed[name], own[name]) for name in names)
    assert all(torch.equal(mixed[n], consensus[n]) for n in ("0.weight", "0.bias"))
    assert with_own(consensus, own, ()) is consensus
    with pytest.raises(LocalProtocolError, match="'x'"):
        with_own(consensus, own, ["x"])
    with pytest.raises(ManifestRefused, match="shape"):
        with_own(consensus, NamedTensors({**own, "3.bias": torch.zeros(3)}), ["3.bias"])
