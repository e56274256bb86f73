"""Overlap: how well predicted masks cover the true ones. numpy and scipy, no torch.

Every figure is of single images and then averaged. Where an image has a class neither in truth
nor in prediction, there is nothing to measure and it is left out: counting it as perfect would
praise a model that never predicts anything. For the same reason the share of pixels that are
predicted as foreground is always told, beside the true share. Class 0 is the background.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable

Masks: TypeAlias = npt.NDArray[np.integer]
"""Classes of pixels (images × height × width)."""
Region: TypeAlias = npt.NDArray[np.bool_]
"""The pixels of one image that are of one class (height × width)."""

METRICS = ("dice", "hausdorff95", "foreground", "true_foreground")


def evaluate(predicted: Masks, targets: Masks, classes: int) -> dict[str, float]:
    """Every metric of `METRICS` that these images can give, by name.

    ``dice`` (0 … 1) and ``hausdorff95`` (pixels, lower is better) are means over the foreground
    classes; ``foreground`` and ``true_foreground`` are shares of all pixels.
    """
    if len(targets) == 0:
        return {}
    found = {
        "dice": _known_mean(dice_of_classes(predicted, targets, classes)),
        "hausdorff95": _known_mean(hausdorff95_of_classes(predicted, targets, classes)),
        "foreground": foreground_share(predicted),
        "true_foreground": foreground_share(targets),
    }
    return {name: value for name, value in found.items() if value is not None}


def dice_of_classes(predicted: Masks, targets: Masks, classes: int) -> tuple[float | None, ...]:
    """Each foreground class's mean Dice over images; None where no image has it or shows it."""
    return tuple(_mean_over_images(dice, predicted, targets, k) for k in range(1, classes))


def hausdorff95_of_classes(
    predicted: Masks, targets: Masks, classes: int
) -> tuple[float | None, ...]:
    """Each foreground class's mean `hausdorff95` over images, as `dice_of_classes`."""
    return tuple(_mean_over_images(hausdorff95, predicted, targets, k) for k in range(1, classes))


def foreground_share(masks: Masks) -> float:
    """The share of pixels that are not background; 0 without pixels."""
    return float(np.mean(masks != 0)) if masks.size else 0.0


def dice(one: Region, other: Region) -> float | None:
    """Twice the common pixels over the pixels of both (Dice, 1945); None if both are empty."""
    sizes = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / sizes if sizes else None


def hausdorff95(one: Region, other: Region) -> float | None:
    """The 95th percentile Hausdorff distance of two regions' edges, in pixels.

    From each edge pixel of a region the distance to the nearest edge pixel of the other; of both
    directions the 95th percentile (linearly interpolated), and of these the larger. Edge pixels
    have one of their four neighbours outside the region, or lie at the border of the image.
    None if both regions are empty; the diagonal of the image if one is.
    """
    if not one.any() and not other.any():
        return None
    if not one.any() or not other.any():
        return math.hypot(*one.shape)
    edges = _edge(one), _edge(other)
    return max(_directed(edges[0], edges[1]), _directed(edges[1], edges[0]))


def _edge(region: Region) -> Region:
    from scipy.ndimage import binary_erosion

    return np.asarray(region & ~binary_erosion(region))


def _directed(start: Region, end: Region) -> float:
    from scipy.ndimage import distance_transform_edt

    return float(np.percentile(distance_transform_edt(~end)[start], 95))


def _mean_over_images(
    measure: Callable[[Region, Region], float | None], predicted: Masks, targets: Masks, k: int
) -> float | None:
    pairs = zip(predicted == k, targets == k, strict=True)
    return _known_mean(tuple(measure(one, other) for one, other in pairs))


def _known_mean(values: tuple[float | None, ...]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
