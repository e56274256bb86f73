"""Metrics equal scikit-learn's; the local intercept repairs prevalence and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import linear_model, metrics

from konsil.knowledge.calibrate import fit_intercept
from konsil.knowledge.evaluate import (
    METRICS,
    confusion,
    evaluate,
    log_loss,
    mcc,
    recalls,
    softmax,
)


def drawn(seed: int, classes: int, rows: int = 60):
    random = np.random.default_rng(seed)
    logits = np.round(random.normal(size=(rows, classes)), 1).astype(np.float32)
    return logits, random.integers(0, classes, rows)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 3, 5]))
def test_metrics_equal_scikit_learn(seed, classes):
    logits, targets = drawn(seed, classes)
    targets[:classes] = np.arange(classes)
    mine = evaluate(logits, targets)
    shares = softmax(logits)
    scores = shares[:, 1] if classes == 2 else shares
    chosen = shares.argmax(axis=1)
    assert mine["auc"] == pytest.approx(metrics.roc_auc_score(targets, scores, multi_class="ovr"))
    assert mine["accuracy"] == pytest.approx(metrics.accuracy_score(targets, chosen))
    assert mine["balanced_accuracy"] == pytest.approx(
        metrics.balanced_accuracy_score(targets, chosen)
    )
    assert mine["log_loss"] == pytest.approx(
        metrics.log_loss(targets, shares, labels=range(classes))
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 3, 5]), st.integers(1, 60))
def test_confusion_recalls_and_mcc_equal_scikit_learn(seed, classes, rows):
    logits, targets = drawn(seed, classes, rows)
    chosen = softmax(logits).argmax(axis=1)
    matrix = confusion(chosen, targets, classes)
    named = list(range(classes))
    assert (matrix == metrics.confusion_matrix(targets, chosen, labels=named)).all()
    wanted = metrics.recall_score(targets, chosen, labels=named, average=None, zero_division=np.nan)
    found = recalls(matrix)
    told = [np.nan if one is None else one for one in found]
    assert told == pytest.approx(wanted, abs=1e-9, nan_ok=True)
    assert [one is None for one in found] == [not np.any(targets == k) for k in named]
    several = len({*targets.tolist(), *chosen.tolist()}) > 1  # scikit-learn warns of one
    theirs = metrics.matthews_corrcoef(targets, chosen) if several else 0.0
    assert mcc(matrix) == pytest.approx(theirs, abs=1e-9)
    if len(set(targets.tolist())) > 1:
        assert evaluate(logits, targets)["mcc"] == mcc(matrix)
    else:
        assert "mcc" not in evaluate(logits, targets)


def test_mcc_of_the_best_the_worst_and_the_blind():
    assert mcc(np.diag([3, 4, 5])) == pytest.approx(1.0)
    assert mcc(np.array([[0, 4], [4, 0]])) == pytest.approx(-1.0)
    assert mcc(np.array([[4, 0], [4, 0]])) == 0.0


def test_calibration_error_by_hand():
    """Ten rows said with .8 of which five are right: a gap of .3."""
    logits = np.tile(np.log([0.8, 0.2]), (10, 1))
    assert evaluate(logits, np.array([0] * 5 + [1] * 5))["ece"] == pytest.approx(0.3)
    certain = np.array([[50.0, -50.0]] * 3)
    assert evaluate(certain, np.zeros(3, dtype=int))["ece"] == pytest.approx(0.0)


def test_what_the_rows_cannot_give_is_left_out():
    logits, _ = drawn(1, 2)
    assert "auc" not in evaluate(logits, np.ones(60, dtype=int))
    assert evaluate(logits[:0], np.zeros(0, dtype=int)) == {}
    assert set(evaluate(logits, np.arange(60) % 2)) == set(METRICS)


def test_log_loss_of_enormous_logits_is_finite():
    assert log_loss(np.array([[1e30, 0.0]]), np.array([0])) == 0.0


def test_a_class_without_rows_is_left_out_of_the_mean_area():
    logits, targets = drawn(3, 3)
    targets = targets % 2
    shares = softmax(logits)
    wanted = np.mean([metrics.roc_auc_score(targets == k, shares[:, k]) for k in (0, 1)])
    assert evaluate(logits, targets)["auc"] == pytest.approx(wanted)


def test_the_intercept_agrees_with_a_logistic_regression_on_the_offset():
    random = np.random.default_rng(5)
    margin = random.normal(size=4000)
    targets = (random.random(4000) < 1 / (1 + np.exp(-(margin + 1.3)))).astype(int)
    logits = np.stack([-margin / 2, margin / 2], axis=1)
    low, high = fit_intercept(logits, targets)
    plain = linear_model.LogisticRegression(C=1e9).fit(margin[:, None], targets)
    assert high - low == pytest.approx(float(plain.intercept_[0]), abs=0.12)
    assert low + high == pytest.approx(0.0, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 4]))
def test_the_intercept_never_raises_the_loss_it_minimises(seed, classes):
    logits, targets = drawn(seed, classes, rows=25)
    shift = fit_intercept(logits, targets)
    assert log_loss(logits + shift, targets) <= log_loss(logits, targets) + 1e-9
    assert sum(shift) == pytest.approx(0.0, abs=1e-9)


def test_a_hospital_with_one_class_gets_a_finite_intercept():
    shift = fit_intercept(np.zeros((20, 2)), np.ones(20, dtype=int))
    assert np.isfinite(shift).all()
    assert shift[1] - shift[0] > 2


def test_without_rows_there_is_nothing_to_fit():
    assert fit_intercept(np.zeros((0, 3)), np.zeros(0, dtype=int)) == (0.0, 0.0, 0.0)


def test_extreme_logits_do_not_break_the_fit():
    logits = np.array([[1e6, -1e6], [-1e6, 1e6], [1e6, -1e6]])
    assert np.isfinite(fit_intercept(logits, np.array([1, 1, 0]))).all()
