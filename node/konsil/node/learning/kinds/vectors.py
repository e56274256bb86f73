"""Vectors: what training changed of the common base, handed out once it is done.

A data vector stands for the model that it makes of the base, so the rule of trust weighs it as
such a model, and the weighted sum is that of these models: ``w_0 x + sum_j w_j (base + tau_j)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nan_to_num, zeros_like

from konsil.knowledge import mixing
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.pack import load, to_bytes
from konsil.knowledge.vectors.vector import between
from konsil.node.learning.kinds.parameters import Parameters
from konsil.protocol import tensors
from konsil.trust.fixed import UNIT_E9

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from konsil.node.learning.worker_messages import Candidate, Mix
    from konsil.node.store.blobs import BlobStore
    from konsil.protocol.digest import Digest
    from konsil.trust.integrate import Coefficient


class Vectors(Parameters):
    """See `Kind`. As models are, but for the payload."""

    def __init__(self, blobs: BlobStore, base: Digest, not_mixed: tuple[str, ...]) -> None:
        super().__init__(blobs, base, not_mixed)
        self._base = load(blobs.path(base))
        self.start = self.payload(self._base)
        nothing = to_bytes(self.start)
        self.form = tensors.architecture(tensors.read_table(nothing, len(nothing)))

    def payload(self, release: NamedTensors) -> NamedTensors:
        """See `Kind`."""
        return between(release, self._base, self.not_mixed)

    def received(self, candidate: Candidate, beside: NamedTensors) -> NamedTensors:
        """See `Kind`. A sum with the base that overflows is as far away as a number can be, so
        that a hostile vector costs its own weight and not the round."""
        del beside  # a vector speaks of every tensor that is mixed
        model = self._base + self._whole(load(self._blobs.path(candidate.tensors)))
        return self.own(model.map(nan_to_num))

    def _whole(self, vector: NamedTensors) -> NamedTensors:
        """The vector with nothing for the tensors that it lacks."""
        return NamedTensors({n: vector.get(n, zeros_like(t)) for n, t in self._base.items()})

    def take_in(self, request: Mix, parts: Sequence[Coefficient], out: Path) -> Digest:
        """See `Kind`. The replayable kernel writes it."""
        own, *others = self._sources(request, parts)
        base = mixing.Part(self._blobs.path(self.about), UNIT_E9 - own.w_e9)
        return mixing.mix((own, base), out, vectors=others, not_mixed=self.not_mixed)
