"""Half: every element as a 16-bit float, behind one power of two for each tensor.

The power of two brings the largest magnitude of a tensor just below 2^15, so nothing overflows
and small changes keep their precision: scaling by it is exact. Law, for a tensor with the
largest magnitude m: |decoded − x| ≤ 2^-11 |x| + 2^-39 m. Two bytes an element.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from konsil.knowledge.compact import layout
from konsil.knowledge.named import NamedTensors
from konsil.protocol.errors import ManifestRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

VALUES, EXPONENTS = ":fp16", ":exponents"
_TOP = 15
_LARGEST = 32_752.0
"""The largest 16-bit float below 2^15: what would be rounded up to 2^15 might not fit its type."""
_EXPONENTS = (-1_000, 1_009)
"""Powers of two by which float64 is multiplied exactly, with 16-bit floats on the other side."""


def encode(model: Mapping[str, Tensor]) -> NamedTensors:
    """`:fp16` (elements) and `:exponents` (one int16 a tensor), and the counters.

    Raises `LocalProtocolError` on values that are not finite.
    """
    row, values, exponents = layout.flat(model), [], []
    for _, _, place in layout.spans(model):
        half, exponent = halved(row[place])
        values.append(half)
        exponents.append(exponent)
    return NamedTensors(
        {
            **layout.counters(model),
            VALUES: torch.cat(values) if values else torch.zeros(0, dtype=torch.float16),
            EXPONENTS: torch.tensor(exponents, dtype=torch.int16),
        }
    )


def decode(encoded: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> NamedTensors:
    """The model of `like`'s architecture that was encoded. Raises `ManifestRefused`."""
    layout.only(encoded, VALUES, EXPONENTS)
    values = layout.taken(encoded, VALUES, torch.float16, layout.elements(like))
    places = [place for _, _, place in layout.spans(like)]
    exponents = layout.taken(encoded, EXPONENTS, torch.int16, len(places))
    row = torch.empty(len(values), dtype=torch.float64)
    for place, exponent in zip(places, exponents.tolist(), strict=True):
        row[place] = whole(values[place], exponent)
    return layout.shaped(row, encoded, like)


def halved(row: Tensor) -> tuple[Tensor, int]:
    """A finite row as 16-bit floats, and the exponent of the power of two that they lack."""
    top = float(row.abs().max()) if row.numel() else 0.0
    exponent = max(math.frexp(top)[1] - _TOP, _EXPONENTS[0]) if top else 0
    scaled = row.double() * 2.0**-exponent
    return scaled.clamp(-_LARGEST, _LARGEST).to(torch.float16), exponent


def whole(half: Tensor, exponent: int) -> Tensor:
    """The float64 values of a row that `halved` made. Raises `ManifestRefused`."""
    if not _EXPONENTS[0] <= exponent <= _EXPONENTS[1]:
        raise ManifestRefused(f"a scale of 2^{exponent}")
    return half.double() * 2.0**exponent
