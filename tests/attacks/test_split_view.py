"""A5: one lying node shows each half of the network another log, until two of them talk."""

from __future__ import annotations

import shutil

import pytest
import trio
from network import Network
from scripted import ScriptedTrainer

from konsil.node import daemon as daemon_module
from konsil.node.control import ask
from konsil.protocol import fork, genesis
from konsil.protocol.node_bodies import PeerExposed

LEFT, RIGHT, LIAR = "abc", "def", "g"
EDGES = [
    ("a", "b"), ("b", "c"), ("d", "e"), ("e", "f"), ("c", "d"),
    *((LIAR, name) for name in LEFT + RIGHT),
]  # fmt: skip


@pytest.fixture(autouse=True)
def scripted(monkeypatch):
    monkeypatch.setattr(daemon_module, "Trainer", ScriptedTrainer)


async def shown(net, half):
    """The liar publishes to one half of the network, which mirrors what it signs."""
    liar = net.members[LIAR].node
    await net.start(*half, LIAR)
    await net.until(lambda: net.idle(*half, LIAR))
    await trio.to_thread.run_sync(ask, net.root / LIAR, "publish")
    journal = net.daemons[LIAR]._journal
    await net.until(
        lambda: all(
            net.daemons[name].watch.kept(liar).size == journal.size == journal.signed_size
            for name in half
        )
    )
    for name in half + LIAR:
        await net.kill(name)


@pytest.mark.slow
async def test_a5_a_split_view_ends_in_a_proof_at_the_first_honest_edge(tmp_path, nursery):
    net = Network(tmp_path, nursery, LEFT + RIGHT + LIAR, edges=EDGES, rounds=1, patience_s=0.5)
    shutil.copytree(tmp_path / LIAR, tmp_path / "other")
    await shown(net, LEFT)
    shutil.rmtree(tmp_path / LIAR)
    shutil.copytree(tmp_path / "other", tmp_path / LIAR)
    await shown(net, RIGHT)
    liar, honest = net.members[LIAR].node, LEFT + RIGHT
    await net.start(*honest)
    await net.until(lambda: all(net.bodies(name, PeerExposed) for name in "cd"))
    # What the two at the edge found out convinces their neighbours, one after the other.
    await net.until(lambda: all(net.bodies(name, PeerExposed) for name in honest))
    author = genesis.read((tmp_path / "a" / "peers" / f"{liar}.genesis").read_bytes())
    for name in honest:
        (body,) = net.bodies(name, PeerExposed)
        assert body.node == liar
        proof = net.daemons[name]._journal.blobs.get(body.evidence)
        found = fork.verify(proof, origin=author.origin, key=author.keys["log"])
        assert found.newer.root != found.older.root
        memory = net.daemons[name].learner.memory
        await net.until(lambda memory=memory: memory.standing(liar).operator == "quarantined")
    nursery.cancel_scope.cancel()
