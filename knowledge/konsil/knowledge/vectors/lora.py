"""LoRA: a small adapter of a large frozen base, merged into its weights for use.

Beside the weight `W` of a layer, ``<layer>.weight``, an adapter has `A`, ``<layer>.lora_A``
(r × inputs), and `B`, ``<layer>.lora_B`` (outputs × r), and the layer computes with
`W + (alpha / r) B A` (Hu et al., 2022). Only the adapter travels; the base is named by its
digest. The mean of several `A` and `B` is not the mean of what they do, so adapters of several
hospitals are merged as data vectors: `update` of each, then a rule of
`konsil.knowledge.vectors.merging`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from konsil.knowledge.named import NamedTensors
from konsil.knowledge.vectors.vector import applied
from konsil.protocol.errors import ConfigError, ManifestRefused

if TYPE_CHECKING:
    from torch import Tensor

DOWN, UP, WEIGHT = ".lora_A", ".lora_B", ".weight"


def update(base: NamedTensors, adapter: NamedTensors, alpha: float) -> NamedTensors:
    """The data vector `(alpha / r) B A` of every adapted weight, shaped as in the base.

    A convolution's weight (out, in, …) is adapted as the matrix (out, in · …). Raises
    `ConfigError` for an `alpha` that is not positive, and `ManifestRefused` for a tensor that
    is no half of a pair, a layer that the base lacks, or shapes that do not fit.
    """
    if not 0 < alpha < math.inf:
        raise ConfigError(f"alpha = {alpha} of an adapter is not positive", hint="alpha = rank")
    stray = [name for name in adapter if not name.endswith((DOWN, UP))]
    if stray:
        raise ManifestRefused(f"{min(stray)!r} is neither A nor B of an adapter")
    layers = sorted({name.removesuffix(DOWN).removesuffix(UP) for name in adapter})
    return NamedTensors({layer + WEIGHT: _product(layer, base, adapter, alpha) for layer in layers})


def merged(base: NamedTensors, adapter: NamedTensors, alpha: float) -> NamedTensors:
    """The base with the adapter in its weights; raises as `update` and `applied` do."""
    return applied(base, update(base, adapter, alpha))


def _product(layer: str, base: NamedTensors, adapter: NamedTensors, alpha: float) -> Tensor:
    weight, down, up = (
        base.get(layer + WEIGHT), adapter.get(layer + DOWN), adapter.get(layer + UP)
    )  # fmt: skip
    if weight is None:
        raise ManifestRefused(f"the base has no weight of layer {layer!r}")
    if down is None or up is None:
        raise ManifestRefused(f"the adapter has only one of A and B of layer {layer!r}")
    outputs = weight.shape[0] if weight.ndim >= 2 else 0
    wanted = (outputs, weight.numel() // outputs if outputs else 0)
    fits = down.ndim == up.ndim == 2 and up.shape[1] == down.shape[0] > 0
    if not fits or (up.shape[0], down.shape[1]) != wanted or 0 in wanted:
        raise ManifestRefused(
            f"A {tuple(down.shape)} and B {tuple(up.shape)} do not fit layer {layer!r} "
            f"of shape {tuple(weight.shape)}"
        )
    step = (alpha / down.shape[0]) * (up.double() @ down.double())
    return step.reshape(weight.shape).to(weight.dtype)
