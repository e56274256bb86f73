"""Control: random vectors as long as the real ones, to see whether direction matters.

If random vectors, merged by the same rule and applied at the same scale, do as well as data
vectors, then the data vectors carried nothing. Compare under one rule and one scale only: a
plain sum of many vectors can do worse than noise, which says nothing about what they carry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from konsil.knowledge.named import NamedTensors
from konsil.protocol.errors import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence


def random_like(vector: NamedTensors, generator: torch.Generator) -> NamedTensors:
    """A Gaussian direction with, tensor by tensor, the Euclidean norm of `vector`.

    Depends on the state of `generator` and on names and shapes; a tensor of norm 0 stays 0.
    Raises `LocalProtocolError` for a counter among the tensors.
    """
    found = {}
    for name in sorted(vector):
        tensor = vector[name]
        if not tensor.is_floating_point():
            raise LocalProtocolError(f"{name!r} is a counter, and no part of a vector")
        drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        length = float(drawn.norm())
        factor = float(tensor.double().norm()) / length if length > 0 else 0.0
        found[name] = (factor * drawn).to(tensor.dtype)
    return NamedTensors({name: found[name] for name in vector})


def controls(vectors: Sequence[NamedTensors], generator: torch.Generator) -> list[NamedTensors]:
    """One random vector for each of `vectors`, drawn one after the other."""
    return [random_like(vector, generator) for vector in vectors]
