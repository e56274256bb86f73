"""Release: a published artifact as it travels between simulated nodes, with all that proves it.

It is made once, by the press, and never changes; every receiver logs the same receipt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from konsil.protocol.learning_bodies import ArtifactReceive

if TYPE_CHECKING:
    from konsil.protocol.digest import Digest


@dataclass(frozen=True, slots=True)
class Release:
    """A published artifact, and all that travels with it."""

    publisher: str
    art: Digest
    env: Digest
    sealed: bytes
    index: int
    """Its place in the publisher's log."""
    size: int
    root: Digest
    """Of the checkpoint under which it is proven."""
    proof: bytes
    proven: Digest
    """Digest of the proof."""

    def receipt(self) -> ArtifactReceive:
        """What a receiver logs."""
        return ArtifactReceive(
            art=self.art,
            publisher=self.publisher,
            env=self.env,
            index=self.index,
            size=self.size,
            root=self.root,
            proof=self.proven,
        )
