"""Witness: has a model learned what its hospital's own rows say?

Teachers are held against the receiver's own answers (`konsil.knowledge.teaching.hearing`). A model
that has just begun answers at random; measured by that, liars would do as well as anybody. Rows
that the model was trained on count too: what matters is that their labels are in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

from konsil.knowledge.teaching.agreement import agreement

if TYPE_CHECKING:
    from torch import Tensor

SURE_ERRORS = 3
"""Standard errors by which a witness agrees with its own rows."""
CERTAIN = 8.0
"""The logit by which a label stands above the other classes."""


def is_witness(outputs: Tensor, targets: Tensor, known: Tensor) -> bool:
    """Do the logits (n × C) agree with the labels (n) of the own rows, beyond chance?

    `known` (C, bool) are the classes of which there are rows; with one class nothing is learned.
    """
    told = CERTAIN * functional.one_hot(targets, len(known)).double()
    found = agreement(outputs.double(), told, known)
    return found is not None and found.value > SURE_ERRORS * found.error
