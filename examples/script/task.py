"""The training script beside this file as a task: one round is one of its epochs.

    konsil init HOME --name bern --task task:build     then copy train.py and task.py to HOME

`train.py` stays as it is.
"""

from __future__ import annotations

import torch
import train
from torch.utils.data import DataLoader, TensorDataset

from konsil.knowledge import Rows, Task, TaskConfig


def build(config: TaskConfig) -> Task:
    """The task of one hospital; every fourth of its patients is held back to judge the others."""
    inputs, targets, patients = train.load_patients(
        config.options.get("site", 0), config.options.get("sites", 1)
    )

    def part(chosen: list[int]) -> Rows:
        return Rows(inputs[chosen], targets[chosen], [patients[place] for place in chosen])

    places = range(len(patients))
    return Task(
        name="breast-cancer-wrapped",
        classes=("malignant", "benign"),
        model=train.Net,
        train=part([place for place in places if place % 4]),
        holdout=part([place for place in places if place % 4 == 0]),
        fit=fit,
    )


def fit(module: torch.nn.Module, rows: Rows, generator: torch.Generator) -> float:
    """One round: an epoch of the script, in an order that the node's seed decides."""
    patients = TensorDataset(rows.inputs, rows.targets)
    loader = DataLoader(patients, train.BATCH, shuffle=True, generator=generator)
    return train.train_epoch(module, loader, torch.optim.Adam(module.parameters(), train.RATE))
