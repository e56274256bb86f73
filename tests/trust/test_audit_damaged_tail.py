"""A damaged tail: the damage is told where it is, and hides nothing behind it."""

from __future__ import annotations

import random
import shutil

import msgspec
import pytest
from ledgers import (
    acquaint,
    change_key,
    codes,
    consortium,
    keys_in_a_bundle,
    mirrored,
    release,
    sign_again,
    tail_of,
    two,
)

from konsil.protocol import entries, merkle, tiles
from konsil.protocol.digest import sha256
from konsil.protocol.identity import KeySet
from konsil.protocol.learning_bodies import ModelBase, ModelTrain
from konsil.protocol.node_bodies import KeyRotate
from konsil.trust.audit import verify_home, verify_homes
from konsil.trust.salvage import salvage

PREFIX = tiles.PREFIX_BYTES


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    root = tmp_path_factory.mktemp("learned")
    return [one.home for one in consortium(root, "bern", "graz", rounds=2)]


@pytest.fixture
def homes(learned, tmp_path):
    for home in learned:
        shutil.copytree(home, tmp_path / home.name)
    return [tmp_path / home.name for home in learned]


def frames_of(home):
    return tiles.read_tail(tail_of(home).read_bytes()).frames


def change(home, offset, bit=1):
    path = tail_of(home)
    data = bytearray(path.read_bytes())
    data[offset] ^= bit
    path.write_bytes(data)


def places(frame):
    """A byte of each part of a frame: length (high and low), entry, hash."""
    end = frame.offset + PREFIX + len(frame.entry)
    return {
        "length high": frame.offset, "length low": frame.offset + 1,
        "entry": frame.offset + PREFIX + 20, "hash": end + 5,
    }  # fmt: skip


@pytest.mark.parametrize("part", ["length high", "length low", "entry", "hash"])
def test_a_flipped_byte_anywhere_is_one_finding_at_its_place(homes, part):
    for index, frame in enumerate(frames_of(homes[0])):
        path = tail_of(homes[0])
        before = path.read_bytes()
        change(homes[0], places(frame)[part])
        found = verify_homes(homes, replay=True)
        assert [(one.code, one.index, one.offset) for one in found.findings] == [
            ("tail.corrupt", index, frame.offset)
        ], (index, part)
        assert found.exit_code() == 3
        assert found.ledgers[0].entries == len(frames_of(homes[1]))
        path.write_bytes(before)


