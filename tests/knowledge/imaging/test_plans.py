"""Learning-rate plans and class weights: the laws they state, and torch's own cosine."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.knowledge.imaging.plans import Plan, class_weights, share_of_round, share_of_step

plans = st.builds(
    Plan,
    kind=st.sampled_from(["constant", "cosine", "step"]),
    rounds=st.integers(1, 40),
    floor=st.floats(0.01, 1),
    every=st.integers(1, 12),
    drop=st.floats(0.1, 1),
    warmup=st.integers(0, 8),
    warmup_steps=st.integers(0, 8),
)


@settings(max_examples=80, deadline=None)
@given(plans)
def test_shares_are_positive_rise_in_the_warm_up_and_never_after(plan):
    shares = [share_of_round(plan, number) for number in range(1, 60)]
    assert all(0 < share <= 1 for share in shares)
    after = shares[plan.warmup :]
    assert all(late <= early + 1e-12 for early, late in pairwise(after))
    steps = [share_of_step(plan, step) for step in range(20)]
    assert steps == sorted(steps)
    assert steps[plan.warmup_steps] == 1
    assert share_of_step(plan, 0) == pytest.approx(1 / (plan.warmup_steps + 1))


def test_the_cosine_is_that_of_torch():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([weight], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=9, eta_min=0.1)
    plan = Plan(kind="cosine", rounds=10, floor=0.1)
    for number in range(1, 11):
        assert share_of_round(plan, number) == pytest.approx(theirs.get_last_lr()[0])
        optimiser.step()
        theirs.step()
    assert share_of_round(plan, 25) == pytest.approx(0.1)


def test_steps_and_warm_up_by_hand():
    plan = Plan(kind="step", every=2, drop=0.5, floor=0.2, warmup=1)
    shares = [share_of_round(plan, number) for number in range(1, 8)]
    assert shares == pytest.approx([0.5, 1, 0.5, 0.5, 0.25, 0.25, 0.2])
    assert share_of_round(Plan(), 99) == 1
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"kind": "linear"}, Plan)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=80))
def test_class_weights_balance_and_have_the_mean_one(labels):
    targets = torch.tensor(labels)
    weights = class_weights(targets, 5, most=1e9)
    assert float(weights[targets].double().mean()) == pytest.approx(1, rel=1e-5)
    counts = torch.bincount(targets, minlength=5)
    whole = (weights * counts)[counts > 0]
    assert torch.allclose(whole, whole[0].expand_as(whole))
    assert weights[4] == 1


def test_a_rare_class_counts_only_so_much_and_masks_count_pixels():
    targets = torch.zeros(1, 100, 100, dtype=torch.long)
    targets[0, 0, 0] = 1
    weights = class_weights(targets, 2)
    assert float(weights[1] / weights[0]) == pytest.approx(10)
    assert class_weights(torch.zeros(0, dtype=torch.long), 3).tolist() == [1, 1, 1]
