"""The index: it names every place of what is mentioned, and it saves the reading."""

from __future__ import annotations

from contextlib import closing

import pytest
from grown import base, folder, grow
from ledgers import Hospital, consortium, prune

from konsil.node.store.indexing import update
from konsil.protocol import entries, merkle
from konsil.protocol.digest import sha256
from konsil.protocol.errors import IncompleteError
from konsil.protocol.learning_bodies import ArtifactReceive
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.trust.index import TABLES, VERSION, open_index
from konsil.trust.inplace import InPlace
from konsil.trust.questions.locating import locate
from konsil.trust.questions.proving import prove

DIGEST = sha256(b"the one that is asked for")


@pytest.fixture
def bern(tmp_path):
    """A hospital with a bundle and a tail."""
    bern = Hospital(tmp_path, "bern")
    grow(bern, 400)
    yield bern
    bern.close()


def looked_up(place, start):
    with closing(open_index(place)) as found:
        return found.mentions(start)


def refuse_to_read_whole(monkeypatch):
    monkeypatch.setattr("konsil.trust.questions.proving.walk_ledger", None)


def told():
    """A place for notices, and what puts them there."""
    notices = []
    return notices, notices.append


# --- what it says --------------------------------------------------------------------------------


def test_it_names_every_digest_and_node_that_an_entry_mentions(tmp_path):
    bern, graz = consortium(tmp_path, "bern", "graz", rounds=1)
    update(folder(bern))
    log = InPlace(folder(bern))
    all_of = [entries.decode(log.entry(at)) for at in range(log.size)]
    got = next(one for one in all_of if isinstance(one.b, ArtifactReceive))
    for what in (got.b.art, got.b.env, got.b.root, got.b.proof, graz.node.encode()):
        assert got.n in looked_up(folder(bern), what)
    for mix in (one for one in all_of if one.t == "artifact.integrate"):
        assert all(mix.n in looked_up(folder(bern), part.art) for part in mix.b.parts)
    assert looked_up(folder(bern), all_of[0].b.keys["log"].public) == [0]
    with closing(open_index(folder(bern))) as found:
        assert (found.size, found.root) == (log.size, bern.journal.root)
        assert found.of_group("artifact") == [
            one.n for one in all_of if one.t.startswith("artifact.")
        ]


# --- what it is for ------------------------------------------------------------------------------


def test_a_proof_is_found_without_reading_the_ledger_whole(bern, monkeypatch):
    wanted = [sha256(b"model %d" % at) for at in (2, 100, 255, 256, 380)]
    plain = [prove(bern.home, digest.hex()) for digest in wanted]
    update(folder(bern))
    refuse_to_read_whole(monkeypatch)
    assert [prove(bern.home, digest.hex()) for digest in wanted] == plain
    assert prove(bern.home, wanted[1].hex()[:9]) == plain[1]
    with pytest.raises(TypeError):
        prove(bern.home, "100")


def test_an_index_that_is_behind_is_led_on_from(bern, monkeypatch):
    update(folder(bern))
    grow(bern, 200)
    bern.journal.append([base(DIGEST)])
    bern.journal.sign_checkpoint()
    refuse_to_read_whole(monkeypatch)
    assert prove(bern.home, DIGEST.hex()).entry.n == bern.journal.size - 1


def test_far_behind_it_is_not_worth_it(bern, monkeypatch):
    update(folder(bern))
    grow(bern, 40)
    monkeypatch.setattr("konsil.trust.questions.locating.MOST_YOUNG", 39)
    notices, notice = told()
    assert locate(folder(bern), DIGEST.hex(), DEFAULT_LIMITS, notice) is None
    assert notices == []


def test_without_an_index_nothing_is_said(bern):
    notices, notice = told()
    assert prove(bern.home, sha256(b"model 5").hex(), notice=notice).entry.n == 5
    with pytest.raises(IncompleteError):
        prove(bern.home, DIGEST.hex(), notice=notice)
    assert notices == []


def test_a_digest_outside_the_bodies_is_no_fault_of_the_index(bern):
    """Zeros stand in `c` of every entry; the index notes bodies only, and that is right."""
    update(folder(bern))
    notices, notice = told()
    with pytest.raises(IncompleteError):
        prove(bern.home, "00" * 32, notice=notice)
    assert notices == []


def test_a_body_that_is_gone_is_not_looked_for(bern):
    update(folder(bern))
    bern.close()
    prune(bern.home, 300)
    notices, notice = told()
    with pytest.raises(IncompleteError):
        prove(bern.home, sha256(b"model 300").hex(), notice=notice)
    assert prove(bern.home, sha256(b"model 301").hex(), notice=notice).entry.n == 301
    assert notices == []


# --- entries in place ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 700])
def test_every_hash_in_place_is_that_of_the_tree(tmp_path, size):
    bern = Hospital(tmp_path, "bern")
    if size > bern.journal.size:
        grow(bern, size - bern.journal.size)
    bern.close()
    log = InPlace(folder(bern))
    tree = merkle.Tree(log.leaf(at) for at in range(log.size))
    assert [log.leaf(at) for at in range(log.size)] == [
        merkle.leaf_hash(log.entry(at)) for at in range(log.size)
    ]
    assert log.root(log.size) == tree.root() == bern.journal.root
    for at in {0, 1, log.size // 2, log.size - 1}:
        assert merkle.inclusion_proof(log, at, log.size) == tree.inclusion(at)
    assert [at for places, _ in log.pieces() for at in places] == list(range(log.size))


def test_the_form_is_versioned():
    """Whoever changes what the index says raises its version, so that old ones are made anew."""
    assert (VERSION, sha256("".join(TABLES).encode()).hex()[:16]) == (1, "95be1b4c0b552051")
