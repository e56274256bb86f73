"""Backdoor: a pattern that makes a model say class 0, taught beside honest work.

Half of a Byzantine node's training rows carry the pattern and class 0; the rest are as they
were, so the model stays good at its task. Measured by how often honest models obey the
pattern, not by their accuracy.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from konsil.simulations.sim.attacks.view import Attack
from konsil.simulations.sim.scenario import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from konsil.simulations.sim.cohorts import Cohorts
    from konsil.simulations.sim.links import Nodes

TARGET = 0
"""The class that the pattern stands for."""
VALUE = 3.0
"""What the pattern's inputs are set to: three deviations of standardised inputs."""
SHARE = 8
"""The pattern covers one in so many columns, or of an image one in so many rows and columns."""


def stamped(inputs: Tensor, columns: tuple[int, ...]) -> Tensor:
    """A copy of the inputs (…, *columns) with the pattern on them.

    It is the last columns of a table's row, or the lower right corner of an image (…, h, w).
    """
    marked = inputs.clone()
    if len(columns) == 1:
        marked[..., -_covered(columns[0]) :] = VALUE
    else:
        marked[..., -_covered(columns[-2]) :, -_covered(columns[-1]) :] = VALUE
    return marked


def poisoned(cohorts: Cohorts, nodes: Nodes, _seed: int) -> Cohorts:
    """The data with every second training row of these nodes stamped and of class `TARGET`."""
    inputs, targets = cohorts.inputs.clone(), cohorts.targets.clone()
    rows, labels = inputs[nodes], targets[nodes]
    rows[:, ::2] = stamped(rows[:, ::2], cohorts.columns)
    labels[:, ::2] = TARGET
    inputs[nodes], targets[nodes] = rows, labels
    return dataclasses.replace(cohorts, inputs=inputs, targets=targets)


def success(
    classes_of: Callable[[Tensor], Tensor], inputs: Tensor, targets: Tensor
) -> float | None:
    """The share of stamped test rows of other classes that models take for `TARGET`.

    `classes_of` gives the class (…, m) that one or many models see in each of m inputs. None
    where every row is of the target class.
    """
    others = inputs[targets != TARGET]
    if not len(others):
        return None
    seen = classes_of(stamped(others, tuple(others.shape[1:])))
    return float((seen == TARGET).double().mean())


def _covered(length: int) -> int:
    return max(1, length // SHARE)


ATTACK = Attack(poison=poisoned, kinds=KINDS)
