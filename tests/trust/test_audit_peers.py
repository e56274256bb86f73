"""What a home keeps of others is judged: genesis entries, mirrors, what it vouched for."""

from __future__ import annotations

import shutil

import pytest
from ledgers import (
    change_key,
    codes,
    consortium,
    mirrored,
    sign_again,
    tail_of,
    two,
    vouched,
)  # fmt: skip

from konsil.protocol import checkpoint, tiles
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.node_bodies import KeyRevoke, KeyRotate
from konsil.trust import audit
from konsil.trust.audit import verify_home, verify_homes
from konsil.trust.peers import read_record


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Two hospitals that mirror each other and vouched for each other."""
    root = tmp_path_factory.mktemp("learned")
    bern, graz = consortium(root, "bern", "graz", rounds=1)
    for one, other in ((bern, graz), (graz, bern)):
        mirrored(one, other)
    return bern, graz


@pytest.fixture
def home(learned, tmp_path):
    return shutil.copytree(learned[0].home, tmp_path / "bern")


@pytest.fixture
def peer(learned):
    return learned[1]


def flip(path, at, bit=1):
    data = bytearray(path.read_bytes())
    data[at] ^= bit
    path.write_bytes(data)


def test_what_is_kept_in_good_order_is_no_finding(home):
    assert verify_home(home).findings == ()


def test_no_flipped_byte_of_the_record_stays_unseen(home):
    path = home / "peers" / "witness.log"
    whole = path.read_bytes()
    for at in range(0, len(whole), 3):
        flip(path, at)
        found = verify_home(home)
        assert codes(found) == {"peers.witnessed"}, at
        assert found.exit_code() == 3
        path.write_bytes(whole)


def test_only_the_end_of_the_record_may_be_cut_off_or_unwritten(home):
    path = home / "peers" / "witness.log"
    whole = path.read_bytes()
    for torn in (whole[:-1], whole[:1], whole + b"\0\x40half", whole[:-8] + bytes(8)):
        path.write_bytes(torn)
        assert verify_home(home).findings == (), torn
    path.write_bytes(whole + whole)
    found = verify_home(home)
    assert [(one.code, one.offset) for one in found.findings] == [("peers.witnessed", len(whole))]


def test_a_record_is_read_as_far_as_it_chains(home, peer):
    path = home / "peers" / "witness.log"
    whole = path.read_bytes()
    note = (peer.home / "ledger" / "checkpoint").read_bytes()
    assert [item.note for item in read_record(whole).accepted] == [note]
    flip(path, len(whole) - 1)
    vouched(home, note)
    assert read_record(path.read_bytes()).broken == 0


def test_a_checkpoint_that_its_log_did_not_sign_was_never_accepted(home, peer, learned):
    head = Checkpoint(origin=peer.author.origin, size=3, root=bytes(32))
    genuine = checkpoint.sign(head, peer.keys["log"])
    vouched(home, genuine.replace(b"\n3\n", b"\n4\n"))
    assert codes(verify_home(home)) == {"peers.witnessed"}
    (home / "peers" / "witness.log").unlink()
    vouched(home, checkpoint.sign(head, learned[0].keys["log"]))
    assert codes(verify_home(home)) == {"peers.unknown"}


def test_a_mirror_that_leads_to_another_root_than_the_member_signed(home, peer):
    path = home / "peers" / f"{peer.node}.mirror"
    frames = tiles.read_tail(path.read_bytes()).frames
    path.write_bytes(
        tiles.frames([(b"", bytes(32)), *((one.entry, one.leaf) for one in frames[1:])])
    )
    found = verify_home(home)
    assert [(one.code, one.index) for one in found.findings] == [("peers.mirror", len(frames))]
    path.write_bytes(tiles.frames((one.entry, one.leaf) for one in frames[:-1]))
    assert verify_home(home).findings == (), "a mirror may be behind"
    more = [(one.entry, one.leaf) for one in frames] + [(b"", bytes([7]) * 32)]
    path.write_bytes(tiles.frames(more))
    assert verify_home(home).findings == (), "what was taken beyond it counts for nothing"


def test_no_flipped_byte_of_a_mirror_stays_unseen(home, peer):
    path = home / "peers" / f"{peer.node}.mirror"
    whole = path.read_bytes()
    frames = tiles.read_tail(whole).frames
    for at in range(0, len(whole), 37):
        flip(path, at)
        (finding,) = verify_home(home).findings
        index = max(n for n, frame in enumerate(frames) if frame.offset <= at)
        place = (finding.code, finding.index, finding.offset)
        assert place == ("peers.mirror", index, frames[index].offset), at
        path.write_bytes(whole)
    path.write_bytes(whole[:-3])
    assert verify_home(home).findings == (), "a write that a crash cut short"


def test_a_genesis_entry_is_that_of_the_member_in_its_name(home, peer, learned):
    path = home / "peers" / f"{peer.node}.genesis"
    whole = path.read_bytes()
    for at in range(0, len(whole), 11):
        flip(path, at)
        assert "peers.genesis" in codes(verify_home(home)), at
        path.write_bytes(whole)
    path.write_bytes(learned[0].author.entry)
    found = verify_home(home)
    assert "peers.genesis" in codes(found)
    assert found.exit_code() == 3


def test_without_the_genesis_entry_what_is_kept_cannot_be_judged(home, peer):
    (home / "peers" / f"{peer.node}.genesis").unlink()
    found = verify_home(home)
    assert codes(found) == {"peers.unknown"}
    assert found.exit_code() == 4
    assert {one.file.rpartition(".")[2] for one in found.findings} == {"log", "mirror"}


def test_the_record_of_a_log_whose_key_was_rotated(tmp_path):
    """The mirror shows the newer key; the older signatures stay good."""
    bern, graz = two(tmp_path)
    bern.close()
    first = (bern.home / "ledger" / "checkpoint").read_bytes()
    bern.reopen()
    old = bern.keys["log"]
    new = change_key(bern, KeyRotate, "log")
    sign_again(bern, old, new)
    graz.close()
    (graz.home / "peers").mkdir()
    (graz.home / "peers" / f"{bern.node}.genesis").write_bytes(bern.author.entry)
    vouched(graz.home, first)
    mirrored(bern, graz)
    assert verify_home(graz.home).findings == ()
    (graz.home / "peers" / f"{bern.node}.mirror").unlink()
    sign_again_with_new_alone = checkpoint.sign(
        Checkpoint(origin=bern.author.origin, size=9, root=bytes(32)), new
    )
    vouched(graz.home, sign_again_with_new_alone)
    assert codes(verify_home(graz.home)) == {"peers.unknown"}
    assert tail_of(bern.home).exists()


@pytest.mark.parametrize("name", ["x.genesis", "y.mirror"])
def test_a_file_that_names_no_member(home, name):
    (home / "peers" / name).write_bytes(b"")
    assert codes(verify_home(home)) == {"peers.genesis"}


def test_other_files_beside_them_are_nobodys_business(home):
    (home / "peers" / "half.tmp").write_bytes(b"x")
    assert verify_home(home).findings == ()


def signed(peer, size, root):
    head = Checkpoint(origin=peer.author.origin, size=size, root=root)
    return checkpoint.sign(head, peer.keys["log"])


def test_what_a_peer_accepted_of_a_log_is_held_against_the_log(learned, home, peer):
    """No artifact was received under it: the record of accepted checkpoints is all there is."""
    found = verify_homes([home, peer.home])
    assert found.findings == ()
    assert (
        found.ledgers[1].outside_checkpoints
        > verify_homes([peer.home]).ledgers[0].outside_checkpoints
    )
    (home / "peers" / f"{peer.node}.mirror").unlink()
    record, size = home / "peers" / "witness.log", peer.journal.size
    whole = record.read_bytes()
    vouched(home, signed(peer, size + 2, bytes(32)))
    cut = verify_homes([home, peer.home])
    (finding,) = cut.findings
    assert (finding.code, finding.ledger, cut.exit_code()) == ("others.rollback", "graz", 3)
    assert finding.evidence == str(record)
    record.write_bytes(whole)
    vouched(home, signed(peer, size - 1, bytes(32)))
    other = verify_homes([home, peer.home])
    assert [(one.code, one.ledger) for one in other.findings] == [("others.fork", "graz")]


def test_what_a_peer_accepted_while_the_homes_were_read_waits_for_the_next_time(
    learned, home, peer, monkeypatch
):
    """A running log may be longer by then than it was when it was read."""
    real = audit.accepted_now

    def before(place, limits):
        notes = real(place, limits)
        if place == home:
            vouched(home, signed(peer, peer.journal.size + 2, bytes(32)))
        return notes

    monkeypatch.setattr(audit, "accepted_now", before)
    (home / "peers" / f"{peer.node}.mirror").unlink()
    assert verify_homes([home, peer.home]).findings == ()


def test_a_revoked_key_accuses_nobody(tmp_path):
    bern, graz = two(tmp_path)
    graz.train()
    graz.journal.sign_checkpoint()
    good, thief = graz.journal.size, graz.keys["log"]
    mirrored(graz, bern)
    head = Checkpoint(origin=graz.author.origin, size=good + 1, root=bytes(32))
    vouched(bern.home, checkpoint.sign(head, thief))
    assert codes(verify_homes([bern.home, graz.home])) == {"others.rollback"}
    change_key(graz, KeyRevoke, "log", good=good)
    sign_again(graz, graz.keys["log"])
    bern.close()
    assert codes(verify_homes([bern.home, graz.home])) == set()


def test_a_mirror_need_not_lead_to_what_a_revocation_made_void(tmp_path):
    """A thief's checkpoint was accepted; the leaves that revoke its key were taken since."""
    bern, graz = two(tmp_path)
    good, thief = graz.journal.size, graz.keys["log"]
    sign_again(graz, change_key(graz, KeyRevoke, "log", good=good - 1))
    mirrored(graz, bern)
    (bern.home / "peers" / f"{graz.node}.genesis").write_bytes(graz.author.entry)
    head = Checkpoint(origin=graz.author.origin, size=good, root=bytes(32))
    vouched(bern.home, checkpoint.sign(head, thief))
    bern.close()
    assert verify_home(bern.home).findings == ()


class Counted(bytes):
    """Bytes that count how many of them are copied out."""

    copied = 0

    def __getitem__(self, at):
        found = super().__getitem__(at)
        if isinstance(at, slice):
            Counted.copied += len(found)
        return found


def test_a_long_record_is_read_once(home, peer):
    """Of a record at its limit, the rest at every frame would be terabytes."""
    (home / "peers" / "witness.log").unlink()
    for size in range(2, 200):
        vouched(home, signed(peer, size, bytes(32)))
    data = (home / "peers" / "witness.log").read_bytes()
    Counted.copied = 0
    assert len(read_record(Counted(data)).accepted) == 198
    assert Counted.copied < 3 * len(data)
