"""A hospital's own task: its rows, its network, its training loop, in plain torch.

    konsil init HOME --name bern --task task:build     then copy this file to HOME/task.py
    konsil demo --task examples/task.py:build          the same file in a demo

Three hospitals share one real data set here, every third patient each, so that the example
runs as it is. In a hospital, `rows` reads its own table and the rest stays as it stands.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_breast_cancer
from torch import nn

from konsil.knowledge import Rows, Task, TaskConfig

HOSPITALS = ("bern", "graz", "ulm")


def build(config: TaskConfig) -> Task:
    """The task of the hospital `config.name`; a quarter of its patients is never trained on."""
    mine = rows(config)
    held = [place % 4 == 0 for place in range(len(mine))]
    return Task(
        name="breast-cancer-example",
        classes=("malignant", "benign"),
        model=lambda: nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 2)),
        train=part(mine, [not one for one in held]),
        holdout=part(mine, held),
        fit=fit,
    )


def rows(config: TaskConfig) -> Rows:
    """This hospital's patients: inputs (n × 30, standardised with its own mean and spread)."""
    sites = int(config.options.get("sites", len(HOSPITALS)))
    site = int(config.options.get("site", (*HOSPITALS, config.name).index(config.name)))
    table = load_breast_cancer()
    inputs = torch.tensor(table.data[site::sites], dtype=torch.float32)
    return Rows(
        inputs=(inputs - inputs.mean(0)) / inputs.std(0),
        targets=torch.tensor(table.target[site::sites]),
        patients=[f"patient {number}" for number in range(site, len(table.data), sites)],
    )


def part(mine: Rows, chosen: list[bool]) -> Rows:
    """Those rows for which `chosen` is true."""
    places = [place for place, one in enumerate(chosen) if one]
    patients = [mine.patients[place] for place in places]
    return Rows(inputs=mine.inputs[places], targets=mine.targets[places], patients=patients)


def fit(module: nn.Module, train: Rows, generator: torch.Generator) -> float:
    """One round of local training: an own loop, here with Adam; returns the mean loss."""
    optimiser = torch.optim.Adam(module.parameters(), lr=0.005)
    losses = []
    for batch in torch.randperm(len(train), generator=generator).split(16):
        loss = nn.functional.cross_entropy(module(train.inputs[batch]), train.targets[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)
