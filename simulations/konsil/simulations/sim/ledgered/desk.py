"""Desk: one node's ledger, and what the node must remember to go on writing it.

Entries are gathered in `pending` and appended together, with the node's next release or at the
end: nothing asks for them before. Who had a payload first counts as its author, as an auditor who
reads the log will see it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from konsil.protocol.digest import Digest
    from konsil.protocol.entries import Body
    from konsil.simulations.sim.ledgered.release import Release
    from konsil.trust.ledger import Ledger


@dataclass
class Desk:
    """Digests are those of payloads."""

    ledger: Ledger
    model: Digest
    """What the node holds now."""
    before: Digest = b""
    """What it held before its newest training, and after it."""
    trained: Digest = b""
    pending: list[Body] = field(default_factory=list)
    met: set[str] = field(default_factory=set)
    """Nodes whose genesis entry is in the home."""
    _authors: dict[Digest, str] = field(default_factory=dict)
    _taken: set[Digest] = field(default_factory=set)

    @property
    def node(self) -> str:
        """The node's id."""
        return self.ledger.author.node

    def had(self, art: Digest, node: str) -> None:
        """`node` has this payload."""
        self._authors.setdefault(art, node)

    def train(self, trained: Digest, released: Digest) -> None:
        """A round of training is logged, and its release."""
        self.before, self.model, self.trained = self.model, trained, trained
        self.had(released, self.node)

    def take(self, release: Release) -> bool:
        """Notes the receipt of an artifact; False when it was here already."""
        if release.env in self._taken:
            return False
        self._taken.add(release.env)
        self.pending.append(release.receipt())
        self.had(release.art, release.publisher)
        return True

    def worthless(self, release: Release) -> bool:
        """Whether it is a copy of what another node had first, or an echo of the own models."""
        author = self._authors[release.art]
        return author != release.publisher or release.art in (self.before, self.trained)

    def flush(self) -> int:
        """Appends what is pending; the index of the newest entry."""
        self.ledger.append(self.pending)
        self.pending.clear()
        return self.ledger.size - 1
