"""Reading a ledger beside its writer: everything that verifies, and nothing else."""

from __future__ import annotations

import os
import threading

import pytest
from ledgers import Hospital, tail_of

from konsil.protocol.errors import StorageError, VerificationError
from konsil.protocol.learning_bodies import ModelBase
from konsil.protocol.node_bodies import NodeGenesis
from konsil.trust import reading, structure
from konsil.trust.reading import read_entries


@pytest.fixture
def bern(tmp_path):
    hospital = Hospital(tmp_path, "bern")
    yield hospital
    hospital.close()


def fill(journal, count, each=64):
    for start in range(0, count, each):
        journal.append(
            [
                ModelBase(model=number.to_bytes(32, "big"), source="seed", licence="", note="")
                for number in range(start, min(start + each, count))
            ]
        )


def test_the_entries_come_in_order_from_bundles_and_tail(bern):
    fill(bern.journal, 600)
    bern.journal.sign_checkpoint()
    found = read_entries(bern.home / "ledger")
    assert isinstance(found[0].b, NodeGenesis)
    assert [entry.n for entry in found] == list(range(bern.journal.size))
    assert found == tuple(bern.journal.entries())


def test_what_is_not_signed_yet_is_read_too_and_a_torn_frame_is_not(bern):
    fill(bern.journal, 3)
    size = bern.journal.size
    tail = tail_of(bern.home)
    os.truncate(tail, tail.stat().st_size - 7)
    assert [entry.n for entry in read_entries(bern.home / "ledger")] == list(range(size - 1))


def test_a_running_writer_is_tolerated(bern):
    """The writer replaces its tail again and again; every look sees a whole beginning."""
    folder, done = bern.home / "ledger", threading.Event()

    def write():
        try:
            for _ in range(12):
                fill(bern.journal, 128)
                bern.journal.sign_checkpoint()
        finally:
            done.set()

    sizes, writer = [], threading.Thread(target=write)
    writer.start()
    try:
        while not done.is_set():
            found = read_entries(folder)
            assert [entry.n for entry in found] == list(range(len(found)))
            sizes.append(len(found))
    finally:
        writer.join()
    assert sizes == sorted(sizes)
    assert len(read_entries(folder)) == bern.journal.size == 2 + 12 * 128


def test_a_tail_that_moves_into_a_bundle_while_it_is_read_again_is_no_tampering(bern, monkeypatch):
    """The bundle is not there yet when it is looked for, and the tail not any more."""
    bern.journal.sign_checkpoint()
    fill(bern.journal, 300)
    folder, look = bern.home / "ledger", structure.leaves_in_tail

    def moved(layout, group):
        bern.journal.sign_checkpoint()
        return look(layout, group)

    monkeypatch.setattr(structure, "leaves_in_tail", moved)
    assert not (folder / "tile/entries/000").exists()
    assert len(read_entries(folder)) == bern.journal.size
    assert (folder / "tile/entries/000").exists()


def test_a_tail_that_is_replaced_between_two_looks_is_no_tampering(bern, monkeypatch):
    """The listing still names the old tail, which the writer has removed since."""
    fill(bern.journal, 300)
    folder, look = bern.home / "ledger", os.lstat

    def replaced(path):
        if str(path).endswith("tail.0"):
            bern.journal.sign_checkpoint()
        return look(path)

    monkeypatch.setattr(os, "lstat", replaced)
    assert len(read_entries(folder)) == bern.journal.size
    assert not (folder / "tail.0").exists()


def test_what_was_changed_is_refused_by_its_place(bern):
    fill(bern.journal, 300)
    bern.journal.sign_checkpoint()
    bundle = bern.home / "ledger" / "tile" / "entries" / "000"
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    bundle.write_bytes(data)
    with pytest.raises(VerificationError, match=r"/000 .*entry 126") as caught:
        read_entries(bern.home / "ledger")
    assert caught.value.hint == "run: konsil audit verify"


def test_a_folder_without_a_ledger_is_named(tmp_path):
    with pytest.raises(StorageError, match="there is no ledger here"):
        read_entries(tmp_path / "ledger")


def test_a_file_that_keeps_disappearing_is_no_endless_search(bern, monkeypatch):
    def gone(*_):
        raise FileNotFoundError(2, "no such file", "tail.0")

    monkeypatch.setattr(reading, "walk", gone)
    with pytest.raises(StorageError, match=r"tail\.0: disappeared"):
        read_entries(bern.home / "ledger")
