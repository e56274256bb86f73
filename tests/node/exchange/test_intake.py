"""What a node does with an artifact that it cannot take: an entry, a penalty, and on it goes."""

from __future__ import annotations

import pytest
from network import Network
from scripted import ScriptedTrainer

from konsil.node import daemon as daemon_module
from konsil.protocol.learning_bodies import ArtifactReceive, ArtifactReject, TrustUpdate
from konsil.trust import score
from konsil.trust.audit import verify_home


@pytest.fixture(autouse=True)
def scripted(monkeypatch):
    monkeypatch.setattr(daemon_module, "Trainer", ScriptedTrainer)


async def test_a_payload_that_is_not_finite_costs_its_publisher_and_not_the_receiver(
    tmp_path, nursery
):
    options = {"b": {"target": 1.0, "releases": float("nan")}}
    net = Network(tmp_path, nursery, "ab", options=options, rounds=3, patience_s=0.5)
    await net.start()
    await net.until(net.idle)
    me, b = net.daemons["a"], net.members["b"].node
    await net.until(lambda: me.intake.rejected > 0, 15)
    rejects, updates = net.bodies("a", ArtifactReject), net.bodies("a", TrustUpdate)
    assert {(r.publisher, r.stage, *r.reasons) for r in rejects} == {(b, "payload", "not_finite")}
    assert [(u.node, u.cause) for u in updates] == [(b, "gate.refused")] * len(rejects)
    assert me.learner.memory.standing(b).s_e9 == score.PENALTY_E9 * len(rejects)
    assert not net.bodies("a", ArtifactReceive)
    assert (me.learner.memory.round, net.stopped["a"].is_set()) == (3, False)
    await net.kill("a")
    assert verify_home(tmp_path / "a").findings == ()
    nursery.cancel_scope.cancel()
