"""Networks: the image networks that a short name stands for.

``cnn``, ``cnn:8-16``, ``unet``, ``unet:8-16-32`` list the widths of their levels; ``cnn-bn`` and
``unet-bn`` use batch normalisation, for comparison; ``mlp:32`` has hidden layers over all pixels.
``module:factory`` is any other network, of the hospital's own file or of an installed package
such as MONAI. Initial weights come from torch's random numbers only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from torch import nn

from konsil.knowledge.imaging import unet
from konsil.knowledge.imaging.layers import Norm, block, halved
from konsil.knowledge.networks import hidden_widths, perceptron
from konsil.knowledge.task import load_function
from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

CNN_WIDTHS = (8, 16, 32)

_KINDS: dict[str, tuple[str, Norm]] = {
    "cnn": ("cnn", "group"),
    "cnn-bn": ("cnn", "batch"),
    "unet": ("unet", "group"),
    "unet-bn": ("unet", "batch"),
}


class ConvolutionalNetwork(nn.Module):
    """Images (n, channels, h, w) of any size to one value a class (n, classes).

    Each level is a block and halves the size; the mean over all places goes to a linear layer.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        widths: Sequence[int] = CNN_WIDTHS,
        norm: Norm = "group",
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            block(before, width, norm) for before, width in pairwise((channels, *widths))
        )
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """One value a class, before the softmax."""
        features = images
        for level in self.levels:
            features = halved(level(features))
        outputs: Tensor = self.head(features.mean(dim=(2, 3)))
        return outputs


@dataclass(frozen=True)
class Design:
    """What a short name says: the kind of network, the widths of its levels, its norm."""

    kind: str
    widths: tuple[int, ...]
    norm: Norm


def design(model: str) -> Design | None:
    """The design that a name stands for; None for what is no such name.

    >>> design("cnn-bn:8-16")
    Design(kind='cnn', widths=(8, 16), norm='batch')
    >>> design("unet").widths, design("unet:"), design("resnet")
    ((8, 16, 32), None, None)
    """
    name, colon, text = model.partition(":")
    if name not in _KINDS:
        return None
    kind, norm = _KINDS[name]
    if not colon:
        return Design(kind, CNN_WIDTHS if kind == "cnn" else unet.WIDTHS, norm)
    parts = text.split("-")
    if not all(part.isascii() and part.isdigit() and int(part) >= 1 for part in parts):
        return None
    return Design(kind, tuple(int(part) for part in parts), norm)


def network(
    model: str,
    *,
    shape: tuple[int, int, int],
    classes: int,
    masks: bool,
    search: Path,
    settings: Mapping[str, Any] | None = None,
) -> Callable[[], nn.Module]:
    """What makes the network `model`, for images of `shape` (channels, height, width) and
    masks or classes.

    `settings` are the keyword arguments of a ``module:factory``, which is looked for in the
    folder `search` first. Raises `ConfigError` for a name that means nothing, for a network
    that answers the other question, and for what the factory does not accept.
    """
    found = design(model)
    if found is not None:
        if settings:
            raise ConfigError(f"[task.options] model_options say nothing to model = {model!r}")
        if (found.kind == "unet") != masks:
            what, other = ("masks", "unet") if masks else ("classes", "cnn")
            raise ConfigError(
                f"[task.options] model = {model!r} does not answer with {what}",
                hint=f"model = {other}",
            )
        make = unet.UNet if found.kind == "unet" else ConvolutionalNetwork
        return partial(make, shape[0], classes, found.widths, found.norm)
    hidden = hidden_widths(model)
    if hidden and not (masks or settings):
        return partial(_flat, math.prod(shape), hidden, classes)
    if ":" not in model or model.partition(":")[0] in (*_KINDS, "mlp"):
        raise ConfigError(
            f"[task.options] model = {model!r} is not known",
            hint="mlp:32, cnn, cnn:8-16, unet, unet:8-16-32, each also with -bn, or module:factory",
        )
    factory = partial(
        load_function(model, search, setting="[task.options] model"), **(settings or {})
    )
    _expect_module(factory, model)
    return factory


def _flat(pixels: int, hidden: Sequence[int], classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), *perceptron(pixels, hidden, classes))


def _expect_module(factory: Callable[[], object], model: str) -> None:
    try:
        made = factory()
    except (TypeError, ValueError) as fault:
        raise ConfigError(
            f"[task.options] model = {model!r} cannot be made: {fault}",
            hint="model_options are the keyword arguments of the factory",
        ) from fault
    if not isinstance(made, nn.Module):
        raise ConfigError(f"[task.options] model = {model!r} made {type(made).__name__}, no module")
