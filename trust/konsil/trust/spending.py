"""Privacy spent by one log: what was paid for each dataset, and that it was paid before.

`model.train.privacy` is the leaf hash of the `privacy.spend` entry that the training cost. A
cohort, known by its commitment `data`, has one budget: it may not be charged under two names.
A price whose body was redacted can only have added to a sum, which the next price of its dataset
states again: until then the sum is known from below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from konsil.protocol.artifact import Artifact
    from konsil.protocol.learning_bodies import ModelTrain, PrivacySpend
    from konsil.trust.margin import Margin
    from konsil.trust.structure import Place


class Spending:
    """The odometer of one log."""

    def __init__(self, margin: Margin) -> None:
        self._margin = margin
        self._totals: dict[bytes, int] = {}
        self._exact: set[bytes] | None = None
        """The datasets whose sums are known since a price was redacted; None: all of them."""
        self._redacted: set[bytes] = set()
        """The leaf hashes of the prices that were redacted."""
        self._spent: dict[bytes, bytes] = {}
        """The dataset that was charged, by the leaf hash of the entry that says so."""
        self._prices: set[tuple[str, int, int]] = set()
        self._cohorts: dict[bytes, bytes] = {}

    @property
    def most_micro(self) -> int:
        """What the dataset that paid most has paid so far (ε in 1e-6)."""
        return max(self._totals.values(), default=0)

    @property
    def is_whole(self) -> bool:
        """Whether every price is here."""
        return not self._redacted

    def hidden(self, leaf: bytes) -> None:
        """A price whose body was redacted, by its leaf hash."""
        self._redacted.add(leaf)
        self._exact = set()

    def spend(self, place: Place, body: PrivacySpend) -> None:
        """A price, and the sum over its dataset that the entry states."""
        total = self._totals.get(body.dataset, 0) + body.eps_micro
        if self._exact is not None and body.dataset not in self._exact:
            total = max(total, body.cumulative_micro)
            self._exact.add(body.dataset)
        if body.cumulative_micro != total:
            message = f"cumulative_micro is {body.cumulative_micro}, but {total} follows"
            self._margin.add("privacy.sum", place, message)
        self._totals[body.dataset] = total
        self._spent[place.leaf] = body.dataset
        self._prices.add((body.mechanism, body.eps_micro, body.delta_e12))

    def trained(self, place: Place, body: ModelTrain) -> None:
        """A training that says what it cost."""
        if body.privacy is None or body.privacy in self._redacted:
            return
        dataset = self._spent.get(body.privacy)
        if dataset is None:
            message = f"no privacy.spend before it has the leaf hash {body.privacy.hex()[:16]}…"
            self._margin.add("privacy.order", place, message)
            return
        first = self._cohorts.setdefault(body.data, dataset)
        if first != dataset:
            message = f"cohort {body.data.hex()[:16]}… is charged under a second dataset"
            self._margin.add("privacy.dataset", place, message)

    def published(self, place: Place, manifest: Artifact) -> None:
        """A manifest that says what its release cost: an entry must have said so before."""
        cost = manifest.privacy
        price = (cost.mechanism, cost.epsilon_micro, cost.delta_e12)
        if cost.mechanism != "none" and self.is_whole and price not in self._prices:
            message = f"no privacy.spend before it is of {cost.mechanism}, ε {price[1]}e-6"
            self._margin.add("privacy.order", place, message)
