"""Eligible: which scenarios can keep ledgers.

A ledger says of every mix which part it took of which model. Rules without such weights
(medians, Krum) have nothing to say there. Rules with weights but without evidence can be
replayed, and their lineage told; but nothing explains their weights, and an audit says so of
each (`integrate.weight`). Only homes of the rules in `AUDITED` pass without findings.

Only parameters: what answers teach, and sums with a base model, the books do not know.

A node that sends each neighbour a model of its own under one number would sign two faces of one
log; nobody whose log is audited can do that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from konsil.simulations.sim.scenario import Scenario

WEIGHTED = ("evidence", "mean", "clipped_gossip", "balance", "oracle", "local_only")
"""Rules of `konsil.simulations.sim.rules` whose mixes are weighted sums."""
AUDITED = ("evidence", "local_only")
"""Those of them whose weights follow from evidence, as an audit demands."""


def check(scenario: Scenario) -> None:
    """Raise `ConfigError` where `[ledger] enabled` does not go with the rest of a scenario."""
    if not scenario.ledger.enabled:
        return
    from konsil.simulations.sim.attacks import ATTACKS

    kind, rule = scenario.artifacts.kind, scenario.trust.rule
    if kind != "parameters":
        raise ConfigError(
            f"[ledger] enabled is for parameters, and {kind} travel",
            hint="use konsil sim emulate, whose daemons keep ledgers, or take out enabled",
        )
    if rule not in WEIGHTED:
        raise ConfigError(
            f'[ledger] enabled needs a rule with weights, and [trust] rule = "{rule}" has none',
            hint=f"one of {', '.join(WEIGHTED)}",
        )
    for name in scenario.adversary.attacks:
        if ATTACKS[name].per_link is not None:
            raise ConfigError(
                f'[ledger] enabled: [adversary] attack = "{name}" sends each neighbour another'
                " model, which would be two logs of one node",
                hint="take another attack, or take out enabled",
            )
