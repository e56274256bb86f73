"""Lying about a question: what all attacks on answers share, and the forms that a lie takes.

Byzantine nodes know what every honest node answers, agree on one lie about the honest mean, and
all hand in the same sheet: as `logits`, the mean's own values with classes exchanged, or as
`labels`, a single class that is held for certain. With `+noise` each of them answers a tenth of
the questions at random, so that no two sheets are equal; whoever counts equal ones once is to be
deceived.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from konsil.simulations.sim.attacks.view import Attack, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Generator, Tensor

    from konsil.simulations.sim.attacks.view import View

Lie: TypeAlias = "Callable[[Tensor], Tensor]"
"""The honest mean's logarithms of probabilities (m, C) to class numbers (m, C): whose value each
class gets."""

NOISE = 0.1
"""Share of the questions that a noisy copy answers at random."""
SURE = 16.0
"""A label's own probability is exp(16) times each other's."""
_FORMS = {"logits": "logits", "labels": "weak_labels"}
"""Words in an attack's name, and the kind of artifact that they forge."""


def attacks(name: str, lie: Lie) -> Mapping[str, Attack]:
    """The four attacks that tell this lie, by name."""
    return {
        f"{form}_{name}{noise}": Attack(
            release=partial(_released, lie, form == "labels", bool(noise)), kinds=(kind,)
        )
        for form, kind in _FORMS.items()
        for noise in ("", "+noise")
    }


def _released(lie: Lie, labels: bool, noisy: bool, view: View) -> Tensor:
    """(b, m · C): what each Byzantine node answers."""
    import torch

    shape, count = (-1, view.classes), len(view.hostile)
    honest = rows(view.trained, view.honest).float()
    honest = honest.view(len(honest), *shape).log_softmax(-1).mean(0)
    told = honest.gather(1, lie(honest))
    if labels:
        told = SURE * (torch.nn.functional.one_hot(told.argmax(1), view.classes).float() - 1)
    sheets = told.expand(count, *told.shape)
    return (_blurred(sheets, view.generator) if noisy else sheets).flatten(1).clone()


def _blurred(sheets: Tensor, generator: Generator) -> Tensor:
    """The sheets (b, m, C) with the classes of a tenth of the rows rotated by chance."""
    import torch

    count, asked, classes = sheets.shape
    drawn = torch.rand((count, asked), generator=generator) < NOISE
    turn = torch.randint(1, classes, (count, asked), generator=generator) * drawn
    places = (torch.arange(classes) + turn[..., None]) % classes
    return sheets.gather(2, places.to(sheets.device))
