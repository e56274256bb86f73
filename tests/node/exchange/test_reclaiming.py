"""Envelopes and proofs come back from who holds the artifacts; a copy that is not the log stops."""

from __future__ import annotations

import shutil
import threading
from types import SimpleNamespace

import msgspec
import pytest
import trio
from network import Network
from scripted import ScriptedTrainer

from konsil.node import daemon as daemon_module
from konsil.node.control import ask
from konsil.node.exchange import reclaiming as reclaiming_module
from konsil.node.exchange.reclaiming import Reclaiming
from konsil.node.store.blobs import BlobStore
from konsil.protocol.errors import EncodingRefused, VerificationError
from konsil.protocol.learning_bodies import ArtifactPublish, ArtifactReceive
from konsil.trust.audit import verify_home

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def scripted(monkeypatch):
    monkeypatch.setattr(daemon_module, "Trainer", ScriptedTrainer)


async def learned(tmp_path, nursery, names="ab", **options):
    net = Network(tmp_path, nursery, names, rounds=2, **options)
    await net.start()
    await net.until(net.idle)
    await net.until(
        lambda: all(len(net.bodies(one, ArtifactReceive)) == 2 * (len(names) - 1) for one in names)
    )
    return net


def remove(net, name, kind, *fields):
    """The blobs that entries of one kind name are gone; how many they were."""
    store = BlobStore(net.root / name / "ledger" / "blobs")
    digests = {getattr(body, field) for body in net.bodies(name, kind) for field in fields}
    for digest in digests:
        store.remove(digest)
    return digests


def missing(home):
    return [found for found in verify_home(home).findings if found.code == "blob.missing"]


async def test_envelopes_of_ours_come_back_from_who_received_them(tmp_path, nursery):
    net = await learned(tmp_path, nursery)
    await net.kill("a")
    gone = remove(net, "a", ArtifactPublish, "env")
    assert len(missing(tmp_path / "a")) == len(gone) == 2
    assert verify_home(tmp_path / "a").exit_code() == 4
    await net.start("a")
    await net.until(lambda: net.daemons["a"]._reclaiming.lacking == 0)
    await net.kill("a")
    assert missing(tmp_path / "a") == []
    nursery.cancel_scope.cancel()


async def test_what_we_received_comes_back_with_the_proof_that_our_log_names(tmp_path, nursery):
    net = await learned(tmp_path, nursery)
    await net.kill("a")
    remove(net, "a", ArtifactReceive, "env", "proof")
    assert len(missing(tmp_path / "a")) == 4
    await net.start("a")
    await net.until(lambda: net.daemons["a"]._reclaiming.lacking == 0)
    await net.kill("a")
    assert missing(tmp_path / "a") == []
    nursery.cancel_scope.cancel()


async def test_what_nobody_has_stays_missing_and_the_node_goes_on(tmp_path, nursery):
    net = await learned(tmp_path, nursery)
    for name in "ab":
        await net.kill(name)
    gone = remove(net, "a", ArtifactPublish, "env")
    payloads = BlobStore(tmp_path / "b" / "blobs")
    kept, lost = net.bodies("a", ArtifactPublish)
    payloads.remove(lost.art)
    await net.start()
    reclaiming = net.daemons["a"]._reclaiming
    await net.until(lambda: reclaiming.lacking == 1)
    assert set(reclaiming._lacking) == gone - {kept.env}
    told = await trio.to_thread.run_sync(ask, tmp_path / "a", "publish")
    assert told["sequence"] == 3
    nursery.cancel_scope.cancel()


async def test_a_neighbour_that_comes_later_is_asked_then(tmp_path, nursery):
    net = await learned(tmp_path, nursery)
    for name in "ab":
        await net.kill(name)
    remove(net, "a", ArtifactPublish, "env")
    await net.start("a")
    assert net.daemons["a"]._reclaiming.lacking == 2
    await net.start("b")
    await net.until(lambda: net.daemons["a"]._reclaiming.lacking == 0)
    nursery.cancel_scope.cancel()


async def test_a_copy_whose_artifacts_others_hold_unknown_to_it_stops(tmp_path, nursery):
    """Nobody vouched for it at its start; an artifact of its other life tells it."""
    net = await learned(tmp_path, nursery, vouch_wait_s=0.01)
    await net.kill("a")
    backup = tmp_path / "backup"
    shutil.copytree(tmp_path / "a", backup, ignore=shutil.ignore_patterns("control.sock"))
    await net.start("a")
    await trio.to_thread.run_sync(ask, tmp_path / "a", "publish")
    await net.until(lambda: len(net.bodies("b", ArtifactReceive)) == 3)
    for name in "ab":
        await net.kill(name)
    shutil.rmtree(tmp_path / "a")
    shutil.copytree(backup, tmp_path / "a")

    async def other_life():
        async with trio.open_nursery() as net.nursery:
            await net.start("a")
            await net.start("b")
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as raised, trio.fail_after(30):
        await other_life()
    assert raised.group_contains(VerificationError, match="that are not these")
    nursery.cancel_scope.cancel()


