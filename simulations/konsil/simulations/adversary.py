"""Hostile hospitals: a task whose released model is an attack.

A Byzantine daemon is an ordinary daemon with another task. Its `node.toml` names
`konsil.simulations.adversary:build`, which builds the real task and replaces `Task.release`,
the one function that decides what leaves the hospital. Honest code holds no attack.

Attacks (a = model before the round's training, x = after it):

- `sign_flip`: a − 5·(x − a), the step turned round and five times as long;
- `free_rider`: a, nothing learned and nothing given;
- `noise`: x plus Gaussian noise five times as long as the step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from konsil.knowledge.named import NamedTensors
    from konsil.knowledge.task import Task, TaskConfig

FACTORY = "konsil.simulations.adversary:build"
"""This module's task factory, as `node.toml` names it."""
STRENGTH = 5.0
"""How much longer than the honest step the hostile one is."""

Release = Callable[["NamedTensors", "NamedTensors"], "NamedTensors"]
"""(model before, model after) to what leaves the hospital."""


def build(config: TaskConfig) -> Task:
    """The task that `config.options` describe, with a hostile release.

    Options: `factory` and `options` of the real task, and the `attack`. Raises `ConfigError`
    for an unknown attack, a missing option, or when the real factory does.
    """
    from konsil.knowledge.task import load_factory

    attack = str(config.options.get("attack", ""))
    if attack not in ATTACKS:
        raise ConfigError(
            f"there is no attack `{attack}`", hint=f"choose one of {', '.join(sorted(ATTACKS))}"
        )
    factory = load_factory(str(config.options.get("factory", "")), config.home)
    real = factory(dataclasses.replace(config, options=dict(config.options.get("options", {}))))
    return dataclasses.replace(real, release=ATTACKS[attack](config.seed))


def sign_flip(_seed: int) -> Release:
    """The step turned round, `STRENGTH` times as long."""
    return lambda before, trained: before - (trained - before) * STRENGTH


def free_rider(_seed: int) -> Release:
    """The model of the last round, as it was."""
    return lambda before, _trained: before


def noise(seed: int) -> Release:
    """The trained model under noise `STRENGTH` times as long as the step, drawn from `seed`."""
    import torch

    from konsil.knowledge.named import NamedTensors

    generator = torch.Generator().manual_seed(seed)

    def release(before: NamedTensors, trained: NamedTensors) -> NamedTensors:
        drawn = NamedTensors(
            {
                name: torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
                if tensor.is_floating_point()
                else tensor
                for name, tensor in trained.items()
            }
        )
        length = (trained - before).norm()
        return trained + drawn * (STRENGTH * length / max(drawn.norm(), 1e-12))

    return release


ATTACKS: dict[str, Callable[[int], Release]] = {
    "sign_flip": sign_flip,
    "free_rider": free_rider,
    "noise": noise,
}
"""Every attack by name; the argument is the consortium's seed."""
