"""A hospital puts yesterday's backup back: its node refuses to sign until its peers gave the rest.

Real daemons over libp2p. What the peers mirrored comes back under the node's own old signature,
nothing is signed twice, and the network goes on with it.
"""

from __future__ import annotations

import shutil

import pytest
from homes import Fleet, audit, entries_of, make_homes

from konsil.node import control
from konsil.protocol import checkpoint, note
from konsil.protocol.learning_bodies import ArtifactPublish
from konsil.protocol.node_bodies import NodeBoot, PeerExposed

VICTIM = "a"


def head(home):
    """The size and the root that a home's stored checkpoint says."""
    return checkpoint.from_text(note.parse((home / "ledger" / "checkpoint").read_bytes())[0])


def published(home):
    return [entry.b.sequence for entry in entries_of(home) if isinstance(entry.b, ArtifactPublish)]


def stop(fleet, name):
    control.ask(fleet.homes[name], "stop")
    assert fleet.lives[name].ended() == 0


@pytest.mark.slow
def test_a_node_from_an_old_backup_refuses_to_sign_and_recovers_from_its_peers(tmp_path):
    homes = make_homes(tmp_path, "abc", width=8, seconds=0.4, rounds=0, patience_s=2.0)
    home, backup = homes[VICTIM], tmp_path / "backup"
    with Fleet(homes) as fleet:
        fleet.until(lambda: published(home)[2:], "three artifacts")
        stop(fleet, VICTIM)
        shutil.copytree(home, backup, ignore=shutil.ignore_patterns("control.sock", "node.log"))
        old = head(backup)
        fleet.start(VICTIM)
        fleet.until(lambda: published(home)[6:], "seven artifacts")
        life = fleet.lives[VICTIM]
        life.kill()
        life.ended()
        newest = head(home)
        assert newest.size > old.size
        shutil.rmtree(home)
        shutil.copytree(backup, home)

        again = fleet.start(VICTIM)
        fleet.until(lambda: again.events("node.started"), "the node goes on")
        # A second neighbour may have mirrored a little more than the first.
        told = again.events("ledger.restored")
        assert sum(one["entries"] for one in told) > 0
        fleet.until(lambda: again.events("envelopes.found"), "envelopes come after the entries")
        boot = [entry for entry in entries_of(home) if isinstance(entry.b, NodeBoot)][-1]
        assert boot.n > old.size
        assert boot.b.peers
        assert max(one.size for one in boot.b.peers) == boot.b.size
        fleet.until(lambda: head(home).size > boot.n, "the first new signature")
        before = published(home)
        fleet.until(lambda: published(home)[len(before) :], "an artifact under a new number")
        for name in homes:
            stop(fleet, name)
    numbers = published(home)
    assert numbers == sorted(set(numbers))
    for other in "bc":
        assert not [e for e in entries_of(homes[other]) if isinstance(e.b, PeerExposed)]
    code, text = audit(*homes.values())
    assert code == 4, text
    assert "entry.lost" in text
    assert "fork" not in text
