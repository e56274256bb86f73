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
    _require(one, other, known)
    if int(known.sum()) < 2:
        return None
    a, b = centred(one, known), centred(other, known)
    both, ours, theirs = (a * b).sum(dim=1), (a * a).sum(dim=1), (b * b).sum(dim=1)
    value, error = _correlation(both[:, None], ours[:, None], theirs[:, None])
    return Agreement(float(value), float(error))


def by_class(one: Tensor, other: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """The agreement on each class by itself and its error (C each); NaN where it is not known."""
    _require(one, other, known)
    values, errors = torch.full((2, len(known)), torch.nan, dtype=torch.float64)
    if int(known.sum()) > 1:
        a, b = centred(one, known), centred(other, known)
        values[known], errors[known] = _correlation(a * b, a * a, b * b)
    return values, errors


def centred(sheet: Tensor, known: Tensor) -> Tensor:
    """The probabilities over the known classes (n × known), less their mean over the rows."""
    answers = torch.softmax(sheet.double()[:, known], dim=1)
    return answers - answers.mean(dim=0)


def _correlation(both: Tensor, ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Values and errors (m) from products of each row (n × m)."""
    left, right = ours.mean(dim=0), theirs.mean(dim=0)
    said = (left > _NOTHING) & (right > _NOTHING)
    left, right = torch.where(said, left, 1.0), torch.where(said, right, 1.0)
    scale = (left * right).sqrt()
    value = torch.where(said, both.mean(dim=0) / scale, 0.0)
    influence = both / scale - value * (ours / left + theirs / right) / 2
    error = influence.square().mean(dim=0).sqrt() / len(both) ** 0.5
    return value, torch.where(said, error, 0.0)


def _require(one: Tensor, other: Tensor, known: Tensor) -> None:
    if one.shape != other.shape or tuple(known.shape) != tuple(one.shape[1:]) or not len(one):
        raise LocalProtocolError(
            f"answers of shapes {tuple(one.shape)} and {tuple(other.shape)} on "
            f"{tuple(known.shape)} classes cannot be compared"
        )
