"""Sites: what the entries of each simulated hospital say of its rows, recipe and code.

Digests and buckets only, as a daemon's fingerprints are. The salt of the commitment to a
hospital's rows follows from the seed, as all of a simulation does, and hides nothing.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch

from konsil.knowledge import batches
from konsil.protocol.artifact import ClassCoverage, Coverage, bucket
from konsil.protocol.digest import tagged
from konsil.simulations.sim import descent, networks
from konsil.simulations.sim.site import task_name

if TYPE_CHECKING:
    from konsil.protocol.digest import Digest
    from konsil.simulations.sim.setting import Setting


@dataclass(frozen=True)
class Sites:
    """Facts that stay the same over all rounds; lists have one member for each node."""

    task: str
    data: list[Digest]
    coverage: list[Coverage]
    recipe: Digest
    code: Digest
    environment: Digest


def sites_of(setting: Setting) -> Sites:
    """The facts of a scenario's nodes; the rows are those that they train on."""
    population, training = setting.scenario.population, setting.scenario.training
    name = task_name(population.dataset, population.models[0])
    recipe = (name, str(setting.network.layout), msgspec.to_builtins(training))
    files = (descent.__file__, networks.__file__, batches.__file__)
    sources = [Path(name).read_bytes() for name in files if name]
    machine = (platform.python_version(), torch.__version__, np.__version__, platform.machine())
    return Sites(
        task=name,
        data=[_commitment(setting, node) for node in range(setting.nodes)],
        coverage=[_covered(setting, node) for node in range(setting.nodes)],
        recipe=tagged("recipe", msgspec.json.encode(recipe, order="sorted")),
        code=tagged("code", *sources),
        environment=tagged("environment", *(fact.encode() for fact in machine)),
    )


def _commitment(setting: Setting, node: int) -> Digest:
    cohorts, rows = setting.trained_on, int(setting.trained_on.train_rows[node])
    salt = tagged("simulation salt", str(setting.scenario.seed).encode(), str(node).encode())
    parts = []
    for tensor in (cohorts.inputs[node, :rows], cohorts.targets[node, :rows]):
        array = np.ascontiguousarray(tensor.numpy())
        parts += [f"{array.dtype.str} {array.shape}".encode(), array.tobytes()]
    return tagged("data", salt, *parts)


def _covered(setting: Setting, node: int) -> Coverage:
    """Rows in buckets; classes are named by their number."""
    cohorts, rows = setting.trained_on, int(setting.trained_on.train_rows[node])
    targets = cohorts.targets[node, :rows].numpy()
    counts = np.bincount(targets, minlength=cohorts.classes).tolist()
    return Coverage(
        rows=bucket(rows),
        classes=tuple(
            ClassCoverage(name=str(one), rows=bucket(count))
            for one, count in enumerate(counts)
            if count
        ),
        not_evaluated=tuple(str(one) for one, count in enumerate(counts) if not count),
        tensors=(),
    )
