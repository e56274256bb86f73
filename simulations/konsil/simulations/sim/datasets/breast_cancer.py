"""breast_cancer: 569 tumours of the WDBC study, inside scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.knowledge import embedded
from konsil.simulations.sim.datasets.dataset import one_row_a_patient

if TYPE_CHECKING:
    from konsil.simulations.sim.datasets.dataset import DataSet


def read() -> DataSet:
    """455 rows to train on and 114 to test on; 30 inputs, benign or malignant."""
    return one_row_a_patient(embedded.breast_cancer())
