"""The daemon's own logic over the memory transport, with a trainer that needs no torch.

Real ledgers, real sessions, real transfers; only training is a toy.
"""

from __future__ import annotations

import os

import pytest
import trio
from network import Network
from scripted import ScriptedTrainer

from konsil.node import daemon as daemon_module
from konsil.node.learning.partners import partners
from konsil.protocol import records
from konsil.protocol.learning_bodies import ArtifactReceive, TrustUpdate
from konsil.trust.audit import verify_home
from konsil.trust.evidence import EvidenceRecord

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def scripted(monkeypatch):
    monkeypatch.setattr(daemon_module, "Trainer", ScriptedTrainer)


RING = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "a")]


async def test_four_hospitals_on_a_ring_learn_from_their_neighbours(tmp_path, nursery):
    net = Network(tmp_path, nursery, "abcd", edges=RING)
    await net.start()
    await net.until(net.idle)
    for name, left, right in (("a", "b", "d"), ("b", "a", "c"), ("c", "b", "d")):
        assert set(net.sources(name)) == {left, right}
        assert net.daemons[name].learner.memory.round == 5
    nursery.cancel_scope.cancel()


async def test_a_restart_goes_on_where_the_ledger_ends(tmp_path, nursery):
    net = Network(tmp_path, nursery, "abc", rounds=4)
    await net.start()
    await net.until(lambda: net.daemons["a"].learner.memory.round >= 2)
    await net.kill("a")
    before = net.daemons["a"].learner.memory
    await net.start("a")
    after = net.daemons["a"].learner.memory
    assert (after.round, after.model, after.sequence) == (
        before.round, before.model, before.sequence,
    )  # fmt: skip
    for member in net.members.values():
        assert after.standing(member.node) == before.standing(member.node)
    await net.until(net.idle)
    assert net.daemons["a"].learner.memory.round == 4
    nursery.cancel_scope.cancel()


async def test_survivors_of_a_star_learn_from_each_other(tmp_path, nursery):
    edges = [("h", n) for n in "abcd"]
    net = Network(tmp_path, nursery, "habcd", edges=edges, rounds=8)
    await net.start()
    await net.until(lambda: net.daemons["h"].learner.memory.round >= 2)
    await net.kill("h")
    killed = trio.current_time()
    survivors = "abcd"
    await net.until(lambda: all(len(net.daemons[n].links.live()) == 3 for n in survivors))
    assert trio.current_time() - killed < 15
    await net.until(lambda: net.idle(*survivors))
    for name in survivors:
        assert sum(count for n, count in net.sources(name).items() if n != "h") >= 2
    nursery.cancel_scope.cancel()


async def test_an_outbound_only_hospital_is_heard(tmp_path, nursery):
    net = Network(tmp_path, nursery, "abc", outbound=("c",))
    await net.start()
    await net.until(net.idle)
    assert net.sources("a")["c"] >= 2
    assert net.sources("b")["c"] >= 2
    nursery.cancel_scope.cancel()


async def test_who_was_away_catches_up_from_heads(tmp_path, nursery):
    net = Network(tmp_path, nursery, "abc", rounds=3)
    await net.start("a", "b")
    await net.until(lambda: net.idle("a", "b"))
    await net.start("c")
    await net.until(lambda: net.idle("c"))
    # They have stopped, so they stand where their heads are in each of its rounds.
    assert net.sources("c") == {"a": 3, "b": 3}
    await net.kill("c")
    assert verify_home(tmp_path / "c").findings == ()
    nursery.cancel_scope.cancel()


