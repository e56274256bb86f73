"""The audit of several homes, of running nodes, and the report of it."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path

import pytest
from ledgers import (
    Clock,
    Hospital,
    audit_of,
    codes,
    consortium,
    tail_of,
    train_of,
    two,
)

from konsil.protocol.digest import sha256
from konsil.protocol.errors import EncodingRefused, LocalProtocolError, StorageError
from konsil.protocol.learning_bodies import ModelBase
from konsil.trust import audit, others
from konsil.trust.audit import verify_home, verify_homes
from konsil.trust.layout import scan
from konsil.trust.report import CODES, Finding, Findings, Report
from konsil.trust.sources import Blobs, entries_now, read_file


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Three hospitals that learned together for two rounds."""
    root = tmp_path_factory.mktemp("learned")
    return root, consortium(root, "bern", "graz", "ulm")


@pytest.fixture
def homes(learned, tmp_path):
    """A copy of their homes to be tampered with."""
    root, hospitals = learned
    shutil.copytree(root, tmp_path / "homes")
    return [tmp_path / "homes" / one.name for one in hospitals]


def test_a_log_cut_back_to_an_older_genuine_state_is_found_by_its_peers(tmp_path):
    bern, graz = two(tmp_path)
    bern.close()
    shutil.copytree(bern.home, tmp_path / "backup")
    bern.reopen()
    bern.train()
    sent = bern.publish()
    graz.receive(sent, bern.author)
    bern.close()
    shutil.rmtree(bern.home)
    shutil.copytree(tmp_path / "backup", bern.home)
    assert verify_home(bern.home).exit_code() == 0, "from inside it looks genuine"
    found = audit_of(bern, graz)
    assert codes(found) == {"others.rollback"}
    (finding,) = found.findings
    assert (finding.ledger, found.exit_code()) == ("bern", 3)
    assert finding.evidence is not None


def test_a_rewritten_history_is_found_by_its_peers(tmp_path):
    bern, graz = two(tmp_path)
    bern.close()
    shutil.copytree(bern.home, tmp_path / "backup")
    bern.reopen()
    bern.train()
    sent = bern.publish()
    graz.receive(sent, bern.author)
    bern.close()
    shutil.rmtree(bern.home)
    shutil.copytree(tmp_path / "backup", bern.home)
    bern.reopen()
    bern.model = bern.before
    bern.journal.append([train_of(bern, out=sha256(bytes([n]))) for n in range(9)])
    assert codes(audit_of(bern, graz)) == {"others.fork"}


def test_two_copies_of_one_log_agree_or_are_a_fork(tmp_path):
    bern, _ = two(tmp_path)
    base = ModelBase(model=bern.model, source="seed", licence="", note="")
    bern.journal.append([base] * 300)
    bern.close()
    clone = tmp_path / "clone"
    shutil.copytree(bern.home, clone)
    assert verify_homes([bern.home, clone]).findings == ()
    bern.reopen()
    bern.journal.append([base] * 300)
    bern.close()
    assert verify_homes([bern.home, clone]).findings == (), "one is merely ahead"
    real, bern.home = bern.home, clone
    bern.reopen()
    bern.journal.append([train_of(bern)])
    bern.close()
    found = verify_homes([real, clone])
    assert codes(found) == {"others.fork"}
    assert found.findings[0].index == 302


NOW = audit._Moment(None, frozenset())


def test_a_receipt_of_what_was_never_published_there_is_found(tmp_path):
    """The publisher's art entry is of another type now, behind a root that the peer accepts."""
    bern, graz = two(tmp_path)
    bern.train()
    sent = bern.publish()
    graz.receive(sent, bern.author)
    graz.close()
    bern.close()
    known = (audit.known_authors([bern.home]), {})
    item, other = (
        audit._audit(home, NOW, known, lambda _: False, audit.DEFAULT_LIMITS)
        for home in (bern.home, graz.home)
    )
    item.audited.history.published.clear()
    audit.cross_check([item.audited, other.audited])
    assert [one.code for one in item.audited.findings.found] == ["others.unpublished"]


def test_receiving_before_publishing_is_found(tmp_path):
    bern, graz = two(tmp_path)
    graz.clock = Clock(start=1_600_000_000_000)
    graz.close()
    shutil.rmtree(graz.home)
    graz = Hospital(tmp_path, "graz", clock=graz.clock)
    bern.train()
    graz.receive(bern.publish(), bern.author)
    found = audit_of(bern, graz)
    assert codes(found) == {"others.time"}
    assert found.exit_code() == 1


