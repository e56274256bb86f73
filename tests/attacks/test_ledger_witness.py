"""Attacks on those who vouch, by a member whose node is changed: it owes what it signed for, or
wants a witness to forget (A7, A13). Real daemons in one process.
"""

from __future__ import annotations

import re
import time

import pytest
import trio
from commands import shell
from network import Network
from pinned import missed, pinned, verify
from scripted import ScriptedTrainer

from konsil.node import daemon as daemon_module
from konsil.node.control import ask
from konsil.node.exchange import exposure
from konsil.node.store.witnessed import NAME
from konsil.node.transports.transport import WITNESS_PROTOCOL
from konsil.protocol import witness
from konsil.protocol.mirror import Ask, Page, Proven, Seen
from konsil.protocol.node_bodies import PeerClear, PeerExposed, PeerSuspect
from konsil.protocol.witness import CONFLICT, COSIGNED, Request
from konsil.trust.reading import read_entries


@pytest.fixture(autouse=True)
def scripted(monkeypatch):
    monkeypatch.setattr(daemon_module, "Trainer", ScriptedTrainer)


async def vouched(net, size):
    """Until b vouches for more than `size` entries of a; how many."""
    daemon = net.daemons["a"]
    await net.until(lambda: daemon.cosigning.vouched > size)
    return daemon.cosigning.vouched


async def publish(net):
    await trio.to_thread.run_sync(ask, net.root / "a", "publish")


async def learned(tmp_path, nursery):
    """Two nodes that are done with learning, and vouch for all that the other one wrote."""
    net = Network(tmp_path, nursery, "ab", rounds=1)
    await net.start()
    await net.until(net.idle)
    await net.until(
        lambda: all(one.cosigning.vouched == one._journal.size for one in net.daemons.values())
    )
    return net


# --- A7: proofs withheld ----------------------------------------------------------------------


async def test_a7_who_withholds_proofs_is_suspect_until_they_come(tmp_path, nursery, monkeypatch):
    later = [0]
    monkeypatch.setattr(daemon_module, "now_s", lambda: int(time.time()) + later[0])
    monkeypatch.setattr(exposure, "LOOK_EVERY_S", 0.05)
    net = await learned(tmp_path, nursery)
    attacker, honest = net.daemons["a"], net.daemons["b"]
    answered = attacker.mirroring._answer

    def withholding(question, asker):
        if isinstance(question, Seen):
            return Seen(notes=(attacker._journal.checkpoint,))
        if isinstance(question, Ask):
            return Page(note=b"", held=b"", size=0, first=question.first, frames=b"")
        return Proven(root=None, hashes=())

    monkeypatch.setattr(attacker.mirroring, "_answer", withholding)
    before = attacker._journal.signed_size
    await publish(net)
    await net.until(lambda: attacker._journal.signed_size > before)
    honest.visits.stir(net.members["a"])
    await net.until(honest.watch.questions)
    assert not net.bodies("b", PeerSuspect)
    later[0] = 120
    await net.until(lambda: net.bodies("b", PeerSuspect))
    assert attacker.cosigning.vouched == before, "nobody vouches for what nobody may see"
    monkeypatch.setattr(attacker.mirroring, "_answer", answered)
    honest.visits.stir(net.members["a"])
    await net.until(lambda: net.bodies("b", PeerClear))
    assert not net.bodies("b", PeerExposed)
    for name in "ab":
        await net.kill(name)
    wanted = pinned("a7", "suspect")
    assert wanted["code"] in {entry.t for entry in read_entries(tmp_path / "b" / "ledger")}
    assert verify(tmp_path / "a", tmp_path / "b") == (wanted["exit"], set())
    assert not missed("a7", tmp_path / "b", options=("--strict",), also=("checkpoint.behind",))
    nursery.cancel_scope.cancel()


# --- A13: a witness is to forget --------------------------------------------------------------


async def test_a13_a_witness_never_goes_back(tmp_path, nursery):
    """Not in a race of requests, not over a restart, and not by what is written into its file."""
    net = await learned(tmp_path, nursery)
    journal, lines = net.daemons["a"]._journal, net.daemons["a"].cosigning._lines
    old, old_note = net.daemons["a"].cosigning.vouched, journal.checkpoint
    await publish(net)
    new = await vouched(net, old)
    note, hashes = journal.sign_checkpoint(), tuple(journal.consistency(old, new))
    assert journal.open_checkpoint(note).size == new
    asked = [
        Request(old=new, proof=(), note=note),
        Request(old=old, proof=(), note=old_note),
        Request(old=old, proof=hashes, note=note),
        Request(old=0, proof=(), note=old_note),
        Request(old=new, proof=(), note=note),
    ]
    told = [None] * len(asked)

    async def submit(at):
        data = witness.encode_request(asked[at])
        said = await lines.ask(net.members["b"].peer, WITNESS_PROTOCOL, data)
        told[at] = witness.decode_response(said)

    async def race():
        async with trio.open_nursery() as racing:
            for at in range(len(asked)):
                racing.start_soon(submit, at)

    for _ in range(3):
        await race()
        assert [one.status for one in told] == [COSIGNED, CONFLICT, CONFLICT, CONFLICT, COSIGNED]
        assert {one.known_size for one in told} == {None, new}
        await net.kill("b")
        await net.start("b")
        await net.until(lambda: net.members["b"].peer in net.daemons["a"]._transport.connected())
    for name in "ab":
        await net.kill(name)
    path = tmp_path / "b" / "peers" / NAME
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    config = tmp_path / "b" / "node.toml"
    config.write_text(re.sub("/memory/[^\"']+", "/ip4/127.0.0.1/tcp/0", config.read_text()))
    assert not missed("a13", tmp_path / "b", tmp_path / "a")
    done = await trio.to_thread.run_sync(shell, "node", "run", tmp_path / "b")
    assert done.code == pinned("a13")["exit"]
    assert NAME in done.complaint
    nursery.cancel_scope.cancel()
