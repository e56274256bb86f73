"""U-Net: the small network that gives every pixel of an image its class.

Ronneberger, Fischer and Brox, 2015, with padding, so that outputs have the size of the inputs,
and with nearest-neighbour enlargement in place of transposed convolution. Any height and width;
initial weights come from torch's random numbers only.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn

from konsil.knowledge.imaging.layers import Norm, block, halved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

WIDTHS = (8, 16, 32)
"""Channels at full size, at half, at a quarter: 29,930 weights for colour and two classes."""


class UNet(nn.Module):
    """Images (n, channels, h, w) to one value a class and pixel (n, classes, h, w)."""

    def __init__(
        self, channels: int, classes: int, widths: Sequence[int] = WIDTHS, norm: Norm = "group"
    ) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            block(before, width, norm, repeats=2) for before, width in pairwise((channels, *widths))
        )
        self.up = nn.ModuleList(
            block(above + width, width, norm, repeats=2)
            for width, above in reversed(list(pairwise(widths)))
        )
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """One value a class and pixel, before the softmax."""
        features, skipped = images, []
        for place, part in enumerate(self.down):
            features = part(halved(features) if place else features)
            skipped.append(features)
        for part, beside in zip(self.up, reversed(skipped[:-1]), strict=True):
            larger = nn.functional.interpolate(features, size=beside.shape[2:], mode="nearest")
            features = part(torch.cat([larger, beside], dim=1))
        outputs: Tensor = self.head(features)
        return outputs
