"""Answers: what models of any architecture say to a common question, and learning from it.

The point of a model are its probabilities on the question. Of a class that a teacher has not
seen it does not speak, and the receiver's own answers stand there. Whom to hear is judged by the
answers themselves, held against those of the own trained model and of the others who agree with
it (`konsil.knowledge.teaching.hearing`); no trial is trained. Others are taken in by teaching: the
coefficients weigh the answers, copies count as one voice, nobody is heard in a class where it is
shown to mislead, and the own model is trained further on the consensus, as a student of weak
labels where the kind says so. Only unlabelled rows of the question are learned from here; the
hospital's own rows tell whether its model can be a witness.
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
from konsil.knowledge.teaching.hearing import heard
from konsil.knowledge.teaching.student import Study, study
from konsil.knowledge.teaching.witness import is_witness
from konsil.knowledge.train import predict
from konsil.node.learning.kinds.kind import Gain
from konsil.protocol import tensors
from konsil.trust import score
from konsil.trust.fixed import UNIT_E9
from konsil.trust.weights import gate

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from torch import Tensor

    from konsil.knowledge.task import Task
    from konsil.knowledge.teaching.hearing import Heard
    from konsil.knowledge.teaching.question import Question
    from konsil.node.learning.kinds.kind import Ground
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
        sheet = self._sheet(candidate)
        spoken = speaking([1.0], [candidate.classes], self._task.classes)
        return NamedTensors({POINT: consensus([sheet], spoken, beside[POINT].log())})

    def gains(self, ground: Ground) -> list[Gain]:
        """See `Kind`: how far the answers agree, beyond what is asked of a teacher, with those
        of the own trained model and of the others."""
        sheets = [self._sheet(candidate) for candidate in ground.candidates]
        trusts = [_gate_before(one) for one in ground.candidates]
        known = [candidate.classes for candidate in ground.candidates]
        found = self._heard(sheets, known, trusts, ground.trained)
        pairs = zip(found.gains.tolist(), found.errors.tolist(), strict=True)
        return [Gain(value, error) for value, error in pairs]

    def take_in(self, request: Mix, parts: Sequence[Coefficient], out: Path) -> Digest:
        """See `Kind`."""
        trained = load(self._blobs.path(request.trained))
        own = _bounded(self.payload(trained))
        given = {(one.art, one.node): one for one in request.candidates}
        mine, *rest = parts
        others = [given[part.art, part.node] for part in rest]
        sheets = [self._sheet(one) for one in others]
        known = [one.classes for one in others]
        found = self._heard(sheets, known, [gate(part.trust_e9) for part in rest], trained)
        granted = torch.tensor([part.w_e9 for part in rest], dtype=torch.float64)
        weights = torch.cat(
            [
                speaking([mine.w_e9], [self._seen], self._task.classes),
                granted[:, None] * found.lesson,
            ]
        )
        target = consensus([own, *sheets], weights, own)
        learn = self._studied if self._weak else self._distilled
        return pack.save(learn(trained, target, number=request.round), out)

    def _sheet(self, candidate: Candidate) -> Tensor:
        return _bounded(load(self._blobs.path(candidate.tensors)))

    def _heard(
        self,
        sheets: Sequence[Tensor],
        known: Sequence[Collection[str]],
        trusts_e9: Sequence[int],
        trained: NamedTensors,
    ) -> Heard:
        classes = self._task.classes
        own = _bounded(self.payload(trained))
        seen = speaking([1.0], [self._seen], classes)[0] > 0
        return heard(
            sheets,
            speaking([1.0] * len(sheets), known, classes) > 0,
            torch.tensor(trusts_e9, dtype=torch.float64) / UNIT_E9,
            own,
            seen & self._is_witness(seen),
        )

    def _is_witness(self, seen: Tensor) -> bool:
        """Is the model in the module one that others can be held against?"""
        rows = (self._task.train, self._task.holdout)
        said = torch.cat([predict(self._module, part.inputs).cpu() for part in rows])
        return is_witness(said, torch.cat([part.targets.cpu() for part in rows]), seen)

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


def _gate_before(one: Candidate) -> int:
    """The gate in 1e-9 by what was known before this round; a person's word goes before it."""
    if one.pinned_e9 is not None:
        return one.pinned_e9
    return gate(score.mean(one.r_e9, one.s_e9, one.base_rate_e9))


def _bounded(sheet: NamedTensors) -> Tensor:
    return bounded(logits(sheet))
