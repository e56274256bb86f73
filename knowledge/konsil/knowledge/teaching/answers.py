"""Answers: what a model says to a question, as a sheet of half-precision logits.

A sheet is NamedTensors with the one tensor `logits` (n × C, float16), so its payload is
``n · C · 2`` bytes and a header. It names no question by itself: the manifest does, by digest,
and whoever reads a sheet must have compared that digest before. A sheet from outside is data,
not truth: its shape and values are checked here, what it is worth is for trust to say.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from konsil.knowledge import pack
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.screen import screen
from konsil.knowledge.train import predict
from konsil.protocol import tensors
from konsil.protocol.errors import RemoteError, StorageError, TaskError
from konsil.protocol.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from konsil.knowledge.teaching.question import Question
    from konsil.protocol.digest import Digest
    from konsil.protocol.fields import Code

LOGITS = "logits"
LARGEST = 65504.0
"""The largest finite float16; what a model says beyond it is cut off there."""

EPOCHS = 2
"""Passes over the question in a lesson between peers."""
SUREST = 8.0
"""No answer gives a class less than exp(−8): logits are averaged, so one without a bound would
outweigh all others whatever its weight."""

_log = logging.getLogger(__name__)


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


def reasons(path: Path, question: Question, *, limits: Limits = DEFAULT_LIMITS) -> tuple[Code, ...]:
    """Why the payload at `path` is no sheet on `question`, each reason once; empty if it is one.

    `payload` (malformed), `tensors` (others than `logits`), `dtype`, `rows`, `classes` (another
    count) and `not_finite`. The header is judged first, so a claimed size is never allocated.
    Raises `StorageError` when the file cannot be read.
    """
    try:
        table = pack.read_table(path, limits=limits)
    except RemoteError as fault:
        _log.warning("%s: %s", path.name, fault)
        return ("payload",)
    if [spec.name for spec in table.tensors] != [LOGITS]:
        return ("tensors",)
    spec = table.tensors[0]
    found: list[Code] = []
    if spec.dtype != "F16":
        found.append("dtype")
    if spec.shape[:1] != (len(question),):
        found.append("rows")
    if spec.shape[1:] != (len(question.classes),):
        found.append("classes")
    return tuple(found) or screen(path, tensors.architecture(table), limits=limits)


def read(
    path: Path, question: Question, claimed: Digest, *, limits: Limits = DEFAULT_LIMITS
) -> tuple[NamedTensors | None, tuple[Code, ...]]:
    """A peer's sheet, or None and why it is refused.

    `claimed` is the digest of the question that the manifest says was answered; another one
    is refused as `question` before the file is opened. Other reasons are those of `reasons`.
    """
    if claimed != question.digest:
        return None, ("question",)
    refused = reasons(path, question, limits=limits)
    if refused:
        return None, refused
    try:
        return pack.load(path, limits=limits), ()
    except (RemoteError, StorageError) as fault:
        _log.warning("%s: %s", path.name, fault)
        return None, ("payload",)


def logits(sheet: NamedTensors) -> Tensor:
    """The logits of a checked sheet (n × C), widened to float64."""
    return sheet[LOGITS].double()


def bounded(values: Tensor) -> Tensor:
    """The logarithms of the probabilities of logits (…, C), none below −`SUREST`."""
    return torch.log_softmax(values, dim=-1).clamp(min=-SUREST)
