"""Plain torch: a model written so that it loads where neither konsil nor its task is installed.

Weights as safetensors, the network as a `torch.export` program, what a prediction needs beside
them (classes, the local intercept, how inputs were prepared) as JSON, and a short example.
Traced with zeros of the shape of the inputs, so no patient's row gets into a file; the means
and spreads of a preparation are those of the hospital's training rows.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch

from konsil.knowledge import pack
from konsil.protocol.errors import StorageError, TaskError

if TYPE_CHECKING:
    from pathlib import Path

    from konsil.knowledge.named import NamedTensors
    from konsil.knowledge.task import Task

FILES = ("model.safetensors", "model.pt2", "prediction.json", "example.py")

_EXAMPLE = '''\
"""Loads an exported model and predicts; needs torch and safetensors only."""
import json
from pathlib import Path

import torch
from safetensors.torch import load_file

here = Path(__file__).parent
facts = json.loads((here / "prediction.json").read_text())
model = torch.export.load(here / "model.pt2").module()
model.load_state_dict(load_file(here / "model.safetensors"))
inputs = torch.zeros({shape!r}, dtype={dtype})  # your rows; columns as in prediction.json
if facts["spread"]:
    inputs = (inputs - torch.tensor(facts["centre"])) / torch.tensor(facts["spread"])
logits = model(inputs) + torch.tensor(facts["intercept"])  # fitted at the exporting hospital
for row in torch.softmax(logits, dim=1).tolist():
    print(dict(zip(facts["classes"], row)))
'''

_MASKS = """\
logits = model(inputs)  # one value a class and pixel
for mask in logits.argmax(dim=1):
    print({{name: int((mask == place).sum()) for place, name in enumerate(facts["classes"])}})
"""


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
    by = task.preparation
    facts = {
        "classes": task.classes,
        "intercept": [round(value, 6) for value in intercept],
        "columns": by.columns if by else [],
        "centre": by.centre if by else [],
        "spread": by.spread if by else [],
    }
    try:
        pack.save(model, folder / FILES[0])
        torch.export.save(program, folder / FILES[1])
        (folder / FILES[2]).write_text(json.dumps(facts, indent=2) + "\n")
        example = _EXAMPLE
        if task.problem == "masks":
            example = _EXAMPLE[: _EXAMPLE.index("logits = ")] + _MASKS
        text = example.format(shape=tuple(inputs.shape), dtype=inputs.dtype)
        (folder / FILES[3]).write_text(text)
    except OSError as fault:
        raise StorageError(f"{folder}: cannot be written: {fault.strerror}") from fault
    return FILES
