"""Screen: does a foreign payload have our architecture and only finite values?

Numpy only and read in blocks, so that a hostile payload costs no memory. This is the
part of the hard gate (trust.md, step 0) that has to look at values. A reason is a code, for
the ledger; which tensor it was, or what the reader said, goes to the log.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from konsil.protocol import tensors
from konsil.protocol.errors import RemoteError
from konsil.protocol.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from konsil.protocol.digest import Digest
    from konsil.protocol.fields import Code

_log = logging.getLogger(__name__)
_BLOCK = 1 << 18
# Exponent bits of each type: all of them set means an infinity or NaN. The two kinds of
# eight-bit floats are never trained here and have no common rule, so they are refused.
_EXPONENTS = {
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
    "F32": ("<u4", 0x7F80_0000),
    "F64": ("<u8", 0x7FF0_0000_0000_0000),
}
_UNKNOWN = ("F8_E4M3", "F8_E5M2")


def screen(
    path: Path, architecture: Digest, *, limits: Limits = DEFAULT_LIMITS
) -> tuple[Code, ...]:
    """The reasons to refuse the payload at `path`, each once; empty when it may be mixed.

    `payload` (malformed), `architecture`, `dtype` and `not_finite`.
    """
    try:
        with path.open("rb") as file:
            first = file.read(tensors.LENGTH_BYTES)
            head = first + file.read(tensors.header_length(first, limits=limits))
        table = tensors.read_table(head, path.stat().st_size, limits=limits)
    except (RemoteError, OSError) as fault:
        _log.warning("%s: %s", path.name, fault)
        return ("payload",)
    if tensors.architecture(table) != architecture:
        return ("architecture",)
    reasons: list[Code] = []
    for spec in table.tensors:
        reason = _reason(path, len(head), spec)
        if reason is not None and reason not in reasons:
            _log.warning("%s: %s in tensor %r", path.name, reason, spec.name)
            reasons.append(reason)
    return tuple(reasons)


def _reason(path: Path, start: int, spec: tensors.TensorSpec) -> Code | None:
    """Why this tensor cannot be mixed."""
    if spec.dtype in _UNKNOWN:
        return "dtype"
    if spec.dtype in _EXPONENTS and not _finite(path, start, spec):
        return "not_finite"
    return None


def _finite(path: Path, start: int, spec: tensors.TensorSpec) -> bool:
    stored, exponent = _EXPONENTS[spec.dtype]
    width = np.dtype(stored).itemsize
    with path.open("rb") as file:
        file.seek(start + spec.begin)
        for begin in range(spec.begin, spec.end, _BLOCK * width):
            count = min(_BLOCK, (spec.end - begin) // width)
            bits: npt.NDArray[np.unsignedinteger] = np.fromfile(file, stored, count)
            mask = bits.dtype.type(exponent)
            if bits.size != count or bool(np.any((bits & mask) == mask)):
                return False
    return True
