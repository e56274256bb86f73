"""Weak labels: the loss for any number of classes, balanced decisions, the filter, the gap."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from konsil.knowledge.teaching.recovered import in_auc, recovered
from konsil.knowledge.teaching.selecting import confident
from konsil.knowledge.teaching.weak import (
    auxiliary_loss,
    balancing,
    confidence,
    decide,
    quotas,
)
from konsil.protocol.errors import ConfigError

SEEDS = st.integers(0, 2**32)
CLASSES = st.integers(2, 8)


def draw(seed: int, rows: int, classes: int):
    source = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, classes, generator=source, dtype=torch.float64)
    shares = torch.rand(classes, generator=source, dtype=torch.float64).square() + 0.01
    return logits, shares / shares.sum()


# ---- the loss ----------------------------------------------------------------------------


@given(SEEDS, CLASSES, st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_the_loss_is_that_of_the_formula(seed, classes, a):
    logits, _ = draw(seed, 12, classes)
    weak = torch.softmax(draw(seed + 1, 12, classes)[0], dim=1)
    decided = draw(seed + 2, 12, classes)[0].argmax(dim=1)
    f = torch.log_softmax(logits, dim=1)
    wanted = -(1 - a) * (weak * f).sum(1).mean() - a * f[torch.arange(12), decided].mean()
    assert float(auxiliary_loss(logits, weak, decided, a)) == pytest.approx(float(wanted))


def test_the_confidence_rises_to_its_most_in_the_first_fifth():
    rise = [confidence(step, 100) for step in range(100)]
    assert rise[0] == 0.0
    assert rise[10] == pytest.approx(0.375)
    assert set(rise[20:]) == {0.75}
    assert all(one <= other for one, other in pairwise(rise))
    assert confidence(0, 1) == 0.0
    assert confidence(5, 10, most=0.5, ramp=0.0) == 0.5


# ---- balanced decisions ------------------------------------------------------------------


@given(SEEDS, CLASSES, st.integers(20, 200))
@settings(max_examples=30, deadline=None)
def test_decisions_have_the_wanted_class_shares(seed, classes, rows):
    logits, shares = draw(seed, rows, classes)
    given_ = torch.bincount(decide(logits, shares), minlength=classes)
    wrong = int((given_ - quotas(shares, rows)).abs().sum())
    assert wrong == 0 if classes == 2 else wrong <= 4


@given(SEEDS, st.integers(20, 200))
@settings(max_examples=30, deadline=None)
def test_for_two_classes_it_is_the_quantile_of_the_paper(seed, rows):
    logits, shares = draw(seed, rows, 2)
    count = int(quotas(shares, rows)[1])
    margin = logits[:, 1] - logits[:, 0]
    highest = set(torch.argsort(margin, descending=True)[:count].tolist())
    assert set(torch.nonzero(decide(logits, shares))[:, 0].tolist()) == highest


@given(SEEDS, CLASSES)
@settings(max_examples=10, deadline=None)
def test_a_constant_a_row_or_a_class_changes_no_decision(seed, classes):
    logits, shares = draw(seed, 60, classes)
    plain = decide(logits, shares)
    lifted = decide(logits + torch.arange(60)[:, None] / 7, shares)
    assert int((lifted != plain).sum()) <= 4
    tilted = decide(logits + torch.arange(classes), shares)
    assert int((tilted != plain).sum()) <= 4


@given(SEEDS, CLASSES, st.integers(1, 500))
@settings(max_examples=30, deadline=None)
def test_quotas_are_whole_sum_to_all_rows_and_are_within_one_of_the_shares(seed, classes, rows):
    shares = draw(seed, 1, classes)[1]
    found = quotas(shares, rows)
    assert int(found.sum()) == rows
    assert bool(((found - shares * rows).abs() < 1).all())


def test_a_class_without_a_share_is_never_decided_and_one_alone_always():
    logits, _ = draw(1, 50, 3)
    chosen = decide(logits, torch.tensor([0.5, 0.0, 0.5]))
    assert torch.bincount(chosen, minlength=3).tolist() == [25, 0, 25]
    assert balancing(logits, torch.tensor([0.5, 0.0, 0.5]))[1] == -math.inf
    assert set(decide(logits, torch.tensor([0.0, 1.0, 0.0])).tolist()) == {1}


# ---- selecting ---------------------------------------------------------------------------


@given(SEEDS, CLASSES, st.floats(0.01, 1))
@settings(max_examples=30, deadline=None)
def test_the_filter_keeps_the_most_confident_of_each_class_in_equal_part(seed, classes, share):
    weak = torch.softmax(draw(seed, 80, classes)[0], dim=1)
    kept = confident(weak, share)
    best, label = weak.max(dim=1)
    among = torch.zeros(80, dtype=torch.bool)
    among[kept] = True
    assert kept.tolist() == sorted(kept.tolist())
    for place in label.unique().tolist():
        mine = label == place
        assert int((mine & among).sum()) == math.ceil(share * int(mine.sum()))
        if bool((mine & ~among).any()):
            assert best[mine & among].min() >= best[mine & ~among].max()


def test_the_filter_keeps_everything_at_1_and_refuses_no_share():
    weak = torch.softmax(draw(3, 40, 3)[0], dim=1)
    assert torch.equal(confident(weak, 1.0), torch.arange(40))
    for share in (0.0, 1.1, -1.0, math.nan):
        with pytest.raises(ConfigError, match="share"):
            confident(weak, share)


def test_a_ranking_of_all_rows_together_would_lose_the_unsure_class():
    """Why the filter goes class by class."""
    sure = torch.tensor([[0.99, 0.01]]).repeat(50, 1)
    unsure = torch.tensor([[0.45, 0.55]]).repeat(10, 1)
    weak = torch.cat([sure, unsure])
    together = weak.amax(dim=1).argsort(descending=True)[:30]
    assert int(weak[together].argmax(dim=1).sum()) == 0
    assert int(weak[confident(weak, 0.5)].argmax(dim=1).sum()) == 5


# ---- the recovered gap -------------------------------------------------------------------


def test_the_gap_is_a_share_and_is_refused_where_there_is_none():
    assert recovered(0.8, 0.9, 1.0).share == pytest.approx(0.5)
    assert recovered(0.8, 0.7, 1.0).share == pytest.approx(-0.5)
    assert (recovered(0.9, 0.95, 0.9).share, recovered(0.9, 0.95, 0.9).reason) == (None, "no_gap")
    assert recovered(0.9, 0.95, 0.85).reason == "no_gap"
    assert recovered(None, 0.95, 0.9).reason == "one_class"


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_the_gap_in_auc_is_that_of_scikit_learn(seed):
    source = np.random.default_rng(seed)
    targets = np.r_[0, 1, source.integers(0, 2, 60)]
    truth = targets[:, None] * np.array([[-1.0, 1.0]])
    weak, student, ceiling = (truth + noise * source.normal(size=(62, 2)) for noise in (4, 2, 0.5))
    areas = [roc_auc_score(targets, z[:, 1] - z[:, 0]) for z in (weak, student, ceiling)]
    found = in_auc(weak, student, ceiling, targets)
    assert (found.weak, found.student, found.ceiling) == pytest.approx(tuple(areas))
    if areas[2] > areas[0]:
        assert found.share == pytest.approx((areas[1] - areas[0]) / (areas[2] - areas[0]))
    else:
        assert found.share is None
    assert in_auc(weak, student, ceiling, np.zeros(62, dtype=int)).reason == "one_class"
