"""Making the index: the same from one piece or many, never half-written, gone before a body is."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import pytest
from grown import folder, grow
from ledgers import Hospital, audit_of

from konsil.node.store import indexing
from konsil.node.store.indexing import drop, update
from konsil.protocol.digest import sha256
from konsil.protocol.errors import StorageError
from konsil.protocol.office_bodies import PolicyLocal
from konsil.trust.index import KEPT_BYTES, follows, open_index
from konsil.trust.inplace import InPlace
from konsil.trust.layout import INDEX

DIGEST = sha256(b"the one that goes away")


@pytest.fixture
def bern(tmp_path):
    """A hospital with a bundle and a tail."""
    bern = Hospital(tmp_path, "bern")
    grow(bern, 400)
    yield bern
    bern.close()


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


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_stop_while_it_is_written_leaves_the_old_one(bern, monkeypatch, call):
    update(folder(bern))
    old = (folder(bern) / INDEX).read_bytes()
    grow(bern, 50)

    def fails(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(indexing.os, call, fails)
        with pytest.raises(StorageError, match="No space"):
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
