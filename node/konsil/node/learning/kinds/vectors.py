"""Vectors: what training changed of the common base, handed out once it is done.

A data vector stands for the model that it makes of the base, so the rule of trust weighs it as
such a model, and the weighted sum is that of these models: ``w_0 x + sum_j w_j (base + tau_j)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.knowledge import mixing
from konsil.knowledge.judge import trial_model
from konsil.knowledge.pack import load, to_bytes
from konsil.knowledge.vectors.vector import applied, between
from konsil.protocol import tensors
from konsil.trust.fixed import UNIT_E9

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from konsil.knowledge.named import NamedTensors
    from konsil.node.learning.worker_messages import Candidate, Mix
    from konsil.node.store.blobs import BlobStore
    from konsil.protocol.digest import Digest
    from konsil.trust.integrate import Coefficient


class Vectors:
    """See `Kind`. The point of a model are its tensors that are mixed."""

    def __init__(self, blobs: BlobStore, base: Digest, not_mixed: tuple[str, ...]) -> None:
        self.about = base
        self.not_mixed = not_mixed
        self._blobs = blobs
        self._base = load(blobs.path(base))
        nothing = to_bytes(self.payload(self._base))
        self.form = tensors.architecture(tensors.read_table(nothing, len(nothing)))

    def payload(self, release: NamedTensors) -> NamedTensors:
        """See `Kind`."""
        return between(release, self._base, self.not_mixed)

    def own(self, model: NamedTensors) -> NamedTensors:
        """See `Kind`."""
        return model.select([name for name in model if name not in self.not_mixed])

    def received(self, candidate: Candidate, beside: NamedTensors) -> NamedTensors:
        """See `Kind`. Raises `ManifestRefused` where the sum with the base is not finite."""
        del beside  # a vector speaks of every tensor that is mixed
        return self.own(applied(self._base, load(self._blobs.path(candidate.art))))

    def trial(
        self, before: NamedTensors, received: NamedTensors, reach: float, rho: float
    ) -> NamedTensors:
        """See `Kind`."""
        return trial_model(before, received, reach, rho)

    def take_in(self, request: Mix, parts: Sequence[Coefficient], out: Path) -> Digest:
        """See `Kind`. The replayable kernel writes it."""
        del request
        own, *others = parts
        path = self._blobs.path
        models = (
            mixing.Part(path(own.art), own.w_e9),
            mixing.Part(path(self.about), UNIT_E9 - own.w_e9),
        )
        vectors = [mixing.Part(path(part.art), part.w_e9) for part in others]
        return mixing.mix(models, out, vectors=vectors, not_mixed=self.not_mixed)
