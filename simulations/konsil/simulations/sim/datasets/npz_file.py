"""An own NPZ file as a data set: arrays `x` and `y`, optionally `site` and `patient`.

`x` (rows, …) holds numbers of any shape a row, `y` (rows) whole numbers; each different number
is a class, in ascending order. `site` and `patient` (rows) hold texts or whole numbers. Nothing
in the file is executed, and no value of it is repeated in an error.
"""

from __future__ import annotations

import lzma
import math
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from konsil.knowledge.cohort import Cohort, Inputs
from konsil.protocol.errors import ConfigError
from konsil.simulations.sim.datasets.dataset import by_patient
from konsil.simulations.sim.reading import expect_file, reason
from konsil.simulations.sim.scenario_reading import cut

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from konsil.simulations.sim.datasets.dataset import DataSet
    from konsil.simulations.sim.scenario import Population

Arrays: TypeAlias = "Mapping[str, npt.NDArray[Any]]"

MOST_BYTES = 1_000_000_000
"""Of a file, and of each of its arrays as 64-bit numbers."""

_SUFFIX = ".npy"
_BARE = b"\x93NUMPY"
_SHOWN = 10
_WRITTEN = "write it with numpy.savez(path, x=…, y=…), with arrays of numbers and texts"
_KEYS = ("x", "y", "site", "patient")


def read(path: Path, population: Population) -> DataSet:
    """The rows of a file. Raises `ConfigError` naming the file and the array that is wrong."""
    arrays = _arrays(path)
    inputs = _inputs(path, arrays["x"])
    labels, classes = _labels(path, arrays["y"], len(inputs))
    patients = _names(path, arrays, "patient", len(inputs))
    rows = Cohort(
        inputs=inputs,
        labels=labels,
        patients=patients or tuple(f"row-{number}" for number in range(len(inputs))),
        classes=classes,
        columns=tuple(f"x{number}" for number in range(inputs[0].size)),
    )
    return by_patient(rows, _names(path, arrays, "site", len(inputs)))


def _arrays(path: Path) -> Arrays:
    try:
        expect_file(path, MOST_BYTES)
        with path.open("rb") as raw:
            if raw.read(len(_BARE)) == _BARE:
                raise ConfigError(
                    f"dataset: {path} holds one bare array, and is no NPZ file", hint=_WRITTEN
                )
            with zipfile.ZipFile(raw) as archive:
                found = archive.namelist()
                arrays = {key: _array(archive, key) for key in _KEYS if f"{key}{_SUFFIX}" in found}
    except (
        OSError, ValueError, EOFError, OverflowError, MemoryError, RuntimeError,
        zipfile.BadZipFile, zlib.error, lzma.LZMAError,
    ) as fault:  # fmt: skip
        said = reason(fault) if isinstance(fault, OSError | ValueError) else fault
        raise ConfigError(f"dataset: cannot read {path}: {said}", hint=_WRITTEN) from fault
    for key in ("x", "y"):
        if key not in arrays:
            names = ", ".join(one.removesuffix(_SUFFIX) for one in found[:_SHOWN]) or "nothing"
            raise ConfigError(
                f"{path}: there is no array `{key}`",
                hint=f"x (rows, …) and y (rows) are needed; the file has {cut(names)}",
            )
    return arrays


def _array(archive: zipfile.ZipFile, key: str) -> npt.NDArray[Any]:
    """One array, whose size is checked before it is read."""
    member = archive.getinfo(f"{key}{_SUFFIX}")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read_header = np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
        header = file.tell()
    if dtype.hasobject:
        raise ValueError(f"`{key}` holds Python objects, which are never read")
    claimed, held = math.prod(shape) * dtype.itemsize, member.file_size - header
    if min(shape, default=0) < 0 or claimed != held:
        raise ValueError(f"`{key}` claims {claimed} bytes, and has {held}")
    if max(claimed, 8 * math.prod(shape)) > MOST_BYTES:
        raise ValueError(f"`{key}` takes more than {MOST_BYTES / 1e6:g} MB of memory")
    with archive.open(member) as file:
        found: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return found


def _inputs(path: Path, array: npt.NDArray[Any]) -> Inputs:
    if array.ndim < 2 or array.size == 0:
        raise ConfigError(f"{path}: `x` has the shape {array.shape}, not (rows, …)")
    if array.dtype.kind not in "fiub":
        raise ConfigError(f"{path}: `x` holds {array.dtype} values, and no numbers")
    with np.errstate(over="ignore"):  # of longer floats; what is left infinite is told below
        inputs = np.asarray(array, dtype=np.float64)
    finite = np.isfinite(inputs).reshape(len(inputs), -1).all(axis=1)
    if not finite.all():
        raise ConfigError(
            f"{path}: row {int(np.argmin(finite))} of `x` has a value that is not a finite number",
            hint="leave out rows with gaps, or fill them first; rows count from 0",
        )
    return inputs


def _labels(
    path: Path, array: npt.NDArray[Any], rows: int
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    _expect_one_each(path, "y", array, rows)
    if array.dtype.kind not in "iu":
        raise ConfigError(
            f"{path}: `y` holds {array.dtype} values, and no whole numbers",
            hint="write the class of each row as 0, 1, …: y.astype(numpy.int64)",
        )
    found, labels = np.unique(array, return_inverse=True)
    if len(found) < 2 or 2 * len(found) > rows:
        raise ConfigError(
            f"{path}: `y` has {len(found)} different numbers in {rows} rows",
            hint="it is the class of each row; two or more classes, of two rows on average",
        )
    return labels.astype(np.int64), tuple(str(label) for label in found.tolist())


def _names(path: Path, arrays: Arrays, key: str, rows: int) -> tuple[str, ...]:
    """The texts of an array that may be absent, and then is empty."""
    if key not in arrays:
        return ()
    array = arrays[key]
    _expect_one_each(path, key, array, rows)
    if array.dtype.kind not in "iuU":
        raise ConfigError(f"{path}: `{key}` holds {array.dtype} values, no texts or whole numbers")
    return tuple(str(name) for name in array.tolist())


def _expect_one_each(path: Path, key: str, array: npt.NDArray[Any], rows: int) -> None:
    if array.shape != (rows,):
        raise ConfigError(
            f"{path}: `{key}` has the shape {array.shape}, not ({rows},)",
            hint=f"one value for each of the {rows} rows of `x`",
        )
