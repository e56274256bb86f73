"""Networks: the plain feed-forward networks that a short name stands for.

Initial weights come from torch's random numbers only. Importing this module does not import
torch; making a network does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn


def hidden_widths(model: str) -> tuple[int, ...] | None:
    """The widths of the hidden layers that a name lists; None for what is no such name.

    >>> hidden_widths("logistic"), hidden_widths("mlp:64-32"), hidden_widths("mlp:x")
    ((), (64, 32), None)
    """
    kind, colon, text = model.partition(":")
    if kind == "logistic" and not colon:
        return ()
    parts = text.split("-")
    if kind != "mlp" or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    widths = tuple(int(part) for part in parts)
    return widths if min(widths) >= 1 else None


def perceptron(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """Linear layers with ReLU between them; without hidden layers, logistic regression."""
    from torch import nn

    layers: list[nn.Module] = []
    width = inputs
    for units in hidden:
        layers += [nn.Linear(width, units), nn.ReLU()]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, outputs))
