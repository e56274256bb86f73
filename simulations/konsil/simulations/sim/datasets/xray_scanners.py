"""xray_scanners: the chest X-rays of `pneumoniamnist` at four hospitals with unlike scanners.

The hospitals differ in size, prevalence and scanner (`konsil.knowledge.data.xray.HOSPITALS`), and
are the same for every seed of a scenario. Each is tested on the official test images as its own
scanner shows them. The images are real, the hospitals are ours.
"""

from __future__ import annotations

import numpy as np

from konsil.knowledge.data import xray
from konsil.knowledge.data.images import joined
from konsil.knowledge.data.place import data_folder
from konsil.simulations.sim.datasets.dataset import DataSet
from konsil.simulations.sim.datasets.pictures import as_cohort

SEED = 0


def read() -> DataSet:
    """900 images of four sites to train on, 624 for each to test on, 1 × 28 × 28.

    Raises `ConfigError` when the file is absent or malformed, with how to fetch it.
    """
    collection = xray.read(data_folder() / xray.FOLDER)
    own = xray.simulated(collection.train, SEED).hospitals
    images = joined([*own, *xray.under_each(collection.test, SEED)])
    first = sum(map(len, own))
    return DataSet(as_cohort(images), images.sites, np.arange(first), np.arange(first, len(images)))
