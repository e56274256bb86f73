"""Consensus: what several teachers together answer, each speaking only of classes it has seen.

The plain rule is ``q = softmax(sum_j w_j z_j / (T · sum_j w_j))`` (FedMD, Li and Wang, 2019).
A teacher that has not seen a class says nothing of it: in row j of the weights (k × C) that
class is 0. The logits of a row are known up to a constant only, and teachers who speak of
different classes have different constants, so the consensus `a` solves, for each input,

    minimise over a and all b_j   sum_j sum_c w_jc (a_c + b_j − z_jc)²,

a weighted fit of two ways. With weights that do not depend on the class that is the plain rule.
Classes that no teacher compares with each other, directly or through others, form islands:
inside an island the teachers decide, and the mass of an island is the receiver's own. A class of
which nobody speaks is an island of its own: there the receiver's own answer stands.

Laws: a teacher of weight 0 (or who speaks of one class only, and so compares nothing) changes no
bit; the order of the teachers and a common factor of the weights change roundings only; a
constant added to a row of one teacher changes roundings only; with one island the receiver's own
answer has no influence; the mass of each island is the receiver's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from konsil.protocol.errors import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from torch import Tensor


FAINT = 1e-9
"""A voice of less than this part of the loudest is silent: what it alone would link cannot be
solved for in floating point."""


def speaking(
    weights: Sequence[float], seen: Sequence[Collection[str]], classes: Sequence[str]
) -> Tensor:
    """The weights of k teachers by class (k × C): 0 for a class that a teacher has not seen.

    `seen` holds the classes in each teacher's coverage; absent means unknown, and unknown is
    not taught.
    """
    rows = [
        [weight if name in its else 0.0 for name in classes]
        for weight, its in zip(weights, seen, strict=True)
    ]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(weights), len(classes))


def consensus(
    sheets: Sequence[Tensor], weights: Tensor, own: Tensor, *, temperature: float = 1.0
) -> Tensor:
    """The probabilities (n × C, float64) that k teachers agree on, softened by `temperature`.

    `sheets` are k tensors of logits (n × C), `weights` (k × C) are finite and not negative, of
    any sum; `own` (n × C) are the receiver's logits. Raises `LocalProtocolError` when these do
    not belong together.
    """
    _require(sheets, weights, own, temperature)
    loudest = weights.double().amax() if weights.numel() else torch.tensor(0.0)
    audible = torch.where(weights.double() > FAINT * loudest, weights.double(), 0.0)
    spoken = [
        (sheet.double(), weight)
        for sheet, weight in zip(sheets, audible, strict=True)
        if int((weight > 0).sum()) > 1
    ]
    result = torch.softmax(own.double() / temperature, dim=1)
    if not spoken:
        return result
    strength = torch.stack([weight for _, weight in spoken])
    strength = strength / strength.max()
    together = _islands(strength)
    curvature, pull = _normal_equations([sheet for sheet, _ in spoken], strength)
    for island in together:
        if len(island) < 2:
            continue
        # One constant is free in each island; this one is that their logits sum to zero.
        centred = curvature[island][:, island] + torch.ones(len(island), len(island)).double()
        fitted = torch.linalg.solve(centred, pull[:, island].T).T
        inside = torch.softmax(fitted / temperature, dim=1)
        if len(island) == own.shape[1]:
            return inside
        result[:, island] = inside * result[:, island].sum(dim=1, keepdim=True)
    return result


def _normal_equations(sheets: Sequence[Tensor], weights: Tensor) -> tuple[Tensor, Tensor]:
    """The Laplacian (C × C) and right-hand sides (n × C) of the fit, the b_j eliminated."""
    classes = weights.shape[1]
    curvature = torch.zeros(classes, classes, dtype=torch.float64)
    pull = torch.zeros_like(sheets[0])
    for sheet, weight in zip(sheets, weights, strict=True):
        share = weight / weight.sum()
        curvature += torch.diag(weight) - torch.outer(weight, share)
        # Where a teacher is silent its number must not matter, not even as 0 · infinity.
        said = torch.where(weight > 0, sheet, torch.zeros_like(sheet))
        pull += weight * (said - (said @ share)[:, None])
    return curvature, pull


def _islands(weights: Tensor) -> list[list[int]]:
    """The classes that teachers link: two are linked where one teacher speaks of both."""
    islands = [{place} for place in range(weights.shape[1])]
    for weight in weights:
        voiced = set(torch.nonzero(weight > 0)[:, 0].tolist())
        touched = [island for island in islands if island & voiced]
        if len(touched) > 1:
            islands = [island for island in islands if not island & voiced]
            islands.append(set.union(*touched))
    return [sorted(island) for island in islands]


def _require(sheets: Sequence[Tensor], weights: Tensor, own: Tensor, temperature: float) -> None:
    if tuple(weights.shape) != (len(sheets), own.shape[1]):
        raise LocalProtocolError(
            f"weights of shape {tuple(weights.shape)} for {len(sheets)} teachers "
            f"and {own.shape[1]} classes"
        )
    if any(sheet.shape != own.shape for sheet in sheets):
        raise LocalProtocolError("teachers answered questions of different shapes")
    if not bool(torch.isfinite(weights).all()) or bool((weights < 0).any()):
        raise LocalProtocolError("a weight of a teacher is negative or not finite")
    if not temperature > 0:
        raise LocalProtocolError(f"a temperature of {temperature}")
