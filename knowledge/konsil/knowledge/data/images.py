"""Images: a cohort of pictures before it becomes a task: pixels, targets, patients, sites.

What every source of images yields, whatever its format. Pixels are float32 from 0 to 1, channels
first. Targets are one class an image, or one class a pixel (a mask, 0 = background); never both
in one cohort. A patient of one hospital never has the name of a patient of another: who reads a
source puts the site in front where the source does not. numpy only; `as_rows` alone needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from konsil.knowledge.task import Rows
from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from konsil.knowledge.split import Labels, Places

Pixels: TypeAlias = npt.NDArray[np.float32]
"""Images (n × channels × height × width), each value from 0 to 1."""


@dataclass(frozen=True)
class Images:
    """Images of patients, with what is to be learned of them.

    `inputs` (n × channels × height × width) float32 in 0 … 1; `targets` int64, either (n) class
    indices or (n × height × width) masks of class indices; `patients` and `sites` one name an
    image; `classes` by index, background first for masks. Raises `ConfigError` when these do not
    belong together.
    """

    inputs: Pixels
    targets: Labels
    patients: tuple[str, ...]
    classes: tuple[str, ...]
    sites: tuple[str, ...]

    def __post_init__(self) -> None:
        _expect_pixels(self.inputs)
        _expect_targets(self.targets, self.inputs, len(self.classes))
        count = len(self.inputs)
        if not count == len(self.targets) == len(self.patients) == len(self.sites):
            raise ConfigError(
                f"{count} images, {len(self.targets)} targets, {len(self.patients)} patient names "
                f"and {len(self.sites)} sites do not belong together"
            )
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise ConfigError(f"images need two or more different classes, not {self.classes}")

    def __len__(self) -> int:
        return len(self.patients)

    @property
    def masked(self) -> bool:
        """Whether the targets are masks, one class a pixel."""
        return self.targets.ndim == 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of each image."""
        channels, height, width = self.inputs.shape[1:]
        return channels, height, width

    def take(self, places: Places) -> Images:
        """The images at these places, copied."""
        return Images(
            inputs=self.inputs[places],
            targets=self.targets[places],
            patients=tuple(self.patients[place] for place in places),
            classes=self.classes,
            sites=tuple(self.sites[place] for place in places),
        )


def joined(cohorts: Sequence[Images]) -> Images:
    """The images of several cohorts, one after the other.

    Raises `ConfigError` when there is none, or when they differ in classes, in the shape of an
    image, or in what their targets are.
    """
    if not cohorts:
        raise ConfigError("no images to join")
    first = cohorts[0]
    for one in cohorts[1:]:
        if one.classes != first.classes:
            raise ConfigError(f"images of the classes {first.classes} and {one.classes} differ")
        if one.shape != first.shape or one.masked != first.masked:
            raise ConfigError(
                f"images of the shapes {first.shape} and {one.shape} (channels, height, width), "
                f"masks: {first.masked} and {one.masked}, cannot be joined"
            )
    return Images(
        inputs=np.concatenate([one.inputs for one in cohorts]),
        targets=np.concatenate([one.targets for one in cohorts]),
        patients=tuple(patient for one in cohorts for patient in one.patients),
        classes=first.classes,
        sites=tuple(site for one in cohorts for site in one.sites),
    )


def as_rows(images: Images) -> Rows:
    """The images as torch tensors of a task: float32 inputs, int64 targets; nothing is shared."""
    import torch

    return Rows(
        inputs=torch.from_numpy(images.inputs.copy()),
        targets=torch.from_numpy(images.targets.copy()),
        patients=images.patients,
    )


def _expect_pixels(inputs: Pixels) -> None:
    if inputs.dtype != np.float32 or inputs.ndim != 4:
        raise ConfigError(
            f"images are {inputs.dtype} of the shape {inputs.shape}",
            hint="float32 (images, channels, height, width) is needed",
        )
    # A value that is not a number fails both comparisons.
    if inputs.size and not (inputs.min() >= 0 and inputs.max() <= 1):
        raise ConfigError(
            "images hold a value outside 0 … 1, or one that is not a number",
            hint="divide 8-bit grey values by 255",
        )


def _expect_targets(targets: Labels, inputs: Pixels, classes: int) -> None:
    if targets.dtype != np.int64 or targets.ndim not in (1, 3):
        raise ConfigError(
            f"targets of images are {targets.dtype} of the shape {targets.shape}",
            hint="int64 (images), or for masks (images, height, width), is needed",
        )
    if targets.ndim == 3 and targets.shape[1:] != inputs.shape[2:]:
        raise ConfigError(
            f"masks of {targets.shape[1:]} pixels do not fit images of {inputs.shape[2:]}"
        )
    if targets.size and not (targets.min() >= 0 and targets.max() < classes):
        raise ConfigError(
            f"targets from {targets.min()} to {targets.max()} are no places in {classes} classes"
        )
