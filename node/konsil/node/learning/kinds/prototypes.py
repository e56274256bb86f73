"""Prototypes: the mean embedding of each class, of enough patients, and rows drawn towards it.

The point of a model are its prototypes on the hospital's own training rows. Of a class that a peer
has too few patients of it says nothing, and the receiver's own prototype stands there. Others are
taken in by teaching: the coefficients weigh the means, and the own model is trained further with
its own rows drawn towards them (FedProto). How many rows a peer claims buys it no weight. A mean
longer than its parts, and a class of fewer rows than may be told, is a lie and is not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from konsil.knowledge import pack
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.pack import load
from konsil.knowledge.teaching.prototypes import (
    FEWEST,
    MEANS,
    ROWS,
    fused,
    prototypes,
    train_towards,
)
from konsil.node.learning.kinds.trials import gains_of_trials
from konsil.protocol import tensors
from konsil.protocol.digest import tagged
from konsil.protocol.errors import ConfigError, TaskError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from konsil.knowledge.task import Task
    from konsil.node.learning.kinds.kind import Gain, Ground
    from konsil.node.learning.worker_messages import Candidate, Mix
    from konsil.node.store.blobs import BlobStore
    from konsil.protocol.digest import Digest
    from konsil.trust.integrate import Coefficient


class Prototypes:
    """See `Kind`. Raises `ConfigError` for a network without a hidden layer."""

    start = None
    partial = True
    not_mixed = ()

    def __init__(
        self, blobs: BlobStore, task: Task, base: NamedTensors, *, seed: int, node: str, device: str
    ) -> None:
        self.about = tagged("prototypes", *(name.encode() for name in task.classes))
        self._blobs = blobs
        self._task = task
        self._module = task.model().to(device)
        self._seed, self._node, self._device = seed, node, device
        try:
            sheet = pack.to_bytes(self.payload(base))
        except TaskError as fault:
            raise ConfigError(f"[artifacts] kind = 'prototypes': {fault.message}") from None
        self.form = tensors.architecture(tensors.read_table(sheet, len(sheet)))

    def payload(self, release: NamedTensors) -> NamedTensors:
        """See `Kind`."""
        release.load_into(self._module)
        return prototypes(self._module, self._task.train, len(self._task.classes))

    def own(self, model: NamedTensors) -> NamedTensors:
        """See `Kind`."""
        return NamedTensors({MEANS: self.payload(model)[MEANS]})

    def received(self, candidate: Candidate, beside: NamedTensors) -> NamedTensors:
        """See `Kind`."""
        sheet = self._read(candidate)
        said = (sheet[ROWS] > 0)[:, None]
        return NamedTensors({MEANS: torch.where(said, sheet[MEANS], beside[MEANS])})

    def gains(self, ground: Ground) -> list[Gain]:
        """See `Kind`: after rows were drawn for a moment to each one's prototypes alone, the way
        to them shortened."""
        here = self.own(ground.before)
        return gains_of_trials(
            ground,
            lambda candidate: self.received(candidate, here),
            lambda received, reach: self._stepped(
                ground.before, here[MEANS], received[MEANS], min(1.0, ground.rho / (reach or 1.0))
            ),
        )

    def _stepped(
        self, before: NamedTensors, here: Tensor, there: Tensor, part: float
    ) -> NamedTensors:
        said = (here != there).any(dim=1).long()
        sheet = NamedTensors({MEANS: here + part * (there - here), ROWS: said})
        return self._drawn(before, sheet, number=0, own=0.0)

    def take_in(self, request: Mix, parts: Sequence[Coefficient], out: Path) -> Digest:
        """See `Kind`."""
        trained = load(self._blobs.path(request.trained))
        given = {(one.art, one.node): one for one in request.candidates}
        sheets = [self.payload(trained)]
        sheets += [self._read(given[part.art, part.node]) for part in parts[1:]]
        sheet = fused(sheets, [part.w_e9 for part in parts])
        return pack.save(self._drawn(trained, sheet, number=request.round, own=1.0), out)

    def _read(self, candidate: Candidate) -> NamedTensors:
        """A peer's sheet without the classes of which it cannot speak."""
        sheet = load(self._blobs.path(candidate.tensors))
        means, rows = sheet[MEANS].double(), sheet[ROWS]
        known = torch.tensor([name in candidate.classes for name in self._task.classes])
        short = means.norm(dim=1) <= 1 + 1e-3
        said = known & short & (rows >= FEWEST)
        return NamedTensors({MEANS: sheet[MEANS], ROWS: torch.where(said, rows, 0)})

    def _drawn(
        self, start: NamedTensors, sheet: NamedTensors, *, number: int, own: float
    ) -> NamedTensors:
        return train_towards(
            self._task, start, sheet, seed=self._seed, node=self._node, number=number, own=own,
            device=self._device,
        ).model  # fmt: skip
