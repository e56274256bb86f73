"""Question: unlabelled inputs on which peers of any architecture can be compared.

A question is a grid of integers, not of floats, so that two machines that hold the same
question hold the same bytes. Images are grey levels: ``round(255 · x)`` of x in [0, 1], uint8.
Tables are standardised values: ``round(x / 1e-4)`` as int32. Inputs are computed from the
levels, so what a model is asked is what the digest names. The digest covers kind, shape, levels
and the classes in their order: another proxy set or another order of classes is another
question, and its answers are refused. A question holds no label and should hold no patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from konsil.protocol.digest import Digest, tagged
from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

Kind: TypeAlias = Literal["images", "table"]
Levels: TypeAlias = npt.NDArray[np.uint8] | npt.NDArray[np.int32]

TABLE_STEP = 1e-4
"""The grid of tabular values, in standard deviations."""

_STORED: dict[Kind, np.dtype[Any]] = {"images": np.dtype("u1"), "table": np.dtype("<i4")}
_STEPS = {"images": 1 / 255, "table": TABLE_STEP}


@dataclass(frozen=True, eq=False)
class Question:
    """Unlabelled rows as integers `levels` (n × …), and the names of the classes in order.

    Whoever hands `levels` in must not write to them any more. Raises `ConfigError` when there
    are no rows, fewer than two classes, or levels of another type than the kind's.
    """

    kind: Kind
    levels: Levels
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.kind not in _STORED or self.levels.dtype != _STORED[self.kind]:
            raise ConfigError(f"a question of kind {self.kind!r} with {self.levels.dtype} levels")
        if self.levels.ndim < 2 or self.levels.size == 0:
            raise ConfigError(f"a question of shape {self.levels.shape} asks nothing")
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise ConfigError("a question needs two or more different classes")

    def __len__(self) -> int:
        return len(self.levels)

    @property
    def inputs(self) -> Tensor:
        """The rows as float32 (n × …): the levels times the step of their kind."""
        values = self.levels.astype(np.float64) * _STEPS[self.kind]
        return torch.from_numpy(values.astype(np.float32))

    @property
    def digest(self) -> Digest:
        """The name of this question, the same on every machine."""
        return tagged(
            "question",
            self.kind.encode(),
            ",".join(str(length) for length in self.levels.shape).encode(),
            self.levels.astype(_STORED[self.kind], order="C").tobytes(),
            *(name.encode() for name in self.classes),
        )


def images(values: npt.ArrayLike, classes: tuple[str, ...]) -> Question:
    """A question of images with values in [0, 1] (n × channels × height × width).

    Raises `ConfigError` when a value is outside, or not a number.
    """
    grey = np.asarray(values, dtype=np.float64)
    if not np.all((grey >= 0) & (grey <= 1)):
        raise ConfigError(
            "images of a question have values outside 0 … 1", hint="divide grey levels by 255"
        )
    return Question("images", np.rint(grey * 255).astype(np.uint8), classes)


def table(values: npt.ArrayLike, classes: tuple[str, ...]) -> Question:
    """A question of standardised table rows (n × columns).

    Raises `ConfigError` when a value is not finite or above 1e5 standard deviations.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if not np.all(np.abs(numbers) <= 1e5):
        raise ConfigError(
            "a table of a question has values that are missing or beyond 1e5",
            hint="standardise the columns, and fill or drop missing values",
        )
    return Question("table", np.rint(numbers / TABLE_STEP).astype("<i4"), classes)
