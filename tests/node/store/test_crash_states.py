"""Every state that a crash can leave between two entries, and what the node makes of it.

A group of entries is one write. A power cut in the middle of it leaves the first few, perhaps
with a torn one behind; whatever is left must verify, and the node must go on from there.
"""

from __future__ import annotations

import shutil
from collections import Counter
from contextlib import suppress

import pytest
import trio
from ledgers import tail_of
from network import Network
from scripted import ScriptedTrainer

from konsil.node import daemon as daemon_module
from konsil.node.control import ask
from konsil.node.exchange.pulls import spool_file
from konsil.node.learning.memory import recall
from konsil.node.learning.restore import restore_shelf
from konsil.node.store.blobs import BlobStore
from konsil.node.store.journal import Journal
from konsil.protocol import tiles
from konsil.protocol.learning_bodies import (
    ArtifactIntegrate,
    ArtifactPublish,
    ModelTrain,
    TrustUpdate,
)
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.trust.audit import verify_home

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def scripted(monkeypatch):
    monkeypatch.setattr(daemon_module, "Trainer", ScriptedTrainer)


def facts(memory):
    """All that a memory knows, whether or not the last round is settled."""
    return {name: value for name, value in vars(memory).items() if name != "pending"}


def shelved(shelf):
    return {(held.head.env, held.since_round) for held in shelf}


def remembered(net, name):
    """The memory and the shelf that the ledger of a node alone tells."""
    daemon = net.daemons[name]
    journal = daemon._journal
    blobs = BlobStore(net.root / name / "blobs")
    memory = recall(journal.entries(), journal.blobs.get, blobs.has, journal.size)
    me = net.members[name].node
    return memory, restore_shelf(journal, blobs, memory, me, DEFAULT_LIMITS)


def newest(shelf, publisher):
    """The newest sequence held of a publisher; 0 for none."""
    held = shelf.newest(publisher, "parameters")
    return 0 if held is None else held.head.sequence


def everything_arrived(net, name):
    shelf = net.daemons[name].shelf
    return all(
        newest(shelf, net.members[other].node) == daemon.learner.memory.sequence
        for other, daemon in net.daemons.items()
    )


async def test_the_ledger_alone_tells_what_a_running_node_knows(tmp_path, nursery):
    net = Network(tmp_path, nursery, "abc", rounds=4)
    await net.start("a", "b")
    await net.until(lambda: net.daemons["a"].learner.memory.round >= 2)
    await net.start("c")
    await net.until(net.idle)
    # Idle nodes still receive: compare once nothing is under way any more.
    await net.until(lambda: all(everything_arrived(net, name) for name in "abc"))
    for name in "abc":
        memory, shelf = remembered(net, name)
        live = net.daemons[name]
        assert facts(memory) == facts(live.learner.memory)
        assert shelved(shelf) == shelved(live.shelf)
        me = net.members[name].node
        assert shelf.fresh("parameters", without=me) == live.shelf.fresh("parameters", without=me)
    nursery.cancel_scope.cancel()


async def test_a_round_that_granted_nothing_is_over_after_a_restart_too(tmp_path, nursery):
    # One round: a second could find the peer's newest already judged, and leaves no entry then.
    net = Network(tmp_path, nursery, "ab", rounds=1, patience_s=60.0)
    await net.start("a")
    await trio.to_thread.run_sync(ask, tmp_path / "a", "trust", {"operator": "mute", "peer": "b"})
    await net.start("b")
    await net.until(net.idle)
    assert [body.node for body in net.bodies("a", TrustUpdate)][1:]
    assert not net.bodies("a", ArtifactIntegrate)
    memory, _ = remembered(net, "a")
    assert memory.pending is None
    nursery.cancel_scope.cancel()


async def test_what_arrived_before_a_crash_is_not_waited_for_again(tmp_path, nursery):
    net = Network(tmp_path, nursery, "ab", rounds=1)
    await net.start()
    await net.until(net.idle)
    await trio.to_thread.run_sync(ask, tmp_path / "b", "publish")
    b = net.members["b"].node
    await net.until(lambda: newest(net.daemons["a"].shelf, b) == 2)
    await net.kill("a")
    await net.kill("b")
    await net.start("a")
    assert net.daemons["a"].learner.arrivals.delivered == {b}
    nursery.cancel_scope.cancel()


