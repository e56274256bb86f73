"""NamedTensors: a model's tensors by name, with the algebra that gossip needs.

Laws: addition is associative and commutative up to rounding, ``a - b + b == a`` up to
rounding, and every operation makes new tensors, so that nothing that was once read changes.
Tensors of an integer or boolean type (counters) are carried from the left operand and never
take part. Norms and products are computed in float64, over the floating-point tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING

import torch

from konsil.protocol.errors import LocalProtocolError

if TYPE_CHECKING:
    from torch import Tensor, nn


class NamedTensors(Mapping[str, "Tensor"]):
    """An immutable, ordered mapping from names to tensors on the CPU or a device.

    The constructor does not copy; whoever hands tensors in must not write to them any more.
    """

    __slots__ = ("_tensors",)

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = {name: tensor.detach() for name, tensor in tensors.items()}

    @classmethod
    def of(cls, module: nn.Module) -> NamedTensors:
        """A copy of the parameters and buffers of `module`, on the CPU.

        A copy, because `torch.nn.utils.vector_to_parameters` and plain references make
        training change the start point as well.
        """
        state = module.state_dict()
        return cls({name: tensor.detach().cpu().clone() for name, tensor in state.items()})

    def load_into(self, module: nn.Module) -> None:
        """Copy the values into `module`; it never shares memory with these tensors.

        Raises `LocalProtocolError` when names or shapes differ.
        """
        state = module.state_dict()
        self._require_same(state)
        with torch.no_grad():
            for name, target in state.items():
                target.copy_(self._tensors[name])

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        return f"NamedTensors({len(self)} tensors, {self.elements()} elements)"

    def __add__(self, other: NamedTensors) -> NamedTensors:
        return self._paired(other, torch.add)

    def __sub__(self, other: NamedTensors) -> NamedTensors:
        return self._paired(other, torch.sub)

    def __mul__(self, factor: float) -> NamedTensors:
        return self.map(lambda tensor: tensor * factor)

    __rmul__ = __mul__

    def map(self, change: Callable[[Tensor], Tensor]) -> NamedTensors:
        """Every floating-point tensor changed by `change`; counters stay."""
        return NamedTensors(
            {
                name: change(tensor) if tensor.is_floating_point() else tensor
                for name, tensor in self._tensors.items()
            }
        )

    def select(self, names: Collection[str]) -> NamedTensors:
        """The tensors with these names, in the order of this mapping.

        Raises `LocalProtocolError` when a name is not here.
        """
        missing = set(names) - set(self._tensors)
        if missing:
            raise LocalProtocolError(f"no tensor is named {min(missing)!r}")
        return NamedTensors({n: tensor for n, tensor in self._tensors.items() if n in names})

    def dot(self, other: NamedTensors) -> float:
        """The inner product over all floating-point tensors, in float64."""
        self._require_same(other)
        return math.fsum(
            float(torch.sum(tensor.double() * other[name].double()))
            for name, tensor in self._tensors.items()
            if tensor.is_floating_point()
        )

    def norm(self) -> float:
        """The Euclidean norm over all floating-point tensors, in float64."""
        return math.sqrt(self.dot(self))

    def distance(self, other: NamedTensors) -> float:
        """``(self - other).norm()``, with the difference taken in float64."""
        self._require_same(other)
        return math.sqrt(
            math.fsum(
                float(torch.sum(torch.square(tensor.double() - other[name].double())))
                for name, tensor in self._tensors.items()
                if tensor.is_floating_point()
            )
        )

    def finite(self) -> bool:
        """True when no floating-point tensor holds an infinity or NaN."""
        return all(
            bool(torch.isfinite(tensor).all())
            for tensor in self._tensors.values()
            if tensor.is_floating_point()
        )

    def elements(self) -> int:
        """The number of elements of all tensors."""
        return sum(tensor.numel() for tensor in self._tensors.values())

    def _paired(
        self, other: NamedTensors, combine: Callable[[Tensor, Tensor], Tensor]
    ) -> NamedTensors:
        self._require_same(other)
        return NamedTensors(
            {
                name: combine(tensor, other[name]) if tensor.is_floating_point() else tensor
                for name, tensor in self._tensors.items()
            }
        )

    def _require_same(self, other: Mapping[str, Tensor]) -> None:
        if self._tensors.keys() != other.keys():
            odd = min(self._tensors.keys() ^ other.keys())
            raise LocalProtocolError(f"only one of two models has a tensor named {odd!r}")
        for name, tensor in self._tensors.items():
            if tensor.shape != other[name].shape:
                raise LocalProtocolError(f"the tensor {name!r} has two different shapes")
