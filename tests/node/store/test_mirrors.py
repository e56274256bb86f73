"""A mirror holds only what was signed, survives a stop, and never keeps damage."""

from __future__ import annotations

import pytest
from bodies import CHANGE

from konsil.node.store import mirrors
from konsil.node.store.mirrors import Mirror
from konsil.protocol import entries, merkle
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.errors import LimitExceeded, ManifestRefused
from konsil.protocol.learning_bodies import ModelBase
from konsil.protocol.merkle import leaf_hash
from konsil.protocol.mirror import Leaf
from konsil.protocol.node_bodies import KeyRevoke, KeyRotate
from konsil.protocol.office_bodies import PolicyLocal

LOG = [
    entries.encode(
        entries.entry(
            PolicyLocal(policy=bytes(32), version=n + 1), index=n, time_ms=n,
            salt=n.to_bytes(16, "big"), charter=bytes(32),
        )
    )
    for n in range(40)
]  # fmt: skip
LEAVES = [Leaf(data if n % 2 else None, leaf_hash(data)) for n, data in enumerate(LOG)]
TREE = merkle.Tree(leaf_hash(data) for data in LOG)


def head(size):
    return Checkpoint(origin="alps/x", size=size, root=TREE.root(size))


def roots(*sizes):
    return {size: TREE.root(size) for size in sizes}


def extend(mirror, leaves, size):
    mirror.take(leaves)
    mirror.hold(head(size))


def test_it_grows_to_signed_sizes_and_comes_back(tmp_path):
    path = tmp_path / "x.mirror"
    mirror = Mirror(path, {})
    for begin, end in ((0, 1), (1, 7), (7, 32), (32, 40)):
        extend(mirror, LEAVES[begin:end], end)
        assert (mirror.size, mirror.root(end)) == (end, TREE.root(end))
    again = Mirror(path, roots(1, 7, 32, 40))
    assert (again.size, again.consistency(7, 40)) == (40, TREE.consistency(7, 40))
    assert again.leaves(5, 100) == LEAVES[5:]
    assert again.leaves(5, 3) == LEAVES[5:8]
    assert again.leaves(40, 1) == []


@pytest.mark.parametrize(
    "leaves", [LEAVES[:6], [*LEAVES[:6], LEAVES[7]], []], ids=["few", "other", "none"]
)
def test_leaves_that_lead_elsewhere_are_never_held(tmp_path, leaves):
    path = tmp_path / "x.mirror"
    mirror = Mirror(path, {})
    extend(mirror, LEAVES[:3], 3)
    before = path.read_bytes()
    mirror.take([leaf for leaf in leaves if leaf not in LEAVES[:3]])
    with pytest.raises(ManifestRefused):
        mirror.hold(head(7))
    assert (mirror.size, mirror.leaves(3, 9)) == (3, [])
    mirror.drop()
    assert (mirror.taken, mirror.root(3), path.read_bytes()) == (3, TREE.root(3), before)
    extend(mirror, LEAVES[3:7], 7)
    assert Mirror(path, roots(3, 7)).size == 7


def test_a_write_that_was_cut_anywhere_goes_on_behind_its_last_whole_frame(tmp_path):
    path = tmp_path / "x.mirror"
    mirror = Mirror(path, {})
    extend(mirror, LEAVES[:7], 7)
    short = len(path.read_bytes())
    extend(mirror, LEAVES[7:12], 12)
    whole = path.read_bytes()
    for cut in range(short, len(whole), 11):
        path.write_bytes(whole[:cut])
        again = Mirror(path, roots(7, 12))
        assert again.size == 7 <= again.taken < 12
        assert whole.startswith(path.read_bytes())
        assert len(path.read_bytes()) == again.disk_bytes
        extend(again, LEAVES[again.taken : 12], 12)
        assert path.read_bytes() == whole


def test_what_was_taken_waits_over_a_restart_for_a_root_that_covers_it(tmp_path):
    path = tmp_path / "x.mirror"
    mirror = Mirror(path, {})
    extend(mirror, LEAVES[:7], 7)
    mirror.take(LEAVES[7:20])
    again = Mirror(path, roots(7))
    assert (again.size, again.taken, again.leaves(0, 99)) == (7, 20, LEAVES[:7])
    again.hold(head(15))
    assert (again.size, again.taken) == (15, 20)
    assert Mirror(path, roots(7, 15)).size == 15


def test_a_mirror_that_contradicts_a_signed_root_is_cut_back(tmp_path):
    path = tmp_path / "x.mirror"
    extend(Mirror(path, {}), LEAVES[:7], 7)
    short = path.read_bytes()
    extend(Mirror(path, roots(7)), LEAVES[7:9], 9)
    assert Mirror(path, {**roots(7), 9: bytes(32)}).taken == 7
    assert path.read_bytes() == short
    assert Mirror(path, {7: bytes(32)}).taken == 0
    assert path.read_bytes() == b""


def test_a_root_that_is_passed_over_by_a_later_one_does_no_harm(tmp_path):
    """A thief's checkpoint that was believed, until the key was revoked."""
    path = tmp_path / "x.mirror"
    extend(Mirror(path, {}), LEAVES[:20], 20)
    assert Mirror(path, {**roots(7, 20), 12: bytes(32)}).size == 20


def test_groups_that_are_not_in_memory_are_read_again(tmp_path):
    path = tmp_path / "x.mirror"
    many = [Leaf(None, leaf_hash(n.to_bytes(4, "big"))) for n in range(700)]
    tree = merkle.Tree(item.leaf for item in many)
    top = Checkpoint(origin="alps/x", size=600, root=tree.root(600))
    mirror = Mirror(path, {})
    mirror.take(many)
    mirror.hold(top)
    for found in (mirror, Mirror(path, {600: top.root})):
        assert found.consistency(300, 600) == tree.consistency(300, 600)
        assert found.leaves(500, 3) == many[500:503]
        assert found.leaves(598, 9) == many[598:600]
        found.drop()
        assert (found.taken, found.root(511)) == (600, tree.root(511))
        found.take(many[600:])
        assert found.root(700) == tree.root()


def test_it_remembers_what_changes_a_key_and_nothing_else(tmp_path):
    bodies = [PolicyLocal(policy=bytes(32), version=1), KeyRotate(**CHANGE), KeyRevoke(**CHANGE)]
    log = [
        entries.encode(
            entries.entry(body, index=n, time_ms=n, salt=bytes([n]) * 16, charter=bytes(32))
        )
        for n, body in enumerate([*bodies, ModelBase(
            model=bytes(32), source="key.rotate", licence="", note="key.revoke"
        )])
    ]  # fmt: skip
    path = tmp_path / "x.mirror"
    mirror = Mirror(path, {})
    mirror.take([Leaf(data, leaf_hash(data)) for data in log])
    assert [(item.index, item.entry) for item in mirror.changes] == [(1, log[1]), (2, log[2])]
    assert Mirror(path, {}).changes == mirror.changes
    mirror.drop()
    assert mirror.changes == []


def test_keys_that_change_too_often_are_not_followed(tmp_path, monkeypatch):
    monkeypatch.setattr(mirrors, "MAX_CHANGES", 2)
    data = entries.encode(
        entries.entry(KeyRotate(**CHANGE), index=0, time_ms=0, salt=bytes(16), charter=bytes(32))
    )
    mirror = Mirror(tmp_path / "x.mirror", {})
    mirror.take([Leaf(data, leaf_hash(data))] * 2)
    with pytest.raises(LimitExceeded):
        mirror.take([Leaf(data, leaf_hash(data))])
    assert mirror.taken == 2
