"""Blending: judge the received models and mix them into the own one (trust.md, steps 1 to 7).

Measurements are made here, with tensors and private rows; from their integers on, all
is computed by `konsil.trust`, so that an auditor can do it again. What distances, gains and a
mix are, the kind of artifact says (`konsil.node.learning.kinds`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from konsil.knowledge.pack import load
from konsil.knowledge.screen import screen
from konsil.node.learning.kinds.kind import Ground
from konsil.node.learning.worker_messages import Candidate, Judged, Mix, Mixed, MixedPart
from konsil.protocol import records
from konsil.protocol.errors import TaskError
from konsil.trust import evidence, integrate, medians, score, weights, whole_round
from konsil.trust.evidence import EvidenceRecord
from konsil.trust.fixed import CEILING_E9, UNIT_E9, to_e9

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from konsil.knowledge.judge import Judge
    from konsil.knowledge.named import NamedTensors
    from konsil.node.learning.kinds.kind import Kind
    from konsil.node.store.blobs import BlobStore
    from konsil.protocol.digest import Digest

_log = logging.getLogger(__name__)


class Blending:
    """One mix of one round: measure, weigh, mix, and guard against a rising private loss."""

    def __init__(
        self,
        request: Mix,
        judge: Judge,
        blobs: BlobStore,
        kind: Kind,
        scratch: Path,
    ) -> None:
        self._request = request
        self._judge = judge
        self._blobs = blobs
        self._kind = kind
        self._path = scratch / "mix.safetensors"
        self._blended: tuple[tuple[integrate.Coefficient, ...], Digest] = ((), b"")
        # What goes into the ledger by its digest must be the bytes of that digest.
        held = [one.tensors for one in request.candidates if blobs.has(one.tensors)]
        for digest in (request.before, request.trained, *held):
            blobs.check(digest)
        self._before = load(blobs.path(request.before))
        self._trained = load(blobs.path(request.trained))
        self._candidates = [c for c in request.candidates if self._sound(c)]

    def run(self) -> Mixed:
        """Everything the daemon logs about this mix; the mixed model lies in the blob store."""
        measured = self._measure()
        step = self._step(lambda step: self._loss_at(integrate.at_step(measured, step)))
        final = integrate.at_step(measured, step)
        parts = self._parts(final)
        out = self._store(parts)
        granted = "mixed" if len(parts) > 1 else "nothing_granted"
        return Mixed(
            out=out,
            rule=integrate.RULES[self._request.kind],
            parts=tuple(
                MixedPart(art=p.art, node=p.node, w_e9=p.w_e9, trust_e9=p.trust_e9) for p in parts
            ),
            not_mixed=self._kind.not_mixed,
            judged=tuple(_judged(record) for record in final),
            before=self._judge.measure(self._trained),
            after=self._judge.measure(load(self._blobs.path(out))),
            reason=granted if step == UNIT_E9 else "guarded",
        )

    def _step(self, loss_at: Callable[[int], int]) -> int:
        """How far the whole step goes. A student of weak labels is taken only if it is better
        than the model that it began as; all else may raise the private loss a little."""
        if integrate.RULES[self._request.kind] == integrate.LABELS:
            return integrate.choose_better(_loss_e9(self._judge, self._trained), loss_at)
        return integrate.choose_step(_loss_e9(self._judge, self._before), loss_at)

    def _sound(self, candidate: Candidate) -> bool:
        """A blob that cannot be mixed is left out; admission has checked it once already."""
        reasons = screen(self._blobs.path(candidate.tensors), self._kind.form)
        if reasons:
            words = ", ".join(reasons)
            _log.warning("left out %s of %s: %s", candidate.art.hex(), candidate.node, words)
        return not reasons

    def _measure(self) -> tuple[EvidenceRecord, ...]:
        """The records of all candidates at the whole step: measured first, then weighed."""
        before, trained = self._kind.own(self._before), self._kind.own(self._trained)
        own = to_e9(trained.distance(before))
        mine = (self._request.before, self._request.trained)
        shares = [weights.share(c.art, mine, copied=c.copied) for c in self._candidates]
        voices = [
            whole_round.voice(score.mean(c.r_e9, c.s_e9, c.base_rate_e9), share)
            for c, share in zip(self._candidates, shares, strict=True)
        ]
        distances, reaches = self._ways(before, trained)
        tau, rho = medians.bounds_of(distances, reaches, own, voices)
        gains, errors = self._gains(reaches, rho)
        excuses = medians.excuses_of(gains, errors, voices)
        scales = medians.gain_scales_of(gains, errors, voices)
        return tuple(
            evidence.recompute(
                EvidenceRecord(
                    node=candidate.node,
                    art=candidate.art,
                    kind=self._request.kind,
                    round=self._request.round,
                    before=self._request.before,
                    trained=self._request.trained,
                    lag=candidate.lag,
                    own_e9=own,
                    reach_e9=reach,
                    rho_e9=rho,
                    g_e9=gain,
                    error_e9=error,
                    excused_e9=excused,
                    scale_e9=scale,
                    d_e9=distance,
                    tau_e9=tau,
                    r_before_e9=candidate.r_e9,
                    s_before_e9=candidate.s_e9,
                    base_rate_e9=candidate.base_rate_e9,
                    share_e9=share,
                    metropolis_e9=weights.shared_out(
                        candidate.metropolis_e9, len(self._candidates)
                    ),
                    pinned_e9=candidate.pinned_e9,
                    step_e9=UNIT_E9,
                )
            )
            for candidate, share, distance, reach, gain, error, excused, scale in zip(
                self._candidates,
                shares,
                distances,
                reaches,
                gains,
                errors,
                excuses,
                scales,
                strict=True,
            )
        )

    def _ways(self, before: NamedTensors, trained: NamedTensors) -> tuple[list[int], list[int]]:
        """How far each point is from that of the trained model, and from that before it."""
        distances, reaches = [], []
        for candidate in self._candidates:
            received = self._kind.received(candidate, trained)
            distances.append(to_e9(received.distance(trained)))
            reaches.append(to_e9(self._seen_from(before, candidate, received).distance(before)))
        return distances, reaches

    def _seen_from(
        self, before: NamedTensors, candidate: Candidate, received: NamedTensors
    ) -> NamedTensors:
        """The point of a candidate from where the round began: who is silent moves nothing, and
        earns nothing by what we have learned since."""
        return self._kind.received(candidate, before) if self._kind.partial else received

    def _gains(self, reaches: Sequence[int], rho: int) -> tuple[list[int], list[int]]:
        """How good each candidate is shown to be, and how far that figure may be off."""
        ground = Ground(
            judge=self._judge,
            before=self._before,
            trained=self._trained,
            candidates=self._candidates,
            reaches=[reach / UNIT_E9 for reach in reaches],
            rho=rho / UNIT_E9,
        )
        gains = self._kind.gains(ground)
        return [to_e9(gain.value) for gain in gains], [to_e9(gain.error) for gain in gains]

    def _parts(self, measured: Sequence[EvidenceRecord]) -> tuple[integrate.Coefficient, ...]:
        return integrate.coefficients(self._request.trained, self._request.node, measured)

    def _loss_at(self, measured: Sequence[EvidenceRecord]) -> int:
        parts = self._parts(measured)
        if len(parts) == 1:
            return 0
        try:
            self._mix(parts)
        except TaskError as fault:
            _log.warning("taking in at this step failed: %s", fault)
            return CEILING_E9
        return _loss_e9(self._judge, load(self._path))

    def _store(self, parts: Sequence[integrate.Coefficient]) -> Digest:
        """The mixed model in the blob store; the own trained model when nothing was granted."""
        if len(parts) == 1:
            return self._request.trained
        self._blobs.put_file(self._path, self._mix(parts))
        return self._blended[1]

    def _mix(self, parts: Sequence[integrate.Coefficient]) -> Digest:
        """Mix into the scratch file, unless it holds just that already."""
        if self._blended[0] != tuple(parts):
            self._path.unlink(missing_ok=True)
            digest = self._kind.take_in(self._request, parts, self._path)
            self._blended = (tuple(parts), digest)
        return self._blended[1]


def _judged(record: EvidenceRecord) -> Judged:
    return Judged(
        art=record.art,
        node=record.node,
        record=records.pack(record),
        old_e9=record.trust_before_e9,
        new_e9=record.trust_e9,
        r_e9=record.r_after_e9,
        s_e9=record.s_after_e9,
        cause="evidence",
    )


def _loss_e9(judge: Judge, model: NamedTensors) -> int:
    return to_e9(judge.loss(model))
