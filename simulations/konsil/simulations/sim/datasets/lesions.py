"""lesions: generated skin-like colour images of five unlike hospitals; smooth or irregular lesions.

The patients are the same for every seed of a scenario; no patient stands behind an image. Lesions
lie anywhere in the image, so that a perceptron over its pixels learns little of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.knowledge.data import lesions
from konsil.simulations.sim.datasets.dataset import by_patient
from konsil.simulations.sim.datasets.pictures import as_cohort

if TYPE_CHECKING:
    from konsil.simulations.sim.datasets.dataset import DataSet

SEED = 0
SIZES = (180, 120, 120, 60, 120)
"""Patients of each hospital, in the order of `konsil.knowledge.data.scanners.SCANNERS`."""
SIDE = 32
"""Pixels a side."""


def read() -> DataSet:
    """600 images, 3 × 32 × 32, of five sites; 80/20 in each class of each site."""
    images = lesions.generate("skin", lesions.hospitals(SIZES), SEED, size=SIDE).kinds
    return by_patient(as_cohort(images), images.sites)
