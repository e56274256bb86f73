"""The learner: whatever happens meanwhile, the ledger and what it remembers say the same."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest
import trio
from network import Network
from scripted import ScriptedTrainer, payload

from konsil.node import daemon as daemon_module
from konsil.node.exchange.admission import Refusal
from konsil.node.learning.worker_messages import Mix, Release, Released
from konsil.protocol import records
from konsil.protocol.learning_bodies import (
    ArtifactIntegrate,
    ArtifactPublish,
    ModelTrain,
    TrustUpdate,
)
from konsil.trust import score
from konsil.trust.audit import verify_home
from konsil.trust.evidence import EvidenceRecord
from konsil.trust.gate import Penalty


@pytest.fixture(autouse=True)
def scripted(monkeypatch):
    monkeypatch.setattr(daemon_module, "Trainer", ScriptedTrainer)


@pytest.fixture
def mixing(monkeypatch):
    """Mixes begin, tell so, and end when they may."""
    gate = SimpleNamespace(begun=trio.Event(), may_end=trio.Event())
    ask = ScriptedTrainer.ask

    async def slow(trainer, request, kind):
        if isinstance(request, Mix) and trainer.name == "a":
            gate.begun.set()
            await gate.may_end.wait()
        return await ask(trainer, request, kind)

    monkeypatch.setattr(ScriptedTrainer, "ask", slow)
    return gate


def chain(net, name, node):
    """(before, after) of each record about `node`, in the ledger's order, as (r, s)."""
    found, blobs = [], net.daemons[name]._journal.blobs
    for body in net.bodies(name, TrustUpdate):
        if body.node == node and body.cause == "gate.refused":
            one = records.unpack(blobs.get(body.evidence), Penalty)
            found.append(((one.r_e9, one.s_before_e9), (one.r_e9, one.s_after_e9)))
        elif body.node == node:
            one = records.unpack(blobs.get(body.evidence), EvidenceRecord)
            before = (one.r_before_e9, one.s_before_e9)
            found.append((before, (one.r_after_e9, one.s_after_e9)))
    return found


async def test_no_refusal_is_lost_while_a_mix_runs(tmp_path, nursery, mixing):
    net = Network(tmp_path, nursery, "ab", rounds=2)
    await net.start()
    await mixing.begun.wait()
    me, b = net.daemons["a"], net.members["b"].node
    head = me.shelf.newest(b, "parameters").head
    refusal = Refusal("manifest", ("sequence",), b)
    async with trio.open_nursery() as refusing:
        for _ in range(2):
            refusing.start_soon(me.intake.refuse, head, refusal)
        await trio.sleep(0.2)
        mixing.may_end.set()
    await net.until(net.idle, 20)
    found = chain(net, "a", b)
    assert len(found) == len(me.learner.memory.judged) + 2 > 2
    assert [before for before, _ in found] == [(0, 0), *(after for _, after in found[:-1])]
    standing = me.learner.memory.standing(b)
    assert (standing.r_e9, standing.s_e9) == found[-1][1]
    assert sum(s - before for (_, before), (_, s) in found if s > before) >= 2 * score.PENALTY_E9
    await net.kill("a")
    assert verify_home(tmp_path / "a").findings == ()
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("what", ["append", "prove"])
async def test_no_number_is_given_twice_when_a_question_times_out(
    tmp_path, nursery, monkeypatch, what
):
    net = Network(tmp_path, nursery, "ab", rounds=1, patience_s=0.1)
    await net.start()
    await net.until(net.idle, 20)
    me = net.daemons["a"]
    plain = getattr(me.chronicle, what)

    async def slow(*given):
        done = await plain(*given)
        await trio.sleep(0.3)
        return done

    monkeypatch.setattr(me.chronicle, what, slow)
    with trio.move_on_after(0.1):
        await me.learner.publish_now()
    monkeypatch.setattr(me.chronicle, what, plain)
    await me.learner.publish_now()
    numbers = [body.sequence for body in net.bodies("a", ArtifactPublish)]
    assert numbers == [1, 2, 3]
    mine = [held.head.sequence for held in me.shelf if held.head.publisher == me.roster.me.node]
    assert mine == numbers
    nursery.cancel_scope.cancel()


async def test_what_an_operator_publishes_names_what_the_ledger_says_it_was_made_from(
    tmp_path, nursery
):
    net = Network(tmp_path, nursery, "ab", rounds=2)
    await net.start()
    await net.until(net.idle, 20)
    me = net.daemons["a"]
    held = await me.learner.publish_now()
    made = net.bodies("a", ModelTrain | ArtifactIntegrate)[-1]
    published = net.bodies("a", ArtifactPublish)[-1]
    assert published.art == made.out
    assert published.derived_from == [made.base] != [me.learner.memory.base]
    assert held.artifact.parents == (made.base.hex(),)
    await net.kill("a")
    assert verify_home(tmp_path / "a").findings == ()
    nursery.cancel_scope.cancel()


async def test_what_an_operator_releases_is_a_change_of_what_the_round_began_with(
    tmp_path, nursery, monkeypatch
):
    asked, open_plain, ask_plain = [], ScriptedTrainer.open, ScriptedTrainer.ask

    async def opened(trainer):
        return msgspec.structs.replace(await open_plain(trainer), whole=False)

    async def ask(trainer, request, kind):
        if isinstance(request, Release):
            asked.append(request)
            return Released(payload=trainer.blobs.put(payload(7.0)))
        return await ask_plain(trainer, request, kind)

    monkeypatch.setattr(ScriptedTrainer, "open", opened)
    monkeypatch.setattr(ScriptedTrainer, "ask", ask)
    net = Network(tmp_path, nursery, "ab", rounds=2)
    await net.start()
    await net.until(net.idle, 20)
    held = await net.daemons["a"].learner.publish_now()
    train, memory = net.bodies("a", ModelTrain)[-1], net.daemons["a"].learner.memory
    assert asked == [Release(before=train.base, model=memory.model)]
    assert train.base != memory.base
    assert held.artifact.parents == (memory.model.hex(),)
    nursery.cancel_scope.cancel()
