"""Voices: several teachers that make the same mistakes speak with one voice.

Honest teachers agree because they are right; what each adds to that is its own. Colluders share
what is *wrong*, and independent noise on top hides that from a comparison of bytes or distances,
not from the correlation of what they say beyond a reference. With A the agreement of two sheets,

    alike(a, b) = A(a, b) − A(a, r) · A(b, r):

what two have in common beyond what each has in common with the reference r. Good models agree
and are never alike, however near to each other, for both are near the reference. The voice of a
teacher is one over the number of those alike to it, itself included; who is not believed is not
counted, so nobody is made faint by a liar who repeats him.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from konsil.knowledge.teaching.agreement import agreement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

DIFFERENT = 0.4
"""Up to here two sheets are different."""
SAME = 0.6
"""From here on they are one; copies of a lie, a tenth of each at random, stand at 0.7 to 0.8."""


def voices(sheets: Sequence[Tensor], known: Tensor, trusts: Tensor, reference: Tensor) -> Tensor:
    """The voice (k, float64) of each of k sheets of logits (n × C): 1, or less for copies.

    `known` (k × C, bool) are the classes that each speaks of and the reference knows, `trusts`
    (k, from 0 to 1) how far each is believed, `reference` (n × C) the logits of what is held for
    true.
    """
    count = torch.ones(len(sheets), dtype=torch.float64)
    for first in range(len(sheets)):
        for second in range(first + 1, len(sheets)):
            common = known[first] & known[second]
            likeness = alike(sheets[first], sheets[second], common, reference)
            part = min(max((likeness - DIFFERENT) / (SAME - DIFFERENT), 0.0), 1.0)
            count[first] += part * trusts[second]
            count[second] += part * trusts[first]
    return 1 / count


def alike(one: Tensor, other: Tensor, known: Tensor, reference: Tensor) -> float:
    """What two sheets have in common beyond the reference, on the known classes (C, bool).

    0 where fewer than two classes are known: nothing can be shared there.
    """
    both = agreement(one, other, known)
    ours, theirs = agreement(one, reference, known), agreement(other, reference, known)
    if both is None or ours is None or theirs is None:
        return 0.0
    return both.value - ours.value * theirs.value
