"""heart_disease: four real hospitals, each with FLamby's own split into train and test.

The files lie in the data folder of konsil (`KONSIL_DATA`); nothing is fetched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from konsil.knowledge import heart
from konsil.knowledge.cohort import joined
from konsil.knowledge.data.place import data_folder
from konsil.simulations.sim.datasets.dataset import DataSet

if TYPE_CHECKING:
    from konsil.knowledge.split import Places


def read() -> DataSet:
    """All four hospitals in FLamby's order; 13 inputs, healthy or disease.

    Raises `ConfigError` when a file is absent, naming it and what to set.
    """
    hospitals = [heart.read_site(data_folder() / "heart_disease", site) for site in heart.SITES]
    train: list[Places] = []
    test: list[Places] = []
    start = 0
    for cohort in hospitals:
        mine, tests = heart.train_test(cohort, heart.FLAMBY_SPLIT)
        train.append(start + mine)
        test.append(start + tests)
        start += len(cohort)
    return DataSet(
        rows=joined(hospitals),
        sites=tuple(
            site for site, one in zip(heart.SITES, hospitals, strict=True) for _ in range(len(one))
        ),
        train=np.concatenate(train),
        test=np.concatenate(test),
    )
