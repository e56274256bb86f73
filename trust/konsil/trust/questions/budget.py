"""Privacy spent, data set by data set, as the logs say it and summed again.

A data set is known by its salted commitment only. The plain sum of ε bounds what was spent
together (basic composition); every `cumulative_micro` must be that sum at its place. Behind a
redacted price a sum is known from below, and then as the next price of its data set states it.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol.errors import IncompleteError, UsageError
from konsil.protocol.learning_bodies import PrivacySpend
from konsil.trust.questions.gathering import hex_start
from konsil.trust.questions.words import short

if TYPE_CHECKING:
    from konsil.trust.questions.gathering import Gathered


class Spend(msgspec.Struct, frozen=True, kw_only=True):
    """One release that cost privacy."""

    index: int
    time_ms: int
    body: PrivacySpend
    follows_micro: int
    """Σ ε up to here, summed again."""

    @property
    def fault(self) -> str:
        """What is wrong with its running total, in words; empty when it follows."""
        if self.body.cumulative_micro == self.follows_micro:
            return ""
        said, follows = self.body.cumulative_micro / 1e6, self.follows_micro / 1e6
        return f"entry {self.index}: the running total says ε {said:g}, but {follows:g} follows"


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What one hospital spent on one data set."""

    dataset: bytes
    node: str
    spends: tuple[Spend, ...]

    @property
    def eps_micro(self) -> int:
        """Σ ε in 1e-6, and with what redacted prices cost, where a later one tells."""
        return self.spends[-1].follows_micro

    @property
    def delta_e12(self) -> int:
        """Σ δ in 1e-12."""
        return sum(one.body.delta_e12 for one in self.spends)

    @property
    def rho_e9(self) -> int:
        """Σ ρ (zCDP) in 1e-9."""
        return sum(one.body.rho_e9 for one in self.spends)

    @property
    def faults(self) -> tuple[str, ...]:
        """Running totals that do not follow."""
        return tuple(one.fault for one in self.spends if one.fault)


def budget(homes: Gathered, start: str = "") -> tuple[Account, ...]:
    """Every account in the given logs, or the one whose commitment begins with `start`.

    Raises `IncompleteError` when there is no such data set, `UsageError` for several.
    """
    found: dict[tuple[str, bytes], list[Spend]] = {}
    hidden = {
        home.node: sorted(at for at, kind in home.told.redacted.items() if kind == "privacy.spend")
        for home in homes.homes
    }
    for home, entry in homes.entries():
        body = entry.b
        if not isinstance(body, PrivacySpend):
            continue
        spends = found.setdefault((home.node, body.dataset), [])
        last, before = (spends[-1].index, spends[-1].follows_micro) if spends else (-1, 0)
        gone = hidden[home.node]
        first = bisect_right(gone, last)
        if first < len(gone) and gone[first] < entry.n:
            before = max(before, body.cumulative_micro - body.eps_micro)
        spends.append(
            Spend(
                index=entry.n,
                time_ms=entry.ts,
                body=body,
                follows_micro=before + body.eps_micro,
            )
        )
    accounts = tuple(
        Account(dataset=dataset, node=node, spends=tuple(spends))
        for (node, dataset), spends in found.items()
    )
    return _chosen(accounts, hex_start(start)) if start else accounts


def _chosen(accounts: tuple[Account, ...], start: str) -> tuple[Account, ...]:
    chosen = tuple(one for one in accounts if one.dataset.hex().startswith(start))
    datasets = {one.dataset for one in chosen}
    if not chosen:
        known = ", ".join(sorted({short(one.dataset) for one in accounts})) or "none"
        raise IncompleteError(
            f"no given log spends privacy on a data set {start}", hint=f"data sets: {known}"
        )
    if len(datasets) > 1:
        raise UsageError(f"{len(datasets)} data sets begin with {start}", hint="give more digits")
    return chosen
