"""The file of accepted checkpoints: what was told stays known, and no change passes unseen."""

from __future__ import annotations

import pytest
from signed_logs import SignedLog

from konsil.node.store import witnessed
from konsil.node.store.witnessed import Witnessed
from konsil.protocol.errors import RemoteError, StorageError, VerificationError

BERN, ULM = SignedLog("bern").grow(99), SignedLog("ulm").grow(9)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "peers" / "witness.log"


def filled(path):
    found = Witnessed(path)
    for size in (3, 5, 8):
        found.add(BERN.note(size))
    found.add(ULM.note())
    return found


def test_what_was_added_is_there_after_a_restart_in_order(path):
    for found in (filled(path), Witnessed(path)):
        assert found.heads(BERN.node) == [(BERN.head(size), BERN.note(size)) for size in (3, 5, 8)]
        assert found.heads(ULM.node) == [(ULM.head(), ULM.note())]
        assert found.heads("x" * 32) == []


def test_what_is_known_is_not_written_again(path):
    found = filled(path)
    before = path.read_bytes()
    found.add(BERN.note(5))
    assert path.read_bytes() == before


def test_a_write_that_was_cut_short_is_forgotten_and_written_over(path):
    filled(path)
    whole = path.read_bytes()
    last = len(whole) - len(ULM.note()) - witnessed.PREFIX_BYTES - witnessed.HASH_BYTES
    for cut in range(last, len(whole), 13):
        for rest in (b"", bytes(len(whole) - cut)):
            path.write_bytes(whole[:cut] + rest)
            found = Witnessed(path)
            assert found.heads(ULM.node) == []
            assert len(found.heads(BERN.node)) == 3
    found.add(ULM.note())
    assert path.read_bytes() == whole


def test_any_other_change_is_found(path):
    filled(path)
    whole = path.read_bytes()
    first = int.from_bytes(whole[:2], "big") + witnessed.PREFIX_BYTES + witnessed.HASH_BYTES
    wrong = [whole[first:], whole[:first] + whole[:first] + whole[first:]]
    for at in range(2, len(whole), 17):
        wrong.append(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    for data in wrong:
        path.write_bytes(data)
        with pytest.raises(VerificationError, match=r"witness\.log: offset"):
            Witnessed(path)


def test_what_is_no_checkpoint_is_not_kept(path):
    found = filled(path)
    before = path.read_bytes()
    with pytest.raises(RemoteError):
        found.add(b"no note\n")
    assert path.read_bytes() == before


def test_what_is_forgotten_stays_forgotten(path):
    found = filled(path)
    before = path.read_bytes()
    found.forget(BERN.node, {BERN.head(4), ULM.head()})
    assert path.read_bytes() == before
    found.forget(BERN.node, {BERN.head(5), ULM.head()})
    for again in (found, Witnessed(path)):
        assert [head.size for head, _ in again.heads(BERN.node)] == [3, 8]
        assert len(again.heads(ULM.node)) == 1


def test_a_file_that_has_grown_keeps_the_newest_of_each_log_and_what_is_mirrored(path, monkeypatch):
    found = Witnessed(path)
    found.add(ULM.note())
    for size in range(1, 90):
        found.add(BERN.note(size))
    again = Witnessed(path)
    assert len(again.heads(BERN.node)) == 89
    monkeypatch.setattr(witnessed, "COMPACT_BYTES", 5_000)
    again.compact({BERN.node: 7})
    for found in (again, Witnessed(path)):
        assert [head.size for head, _ in found.heads(BERN.node)] == [7, *range(26, 90)]
        assert found.heads(ULM.node) == [(ULM.head(), ULM.note())]
    again.add(BERN.note(95))
    assert Witnessed(path).heads(BERN.node)[-1][0].size == 95


def test_a_file_that_grows_is_written_anew_long_before_an_auditor_refuses_it(path, monkeypatch):
    """No start is needed; what a log is mirrored up to, and its largest, outlive the newest."""
    monkeypatch.setattr(witnessed, "COMPACT_BYTES", 2_000)
    monkeypatch.setattr(witnessed, "KEPT", 3)
    found, longest = Witnessed(path), 0
    found.add(ULM.note(), mirrored=True)
    found.add(BERN.note(99))
    found.add(BERN.note(4), mirrored=True)
    for size in range(5, 98):
        found.add(BERN.note(size))
        longest = max(longest, path.stat().st_size)
    assert longest < 4_000, "twice what has to stay"
    for one in (found, Witnessed(path)):
        sizes = [head.size for head, _ in one.heads(BERN.node)]
        assert {4, 99, 97} <= {*sizes}
        assert len(sizes) < 10
        assert one.heads(ULM.node) == [(ULM.head(), ULM.note())]


def test_a_file_that_is_mostly_needed_is_not_written_anew_at_each_note(path, monkeypatch):
    monkeypatch.setattr(witnessed, "COMPACT_BYTES", 500)
    written = []
    replace = witnessed.replace
    monkeypatch.setattr(witnessed, "replace", lambda *one: (written.append(one), replace(*one)))
    found = Witnessed(path)
    for size in range(1, 60):
        found.add(BERN.note(size))
    assert len(written) < 10


@pytest.mark.parametrize("renamed", [False, True])
def test_a_disk_that_is_full_leaves_a_record_that_chains(path, monkeypatch, renamed):
    """Nobody knows then which of the two files is there, and another thread still adds."""
    found = filled(path)
    replace = witnessed.replace

    def full(place, data):
        if renamed:
            replace(place, data)
        raise StorageError("no space left")

    monkeypatch.setattr(witnessed, "replace", full)
    with pytest.raises(StorageError):
        found.forget(BERN.node, {BERN.head(5)})
    assert [head.size for head, _ in found.heads(BERN.node)] == [3, 5, 8]
    monkeypatch.setattr(witnessed, "replace", replace)
    found.add(BERN.note(9))
    for one in (found, Witnessed(path)):
        assert [head.size for head, _ in one.heads(BERN.node)] == [3, 5, 8, 9]
        assert one.heads(ULM.node) == [(ULM.head(), ULM.note())]
