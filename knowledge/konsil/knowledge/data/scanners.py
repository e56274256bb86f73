"""Scanner: how one hospital's machine turns the same anatomy into other grey values.

A `Scanner` is a frozen record of what differs between machines; `scanned` applies it. Every step
is a pure function over pixels (n × channels × height × width) in 0 … 1 and yields such pixels;
what is random comes from a generator that is handed in. No step moves a pixel, so that masks stay
as they are. The order is that of a signal on its way: bias field, gamma, contrast, noise, the blur
that smooths both, and the inversion of a file that stores bright as dark (MONOCHROME1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from konsil.knowledge.data.fields import smooth_fields
from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from konsil.knowledge.data.images import Pixels

_BIAS_KNOTS = 3
"""A bias field varies over the whole image: three knots a side."""


@dataclass(frozen=True)
class Scanner:
    """What a machine does to an image; the defaults do nothing. Raises `ConfigError`."""

    name: str
    gamma: float = 1.0
    """Exponent on values in 0 … 1: below 1 brightens, above 1 darkens."""
    contrast: float = 1.0
    """Factor on the distance from the middle grey, 0.5."""
    noise: float = 0.0
    """Standard deviation of Gaussian noise, independent for each pixel and channel."""
    blur: bool = False
    """Whether each pixel becomes the mean of its 3 × 3 neighbours."""
    bias: float = 0.0
    """Depth of a smooth multiplicative field, another for each image: 1 ± bias."""
    inverted: bool = False
    """Whether bright is stored as dark."""

    def __post_init__(self) -> None:
        if not (self.gamma > 0 and self.contrast >= 0 and self.noise >= 0 and 0 <= self.bias < 1):
            raise ConfigError(
                f"scanner {self.name!r}: gamma > 0, contrast and noise >= 0, 0 <= bias < 1 needed"
            )


IDENTITY = Scanner("plain")

SCANNERS = (
    Scanner("north", noise=0.03),
    Scanner("east", gamma=0.5, contrast=0.7, noise=0.08, blur=True, bias=0.3),
    Scanner("south", gamma=1.8, noise=0.05),
    Scanner("west", contrast=0.5, noise=0.10, blur=True, bias=0.5, inverted=True),
    Scanner("abroad", gamma=0.7, contrast=1.2, noise=0.06, bias=0.4),
)
"""Five machines for generated images; the last is for a hospital that joins nobody's training."""

XRAY_SCANNERS = (
    IDENTITY,
    Scanner("bright", gamma=0.5),
    Scanner("dark_noisy", gamma=2.0, noise=0.05),
    Scanner("soft", contrast=0.5, blur=True),
)
"""Four machines for the simulated hospitals of one x-ray collection."""


def scanned(inputs: Pixels, scanner: Scanner, random: np.random.Generator) -> Pixels:
    """The images as this machine shows them, in 0 … 1; the machine `IDENTITY` changes no bit."""
    seen = inputs
    if scanner.bias:
        seen = with_bias(seen, scanner.bias, random)
    if scanner.gamma != 1:
        seen = with_gamma(seen, scanner.gamma)
    if scanner.contrast != 1:
        seen = with_contrast(seen, scanner.contrast)
    if scanner.noise:
        seen = with_noise(seen, scanner.noise, random)
    if scanner.blur:
        seen = blurred(seen)
    return inverted(seen) if scanner.inverted else seen


def with_gamma(inputs: Pixels, exponent: float) -> Pixels:
    """Each value to the power of `exponent`; black and white stay."""
    return np.power(inputs, np.float32(exponent))


def with_contrast(inputs: Pixels, factor: float) -> Pixels:
    """Each value's distance from 0.5 multiplied, cut to 0 … 1."""
    return _cut(np.float32(0.5) + np.float32(factor) * (inputs - np.float32(0.5)))


def with_noise(inputs: Pixels, deviation: float, random: np.random.Generator) -> Pixels:
    """Gaussian noise of this standard deviation added, cut to 0 … 1."""
    drawn = random.standard_normal(inputs.shape, dtype=np.float32)
    return _cut(inputs + np.float32(deviation) * drawn)


def with_bias(inputs: Pixels, depth: float, random: np.random.Generator) -> Pixels:
    """Each image times a smooth field of its own in 1 ± `depth`, cut to 0 … 1.

    All channels of an image have the same field, as they come from the same coil or lamp.
    """
    count, _, height, width = inputs.shape
    fields = 2 * smooth_fields(count, height, width, _BIAS_KNOTS, random) - 1
    return _cut(inputs * (1 + np.float32(depth) * fields[:, np.newaxis]))


def blurred(inputs: Pixels) -> Pixels:
    """The mean of each pixel's 3 × 3 neighbourhood; the rim is continued outwards."""
    height, width = inputs.shape[2:]
    wide = np.pad(inputs, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    rows = wide[:, :, :height] + wide[:, :, 1 : height + 1] + wide[:, :, 2:]
    total = rows[..., :width] + rows[..., 1 : width + 1] + rows[..., 2:]
    return _cut(total / np.float32(9))


def inverted(inputs: Pixels) -> Pixels:
    """Bright becomes dark, as in a file whose photometric interpretation is MONOCHROME1."""
    return np.float32(1) - inputs


def _cut(values: Pixels) -> Pixels:
    return np.clip(values, 0, 1)
