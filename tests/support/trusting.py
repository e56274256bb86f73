"""What moves trust in a generated log: refusals with their penalties, and an operator's words."""

from __future__ import annotations

import msgspec

from konsil.protocol import records
from konsil.protocol.digest import sha256
from konsil.protocol.learning_bodies import ArtifactReject, TrustUpdate
from konsil.trust import score
from konsil.trust.gate import PENALTY_CAUSE, Penalty
from konsil.trust.score import Score


def refuse(hospital, sent, *, logged=True, because=("payload", "not_finite"), **changes):
    """Logs a refusal `because` of stage and reasons, and its penalty; `changes` falsify the
    penalty alone."""
    stage, *reasons = because
    before = hospital.scores.get(sent.publisher, Score())
    after = score.penalised(before)
    penalty = Penalty(
        node=sent.publisher, kind="parameters", stage=stage, reasons=tuple(reasons),
        env=sha256(sent.envelope), r_e9=after.r_e9, s_before_e9=before.s_e9,
        s_after_e9=after.s_e9,
    )  # fmt: skip
    data = hospital.journal.blobs.put(records.pack(msgspec.structs.replace(penalty, **changes)))
    reject = ArtifactReject(
        art=sent.art, publisher=sent.publisher, env=penalty.env, stage=penalty.stage,
        reasons=list(penalty.reasons), evidence=data,
    )  # fmt: skip
    update = TrustUpdate(
        node=sent.publisher, kind="parameters", art=None, old_e9=score.trust(before),
        new_e9=score.trust(after), cause=PENALTY_CAUSE, evidence=data,
    )  # fmt: skip
    hospital.journal.append([reject, update] if logged else [update])
    hospital.scores[sent.publisher] = after


def say(hospital, node, cause, new_e9=5):
    """Logs an operator's word, or what looks like one."""
    update = TrustUpdate(
        node=node, kind="parameters", art=None, old_e9=5, new_e9=new_e9, cause=cause,
        evidence=hospital.journal.blobs.put(b"by hand"),
    )  # fmt: skip
    hospital.journal.append([update])