def test_a_flip_of_any_bit_of_a_length_is_one_finding(homes):
    frames = frames_of(homes[0])
    draw = random.Random(5)
    for frame in draw.sample(frames, 6):
        for bit in range(16):
            path = tail_of(homes[0])
            before = path.read_bytes()
            change(homes[0], frame.offset + bit // 8, 1 << bit % 8)
            assert [one.code for one in verify_home(homes[0]).findings] == ["tail.corrupt"]
            path.write_bytes(before)


def test_it_says_which_part_was_changed(homes):
    frame = frames_of(homes[0])[4]
    words = {
        "length low": "wrong length in the frame",
        "entry": "the bytes of the entry were changed",
        "hash": "the stored hash was changed",
    }
    for part, word in words.items():
        change(homes[0], places(frame)[part])
        (finding,) = verify_home(homes[0]).findings
        assert word in finding.message
        change(homes[0], places(frame)[part])


def test_what_is_wrong_behind_the_damage_is_still_found(tmp_path):
    bern, graz = two(tmp_path)
    bern.train()
    bern.publish()
    bern.train()
    bern.sequence = 0
    bern.publish()
    bern.close()
    graz.close()
    assert "publish.equivocation" in codes(verify_home(bern.home))
    change(bern.home, places(frames_of(bern.home)[2])["entry"])
    assert codes(verify_home(bern.home)) >= {"tail.corrupt", "publish.equivocation"}


def test_two_changed_frames_are_two_findings(homes):
    frames = frames_of(homes[0])
    for first, second in ((3, 4), (3, 9), (len(frames) - 2, len(frames) - 1)):
        for at in (first, second):
            change(homes[0], places(frames[at])["entry"])
        found = verify_home(homes[0]).findings
        assert [(one.code, one.index) for one in found] == [
            ("tail.corrupt", first), ("tail.corrupt", second),
        ]  # fmt: skip
        for at in (first, second):
            change(homes[0], places(frames[at])["entry"])


def test_an_entry_and_its_hash_both_changed_cannot_be_held_against_the_root(homes):
    frame = frames_of(homes[0])[5]
    for part in ("entry", "hash"):
        change(homes[0], places(frame)[part])
    found = verify_homes(homes)
    assert [(one.code, one.index) for one in found.findings] == [("tail.corrupt", 5)]
    assert found.ledgers[0].root == ""
    assert "does not match its hash" in found.findings[0].message


def test_a_history_that_was_rewritten_is_no_mere_damage(homes):
    """Hashes mended all over, and one byte flipped on top of it: the root is another one."""
    path = tail_of(homes[0])
    items = [frame.entry for frame in frames_of(homes[0])]
    entry = entries.decode(items[6])
    items[6] = entries.encode(msgspec.structs.replace(entry, s=bytes(16)))
    path.write_bytes(b"".join(tiles.frame(item, merkle.leaf_hash(item)) for item in items))
    change(homes[0], frames_of(homes[0])[8].offset + 1)
    assert codes(verify_home(homes[0])) == {"tail.corrupt", "checkpoint.root"}


def test_the_genesis_entry_itself(homes):
    frame = frames_of(homes[0])[0]
    for part, offset in places(frame).items():
        change(homes[0], offset)
        found = verify_homes(homes)
        assert {one.code for one in found.findings} == {"tail.corrupt"}, part
        change(homes[0], offset)


def test_a_lost_change_of_keys_accuses_nobody(tmp_path):
    bern, graz = two(tmp_path)
    bern.train()
    change_key(bern, KeyRotate, "art")
    release(bern)
    bern.close()
    graz.close()
    assert verify_home(bern.home).findings == ()
    change(bern.home, places(frames_of(bern.home)[3])["entry"])
    assert codes(verify_home(bern.home)) == {"tail.corrupt"}


def test_a_lost_change_of_the_log_key_accuses_nobody(tmp_path):
    bern, graz = two(tmp_path)
    old = bern.keys["log"]
    new = change_key(bern, KeyRotate, "log")
    sign_again(bern, old, new)
    graz.close()
    assert verify_home(bern.home).findings == ()
    change(bern.home, places(frames_of(bern.home)[2])["entry"])
    assert codes(verify_home(bern.home)) == {"tail.corrupt"}


WORD = b"\xa1t\xaakey.r"


def by_two_keys(tmp_path, log=False):
    """A home whose key changed at entry 3, with something signed by each; and the peer's."""
    bern, graz = two(tmp_path)
    bern.train()
    old = bern.keys["log"]
    new = change_key(bern, KeyRotate, "log" if log else "art")
    other = sha256(b"other")
    bern.journal.append([ModelBase(model=other, source="seed", licence="", note="")])
    if log:
        sign_again(bern, old, new)
    else:
        release(bern)
    bern.close()
    graz.close()
    assert verify_home(bern.home).findings == ()
    return bern.home


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("within", [3, 7])
def test_a_flip_in_the_word_of_a_lost_change_of_keys_accuses_nobody(tmp_path, log, within):
    home = by_two_keys(tmp_path, log)
    change(home, tail_of(home).read_bytes().index(WORD) + within)
    assert codes(verify_home(home)) == {"tail.corrupt"}


@pytest.mark.parametrize("log", [False, True])
def test_frames_that_cannot_be_told_apart_may_hold_a_change_of_keys(tmp_path, log):
    home = by_two_keys(tmp_path, log)
    for frame in frames_of(home)[2:4]:
        change(home, frame.offset, 0x40)
        change(home, places(frame)["entry"])
    found = verify_home(home)
    assert codes(found) == {"tail.corrupt"}
    assert any("cannot be told apart" in one.message for one in found.findings)


@pytest.mark.parametrize("role", ["art", "log"])
def test_a_change_of_keys_in_a_lost_bundle_accuses_nobody(tmp_path, role):
    home = keys_in_a_bundle(tmp_path, role).home
    path = home / "ledger" / "tile/entries/001"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    found = verify_home(home)
    assert (codes(found), found.exit_code()) == ({"bundle.corrupt"}, 3)
    path.unlink()
    found = verify_home(home)
    assert (codes(found), found.exit_code()) == ({"bundle.missing"}, 4)


def test_what_no_lost_key_explains_is_said_beside_a_hole(tmp_path):
    """A wrong signature by a key that is known, and a note that is none."""
    home = keys_in_a_bundle(tmp_path, "art").home
    (home / "ledger" / "tile/entries/001").unlink()
    path = home / "ledger" / "checkpoint"
    whole = path.read_bytes()
    for spoiled in (whole[:-6] + b"AA" + whole[-4:], b"", whole[:-1]):
        path.write_bytes(spoiled)
        assert "checkpoint.corrupt" in codes(verify_home(home)), spoiled


def test_a_lost_entry_of_another_type_explains_no_wrong_signature(tmp_path):
    bern, graz = two(tmp_path)
    bern.train()
    sound = bern.keys
    bern.keys = KeySet({**sound.keys, "art": graz.keys["art"]})
    release(bern)
    bern.keys = sound
    bern.close()
    graz.close()
    assert codes(verify_home(bern.home)) == {"publish.envelope"}
    change(bern.home, places(frames_of(bern.home)[2])["entry"])
    assert codes(verify_home(bern.home)) == {"tail.corrupt", "publish.envelope"}


def received_under_new_key(tmp_path):
    """Homes of a publisher whose key changed, and of its receiver, which mirrors nothing."""
    bern, graz = two(tmp_path)
    acquaint(bern, graz)
    bern.train()
    change_key(bern, KeyRotate, "art")
    graz.receive(release(bern), bern.author)
    bern.close()
    graz.close()
    return bern, graz


def test_damage_beside_a_change_of_keys_hides_it_from_nobody(tmp_path):
    bern, graz = received_under_new_key(tmp_path)
    homes = [bern.home, graz.home]
    assert codes(verify_homes(homes)) == set()
    for index in (1, 3):
        frame = frames_of(bern.home)[index]
        change(bern.home, places(frame)["entry"])
        assert codes(verify_homes(homes)) == {"tail.corrupt"}, index
        change(bern.home, places(frame)["entry"])


@pytest.mark.parametrize("index", [1, 3])
def test_a_damaged_mirror_accuses_nobody_whom_it_mirrors(tmp_path, index):
    bern, graz = received_under_new_key(tmp_path)
    mirrored(bern, graz)
    assert codes(verify_home(graz.home)) == set()
    mirror = graz.home / "peers" / f"{bern.node}.mirror"
    data = bytearray(mirror.read_bytes())
    data[places(frames_of(bern.home)[index])["entry"]] ^= 1
    mirror.write_bytes(data)
    assert codes(verify_home(graz.home)) == {"peers.mirror"}


def test_a_long_damaged_tail_is_read_on(tmp_path):
    """A crash can leave a tail of many groups; what is read of it stays in memory."""
    bern, _ = two(tmp_path)
    base = ModelBase(model=bern.model, source="seed", licence="", note="")
    bern.journal.append([base] * 700)
    long_tail = (bern.home / "ledger" / "tail.0").read_bytes()
    bern.close()
    (bern.home / "ledger" / "tail.512").unlink()
    (bern.home / "ledger" / "tail.0").write_bytes(long_tail)
    assert verify_home(bern.home).findings == ()
    change(bern.home, places(frames_of(bern.home)[300])["entry"])
    found = verify_home(bern.home)
    assert [(one.code, one.index) for one in found.findings] == [("tail.corrupt", 300)]


def test_damage_and_a_torn_end_are_two_things(homes):
    path = tail_of(homes[0])
    frames = frames_of(homes[0])
    change(homes[0], places(frames[3])["entry"])
    path.write_bytes(path.read_bytes()[:-9])
    found = {(one.code, one.index) for one in verify_home(homes[0]).findings}
    end = len(frames) - 1
    assert found == {("tail.corrupt", 3), ("tail.torn", end), ("checkpoint.rollback", end)}


def test_a_missing_bundle_accuses_nobody_of_a_gap(tmp_path):
    bern, _ = two(tmp_path)
    base = ModelBase(model=bern.model, source="seed", licence="", note="")
    word = bytes(32)
    other = ModelBase(model=sha256(b"other"), source="seed", licence="", note="")
    bern.journal.append([base] * 300 + [other] + [base] * 300)
    bern.journal.append(
        [
            ModelTrain(
                base=other.model, out=word, data=word, cohort=0, recipe=word, code=word,
                env=word, round=1, privacy=None,
            )
        ]
    )  # fmt: skip
    bern.close()
    assert verify_home(bern.home).findings == ()
    (bern.home / "ledger" / "tile/entries/001").unlink()
    found = verify_home(bern.home)
    assert (codes(found), found.exit_code()) == ({"bundle.missing"}, 4)


def test_the_search_at_the_end_of_a_large_file_hashes_little(monkeypatch):
    """Many small frames that are wrong, and much behind them."""
    hashed = []

    def counted(data):
        hashed.append(len(data))
        return merkle.leaf_hash(data)

    monkeypatch.setattr("konsil.trust.salvage.leaf_hash", counted)
    data = (b"\0\1x" + b"q" * 32) * 70 + b"\xff" * (2 << 20)
    salvage(data, 0)
    assert sum(hashed) <= len(data)


def test_the_last_frame_is_found_whatever_its_length_says(homes):
    frames = frames_of(homes[0])
    for frame in (frames[-1], frames[-2]):
        change(homes[0], frame.offset, 0x40)
        data = tail_of(homes[0]).read_bytes()
        found = salvage(data, 0)
        assert [at for at, piece in enumerate(found.pieces) if piece.fault] == [frames.index(frame)]
        change(homes[0], frame.offset, 0x40)


def test_no_bytes_make_it_fail_or_take_long(homes):
    """Whatever stands in a tail: an answer, and every place of it in order."""
    draw = random.Random(7)
    data = tail_of(homes[0]).read_bytes()
    for _ in range(60):
        spoiled = bytearray(data)
        for _ in range(draw.randrange(1, 40)):
            at = draw.randrange(len(spoiled))
            spoiled[at : at + draw.randrange(3)] = draw.randbytes(draw.randrange(4))
        found = salvage(bytes(spoiled), 0)
        offsets = [piece.offset for piece in found.pieces]
        assert offsets == sorted(offsets)
    for hostile in (bytes(5000), b"\x00\x03\x87\xa1b" * 5000, draw.randbytes(5000), b"\xff" * 5000):
        salvage(hostile, 0)
