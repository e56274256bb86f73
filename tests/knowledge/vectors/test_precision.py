"""The diagonal of the Fisher information, against closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from konsil.knowledge import pack, train
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.task import Rows, Task
from konsil.knowledge.vectors import precision
from konsil.protocol.errors import LocalProtocolError, TaskError


def task(make=lambda: nn.Linear(4, 2), count: int = 40, classes=("no", "yes")) -> Task:
    draw = torch.Generator().manual_seed(3)
    rows = [
        Rows(
            torch.randn(n, 4, generator=draw),
            torch.arange(n) % len(classes),
            [f"{k}{i}" for i in range(n)],
        )
        for k, n in (("a", count), ("b", 6))
    ]
    return Task("toy", classes, make, *rows)


def test_it_is_that_of_logistic_regression():
    # For logits z = W x + b: E_y (d log p_y / d W_ck)² = p_c (1 - p_c) x_k².
    toy = task(lambda: nn.Linear(4, 3), classes=("a", "b", "c"))
    model = train.initial_model(toy, 1)
    found = precision.diagonal(toy, model, ["weight", "bias"])
    inputs = toy.train.inputs
    shares = (inputs @ model["weight"].T + model["bias"]).softmax(1)
    spread = shares * (1 - shares)
    assert torch.allclose(found["bias"], spread.mean(0), atol=1e-6)
    wanted = (spread[:, :, None] * inputs[:, None, :].square()).mean(0)
    assert torch.allclose(found["weight"], wanted, atol=1e-6)


def test_it_covers_the_names_and_leaves_the_model_alone():
    def make():
        return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))

    toy = task(make)
    model = train.initial_model(toy, 1)
    before = pack.to_bytes(model)
    found = precision.diagonal(toy, model, ["0.weight", "1.running_mean", "3.bias"])
    assert list(found) == ["0.weight", "1.running_mean", "3.bias"]
    assert pack.to_bytes(model) == before
    assert all(float(tensor.min()) >= 0 for tensor in found.values())
    assert float(found["0.weight"].max()) > 0
    assert torch.equal(found["1.running_mean"], torch.zeros(3))


def test_many_rows_are_sampled_evenly(monkeypatch):
    toy = task(count=40)
    model = train.initial_model(toy, 1)
    monkeypatch.setattr(precision, "MOST_ROWS", 2)
    found = precision.diagonal(toy, model, ["bias"])
    ends = toy.train.inputs[[0, 39]]
    shares = (ends @ model["weight"].T + model["bias"]).softmax(1)
    assert torch.allclose(found["bias"], (shares * (1 - shares)).mean(0), atol=1e-6)


def test_what_it_cannot_look_at_is_refused():
    toy = task()
    model = train.initial_model(toy, 1)
    with pytest.raises(LocalProtocolError, match="'x'"):
        precision.diagonal(toy, model, ["x"])
    wide = task(lambda: nn.Linear(4, 5))
    with pytest.raises(TaskError, match="2 finite values"):
        precision.diagonal(wide, train.initial_model(wide, 1), ["weight"])
    broken = NamedTensors({**model, "bias": torch.full((2,), float("nan"))})
    with pytest.raises(TaskError, match="finite"):
        precision.diagonal(toy, broken, ["weight"])
