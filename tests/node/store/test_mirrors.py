"""A mirror grows only to what was signed, survives a stop, and never keeps damage."""

from __future__ import annotations

import pytest

from konsil.node.store.mirrors import Mirror
from konsil.protocol import entries, merkle
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.errors import ManifestRefused
from konsil.protocol.merkle import leaf_hash
from konsil.protocol.mirror import Leaf
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


def test_it_grows_to_signed_sizes_and_comes_back(tmp_path):
    path = tmp_path / "x.mirror"
    mirror = Mirror(path, {})
    for begin, end in ((0, 1), (1, 7), (7, 32), (32, 40)):
        mirror.extend(LEAVES[begin:end], head(end))
        assert (mirror.size, mirror.root(end)) == (end, TREE.root(end))
    again = Mirror(path, roots(1, 7, 32, 40))
    assert (again.size, again.consistency(7, 40)) == (40, TREE.consistency(7, 40))
    assert list(again.leaves(5)) == LEAVES[5:]
    assert list(again.leaves(40)) == []


@pytest.mark.parametrize(
    "leaves",
    [LEAVES[:6], LEAVES[:8], [*LEAVES[:6], LEAVES[7]], []],
    ids=["few", "many", "other", "none"],
)
def test_leaves_that_lead_elsewhere_add_nothing(tmp_path, leaves):
    mirror = Mirror(tmp_path / "x.mirror", {})
    with pytest.raises(ManifestRefused):
        mirror.extend(leaves, head(7))
    assert mirror.size == 0
    assert not (tmp_path / "x.mirror").exists()


def test_a_write_that_was_cut_anywhere_leaves_what_was_signed_before(tmp_path):
    path = tmp_path / "x.mirror"
    mirror = Mirror(path, {})
    mirror.extend(LEAVES[:7], head(7))
    short = len(path.read_bytes())
    mirror.extend(LEAVES[7:12], head(12))
    whole = path.read_bytes()
    for cut in range(short, len(whole)):
        path.write_bytes(whole[:cut])
        again = Mirror(path, roots(7, 12))
        assert again.size == 7
        assert len(path.read_bytes()) == short
        again.extend(LEAVES[7:12], head(12))
        assert path.read_bytes() == whole


def test_a_mirror_that_contradicts_a_signed_root_is_thrown_away(tmp_path):
    path = tmp_path / "x.mirror"
    Mirror(path, {}).extend(LEAVES[:7], head(7))
    assert Mirror(path, {7: bytes(32)}).size == 0
    assert path.read_bytes() == b""
