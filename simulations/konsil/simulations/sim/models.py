"""Models: the networks that `[population] model` may name.

``logistic``; ``mlp:32-16`` (hidden widths, or all widths when the first is that of the inputs
and the last the number of classes); ``cnn``, or ``cnn:8-16`` with the widths of its levels, which
is that of `konsil.knowledge.imaging`; or an own ``module:function``. A further one is a function
here and a line in `MODELS`. Initial weights come from torch's random numbers only. No
network keeps statistics of batches, so that every tensor of it can be mixed.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

import torch
from torch import nn

from konsil.knowledge.imaging.networks import ConvolutionalNetwork, design
from konsil.knowledge.networks import hidden_widths, perceptron
from konsil.knowledge.task import load_factory
from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Columns: TypeAlias = tuple[int, ...]
"""The shape of one input."""
Make: TypeAlias = "Callable[[], nn.Module]"

_KNOWN = "logistic, mlp:64-32, cnn, cnn:8-16, or module:function"
_SMALLEST = 4
"""Pixels on a side that the convolutional network needs."""


def model_of(name: str, columns: Columns, classes: int, folder: Path | None = None) -> Make:
    """Makes the network that a name stands for, from inputs (rows, *columns) to (rows, classes).

    An own function is looked up in `folder` (by default the current one), then among the
    installed modules. Raises `ConfigError` naming `[population] model`.
    """
    kind, colon, _ = name.partition(":")
    if kind in MODELS:
        return MODELS[kind](name, columns, classes)
    if colon:
        return _own(name, columns, classes, folder or Path())
    raise _unknown(name)


def _flat(name: str, columns: Columns, classes: int) -> Make:
    """A perceptron over all numbers of an input."""
    hidden = hidden_widths(name)
    if hidden is None:
        raise _unknown(name)
    inputs = math.prod(columns)
    if len(hidden) > 1 and (hidden[0], hidden[-1]) == (inputs, classes):
        hidden = hidden[1:-1]
    make = partial(perceptron, inputs, hidden, classes)
    return make if len(columns) == 1 else lambda: nn.Sequential(nn.Flatten(), make())


def _cnn(name: str, columns: Columns, classes: int) -> Make:
    """Convolutions with group normalisation, over (channels, h, w), (h, w) or a square: two of
    them, or one a level of the widths that are named."""
    shape, found = _image(columns), design(name)
    if found is None or shape is None:
        raise ConfigError(
            f'[population] model = "{name}" does not fit inputs of the shape {columns}',
            hint=f"cnn needs (channels, height, width) or a square, of {_SMALLEST} pixels or more",
        )
    channels = shape[0]
    if name != "cnn":
        return lambda: nn.Sequential(
            nn.Flatten(),
            nn.Unflatten(1, shape),
            ConvolutionalNetwork(channels, classes, found.widths, found.norm),
        )
    return lambda: nn.Sequential(
        nn.Flatten(),
        nn.Unflatten(1, shape),
        nn.Conv2d(shape[0], 8, 3, padding=1),
        nn.GroupNorm(2, 8),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.GroupNorm(4, 16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 2 * 2, classes),
    )


def _image(columns: Columns) -> tuple[int, int, int] | None:
    """Channels, height and width; None where an input is no image."""
    side = math.isqrt(math.prod(columns))
    if len(columns) == 1 and side * side == columns[0]:
        columns = (side, side)
    if len(columns) == 2:
        columns = (1, *columns)
    if len(columns) != 3 or min(columns[1:]) < _SMALLEST:
        return None
    return columns[0], columns[1], columns[2]


def _own(name: str, columns: Columns, classes: int, folder: Path) -> Make:
    """A function of the user's, called with the shape of an input and the number of classes."""
    try:
        found = load_factory(name, folder.resolve())
    except ConfigError as error:
        said = error.message.replace("[task] factory", "[population] model")
        raise ConfigError(said, hint=error.hint) from error
    make = partial(cast("Callable[[Columns, int], nn.Module]", found), columns, classes)
    _try(name, make, columns, classes)
    return make


def _try(name: str, make: Make, columns: Columns, classes: int) -> None:
    """One network is made and asked, so that an error is told before anything runs."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            answer = make().eval()(torch.zeros(2, *columns))
            shape = tuple(answer.shape)
        except Exception as fault:  # whatever a user's own function raises, named and handed on
            raise ConfigError(
                f'[population] model = "{name}": {type(fault).__name__}: {fault}',
                hint=f"it is called with {columns} and {classes}, and returns a torch module",
            ) from fault
    if shape != (2, classes):
        raise ConfigError(
            f'[population] model = "{name}" answers two rows with the shape {shape}, '
            f"not (2, {classes})"
        )


def _unknown(name: str) -> ConfigError:
    return ConfigError(f'[population] model = "{name}" is not known', hint=f"one of {_KNOWN}")


MODELS: Mapping[str, Callable[[str, Columns, int], Make]] = {
    "logistic": _flat,
    "mlp": _flat,
    "cnn": _cnn,
}
"""Every kind of model, by the word before the colon."""
