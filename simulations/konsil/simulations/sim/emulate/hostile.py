"""Hostile: one node of a scenario as the task of a Byzantine daemon.

`build` is the task factory ``konsil.simulations.sim.emulate.hostile:build``. A daemon sees its
own rows and models alone, so it takes those attacks of `sim.attacks` that need no more, through
the very functions of the simulator: as a network of one node, which is hostile.

`on_off` counts the releases of this process, so that a daemon that comes back begins anew.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol.errors import ConfigError
from konsil.simulations.sim.attacks import ATTACKS

if TYPE_CHECKING:
    from konsil.knowledge.named import NamedTensors
    from konsil.knowledge.task import Rows, Task, TaskConfig
    from konsil.simulations.adversary import Release
    from konsil.simulations.sim.attacks.view import Attack

FACTORY = "konsil.simulations.sim.emulate.hostile:build"
"""This module's task factory, as `node.toml` names it."""

ALONE = ("sign_flip", "free_rider", "on_off", "label_flip", "label_flip_boosted", "backdoor")
"""The attacks that need nothing but the Byzantine node's own rows and models."""


class HostileOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[task.options]` of a Byzantine node."""

    scenario: str
    site: int
    """Both as in `sim.site`."""
    attack: str
    strength: float | None = None
    """Absent: the attack's own."""


def build(config: TaskConfig) -> Task:
    """The task of a node, with poisoned rows and a hostile release as its attack has them.

    Raises `ConfigError` for an attack that one node alone cannot make, and as `sim.site` does.
    """
    from konsil.simulations.sim import site

    try:
        options = msgspec.convert(dict(config.options), HostileOptions, strict=True)
    except msgspec.ValidationError as fault:
        hint = "options are scenario, site, attack, strength"
        raise ConfigError(f"[task.options] {fault}", hint=hint) from None
    if options.attack not in ALONE:
        raise ConfigError(
            f"[task.options] attack = `{options.attack}` is none that one node can make",
            hint=f"one of {', '.join(ALONE)}",
        )
    plain = {"scenario": options.scenario, "site": options.site}
    task = site.build(dataclasses.replace(config, options=plain))
    attack = ATTACKS[options.attack]
    rows = task.train if attack.poison is None else _poisoned(attack, task, config.seed)
    task = dataclasses.replace(task, train=rows)
    if attack.release is None:
        return task
    release = release_of(attack, task, options.strength, config.seed)
    return dataclasses.replace(task, release=release)


def release_of(attack: Attack, task: Task, strength: float | None, seed: int) -> Release:
    """What leaves the node in place of what it trained, as in a network of itself alone."""
    import numpy as np
    import torch

    from konsil.knowledge.named import NamedTensors
    from konsil.simulations.sim.attacks.view import View
    from konsil.simulations.sim.layout import Layout
    from konsil.simulations.sim.links import Links

    layout, numbers = Layout.of(task.model()), itertools.count(1)
    generator = torch.Generator().manual_seed(seed)
    make = attack.release
    assert make is not None

    def release(before: NamedTensors, trained: NamedTensors) -> NamedTensors:
        view = View(
            number=next(numbers),
            rounds=0,
            before=layout.row(before)[None],
            trained=layout.row(trained)[None],
            links=Links.between(1, ()),
            hostile=np.zeros(1, dtype=np.int64),
            strength=strength,
            generator=generator,
        )
        forged = layout.tensors(make(view)[0])
        return NamedTensors({name: forged[name].to(trained[name].dtype) for name in trained})

    return release


def _poisoned(attack: Attack, task: Task, seed: int) -> Rows:
    """The task's training rows as the attack would have them."""
    import numpy as np

    from konsil.simulations.sim.cohorts import Cohorts

    train, none = task.train, np.zeros(1, dtype=np.int64)
    cohorts = Cohorts(
        inputs=train.inputs[None],
        targets=train.targets[None],
        train_rows=none + len(train),
        holdout_inputs=task.holdout.inputs[None],
        holdout_targets=task.holdout.targets[None],
        holdout_rows=none + len(task.holdout),
        test_inputs=(),
        test_targets=(),
        classes=len(task.classes),
        metric=task.metric,
    )
    assert attack.poison is not None
    found = attack.poison(cohorts, none, seed)
    return dataclasses.replace(train, inputs=found.inputs[0], targets=found.targets[0])
