"""Layout: where each tensor of a network lies in a row of elements, and back.

A model is one row of float32; thousands are a matrix. Tensors of an integer type have no place
in it, and a network that needs them (batch normalisation with counters) is refused: what it
counts at one hospital must not be mixed with another's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn


@dataclass(frozen=True)
class Layout:
    """Names and shapes of a network's tensors, in the order of its state."""

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    @classmethod
    def of(cls, module: nn.Module) -> Layout:
        """The layout of a network. Raises `ConfigError` where it has tensors of integers."""
        state = module.state_dict()
        for name, tensor in state.items():
            if not tensor.is_floating_point():
                raise ConfigError(
                    f"[population] model: {name} holds {tensor.dtype}, which cannot be mixed",
                    hint="take GroupNorm or InstanceNorm in place of BatchNorm",
                )
        return cls(tuple(state), tuple(tensor.shape for tensor in state.values()))

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many elements each tensor has."""
        return tuple(shape.numel() for shape in self.shapes)

    @cached_property
    def elements(self) -> int:
        """The length of a row."""
        return sum(self.sizes)

    def row(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """A model as one new row of float32."""
        return torch.cat([tensors[name].detach().reshape(-1).float() for name in self.names])

    def tensors(self, rows: Tensor) -> dict[str, Tensor]:
        """Views on the named tensors of rows (…, p): shapes (…, *shape). Writing writes rows."""
        parts, lead = rows.split_with_sizes(self.sizes, -1), rows.shape[:-1]
        return {
            name: part.view(lead + shape)
            for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }
