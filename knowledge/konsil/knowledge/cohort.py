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
    from collections.abc import Sequence

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


def joined(cohorts: Sequence[Cohort]) -> Cohort:
    """The rows of several cohorts of the same classes and columns, one after the other."""
    return Cohort(
        inputs=np.concatenate([one.inputs for one in cohorts]),
        labels=np.concatenate([one.labels for one in cohorts]),
        patients=tuple(patient for one in cohorts for patient in one.patients),
        classes=cohorts[0].classes,
        columns=cohorts[0].columns,
    )


def preparation(reference: Cohort) -> Preparation:
    """Mean and standard deviation of each column; a column that does not vary is centred only."""
    centre, spread = scale(reference.inputs)
    return Preparation(
        columns=reference.columns, centre=tuple(centre.tolist()), spread=tuple(spread.tolist())
    )


def scale(inputs: Inputs) -> tuple[Inputs, Inputs]:
    """Mean and sample standard deviation over the rows of `inputs` (rows, …).

    What does not vary has the spread 1: the mean of equal numbers can miss them by a rounding
    error, which must not become the unit of every other value.
    """
    spread = inputs.std(axis=0, ddof=min(1, len(inputs) - 1))
    varies = inputs.max(axis=0) > inputs.min(axis=0)
    return inputs.mean(axis=0), np.where(varies, spread, 1.0)


def standardised(cohort: Cohort, reference: Cohort) -> Rows:
    """The cohort as float32 tensors, each column centred and scaled by `reference`."""
    by = preparation(reference)
    scaled = (cohort.inputs - np.array(by.centre)) / np.array(by.spread)
    return Rows(
        inputs=torch.from_numpy(scaled.astype(np.float32)),
        targets=torch.from_numpy(cohort.labels.astype(np.int64)),
        patients=cohort.patients,
    )
