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

from konsil.knowledge.teaching.agreement import directions

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
    if len(sheets) < 2:
        return count
    one, other = torch.combinations(torch.arange(len(sheets))).unbind(dim=1)
    said = torch.stack(list(sheets))
    likeness = alike(said[one], said[other], known[one] & known[other], reference)
    part = ((likeness - DIFFERENT) / (SAME - DIFFERENT)).clamp(0, 1)
    count.index_add_(0, one, part * trusts[other])
    count.index_add_(0, other, part * trusts[one])
    return 1 / count


def alike(ones: Tensor, others: Tensor, known: Tensor, reference: Tensor) -> Tensor:
    """What pairs of sheets (…, n, C) have in common beyond the reference (n × C), each on its
    known classes (…, C, bool).

    0 where fewer than two classes are known: nothing can be shared there.
    """
    a, b, r = (directions(each, known) for each in (ones, others, reference))
    both, ours, theirs = ((x * y).sum(dim=(-2, -1)) for x, y in ((a, b), (a, r), (b, r)))
    likeness: Tensor = both - ours * theirs
    return likeness
