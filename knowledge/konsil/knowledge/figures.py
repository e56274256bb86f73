"""Figures: how well a model recognises each class, so coarsely that it may be told.

An AUROC tells of the patients it is measured on, and one a round tells more. So a figure is cut off
to steps of .05, stands for ten patients or more on either side, and names no other number. Of a
class with fewer nothing is said, which means unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from konsil.knowledge.evaluate import auc, softmax

if TYPE_CHECKING:
    from collections.abc import Sequence

    from konsil.knowledge.evaluate import Logits, Targets

STEP_E6 = 50_000
FEWEST = 10
"""Patients with a class, and without it, below which nothing is said of it."""


def aurocs(
    logits: Logits, targets: Targets, patients: Sequence[str], classes: Sequence[str]
) -> dict[str, int]:
    """The AUROC of each class against all others in 1e-6, cut off to whole steps.

    `logits` (n × C), `targets` and `patients` (n). A class is left out where fewer than `FEWEST`
    patients have it, or have another, and where an output is not a number.
    """
    if not np.isfinite(logits).all():
        return {}
    shares, told = softmax(logits), {}
    for place, name in enumerate(classes):
        inside = targets == place
        apart = [
            {patients[row] for row in np.flatnonzero(side).tolist()} for side in (inside, ~inside)
        ]
        share = shares[:, place]
        area = auc(np.stack([1 - share, share], axis=1), inside.astype(np.int64))
        if area is not None and min(map(len, apart)) >= FEWEST:
            told[name] = int(area * 1_000_000 + 1e-3) // STEP_E6 * STEP_E6
    return told
