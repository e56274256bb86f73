"""Eight: every element as an 8-bit integer times the scale of its row.

A row is a slice along the first dimension (an output unit or channel) where that has at least
`ROW` elements, else the whole tensor; its scale is its largest magnitude over 127, in float32.
Rounding is to the nearest, which has half the error of stochastic rounding and needs no random
numbers; what it loses is for error feedback to make good. Law, for a row with the largest
magnitude m, in float32 or wider: |decoded − x| ≤ m / 254 · (1 + 2^-14) + 2^-142, and 0 stays 0.
One byte an element, four a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from konsil.knowledge.compact import layout
from konsil.knowledge.named import NamedTensors
from konsil.protocol.errors import LocalProtocolError, ManifestRefused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

VALUES, SCALES = ":int8", ":scales"
ROW = 64
"""Elements of a slice that are worth a scale of their own (6 % of its bytes)."""
_MOST = 127


def encode(model: Mapping[str, Tensor]) -> NamedTensors:
    """`:int8` (elements) and `:scales` (one float32 a row), and the counters.

    Raises `LocalProtocolError` on values that are not finite, or too large for a scale.
    """
    row, values, scales = layout.flat(model), [], []
    for grid in _grids(row, model):
        scale = (grid.double().abs().amax(dim=1) / _MOST).float()
        safe = torch.where(scale > 0, scale, torch.ones_like(scale)).double()
        steps = (grid.double() / safe[:, None]).round()
        values.append(torch.where(scale[:, None] > 0, steps, 0.0).clamp(-_MOST, _MOST))
        scales.append(scale)
    together = torch.cat(scales) if scales else torch.zeros(0)
    if not bool(torch.isfinite(together).all()):
        raise LocalProtocolError("a value is too large to be encoded in 8 bits")
    integers = [one.to(torch.int8).reshape(-1) for one in values]
    return NamedTensors(
        {
            **layout.counters(model),
            VALUES: torch.cat(integers) if integers else torch.zeros(0, dtype=torch.int8),
            SCALES: together,
        }
    )


def decode(encoded: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> NamedTensors:
    """The model of `like`'s architecture that was encoded. Raises `ManifestRefused`."""
    layout.only(encoded, VALUES, SCALES)
    values = layout.taken(encoded, VALUES, torch.int8, layout.elements(like))
    grids = list(_grids(values, like))
    scales = layout.taken(encoded, SCALES, torch.float32, sum(map(len, grids)))
    if bool((values < -_MOST).any()) or not bool((torch.isfinite(scales) & (scales >= 0)).all()):
        raise ManifestRefused("a scale that is no magnitude, or an integer beyond ±127")
    row, begin, first = torch.empty(len(values), dtype=torch.float64), 0, 0
    for grid in grids:
        scale = scales[first : first + len(grid)].double()
        row[begin : begin + grid.numel()] = (grid.double() * scale[:, None]).reshape(-1)
        begin, first = begin + grid.numel(), first + len(grid)
    return layout.shaped(row, encoded, like)


def _grids(row: Tensor, like: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """The elements of every tensor that has any: rows of one scale × elements."""
    for _, tensor, place in layout.spans(like):
        if tensor.numel():
            own = tensor.ndim >= 2 and tensor.numel() >= ROW * tensor.shape[0]
            yield row[place].reshape(tensor.shape[0] if own else 1, -1)
