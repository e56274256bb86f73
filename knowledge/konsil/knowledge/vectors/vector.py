"""Vector: a data vector, the difference that training made to a common base.

`tau = theta - theta_base` and `theta = theta_base + scale * tau` (Ilharco et al., 2023; Tian
et al., 2024). Laws: applying `between(model, base)` to the base gives the model, and adding
then taking out a vector gives the base, both up to one rounding of each element (1e-6 for
weights of ordinary size); a scale of 0 changes no bit. Only floating-point tensors take part,
never counters; running statistics are left out by the names that
`konsil.knowledge.restoring.statistic_names` gives (or `konsil.knowledge.judge.local_names`, all
that never mixes), because variances must not be added. Everything is computed in float64 and
rounded once. That both sides mean the same base is for the caller to pin, by the digest of its
payload.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from konsil.knowledge.named import NamedTensors
from konsil.protocol.errors import LocalProtocolError, ManifestRefused

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor


def between(model: NamedTensors, base: NamedTensors, without: Collection[str] = ()) -> NamedTensors:
    """The vector from `base` to `model`: floating-point tensors, save for those in `without`.

    Raises `LocalProtocolError` when the two models differ in names or shapes, or when
    `without` names a tensor that is not there.
    """
    unknown = set(without) - set(base)
    if unknown:
        raise LocalProtocolError(f"no tensor is named {min(unknown)!r}")
    _require_same_shapes(model, base)
    return NamedTensors(
        {
            name: (model[name].double() - tensor.double()).to(tensor.dtype)
            for name, tensor in base.items()
            if tensor.is_floating_point() and name not in without
        }
    )


def applied(base: NamedTensors, vector: NamedTensors, scale: float = 1.0) -> NamedTensors:
    """`base + scale * vector`; tensors that the vector lacks are those of the base.

    The base is left unchanged, and tensors that do not change are shared with it. Raises
    `ManifestRefused` when the vector names a tensor that the base lacks or that is a counter,
    has another shape, or when a value is not finite in the end; `LocalProtocolError` for a
    scale that is no number.
    """
    if not math.isfinite(scale):
        raise LocalProtocolError(f"a vector cannot be applied {scale} times")
    changed = {name: _moved(name, base, tensor, scale) for name, tensor in vector.items()}
    return NamedTensors({name: changed.get(name, tensor) for name, tensor in base.items()})


def taken_out(model: NamedTensors, vector: NamedTensors, scale: float = 1.0) -> NamedTensors:
    """`model - scale * vector`: what `applied` has added is subtracted again."""
    return applied(model, vector, -scale)


def _moved(name: str, base: NamedTensors, step: Tensor, scale: float) -> Tensor:
    target = base.get(name)
    if target is None:
        raise ManifestRefused(f"a vector names the tensor {name!r}, which the base lacks")
    if not (target.is_floating_point() and step.is_floating_point()):
        raise ManifestRefused(f"a vector names {name!r}, which is not of a floating-point type")
    if target.shape != step.shape:
        raise ManifestRefused(
            f"a vector has {name!r} in shape {tuple(step.shape)}, the base in {tuple(target.shape)}"
        )
    moved = (target.double() + scale * step.double()).to(target.dtype)
    if not bool(moved.isfinite().all()):
        raise ManifestRefused(f"with this vector {name!r} holds a value that is not finite")
    return target if scale == 0 else moved


def _require_same_shapes(model: NamedTensors, base: NamedTensors) -> None:
    if model.keys() != base.keys():
        odd = min(model.keys() ^ base.keys())
        raise LocalProtocolError(f"only one of model and base has a tensor named {odd!r}")
    for name, tensor in base.items():
        if tensor.shape != model[name].shape:
            raise LocalProtocolError(f"the tensor {name!r} has two different shapes")
