"""Plain torch: a model written so that it loads where neither konsil nor its task is installed.

Weights as safetensors, the network as a `torch.export` program, and an example of ten lines.
Traced with zeros of the shape of the inputs, so no patient's row gets into a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from konsil.knowledge import pack
from konsil.protocol.errors import StorageError, TaskError

if TYPE_CHECKING:
    from pathlib import Path

    from konsil.knowledge.named import NamedTensors
    from konsil.knowledge.task import Task

FILES = ("model.safetensors", "model.pt2", "example.py")

_EXAMPLE = '''\
"""Loads an exported model and predicts; needs torch and safetensors only."""
import torch
from safetensors.torch import load_file

CLASSES = {classes!r}
INTERCEPT = torch.tensor({intercept!r})  # fitted at the hospital that exported
model = torch.export.load("model.pt2").module()
model.load_state_dict(load_file("model.safetensors"))
inputs = torch.zeros({shape!r}, dtype={dtype})  # your rows, prepared as the task prepares them
for row in torch.softmax(model(inputs) + INTERCEPT, dim=1).tolist():
    print(dict(zip(CLASSES, row)))
'''


def write_plain(
    task: Task, model: NamedTensors, intercept: tuple[float, ...], folder: Path
) -> tuple[str, ...]:
    """Write `FILES` into `folder` and return their names.

    Raises `TaskError` when torch cannot trace the network, `StorageError` for the disk.
    """
    module = task.model()
    model.load_into(module)
    module.eval()
    inputs = torch.zeros_like(task.train.inputs[:1].cpu()).repeat_interleave(2, dim=0)
    try:
        rows = {0: torch.export.Dim("rows")}
        program = torch.export.export(module, (inputs,), dynamic_shapes=(rows,))
    except Exception as fault:
        raise TaskError(
            f"torch.export cannot trace the network of task {task.name!r}: {fault}",
            hint="see torch.export's rules on data-dependent control flow",
        ) from fault
    text = _EXAMPLE.format(
        classes=task.classes,
        intercept=tuple(round(value, 6) for value in intercept),
        shape=tuple(inputs.shape),
        dtype=inputs.dtype,
    )
    try:
        pack.save(model, folder / FILES[0])
        torch.export.save(program, folder / FILES[1])
        (folder / FILES[2]).write_text(text)
    except OSError as fault:
        raise StorageError(f"{folder}: cannot be written: {fault.strerror}") from fault
    return FILES
