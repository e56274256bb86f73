"""Parameters: whole models of one architecture, mixed as weighted sums of their tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.knowledge import mixing
from konsil.knowledge.judge import trial_model
from konsil.knowledge.pack import load, read_table
from konsil.node.learning.kinds.trials import gains_of_trials
from konsil.protocol import tensors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from konsil.knowledge.named import NamedTensors
    from konsil.node.learning.kinds.kind import Gain, Ground
    from konsil.node.learning.worker_messages import Candidate, Mix
    from konsil.node.store.blobs import BlobStore
    from konsil.protocol.digest import Digest
    from konsil.trust.integrate import Coefficient


class Parameters:
    """See `Kind`. The point of a model are its tensors that are mixed."""

    partial = False

    def __init__(self, blobs: BlobStore, base: Digest, not_mixed: tuple[str, ...]) -> None:
        self.about = base
        self.not_mixed = not_mixed
        self.start: NamedTensors | None = load(blobs.path(base))
        self._blobs = blobs
        self.form = tensors.architecture(read_table(blobs.path(base)))

    def payload(self, release: NamedTensors) -> NamedTensors:
        """See `Kind`."""
        return release

    def own(self, model: NamedTensors) -> NamedTensors:
        """See `Kind`."""
        return model.select([name for name in model if name not in self.not_mixed])

    def received(self, candidate: Candidate, beside: NamedTensors) -> NamedTensors:
        """See `Kind`."""
        del beside  # a payload speaks of every tensor
        return self.own(load(self._blobs.path(candidate.tensors)))

    def gains(self, ground: Ground) -> list[Gain]:
        """See `Kind`: how much a trial step towards each lowers the private loss."""
        before = self.own(ground.before)
        return gains_of_trials(
            ground,
            lambda candidate: self.received(candidate, before),
            lambda received, reach: trial_model(ground.before, received, reach, ground.rho),
        )

    def take_in(self, request: Mix, parts: Sequence[Coefficient], out: Path) -> Digest:
        """See `Kind`. The replayable kernel writes it."""
        return mixing.mix(self._sources(request, parts), out, not_mixed=self.not_mixed)

    def _sources(self, request: Mix, parts: Sequence[Coefficient]) -> list[mixing.Part]:
        """The tensors and weight of each part."""
        tensors = {(one.art, one.node): one.tensors for one in request.candidates}
        return [
            mixing.Part(self._blobs.path(tensors.get((part.art, part.node), part.art)), part.w_e9)
            for part in parts
        ]
