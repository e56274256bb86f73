"""Anatomy: what lies around a generated lesion, in three kinds of picture.

A `Modality` draws a scene (background, one organ, structures that are no lesion) and knows how a
lesion looks in it. ``skin``: RGB, skin tones from light to dark, hairs, lesions browner than
their surroundings. ``ct``: one channel, a body with a liver-like organ, spine and vessels,
lesions brighter by .22. ``mri``: T1, T1 with contrast, T2 and FLAIR of a head with ventricles;
lesions dark in T1, bright in the others, so that no single channel tells them from fluid.
Pixels are 64-bit here and are cut to 0 … 1 at the end; lengths are in pixels, for 64 a side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from konsil.knowledge.data.fields import smooth_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from konsil.knowledge.data.scanners import Scanner

Grid: TypeAlias = npt.NDArray[np.float64]
"""One channel (height × width), or an image of several (channels × height × width)."""

_LIGHT_SKIN = np.array([0.93, 0.76, 0.66])
_DARK_SKIN = np.array([0.42, 0.28, 0.21])
_PIGMENT = np.array([0.40, 0.52, 0.55])
"""How much of red, green and blue a lesion of full strength takes away."""

_LESION_CT = 0.22
_LESION_MRI = np.array([-0.14, 0.16, 0.20, 0.24])


@dataclass(frozen=True)
class Scene:
    """A picture before its lesions, and the organ (an ellipse) in which they may lie."""

    image: Grid
    centre: tuple[float, float]
    """Row and column of the organ's middle."""
    axes: tuple[float, float]
    """Half the organ's height and width, in pixels."""


@dataclass(frozen=True)
class Modality:
    """One kind of picture."""

    name: str
    channels: tuple[str, ...]
    draw: Callable[[int, np.random.Generator], Scene]
    """A scene of so many pixels a side."""
    with_lesion: Callable[[Grid, Grid, np.random.Generator], Grid]
    """An image with lesions as strong as a cover (height × width, 0 = none, about 1 = full)."""
    photograph: bool = False
    """Whether it is taken with a camera, which never stores bright as dark."""

    def fitting(self, scanner: Scanner) -> Scanner:
        """The machine, without what this kind of picture does not know."""
        return replace(scanner, inverted=False) if self.photograph else scanner


