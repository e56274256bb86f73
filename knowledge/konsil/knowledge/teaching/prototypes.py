"""Prototypes: the mean embedding of each class, where enough patients stand behind it.

An embedding is what enters a network's last linear layer, scaled to length 1; peers whose
embeddings have the same width can share their class means and pull their own rows towards them
(FedProto, Tan et al., 2022). A mean of few patients tells of those patients, so a class with
fewer than `FEWEST` rows is not sent, and rows are told in buckets. A network without a hidden
layer has no embedding: its means would be means of the raw inputs, which never leave.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from konsil.knowledge.batches import keys_of
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.teaching import steps
from konsil.knowledge.train import Trained, finished, on_device, seed_of
from konsil.protocol.artifact import bucket
from konsil.protocol.errors import ConfigError, LocalProtocolError, TaskError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from konsil.knowledge.task import Rows, Task

FEWEST = 10
"""Rows of a class below which nothing about it is sent."""

MEANS, ROWS = "means", "rows"
_BATCH = 512
_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


def embedded(module: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs (n × C) and embeddings (n × d, length 1) of one pass.

    Raises `TaskError` when the module has no linear layer behind a hidden one.
    """
    layers = [part for part in module.modules() if isinstance(part, _LAYERS)]
    heads = [part for part in layers if isinstance(part, nn.Linear)]
    caught: list[Tensor] = []
    if not heads or len(layers) < 2:
        raise TaskError(
            "the model has no hidden layer before a linear one, so it has no embedding",
            hint="prototypes need a network such as mlp:16",
        )
    hook = heads[-1].register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    try:
        outputs = module(inputs)
    finally:
        hook.remove()
    if not caught or caught[-1].ndim != 2:
        raise TaskError("the last linear layer of the model does not take one vector a row")
    return outputs, functional.normalize(caught[-1], dim=1)


def prototypes(
    module: nn.Module, rows: Rows, classes: int, *, fewest: int = FEWEST
) -> NamedTensors:
    """The sheet of a module: `means` (C × d, float32) and `rows` (C, int64, lower bucket edges).

    Classes with fewer than `fewest` patients or rows have 0 rows and a mean of 0. Raises
    `ConfigError` when `fewest` is below `FEWEST`, and as `embedded` does.
    """
    if fewest < FEWEST:
        raise ConfigError(f"prototypes of {fewest} rows could tell of a single patient")
    module.eval()
    with torch.no_grad():
        found = [embedded(module, part)[1].cpu() for part in torch.split(rows.inputs, _BATCH)]
    values, targets = torch.cat(found), rows.targets.cpu()
    means = torch.zeros(classes, values.shape[1])
    counts = torch.zeros(classes, dtype=torch.int64)
    for place in range(classes):
        mine = torch.nonzero(targets == place)[:, 0]
        behind = len({rows.patients[row] for row in mine.tolist()})
        if behind >= fewest:
            means[place] = values[mine].mean(dim=0)
            counts[place] = bucket(behind)
    return NamedTensors({MEANS: means, ROWS: counts})


def fused(sheets: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> NamedTensors:
    """The means of several checked sheets by weight, and the rows in sum.

    A class of which a sheet has no rows is not taught by it, and of how many it has nothing
    depends: a claim must not buy weight. A class that nobody has stays at 0 rows. A sheet of
    weight 0 changes no bit; the order of sheets changes roundings only. Raises
    `LocalProtocolError` for a negative or infinite weight, or when none is left.
    """
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
        raise LocalProtocolError("a weight of prototypes is negative or not finite")
    used = [(s, w) for s, w in zip(sheets, weights, strict=True) if w > 0]
    if not used:
        raise LocalProtocolError("no prototypes have a weight")
    total = torch.zeros_like(used[0][0][MEANS], dtype=torch.float64)
    mass = torch.zeros(len(total), dtype=torch.float64)
    counts = torch.zeros(len(total), dtype=torch.int64)
    for sheet, weight in used:
        said = sheet[ROWS] > 0
        share = weight * said.double()
        total += weight * torch.where(said[:, None], sheet[MEANS], 0).double()
        mass += share
        counts += sheet[ROWS]
    means = total / torch.where(mass > 0, mass, torch.ones_like(mass))[:, None]
    return NamedTensors({MEANS: means.float(), ROWS: counts})


def distance(embeddings: Tensor, targets: Tensor, sheet: Mapping[str, Tensor]) -> Tensor:
    """``‖z − p_y‖²``, the mean over the rows whose class has a prototype; 0 if none has."""
    known = (sheet[ROWS] > 0)[targets].to(embeddings.dtype)
    apart = (embeddings - sheet[MEANS][targets]).square().sum(dim=1)
    return (apart * known).sum() / known.sum().clamp(min=1)


def train_towards(
    task: Task,
    start: NamedTensors,
    sheet: Mapping[str, Tensor],
    *,
    seed: int,
    node: str,
    number: int,
    own: float = 1.0,
    weight: float = 1.0,
    device: str = "cpu",
) -> Trained:
    """An epoch of ``own · loss + weight · ‖z − p_y‖²`` on the own rows; `start` stays as it is.

    The task's `loss`, rate and `optimise` apply; its `fit` does not, because only here a batch
    shows its embeddings. Raises `TaskError` as training does.
    """
    criterion = task.loss or functional.cross_entropy
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(seed, "prototypes", node, str(number)))
        module = task.model()
        start.load_into(module)
        module.to(device)
        rows = on_device(task.train, device)
        towards = {name: tensor.to(device) for name, tensor in sheet.items()}

        def cost(batch: Tensor, _: int) -> Tensor:
            outputs, values = embedded(module, rows.inputs[batch])
            targets = rows.targets[batch]
            pulled = distance(values, targets, towards)
            return own * criterion(outputs, targets) + weight * pulled

        loss = steps.follow(
            module,
            cost,
            keys_of([seed_of(seed, "batches", node)], number),
            len(rows),
            size=task.batch_size,
            epochs=1,
            rate=task.learning_rate,
            optimise=task.optimise,
        )
    return finished(module, loss, f"round {number}: training towards prototypes")
