"""Cohort: a table of patients before it becomes a task: numbers, labels, ids.

`Cohort` is what every tabular source yields. `standardised` applies a hospital's own
normalisation: means and deviations of the rows it trains on, which never leave it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from konsil.knowledge.task import Preparation, Rows

if TYPE_CHECKING:
    from konsil.knowledge.split import Labels, Places

Inputs: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cohort:
    """Rows of patients: `inputs` (rows × columns), class indices, one patient id a row."""

    inputs: Inputs
    labels: Labels
    patients: tuple[str, ...]
    classes: tuple[str, ...]
    columns: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.patients)

    def take(self, places: Places) -> Cohort:
        """The rows at these places."""
        patients = tuple(self.patients[place] for place in places)
        return Cohort(
            self.inputs[places], self.labels[places], patients, self.classes, self.columns
        )


def preparation(reference: Cohort) -> Preparation:
    """Mean and standard deviation of each column; a column that does not vary is centred only."""
    spread = reference.inputs.std(axis=0, ddof=min(1, len(reference) - 1))
    return Preparation(
        columns=reference.columns,
        centre=tuple(reference.inputs.mean(axis=0).tolist()),
        spread=tuple(np.where(spread > 0, spread, 1.0).tolist()),
    )


def standardised(cohort: Cohort, reference: Cohort) -> Rows:
    """The cohort as float32 tensors, each column centred and scaled by `reference`."""
    by = preparation(reference)
    scaled = (cohort.inputs - np.array(by.centre)) / np.array(by.spread)
    return Rows(
        inputs=torch.from_numpy(scaled.astype(np.float32)),
        targets=torch.from_numpy(cohort.labels.astype(np.int64)),
        patients=cohort.patients,
    )
