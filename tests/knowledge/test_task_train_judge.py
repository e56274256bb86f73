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
from konsil.knowledge.task import Rows, Task, TaskConfig, load_factory, load_function, where
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


def test_a_function_for_another_setting_is_named_by_it(tmp_path):
    (tmp_path / "nets.py").write_text("def net(): return 5\n")
    assert load_function("nets:net", tmp_path, setting="model")() == 5
    with pytest.raises(ConfigError, match=r"^model = 'nets:absent': .* no function 'absent'"):
        load_function("nets:absent", tmp_path, setting="model")
    with pytest.raises(ConfigError, match=r"^model: cannot load 'absent_module'"):
        load_function("absent_module:net", tmp_path, setting="model")


@pytest.mark.parametrize(
    ("problem", "inputs", "targets", "said"),
    [
        (
            "classes",
            (4, 3, 8, 8),
            (4, 8, 8),
            r"asks for classes and has .* \(4, 8, 8\), not \(4,\)",
        ),
        ("masks", (4, 3, 8, 8), (4,), r"asks for masks and has .* \(4,\), not \(4, 8, 8\)"),
        ("masks", (4, 3, 8, 8), (4, 8, 9), r"\(4, 8, 9\), not \(4, 8, 8\)"),
        ("masks", (4, 8), (4,), "masks need images"),
    ],
)
def test_targets_answer_what_is_asked(problem, inputs, targets, said):
    both = [
        Rows(torch.zeros(inputs), torch.zeros(targets, dtype=torch.long), list(names))
        for names in ("abcd", "efgh")
    ]
    with pytest.raises(ConfigError, match=said):
        task(train=both[0], holdout=both[1], problem=problem)


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


def test_a_fit_with_a_plan_is_told_the_round():
    class Planned:
        def __init__(self, number=0):
            self.number = number

        def at(self, number):
            return Planned(number)

        def __call__(self, module, own, generator):
            return float(self.number)

    toy = task(fit=Planned())
    start = train.initial_model(toy, 1)
    losses = [train.train(toy, start, seed=1, node="a", number=n).loss for n in (1, 7)]
    assert losses == [1.0, 7.0]


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


def test_a_step_is_that_of_the_optimiser_and_leaves_what_has_no_gradient():
    ours, theirs = nn.Linear(4, 2), nn.Linear(4, 2)
    theirs.load_state_dict(ours.state_dict())
    idle = nn.Parameter(torch.ones(3))
    ours.register_parameter("idle", idle)
    optimiser = torch.optim.SGD(theirs.parameters(), lr=0.3)
    inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    for module in (ours, theirs):
        torch.autograd.backward(module(inputs).square().mean())
    train.step(ours, 0.3)
    optimiser.step()
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)
    assert torch.equal(idle, torch.ones(3))


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


# ---- masks -------------------------------------------------------------------------------


def images(count: int, seed: int, first: int = 0) -> Rows:
    """Bright squares on a dark ground; the first image has none."""
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.rand(count, 1, 8, 8, generator=draw) * 0.4
    targets = torch.zeros(count, 8, 8, dtype=torch.long)
    targets[1:, 2:5, 3:6] = 1
    return Rows(
        inputs + 0.5 * targets[:, None], targets, [f"p{first + number}" for number in range(count)]
    )


def pixelwise(**changes) -> Task:
    plain = Task(
        name="squares",
        classes=("ground", "square"),
        model=lambda: nn.Conv2d(1, 2, 3, padding=1),
        train=images(12, 1),
        holdout=images(6, 2, first=100),
        metric="dice",
        local_epochs=30,
        batch_size=4,
        learning_rate=0.5,
        problem="masks",
    )
    return dataclasses.replace(plain, **changes)


def test_masks_are_learned_and_judged_by_the_plain_loop():
    toy = pixelwise()
    start = train.initial_model(toy, 1)
    better = train.train(toy, start, seed=1, node="a", number=1).model
    own = Judge(toy, "cpu")
    gain, error = own.gain(start, better)
    assert gain == own.loss(start) - own.loss(better)
    assert 0 < error < gain
    found = own.measure(better)
    assert found["dice"] > 0.8
    assert found["true_foreground"] == pytest.approx(5 * 9 / (6 * 64))
    assert own.intercept(better) == (0.0, 0.0)
    assert own.measure(better) == own.measure(better, calibrated=False)
    broken = start.map(lambda tensor: tensor * float("nan"))
    assert own.loss(broken) == float("inf")
    assert own.gain(start, broken) == (-float("inf"), 0.0)


def test_the_private_loss_of_masks_is_balanced_over_images_and_classes():
    toy = pixelwise()
    model = train.initial_model(toy, 3)
    outputs = Judge(toy, "cpu").outputs(model, toy.holdout.inputs)
    pixels = functional.cross_entropy(outputs.double(), toy.holdout.targets, reduction="none")
    ground = [p[t == 0].mean() for p, t in zip(pixels, toy.holdout.targets, strict=True)]
    square = [p[t == 1].mean() for p, t in zip(pixels[1:], toy.holdout.targets[1:], strict=True)]
    wanted = (torch.stack(ground).mean() + torch.stack(square).mean()) / 2
    assert Judge(toy, "cpu").loss(model) == pytest.approx(float(wanted))


def test_masks_of_another_size_are_a_clear_error():
    toy = pixelwise(model=lambda: nn.Conv2d(1, 2, 3))
    with pytest.raises(TaskError, match=r"\(6, 2, 6, 6\), not \(rows, 2 classes, 8, 8\)"):
        Judge(toy, "cpu").loss(train.initial_model(toy, 1))


def test_an_own_loss_judges_masks_too():
    toy = pixelwise(loss=lambda outputs, targets: outputs.sum() * 0 + 1.25)
    start = train.initial_model(toy, 1)
    assert Judge(toy, "cpu").loss(start) == 1.25
    assert Judge(toy, "cpu").gain(start, start) == (0.0, 0.0)
