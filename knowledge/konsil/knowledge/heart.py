"""Heart: the UCI heart-disease data of four real hospitals, by FLamby's rule.

Detrano et al., 1989 (UCI 45, CC BY 4.0), as Fed-Heart-Disease of FLamby (Ogier du Terrail et
al., 2022): slope, ca and thal are dropped for their many gaps, then every row with a gap; chest
pain and resting ECG become indicators without their first value; a label above 0 is disease.
Two thirds of each hospital train and the rest test, stratified.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from konsil.knowledge.cohort import Cohort, Inputs
from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from konsil.knowledge.split import Places

SITES = ("cleveland", "hungarian", "switzerland", "va")
"""The hospitals, in FLamby's order, by the names of UCI's files."""

FLAMBY_SPLIT = 43
"""FLamby's own split; any other number is another random split by the same rule."""

TEST_SHARE = 0.34

_KEPT = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
_LABEL = 13
_COLUMNS = 14
_INPUTS = (
    "age", "sex", "trestbps", "chol", "fbs", "thalach", "exang", "oldpeak",
    "cp=2", "cp=3", "cp=4", "restecg=1", "restecg=2",
)  # fmt: skip
# Column, and the values that get an indicator: all but the first.
_INDICATORS = ((2, (2.0, 3.0, 4.0)), (6, (1.0, 2.0)))


def read_site(folder: Path, site: str) -> Cohort:
    """The usable rows of one hospital: 13 inputs, classes healthy and disease.

    Patients are named by site and line of the file. Raises `ConfigError` naming the file (and
    line) that is missing or malformed.
    """
    path = folder / f"processed.{site}.data"
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise ConfigError(
            f"dataset heart_disease: cannot read {path}: {fault}",
            hint="set KONSIL_DATA to the folder that holds heart_disease/",
        ) from fault
    table, patients = [], []
    for number, line in enumerate(lines, start=1):
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != _COLUMNS:
            raise ConfigError(f"{path}:{number}: {len(cells)} columns instead of {_COLUMNS}")
        kept = [cells[place] for place in (*_KEPT, _LABEL)]
        if "?" not in kept:
            table.append(_numbers(kept, path, number))
            patients.append(f"{site}-{number}")
    rows = np.array(table)
    return Cohort(
        inputs=_with_indicators(rows[:, :-1]),
        labels=(rows[:, -1] > 0).astype(np.int64),
        patients=tuple(patients),
        classes=("healthy", "disease"),
        columns=_INPUTS,
    )


def train_test(cohort: Cohort, split_seed: int) -> tuple[Places, Places]:
    """Rows that may train and rows that only test, as FLamby has scikit-learn split them.

    Stratified, unless a class has fewer than three patients (Switzerland has one healthy).
    """
    from sklearn.model_selection import train_test_split

    counts = np.bincount(cohort.labels, minlength=2)
    train, test = train_test_split(
        np.arange(len(cohort)),
        train_size=1 - TEST_SHARE,
        test_size=TEST_SHARE,
        random_state=split_seed,
        shuffle=True,
        stratify=cohort.labels if counts.min() > 2 else None,
    )
    return np.sort(train), np.sort(test)


def _numbers(cells: list[str], path: Path, number: int) -> list[float]:
    try:
        return [float(cell) for cell in cells]
    except ValueError as fault:
        raise ConfigError(f"{path}:{number}: {fault}") from None


def _with_indicators(columns: Inputs) -> Inputs:
    coded = {place for place, _ in _INDICATORS}
    plain = [columns[:, place] for place in _KEPT if place not in coded]
    extra = [
        (columns[:, place] == value).astype(np.float64)
        for place, values in _INDICATORS
        for value in values
    ]
    return np.stack([*plain, *extra], axis=1)
