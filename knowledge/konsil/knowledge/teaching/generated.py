"""Generated questions: proxy rows from a seed, when no public data may be had.

Three generators, by falling closeness to patients: `atlas` (a public mean image times a random
gain, plus smooth fields), `smooth` (random fields alone), `gaussian` (for standardised tables
only; on images white noise harms). Everything from the seed to the levels is integer
arithmetic on hashed counters, with no float, no library's random stream and no transcendental
function, so all machines and versions get the same bytes and hence the same digest.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from konsil.knowledge.teaching.question import Question
from konsil.protocol.digest import tagged
from konsil.protocol.errors import ConfigError

Integers: TypeAlias = npt.NDArray[np.int64]
Words: TypeAlias = npt.NDArray[np.uint64]

_UNIFORMS = 12
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_GAIN = (600, 1400)
"""The gain of an atlas, in thousandths."""
_SWING = 60
"""How far a field moves an atlas at most, in grey levels."""
_FEWEST_CELLS, _MOST_CELLS = 2, 6
"""Cells of the lattice along each side of the image."""


def gaussian(rows: int, columns: int, classes: tuple[str, ...], *, seed: int) -> Question:
    """Rows of independent values of mean 0 and deviation 1, for standardised tables.

    Each value is a sum of twelve uniforms (Irwin–Hall): its first three moments are those of
    the normal distribution, its kurtosis is 2.9, and none is beyond 6. Raises `ConfigError`
    where there are no rows or columns.
    """
    _require(rows, columns)
    centred = np.full((rows, columns), -(_UNIFORMS // 2 << 32), dtype=np.int64)
    for first in range(_UNIFORMS):
        drawn = _words("gaussian", seed, (rows, columns), first=first, stride=_UNIFORMS)
        centred += (drawn >> np.uint64(32)).astype(np.int64)
    return Question("table", _divided(centred * 10_000, 1 << 32).astype("<i4"), classes)


def smooth(
    rows: int, shape: tuple[int, int, int], classes: tuple[str, ...], *, seed: int
) -> Question:
    """Random fields that vary smoothly, each stretched over all grey levels.

    `shape` is channels, height, width. Raises `ConfigError` where there is nothing to draw.
    """
    _require(rows, *shape)
    return Question("images", _fields("smooth", seed, rows, shape).astype(np.uint8), classes)


def atlas(
    rows: int, mean: npt.NDArray[np.uint8], classes: tuple[str, ...], *, seed: int
) -> Question:
    """A public mean image (channels × height × width) times a gain, plus a smooth field.

    The gain is uniform in .6 to 1.4 and the field moves a value by 60 of 255 levels at most.
    `mean` must not be of patients who have not agreed to its use: its bytes are as public as
    the seed. Raises `ConfigError` where it is no grey-level image.
    """
    if mean.dtype != np.uint8 or mean.ndim != 3:
        raise ConfigError(f"an atlas of type {mean.dtype} and shape {mean.shape}")
    _require(rows, *mean.shape)
    low, high = _GAIN
    drawn = _words("gain", seed, (rows, 1, 1, 1)) % np.uint64(high - low + 1)
    gain = drawn.astype(np.int64) + low
    field = _fields("atlas", seed, rows, mean.shape)
    moved = _divided(mean.astype(np.int64) * gain, 1000) + _divided((2 * field - 255) * _SWING, 255)
    return Question("images", np.clip(moved, 0, 255).astype(np.uint8), classes)


def _fields(word: str, seed: int, rows: int, shape: tuple[int, ...]) -> Integers:
    """Fields in 0 … 255 (rows × shape): corners of a lattice, and linear in between."""
    channels, height, width = shape
    spread = np.uint64(_MOST_CELLS - _FEWEST_CELLS + 1)
    cells = _words(f"{word} cells", seed, (rows,)) % spread + np.uint64(_FEWEST_CELLS)
    side = _MOST_CELLS + 1
    corners = (_words(f"{word} field", seed, (rows, channels, side, side)) >> np.uint64(48)).astype(
        np.int64
    )
    field = np.empty((rows, channels, height, width), dtype=np.int64)
    for count in np.unique(cells).tolist():
        alike = np.flatnonzero(cells == count)
        across = _between(corners[alike], int(count), width)
        field[alike] = _between(across.swapaxes(2, 3), int(count), height).swapaxes(2, 3)
    least = field.min(axis=(2, 3), keepdims=True)
    most = field.max(axis=(2, 3), keepdims=True)
    stretched: Integers = (field - least) * 255 // np.maximum(most - least, 1)
    return stretched


def _between(corners: Integers, cells: int, length: int) -> Integers:
    """The last axis interpolated linearly to `length` places over its first `cells` cells.

    Weights are left as integers: the result is `2 · length` times the value between corners.
    """
    at = (2 * np.arange(length, dtype=np.int64) + 1) * cells
    cell, part = at // (2 * length), at % (2 * length)
    return corners[..., cell] * (2 * length - part) + corners[..., cell + 1] * part


def _words(
    word: str, seed: int, shape: tuple[int, ...], *, first: int = 0, stride: int = 1
) -> Words:
    """Hashed counters, 64 bits each: a stream that depends on the word and the seed only.

    Of that stream every `stride`-th word from number `first` on.
    """
    key = int.from_bytes(tagged("proxy", word.encode(), str(seed).encode())[:8], "big")
    counters = np.arange(int(np.prod(shape)), dtype=np.uint64) * np.uint64(stride)
    counters += np.uint64(first)
    with np.errstate(over="ignore"):
        values = np.uint64(key) + counters * _GOLDEN
        # The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (values ^ (values >> np.uint64(31))).reshape(shape)


def _divided(values: Integers, by: int) -> Integers:
    """The nearest integers to ``values / by``, halves upwards."""
    return (2 * values + by) // (2 * by)


def _require(*lengths: int) -> None:
    if min(lengths) < 1:
        raise ConfigError(f"a proxy of shape {lengths} holds nothing")
