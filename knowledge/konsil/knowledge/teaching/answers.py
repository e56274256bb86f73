"""Answers: what a model says to a question, as a sheet of half-precision logits.

A sheet is NamedTensors with the one tensor `logits` (n × C, float16), so its payload is
``n · C · 2`` bytes and a header. It names no question by itself: the manifest does, by digest,
and whoever reads a sheet must have compared that digest before, and screened its form and values
(`konsil.knowledge.screen`). What it is worth is for trust to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from konsil.knowledge.named import NamedTensors
from konsil.knowledge.train import predict
from konsil.protocol.errors import TaskError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from konsil.knowledge.teaching.question import Question

LOGITS = "logits"
LARGEST = 65504.0
"""The largest finite float16; what a model says beyond it is cut off there."""


EPOCHS = 2
"""Passes over the question in a lesson between peers."""
SUREST = 8.0
"""No answer gives a class less than exp(−8): logits are averaged, so one without a bound would
outweigh all others whatever its weight."""


def answered(module: nn.Module, question: Question) -> NamedTensors:
    """The sheet of a trained `module`, in evaluation mode.

    Each row is shifted to a largest logit of 0, which changes no probability and keeps
    half precision where it counts. Raises `TaskError` when an answer is not a number, or
    when there is not one a class.
    """
    outputs = predict(module, question.inputs).float()
    wanted = (len(question), len(question.classes))
    if tuple(outputs.shape) != wanted:
        raise TaskError(
            f"the model answers a question with shape {tuple(outputs.shape)}, not {wanted}"
        )
    if not bool(torch.isfinite(outputs).all()):
        raise TaskError(
            "the model answers a question with values that are not finite",
            hint="look at the loss of its training",
        )
    return NamedTensors({LOGITS: written(outputs)})


def written(outputs: Tensor) -> Tensor:
    """Finite outputs (…, C) as they stand on a sheet, the largest of each row 0."""
    shifted = outputs - outputs.amax(dim=-1, keepdim=True)
    return shifted.clamp(-LARGEST, LARGEST).half()


def logits(sheet: NamedTensors) -> Tensor:
    """The logits of a checked sheet (n × C), widened to float64."""
    return sheet[LOGITS].double()


def bounded(values: Tensor) -> Tensor:
    """The logarithms of the probabilities of logits (…, C), none below −`SUREST`."""
    return torch.log_softmax(values, dim=-1).clamp(min=-SUREST)
