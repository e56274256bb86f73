"""Merging: several data vectors of one base become one, by a rule and by weights.

Weights are non-negative and need not sum to one; every rule divides by them, so that only
their ratios count. Laws: a vector of weight 0 changes no bit of the result, whatever it holds;
the order of the vectors matters up to rounding only; one vector alone is merged to itself (by
TIES, to what it keeps). Sums are taken in float64 and rounded once. The rules move nothing by
themselves: `konsil.knowledge.vectors.vector.applied` does, at a scale that is searched for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from konsil.knowledge.named import NamedTensors
from konsil.protocol.errors import ConfigError, LocalProtocolError, ManifestRefused

Rule: TypeAlias = Callable[[Sequence[NamedTensors], Sequence[float]], NamedTensors]
"""Vectors and their weights to one vector."""

KEEP = 0.7
"""The share of each vector's elements that TIES keeps by default: small networks, and few
vectors, lose by the 0.2 of large ones."""

CAP = 4
"""A declared cohort counts up to this many times the trusted median."""

FLOOR = 0.1
"""Added to every precision, in units of its own vector's mean: who knows least still counts."""


def mean(vectors: Sequence[NamedTensors], weights: Sequence[float]) -> NamedTensors:
    """The weighted mean, `sum_j w_j v_j / sum_j w_j`: the default.

    Raises, as every rule does, `LocalProtocolError` for weights that are negative, not finite,
    all 0 or too few, and `ManifestRefused` where vectors of positive weight differ in names or
    shapes or hold a value that is not finite.
    """
    part, shares = _taking_part(vectors, weights)
    whole = math.fsum(shares)
    return _summed(part, [share / whole for share in shares])


def total(vectors: Sequence[NamedTensors], weights: Sequence[float]) -> NamedTensors:
    """The plain sum of task arithmetic, `sum_j (w_j / max w) v_j`; of equal weights `sum_j v_j`.

    It grows with the number of vectors, so apply it with a scale well below 1.
    """
    part, shares = _taking_part(vectors, weights)
    most = max(shares)
    return _summed(part, [share / most for share in shares])


def ties(
    vectors: Sequence[NamedTensors], weights: Sequence[float], keep: float = KEEP
) -> NamedTensors:
    """TIES (Yadav et al., 2023): trim, elect a sign for each element, mean of those who agree.

    Each vector keeps its `keep` share of elements of greatest magnitude over all tensors (more
    at a tie); the sign is that of the weighted sum, and of the majority of elements where that
    is 0; the weighted mean runs over the kept elements of this sign. Raises `ConfigError` for
    a share outside 0 to 1.
    """
    if not 0 < keep <= 1:
        raise ConfigError(f"TIES cannot keep a share of {keep}", hint="0.2 to 0.7 is usual")
    part, shares = _taking_part(vectors, weights)
    kept = torch.stack([_trimmed(_flat(vector), keep) for vector in part])
    by = torch.tensor(shares, dtype=torch.float64)[:, None]
    sign = (by * kept).sum(0).sign()
    sign = torch.where(sign == 0, sign.sum().sign(), sign)
    agree = by * (kept.sign() == sign) * (kept != 0)
    merged = (agree * kept).sum(0) / agree.sum(0).clamp(min=torch.finfo(torch.float64).tiny)
    return _shaped(merged, part[0])


def fisher(
    vectors: Sequence[NamedTensors],
    weights: Sequence[float],
    precisions: Sequence[NamedTensors],
) -> NamedTensors:
    """Fisher merging (Matena and Raffel, 2022): each element weighed by how well it is known.

    `sum_j w_j F_j v_j / sum_j w_j F_j`, element by element, with the diagonals F_j that
    `konsil.knowledge.vectors.precision.diagonal` computes: besides its vector a hospital sends
    a second set of tensors of the same names and shapes, so twice the bytes. A declared
    precision must not buy weight: each is divided by its own mean over all elements, and
    `FLOOR` is added. Raises `ManifestRefused` for one that is negative or does not fit.
    """
    if len(precisions) != len(vectors):
        raise LocalProtocolError(f"{len(vectors)} vectors and {len(precisions)} precisions")
    part, shares = _taking_part(vectors, weights)
    known, _ = _taking_part(precisions, weights)
    _require_alike(part[0], known[0])
    top, bottom = torch.zeros(2, _flat(part[0]).numel(), dtype=torch.float64)
    for vector, precision, share in zip(part, known, shares, strict=True):
        by = share / max(shares) * _evened(_flat(precision))
        top += by * _flat(vector)
        bottom += by
    return _shaped(top / bottom, part[0])