async def test_heads_that_nobody_can_show_are_asked_for_once(tmp_path, nursery):
    net = await learned(tmp_path, nursery)
    daemon, asked = net.daemons["a"], []
    honest = Reclaiming._offer

    async def counting(reclaiming, member, env):
        asked.append(env)
        return await honest(reclaiming, member, env)

    daemon._reclaiming._offer = counting.__get__(daemon._reclaiming)
    member = net.members["b"]
    real = daemon.shelf.newest(net.members["a"].node, "parameters").head
    invented = msgspec.structs.replace(real, env=b"x" * 32, sequence=2**50)
    for _ in range(3):
        daemon._reclaiming.consider(member, [invented])
        await net.until(lambda: asked == [b"x" * 32])
    told = await trio.to_thread.run_sync(ask, tmp_path / "a", "publish")
    assert told["sequence"] == 3
    nursery.cancel_scope.cancel()


def claimed(net, digest):
    """An artifact of `a` that `a` does not know."""
    real = net.daemons["a"].shelf.newest(net.members["a"].node, "parameters").head
    return msgspec.structs.replace(real, env=digest * 32, sequence=2**50)


def offering(net, answer):
    """From now on `a` asks `answer` for offers, with a neighbour's name and a digest."""

    async def offer(member, env):
        return await answer(member.name, env)

    net.daemons["a"]._reclaiming._offer = offer


async def test_what_one_neighbour_claims_and_refuses_another_is_asked_for(tmp_path, nursery):
    net = await learned(tmp_path, nursery, "abc")
    asked = []

    async def refuse(name, env):
        asked.append((name, env))

    offering(net, refuse)
    for name in "bbcc":
        net.daemons["a"]._reclaiming.consider(net.members[name], [claimed(net, b"x")])
        await net.until(lambda name=name: (name, b"x" * 32) in asked)
    assert asked == [("b", b"x" * 32), ("c", b"x" * 32)]
    nursery.cancel_scope.cancel()


async def test_a_claim_whose_showing_breaks_off_is_looked_at_again(tmp_path, nursery):
    net = await learned(tmp_path, nursery)
    reclaiming, member, asked = net.daemons["a"]._reclaiming, net.members["b"], []

    async def breaking(name, env):
        asked.append(env)
        if len(asked) == 1:
            raise trio.BrokenResourceError

    offering(net, breaking)
    reclaiming.consider(member, [claimed(net, b"x"), claimed(net, b"y")])
    await net.until(lambda: asked == [b"x" * 32])
    reclaiming.linked(member)
    await net.until(lambda: len(asked) == 3)
    assert asked == [b"x" * 32, b"x" * 32, b"y" * 32]
    nursery.cancel_scope.cancel()


async def test_one_refusal_does_not_hide_what_else_is_claimed(tmp_path, nursery):
    net = await learned(tmp_path, nursery)
    reclaiming, asked = net.daemons["a"]._reclaiming, []

    async def refusing(name, env):
        asked.append(env)
        raise EncodingRefused("nonsense")

    offering(net, refusing)
    reclaiming.consider(net.members["b"], [claimed(net, b"x"), claimed(net, b"y")])
    await net.until(lambda: len(asked) == 2)
    assert asked == [b"x" * 32, b"y" * 32]
    nursery.cancel_scope.cancel()


async def test_few_claims_of_one_neighbour_are_remembered(tmp_path, nursery, monkeypatch):
    monkeypatch.setattr(reclaiming_module, "CLAIMS", 2)
    net = await learned(tmp_path, nursery)
    reclaiming, member = net.daemons["a"]._reclaiming, net.members["b"]
    reclaiming.consider(member, [claimed(net, digest) for digest in (b"x", b"y", b"z")])
    assert set(reclaiming._claims[member.node]) == {b"y" * 32, b"z" * 32}
    nursery.cancel_scope.cancel()


async def test_the_event_loop_never_waits_for_the_disk_of_the_log(tmp_path, nursery, monkeypatch):
    """The log is locked while an append syncs."""
    net = await learned(tmp_path, nursery)
    daemon, threads = net.daemons["a"], []
    offer = SimpleNamespace(proof=daemon.shelf.newest(net.members["a"].node, "parameters").proof)
    root_at = daemon._journal.root_at

    def looking(size):
        threads.append(threading.current_thread())
        return root_at(size)

    async def showing(name, env):
        return offer

    monkeypatch.setattr(daemon._journal, "root_at", looking)
    offering(net, showing)
    daemon._reclaiming.consider(net.members["b"], [claimed(net, b"x")])
    await net.until(lambda: all(daemon._reclaiming._claims[net.members["b"].node].values()))
    assert threads
    assert threading.current_thread() not in threads
    nursery.cancel_scope.cancel()
