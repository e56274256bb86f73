"""A hospital's own CSV file as a data set: `konsil.knowledge.spreadsheet` reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.knowledge.spreadsheet import Columns, read_csv
from konsil.protocol.errors import ConfigError
from konsil.simulations.sim.datasets.dataset import by_patient
from konsil.simulations.sim.reading import expect_file, reason

if TYPE_CHECKING:
    from pathlib import Path

    from konsil.simulations.sim.datasets.dataset import DataSet
    from konsil.simulations.sim.scenario import Population

MOST_BYTES = 100_000_000
"""Of a file; read as texts it takes some ten times as much memory."""

_LONGEST = 300


def read(path: Path, population: Population) -> DataSet:
    """The rows of a file; its columns are named by `label`, `site` and `patient`.

    Without `label` the column of that name is meant; without `patient` each row is a patient.
    Raises `ConfigError` naming the file, the line and the column that is wrong.
    """
    columns = Columns(population.label or "label", population.patient, population.site)
    try:
        expect_file(path, MOST_BYTES)
        rows, sites = read_csv(path, columns)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"dataset: cannot read {path}: {reason(error)}",
            hint="check the path; a large table may be written as NPZ",
        ) from error
    except ConfigError as error:  # it may list a million columns
        raise ConfigError(_short(error.message), hint=_short(error.hint)) from error
    return by_patient(rows, sites if population.site else ())


def _short(words: str) -> str:
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…"
