"""Lies about a question: who says what, that colluders agree, and that noise tells them apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from konsil.simulations.sim.attacks import ATTACKS
from konsil.simulations.sim.attacks.answers_cpa import likes
from konsil.simulations.sim.attacks.view import View
from konsil.simulations.sim.links import Links

ASKED, CLASSES, HOSTILE = 400, 4, np.array([1, 4])


def a_view(seed=0) -> View:
    """Six nodes; honest ones hold class c likeliest, and c + 1 next, in every row."""
    draw = torch.Generator().manual_seed(seed)
    right = torch.arange(ASKED) % CLASSES
    values = 0.1 * torch.randn(6, ASKED, CLASSES, generator=draw)
    values += 4 * torch.nn.functional.one_hot(right, CLASSES)
    values += 2 * torch.nn.functional.one_hot((right + 1) % CLASSES, CLASSES)
    values -= 2 * torch.nn.functional.one_hot((right + 2) % CLASSES, CLASSES)
    sheets = values.flatten(1)
    sheets[HOSTILE] = 100.0
    return View(
        number=1, rounds=2, before=sheets, trained=sheets, links=Links.between(6, [(0, 1)]),
        hostile=HOSTILE, strength=None, generator=torch.Generator().manual_seed(seed),
        classes=CLASSES,
    )  # fmt: skip


def told(name, view):
    return ATTACKS[name].release(view).view(2, ASKED, CLASSES)


RIGHT = torch.arange(ASKED) % CLASSES
WRONG = {"flip": CLASSES - 1 - RIGHT, "lma": (RIGHT + 2) % CLASSES, "cpa": (RIGHT + 1) % CLASSES}


@pytest.mark.parametrize("form", ["logits", "labels"])
@pytest.mark.parametrize("lie", WRONG)
def test_colluders_hand_in_one_and_the_same_lie(form, lie):
    one, other = told(f"{form}_{lie}", a_view())
    assert torch.equal(one, other)
    assert torch.equal(one.argmax(1), WRONG[lie])
    sure = one.softmax(1).amax(1)
    assert (sure.min() > 0.999) == (form == "labels")


@pytest.mark.parametrize("form", ["logits", "labels"])
@pytest.mark.parametrize("lie", WRONG)
def test_noise_changes_a_tenth_of_the_answers_of_each_by_itself(form, lie):
    plain, _ = told(f"{form}_{lie}", a_view())
    one, other = told(f"{form}_{lie}+noise", a_view())
    for noisy in (one, other):
        moved = (noisy.argmax(1) != plain.argmax(1)).double().mean()
        assert 0.05 < moved < 0.15
        assert torch.equal(noisy.sort(1).values, plain.sort(1).values)
    assert not torch.equal(one, other)


def test_flipping_twice_changes_nothing():
    view = a_view()
    once = told("logits_flip", view)[0]
    honest = view.trained[[0, 2, 3, 5]].view(4, ASKED, CLASSES).log_softmax(-1).mean(0)
    assert torch.equal(once.flip(1), honest)


def test_a_class_that_nobody_sees_has_a_like_too():
    shares = torch.tensor([[0.6, 0.3, 0.1], [0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])
    assert likes(shares.log()).tolist() == [1, 0, 1]
