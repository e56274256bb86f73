"""The registry of data sets: what `[population] dataset` may name.

One file a data set; a further one is a file here and a line in `NAMED` (or in `FILES`, by the
ending of its path). Readers are pure but for the file that they read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from konsil.protocol.errors import ConfigError
from konsil.simulations.sim.datasets import (
    breast_cancer,
    csv_file,
    digits,
    heart_disease,
    lesions,
    npz_file,
    pneumoniamnist,
    xray_scanners,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from konsil.simulations.sim.datasets.dataset import DataSet
    from konsil.simulations.sim.scenario import Population

NAMED: Mapping[str, Callable[[], DataSet]] = {
    "digits": digits.read,
    "breast_cancer": breast_cancer.read,
    "heart_disease": heart_disease.read,
    "pneumoniamnist": pneumoniamnist.read,
    "lesions": lesions.read,
    "xray_scanners": xray_scanners.read,
}
FILES: Mapping[str, Callable[[Path, Population], DataSet]] = {
    ".csv": csv_file.read,
    ".npz": npz_file.read,
}
LARGEST = 1e100
"""Of values in files; the square of what is much larger is infinite."""


def read(population: Population, folder: Path) -> DataSet:
    """The data set that a population names; a file is looked up from `folder`.

    Raises `ConfigError` for an unknown name, and for a file that is absent or malformed.
    """
    name = population.dataset
    if name in NAMED:
        return NAMED[name]()
    path = folder / name
    if path.suffix in FILES:
        return _within_range(FILES[path.suffix](path, population), path)
    raise ConfigError(
        f'[population] dataset = "{name}" is not known',
        hint=f"one of {', '.join(NAMED)}, or the path of a file that ends in {' or '.join(FILES)}",
    )


def _within_range(data: DataSet, path: Path) -> DataSet:
    """The data set, whose deviations can be computed. Raises `ConfigError`."""
    size = np.abs(data.rows.inputs).reshape(len(data.rows), -1).max(axis=1)
    if size.max() > LARGEST:
        raise ConfigError(
            f"{path}: data row {int(size.argmax())} has a value beyond ±{LARGEST:g}",
            hint="give the column another unit; data rows count from 0",
        )
    return data