def test_two_faces_shown_to_two_peers_are_found(tmp_path):
    clock = Clock()
    bern, graz, ulm = (Hospital(tmp_path, name, clock=clock) for name in ("bern", "graz", "ulm"))
    bern.train()
    bern.close()
    shutil.copytree(bern.home, tmp_path / "twin")
    bern.reopen()
    graz.receive(bern.publish(), bern.author)
    bern.close()
    real, bern.home = bern.home, tmp_path / "twin"
    bern.sequence = 0
    bern.round = 8
    bern.reopen()
    ulm.receive(bern.publish(), bern.author)
    bern.close()
    bern.home = real
    found = audit_of(graz, ulm)
    assert codes(found) == {"publish.equivocation", "others.fork"}
    found = verify_homes([real, graz.home, ulm.home])
    assert codes(found) == {"publish.equivocation", "others.fork"}


def test_a_ledger_is_audited_while_its_node_writes(tmp_path):
    bern, _ = two(tmp_path)
    stop = threading.Event()

    def write():
        base = ModelBase(model=bern.model, source="seed", licence="", note="")
        while not stop.wait(0.005):  # as long as a disk would take
            bern.journal.append([base] * 20)
            bern.journal.sign_checkpoint()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(10):
            found = verify_home(bern.home)
            assert {one.code for one in found.findings} <= {"tail.torn"}
    finally:
        stop.set()
        writer.join()
    assert audit_of(bern).findings == ()


# --- homes that grow while they are read ------------------------------------------------------


@pytest.fixture
def growing(tmp_path, monkeypatch):
    """Two open hospitals; `grow` runs after the first of their homes was read."""
    bern, graz = two(tmp_path)
    exchange(bern, graz)
    real, grown = audit._audit, []

    def read(*arguments):
        item = real(*arguments)
        if not grown:
            grown.append(exchange(bern, graz))
        return item

    monkeypatch.setattr(audit, "_audit", read)
    yield bern, graz
    bern.close()
    graz.close()


def exchange(bern, graz):
    bern.train()
    graz.receive(bern.publish(), bern.author)


def test_what_peers_exchange_while_their_homes_are_read_is_no_rollback(growing):
    bern, graz = growing
    found = verify_homes([bern.home, graz.home])
    assert found.findings == ()
    assert [one.outside_checkpoints for one in found.ledgers] == [1, 0]
    assert [one.entries for one in found.ledgers] == [4, 4], "the growth was read, in itself"
    found = verify_homes([bern.home, graz.home])
    assert found.findings == ()
    assert [one.outside_checkpoints for one in found.ledgers] == [2, 0], "and held next time"


def test_a_rollback_is_found_beside_a_peer_that_grows(growing, tmp_path):
    bern, graz = growing
    rolled = tmp_path / "rolled"
    shutil.copytree(bern.home, rolled)
    exchange(bern, graz)
    found = verify_homes([rolled, graz.home])
    (finding,) = found.findings
    assert (finding.code, finding.ledger, found.exit_code()) == ("others.rollback", "rolled", 3)
    assert finding.message == (
        "signed for 6 entries to a peer, but only 4 are here;"
        " if these are copies taken while the nodes ran, copy again after `konsil node stop`"
    )


def test_damage_to_what_grew_is_found_all_the_same(growing):
    """An entry after the moment is verified in itself."""
    bern, graz = growing
    for path in (graz.home / "ledger" / "blobs").rglob("*"):
        if path.is_file():
            path.unlink()
    assert codes(verify_homes([bern.home, graz.home])) == {"blob.missing"}


def test_a_blob_and_its_entry_that_came_after_the_listing_are_found_together(tmp_path, monkeypatch):
    bern, graz = two(tmp_path)
    bern.train()
    real, sent = audit.walk, bern.publish()

    def walk(*arguments):
        graz.receive(sent, bern.author)
        return real(*arguments)

    monkeypatch.setattr(audit, "walk", walk)
    found = verify_home(graz.home)
    assert found.findings == ()
    assert found.ledgers[0].types["artifact.receive"] == 1
    bern.close()
    graz.close()


def test_a_home_that_does_not_tell_its_size_is_held_in_full(tmp_path):
    """Its tail reaches beyond everything, or cannot be read: no excuse for an entry."""
    bern, graz = two(tmp_path)
    bern.close()
    shutil.copytree(bern.home, tmp_path / "rolled")
    bern.reopen()
    exchange(bern, graz)
    graz.close()
    folder = graz.home / "ledger"
    assert entries_now(folder) == 3
    (folder / "tail.2560000000000").touch()
    assert "others.rollback" in codes(verify_homes([tmp_path / "rolled", graz.home]))
    (folder / "tail.2560000000000").unlink()
    data = tail_of(graz.home).read_bytes()
    tail_of(graz.home).write_bytes(data[:60] + b"!" + data[61:])
    assert entries_now(folder) == 3, "damage hides no entry behind it"
    tail_of(graz.home).unlink()
    assert entries_now(folder) is None
    bern.close()


def test_a_bundle_ahead_of_a_damaged_tail_is_a_finding_not_an_error(tmp_path):
    bern, graz = two(tmp_path)
    graz.close()
    base = ModelBase(model=bern.model, source="seed", licence="", note="")
    bern.journal.append([base] * 300)
    long_tail = bytearray(tail_of(bern.home).read_bytes())
    bern.close()
    tail_of(bern.home).unlink()
    long_tail[100] ^= 1
    (bern.home / "ledger" / "tail.0").write_bytes(long_tail)
    assert "tail.corrupt" in codes(verify_home(bern.home))


