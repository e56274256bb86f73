"""Distillation: its loss, its seeds, and what it leaves alone."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from konsil.knowledge import pack, train
from konsil.knowledge.networks import perceptron
from konsil.knowledge.task import Rows, Task
from konsil.knowledge.teaching import distil as distilling
from konsil.knowledge.teaching import generated
from konsil.knowledge.teaching.distil import Distillation, distil, divergence, revise
from konsil.protocol.errors import ConfigError, TaskError

CLASSES = ("a", "b", "c")
QUESTION = generated.gaussian(120, 4, CLASSES, seed=1)


def rows(count: int, first: int, wrong: bool = False) -> Rows:
    draw = torch.Generator().manual_seed(first)
    inputs = torch.randn(count, 4, generator=draw)
    targets = inputs[:, :3].argmax(dim=1)
    return Rows(
        inputs, (targets + 1) % 3 if wrong else targets, [f"p{first + k}" for k in range(count)]
    )


def task(**changes) -> Task:
    plain = Task(
        name="toy", classes=CLASSES, model=partial(perceptron, 4, (8,), 3), train=rows(40, 0),
        holdout=rows(200, 1000),
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


def truth() -> torch.Tensor:
    """What a perfect teacher says to the question."""
    return functional.one_hot(QUESTION.inputs[:, :3].argmax(dim=1), 3).double()


def once(one: Task, start, target, *, number=1, **how):
    return distil(
        one, start, QUESTION, target, seed=1, node="n", number=number, how=Distillation(**how)
    )


@given(st.integers(0, 2**32), st.sampled_from([1.0, 2.0, 3.0]))
@settings(max_examples=30, deadline=None)
def test_the_divergence_is_that_of_the_formula_and_least_at_the_target(seed, temperature):
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(5, 3, generator=draw).double()
    target = torch.softmax(torch.randn(5, 3, generator=draw).double(), dim=1)
    p = torch.softmax(logits / temperature, dim=1)
    wanted = temperature**2 * (target * (target.log() - p.log())).sum(dim=1).mean()
    assert float(divergence(logits, target, temperature)) == pytest.approx(float(wanted))
    assert float(divergence(logits, p, temperature)) == pytest.approx(0.0, abs=1e-12)


def test_the_start_is_left_alone_and_the_same_seeds_give_the_same_model():
    start = train.initial_model(task(), 1)
    before = pack.to_bytes(start)
    first = once(task(), start, truth())
    assert pack.to_bytes(start) == before
    assert pack.to_bytes(once(task(), start, truth()).model) == pack.to_bytes(first.model)
    assert pack.to_bytes(once(task(), start, truth(), number=2).model) != pack.to_bytes(first.model)
    assert pack.to_bytes(first.model) != before


def test_with_a_weight_of_0_the_question_changes_no_bit():
    start = train.initial_model(task(), 1)
    one = once(task(), start, truth(), weight=0.0)
    other = once(task(), start, truth().flip(1), weight=0.0)
    assert pack.to_bytes(one.model) == pack.to_bytes(other.model)
    local = dataclasses.replace(task(), local_epochs=2)
    alone = train.train(local, start, seed=1, node="n", number=1)
    assert pack.to_bytes(one.model) == pack.to_bytes(alone.model)
    assert one.loss == alone.loss


def test_good_teachers_correct_a_hospital_whose_own_labels_are_wrong():
    one = task(train=rows(40, 0, wrong=True))
    start = train.initial_model(one, 1)

    def right(model) -> float:
        module = one.model()
        model.load_into(module)
        return float(
            (train.predict(module, one.holdout.inputs).argmax(1) == one.holdout.targets)
            .double()
            .mean()
        )

    taught = once(one, start, truth(), proxy_epochs=30, own_epochs=0)
    alone = once(one, start, truth(), weight=0.0, own_epochs=30)
    assert right(alone.model) < 0.3
    assert right(taught.model) > 0.8


def test_a_fit_of_the_tasks_own_is_asked_for_its_round():
    asked = []

    class Planned:
        def __init__(self, number: int = 0) -> None:
            self.number = number

        def at(self, number: int) -> Planned:
            return Planned(number)

        def __call__(self, module, given, generator) -> float:
            asked.append((self.number, len(given), generator.initial_seed()))
            return 0.5

    one = task(fit=Planned())
    module = one.model()
    assert revise(one, module, 2, seed=1, node="n", number=7) == 0.5
    assert [number for number, _, _ in asked] == [7]
    assert asked[0][1] == 40
    assert revise(one, module, 0, seed=1, node="n", number=7) == 0.0
    assert len(asked) == 1


@pytest.mark.parametrize(
    "classes", [("a", "c", "b"), ("a", "b", "c", "d"), ("a", "b")], ids=["order", "more", "fewer"]
)
def test_a_question_on_other_classes_teaches_nothing(classes):
    asked = dataclasses.replace(QUESTION, classes=classes)
    target = torch.full((120, len(classes)), 1 / len(classes))
    with pytest.raises(TaskError, match="cannot teach task 'toy'"):
        distil(task(), train.initial_model(task(), 1), asked, target, seed=1, node="n", number=1)


def test_a_target_of_another_length_and_one_that_is_no_number_are_refused():
    start = train.initial_model(task(), 1)
    with pytest.raises(TaskError, match=r"shape \(119, 3\)"):
        once(task(), start, truth()[:-1])
    spoilt = truth()
    spoilt[3, 0] = torch.nan
    with pytest.raises(TaskError, match="on unlabelled rows is nan"):
        once(task(), start, spoilt)


@pytest.mark.parametrize(
    "wrong",
    [{"weight": -1.0}, {"temperature": 0.0}, {"proxy_epochs": -1}, {"batch_size": 0}],
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError, match="distillation"):
        distilling.Distillation(**wrong)
