"""The scale is searched for and guarded; random vectors are as long as the real ones."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from konsil.knowledge import pack, train
from konsil.knowledge.judge import Judge
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.task import Rows, Task
from konsil.knowledge.vectors.control import controls, random_like
from konsil.knowledge.vectors.seeking import LADDER, Attempt, seek
from konsil.knowledge.vectors.vector import applied, between
from konsil.protocol.errors import ConfigError, LocalProtocolError


class Ruler:
    """Judges a model by a function of its first element; `error` is what it knows of noise."""

    def __init__(self, measure, error: float = 0.0) -> None:
        self._measure, self._error = measure, error

    def loss(self, model: NamedTensors) -> float:
        return self._measure(float(model["w"][0]))

    def gain(self, before: NamedTensors, trial: NamedTensors) -> tuple[float, float]:
        return self.loss(before) - self.loss(trial), self._error


def point(*values: float) -> NamedTensors:
    return NamedTensors({"w": torch.tensor(values)})


def distance_to(target: float, error: float = 0.0) -> Ruler:
    return Ruler(lambda place: abs(place - target), error)


BASE, STEP = point(0.0), point(1.0)


@settings(max_examples=60, deadline=None)
@given(st.floats(-2, 2, width=32), st.floats(-2, 2, width=32), st.sampled_from([0.0, 0.2, 9.0]))
def test_the_model_that_comes_out_is_never_worse(current, target, error):
    judge = distance_to(target, error)
    best, search = seek(judge, point(current), BASE, STEP)
    assert judge.loss(best) <= judge.loss(point(current))
    assert search.loss == judge.loss(point(current))
    assert [one.scale for one in search.attempts] == list(LADDER)
    least = min(one.loss for one in search.attempts)
    assert (search.chosen is None) == (search.loss <= least)
    assert judge.loss(best) <= min(search.loss, least + error)


def test_the_best_scale_is_found_and_retold():
    best, search = seek(distance_to(0.5), point(0.0), BASE, STEP)
    assert search.chosen == 0.5
    assert best["w"].tolist() == [0.5]
    assert Attempt(1.0, 0.5, 0.0) in search.attempts
    with pytest.raises(dataclasses.FrozenInstanceError):
        search.chosen = 1.0


def test_of_what_cannot_be_told_apart_the_farthest_is_taken():
    chosen = [
        seek(distance_to(0.5, error), point(-0.4), BASE, STEP)[1].chosen
        for error in (0.0, 0.2, 0.3, 0.6)
    ]
    assert chosen == [0.5, 0.5, 0.75, 1.0]
    _, search = seek(distance_to(0.5, 0.6), point(0.0), BASE, STEP)
    assert search.chosen == 0.75, "a scale of 1 is no better than staying"


def test_at_a_tie_nothing_changes():
    current = point(0.5)
    best, search = seek(Ruler(lambda place: 1.0, error=9.0), current, BASE, STEP)
    assert best is current
    assert search.chosen is None


def test_a_model_without_a_loss_is_never_accepted():
    current = point(0.5)
    best, search = seek(Ruler(lambda place: math.inf), current, BASE, STEP)
    assert best is current
    assert search.loss == math.inf
    assert {one.loss for one in search.attempts} == {math.inf}


def test_an_overflow_costs_an_infinite_loss():
    base, step = point(3e38), point(1e38)
    best, search = seek(Ruler(lambda place: -place, error=math.inf), base, base, step)
    assert search.attempts[-1] == Attempt(1.0, math.inf, 0.0)
    assert search.chosen == 0.3
    assert best.finite()
    best, search = seek(Ruler(lambda place: 0.0), base, base, step, ladder=(1.0,))
    assert (best, search.chosen) == (base, None)


def test_what_finishes_a_model_is_done_before_it_is_judged():
    best, search = seek(distance_to(0.0), point(0.4), BASE, STEP, finish=lambda model: model * 0.0)
    assert search.chosen == 1.0
    assert best["w"].tolist() == [0.0]


def test_a_real_judge_guards_a_real_hospital():
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(90, 4, generator=draw)
    targets = (inputs[:, 0] > 0).long()
    names = [f"p{number}" for number in range(90)]
    mine, held = (
        Rows(inputs[:30], targets[:30], names[:30]),
        Rows(inputs[30:], targets[30:], names[30:]),
    )
    toy = Task("toy", ("no", "yes"), lambda: nn.Linear(4, 2), mine, held, local_epochs=20)
    base = train.initial_model(toy, 1)
    model = train.train(toy, base, seed=1, node="a", number=1).model
    judge, vector = Judge(toy, "cpu"), between(model, base)
    better, search = seek(judge, base, base, vector)
    assert search.chosen is not None
    assert judge.loss(better) < judge.loss(base)
    assert all(one.error > 0 for one in search.attempts if one.loss > judge.loss(better))
    kept, search = seek(judge, model, base, vector * -1.0)
    assert search.chosen is None
    assert kept is model


@pytest.mark.parametrize("ladder", [(), (0.0,), (-1.0,), (math.nan,), (math.inf,)])
def test_impossible_scales_are_refused(ladder):
    with pytest.raises(ConfigError, match="scales"):
        seek(distance_to(0), BASE, BASE, STEP, ladder=ladder)


# ---- control -------------------------------------------------------------------------------


def vector(seed: int) -> NamedTensors:
    draw = torch.Generator().manual_seed(seed)
    return NamedTensors(
        {
            "w": torch.randn(30, 40, generator=draw),
            "b": 9 * torch.randn(50, generator=draw),
            "zero": torch.zeros(3),
            "one": torch.tensor(-2.5),
            "none": torch.zeros(0),
        }
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.integers(0, 99))
def test_random_vectors_are_as_long_and_point_elsewhere(seed, luck):
    real = vector(seed)
    random = random_like(real, torch.Generator().manual_seed(luck + 1000))
    assert list(random) == list(real)
    for name, tensor in real.items():
        assert random[name].shape == tensor.shape
        assert float(random[name].norm()) == pytest.approx(float(tensor.norm()), rel=1e-5)
    cosine = random.select(["w"]).dot(real.select(["w"])) / real["w"].norm() ** 2
    assert abs(float(cosine)) < 0.2


def test_random_vectors_follow_from_the_seed():
    real = [vector(1), vector(2)]
    one, other = (controls(real, torch.Generator().manual_seed(5)) for _ in range(2))
    assert [pack.to_bytes(v) for v in one] == [pack.to_bytes(v) for v in other]
    assert pack.to_bytes(one[0]) != pack.to_bytes(one[1])
    third = controls(real, torch.Generator().manual_seed(6))
    assert pack.to_bytes(third[0]) != pack.to_bytes(one[0])
    assert applied(real[0], one[0]).finite()
    with pytest.raises(LocalProtocolError, match="counter"):
        random_like(NamedTensors({"n": torch.tensor(1)}), torch.Generator())
