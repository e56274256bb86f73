"""Rules of mixing by name. A module holds one rule and the function `build` that makes it.

Names are here without torch: a rule's module is imported when its factory is called. One more
rule is one more file and one more line.
"""

from __future__ import annotations

import importlib
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from konsil.simulations.sim.exchange import Rule, RuleSetting

Factory: TypeAlias = "Callable[[RuleSetting], Rule]"
"""What a rule may know of its run to a rule that starts afresh."""

_MODULES = (
    "konsil.simulations.sim.rules.evidence",
    "konsil.simulations.sim.rules.mean",
    "konsil.simulations.sim.rules.median",
    "konsil.simulations.sim.rules.trimmed_mean",
    "konsil.simulations.sim.rules.krum",
    "konsil.simulations.sim.rules.nnm_trimmed_mean",
    "konsil.simulations.sim.rules.clipped_gossip",
    "konsil.simulations.sim.rules.balance",
    "konsil.simulations.sim.rules.local_only",
    "konsil.simulations.sim.rules.oracle",
    "konsil.simulations.sim.rules.pooled",
)


def _made(module: str, setting: RuleSetting) -> Rule:
    build: Factory = importlib.import_module(module).build
    return build(setting)


RULES: Mapping[str, Factory] = MappingProxyType(
    {module.rpartition(".")[2]: partial(_made, module) for module in _MODULES}
)
"""Every rule's factory."""

SILENT = frozenset({"local_only", "pooled"})
"""Rules under which nobody sends anything."""

POOLING = frozenset({"pooled"})
"""Rules under which one model is trained on everybody's rows, in place of each node's own."""
