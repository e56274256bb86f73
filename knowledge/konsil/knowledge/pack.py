"""Pack: NamedTensors as safetensors payloads, and back after a look at the header.

Without metadata the bytes of equal models are equal, across processes and whatever the order
of the names, so a payload is named by its SHA-256. Never pickle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import safetensors.torch

from konsil.knowledge.named import NamedTensors
from konsil.protocol import tensors
from konsil.protocol.digest import Digest, sha256
from konsil.protocol.errors import ManifestRefused, StorageError
from konsil.protocol.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch


def to_bytes(model: Mapping[str, torch.Tensor]) -> bytes:
    """The payload of a model: safetensors bytes without metadata."""
    return safetensors.torch.save({name: model[name].contiguous() for name in sorted(model)})


def save(model: Mapping[str, torch.Tensor], path: Path) -> Digest:
    """Write the payload to `path` and return its digest. Raises `StorageError`."""
    data = to_bytes(model)
    try:
        path.write_bytes(data)
    except OSError as fault:
        raise StorageError(
            f"cannot write {path}: {fault.strerror}", hint="free some space, then start again"
        ) from fault
    return sha256(data)


def read_table(path: Path, *, limits: Limits = DEFAULT_LIMITS) -> tensors.TensorTable:
    """The checked table of a payload on disk, reading its header only.

    Raises `RemoteError` kinds for a payload against the rules, `StorageError` for the disk.
    """
    try:
        with path.open("rb") as file:
            first = file.read(tensors.LENGTH_BYTES)
            length = tensors.header_length(first, limits=limits)
            size = path.stat().st_size
            return tensors.read_table(first + file.read(length), size, limits=limits)
    except OSError as fault:
        raise StorageError(f"cannot read {path}: {fault.strerror}") from fault


def load(path: Path, *, limits: Limits = DEFAULT_LIMITS) -> NamedTensors:
    """The model in a payload on disk, once its table is sound; on the CPU.

    Raises as `read_table` does, or `ManifestRefused` when the reader of the library objects.
    """
    read_table(path, limits=limits)
    try:
        return NamedTensors(safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, ValueError, KeyError) as fault:
        raise ManifestRefused(f"{path} cannot be read: {fault}") from None


def from_bytes(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> NamedTensors:
    """The model in a payload in memory, once its table is sound. Raises as `load` does."""
    tensors.read_table(data, len(data), limits=limits)
    try:
        return NamedTensors(safetensors.torch.load(data))
    except (safetensors.SafetensorError, ValueError, KeyError) as fault:
        raise ManifestRefused(f"the payload cannot be read: {fault}") from None
