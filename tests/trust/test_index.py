"""The index: the same from one piece or many, never half-written, and it saves the reading."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import pytest
from ledgers import Hospital, audit_of, consortium, prune

from konsil.protocol import entries, merkle
from konsil.protocol.digest import sha256
from konsil.protocol.errors import IncompleteError, StorageError
from konsil.protocol.learning_bodies import ArtifactReceive, ModelBase
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.protocol.office_bodies import PolicyLocal
from konsil.trust import index
from konsil.trust.index import KEPT_BYTES, VERSION, drop, follows, open_index, update
from konsil.trust.inplace import InPlace
from konsil.trust.layout import INDEX
from konsil.trust.questions.locating import locate
from konsil.trust.questions.proving import prove

DIGEST = sha256(b"the one that is asked for")


def base(model):
    return ModelBase(model=model, source="", licence="", note="")


@pytest.fixture
def bern(tmp_path):
    """A hospital with a bundle and a tail."""
    bern = Hospital(tmp_path, "bern")
    grow(bern, 400)
    yield bern
    bern.close()


def grow(hospital, count):
    first = hospital.journal.size
    models = [sha256(b"model %d" % at) for at in range(first, first + count)]
    hospital.journal.append([base(model) for model in models])
    hospital.journal.sign_checkpoint()


def folder(hospital):
    return hospital.home / "ledger"


def rows(place):
    """Everything that an index says, in order."""
    with closing(sqlite3.connect(place / INDEX)) as base:
        return [
            base.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
            for table in ("log", "entry", "mention")
        ]


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


def test_made_in_pieces_it_is_the_same_as_made_at_once(bern):
    for most in (100, 1, 300):
        update(folder(bern), most=most)
    grow(bern, 150)
    assert update(folder(bern)) == bern.journal.size
    pieces = rows(folder(bern))
    assert update(folder(bern), anew=True) == bern.journal.size
    assert rows(folder(bern)) == pieces
    assert len(pieces[1]) == bern.journal.size


def test_with_nothing_new_nothing_is_written(bern):
    update(folder(bern))
    before = os.stat(folder(bern) / INDEX)
    assert update(folder(bern)) == bern.journal.size
    assert os.stat(folder(bern) / INDEX).st_ino == before.st_ino


@pytest.mark.parametrize("change", ["PRAGMA user_version = 7", "UPDATE log SET root = x'00'"])
def test_an_index_of_another_version_or_log_is_made_anew(bern, change):
    update(folder(bern))
    right = rows(folder(bern))
    with closing(sqlite3.connect(folder(bern) / INDEX, isolation_level=None)) as base:
        base.execute("DELETE FROM mention")
        base.execute(change)
    update(folder(bern))
    assert rows(folder(bern)) == right


# --- how it is written ---------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_stop_while_it_is_written_leaves_the_old_one(bern, monkeypatch, call):
    update(folder(bern))
    old = (folder(bern) / INDEX).read_bytes()
    grow(bern, 50)

    def fails(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(index.os, call, fails)
        with pytest.raises(StorageError, match="cannot be written: No space"):
            update(folder(bern))
    assert (folder(bern) / INDEX).read_bytes() == old
    assert [path.name for path in folder(bern).glob("index*")] == [INDEX]
    update(folder(bern))
    assert looked_up(folder(bern), sha256(b"model 430")) == [430]


def test_what_a_stop_left_unfinished_is_no_finding_and_counts_for_nothing(bern):
    (folder(bern) / f"{INDEX}.tmp").write_bytes(b"half of it")
    assert audit_of(bern).findings == ()
    update(folder(bern))
    assert audit_of(bern).findings == ()


def test_a_clean_stop_brings_it_up_to_the_log_and_a_failure_of_it_stops_nobody(bern, monkeypatch):
    bern.journal.close(index=True)
    with closing(open_index(folder(bern))) as found:
        assert follows(found, InPlace(folder(bern)))
        assert found.size == bern.journal.size
    bern.reopen()
    grow(bern, 3)
    drop(folder(bern))
    (folder(bern) / INDEX).mkdir()
    bern.journal.close(index=True)
    (folder(bern) / INDEX).rmdir()
    assert audit_of(bern).findings == ()


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


def test_redaction_takes_the_index_away_before_the_body(bern, monkeypatch):
    bern.journal.append([PolicyLocal(policy=DIGEST, version=1)])
    at = bern.journal.size - 1
    update(folder(bern))
    assert DIGEST[:KEPT_BYTES] in (folder(bern) / INDEX).read_bytes()
    monkeypatch.setattr(bern.journal._store, "prune", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bern.journal.redact(at, "gdpr17", sha256(b"court"))
    assert not (folder(bern) / INDEX).exists()
    monkeypatch.undo()
    bern.journal.redact(at, "gdpr17", sha256(b"court"))
    bern.journal.close(index=True)
    assert DIGEST[:KEPT_BYTES] not in (folder(bern) / INDEX).read_bytes()


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
    assert (VERSION, sha256("".join(index._TABLES).encode()).hex()[:16]) == (1, "95be1b4c0b552051")
