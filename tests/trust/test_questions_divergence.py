"""Two copies of one log: where they part."""

from __future__ import annotations

import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import Hospital, consortium, tail_of

from konsil.protocol import merkle, tiles
from konsil.protocol.errors import UsageError, VerificationError
from konsil.protocol.learning_bodies import ModelBase
from konsil.trust.questions import divergence_views as views
from konsil.trust.questions.divergence import diff, first_difference


def base(word):
    return ModelBase(model=bytes(32), source=word, licence="", note="")


@pytest.fixture
def pair(tmp_path):
    """A home, and a copy that an owner goes on with in another way; both sign."""
    bern = Hospital(tmp_path, "bern")
    bern.journal.append([base(str(at)) for at in range(280)])
    bern.close()
    shutil.copytree(bern.home, tmp_path / "copy")
    return bern, tmp_path / "copy"


def go_on(bern, home, words):
    bern.home = home
    bern.reopen()
    bern.journal.append([base(word) for word in words])
    bern.close()


@given(st.integers(1, 70), st.data())
@settings(max_examples=80, deadline=None)
def test_the_first_difference_is_the_first(size, data):
    leaves = [merkle.leaf_hash(bytes([at])) for at in range(size)]
    changed = data.draw(st.sets(st.integers(0, size - 1), max_size=4))
    other = [merkle.leaf_hash(b"x") if at in changed else leaf for at, leaf in enumerate(leaves)]
    found = first_difference(merkle.Tree(leaves), merkle.Tree(other), size)
    assert found == min(changed, default=None)


def test_copies_that_are_equal_or_a_prefix(pair):
    bern, copy = pair
    home = bern.home
    found = diff(home, copy)
    assert (found.relation, found.first, found.sound) == ("equal", None, True)
    assert "equal: both copies" in views.verdict(found)
    size = found.one.size
    go_on(bern, copy, "ab")
    for order in ((home, copy), (copy, home)):
        found = diff(*order)
        assert (found.relation, found.first, found.sound) == ("prefix", size, True)
        assert f"{home} is a prefix, {copy} has 2 entries more" in views.verdict(found)
        assert json.loads(json.dumps(views.to_data(found)))["relation"] == "prefix"


def test_a_fork_is_found_where_it_begins(pair):
    bern, copy = pair
    home = bern.home
    size = diff(home, copy).one.size
    go_on(bern, copy, "abc")
    go_on(bern, home, "aBc")
    found = diff(home, copy)
    # Salts and times are drawn anew, so even equal words are other entries.
    assert (found.relation, found.first) == ("divergent", size)
    assert found.forked
    assert not found.sound
    assert {"salt", "time"} <= set(found.differs)
    assert "both are signed: a fork" in views.verdict(found)
    assert any("different in: " in line for line in views.to_lines(found))
    assert json.loads(json.dumps(views.to_data(found)))["fork"] is True


def test_an_edited_copy_is_compared_all_the_same(pair):
    bern, copy = pair
    path = tail_of(copy)
    items = [frame.entry for frame in tiles.read_tail(path.read_bytes()).frames]
    items[5] = items[5].replace(b"source", b"sourcf", 1)
    path.write_bytes(b"".join(tiles.frame(one, merkle.leaf_hash(one)) for one in items))
    found = diff(bern.home, copy)
    assert (found.relation, found.first) == ("divergent", 256 + 5)
    assert not found.forked
    assert "entry.encoding" in found.other.fault
    assert found.other.entry is None
    assert any("cannot be read" in line for line in views.to_lines(found))


def test_a_changed_tile_is_said(pair):
    bern, copy = pair
    tile = copy / "ledger/tile/0/000"
    data = bytearray(tile.read_bytes())
    data[0] ^= 1
    tile.write_bytes(data)
    found = diff(bern.home, copy)
    assert found.relation == "equal"
    assert not found.sound
    assert "does not verify: tile.mismatch" in views.verdict(found)


def test_what_is_no_pair_of_copies(tmp_path):
    homes = [one.home for one in consortium(tmp_path, "bern", "graz", rounds=1)]
    with pytest.raises(UsageError, match=r"these are two logs: of bern .* and of graz"):
        diff(*homes)
    tail_of(homes[0]).write_bytes(b"\x00\x01\x02" + bytes(range(1, 60)))
    with pytest.raises(VerificationError, match=r"tail|genesis"):
        diff(*homes)
