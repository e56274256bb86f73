"""Resizing: images and masks of any size brought to one, by the area that each pixel covers.

A new pixel is the mean of the old ones under it, weighted by overlap (box filter), so that making
smaller averages noise instead of skipping lines. A mask takes in each pixel the class that covers
most of it, and stays a mask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from konsil.knowledge.data.images import Pixels
    from konsil.knowledge.split import Labels


def resized(image: Pixels, height: int, width: int) -> Pixels:
    """An image (… × height × width) of this size; the mean grey stays, and so does its range."""
    if image.shape[-2:] == (height, width):
        return image
    down, across = _overlap(image.shape[-2], height), _overlap(image.shape[-1], width)
    scaled: Pixels = (down @ image.astype(np.float64) @ across.T).astype(np.float32)
    return np.clip(scaled, image.min(), image.max())


def resized_mask(mask: Labels, height: int, width: int, classes: int) -> Labels:
    """A mask (height × width) of this size; of equal shares the lower class wins."""
    if mask.shape == (height, width):
        return mask
    down, across = _overlap(mask.shape[0], height), _overlap(mask.shape[1], width)
    shares = np.stack([down @ (mask == label) @ across.T for label in range(classes)])
    # Rounding keeps equal shares equal.
    most: Labels = np.argmax(np.round(shares, 9), axis=0).astype(np.int64)
    return most


def _overlap(old: int, new: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Which share of each new pixel is covered by each old one (new × old); rows sum to one."""
    edges = np.arange(new + 1) * (old / new)
    low, high = edges[:-1, np.newaxis], edges[1:, np.newaxis]
    pixel = np.arange(old)
    cover = np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0, None)
    return np.asarray(cover / cover.sum(axis=1, keepdims=True))
