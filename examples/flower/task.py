"""The Flower client beside this file as a task: one round is one call of its `fit`.

    konsil init HOME --name bern --task task:build     then copy client.py and task.py to HOME

`client.py` stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from client import Net, client_fn

from konsil.knowledge import Rows, Task, TaskConfig

if TYPE_CHECKING:
    from torch.utils.data import DataLoader


def build(config: TaskConfig) -> Task:
    """The task of one hospital; the patients of its `valloader` judge the others."""
    client = client_fn(config.options.get("site", 0), config.options.get("sites", 1))

    def fit(module: torch.nn.Module, rows: Rows, generator: torch.Generator) -> float:
        """One round: the client trains from the node's model, and the node takes the result."""
        state = module.state_dict()
        trained, _, metrics = client.fit([value.cpu().numpy() for value in state.values()], {})
        arrays = zip(state, map(torch.tensor, trained), strict=True)
        module.load_state_dict(dict(arrays))
        return metrics["loss"]

    return Task(
        name="breast-cancer-wrapped",
        classes=("malignant", "benign"),
        model=Net,
        train=rows_of(client.trainloader, "train"),
        holdout=rows_of(client.valloader, "held back"),
        fit=fit,
    )


def rows_of(loader: DataLoader, part: str) -> Rows:
    """All rows of a loader; every row is a patient of its own here."""
    inputs, targets = loader.dataset.tensors
    return Rows(inputs, targets, [f"{part} {number}" for number in range(len(targets))])
