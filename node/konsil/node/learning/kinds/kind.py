"""Kind: what the rule of trust must be able to do with one kind of artifact.

Whatever is handed in stands for a *point* in some space: a model's tensors, or its answers to a
question. Distances are taken between points; a gain is what a payload shows to be good for;
taking in is what the weights make of the own model and the others' payloads.
A point is never a patient's row, and nothing here knows whom to trust.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from konsil.knowledge.judge import Judge
    from konsil.knowledge.named import NamedTensors
    from konsil.node.learning.worker_messages import Candidate, Mix
    from konsil.protocol.digest import Digest
    from konsil.trust.integrate import Coefficient


class Gain(NamedTuple):
    """How good a payload is shown to be, below 0 for harm, and the standard error of that."""

    value: float
    error: float


@dataclass(frozen=True)
class Ground:
    """What a round's candidates are judged on: the private rows and the models of the round."""

    judge: Judge
    before: NamedTensors
    trained: NamedTensors
    candidates: Sequence[Candidate]
    reaches: Sequence[float]
    """How far each candidate's point is from that of `before`."""
    rho: float
    """How far a trial goes at most."""


class Kind(Protocol):
    """One kind of knowledge, for one opened task."""

    @property
    def about(self) -> Digest:
        """What an artifact's `base` must name: what the payload is relative to."""

    @property
    def form(self) -> Digest:
        """The architecture of a payload: the names, types and shapes of its tensors."""

    @property
    def start(self) -> NamedTensors | None:
        """The payload that every member can make before any is sent: what a change is of that
        names nothing else. None where payloads travel only as they are."""

    @property
    def partial(self) -> bool:
        """Whether a payload may be silent about a part of a point."""

    @property
    def not_mixed(self) -> tuple[str, ...]:
        """The tensors of the own model that taking in leaves alone."""

    def payload(self, release: NamedTensors) -> NamedTensors:
        """What is handed out of a model that may leave the hospital."""

    def own(self, model: NamedTensors) -> NamedTensors:
        """The point of a model of ours."""

    def received(self, candidate: Candidate, beside: NamedTensors) -> NamedTensors:
        """The point that a candidate's payload stands for; what it does not speak of is as in
        the own point `beside`."""

    def gains(self, ground: Ground) -> list[Gain]:
        """What each candidate's payload shows, in their order; minus infinity where judging it
        failed."""

    def take_in(self, request: Mix, parts: Sequence[Coefficient], out: Path) -> Digest:
        """Write the model that these coefficients make to the new file `out`; its digest."""