RULES: dict[str, Rule] = {"mean": mean, "total": total, "ties": ties}
"""The rules that need nothing but vectors and weights, by name."""


def cohort_weights(buckets: Sequence[int], trusts: Sequence[float]) -> tuple[float, ...]:
    """The weights `n_j * t_j` of hospitals that declare cohorts and are trusted that much.

    `buckets` are the lower edges of the declared cohort buckets (rows), counted as `CAP` times
    their trusted median at most, because a size that anybody may declare must not buy weight;
    below ten rows as one row, so that a trusted hospital is never silent. The trusted median
    is the least bucket up to which half of all trust is reached; without any trust, all
    weights are 0. Raises `LocalProtocolError` for negative figures or unequal lengths.
    """
    if len(buckets) != len(trusts):
        raise LocalProtocolError(f"{len(buckets)} cohorts and {len(trusts)} trusts")
    if any(n < 0 for n in buckets) or not all(0 <= t < math.inf for t in trusts):
        raise LocalProtocolError("cohorts and trusts are not negative, and finite")
    sizes = [max(1, n) for n in buckets]
    half, reached, median = math.fsum(trusts) / 2, 0.0, 0
    for size, trust in sorted(zip(sizes, trusts, strict=True)):
        if trust > 0 and reached < half:
            reached, median = reached + trust, size
    return tuple(min(n, CAP * median) * t for n, t in zip(sizes, trusts, strict=True))


def _taking_part(
    vectors: Sequence[NamedTensors], weights: Sequence[float]
) -> tuple[list[NamedTensors], list[float]]:
    """The vectors of positive weight, checked against each other, and these weights."""
    if len(vectors) != len(weights):
        raise LocalProtocolError(f"{len(vectors)} vectors and {len(weights)} weights")
    if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise LocalProtocolError(f"weights must be finite, not negative and not all 0: {weights}")
    part = [vector for vector, weight in zip(vectors, weights, strict=True) if weight > 0]
    for vector in part:
        _require_alike(part[0], vector)
        if not vector.finite():
            raise ManifestRefused("a vector holds a value that is not finite")
    return part, [weight for weight in weights if weight > 0]


def _require_alike(first: NamedTensors, other: NamedTensors) -> None:
    if first.keys() != other.keys():
        raise ManifestRefused(f"only one of two vectors has {min(first.keys() ^ other.keys())!r}")
    for name, tensor in first.items():
        if tensor.shape != other[name].shape:
            raise ManifestRefused(f"the tensor {name!r} has two different shapes")
        if not (tensor.is_floating_point() and other[name].is_floating_point()):
            raise ManifestRefused(f"{name!r} is not of a floating-point type: counters do not mix")


def _summed(vectors: Sequence[NamedTensors], factors: Sequence[float]) -> NamedTensors:
    merged = {}
    for name, first in vectors[0].items():
        sums = torch.zeros(first.shape, dtype=torch.float64)
        for vector, factor in zip(vectors, factors, strict=True):
            sums += factor * vector[name].double()
        merged[name] = sums.to(first.dtype)
    return _finite(NamedTensors(merged))


def _trimmed(flat: Tensor, keep: float) -> Tensor:
    """The elements of greatest magnitude, and 0 elsewhere."""
    if flat.numel() == 0:
        return flat
    count = math.ceil(keep * flat.numel())
    edge = flat.abs().kthvalue(flat.numel() - count + 1).values
    return torch.where(flat.abs() >= edge, flat, 0.0)


def _evened(flat: Tensor) -> Tensor:
    if bool((flat < 0).any()):
        raise ManifestRefused("a precision is negative")
    average = flat.mean()
    even = flat / average if average > 0 else torch.ones_like(flat)
    return even + FLOOR


def _flat(vector: NamedTensors) -> Tensor:
    """All elements in a row, in the order of the sorted names, in float64."""
    parts = [vector[name].double().flatten() for name in sorted(vector)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)


def _shaped(flat: Tensor, like: NamedTensors) -> NamedTensors:
    """`_flat` undone, with the shapes and types of `like`."""
    names = sorted(like)
    parts = torch.split(flat, [like[name].numel() for name in names])
    found = {
        name: part.reshape(like[name].shape).to(like[name].dtype)
        for name, part in zip(names, parts, strict=True)
    }
    return _finite(NamedTensors({name: found[name] for name in like}))


def _finite(merged: NamedTensors) -> NamedTensors:
    if not merged.finite():
        raise ManifestRefused("the merged vectors are too large for their type")
    return merged
