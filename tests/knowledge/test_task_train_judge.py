"""Tasks are found and checked, training is seeded and leaves its start alone, judging is fair."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from konsil.knowledge import judge, pack, train
from konsil.knowledge.judge import (
    Judge,
    local_names,
    trial_model,
)
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.task import Rows, Task, TaskConfig, load_factory, where
from konsil.protocol.errors import ConfigError, TaskError


def rows(count: int, seed: int, first: int = 0, classes: int = 2) -> Rows:
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 4, generator=draw)
    targets = (inputs[:, 0] > 0).long() % classes
    return Rows(inputs, targets, [f"p{first + number}" for number in range(count)])


def task(**changes) -> Task:
    plain = Task(
        name="toy",
        classes=("no", "yes"),
        model=lambda: nn.Linear(4, 2),
        train=rows(40, 1),
        holdout=rows(20, 2, first=100),
    )
    return dataclasses.replace(plain, **changes)


def normed() -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Dropout(), nn.Linear(3, 2)
    )


# ---- task --------------------------------------------------------------------------------


def test_a_patient_on_both_sides_is_refused():
    with pytest.raises(ConfigError, match="20 patients are in train and in holdout"):
        task(holdout=rows(20, 2))


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": ("one",)},
        {"classes": ("one", "one")},
        {"local_epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"train": Rows(torch.zeros(0, 4), torch.zeros(0), [])},
    ],
)
def test_an_impossible_task_is_refused(changes):
    with pytest.raises(ConfigError, match="toy"):
        task(**changes)


def test_rows_belong_together():
    with pytest.raises(ConfigError, match="3 inputs, 2 targets and 3 patient ids"):
        Rows(torch.zeros(3, 1), torch.zeros(2), ["a", "b", "c"])


def test_a_factory_beside_the_configuration_goes_first(tmp_path):
    (tmp_path / "tabular.py").write_text(
        "import helper_of_mine\ndef build(c): return helper_of_mine.X\n"
    )
    (tmp_path / "helper_of_mine.py").write_text("X = 7\n")
    config = TaskConfig(tmp_path, "a", 0)
    assert load_factory("tabular:build", tmp_path)(config) == 7
    real = load_factory("konsil.knowledge.tabular:build", tmp_path)
    assert real.__module__ == "konsil.knowledge.tabular"


@pytest.mark.parametrize(
    ("text", "spec", "said"),
    [
        ("", "broken", "not of the form module:function"),
        ("", "broken:1x", "not of the form"),
        ("", "absent_module:build", "cannot load 'absent_module'"),
        ("x = 1\n", "broken:build", "broken.py has no function 'build'"),
        ("build = 3\n", "broken:build", "has no function"),
        ("x = 1\ndef build(:\n", "broken:build", r"SyntaxError: .* \(broken.py:2\)"),
        ("import os\nraise KeyError('boom')\n", "broken:build", r"KeyError: .* \(broken.py:2\)"),
    ],
)
def test_a_factory_that_cannot_be_loaded_is_placed(tmp_path, text, spec, said):
    (tmp_path / "broken.py").write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_factory(spec, tmp_path)


def test_the_place_of_an_error_outside_the_home():
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(2) @ torch.zeros(3)
    assert where(caught.value, Path("/nowhere")).startswith("test_task_train_judge.py:")
    assert where(ValueError(), Path("/nowhere")) == ""


# ---- train -------------------------------------------------------------------------------


def test_training_leaves_its_start_unchanged_and_is_repeatable():
    for make in (lambda: nn.Linear(4, 2), normed):
        toy = task(model=make)
        start = train.initial_model(toy, 5)
        before = pack.to_bytes(start)
        once = train.train(toy, start, seed=5, node="a", number=1)
        assert pack.to_bytes(start) == before, "the shared base must not change"
        again = train.train(toy, start, seed=5, node="a", number=1)
        assert pack.to_bytes(again.model) == pack.to_bytes(once.model) != before
        assert again.loss == once.loss
        for other in ({"node": "b", "number": 1}, {"node": "a", "number": 2}):
            different = train.train(toy, start, seed=5, **other)
            assert pack.to_bytes(different.model) != pack.to_bytes(once.model)


def test_the_common_start_depends_on_the_seed_alone():
    torch.manual_seed(1)
    one = pack.to_bytes(train.initial_model(task(), 5))
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert pack.to_bytes(train.initial_model(task(), 5)) == one
    assert pack.to_bytes(train.initial_model(task(), 6)) != one
    torch.set_rng_state(state)


def test_training_learns():
    toy = task(local_epochs=30)
    start = train.initial_model(toy, 1)
    better = train.train(toy, start, seed=1, node="a", number=1).model
    measure = Judge(toy, "cpu").measure
    assert measure(better)["auc"] > 0.95 > measure(start)["auc"] or measure(better)["auc"] > 0.97


def test_no_batch_is_a_single_row():
    seen = []

    def loss(outputs, targets):
        seen.append(len(targets))
        return functional.cross_entropy(outputs, targets)

    toy = task(train=rows(33, 1), loss=loss, model=normed)
    train.train(toy, train.initial_model(toy, 1), seed=1, node="a", number=1)
    assert sum(seen) == 33
    assert min(seen) > 1


def test_a_loss_without_a_value_is_a_clear_error():
    holed = rows(40, 1)
    holed.inputs[3, 2] = float("nan")
    toy = task(train=holed)
    with pytest.raises(TaskError, match=r"the loss of batch \d+ is nan"):
        train.train(toy, train.initial_model(toy, 1), seed=1, node="a", number=1)

    def ruin(module, _rows, _generator):
        with torch.no_grad():
            module.weight.fill_(float("inf"))
        return 0.5

    toy = task(fit=ruin)
    with pytest.raises(TaskError, match="round 7"):
        train.train(toy, train.initial_model(toy, 1), seed=1, node="a", number=7)


def test_an_own_fit_gets_module_rows_and_generator():
    def fit(module, own, generator):
        assert len(own) == 40
        with torch.no_grad():
            module.bias.copy_(torch.rand(2, generator=generator))
        return 0.25

    toy = task(fit=fit)
    done = train.train(toy, train.initial_model(toy, 1), seed=1, node="a", number=1)
    assert done.loss == 0.25
    assert (done.model["bias"] >= 0).all()


# ---- judge -------------------------------------------------------------------------------


def test_trial_goes_a_quarter_of_the_bounded_way():
    before = NamedTensors({"w": torch.zeros(2), "norm": torch.ones(1), "n": torch.tensor(3)})
    received = NamedTensors({"w": torch.tensor([3.0, 4.0])})
    full = trial_model(before, received, reach=5.0, rho=9.0)
    assert torch.allclose(full["w"], torch.tensor([0.75, 1.0]))
    assert full["norm"] == 1
    assert full["n"] == 3
    assert torch.allclose(trial_model(before, received, 5.0, 2.5)["w"], full["w"] / 2)
    assert torch.equal(trial_model(before, before, 0.0, 0.0)["w"], before["w"])


def test_the_judge_prefers_what_helps():
    toy = task(local_epochs=20)
    start = train.initial_model(toy, 1)
    better = train.train(toy, start, seed=1, node="a", number=1).model
    own = Judge(toy, "cpu")
    assert own.loss(better) < own.loss(start)
    broken = start.map(lambda tensor: tensor * float("nan"))
    assert own.loss(broken) == float("inf")
    gain, error = own.gain(start, better)
    assert gain == own.loss(start) - own.loss(better)
    assert 0 < error < gain
    assert own.gain(start, broken) == (-float("inf"), 0.0), "what is broken has no excuse"
    assert own.gain(broken, broken) == (0.0, 0.0)


def test_an_own_loss_judges_too():
    toy = task(loss=lambda outputs, targets: (outputs.sum() * 0) + 4.5)
    start = train.initial_model(toy, 1)
    assert Judge(toy, "cpu").loss(start) == 4.5
    assert Judge(toy, "cpu").gain(start, start) == (0.0, 0.0)


def test_outputs_of_another_shape_are_a_clear_error():
    toy = task(model=lambda: nn.Linear(4, 3))
    with pytest.raises(TaskError, match=r"\(20, 3\), not \(rows, 2 classes\)"):
        Judge(toy, "cpu").loss(train.initial_model(toy, 1))


def test_the_intercept_is_local_and_optional():
    skewed = rows(40, 1)
    skewed.targets[:] = 1
    skewed.targets[:2] = 0
    toy = task(train=skewed)
    start, own = train.initial_model(toy, 1), Judge(toy, "cpu")
    low, high = own.intercept(start)
    assert high > low
    assert own.measure(start) != own.measure(start, calibrated=False)
    assert (
        own.measure(start, toy.train)["auc"]
        == own.measure(start, toy.train, calibrated=False)["auc"]
    )


def test_normalisation_and_named_parts_stay_local():
    assert local_names(task(model=normed), normed()) == (
        "1.bias", "1.num_batches_tracked", "1.running_mean", "1.running_var", "1.weight",
    )  # fmt: skip
    head = task(model=normed, local=("4.", "0.bias", "0"))
    assert {"4.weight", "4.bias", "0.bias"} < set(local_names(head, normed()))
    assert "0.weight" not in local_names(head, normed())
    assert local_names(task(), nn.Linear(4, 2)) == ()
    plain = nn.Sequential(nn.GroupNorm(2, 4), nn.Linear(4, 2))
    assert local_names(task(), plain) == ()
    assert judge.TRIAL == 0.25
