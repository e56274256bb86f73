"""Running statistics are re-estimated on own inputs, and nothing else changes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from konsil.knowledge import pack, train
from konsil.knowledge.calibrate import fit_intercept
from konsil.knowledge.judge import Judge
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.restoring import restored, settled, statistic_names
from konsil.knowledge.task import Rows, Task
from konsil.knowledge.vectors.vector import applied, between
from konsil.protocol.errors import TaskError

STATISTICS = {"0.running_mean", "0.running_var", "0.num_batches_tracked"}


def flat() -> nn.Module:
    return nn.Sequential(nn.BatchNorm1d(4, momentum=0.03), nn.Dropout(0.5), nn.Linear(4, 2))


def deep() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4),
        nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4 * 4, 2),
    )  # fmt: skip


def start(make) -> NamedTensors:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return NamedTensors.of(make())


def drawn(*shape: int, seed: int = 2) -> torch.Tensor:
    return 7 + 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 90), st.integers(2, 40))
def test_they_are_the_average_of_the_batches(count, batch):
    model, inputs = start(flat), drawn(count, 4)
    parts = torch.tensor_split(inputs, -(-count // batch))
    assume(min(len(part) for part in parts) > 1)
    before = pack.to_bytes(model)
    own = restored(flat, model, inputs, batch=batch)
    assert pack.to_bytes(model) == before
    assert torch.allclose(own["0.running_mean"], inputs.mean(0), atol=1e-4)
    sizes = torch.tensor([len(part) for part in parts])[:, None]
    variances = torch.stack([part.var(0) for part in parts])
    wanted = (sizes * variances).sum(0) / count
    assert torch.allclose(own["0.running_var"], wanted, rtol=1e-3)
    assert int(own["0.num_batches_tracked"]) == len(parts)
    rest = set(model) - STATISTICS
    assert all(torch.equal(own[name], model[name]) for name in rest)


def test_statistics_are_named_and_weights_are_not():
    assert set(statistic_names(flat())) == STATISTICS
    assert statistic_names(nn.BatchNorm1d(2))[0] == "running_mean"
    assert statistic_names(nn.Sequential(nn.GroupNorm(2, 4), nn.Linear(4, 2))) == ()
    assert statistic_names(nn.BatchNorm1d(2, track_running_stats=False)) == ()
    vector = between(start(deep), start(deep), statistic_names(deep()))
    assert {"1.weight", "1.bias"} < set(vector)
    assert not any("running" in name for name in vector)


def test_momentum_and_the_random_numbers_stay():
    kept = flat()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one = restored(lambda: kept, start(flat), drawn(20, 4))
    assert kept[0].momentum == 0.03
    with pytest.raises(TaskError):
        restored(lambda: kept, start(flat), drawn(1, 4))
    assert kept[0].momentum == 0.03
    assert torch.equal(torch.get_rng_state(), state)
    assert pack.to_bytes(restored(flat, start(flat), drawn(20, 4))) == pack.to_bytes(one)


def test_no_dropout_disturbs_the_statistics():
    def make():
        return nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(4), nn.Linear(4, 2))

    inputs = drawn(50, 4)
    own = restored(make, start(make), inputs)
    assert torch.allclose(own["1.running_mean"], inputs.mean(0), atol=1e-4)


def test_a_channel_that_does_not_vary_keeps_its_variance():
    inputs = drawn(30, 4)
    inputs[:, 1] = 5.0
    model = NamedTensors({**start(flat), "0.running_var": torch.tensor([9.0, 4.0, -2.0, 9.0])})
    own = restored(flat, model, inputs)
    assert own["0.running_var"][1] == 4.0
    assert float(own["0.running_var"].min()) > 0
    inputs[:, 2] = 5.0
    assert restored(flat, model, inputs)["0.running_var"][2] == 1.0, "no variance to keep"


def test_what_was_summed_is_repaired():
    base, inputs = start(deep), drawn(40, 1, 8, 8)
    other = restored(deep, base, 10 + 4 * inputs)
    summed = base
    for _ in range(3):
        summed = applied(summed, between(base, other))
    assert float(summed["1.running_var"].min()) < 0, "this is why variances are never added"
    own = restored(deep, summed, inputs)
    assert own.finite()
    assert all(float(own[f"{n}.running_var"].min()) > 0 for n in (1, 4))


def test_restored_statistics_answer_as_training_mode_does():
    model, inputs = start(deep), drawn(30, 1, 8, 8)
    own, module = restored(deep, model, inputs, batch=30), deep()
    own.load_into(module)
    with torch.no_grad():
        evaluated = module.eval()(inputs)
        trained = module.train()(inputs)
    # Training mode divides by the biased variance, so a little is left of a difference.
    assert torch.allclose(evaluated, trained, atol=0.01)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(4, 2),
        lambda: nn.Sequential(nn.GroupNorm(2, 4), nn.Linear(4, 2)),
        lambda: nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 2)),
    ],
)
def test_without_running_statistics_nothing_happens(make):
    model = start(make)
    assert restored(make, model, drawn(0, 4)) is model


def test_instance_normalisation_that_tracks_is_restored_too():
    def make():
        return nn.Sequential(
            nn.InstanceNorm1d(3, track_running_stats=True), nn.Flatten(), nn.Linear(15, 2)
        )

    inputs = drawn(20, 3, 5)
    own = restored(make, start(make), inputs, batch=7)
    assert torch.allclose(own["0.running_mean"], inputs.mean((0, 2)), atol=1e-4)
    assert int(own["0.num_batches_tracked"]) == 3


def test_inputs_that_cannot_restore_are_a_clear_error():
    with pytest.raises(TaskError, match="without inputs"):
        restored(flat, start(flat), drawn(0, 4))
    with pytest.raises(TaskError, match="on 1 inputs"):
        restored(flat, start(flat), drawn(1, 4))
    holed = drawn(20, 4)
    holed[3, 2] = float("nan")
    with pytest.raises(TaskError, match="not finite"):
        restored(flat, start(flat), holed)


def test_settling_restores_then_fits_the_intercept():
    rows = Rows(drawn(60, 4), (torch.arange(60) % 10 == 0).long(), [f"a{n}" for n in range(60)])
    judge = Rows(drawn(20, 4, seed=3), torch.arange(20) % 2, [f"b{n}" for n in range(20)])
    toy = Task("toy", ("no", "yes"), flat, rows, judge)
    model = train.initial_model(toy, 1)
    home = settled(toy, model)
    assert pack.to_bytes(home.model) == pack.to_bytes(restored(flat, model, rows.inputs))
    outputs = Judge(toy, "cpu").outputs(home.model, rows.inputs)
    wanted = fit_intercept(np.asarray(outputs), np.asarray(rows.targets))
    assert home.intercept == wanted
    assert home.intercept[0] > home.intercept[1], "disease is rare here"
    with pytest.raises(dataclasses.FrozenInstanceError):
        home.model = model
