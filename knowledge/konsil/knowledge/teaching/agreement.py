"""Agreement: how far two sheets of answers say the same of the classes that both know.

Both are made probabilities over the known classes only, so that nobody is judged by what it does
not speak of, and the mean answer of each sheet is taken away, so that saying the same of every
row is no agreement. What is left is compared by the cosine of all rows and classes (Pearson's
correlation): 1 for the same answers, 0 for answers that have nothing to do with each other, less
where one sheet says what the other rules out. The standard error is that of the rows, by
linearisation: a question with few rows shows little.

Law: symmetric; a constant added to a row of a sheet changes roundings only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from konsil.protocol.errors import LocalProtocolError

if TYPE_CHECKING:
    from torch import Tensor

_NOTHING = 1e-12
"""Answers that differ less than this from row to row say nothing."""


class Agreement(NamedTuple):
    """A correlation between −1 and 1, and its standard error over the rows."""

    value: float
    error: float


def agreement(one: Tensor, other: Tensor, known: Tensor) -> Agreement | None:
    """How far two sheets of logits (n × C) agree on the `known` classes (C, bool).

    None where fewer than two classes are known: there is nothing to choose between. A sheet that
    says the same of every row agrees with nobody: 0 ± 0.
    """
    value, error = agreements(one, other, known)
    return None if bool(value.isnan()) else Agreement(float(value), float(error))


def agreements(ones: Tensor, others: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Values and errors (…) of `agreement` for many pairs of sheets (…, n, C), each on classes of
    its own (…, C); NaN where that gives None."""
    _require(ones, others, known)
    a, b = centred(ones, known), centred(others, known)
    products = (
        ((one * other).sum(dim=-1, keepdim=True)) for one, other in ((a, b), (a, a), (b, b))
    )
    few = known.sum(dim=-1) < 2
    value, error = (found[..., 0].masked_fill(few, torch.nan) for found in _correlation(*products))
    return value, error


def by_class(ones: Tensor, others: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """The agreement on each class by itself and its error (…, C); NaN where it is not known."""
    _require(ones, others, known)
    a, b = centred(ones, known), centred(others, known)
    missing = ~known | (known.sum(dim=-1, keepdim=True) < 2)
    value, error = (
        found.masked_fill(missing, torch.nan) for found in _correlation(a * b, a * a, b * b)
    )
    return value, error


def centred(sheets: Tensor, known: Tensor) -> Tensor:
    """The probabilities over the known classes (…, n, C), less their mean over the rows; 0 for
    the others."""
    silent = ~known.unsqueeze(-2)
    answers = torch.softmax(sheets.double().masked_fill(silent, -torch.inf), dim=-1)
    return (answers - answers.mean(dim=-2, keepdim=True)).masked_fill(silent, 0.0)


def directions(sheets: Tensor, known: Tensor) -> Tensor:
    """The `centred` sheets (…, n, C) at length 1: the sum of two ones' products is their agreement.
    0 for a sheet that says the same of every row, as any does of a single class."""
    away = centred(sheets, known)
    square = away.square().sum(dim=(-2, -1), keepdim=True)
    said = square > _NOTHING * sheets.shape[-2]
    return torch.where(said, away / torch.where(said, square, 1.0).sqrt(), 0.0)


def _correlation(both: Tensor, ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Values and errors (…, m) from products of each row (…, n, m)."""
    left, right = ours.mean(dim=-2, keepdim=True), theirs.mean(dim=-2, keepdim=True)
    said = (left > _NOTHING) & (right > _NOTHING)
    left, right = torch.where(said, left, 1.0), torch.where(said, right, 1.0)
    scale = (left * right).sqrt()
    value = torch.where(said, both.mean(dim=-2, keepdim=True) / scale, 0.0)
    influence = both / scale - value * (ours / left + theirs / right) / 2
    error = influence.square().mean(dim=-2, keepdim=True).sqrt() / both.shape[-2] ** 0.5
    return value.squeeze(-2), torch.where(said, error, 0.0).squeeze(-2)


def _require(one: Tensor, other: Tensor, known: Tensor) -> None:
    *pairs, rows, classes = one.shape
    if one.shape != other.shape or tuple(known.shape) != (*pairs, classes) or not rows:
        raise LocalProtocolError(
            f"answers of shapes {tuple(one.shape)} and {tuple(other.shape)} on "
            f"{tuple(known.shape)} classes cannot be compared"
        )
