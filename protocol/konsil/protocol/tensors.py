"""Tensors: the header of a safetensors payload, checked before anything is loaded.

A payload is an eight-byte little-endian length, a JSON header of that length, and the data
of all tensors without a gap (huggingface/safetensors, README, "Format"). `read_table` needs
only the header and the true size of the payload. It refuses metadata, so that equal models
have equal bytes, and it computes every size from the shape, so that a claimed size is never
believed and never allocated. Any order of tensors is accepted; every byte is covered once.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, NoReturn

import msgspec

from konsil.protocol import cmp1
from konsil.protocol.cmp1 import text_fault
from konsil.protocol.digest import Digest, tagged
from konsil.protocol.errors import LimitExceeded, ManifestRefused
from konsil.protocol.limits import DEFAULT_LIMITS, Limits

DTYPE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
"""Bytes of one element, by the dtype's name in the header."""

LENGTH_BYTES = 8

_Size = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One tensor: `begin` and `end` are byte offsets into the data behind the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class TensorTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All tensors of a payload, ordered by where their data begin.

    `header_bytes` counts the JSON alone, `payload_bytes` the length, the JSON and the data.
    """

    tensors: tuple[TensorSpec, ...]
    header_bytes: int
    payload_bytes: int


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    dtype: str
    shape: list[_Size]
    data_offsets: tuple[_Size, _Size]


def header_length(first8: bytes, *, limits: Limits = DEFAULT_LIMITS) -> int:
    """The length of the JSON header that the first eight bytes of a payload claim.

    Raises `ManifestRefused` on fewer than eight bytes, `LimitExceeded` on too long a header.
    """
    if len(first8) < LENGTH_BYTES:
        raise ManifestRefused(f"a payload of {len(first8)} bytes has no header")
    length = int.from_bytes(first8[:LENGTH_BYTES], "little")
    if length > limits.tensor_header_bytes:
        raise LimitExceeded(
            f"a tensor header of {length} bytes; at most {limits.tensor_header_bytes} are read"
        )
    return length


def read_table(head: bytes, total_bytes: int, *, limits: Limits = DEFAULT_LIMITS) -> TensorTable:
    """The table of a payload of `total_bytes`, of which `head` holds at least the header.

    Raises `ManifestRefused`, naming the tensor, on whatever the format or our profile of it
    forbids, and `LimitExceeded` beyond `limits`.
    """
    if total_bytes > limits.payload_bytes:
        raise LimitExceeded(f"a payload of {total_bytes} bytes")
    length = header_length(head, limits=limits)
    if LENGTH_BYTES + length > min(len(head), total_bytes):
        raise ManifestRefused("the payload ends inside its header")
    entries = _entries(head[LENGTH_BYTES : LENGTH_BYTES + length], limits)
    specs = [_spec(name, entry, limits) for name, entry in entries.items()]
    specs.sort(key=lambda spec: (spec.begin, spec.end, spec.name))
    _check_coverage(specs, total_bytes - LENGTH_BYTES - length)
    return TensorTable(tensors=tuple(specs), header_bytes=length, payload_bytes=total_bytes)


def architecture(table: TensorTable) -> Digest:
    """The digest of the names, dtypes and shapes, whatever their order in the payload.

    Two payloads can be mixed with each other only if this digest is the same.
    """
    rows = sorted((spec.name, spec.dtype, spec.shape) for spec in table.tensors)
    return tagged("architecture", *(cmp1.encode(row) for row in rows))


def _entries(text: bytes, limits: Limits) -> dict[str, _Entry]:
    """The entries of the JSON header by name; sizes are not yet checked."""
    # The format pads with spaces only, and each tensor has one object and two arrays.
    if not text.startswith(b"{") or not text.rstrip(b" ").endswith(b"}"):
        raise ManifestRefused("the tensor header is not one JSON object")
    if text.count(b"{") > limits.tensors + 1 or text.count(b"[") > 2 * limits.tensors:
        raise LimitExceeded(f"more than {limits.tensors} tensors")
    try:
        decoded = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_once,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
    except (ValueError, RecursionError) as fault:
        raise ManifestRefused(f"the tensor header is not JSON: {fault}") from None
    if "__metadata__" in decoded:
        raise ManifestRefused("the payload has metadata; its facts belong in the manifest")
    try:
        return msgspec.convert(decoded, dict[str, _Entry], strict=True)
    except msgspec.ValidationError as fault:
        # It may quote the header, which can hold anything and be long.
        raise ManifestRefused(f"the tensor header: {ascii(str(fault))[1:200]}") from None


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ManifestRefused("the tensor header names something twice")
    return result


def _refuse_number(text: str) -> NoReturn:
    raise ManifestRefused(f"the tensor header holds {text[:32]}, which is not an integer")


def _spec(name: str, entry: _Entry, limits: Limits) -> TensorSpec:
    """One checked row of the table: its size follows from dtype and shape alone."""
    if not name or text_fault(name) or len(name.encode("utf-8")) > limits.tensor_name_bytes:
        raise ManifestRefused(f"{name[:64]!r} is no name of a tensor")
    if entry.dtype not in DTYPE_BYTES:
        raise ManifestRefused(f"tensor {name!r} has the unknown dtype {entry.dtype[:32]!r}")
    if len(entry.shape) > limits.tensor_rank:
        raise LimitExceeded(f"tensor {name!r} has {len(entry.shape)} dimensions")
    begin, end = entry.data_offsets
    size = DTYPE_BYTES[entry.dtype] * math.prod(entry.shape)
    if end - begin != size:
        raise ManifestRefused(f"tensor {name!r} claims {end - begin} bytes; its shape has {size}")
    return TensorSpec(name=name, dtype=entry.dtype, shape=tuple(entry.shape), begin=begin, end=end)


def _check_coverage(specs: list[TensorSpec], data_bytes: int) -> None:
    """Refuse unless the tensors, in the order of their data, cover each byte once."""
    reached = 0
    for spec in specs:
        if spec.begin != reached:
            what = "overlaps the one before" if spec.begin < reached else "leaves a gap before"
            raise ManifestRefused(f"tensor {spec.name!r} {what} it")
        reached = spec.end
    if reached != data_bytes:
        raise ManifestRefused(f"the tensors cover {reached} of {data_bytes} bytes of data")
