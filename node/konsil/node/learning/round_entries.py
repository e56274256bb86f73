"""What a round writes into the ledger: the entries of its training and of its mix.

Pure: from what the worker said to bodies, and nothing is concluded on the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.protocol.artifact import bucket
from konsil.protocol.learning_bodies import ArtifactIntegrate, ModelTrain, Part

if TYPE_CHECKING:
    from konsil.node.learning.worker_messages import Mixed, Opened


def training(opened: Opened, before: bytes, out: bytes, number: int) -> ModelTrain:
    """Round `number` trained `out` from `before`; rows are told in buckets."""
    return ModelTrain(
        base=before,
        out=out,
        data=opened.data,
        cohort=bucket(opened.rows),
        recipe=opened.recipe,
        code=opened.code,
        env=opened.environment,
        round=number,
        privacy=None,
    )


def integration(
    mixed: Mixed, base: bytes, number: int, before: bytes, after: bytes
) -> ArtifactIntegrate:
    """Round `number` mixed `base` with others; `before` and `after` are digests of its metrics."""
    return ArtifactIntegrate(
        base=base,
        out=mixed.out,
        rule=mixed.rule,
        parts=[Part(art=p.art, node=p.node, w_e9=p.w_e9, trust_e9=p.trust_e9) for p in mixed.parts],
        not_mixed=list(mixed.not_mixed),
        before=before,
        after=after,
        reason=mixed.reason,
        round=number,
    )
