"""A hospital's own CSV file as a data set: `konsil.knowledge.spreadsheet` reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.knowledge.spreadsheet import Columns, read_csv
from konsil.simulations.sim.datasets.dataset import by_patient

if TYPE_CHECKING:
    from pathlib import Path

    from konsil.simulations.sim.datasets.dataset import DataSet
    from konsil.simulations.sim.scenario import Population


def read(path: Path, population: Population) -> DataSet:
    """The rows of a file; its columns are named by `label`, `site` and `patient`.

    Without `label` the column of that name is meant; without `patient` each row is a patient.
    Raises `ConfigError` naming the file, the line and the column that is wrong.
    """
    columns = Columns(population.label or "label", population.patient, population.site)
    rows, sites = read_csv(path, columns)
    return by_patient(rows, sites if population.site else ())
