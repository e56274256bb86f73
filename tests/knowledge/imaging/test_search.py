"""Search: the same settings for all, scores and nothing else between hospitals."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from konsil.knowledge.imaging.search import Choices, LogRange, best, drawn, scores
from konsil.knowledge.task import Rows, Task
from konsil.protocol.errors import ConfigError

SPACE = {"lr": LogRange(1e-3, 1.0), "batch": Choices((4, 8))}


def task_of(setting) -> Task:
    def rows(count: int, seed: int) -> Rows:
        draw = torch.Generator().manual_seed(seed)
        inputs = torch.randn(count, 3, generator=draw)
        return Rows(inputs, (inputs[:, 0] > 0).long(), [f"{seed}-{n}" for n in range(count)])

    return Task(
        name="toy",
        classes=("no", "yes"),
        model=lambda: nn.Linear(3, 2),
        train=rows(24, 1),
        holdout=rows(16, 2),
        learning_rate=setting["lr"],
        batch_size=setting["batch"],
    )


def test_settings_follow_from_the_seed_and_a_longer_search_goes_on():
    few, many = drawn(SPACE, 3, 7), drawn(SPACE, 40, 7)
    assert many[:3] == few
    assert drawn(SPACE, 3, 8) != few
    assert all(1e-3 <= one["lr"] <= 1 and one["batch"] in (4, 8) for one in many)
    assert {one["batch"] for one in many} == {4, 8}
    small = sum(one["lr"] < math.sqrt(1e-3) for one in many)
    assert 10 <= small <= 30, "half of a logarithmic range lies below its geometric middle"


def test_the_better_setting_has_the_lower_score():
    settings = ({"lr": 1e-4, "batch": 4}, {"lr": 0.3, "batch": 4}, {"lr": 1e30, "batch": 4})
    found = scores(task_of, settings, seed=1, node="a", rounds=3)
    assert found[1] < found[0] < found[2]
    assert found[:2] == tuple(round(score, 3) for score in found[:2])
    assert found == scores(task_of, settings, seed=1, node="a", rounds=3)
    assert best({"a": found}) == 1


def test_hospitals_agree_by_ranks_not_by_the_loudest():
    told = {"a": (0.5, 0.4, 0.6), "b": (0.5, 0.3, 0.7), "c": (10.0, 11.0, 12.0)}
    assert best(told) == 1
    assert best(dict(reversed(told.items()))) == 1
    assert best({"a": (math.nan, 0.3)}) == 1
    assert best({"a": (0.2, 0.2)}) == 0


@pytest.mark.parametrize("told", [{}, {"a": ()}, {"a": (1.0,), "b": (1.0, 2.0)}])
def test_scores_that_do_not_belong_together(told):
    with pytest.raises(ConfigError, match="a score for each setting"):
        best(told)


@pytest.mark.parametrize(
    ("space", "count"),
    [({}, 1), (SPACE, 0), ({"lr": LogRange(0, 1)}, 1), ({"batch": Choices(())}, 1)],
)
def test_a_space_that_is_none(space, count):
    with pytest.raises(ConfigError, match="search"):
        drawn(space, count, 1)
