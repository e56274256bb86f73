"""Embedded: the real data sets that come inside scikit-learn, as cohorts.

Nothing is fetched and no file of ours is read. Every row is a patient (or writer) of its own.
"""

from __future__ import annotations

import numpy as np

from konsil.knowledge.cohort import Cohort


def breast_cancer() -> Cohort:
    """WDBC (Wolberg, Street and Mangasarian, 1995): 569 tumours, 30 measures of cell nuclei."""
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    return Cohort(
        inputs=np.asarray(bunch.data, dtype=np.float64),
        labels=1 - np.asarray(bunch.target, dtype=np.int64),
        patients=tuple(f"wdbc-{number}" for number in range(len(bunch.target))),
        classes=("benign", "malignant"),
        columns=tuple(str(name) for name in bunch.feature_names),
    )


def digits() -> Cohort:
    """Handwritten digits (Alpaydin and Kaynak, 1998): 1797 images of 8 × 8 grey values."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return Cohort(
        inputs=np.asarray(bunch.data, dtype=np.float64),
        labels=np.asarray(bunch.target, dtype=np.int64),
        patients=tuple(f"digit-{number}" for number in range(len(bunch.target))),
        classes=tuple(str(name) for name in bunch.target_names),
        columns=tuple(str(name) for name in bunch.feature_names),
    )