def test_a_file_that_keeps_disappearing_is_a_storage_error(homes, monkeypatch):
    def gone(*_):
        raise FileNotFoundError(2, "gone", "tail.0")

    monkeypatch.setattr(audit, "walk", gone)
    with pytest.raises(StorageError, match=r"tail\.0: disappeared"):
        verify_home(homes[0])


def test_a_file_that_cannot_be_read_is_a_storage_error(homes):
    tail = tail_of(homes[0])
    tail.unlink()
    tail.mkdir()
    assert "layout.stray" in codes(verify_home(homes[0]))
    with pytest.raises(EncodingRefused, match="not a regular file"):
        read_file(tail, 1)


def finding(code):
    return Finding(code=code, ledger="bern", file="tail.0", message="m", offset=3, index=1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), 0),
        (("entry.time",), 1),
        (("entry.time", "tail.torn"), 4),
        (("entry.time", "tail.torn", "blob.corrupt"), 3),
    ],
)
def test_three_wins_over_four_over_one(given, expected):
    found = Report(ledgers=(), findings=tuple(finding(code) for code in given))
    assert found.exit_code() == expected


def test_a_finding_reads_as_one_line():
    assert finding("entry.time").line() == "entry.time: tail.0 offset 3 entry 1: m"
    with pytest.raises(LocalProtocolError):
        Findings("bern").add("no.such.code", Path("x"), "m")


def test_every_finding_code_is_explained_in_the_specification():
    page = Path(__file__).resolve().parents[2] / "docs" / "spec" / "ledger.md"
    text = page.read_text()
    for code, exit_code in CODES.items():
        assert f"| `{code}` | {exit_code} |" in text
    assert text.count("| `") >= len(CODES)


# --- ends that only bad luck reaches ----------------------------------------------------------


def test_a_receipt_without_a_valid_proof_is_no_witness(tmp_path):
    bern, graz = two(tmp_path)
    bern.train()
    graz.receive(bern.publish(), bern.author)
    graz.close()
    blob = graz.journal.entry(graz.journal.size - 1).b.proof
    graz.journal.blobs.remove(blob)
    found = audit_of(bern, graz)
    assert codes(found) == {"blob.missing"}
    assert found.ledgers[0].outside_checkpoints == 0


def long_log(hospital, count=600):
    base = ModelBase(model=sha256(b"long"), source="seed", licence="", note="")
    hospital.journal.append([base] * count)


def test_an_older_state_in_the_middle_of_a_long_tail_is_recomputed_from_it(tmp_path):
    bern, graz = two(tmp_path)
    bern.train()
    sent = bern.publish()
    graz.receive(sent, bern.author)
    long_log(bern)
    graz.close()
    found = verify_homes([bern.home, graz.home])
    assert found.findings == ()
    assert found.ledgers[0].outside_checkpoints == 1
    bern.close()


def test_copies_whose_entries_cannot_be_read_again_are_no_proof_of_agreement(tmp_path, monkeypatch):
    bern, graz = two(tmp_path)
    bern.train()
    graz.receive(bern.publish(), bern.author)
    long_log(bern)
    bern.close()
    graz.close()
    clone = tmp_path / "clone"
    shutil.copytree(bern.home, clone)
    real = others.cross_check

    def damaged(*arguments):
        for folder in ("entries", "0"):
            for path in (bern.home / "ledger" / "tile" / folder).iterdir():
                path.unlink()
        return real(*arguments)

    monkeypatch.setattr(audit, "cross_check", damaged)
    found = verify_homes([bern.home, clone, graz.home])
    assert codes(found) == {"others.fork"}


def test_a_blob_may_disappear_but_not_be_unreadable(tmp_path, monkeypatch):
    findings = Findings("bern")
    store = Blobs(findings)
    name = sha256(b"x").hex()
    assert store.add(tmp_path, [sha256(b"x")], 9) == 0
    assert findings.found == []
    (tmp_path / "sha256" / name[:2] / name).mkdir(parents=True)
    assert store.add(tmp_path, [sha256(b"x")], 9) == 0
    assert [found.code for found in findings.found] == ["layout.stray"]

    def refused(*_):
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(StorageError):
        store.add(tmp_path, [sha256(b"x")], 9)


def test_a_ledger_that_cannot_be_listed_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError):
        scan(tmp_path / "nothing", Findings("bern"))


def test_an_empty_log_has_no_author(tmp_path):
    bern, _ = two(tmp_path)
    bern.close()
    tail_of(bern.home).write_bytes(b"")
    found = verify_home(bern.home)
    assert codes(found) == {"entry.genesis"}
    assert found.exit_code() == 3
    assert (found.ledgers[0].node_id, found.ledgers[0].verified) == ("", False)
