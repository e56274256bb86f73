"""Batches: which rows each step of local training sees, for one hospital or thousands at once.

The order of a shuffle is that of hashed row numbers, so it depends on the key only, needs no
generator with a state, and a batch of hospitals gets what each would get alone. Batches of one
shuffle are of nearly equal size, so that none of one row upsets a normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

Keys: TypeAlias = npt.NDArray[np.uint64]
Counts: TypeAlias = npt.NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Batches:
    """Steps of n hospitals, padded to the longest: `rows` (n × steps × width) are row numbers,
    and those with `counts` False are padding. A step without any row is none."""

    rows: Counts
    counts: npt.NDArray[np.bool_]

    @property
    def weights(self) -> npt.NDArray[np.float32]:
        """One over the size of its batch for every row that counts, else 0."""
        sizes = self.counts.sum(axis=-1, keepdims=True)
        return np.where(self.counts, (1 / np.maximum(sizes, 1)).astype(np.float32), np.float32(0))


def keys_of(seeds: Sequence[int] | Keys, number: int) -> Keys:
    """The keys of round `number`, from one 63-bit seed of each hospital."""
    with np.errstate(over="ignore"):
        return _hashed(np.array(seeds, dtype=np.uint64) + np.uint64(number) * _GOLDEN)


def batches(
    keys: Keys, rows: Counts, *, size: int, epochs: int = 1, steps: int | None = None
) -> Batches:
    """The steps of one round: `epochs` whole shuffles, or just `steps` batches.

    `rows` says how many rows each hospital has, at least one; `size` is the most that a batch
    takes. Where `steps` exceed a shuffle, the next one follows.
    """
    each = -(-rows // size)
    wanted = epochs * each if steps is None else np.full_like(each, steps)
    last = int(wanted.max())
    turns = int((-(-wanted // each)).max())
    order = _orders(keys, rows, turns)
    step = np.arange(last)[None, :]
    turn, place = step // each[:, None], step % each[:, None]
    small, larger = (rows // each)[:, None], (rows % each)[:, None]
    begin = place * small + np.minimum(place, larger)
    sizes = np.where(step < wanted[:, None], small + (place < larger), 0)
    within = np.arange(int(sizes.max()))[None, None, :]
    counts = within < sizes[:, :, None]
    at = np.where(counts, begin[:, :, None] + within, 0)
    whose = np.arange(len(rows))[:, None, None]
    return Batches(order[whose, np.minimum(turn, turns - 1)[:, :, None], at], counts)


def _orders(keys: Keys, rows: Counts, turns: int) -> Counts:
    """`turns` shuffles of each hospital's row numbers (n × turns × most rows).

    Beyond a hospital's own rows the numbers mean nothing.
    """
    most = int(rows.max())
    with np.errstate(over="ignore"):
        of_turn = _hashed(keys[:, None] + np.arange(1, turns + 1, dtype=np.uint64) * _GOLDEN)
        ranks = _hashed(of_turn[:, :, None] + np.arange(most, dtype=np.uint64) * _GOLDEN)
    padding = np.arange(most)[None, None, :] >= rows[:, None, None]
    ranks = np.where(padding, np.uint64(2**64 - 1), ranks)
    return np.argsort(ranks, axis=-1, kind="stable")


def _hashed(values: Keys) -> Keys:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): a bijection of 64 bits."""
    mixed = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
