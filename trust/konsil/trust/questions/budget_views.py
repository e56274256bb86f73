"""Privacy spent, in lines and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.trust.printable import printable
from konsil.trust.questions.words import plural, when

if TYPE_CHECKING:
    from collections.abc import Sequence

    from konsil.trust.questions.budget import Account, Spend
    from konsil.trust.questions.gathering import Gathered


def epsilon(micro: int) -> str:
    """ε as people write it."""
    return f"{micro / 1e6:g}"


def delta(e12: int) -> str:
    """δ as people write it."""
    return f"{e12 / 1e12:g}"


def to_lines(homes: Gathered, accounts: Sequence[Account]) -> list[str]:
    """The accounts in lines; what a person is told when nothing was spent, too."""
    hidden = homes.redacted("privacy.spend")
    if not accounts and not hidden:
        count = plural(len(homes.homes), "ledger")
        return [f"nothing was spent: {count} without any privacy.spend entry"]
    lines = [f"{hidden}; what is summed here is the least that was spent"] if hidden else []
    for one in accounts:
        lines.append(
            f"{homes.name(one.node)}, data set {one.dataset.hex()}:"
            f" ε {epsilon(one.eps_micro)}, δ {delta(one.delta_e12)}"
            f" in {plural(len(one.spends), 'release')}"
        )
        lines += [f"  {_line(spend)}" for spend in one.spends]
    return [printable(line) for line in lines]


def _line(one: Spend) -> str:
    body = one.body
    said = f"  DOES NOT FOLLOW: {one.fault}" if one.fault else ""
    return (
        f"entry {one.index}  {when(one.time_ms)}  {body.mechanism}  ε {epsilon(body.eps_micro)}"
        f"  δ {delta(body.delta_e12)}  ρ {body.rho_e9 / 1e9:g}  {plural(body.steps, 'step')}"
        f"  total ε {epsilon(one.follows_micro)}{said}"
    )


def to_data(homes: Gathered, accounts: Sequence[Account]) -> dict[str, object]:
    """The `data` object of `konsil audit budget --json`."""
    return {
        "spent": bool(accounts),
        "redacted": sum(
            kind == "privacy.spend" for home in homes.homes for kind in home.told.redacted.values()
        ),
        "datasets": [
            {
                "dataset": one.dataset.hex(),
                "node_id": one.node,
                "name": homes.name(one.node),
                "eps_micro": one.eps_micro,
                "delta_e12": one.delta_e12,
                "rho_e9": one.rho_e9,
                "follows": not one.faults,
                "releases": [_spend_data(spend) for spend in one.spends],
            }
            for one in accounts
        ],
    }


def _spend_data(one: Spend) -> dict[str, object]:
    body = one.body
    return {
        "index": one.index,
        "time_ms": one.time_ms,
        "mechanism": body.mechanism,
        "eps_micro": body.eps_micro,
        "delta_e12": body.delta_e12,
        "rho_e9": body.rho_e9,
        "sampling_e9": body.sampling_e9,
        "steps": body.steps,
        "cumulative_micro": body.cumulative_micro,
        "cumulative_follows_micro": one.follows_micro,
    }
