"""Hearing: which of several teachers is shown to mislead, judged by their answers alone.

A receiver knows its own patients, and its own model carries that to the question; of classes
that it has not seen it knows nothing. So teachers are first held against the own answers, on the
classes that both know. Those who agree best are the first to be heard, copies as one voice, and
everyone is held again against what the own model and the others *then* say together, which covers
more classes. Nobody's word counts in its own judgement.

The bar is half of what agreeing teachers typically reach: liars fall below it, hospitals with
other patients do not. The judgement is a gate and no contest: who is not below is harmless, and
harmless is all that can be shown, so a gain ends at `MOST` errors above the bar. A teacher that
nobody can be compared with is given the benefit of the doubt by whoever weighs it. Inside a sheet
the same is asked of each class, for a lie about one class is no reason to be deaf to nine.

Laws: the order of the teachers does not matter; a teacher of trust 0 changes nothing for others;
copies of one teacher, exact or noisy, are one voice in the reference and in the lesson; teachers
who agree are all heard in all that they know.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from konsil.knowledge.teaching.agreement import Agreement, agreements, by_class
from konsil.knowledge.teaching.consensus import consensus
from konsil.knowledge.teaching.voices import voices
from konsil.protocol.errors import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

ROUNDS = 2
"""How often the reference is made anew from those who agree with the last one."""
MOST = 2
"""Standard errors above the bar that count as a gain."""
MISLED = 3
"""Standard errors below half the bar from which a teacher is not heard in a class."""
FAINTEST = 3e-4
"""No class of a reference has less than this probability; logits need a bound."""

_NOTHING = 1e-9


class Heard(NamedTuple):
    """What k teachers' answers on C classes show."""

    gains: Tensor
    """How far each agrees beyond the bar (k), at most `MOST` errors; 0 where nothing is known."""
    errors: Tensor
    """The standard error of each gain over the rows of the question (k)."""
    lesson: Tensor
    """How loud each is in a lesson, by class (k × C): 0 where it is silent or shown to mislead."""


def heard(
    sheets: Sequence[Tensor], known: Tensor, trusts: Tensor, own: Tensor, own_known: Tensor
) -> Heard:
    """What the sheets (k tensors of logits, n × C) show beside the `own` answers (n × C).

    `known` (k × C, bool) and `own_known` (C, bool) are the classes that each speaks of. `trusts`
    (k, from 0 to 1) is how far each teacher was believed before: who is not believed has no
    part in the reference. Raises `LocalProtocolError` when these do not belong together.
    """
    if tuple(known.shape) != (len(sheets), own.shape[1]) or len(trusts) != len(sheets):
        raise LocalProtocolError(f"{len(sheets)} teachers, but {tuple(known.shape)} known classes")
    views = [_View(own, own_known)] * len(sheets)
    found = _held_against(views, sheets, known)
    loud = torch.ones(len(sheets), dtype=torch.float64)
    for _ in range(ROUNDS):
        leaning = _leaning(found, trusts)
        everyone = _together(sheets, known, leaning, own, own_known)
        loud = voices(sheets, known & everyone.known, trusts, everyone.answers)
        views = [
            _together(sheets, known, _without(leaning * loud, place), own, own_known)
            for place in range(len(sheets))
        ]
        found = _held_against(views, sheets, known)
    bar = _bar(found, trusts)
    gains = [0.0 if one is None else min(one.value - bar, MOST * one.error) for one in found]
    errors = [0.0 if one is None else one.error for one in found]
    lesson = loud[:, None] * known
    if views:
        values, wide = by_class(*_pairs(views, sheets, known))
        lesson = lesson * ~(values + MISLED * wide < bar / 2)
    exact = torch.float64
    return Heard(torch.tensor(gains, dtype=exact), torch.tensor(errors, dtype=exact), lesson)


class _View(NamedTuple):
    """What is held for true of the classes in `known`, as logits."""

    answers: Tensor
    known: Tensor


def _together(
    sheets: Sequence[Tensor], known: Tensor, weights: Tensor, own: Tensor, own_known: Tensor
) -> _View:
    """What the own model and the teachers of these weights say together."""
    strength = torch.cat([known * weights[:, None], own_known[None].double()])
    agreed = consensus([*sheets, own], strength, own)
    return _View(agreed.clamp(min=FAINTEST).log(), (strength > 0).any(dim=0))


def _without(weights: Tensor, place: int) -> Tensor:
    rest = weights.clone()
    rest[place] = 0
    return rest


def _held_against(
    views: Sequence[_View], sheets: Sequence[Tensor], known: Tensor
) -> list[Agreement | None]:
    """How far each teacher agrees with its view, where both know something."""
    if not views:
        return []
    values, errors = agreements(*_pairs(views, sheets, known))
    return [
        None if math.isnan(value) else Agreement(value, error)
        for value, error in zip(values.tolist(), errors.tolist(), strict=True)
    ]


def _pairs(
    views: Sequence[_View], sheets: Sequence[Tensor], known: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Each teacher's sheet (k, n, C) and its view (k, n, C), and the classes of both (k, C)."""
    answers, theirs = (torch.stack(list(each)) for each in zip(*views, strict=True))
    return torch.stack(list(sheets)), answers, known & theirs


def _bar(found: Sequence[Agreement | None], trusts: Tensor) -> float:
    """Half of the median of those who agree at all, each as loud as it is trusted; else 0."""
    pairs = zip(found, trusts.tolist(), strict=True)
    agreeing = sorted((one.value, trust) for one, trust in pairs if one and one.value > 0)
    half = math.fsum(trust for _, trust in agreeing) / 2
    reached = 0.0
    for value, trust in agreeing:
        reached += trust
        if reached > half:
            return value / 2
    return 0.0


def _leaning(found: Sequence[Agreement | None], trusts: Tensor) -> Tensor:
    """Who is heard in the reference: nobody at the bar, all in full from twice the bar on."""
    bar = max(_bar(found, trusts), _NOTHING)
    values = [bar if one is None else one.value for one in found]
    return (torch.tensor(values, dtype=torch.float64) / bar - 1).clamp(0, 1) * trusts
