"""A damaged tail: the damage is told where it is, and hides nothing behind it."""

from __future__ import annotations

import random
import shutil

import msgspec
import pytest
from ledgers import change_key, codes, consortium, release, sign_again, tail_of, two

from konsil.protocol import entries, merkle, tiles
from konsil.protocol.digest import sha256
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
