"""Calibrate: one intercept a class, fitted on the node's own training rows.

Hospitals differ in how common a disease is. A shared model keeps its ranking, and each node
adds its own constant to every class, which repairs its decisions (never shared, so it leaks
nothing and is not mixed).
"""

from __future__ import annotations

import numpy as np

from konsil.knowledge.evaluate import Logits, Targets, softmax

RIDGE = 1e-2
"""Strength of the pull towards zero; it keeps an absent class from minus infinity."""

_STEPS = 50


def fit_intercept(logits: Logits, targets: Targets) -> tuple[float, ...]:
    """The constants `b`, one a class, that minimise log-loss + RIDGE/2 · |b|², summing to zero.

    Newton's method on a strictly convex function of few variables; the constants of a class
    that was never seen stay finite. Zero without rows.
    """
    classes = logits.shape[1]
    intercept = np.zeros(classes)
    if len(targets) == 0:
        return tuple(intercept.tolist())
    wanted = np.bincount(targets, minlength=classes) / len(targets)
    for _ in range(_STEPS):
        shares = softmax(logits + intercept)
        gradient = shares.mean(axis=0) - wanted + RIDGE * intercept
        curvature = np.diag(shares.mean(axis=0)) - shares.T @ shares / len(targets)
        step = np.linalg.solve(curvature + RIDGE * np.eye(classes), gradient)
        # A long Newton step can overshoot where the softmax is flat.
        intercept = intercept - step * min(1.0, 2.0 / (float(np.abs(step).max()) + 1e-300))
        if float(np.abs(step).max()) < 1e-10:
            break
    return tuple((intercept - intercept.mean()).tolist())
