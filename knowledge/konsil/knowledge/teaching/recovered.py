"""Recovered: how much of the gap between a weak teacher and a ceiling a student closes.

``PGR = (student − weak) / (ceiling − weak)`` (Burns et al., 2023), in AUC: a threshold metric
measures the prevalence of the weak labels as well. Where the ceiling is not above the weak
teacher there is no gap, and no number is made up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from konsil.knowledge.evaluate import auc, softmax

if TYPE_CHECKING:
    from konsil.knowledge.evaluate import Logits, Targets
    from konsil.protocol.fields import Code


@dataclass(frozen=True)
class Recovered:
    """The three AUC, None where the rows give none, and the recovered share of the gap.

    `share` is None for the `reason` `no_gap` (ceiling not above weak) or `one_class`. It may
    be negative, or above 1.
    """

    weak: float | None
    student: float | None
    ceiling: float | None
    share: float | None
    reason: Code


def recovered(weak: float | None, student: float | None, ceiling: float | None) -> Recovered:
    """The recovered gap between three AUC."""
    if weak is None or student is None or ceiling is None:
        return Recovered(weak, student, ceiling, None, "one_class")
    if ceiling <= weak:
        return Recovered(weak, student, ceiling, None, "no_gap")
    return Recovered(weak, student, ceiling, (student - weak) / (ceiling - weak), "measured")


def in_auc(weak: Logits, student: Logits, ceiling: Logits, targets: Targets) -> Recovered:
    """The recovered gap from three models' logits (n × C) on the same labelled rows."""
    return recovered(*(auc(softmax(logits), targets) for logits in (weak, student, ceiling)))
