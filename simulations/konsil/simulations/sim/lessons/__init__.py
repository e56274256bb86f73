"""lessons: nodes that teach each other by answers to a common question, whatever their networks.

The order of a round, how teachers are judged and how answers are fused are the daemon's
(`konsil.node.learning.kinds.answers`); what is done to one hospital there is done here to all
nodes of an architecture at once. Rules have names here without torch.
"""

from __future__ import annotations

import importlib
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from konsil.simulations.sim.lessons.lesson import Rule

Factory: TypeAlias = "Callable[[int], Rule]"
"""How many nodes there are, to a rule that starts afresh."""

_MODULES = {
    "evidence": "konsil.simulations.sim.lessons.evidence",
    "mean": "konsil.simulations.sim.lessons.mean",
    "oracle": "konsil.simulations.sim.lessons.oracle",
    "local_only": "konsil.simulations.sim.lessons.local_only",
}


def _made(module: str, nodes: int) -> Rule:
    build: Factory = importlib.import_module(module).build
    return build(nodes)


RULES: Mapping[str, Factory] = MappingProxyType(
    {name: partial(_made, module) for name, module in _MODULES.items()}
)
"""The rules by which answers are taken in; those for weights are `konsil.simulations.sim.rules`."""
