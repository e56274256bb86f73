"""Layers: the one block of which our image networks are made, and how it normalises.

Group normalisation (Wu and He, 2018) by default: it keeps no statistics, so models of unlike
scanners can be averaged. Batch normalisation is there for comparison; its statistics are never
mixed and have to be estimated anew after every exchange.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

Norm: TypeAlias = Literal["group", "batch"]

GROUPS = 4
"""Groups of channels that are normalised together, or fewer where the width needs it."""


def block(inputs: int, width: int, norm: Norm, repeats: int = 1) -> nn.Sequential:
    """`repeats` times: convolution 3 × 3 that keeps the size, normalisation, ReLU."""
    layers: list[nn.Module] = []
    for number in range(repeats):
        before = inputs if number == 0 else width
        layers += [
            nn.Conv2d(before, width, 3, padding=1, bias=False),
            nn.GroupNorm(math.gcd(width, GROUPS), width)
            if norm == "group"
            else nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


def halved(features: Tensor) -> Tensor:
    """Height and width halved, rounded up, by the largest value; one pixel stays one pixel."""
    return nn.functional.max_pool2d(features, 2, ceil_mode=True)
