"""digits: 1797 handwritten digits of 8 × 8 pixels, inside scikit-learn; the common workload."""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.knowledge import embedded
from konsil.simulations.sim.datasets.dataset import one_row_a_patient

if TYPE_CHECKING:
    from konsil.simulations.sim.datasets.dataset import DataSet


def read() -> DataSet:
    """1437 rows to train on and 360 to test on; 64 inputs, 10 classes."""
    return one_row_a_patient(embedded.digits())
