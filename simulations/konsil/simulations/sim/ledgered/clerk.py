"""Clerk: the entries that say what became of received models, judgement by judgement.

Evidence comes before the mix that used it, and a mix is logged only where it changed the model.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from konsil.node.learning.memory import PARAMETERS
from konsil.protocol import cmp1
from konsil.protocol.digest import sha256
from konsil.protocol.learning_bodies import ArtifactIntegrate, Part, TrustUpdate
from konsil.simulations.sim.judging import Judging
from konsil.simulations.sim.ledgered.archive import BLOBS
from konsil.simulations.sim.ledgered.verdicts import packed, records_of
from konsil.trust.fixed import UNIT_E9, to_e9
from konsil.trust.integrate import RULE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from konsil.protocol.digest import Digest
    from konsil.simulations.sim.ledgered.archive import Archive
    from konsil.simulations.sim.ledgered.desk import Desk
    from konsil.simulations.sim.ledgered.weighing import Weighing
    from konsil.simulations.sim.links import Nodes
    from konsil.simulations.sim.setting import Setting


class Clerk:
    """Writes for all desks; evidence goes to the archive."""

    def __init__(self, setting: Setting, desks: Sequence[Desk], archive: Archive) -> None:
        self._desks, self._archive = desks, archive
        self._judging = Judging(setting.network, setting.cohorts, "cpu")
        rule = setting.scenario.trust.rule
        self._rule = RULE if rule == "evidence" else f"simulated/{rule}"

    def judge(self, weighing: Weighing) -> None:
        """One trust update for each link, where the rule keeps evidence."""
        if weighing.judgement is None:
            return
        receivers = weighing.exchange.links.receiver.tolist()
        desks = [self._desks[receiver] for receiver in receivers]
        found = records_of(
            weighing.judgement,
            weighing.exchange.number,
            [(release.publisher, release.art) for release in weighing.arrived],
            [(desk.before, desk.trained) for desk in desks],
        )
        for receiver, desk, record, data in zip(
            receivers, desks, found, packed(found), strict=True
        ):
            update = TrustUpdate(
                node=record.node,
                kind=PARAMETERS,
                art=record.art,
                old_e9=record.trust_before_e9,
                new_e9=record.trust_e9,
                cause="evidence",
                evidence=self._stored(receiver, data),
            )
            desk.pending.append(update)

    def integrate(
        self, weighing: Weighing, who: Nodes, models: Tensor, outs: Sequence[Digest]
    ) -> None:
        """One entry for each node of `who`, with its private loss before and after.

        `models` and `outs` are what these nodes hold now.
        """
        if len(who) == 0:
            return
        parts, steps = self._parts(weighing), weighing.steps_e9
        before = self._losses(weighing.exchange.trained[torch.from_numpy(who)], who)
        after = self._losses(models, who)
        for node, out, stayed, moved in zip(who.tolist(), outs, before, after, strict=True):
            desk = self._desks[node]
            if out == desk.trained:
                continue
            body = ArtifactIntegrate(
                base=desk.trained,
                out=out,
                rule=self._rule,
                parts=[_own(desk, parts[node]), *parts[node]],
                not_mixed=[],
                before=self._scores(node, stayed),
                after=self._scores(node, moved),
                reason="mixed" if steps[node] == UNIT_E9 else "guarded",
                round=weighing.exchange.number,
            )
            desk.pending.append(body)
            desk.model = out

    def _parts(self, weighing: Weighing) -> dict[int, list[Part]]:
        """What each node mixes in of others."""
        found: dict[int, list[Part]] = {}
        for receiver, weight, trust, release in zip(
            weighing.exchange.links.receiver.tolist(),
            weighing.granted_e9.tolist(),
            weighing.trusts_e9.tolist(),
            weighing.arrived,
            strict=True,
        ):
            if weight > 0:
                part = Part(art=release.art, node=release.publisher, w_e9=weight, trust_e9=trust)
                found.setdefault(receiver, []).append(part)
        return found

    def _losses(self, models: Tensor, nodes: Nodes) -> list[float]:
        found: list[float] = self._judging.losses(models.cpu(), torch.from_numpy(nodes)).tolist()
        return found

    def _scores(self, node: int, loss: float) -> Digest:
        """The digest of what the private rows say of a model, in 1e-9."""
        scores = {"loss": to_e9(loss)} if math.isfinite(loss) else {}
        return self._stored(node, cmp1.encode(scores))

    def _stored(self, node: int, data: bytes) -> Digest:
        digest = sha256(data)
        self._archive.put(node, BLOBS, digest, data)
        return digest


def _own(desk: Desk, others: Sequence[Part]) -> Part:
    """What is left for a node's own trained model."""
    rest = UNIT_E9 - sum(part.w_e9 for part in others)
    return Part(art=desk.trained, node=desk.node, w_e9=rest, trust_e9=UNIT_E9)
