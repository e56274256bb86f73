"""What a node does with an artifact that it cannot take: an entry, a penalty, and on it goes."""

from __future__ import annotations

import msgspec
import pytest
from network import Network
from scripted import ScriptedTrainer

from konsil.node import daemon as daemon_module
from konsil.node.exchange.admission import Refusal
from konsil.node.learning.press import head_of
from konsil.protocol import envelope
from konsil.protocol.artifact import seal
from konsil.protocol.learning_bodies import ArtifactReceive, ArtifactReject, TrustUpdate
from konsil.trust import score
from konsil.trust.audit import verify_home
from konsil.trust.questions.gathering import gather
from konsil.trust.questions.peer_trust import peer_trust


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


async def test_two_artifacts_under_one_number_cost_the_place_at_the_table(tmp_path, nursery):
    net = Network(tmp_path, nursery, "ab", rounds=2, patience_s=0.5)
    await net.start()
    await net.until(net.idle)
    me, b = net.daemons["a"], net.members["b"].node
    held = me.shelf.newest(b, "parameters")
    second = msgspec.structs.replace(held.artifact, round=held.artifact.round + 7)
    sealed = envelope.pack(seal(second, net.daemons["b"].chronicle.key("art")))
    refusal = Refusal("manifest", ("equivocation", "sequence"), b, sealed)
    before = me.learner.memory.standing(b)
    await me.intake.refuse(head_of(second, sealed), refusal)
    assert me.learner.memory.standing(b).operator == "quarantined"
    assert me.learner.memory.standing(b).trust_e9 < before.trust_e9
    assert not me.learner.takes(head_of(second, sealed))
    await net.kill("a")
    found = verify_home(tmp_path / "a")
    assert [(one.code, one.exit_code) for one in found.findings] == [("publish.equivocation", 3)]
    told = gather([tmp_path / "a"])
    shown = peer_trust(told, told.homes[0], b)
    assert (shown.faults, shown.word) == (0, "quarantined")
    assert shown.words[-1].proof == "two signed artifacts under one number"
    await net.start("a")
    assert net.daemons["a"].learner.memory.standing(b).operator == "quarantined"
    nursery.cancel_scope.cancel()
