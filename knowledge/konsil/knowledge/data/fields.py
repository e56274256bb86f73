"""Fields: smooth random surfaces from 0 to 1, for backgrounds, textures and bias fields.

Random numbers on a coarse grid of knots, interpolated by Gaussian weights that sum to one at each
pixel, so that no field leaves the range of its knots. The fewer knots, the smoother.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from konsil.knowledge.data.images import Pixels


def smooth_fields(
    count: int, height: int, width: int, knots: int, random: np.random.Generator
) -> Pixels:
    """`count` fields (count × height × width), each stretched to reach both 0 and 1."""
    drawn = random.random((count, knots, knots), dtype=np.float32)
    fields = _weights(height, knots) @ drawn @ _weights(width, knots).T
    low = fields.min(axis=(1, 2), keepdims=True)
    high = fields.max(axis=(1, 2), keepdims=True)
    stretched: Pixels = (fields - low) / np.maximum(high - low, np.float32(1e-6))
    return np.clip(stretched, 0, 1)


def _weights(pixels: int, knots: int) -> Pixels:
    """How much each knot counts at each pixel (pixels × knots); each row sums to one."""
    at = np.linspace(0, knots - 1, pixels, dtype=np.float32)[:, np.newaxis]
    near = np.exp(-((at - np.arange(knots, dtype=np.float32)) ** 2) / np.float32(0.5))
    rows: Pixels = (near / near.sum(axis=1, keepdims=True)).astype(np.float32)
    return rows
