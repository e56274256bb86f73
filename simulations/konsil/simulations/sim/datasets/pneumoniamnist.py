"""pneumoniamnist: chest X-rays of children, 28 × 28, with the official train and test parts.

One hospital's collection, so that there are no sites; a split and a feature shift of the scenario
make hospitals of it. The file lies in the data folder of konsil (`KONSIL_DATA`).
"""

from __future__ import annotations

import numpy as np

from konsil.knowledge.data import xray
from konsil.knowledge.data.images import joined
from konsil.knowledge.data.place import data_folder
from konsil.simulations.sim.datasets.dataset import DataSet
from konsil.simulations.sim.datasets.pictures import as_cohort


def read() -> DataSet:
    """4708 images to train on and 624 to test on, 1 × 28 × 28; normal or pneumonia.

    Raises `ConfigError` when the file is absent or malformed, with how to fetch it.
    """
    collection = xray.read(data_folder() / xray.FOLDER)
    first = len(collection.train)
    rows = as_cohort(joined([collection.train, collection.test]))
    return DataSet(rows, (), np.arange(first), np.arange(first, len(rows)))
