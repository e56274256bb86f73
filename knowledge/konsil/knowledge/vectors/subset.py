"""Subset: an artifact that speaks for some tensors of a base only, such as a head.

The manifest's `coverage.tensors` names them, and an empty list means all. What is not covered
comes from the receiver's own copy of the base, which is named by its digest and never shipped.
Laws: a part laid over the base changes the covered tensors only, and the part of the result is
the part again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.knowledge.named import NamedTensors
from konsil.protocol.errors import ManifestRefused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor


def covered(base: Mapping[str, Tensor], names: Sequence[str]) -> tuple[str, ...]:
    """The tensors of `base` that an artifact with `coverage.tensors = names` speaks for.

    In the order of the base; all of them when `names` is empty. Raises `ManifestRefused` for
    a name that the base lacks or that stands there twice.
    """
    wanted = set(names)
    unknown = wanted - set(base)
    if unknown:
        raise ManifestRefused(f"the coverage names {min(unknown)!r}, which the base lacks")
    if len(wanted) != len(names):
        raise ManifestRefused("a tensor is named twice in the coverage")
    return tuple(name for name in base if not wanted or name in wanted)


def laid_over(base: NamedTensors, part: NamedTensors, names: Sequence[str] = ()) -> NamedTensors:
    """`base` with the tensors of `part`, which must be exactly those that `names` covers.

    Raises `ManifestRefused` when a tensor is missing or too many, when shape or type differ
    from the base's, or when a value is not finite.
    """
    wanted = set(covered(base, names))
    if wanted != set(part):
        odd = min(wanted ^ set(part))
        side = "lacks" if odd in wanted else "has more than it covers:"
        raise ManifestRefused(f"a partial model {side} {odd!r}")
    for name, tensor in part.items():
        if (tensor.shape, tensor.dtype) != (base[name].shape, base[name].dtype):
            raise ManifestRefused(f"{name!r} differs from the base in shape or type")
    if not part.finite():
        raise ManifestRefused("a partial model holds a value that is not finite")
    return NamedTensors({name: part.get(name, tensor) for name, tensor in base.items()})
