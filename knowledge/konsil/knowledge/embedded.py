"""Embedded: the real data sets that come inside scikit-learn, as cohorts.

Nothing is fetched. Every row is a patient (or writer) of its own. The files are read where they
lie, because importing scikit-learn takes longer, and more memory, than all else that a worker of
a small table does; where they do not lie as expected, scikit-learn is asked.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from konsil.knowledge.cohort import Cohort

if TYPE_CHECKING:
    from konsil.knowledge.cohort import Inputs

_NUCLEUS = (
    "radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity",
    "concave points", "symmetry", "fractal dimension",
)  # fmt: skip
_PIXELS = 8


def breast_cancer() -> Cohort:
    """WDBC (Wolberg, Street and Mangasarian, 1995): 569 tumours, 30 measures of cell nuclei."""
    columns = (
        *(f"mean {name}" for name in _NUCLEUS),
        *(f"{name} error" for name in _NUCLEUS),
        *(f"worst {name}" for name in _NUCLEUS),
    )
    table = _table("breast_cancer", len(columns), header=1)
    return Cohort(
        inputs=table[:, :-1],
        labels=1 - table[:, -1].astype(np.int64),
        patients=tuple(f"wdbc-{number}" for number in range(len(table))),
        classes=("benign", "malignant"),
        columns=columns,
    )


def digits() -> Cohort:
    """Handwritten digits (Alpaydin and Kaynak, 1998): 1797 images of 8 × 8 grey values."""
    columns = tuple(f"pixel_{y}_{x}" for y in range(_PIXELS) for x in range(_PIXELS))
    table = _table("digits", len(columns))
    return Cohort(
        inputs=table[:, :-1],
        labels=table[:, -1].astype(np.int64),
        patients=tuple(f"digit-{number}" for number in range(len(table))),
        classes=tuple(str(digit) for digit in range(10)),
        columns=columns,
    )


def _table(name: str, columns: int, *, header: int = 0) -> Inputs:
    """The numbers of a set, its target in the last column."""
    found = importlib.util.find_spec("sklearn")
    for root in (found and found.submodule_search_locations) or ():
        for path in sorted((Path(root) / "datasets" / "data").glob(f"{name}.csv*")):
            try:
                table = np.loadtxt(path, delimiter=",", skiprows=header)
            except (OSError, ValueError):
                continue
            if table.ndim == 2 and table.shape[1] == columns + 1:
                return np.asarray(table, dtype=np.float64)
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    return np.column_stack([bunch.data, bunch.target]).astype(np.float64)