def _skin(size: int, random: np.random.Generator) -> Scene:
    tone = random.random()
    colour = (1 - tone) * _LIGHT_SKIN + tone * _DARK_SKIN
    shade = (
        1 + 0.16 * (_field(size, 3, random) - 0.5) + 0.10 * (_field(size, size // 3, random) - 0.5)
    )
    image = colour[:, np.newaxis, np.newaxis] * shade
    for _ in range(int(random.integers(0, 5))):
        hair = _hair(size, random)
        image = image * (1 - 0.6 * hair) + 0.06 * hair
    middle = size / 2 + random.uniform(-3, 3, 2) * size / 64
    return Scene(image, (middle[0], middle[1]), (20 * size / 64, 20 * size / 64))


def _on_skin(image: Grid, cover: Grid, random: np.random.Generator) -> Grid:
    depth = random.uniform(0.75, 1.1)
    return image * (1 - depth * _PIGMENT[:, np.newaxis, np.newaxis] * cover)


def _ct(size: int, random: np.random.Generator) -> Scene:
    unit = size / 64
    image = np.full((size, size), 0.05)
    body = _ellipse(size, (size / 2, size / 2), (28 * unit, 30 * unit))
    image += body * (0.10 + 0.2 * _field(size, 4, random))
    axes = (random.uniform(13, 18) * unit, random.uniform(15, 22) * unit)
    centre = (size / 2 + random.uniform(-5, 1) * unit, size / 2 + random.uniform(-4, 4) * unit)
    organ = _ellipse(size, centre, axes)
    image = image * (1 - organ) + organ * (0.46 + 0.08 * _field(size, 5, random))
    for _ in range(int(random.integers(2, 5))):  # vessels: bright as lesions, but small
        place = (
            centre[0] + random.uniform(-0.8, 0.8) * axes[0],
            centre[1] + random.uniform(-0.8, 0.8) * axes[1],
        )
        image += 0.2 * organ * _disc(size, place, random.uniform(0.8, 1.6) * unit)
    spine = _disc(size, (56 * unit, size / 2), random.uniform(3.5, 5) * unit)
    image = image * (1 - spine) + 0.9 * spine
    return Scene(image[np.newaxis], centre, axes)


def _in_ct(image: Grid, cover: Grid, random: np.random.Generator) -> Grid:
    return image + random.uniform(0.8, 1.2) * _LESION_CT * cover


def _mri(size: int, random: np.random.Generator) -> Scene:
    unit = size / 64
    centre = (size / 2 + random.uniform(-2, 2) * unit, size / 2 + random.uniform(-2, 2) * unit)
    axes = (random.uniform(22, 25) * unit, random.uniform(19, 22) * unit)
    skull = _ellipse(size, centre, (axes[0] + 4 * unit, axes[1] + 4 * unit))
    brain = _ellipse(size, centre, axes)
    white = _field(size, 9, random)  # share of white matter
    fluid = np.zeros((size, size))
    for side in (-1, 1):
        place = (centre[0] - 1 * unit, centre[1] + side * random.uniform(3.5, 5) * unit)
        wide, high = random.uniform(1.6, 2.8) * unit, random.uniform(5, 8) * unit
        fluid = np.maximum(fluid, _ellipse(size, place, (high, wide)))
    # Scalp, grey matter, white matter and fluid in T1, T1 with contrast, T2 and FLAIR.
    tissue = (
        (0.75, 0.40, 0.58, 0.12),
        (0.80, 0.42, 0.58, 0.12),
        (0.55, 0.55, 0.42, 0.95),
        (0.55, 0.52, 0.42, 0.10),
    )
    channels = []
    for scalp, grey, matter, water in tissue:
        inside = grey + (matter - grey) * white
        head = 0.04 + (skull - brain) * (scalp - 0.04) + brain * (inside - 0.04)
        channels.append(head * (1 - fluid) + water * fluid)
    return Scene(np.stack(channels), centre, (axes[0] - 2 * unit, axes[1] - 2 * unit))


def _in_mri(image: Grid, cover: Grid, random: np.random.Generator) -> Grid:
    change = _LESION_MRI * random.uniform(0.8, 1.25)
    # With contrast agent the rim shines, the middle less.
    rim = cover * (1.6 - np.clip(cover, 0, 1))
    covers = np.stack([cover, rim, cover, cover])
    return image + change[:, np.newaxis, np.newaxis] * covers


MODALITIES: Mapping[str, Modality] = {
    "skin": Modality("skin", ("red", "green", "blue"), _skin, _on_skin, photograph=True),
    "ct": Modality("ct", ("density",), _ct, _in_ct),
    "mri": Modality("mri", ("t1", "t1_contrast", "t2", "flair"), _mri, _in_mri),
}


def _field(size: int, knots: int, random: np.random.Generator) -> Grid:
    field: Grid = smooth_fields(1, size, size, knots, random)[0].astype(np.float64)
    return field


def _ellipse(size: int, centre: tuple[float, float], axes: tuple[float, float]) -> Grid:
    """1 inside, 0 outside, with a border of about one pixel."""
    y, x = np.ogrid[:size, :size]
    reach = np.hypot((y - centre[0]) / axes[0], (x - centre[1]) / axes[1])
    cover: Grid = 0.5 + (1 - reach) * min(axes)
    return np.clip(cover, 0, 1)


def _disc(size: int, centre: tuple[float, float], radius: float) -> Grid:
    return _ellipse(size, centre, (radius, radius))


def _hair(size: int, random: np.random.Generator) -> Grid:
    """A thin dark arc across the picture."""
    y, x = (axis / size - 0.5 for axis in np.ogrid[:size, :size])
    turn = random.uniform(0, np.pi)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    bow = random.uniform(-0.8, 0.8) * along**2 + random.uniform(-0.45, 0.45)
    away: Grid = np.abs(across - bow) * size
    return np.clip(1 - away / 0.9, 0, 1)
