"""A student outgrows its weak teacher on real data."""

from __future__ import annotations

import dataclasses
from functools import cache, partial

import numpy as np
import pytest
import torch

from konsil.knowledge import pack, train
from konsil.knowledge.embedded import digits
from konsil.knowledge.judge import Judge
from konsil.knowledge.networks import perceptron
from konsil.knowledge.task import Rows, Task
from konsil.knowledge.teaching.student import Study, study, weak_labels
from konsil.knowledge.teaching.weak import CONFIDENCE
from konsil.protocol.errors import ConfigError, TaskError

pytestmark = pytest.mark.slow

COHORT = digits()
GREY = (COHORT.inputs / 16).astype(np.float32)
ORDER = np.random.default_rng(1).permutation(len(COHORT))
FEW, OWN, MANY, TEST = ORDER[:80], ORDER[80:140], ORDER[140:940], ORDER[940:]


def rows(places) -> Rows:
    names = [COHORT.patients[place] for place in places]
    return Rows(torch.from_numpy(GREY[places]), torch.from_numpy(COHORT.labels[places]), names)


def task(places, hidden) -> Task:
    return Task(
        name="digits",
        classes=COHORT.classes,
        model=partial(perceptron, 64, hidden, 10),
        train=rows(places[:-30]),
        holdout=rows(places[-30:]),
        local_epochs=40,
    )


@pytest.fixture(scope="module")
def weak():
    """A small model of 50 labelled rows."""
    one = dataclasses.replace(task(FEW, (12,)), local_epochs=120)
    module = one.model()
    train.train(one, train.initial_model(one, 1), seed=1, node="w", number=1).model.load_into(
        module
    )
    return module


STRONG = task(OWN, (64,))
UNLABELLED = torch.from_numpy(GREY[MANY])


def right(model) -> float:
    outputs = Judge(STRONG, "cpu").outputs(model, torch.from_numpy(GREY[TEST]))
    return float(np.mean(outputs.argmax(dim=1).numpy() == COHORT.labels[TEST]))


@cache
def taught(weak, **how):
    """What a study gives; the tests share those that they ask for alike."""
    start = train.initial_model(STRONG, 1)
    labels = weak_labels(weak, UNLABELLED)
    return study(STRONG, start, UNLABELLED, labels, seed=1, node="s", number=1, how=Study(**how))


@pytest.mark.parametrize("confidence", [0.0, CONFIDENCE])
def test_a_student_of_weak_labels_alone_beats_its_teacher(weak, confidence):
    teacher = train.predict(weak, torch.from_numpy(GREY[TEST])).argmax(dim=1).numpy()
    found = taught(weak, epochs=20, confidence=confidence)
    assert right(found.model) > float(np.mean(teacher == COHORT.labels[TEST])) + 0.01


def test_the_start_is_left_alone_and_the_same_seeds_give_the_same_student(weak):
    start = train.initial_model(STRONG, 1)
    before = pack.to_bytes(start)
    one = taught(weak, epochs=2)
    assert pack.to_bytes(one.model) == pack.to_bytes(taught.__wrapped__(weak, epochs=2).model)
    assert pack.to_bytes(train.initial_model(STRONG, 1)) == before
    assert pack.to_bytes(one.model) != before
    assert pack.to_bytes(taught(weak, epochs=2, share=0.5).model) != pack.to_bytes(one.model)


def test_own_rows_follow_the_weak_ones(weak):
    without, also = taught(weak, epochs=2), taught(weak, epochs=2, own_epochs=5)
    judge = Judge(STRONG, "cpu")
    own = torch.nn.functional.cross_entropy

    def loss(model) -> float:
        return float(own(judge.outputs(model, STRONG.train.inputs), STRONG.train.targets))

    assert loss(also.model) < loss(without.model)


def test_weak_labels_are_probabilities_and_a_broken_teacher_is_refused(weak):
    labels = weak_labels(weak, UNLABELLED, temperature=2.0)
    assert torch.allclose(labels.sum(dim=1), torch.ones(len(MANY)).double())
    broken = perceptron(64, (), 10)
    with torch.no_grad():
        broken[0].bias[3] = torch.inf
    with pytest.raises(TaskError, match="not finite"):
        weak_labels(broken, UNLABELLED)


@pytest.mark.parametrize("labels", [torch.ones(800, 9), torch.ones(799, 10)])
def test_labels_that_do_not_fit_are_refused(labels):
    start = train.initial_model(STRONG, 1)
    with pytest.raises(TaskError, match="cannot teach"):
        study(STRONG, start, UNLABELLED, labels, seed=1, node="s", number=1)


def test_no_rows_and_settings_that_cannot_be_are_refused():
    start = train.initial_model(STRONG, 1)
    with pytest.raises(TaskError, match="for 0 rows"):
        study(STRONG, start, UNLABELLED[:0], torch.ones(0, 10), seed=1, node="s", number=1)
    for wrong in ({"epochs": -1}, {"batch_size": 0}, {"confidence": 1.5}, {"ramp": -0.1}):
        with pytest.raises(ConfigError, match="student"):
            Study(**wrong)
    fewer = dataclasses.replace(STRONG, classes=COHORT.classes[:9])
    with pytest.raises(TaskError, match="cannot teach"):
        study(fewer, start, UNLABELLED, torch.ones(800, 10), seed=1, node="s", number=1)
