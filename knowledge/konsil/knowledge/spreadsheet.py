"""Spreadsheet: a hospital's own CSV file as a cohort.

One row a visit, with a header. A label column, optionally a patient column (else every row is
a patient of its own) and a site column; every other column is a number. A wrong cell is named
by file and line, and its content is not repeated, because it may be about a patient.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from konsil.knowledge.cohort import Cohort
from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MOST_CLASSES = 20
"""More different labels than this must be listed by `classes`."""


@dataclass(frozen=True)
class Columns:
    """Which columns mean what. Empty `patient` or `site`: there is no such column.

    Empty `classes`: all label texts of the file, sorted. All hospitals need the same classes.
    """

    label: str
    patient: str = ""
    site: str = ""
    classes: tuple[str, ...] = ()


def read_csv(path: Path, columns: Columns) -> tuple[Cohort, tuple[str, ...]]:
    """The cohort in a file, and the site of each row (empty texts without a site column).

    Raises `ConfigError` naming the file, the line and the column that is wrong.
    """
    header, rows = _cells(path)
    place = {name: number for number, name in enumerate(header)}
    named = [columns.label, *filter(None, (columns.patient, columns.site))]
    if len(set(named)) != len(named):
        raise ConfigError(
            f"{path}: one column cannot be label, patient and site at once: {', '.join(named)}",
            hint="see the keys that name the label, patient and site columns",
        )
    for name in named:
        if name not in place:
            raise ConfigError(
                f"{path}: there is no column {name!r}",
                hint=f"the columns are {', '.join(header)}",
            )
    numeric = [number for name, number in place.items() if name not in named]
    if not numeric or not rows:
        raise ConfigError(f"{path}: no {'rows' if numeric else 'column of numbers'}")
    texts = [row[place[columns.label]] for _, row in rows]
    classes = columns.classes or _classes_of(path, columns.label, texts)
    inputs = np.array(
        [[_number(path, line, header, row, n) for n in numeric] for line, row in rows]
    )
    labels = [
        _label(path, line, text, classes) for (line, _), text in zip(rows, texts, strict=True)
    ]
    patients = [
        row[place[columns.patient]] if columns.patient else f"line-{line}" for line, row in rows
    ]
    if "" in patients:
        line = rows[patients.index("")][0]
        raise ConfigError(f"{path}:{line}: the patient column {columns.patient!r} is empty")
    sites = tuple(row[place[columns.site]] if columns.site else "" for _, row in rows)
    inputs_of = tuple(header[number] for number in numeric)
    cohort = Cohort(
        inputs, np.array(labels, dtype=np.int64), tuple(patients), classes, columns=inputs_of
    )
    return cohort, sites


def _classes_of(path: Path, label: str, texts: Sequence[str]) -> tuple[str, ...]:
    """All texts of the label column, sorted.

    Class names are published with every artifact. A column of many different texts is no
    label but, it may be, the patients' names; it is refused unless `classes` says otherwise.
    """
    found = tuple(sorted(set(texts)))
    if len(found) > MOST_CLASSES or 2 * len(found) > max(len(texts), 4):
        raise ConfigError(
            f"{path}: column {label!r} has {len(found)} different texts in {len(texts)} rows",
            hint="set label to the column of the diagnosis, or list its texts in classes; "
            "class names are published",
        )
    return found


def _cells(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and each row with the number of its last line; texts are stripped."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        raise ConfigError(f"dataset: cannot read {path}: {fault}") from fault
    if len(set(header)) != len(header) or "" in header:
        raise ConfigError(f"{path}:1: every column needs a name of its own")
    for line, row in rows:
        if len(row) != len(header):
            raise ConfigError(f"{path}:{line}: {len(row)} cells instead of {len(header)}")
    return header, rows


def _number(path: Path, line: int, header: Sequence[str], row: Sequence[str], place: int) -> float:
    try:
        value = float(row[place])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        empty = row[place] == ""
        raise ConfigError(
            f"{path}:{line}: column {header[place]!r} "
            f"{'is empty' if empty else 'is not a finite number'}",
            hint="leave out rows with gaps, or fill them first"
            if empty
            else "name it in patient, site_column or label, or take the column out of the table",
        )
    return value


def _label(path: Path, line: int, text: str, classes: Sequence[str]) -> int:
    if text not in classes:
        what = "is missing" if text == "" else "is none of the classes"
        raise ConfigError(f"{path}:{line}: the label {what} ({', '.join(classes)})")
    return classes.index(text)
