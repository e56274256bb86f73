"""Keys of members: what is signed for counts, wherever it is kept, and nothing beyond."""

from __future__ import annotations

import shutil

import pytest
from ledgers import (
    Clock,
    Hospital,
    acquaint,
    change_key,
    codes,
    mirrored,
    sign_again,
    tail_of,
    vouched,
)

from konsil.protocol import checkpoint, merkle, tiles
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.learning_bodies import ModelBase
from konsil.protocol.node_bodies import KeyRevoke, KeyRotate
from konsil.trust.audit import known_authors, verify_homes
from konsil.trust.keyrings import known_keyrings


@pytest.fixture
def three(tmp_path):
    clock = Clock()
    return [Hospital(tmp_path, name, clock=clock) for name in ("bern", "graz", "ulm")]


def grow(hospital):
    hospital.journal.append([ModelBase(model=hospital.model, source="", licence="", note="")])


def rings(*given):
    homes = [one.home for one in given]
    return known_keyrings(homes, known_authors(homes))


def settle(*given):
    for one in given:
        one.close()
    acquaint(*given)


def test_a_checkpoint_by_a_key_that_the_mirror_itself_brings_covers_it(three):
    bern, graz, ulm = three
    first = bern.journal.sign_checkpoint()
    new = change_key(bern, KeyRotate, "log")
    vouched_size = bern.journal.size
    sign_again(bern, new)
    settle(graz, ulm)
    (graz.home / "peers" / f"{bern.node}.genesis").write_bytes(bern.author.entry)
    vouched(graz.home, first)
    mirrored(bern, graz)
    found = rings(graz, ulm)
    assert found.agreed[bern.node].keys["log"] == new.public
    assert found.forks == ()
    assert verify_homes([graz.home, ulm.home]).findings == ()
    (graz.home / "peers" / "witness.log").unlink()
    vouched(graz.home, first)
    assert vouched_size == 3
    assert rings(graz, ulm).agreed == {}, "the change lies beyond what was accepted"


def test_a_mirror_that_is_ahead_of_the_logs_own_home_counts(three, tmp_path):
    """The home is a backup: it was cut back, and who received later is not held to it."""
    bern, graz, ulm = three
    bern.close()
    backup = shutil.copytree(bern.home, tmp_path / "backup")
    bern.reopen()
    change_key(bern, KeyRotate, "art")
    bern.train()
    ulm.receive(bern.publish(), bern.author)
    settle(bern, graz, ulm)
    mirrored(bern, graz)
    found = verify_homes([backup, graz.home, ulm.home])
    assert {(one.ledger, one.code) for one in found.findings} == {("backup", "others.rollback")}


def test_what_a_thief_signed_with_a_revoked_key_is_no_second_account(three, tmp_path):
    bern, graz, ulm = three
    old = bern.keys
    bern.close()
    stolen = shutil.copytree(bern.home, tmp_path / "stolen")
    real, bern.home = bern.home, stolen
    bern.reopen()
    grow(bern)
    grow(bern)
    lie = change_key(bern, KeyRotate, "art")
    bern.close()
    mirrored(bern, graz)
    bern.home, bern.keys = real, old
    bern.reopen()
    new = change_key(bern, KeyRevoke, "log", good=2)
    sign_again(bern, new)
    settle(graz, ulm)
    acquaint(bern, graz, ulm)
    assert rings(graz, ulm).agreed[bern.node].keys["art"] == lie.public
    found = rings(graz, ulm, bern)
    assert found.agreed[bern.node].keys["log"] == new.public
    assert found.agreed[bern.node].keys["art"] == old["art"].public
    assert found.forks == ()


@pytest.mark.parametrize("bodies", [True, False])
def test_an_account_without_the_change_denies_it(three, tmp_path, bodies):
    """Graz holds the leaves of a history without the change, and nobody's home is given."""
    bern, graz, ulm = three
    bern.close()
    twin = shutil.copytree(bern.home, tmp_path / "twin")
    real, keys = bern.home, bern.keys
    change_key(bern, KeyRotate, "art") if bern.reopen() else None
    bern.close()
    mirrored(bern, ulm)
    bern.home, bern.keys = twin, keys
    bern.reopen()
    grow(bern)
    grow(bern)
    bern.close()
    mirrored(bern, graz)
    mirror = graz.home / "peers" / f"{bern.node}.mirror"
    if not bodies:
        frames = tiles.read_tail(mirror.read_bytes()).frames
        mirror.write_bytes(tiles.frames((b"", one.leaf) for one in frames))
    bern.home = real
    settle(graz, ulm)
    acquaint(bern, graz, ulm)
    (fork,) = rings(graz, ulm).forks
    assert fork.node == bern.node
    report = verify_homes([graz.home, ulm.home])
    assert codes(report) == {"others.fork"}
    assert [one.exit_code for one in report.ledgers] == [0, 0]


def test_a_mirror_counts_up_to_its_first_frame_that_is_wrong(three):
    bern, graz, ulm = three
    change_key(bern, KeyRotate, "art")
    settle(bern, graz, ulm)
    mirrored(bern, graz)
    path = graz.home / "peers" / f"{bern.node}.mirror"
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)
    assert rings(graz, ulm).agreed == {}
    assert tail_of(bern.home).read_bytes() != bytes(data)
    root = merkle.root_of(
        [one.leaf for one in tiles.read_tail(tail_of(bern.home).read_bytes()).frames]
    )
    head = Checkpoint(origin=bern.author.origin, size=bern.journal.size, root=root)
    vouched(ulm.home, checkpoint.sign(head, bern.keys["log"]))
    assert rings(graz, ulm).agreed == {}, "what another home accepted does not cover this mirror"