async def test_what_a_broken_pull_left_ends_with_the_next_artifact(tmp_path, nursery):
    net = Network(tmp_path, nursery, "ab", rounds=1)
    await net.start()
    await net.until(net.idle)
    b = net.members["b"].node
    old = net.daemons["a"].shelf.newest(b, "parameters").head
    await net.kill("a")
    left = spool_file(tmp_path / "a" / "spool", old)
    left.write_bytes(b"half of it")
    await trio.to_thread.run_sync(ask, tmp_path / "b", "publish")
    await net.start("a")
    await net.until(lambda: newest(net.daemons["a"].shelf, b) == 2)
    assert not list(left.parent.glob("*.part"))
    nursery.cancel_scope.cancel()


def copied(source, target):
    """Copy a file of a running home; one that a pull just moved away is no part of the state."""
    with suppress(FileNotFoundError):
        shutil.copy2(source, target)


class Groups:
    """Copies of a home as it was after each group of several entries, to be cut in the middle."""

    def __init__(self, home, root):
        self.home, self.root = home, root
        self.copies = []

    def watch(self, monkeypatch):
        append = Journal.append

        def appended(journal, bodies):
            start = journal.size
            receipts = append(journal, bodies)
            if len(bodies) > 1 and journal.folder == self.home / "ledger":
                self._copy(start, len(bodies))
            return receipts

        monkeypatch.setattr(Journal, "append", appended)

    def _copy(self, start, count):
        copy = self.root / str(len(self.copies)) / self.home.name
        skip = shutil.ignore_patterns("*.tmp", "mix-*", "control.sock")
        shutil.copytree(self.home, copy, ignore=skip, copy_function=copied)
        self.copies.append((copy, start, count))

    def states(self):
        """(home, entries left): every cut of every group, with and without a torn frame."""
        for copy, start, count in list(self.copies):
            for left in range(start + 1, start + count):
                for torn in (0, 10):
                    state = copy.parent / f"{left}-{torn}" / copy.name
                    shutil.copytree(copy, state)
                    cut(tail_of(state), left, torn)
                    yield state, left


def cut(tail, left, torn):
    data = tail.read_bytes()
    start = int(tail.name.partition(".")[2])
    frames = tiles.read_tail(data).frames
    tail.write_bytes(data[: frames[left - start].offset + torn])


def hasten(config, rounds):
    """Let a node that is alone do some rounds and not wait for anybody."""
    text = config.read_text()
    for old, new in (
        ("rounds = 2", f"rounds = {rounds}"),
        ("patience_s = 2.0", "patience_s = 0.01"),
        ("start_wait_s = 5.0", "start_wait_s = 0.01"),
    ):
        assert old in text
        text = text.replace(old, new)
    config.write_text(text + '\n[overlay]\nedges = [["b", "c"]]\n')


async def test_a_group_that_a_crash_cut_anywhere_verifies_and_the_node_goes_on(
    tmp_path, nursery, monkeypatch
):
    net = Network(tmp_path / "homes", nursery, "abcd", rounds=2)
    groups = Groups(tmp_path / "homes" / "a", tmp_path / "states")
    groups.watch(monkeypatch)
    await net.start()
    await net.until(net.idle)
    for name in "abcd":
        await net.kill(name)
    monkeypatch.undo()
    monkeypatch.setattr(daemon_module, "Trainer", ScriptedTrainer)
    tried = Counter()
    for state, left in groups.states():
        before = verify_home(state).ledgers[0]
        assert before.entries == left
        net.root = state.parent
        hasten(state / "node.toml", 4)
        await net.start("a")
        await net.until(lambda: net.idle("a"))
        rounds = [body.round for body in net.bodies("a", ModelTrain)]
        numbers = [body.sequence for body in net.bodies("a", ArtifactPublish)]
        judged = [(body.node, body.art) for body in net.bodies("a", TrustUpdate)]
        cut_at = type(net.daemons["a"]._journal.entry(left - 1).b).__name__
        await net.kill("a")
        assert rounds == [1, 2, 3, 4]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(judged) == len(set(judged))
        assert verify_home(state, replay=True).findings == ()
        tried[cut_at] += 1
    assert set(tried) == {"ModelTrain", "TrustUpdate"}
    nursery.cancel_scope.cancel()
