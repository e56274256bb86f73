"""Answers: what models of any architecture say to a common question, and learning from it.

The point of a model are its probabilities on the question. Of a class that a teacher has not
seen it does not speak, and the receiver's own answers stand there. Others are taken in by
teaching: the coefficients weigh the answers, and the own model is trained further on their
consensus, as a student of weak labels where the kind says so. Only unlabelled rows of the
question are used here; the hospital's own rows are for its rounds of training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from konsil.knowledge import pack
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.pack import load
from konsil.knowledge.teaching.answers import EPOCHS, answered, bounded, logits
from konsil.knowledge.teaching.consensus import consensus, speaking
from konsil.knowledge.teaching.distil import Distillation, distil
from konsil.knowledge.teaching.student import Study, study
from konsil.protocol import tensors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from konsil.knowledge.task import Task
    from konsil.knowledge.teaching.question import Question
    from konsil.node.learning.worker_messages import Candidate, Mix
    from konsil.node.store.blobs import BlobStore
    from konsil.protocol.digest import Digest
    from konsil.trust.integrate import Coefficient

POINT = "answers"


class Answers:
    """See `Kind`. With `weak` the answers are weak labels, and the own model is their student."""

    start = None
    partial = True
    not_mixed = ()

    def __init__(
        self,
        blobs: BlobStore,
        task: Task,
        question: Question,
        base: NamedTensors,
        *,
        seed: int,
        node: str,
        device: str,
        weak: bool,
    ) -> None:
        self.about = question.digest
        self._blobs = blobs
        self._task = task
        self._question = question
        self._module = task.model().to(device)
        counts = torch.bincount(task.train.targets.cpu(), minlength=len(task.classes))
        self._seen = [name for name, rows in zip(task.classes, counts, strict=True) if rows]
        self._seed, self._node, self._device = seed, node, device
        self._weak = weak
        sheet = pack.to_bytes(self.payload(base))
        self.form = tensors.architecture(tensors.read_table(sheet, len(sheet)))

    def payload(self, release: NamedTensors) -> NamedTensors:
        """See `Kind`."""
        release.load_into(self._module)
        return answered(self._module, self._question)

    def own(self, model: NamedTensors) -> NamedTensors:
        """See `Kind`."""
        return NamedTensors({POINT: _bounded(self.payload(model)).softmax(dim=1)})

    def received(self, candidate: Candidate, beside: NamedTensors) -> NamedTensors:
        """See `Kind`."""
        sheet = _bounded(load(self._blobs.path(candidate.tensors)))
        spoken = speaking([1.0], [candidate.classes], self._task.classes)
        return NamedTensors({POINT: consensus([sheet], spoken, beside[POINT].log())})

    def trial(
        self, before: NamedTensors, received: NamedTensors, reach: float, rho: float
    ) -> NamedTensors:
        """See `Kind`: taught for a moment by these answers alone, the way to them shortened.

        Not by a quarter more, as models are: one short lesson moves little enough.
        """
        factor = min(1.0, rho / reach) if reach > 0 else 0.0
        here = self.own(before)[POINT]
        return self._distilled(before, here + factor * (received[POINT] - here), number=0)

    def take_in(self, request: Mix, parts: Sequence[Coefficient], out: Path) -> Digest:
        """See `Kind`."""
        trained = load(self._blobs.path(request.trained))
        own = _bounded(self.payload(trained))
        given = {(one.art, one.node): one for one in request.candidates}
        others = [given[part.art, part.node] for part in parts[1:]]
        sheets = [own, *(_bounded(load(self._blobs.path(one.tensors))) for one in others)]
        weights = speaking(
            [part.w_e9 for part in parts],
            [self._seen, *(one.classes for one in others)],
            self._task.classes,
        )
        target = consensus(sheets, weights, own)
        learn = self._studied if self._weak else self._distilled
        return pack.save(learn(trained, target, number=request.round), out)

    def _distilled(self, start: NamedTensors, target: Tensor, *, number: int) -> NamedTensors:
        return distil(
            self._task, start, self._question, target, seed=self._seed, node=self._node,
            number=number, how=Distillation(
                proxy_epochs=EPOCHS, own_epochs=0, optimise=self._task.optimise
            ),
            device=self._device,
        ).model  # fmt: skip

    def _studied(self, start: NamedTensors, target: Tensor, *, number: int) -> NamedTensors:
        return study(
            self._task, start, self._question.inputs, target, seed=self._seed, node=self._node,
            number=number, how=Study(epochs=EPOCHS, optimise=self._task.optimise),
            device=self._device,
        ).model  # fmt: skip


def _bounded(sheet: NamedTensors) -> Tensor:
    return bounded(logits(sheet))
