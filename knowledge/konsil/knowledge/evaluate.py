"""Evaluate: how good a classifier's outputs are, in numpy and float64.

Definitions are those of scikit-learn, with which the tests compare. A value that a set of
rows cannot give (an AUC of one class only) is left out instead of being invented.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Logits: TypeAlias = npt.NDArray[np.floating]
"""Rows × classes."""
Targets: TypeAlias = npt.NDArray[np.integer]

METRICS = ("auc", "balanced_accuracy", "accuracy", "mcc", "log_loss", "ece")
"""The scalars that `evaluate` gives; `recalls` and `confusion` tell more about each class."""

CALIBRATION_BINS = 15


def evaluate(logits: Logits, targets: Targets) -> dict[str, float]:
    """Every metric of `METRICS` that these rows can give, by name."""
    probabilities = softmax(logits)
    chosen = probabilities.argmax(axis=1)
    found = {
        "auc": auc(probabilities, targets),
        "balanced_accuracy": balanced_accuracy(chosen, targets),
        "accuracy": float(np.mean(chosen == targets)) if len(targets) else None,
        "mcc": mcc(confusion(chosen, targets, logits.shape[1])) if _several(targets) else None,
        "log_loss": log_loss(logits, targets),
        "ece": calibration_error(probabilities, targets),
    }
    return {name: value for name, value in found.items() if value is not None}


def softmax(logits: Logits) -> npt.NDArray[np.float64]:
    """Probabilities of each row, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def auc(probabilities: npt.NDArray[np.float64], targets: Targets) -> float | None:
    """Area under the ROC curve; for more than two classes the mean of one against the rest.

    Classes without rows on both sides are left out of the mean; None when none remains.
    """
    columns = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    areas = [_rank_area(probabilities[:, k], targets == k) for k in columns]
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if known else None


def _rank_area(scores: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> float | None:
    """The share of pairs in the right order, ties counting one half (Mann and Whitney, 1947)."""
    ups, downs = int(positive.sum()), int((~positive).sum())
    if ups == 0 or downs == 0:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    won = mean_rank[inverse][positive].sum() - ups * (ups + 1) / 2
    return float(won / (ups * downs))


def balanced_accuracy(chosen: Targets, targets: Targets) -> float | None:
    """The mean recall of the classes that have rows."""
    if len(targets) == 0:
        return None
    return float(np.mean([np.mean(chosen[targets == k] == k) for k in np.unique(targets)]))


def confusion(chosen: Targets, targets: Targets, classes: int) -> npt.NDArray[np.int64]:
    """Rows by their class (first index) and by the class chosen for them (second)."""
    places = targets.astype(np.int64) * classes + chosen
    return np.bincount(places, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def recalls(matrix: npt.NDArray[np.int64]) -> tuple[float | None, ...]:
    """The share of each class's rows for which it was chosen; None for a class without rows."""
    rows = matrix.sum(axis=1)
    return tuple(float(matrix[k, k] / rows[k]) if rows[k] else None for k in range(len(matrix)))


def mcc(matrix: npt.NDArray[np.int64]) -> float:
    """Matthews' correlation coefficient of a confusion matrix, from -1 to 1.

    For more than two classes R_K (Gorodkin, 2004). 0 where all rows are of one class or get
    one answer, as in scikit-learn.
    """
    counts = matrix.astype(np.float64)
    total, right = counts.sum(), np.trace(counts)
    true, chosen = counts.sum(axis=1), counts.sum(axis=0)
    both = right * total - true @ chosen
    spread = (total**2 - true @ true) * (total**2 - chosen @ chosen)
    return float(both / np.sqrt(spread)) if spread > 0 else 0.0


def _several(targets: Targets) -> bool:
    return len(np.unique(targets)) > 1


def log_loss(logits: Logits, targets: Targets) -> float | None:
    """The mean negative log-probability of the true class."""
    if len(targets) == 0:
        return None
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    normaliser = np.log(np.exp(shifted).sum(axis=1))
    return float(np.mean(normaliser - shifted[np.arange(len(targets)), targets]))


def calibration_error(probabilities: npt.NDArray[np.float64], targets: Targets) -> float | None:
    """Expected calibration error over equal bins of confidence (Guo et al., 2017)."""
    if len(targets) == 0:
        return None
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == targets
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = [abs(float(np.sum(right[bins == b] - confidence[bins == b]))) for b in np.unique(bins)]
    return sum(gaps) / len(targets)
