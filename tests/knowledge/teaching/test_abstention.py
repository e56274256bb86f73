"""A peer without class c cannot lower the receiver's recall on c: real training on digits."""

from __future__ import annotations

import dataclasses
from functools import cache, partial

import numpy as np
import pytest
import torch

from konsil.knowledge import train
from konsil.knowledge.embedded import digits
from konsil.knowledge.judge import Judge
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.networks import perceptron
from konsil.knowledge.task import Rows, Task
from konsil.knowledge.teaching import answers, question
from konsil.knowledge.teaching.consensus import consensus, speaking
from konsil.knowledge.teaching.distil import Distillation, distil

pytestmark = pytest.mark.slow

COHORT = digits()
GREY = (COHORT.inputs / 16).astype(np.float32)
ORDER = np.random.default_rng(0).permutation(len(COHORT))
PUBLIC, TEST = ORDER[:300], ORDER[300:1000]
SITES = [ORDER[1000:1150], ORDER[1150:1420], ORDER[1420:1690]]
QUESTION = question.images(GREY[PUBLIC], COHORT.classes)
TEACHERS = ((24,), (32, 16))
LACKING = (1, 4, 8)


def rows(places) -> Rows:
    names = [COHORT.patients[place] for place in places]
    return Rows(torch.from_numpy(GREY[places]), torch.from_numpy(COHORT.labels[places]), names)


def task(places, hidden, without: int | None = None, epochs: int = 15) -> Task:
    places = places[COHORT.labels[places] != without]
    return Task(
        name="digits",
        classes=COHORT.classes,
        model=partial(perceptron, 64, hidden, 10),
        train=rows(places[:-20]),
        holdout=rows(places[-20:]),
        local_epochs=epochs,
    )


def begun(one: Task, node: str):
    return train.train(one, train.initial_model(one, 1), seed=1, node=node, number=0).model


def recall(one: Task, model, label: int) -> float:
    test = rows(TEST[COHORT.labels[TEST] == label])
    chosen = Judge(one, "cpu").outputs(model, test.inputs).argmax(dim=1)
    return float((chosen == label).double().mean())


def accuracy(one: Task, model) -> float:
    return Judge(one, "cpu").measure(model, rows(TEST), calibrated=False)["accuracy"]


def sheet(one: Task, model):
    module = one.model()
    model.load_into(module)
    return answers.logits(answers.answered(module, QUESTION))


def taught(receiver: Task, model, sheets, seen, how: Distillation):
    """Three rounds in which the peers say the same each time; peers are `sheets` and `seen`."""
    for number in range(1, 4):
        own = sheet(receiver, model)
        everything = set(COHORT.classes)
        weights = speaking([1.0] * (len(sheets) + 1), [everything, *seen], COHORT.classes)
        target = consensus([own, *sheets], weights, own, temperature=how.temperature)
        model = distil(
            receiver, model, QUESTION, target, seed=1, node="r", number=number, how=how
        ).model
    return model


@pytest.fixture(scope="module")
def receiver() -> tuple[Task, NamedTensors]:
    one = task(SITES[0], (16,), epochs=40)
    return one, begun(one, "r")


@cache
def peers_without(label: int):
    """The sheets of two larger hospitals that have no row of a class, and what they cover."""
    lacking = [task(SITES[k + 1], hidden, label) for k, hidden in enumerate(TEACHERS)]
    sheets = [sheet(one, begun(one, f"p{k}")) for k, one in enumerate(lacking)]
    return sheets, [set(COHORT.classes) - {COHORT.classes[label]}] * 2


@pytest.mark.parametrize("label", LACKING)
def test_without_own_rows_to_repair_it_recall_stays_where_peers_are_silent(receiver, label):
    """The hard case: the proxy alone is learned, and has rows of the class in it."""
    one, start = receiver
    sheets, seen = peers_without(label)
    how = Distillation(temperature=2.0, proxy_epochs=4, own_epochs=0)
    before = recall(one, start, label)
    silent = recall(one, taught(one, start, sheets, seen, how), label)
    loud = recall(one, taught(one, start, sheets, [set(COHORT.classes)] * 2, how), label)
    assert silent >= before - 0.02
    # The harm is real where peers do speak of what they have not seen.
    assert loud < before - 0.3


def test_with_own_rows_recall_stays_and_accuracy_does_not_fall(receiver):
    one, start = receiver
    how = Distillation(temperature=2.0, proxy_epochs=4)
    alone = taught(one, start, [], [], dataclasses.replace(how, weight=0.0))
    costs, gains = [], []
    for label in LACKING:
        model = taught(one, start, *peers_without(label), how)
        costs.append(recall(one, alone, label) - recall(one, model, label))
        gains.append(accuracy(one, model) - accuracy(one, alone))
    assert np.mean(costs) <= 0.02
    assert np.mean(gains) >= 0.0
