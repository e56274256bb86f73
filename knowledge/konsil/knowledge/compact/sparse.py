"""Sparse: only the elements of largest magnitude (top-k), as 16-bit floats; the rest is 0.

They are chosen over the whole model, not tensor by tensor; of equal magnitudes the earlier goes
first, so the same model gives the same bytes. With δ = k / n for k of n elements:
‖decoded − x‖² ≤ (1 − δ) ‖x‖² + rounding (Stich, Cordonnier and Jaggi 2018, definition 2.1), where
each sent element keeps the bound of `half` with m the largest of all. So it fits changes
and vectors, whose rest is made good later or does not matter, and never a model itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from konsil.knowledge.compact import half, layout, positions
from konsil.knowledge.named import NamedTensors
from konsil.protocol.errors import ConfigError, ManifestRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

VALUES, EXPONENT = ":fp16", ":exponents"
SHARE = 0.048
"""The share of elements that is sent unless another is asked for: some 3.3 % of the bytes of
float32, compressed."""


def encode(model: Mapping[str, Tensor], *, share: float = SHARE) -> NamedTensors:
    """`:fp16` (k elements), `:exponents` (one) and `:gaps` or `:bits`, and the counters.

    k is `share` of the elements, rounded up; elements that would be sent as 0 are left out.
    Raises `ConfigError` for a share that is not above 0 and at most 1, `LocalProtocolError` on
    values that are not finite.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"a share of {share} cannot be sent", hint="0.04, or up to 1")
    row = layout.flat(model)
    values, exponent = half.halved(row)
    places = _largest(row.abs().numpy(), math.ceil(share * len(row)))
    places = places[values.numpy()[places] != 0]
    name, octets = positions.write(places, len(row))
    return NamedTensors(
        {
            **layout.counters(model),
            VALUES: values[torch.from_numpy(places)],
            EXPONENT: torch.tensor([exponent], dtype=torch.int16),
            name: torch.from_numpy(octets),
        }
    )


def decode(encoded: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> NamedTensors:
    """The change of `like`'s architecture that was encoded. Raises `ManifestRefused`."""
    name = positions.GAPS if positions.GAPS in encoded else positions.BITS
    layout.only(encoded, VALUES, EXPONENT, name)
    values = layout.taken(encoded, VALUES, torch.float16)
    octets = layout.taken(encoded, name, torch.uint8).numpy()
    exponent = int(layout.taken(encoded, EXPONENT, torch.int16, 1)[0])
    length = layout.elements(like)
    places = positions.read(name, octets, len(values), length)
    if bool((values == 0).any()):
        raise ManifestRefused("an element that is sent although it is 0")
    row = torch.zeros(length, dtype=torch.float64)
    row[torch.from_numpy(places)] = half.whole(values, exponent)
    return layout.shaped(row, encoded, like)


def _largest(magnitudes: np.ndarray[tuple[int], np.dtype[np.floating]], k: int) -> positions.Places:
    """The ascending places of the k largest; of equal ones those that come first."""
    if k >= len(magnitudes):
        return np.arange(len(magnitudes), dtype=np.int64)
    least = np.partition(magnitudes, len(magnitudes) - k)[len(magnitudes) - k]
    above = np.flatnonzero(magnitudes > least)
    equal = np.flatnonzero(magnitudes == least)[: k - len(above)]
    return np.sort(np.concatenate([above, equal])).astype(np.int64)