async def test_no_first_round_begins_while_a_neighbour_opens_its_task(
    tmp_path, nursery, monkeypatch
):
    opening, may_open = ScriptedTrainer.open, trio.Event()

    async def slow(trainer):
        if trainer.name == "b":
            await may_open.wait()
        return await opening(trainer)

    monkeypatch.setattr(ScriptedTrainer, "open", slow)
    net = Network(tmp_path, nursery, "ab", rounds=1, start_wait_s=60.0)
    await net.start()
    me, b = net.daemons["a"].learner, net.members["b"].node
    await net.until(lambda: me.phase == "connecting" and me.awaited == {b})
    may_open.set()
    await net.until(net.idle)
    assert net.sources("a") == {"b": 1}
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("gossip", ["epidemic", "pairs"])
async def test_every_round_hears_those_that_were_drawn_for_it(tmp_path, nursery, gossip):
    net = Network(tmp_path, nursery, "abcde", rounds=4, gossip=gossip)
    await net.start()
    await net.until(net.idle)
    nodes, seen = {member.node for member in net.members.values()}, 0
    for name, member in net.members.items():
        blobs = net.daemons[name]._journal.blobs
        for body in net.bodies(name, TrustUpdate):
            record = records.unpack(blobs.get(body.evidence), EvidenceRecord)
            assert record.node in partners(gossip, member.node, record.round, nodes)
            assert record.metropolis_e9 == {"epidemic": 10**9 // 4, "pairs": 10**9 // 2}[gossip]
            seen += 1
    assert seen >= {"epidemic": 30, "pairs": 15}[gossip]
    await net.kill("a")
    assert verify_home(tmp_path / "a").findings == ()
    nursery.cancel_scope.cancel()


async def test_a_failing_task_leaves_the_node_alive(tmp_path, nursery):
    net = Network(tmp_path, nursery, "abc", options={"c": {"fails": True}}, rounds=3)
    await net.start()
    await net.until(lambda: net.daemons["c"].learner.phase == "failed")
    assert "ValueError" in net.daemons["c"].learner.task_error
    await net.until(lambda: net.idle("a", "b"))
    assert len(net.daemons["c"].links.live()) == 2
    nursery.cancel_scope.cancel()


async def test_everything_received_was_published_first(tmp_path, nursery):
    net = Network(tmp_path, nursery, "abc", rounds=3)
    await net.start()
    await net.until(net.idle)
    for body in net.bodies("a", ArtifactReceive):
        publisher = next(n for n, m in net.members.items() if m.node == body.publisher)
        logged = net.daemons[publisher]._journal.entry(body.index).b
        assert logged.env == body.env
    nursery.cancel_scope.cancel()


async def test_an_operator_can_mute_a_peer_and_the_ledger_knows(tmp_path, nursery):
    net = Network(tmp_path, nursery, "abc", rounds=4)
    await net.start("a")
    from konsil.node.control import ask

    await trio.to_thread.run_sync(ask, tmp_path / "a", "trust", {"operator": "mute", "peer": "b"})
    await net.start("b", "c")
    await net.until(net.idle)
    assert net.sources("a")["b"] == 0
    assert net.sources("a")["c"] >= 1
    causes = [body.cause for body in net.bodies("a", TrustUpdate)]
    assert "operator.mute" in causes
    nursery.cancel_scope.cancel()


async def test_every_question_is_answered(tmp_path, nursery):
    net = Network(tmp_path, nursery, "ab", rounds=2)
    await net.start()
    await net.until(net.idle)
    from konsil.node.control import ask

    async def asked(verb):
        return await trio.to_thread.run_sync(ask, tmp_path / "a", verb)

    status = await asked("status")
    assert (status["phase"], status["round"], status["neighbours"]) == ("idle", 2, ["b"])
    assert (await asked("peers"))["peers"][0]["linked"] is True
    assert {row["publisher"] for row in (await asked("artifacts"))["artifacts"]} == {"a", "b"}
    assert 0 < (await asked("trust"))["peers"][0]["trust"] <= 1
    sequence = net.daemons["a"].learner.memory.sequence
    assert (await asked("publish"))["sequence"] == sequence + 1
    assert (await asked("stop")) == {"stopping": True}
    await net.stopped["a"].wait()
    assert not os.path.lexists(tmp_path / "a" / "control.sock")
    nursery.cancel_scope.cancel()
