"""DataSet: rows of patients before they are dealt to nodes, and which of them only test.

The test rows are the same for every seed of a scenario, so that curves of different seeds are
measured on the same patients. No patient is on both sides. Numbers are as in the source: who
standardises them, and by which rows, is decided after the deal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from konsil.knowledge import split

if TYPE_CHECKING:
    from konsil.knowledge.cohort import Cohort
    from konsil.knowledge.split import Places
    from konsil.simulations.sim.links import Nodes

TEST_SHARE = 0.2
TEST_SEED = 0


@dataclass(frozen=True)
class DataSet:
    """All rows of a data set; those of `rows.inputs` may have any shape, the first axis aside."""

    rows: Cohort
    sites: tuple[str, ...]
    """The hospital of each row; empty when the source names none."""
    train: Places
    """Rows that may be dealt to nodes."""
    test: Places
    """Rows on which nobody trains and nobody judges."""

    @property
    def people(self) -> Nodes:
        """A number for each row, the same for all rows of one patient."""
        return np.unique(np.array(self.rows.patients), return_inverse=True)[1].astype(np.int64)


def one_row_a_patient(rows: Cohort) -> DataSet:
    """The common workload's split: 80/20, stratified, by scikit-learn with seed 0."""
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(
        np.arange(len(rows)), test_size=TEST_SHARE, stratify=rows.labels, random_state=TEST_SEED
    )
    return DataSet(rows, (), np.sort(train), np.sort(test))


def by_patient(rows: Cohort, sites: tuple[str, ...]) -> DataSet:
    """Whole patients set aside, 80/20 in each class of each site (`konsil.knowledge.split`)."""
    strata = rows.labels
    if sites:
        of_site = np.unique(np.array(sites), return_inverse=True)[1]
        strata = of_site * len(rows.classes) + rows.labels
    train, test = split.by_patient(strata, rows.patients, TEST_SHARE, "common test", TEST_SEED)
    return DataSet(rows, sites, train, test)
