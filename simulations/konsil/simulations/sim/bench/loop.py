"""Loop: the workload as one would write it first, with one module a node and plain Python.

Local training is the daemon's own `konsil.knowledge.train.descend`, with its batches. It is what
the simulator's accuracy is held against.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from konsil.knowledge.batches import keys_of
from konsil.knowledge.networks import perceptron
from konsil.knowledge.task import Rows, Task
from konsil.knowledge.train import descend
from konsil.simulations.sim.bench.workload import metropolis

if TYPE_CHECKING:
    from torch import Tensor, nn

    from konsil.simulations.sim.setting import Setting

HIDDEN = 32


def module_of(setting: Setting) -> nn.Module:
    """A network of the workload with the weights that all begin with."""
    columns, classes = setting.cohorts.columns, setting.cohorts.classes
    module = perceptron(columns[0], (HIDDEN,), classes)
    module.load_state_dict(setting.network.layout.tensors(setting.base))
    return module


def task_of(setting: Setting, node: int) -> Task:
    """The rows of one node and how it learns, as its daemon would have them."""
    cohorts, training = setting.cohorts, setting.scenario.training
    rows, held = int(cohorts.train_rows[node]), int(cohorts.holdout_rows[node])
    return Task(
        name="bench",
        classes=tuple(map(str, range(cohorts.classes))),
        model=lambda: module_of(setting),
        train=Rows(
            cohorts.inputs[node, :rows],
            cohorts.targets[node, :rows],
            [f"train-{row}" for row in range(rows)],
        ),
        holdout=Rows(
            cohorts.holdout_inputs[node, :held],
            cohorts.holdout_targets[node, :held],
            [f"holdout-{row}" for row in range(held)],
        ),
        local_epochs=training.epochs or 1,
        batch_size=training.batch,
        learning_rate=training.lr,
    )


def run(setting: Setting) -> Tensor:
    """(n, p): the models after all rounds of the workload under rule mean."""
    layout, weights = setting.network.layout, metropolis(setting)
    tasks = [task_of(setting, node) for node in range(setting.nodes)]
    modules = [module_of(setting) for _ in tasks]
    for number in range(1, setting.scenario.training.rounds + 1):
        for task, module, seed in zip(tasks, modules, setting.seeds, strict=True):
            descend(task, module, keys_of([seed], number))
        trained = [
            {name: tensor.clone() for name, tensor in module.state_dict().items()}
            for module in modules
        ]
        for node, module in enumerate(modules):
            for name, tensor in module.state_dict().items():
                tensor.zero_()
                for other in weights[node].nonzero()[0]:
                    tensor.add_(trained[other][name], alpha=float(weights[node, other]))
    return torch.stack([layout.row(module.state_dict()) for module in modules])
