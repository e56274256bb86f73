"""Arrays: NPZ files that somebody else wrote, read without trusting them.

An NPZ file is a zip of NPY files. Each array's header is read and checked (type, dimensions,
bytes) before room is made for its values, so that a small file cannot ask for a lot of memory,
and no array that holds Python objects is ever opened. Every fault is one line of `ConfigError`
that names the file and the array; no value of the file is repeated.

`read_images` reads a hospital's own images in this form.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from konsil.knowledge.data.images import Images, Pixels
from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import IO

    from konsil.knowledge.split import Labels

Array: TypeAlias = "npt.NDArray[Any]"

MOST_BYTES = 2 << 30
"""Bytes of all wanted arrays of one file together, unpacked."""

_KINDS = {"f": "floats", "i": "whole numbers", "u": "whole numbers from 0", "U": "texts"}


@dataclass(frozen=True)
class Wanted:
    """What an array must look like."""

    kinds: str
    """Letters of numpy's dtype.kind: f floats, i and u whole numbers, U texts."""
    shape: tuple[int | None, ...] | None = None
    """One entry a dimension; None fits any length. None for the whole: any shape."""
    optional: bool = False


def read_arrays(
    path: Path, wanted: Mapping[str, Wanted], *, most_bytes: int = MOST_BYTES
) -> dict[str, Array]:
    """The wanted arrays of an NPZ file; other members are not opened.

    Raises `ConfigError` for a file that is absent, no zip or damaged; for an array that is
    absent or of another type or shape; and when they need more than `most_bytes` together.
    """
    found: dict[str, Array] = {}
    total = 0
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            for key, what in wanted.items():
                if key not in members:
                    if what.optional:
                        continue
                    known = ", ".join(sorted(members)) or "nothing"
                    raise ConfigError(f"{path}: there is no array `{key}`", hint=f"it has {known}")
                with archive.open(members[key]) as member:
                    total += _expect(path, key, what, member)
                if total > most_bytes:
                    raise ConfigError(f"{path}: its arrays need more than {most_bytes} bytes")
                with archive.open(members[key]) as member:
                    found[key] = npy.read_array(member, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as fault:
        raise ConfigError(
            f"cannot read {path}: {fault}", hint="an NPZ file is needed: numpy.savez(path, x=…)"
        ) from fault
    except RuntimeError as fault:  # another compression, or encrypted
        raise ConfigError(f"cannot read {path}: {fault}", hint="write it again") from fault
    return found


def read_images(path: Path, classes: tuple[str, ...], *, channels_last: bool = False) -> Images:
    """A hospital's own images: arrays `x`, `y`, and optionally `patient` and `site`.

    `x` is (n × height × width) or (n × channels × height × width), bytes 0 … 255 or floats
    0 … 1; `y` is (n) class indices or (n × height × width) masks, both places in `classes`.
    `patient` and `site` are texts or whole numbers, one an image; without `patient` each image
    is a patient of its own. Raises `ConfigError` naming the file and the array.
    """
    names = Wanted("Uiu", (None,), optional=True)
    arrays = read_arrays(
        path, {"x": Wanted("fu"), "y": Wanted("iu"), "patient": names, "site": names}
    )
    inputs = pixels(path, "x", arrays["x"], channels_last=channels_last)
    count = len(inputs)
    sites = _names(path, arrays, "site", count) or (path.stem,) * count
    patients = _names(path, arrays, "patient", count) or tuple(f"row-{n}" for n in range(count))
    try:
        return Images(
            inputs=inputs,
            targets=arrays["y"].astype(np.int64),
            patients=tuple(f"{site}/{one}" for site, one in zip(sites, patients, strict=True)),
            classes=classes,
            sites=sites,
        )
    except ConfigError as fault:
        raise ConfigError(f"{path}: {fault.message}", hint=fault.hint) from None


def pixels(path: Path, key: str, array: Array, *, channels_last: bool = False) -> Pixels:
    """An array of grey or coloured images as `Images.inputs`; bytes are divided by 255.

    Raises `ConfigError` naming file and array.
    """
    if array.ndim == 3:
        array = array[:, np.newaxis]
    elif array.ndim == 4 and channels_last:
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or 0 in array.shape:
        raise ConfigError(
            f"{path}: `{key}` has the shape {array.shape}",
            hint="(images, height, width), or four dimensions with the channels",
        )
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array, dtype=np.float32) / np.float32(255)
    if array.dtype.kind != "f":
        raise ConfigError(
            f"{path}: `{key}` holds {array.dtype} values",
            hint="bytes from 0 to 255, or floats from 0 to 1",
        )
    return np.ascontiguousarray(array, dtype=np.float32)


def single(labels: Array) -> Labels:
    """Class indices (n) of an array (n) or (n × 1)."""
    return labels.reshape(len(labels)).astype(np.int64)


def _expect(path: Path, key: str, wanted: Wanted, member: IO[bytes]) -> int:
    """The bytes of an array by its header. Raises `ConfigError` when it is not as wanted."""
    version = npy.read_magic(member)
    if version == (1, 0):
        shape, _, dtype = npy.read_array_header_1_0(member)
    elif version == (2, 0):
        shape, _, dtype = npy.read_array_header_2_0(member)
    else:
        raise ConfigError(f"{path}: `{key}` is of NPY version {version}, not 1.0 or 2.0")
    if dtype.kind not in wanted.kinds:
        words = " or ".join(dict.fromkeys(_KINDS[kind] for kind in wanted.kinds))
        raise ConfigError(f"{path}: `{key}` holds {dtype.name} values", hint=f"{words} are needed")
    fits = wanted.shape is None or (
        len(shape) == len(wanted.shape)
        and all(its in (None, length) for its, length in zip(wanted.shape, shape, strict=True))
    )
    if not fits or min(shape, default=0) < 0:
        raise ConfigError(f"{path}: `{key}` has the shape {shape}, not {_told(wanted.shape)}")
    return math.prod(shape) * dtype.itemsize


def _told(shape: tuple[int | None, ...] | None) -> str:
    lengths = ["n" if length is None else str(length) for length in shape or ()]
    return f"({', '.join(lengths)})"


def _names(path: Path, arrays: Mapping[str, Array], key: str, count: int) -> tuple[str, ...]:
    if key not in arrays:
        return ()
    if len(arrays[key]) != count:
        raise ConfigError(f"{path}: {len(arrays[key])} values in `{key}` for {count} images")
    return tuple(str(name) for name in arrays[key].tolist())
