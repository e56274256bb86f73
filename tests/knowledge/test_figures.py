"""Figures: coarse, silent about few patients, and right up to a step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from konsil.knowledge.evaluate import softmax
from konsil.knowledge.figures import FEWEST, STEP_E6, aurocs

CLASSES = ("a", "b", "c")


def drawn(seed, rows=60):
    draw = np.random.default_rng(seed)
    targets = draw.integers(0, 3, rows)
    logits = draw.normal(size=(rows, 3)) + 2 * np.eye(3)[targets]
    return logits, targets, [f"p{row}" for row in range(rows)]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_a_figure_is_the_area_cut_off_to_a_step(seed):
    logits, targets, patients = drawn(seed)
    told = aurocs(logits, targets, patients, CLASSES)
    for place, name in enumerate(CLASSES):
        inside = targets == place
        if FEWEST <= inside.sum() <= len(targets) - FEWEST:
            area = roc_auc_score(inside, softmax(logits)[:, place])
            assert told[name] % STEP_E6 == 0
            assert told[name] - 1 <= area * 1e6 < told[name] + STEP_E6
        else:
            assert name not in told


def test_of_few_patients_and_of_numbers_that_are_none_nothing_is_said():
    logits, targets, patients = drawn(1)
    assert set(aurocs(logits, targets, patients, CLASSES)) == set(CLASSES)
    few = [patient if target else "one" for patient, target in zip(patients, targets, strict=True)]
    assert set(aurocs(logits, targets, few, CLASSES)) == {"b", "c"}
    logits[3, 1] = np.nan
    assert aurocs(logits, targets, patients, CLASSES) == {}


@pytest.mark.parametrize("extra", range(3))
def test_a_perfect_model_is_told_as_perfect(extra):
    targets = np.repeat([0, 1, 2], FEWEST + extra)
    told = aurocs(9.0 * np.eye(3)[targets], targets, list(map(str, range(len(targets)))), CLASSES)
    assert told == dict.fromkeys(CLASSES, 1_000_000)
