"""Layout: the floating-point elements of a model as one row, and a row as that model again.

Tensors go by ascending name, each in row-major order. Names and shapes do not travel: the reader
brings a model of the same architecture, which the manifest names by digest. So a payload is free
of a long header, and nothing that it claims decides how much memory is taken. Tensors of an
integer or boolean type (counters) are no part of the row: they travel as they are, under their
own names. Names that begin with a colon are the codecs' own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from konsil.knowledge.named import NamedTensors
from konsil.protocol.errors import ConfigError, LocalProtocolError, ManifestRefused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

MARK = ":"
"""What the names begin with that codecs use."""
SINCE = ":since"
"""The SHA-256 of the tensors that an encoded payload is a change of."""


def parts(model: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    """The floating-point tensors of `model`, in the order of the row."""
    return [(name, model[name]) for name in sorted(model) if model[name].is_floating_point()]


def counters(model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that travel as they are, by name.

    Raises `ConfigError` on a name that only codecs may use.
    """
    for name in model:
        if name.startswith(MARK):
            raise ConfigError(
                f"the tensor {name!r} has a name that konsil uses for encoded ones",
                hint="rename it, or publish without an encoding",
            )
    return {name: tensor for name, tensor in model.items() if not tensor.is_floating_point()}


def flat(model: Mapping[str, Tensor]) -> Tensor:
    """All floating-point elements in one row: float64 if any tensor is, else float32.

    Raises `LocalProtocolError` on a value that is not finite: it has no error bound.
    """
    tensors = [tensor for _, tensor in parts(model)]
    wide = torch.float64 if any(one.dtype == torch.float64 for one in tensors) else torch.float32
    rows = [one.detach().cpu().reshape(-1).to(wide) for one in tensors]
    row = torch.cat(rows) if rows else torch.zeros(0, dtype=wide)
    if not bool(torch.isfinite(row).all()):
        raise LocalProtocolError("a value that is not finite cannot be encoded")
    return row


def spans(like: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor, slice]]:
    """Name, tensor and place in the row, for each floating-point tensor of `like`."""
    begin = 0
    for name, tensor in parts(like):
        yield name, tensor, slice(begin, begin + tensor.numel())
        begin += tensor.numel()


def elements(like: Mapping[str, Tensor]) -> int:
    """The length of the row."""
    return sum(tensor.numel() for _, tensor in parts(like))


def shaped(row: Tensor, encoded: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> NamedTensors:
    """The model of `like`'s names, shapes and types with the values of `row`.

    Counters are those of `encoded`. Raises `ManifestRefused` when a counter is missing, of
    another shape or type, or too many, and when a value is not finite in its type.
    """
    found = {name: tensor for name, tensor in encoded.items() if not name.startswith(MARK)}
    wanted = {name: tensor for name, tensor in like.items() if not tensor.is_floating_point()}
    if found.keys() != wanted.keys():
        odd = min(found.keys() ^ wanted.keys())
        raise ManifestRefused(f"the encoded payload and the model disagree on the tensor {odd!r}")
    for name, tensor in wanted.items():
        if (found[name].dtype, found[name].shape) != (tensor.dtype, tensor.shape):
            raise ManifestRefused(f"the tensor {name!r} has another shape or type")
    for name, tensor, place in spans(like):
        values = row[place].to(tensor.dtype).reshape(tensor.shape)
        if not bool(torch.isfinite(values).all()):
            raise ManifestRefused(f"the tensor {name!r} decodes to values that are not finite")
        found[name] = values
    return NamedTensors({name: found[name] for name in like})


def taken(
    encoded: Mapping[str, Tensor], name: str, dtype: torch.dtype, length: int | None = None
) -> Tensor:
    """The codec's own tensor `name`: one row of this type, and of this length if one is given.

    Raises `ManifestRefused` when it is not there or is anything else.
    """
    tensor = encoded.get(name)
    if tensor is None or tensor.dtype != dtype or tensor.ndim != 1:
        raise ManifestRefused(f"the encoded payload has no row {name!r} of type {dtype}")
    if length is not None and len(tensor) != length:
        raise ManifestRefused(f"{len(tensor)} elements in {name!r}; this model needs {length}")
    return tensor


def only(encoded: Mapping[str, Tensor], *names: str) -> None:
    """Raises `ManifestRefused` when the codec's own tensors are not exactly `names`."""
    own = {name for name in encoded if name.startswith(MARK)}
    if own != set(names):
        odd = min(own ^ set(names))
        raise ManifestRefused(f"the tensor {odd!r} is missing or has no meaning in this encoding")
