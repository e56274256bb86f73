"""Augment: seeded changes of training images that do not change what is in them.

A batch goes in, a batch comes out; every image is drawn for by itself, and a mask goes every way
that its image goes. All chance comes from the generator that is handed in. What a task augments
is part of its options and so of its recipe's digest. Pixels stay within 0 … 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import torch
from msgspec import Meta

if TYPE_CHECKING:
    from torch import Generator, Tensor

_Size = Annotated[int, Meta(ge=0)]
_Reach = Annotated[float, Meta(ge=0, le=2)]


class Augmentation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is changed, and how far; by default nothing."""

    flip: bool = False
    """Left and right, and top and bottom, each with probability one half."""
    turn: bool = False
    """Quarter turns; half turns only where height and width differ."""
    shift: _Size = 0
    """At most so many pixels each way; the edge pixels are repeated."""
    crop: _Size = 0
    """A random window of so many pixels each way, for networks of any size; 0 is the whole."""
    gain: _Reach = 0.0
    """Brightness times ``exp(u)``, u uniform within plus or minus this."""
    gamma: _Reach = 0.0
    """Pixels to the power ``exp(u)``, u uniform within plus or minus this."""

    @property
    def active(self) -> bool:
        """Whether it changes anything."""
        return self != Augmentation()


def augmented(
    inputs: Tensor, targets: Tensor, wish: Augmentation, generator: Generator
) -> tuple[Tensor, Tensor]:
    """A changed copy of images (n, channels, h, w) and of their targets (n) or (n, h, w)."""
    masks = targets[:, None] if targets.ndim == 3 else None
    if wish.flip:
        for axis in (2, 3):
            chosen = torch.rand(len(inputs), generator=generator) < 0.5
            inputs = _where(chosen, inputs.flip(axis), inputs)
            masks = None if masks is None else _where(chosen, masks.flip(axis), masks)
    if wish.turn:
        turns = torch.randint(4, (len(inputs),), generator=generator)
        inputs = _turned(inputs, turns)
        masks = None if masks is None else _turned(masks, turns)
    if wish.shift or wish.crop:
        rows = _window(inputs.shape[2], wish, len(inputs), generator)
        columns = _window(inputs.shape[3], wish, len(inputs), generator)
        inputs = _at(inputs, rows, columns)
        masks = None if masks is None else _at(masks, rows, columns)
    inputs = _rescaled(inputs, wish, generator)
    return inputs, targets if masks is None else masks[:, 0]


def _where(chosen: Tensor, changed: Tensor, kept: Tensor) -> Tensor:
    return torch.where(chosen.to(kept.device)[:, None, None, None], changed, kept)


def _turned(images: Tensor, turns: Tensor) -> Tensor:
    """Image i turned by `turns[i]` quarters; by twice as many where they are not square."""
    each = 1 if images.shape[2] == images.shape[3] else 2
    found = images
    for quarters in range(1, 4):
        if quarters * each % 4:
            found = _where(turns == quarters, images.rot90(quarters * each, (2, 3)), found)
    return found


def _window(length: int, wish: Augmentation, count: int, generator: Generator) -> Tensor:
    """(count, window): which rows (or columns) of each image are seen, in order."""
    window = min(wish.crop, length) if wish.crop else length
    room = length - window
    first = torch.randint(room + 1, (count,), generator=generator)
    moved = torch.randint(-wish.shift, wish.shift + 1, (count,), generator=generator)
    places = (first + moved)[:, None] + torch.arange(window)
    return places.clamp(0, length - 1)


def _at(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    which = torch.arange(len(images), device=images.device)[:, None, None]
    rows, columns = rows.to(images.device)[:, :, None], columns.to(images.device)[:, None, :]
    return images.movedim(1, -1)[which, rows, columns].movedim(-1, 1)


def _rescaled(images: Tensor, wish: Augmentation, generator: Generator) -> Tensor:
    def drawn(reach: float) -> Tensor:
        u = (2 * torch.rand(len(images), generator=generator) - 1) * reach
        return u.exp().to(images)[:, None, None, None]

    if wish.gamma:
        images = images.clamp(0, 1) ** drawn(wish.gamma)
    if wish.gain:
        images = (images * drawn(wish.gain)).clamp(0, 1)
    return images
