"""Blobs are handed out as they were hashed, read again only where they do not stay near."""

from __future__ import annotations

import os

import pytest

from konsil.protocol.digest import sha256
from konsil.protocol.errors import LimitExceeded
from konsil.trust import sources
from konsil.trust.report import Findings
from konsil.trust.sources import Blobs, blob_file


def stored(root, data, name=None):
    digest = sha256(data) if name is None else name
    path = root / "sha256" / digest.hex()[:2] / digest.hex()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return digest


def given(root, *digests, limit=1_000_000):
    findings = Findings("bern")
    store = Blobs(findings)
    return store, store.add(root, digests, limit), findings.found


def test_what_was_hashed_is_what_is_handed_out(tmp_path):
    digest = stored(tmp_path, b"envelope")
    store, right, _ = given(tmp_path, digest)
    assert right == 1
    (tmp_path / "sha256" / digest.hex()[:2] / digest.hex()).write_bytes(b"changed!")
    assert store.get(digest, 8) == b"envelope"


def test_a_blob_is_given_as_often_as_it_is_asked_for(tmp_path):
    digest = stored(tmp_path, b"envelope")
    store, _, _ = given(tmp_path, digest)
    assert [store.get(digest, 8) for _ in range(3)] == [b"envelope"] * 3
    assert str(store.path(digest)) == blob_file(str(tmp_path), digest)


@pytest.mark.parametrize("asked_before", [0, 1])
def test_the_limit_holds_for_what_stays_near_too(tmp_path, asked_before):
    digest = stored(tmp_path, b"envelope")
    store, _, _ = given(tmp_path, digest)
    for _ in range(asked_before):
        store.get(digest, 8)
    with pytest.raises(LimitExceeded):
        store.get(digest, 7)
    assert store.get(digest, 8) == b"envelope"


def test_no_more_stays_near_than_there_is_room_for(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_NEAR_BYTES", 20)
    digests = [stored(tmp_path, b"blob %d" % at) for at in range(9)]
    store, right, _ = given(tmp_path, *digests)
    assert right == 9
    assert sum(map(len, store._near.values())) <= 20
    assert [store.get(digest, 6) for digest in digests] == [b"blob %d" % at for at in range(9)]


def test_large_blobs_do_not_stay_near(tmp_path):
    digest = stored(tmp_path, bytes(sources.NEAR_BYTES))
    store, right, _ = given(tmp_path, digest)
    assert (right, store._near) == (1, {})
    assert store.get(digest, sources.NEAR_BYTES) == bytes(sources.NEAR_BYTES)


def test_a_file_that_is_longer_than_its_size_said_is_not_what_its_name_says(tmp_path, monkeypatch):
    """Only its beginning would be."""
    digest = stored(tmp_path, b"envelope and more", sha256(b"envelope"))
    real = os.fstat

    def before(handle):
        told = list(real(handle))
        told[6] = len(b"envelope")
        return os.stat_result(told)

    monkeypatch.setattr(os, "fstat", before)
    store, right, found = given(tmp_path, digest)
    assert right == 0
    assert [one.code for one in found] == ["blob.corrupt"]
    assert store.get(digest, 99) is None


def test_a_wrong_blob_is_told_once(tmp_path):
    digest = stored(tmp_path, b"other", sha256(b"envelope"))
    store, right, found = given(tmp_path, digest)
    assert (right, store.get(digest, 99), store.path(digest)) == (0, None, None)
    assert [one.code for one in found] == ["blob.corrupt"]
