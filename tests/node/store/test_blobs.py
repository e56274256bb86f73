"""The blob store: whole or not there, durable, and never silently wrong."""

from __future__ import annotations

import errno
import os

import pytest

from konsil.node.store import durable
from konsil.node.store.blobs import BlobStore
from konsil.protocol.digest import sha256
from konsil.protocol.errors import IncompleteError, StorageError, VerificationError

DATA = b"weights" * 1000


@pytest.fixture
def store(tmp_path):
    return BlobStore(tmp_path / "blobs")


def test_a_blob_lies_under_its_digest(store):
    digest = store.put(DATA)
    assert digest == sha256(DATA)
    assert store.path(digest) == store.root / "sha256" / digest.hex()[:2] / digest.hex()
    assert store.has(digest)
    assert store.get(digest) == DATA
    with store.open(digest) as file:
        assert file.read(7) == b"weights"
    store.check(digest)


def test_storing_twice_is_one_blob(store):
    assert store.put(DATA) == store.put(DATA)
    assert len(list(store.root.rglob("*"))) == 3


def test_a_missing_blob_is_incomplete(store):
    digest = sha256(b"other")
    assert not store.has(digest)
    for ask in (store.get, store.open, store.check):
        with pytest.raises(IncompleteError, match=digest.hex()) as raised:
            ask(digest)
        assert "backup" in raised.value.hint
    store.remove(digest)


def test_wrong_bytes_are_found_when_asked(store):
    digest = store.put(DATA)
    store.path(digest).write_bytes(DATA[:-1] + b"X")
    assert store.get(digest, verify=False) != DATA
    for ask in (store.get, store.check, lambda _: store.put(DATA)):
        with pytest.raises(VerificationError, match=digest.hex()):
            ask(digest)


def test_a_spooled_file_moves_in_only_with_the_right_bytes(store, tmp_path):
    spooled = tmp_path / "spool"
    spooled.write_bytes(DATA)
    with pytest.raises(VerificationError):
        store.put_file(spooled, sha256(b"other"))
    assert spooled.exists()
    assert store.put_file(spooled, sha256(DATA)) == store.path(sha256(DATA))
    assert not spooled.exists()
    assert store.get(sha256(DATA)) == DATA
    store.remove(sha256(DATA))
    assert not store.has(sha256(DATA))
    with pytest.raises(StorageError):
        store.put_file(spooled, sha256(DATA))


def test_a_full_disk_leaves_nothing_behind(store, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(StorageError) as caught:
        store.put(DATA)
    assert (caught.value.code, caught.value.exit_code) == ("disk_full", 6)
    assert not store.has(sha256(DATA))
    assert [path for path in store.root.rglob("*") if path.is_file()] == []


def test_an_unreadable_store_is_a_storage_error(store, tmp_path):
    (tmp_path / "blobs").write_text("a file where a folder belongs")
    with pytest.raises(StorageError):
        store.put(DATA)
    with pytest.raises(StorageError):
        store.open(sha256(DATA))


def test_other_errors_are_not_called_a_full_disk(tmp_path):
    error = durable.storage_error(tmp_path, OSError(errno.EIO, "Input/output error"))
    assert error.code == "storage"
    assert "Input/output error" in error.message


def test_a_replacement_is_synced_before_it_is_seen(tmp_path, monkeypatch):
    """Order of system calls: content, rename, folder."""
    calls = []
    for name in ("fdatasync", "replace", "fsync"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *a, real=real, name=name: (calls.append(name), real(*a))[1]
        )
    durable.replace(tmp_path / "file", b"new")
    assert calls == ["fdatasync", "replace", "fsync"]
    assert (tmp_path / "file").read_bytes() == b"new"
