"""How often an audit reads a file does not grow with what somebody wrote into it.

Whoever made the home chose every byte of it: salts that repeat, bodies that are gone, bundles
that hold nothing. What is counted is work, never time.
"""

from __future__ import annotations

from collections import Counter

import pytest
from ledgers import Hospital, acquaint, codes, tail_of
from vouched import cosign

from konsil.protocol import cmp1, merkle, tiles
from konsil.protocol.digest import sha256
from konsil.protocol.learning_bodies import ModelBase
from konsil.trust import places
from konsil.trust.audit import verify_home

FEW, MANY = 600, 2_400


@pytest.fixture
def read(monkeypatch):
    """How often each file was read."""
    found = Counter()

    def counted(path, limit):
        found[str(path)] += 1
        return genuine(path, limit)

    genuine = places.read_file
    monkeypatch.setattr(places, "read_file", counted)
    return found


def bern(root):
    """A small ledger that others cosigned."""
    made, graz = Hospital(root, "bern"), Hospital(root, "graz")
    acquaint(made, graz)
    cosign(made, {graz: made.clock.now // 1_000})
    made.close()
    graz.close()
    return made.home


def grown(home, frames):
    """The home with these frames at the end of its tail."""
    path = tail_of(home)
    path.write_bytes(path.read_bytes() + b"".join(frames))
    return home


def opaque(first, count, salt):
    """Entries of a type that nobody knows."""
    for index in range(first, first + count):
        fields = {"b": {}, "c": bytes(32), "n": index, "s": salt(index), "t": "x.y"}
        entry = cmp1.encode(fields | {"ts": 1_760_000_000_100, "v": 1})
        yield tiles.frame(entry, merkle.leaf_hash(entry))


def one_salt(root, count):
    home = bern(root)
    first = len(tiles.read_tail(tail_of(home).read_bytes()).frames)
    return grown(home, opaque(first, count, lambda _: bytes(16)))


def many_pruned(root, count):
    return grown(bern(root), [tiles.frame(b"", bytes([1]) * 32)] * count)


def bundles_ahead(root, count):
    home = bern(root)
    first = len(tiles.read_tail(tail_of(home).read_bytes()).frames)
    grown(home, opaque(first, count, lambda index: index.to_bytes(16, "big")))
    for group in range(count // 100):
        path = home / "ledger" / tiles.bundle_path(group)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return home


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (one_salt, "entry.salt"),
        (many_pruned, "entry.pruned"),
        (bundles_ahead, "bundle.corrupt"),
    ],
)
def test_a_tail_is_read_a_few_times_however_much_is_wrong_with_it(tmp_path, read, make, code):
    told = {}
    for count in (FEW, MANY):
        home = make(tmp_path / str(count), count)
        read.clear()
        assert code in codes(verify_home(home))
        told[count] = read[str(tail_of(home))]
    assert told[FEW] == told[MANY] <= 8


def test_every_repeated_salt_is_told_with_its_place(tmp_path):
    home = one_salt(tmp_path, 300)
    found = [one for one in verify_home(home).findings if one.code == "entry.salt"]
    frames = tiles.read_tail(tail_of(home).read_bytes()).frames
    assert [one.index for one in found] == list(range(len(frames) - 299, len(frames)))
    assert [one.offset for one in found] == [frames[one.index].offset + 2 for one in found]


def test_an_older_tail_is_held_against_the_log_without_reading_it_again(tmp_path, read):
    """A stop between two tails; nearly all of the older one is in the newest tail only."""
    told = {}
    for count in (FEW, MANY):
        made = Hospital(tmp_path / str(count), "bern")
        made.journal.append([ModelBase(model=sha256(b"m"), source="", licence="", note="")] * count)
        folder = made.home / "ledger"
        older = tail_of(made.home).read_bytes()
        made.journal.sign_checkpoint()
        made.close()
        newest = tiles.read_tail(older).frames[tiles.WIDTH :]
        tail_of(made.home).unlink()
        (folder / "tail.0").write_bytes(older)
        (folder / f"tail.{tiles.WIDTH}").write_bytes(
            tiles.frames((one.entry, one.leaf) for one in newest)
        )
        read.clear()
        report = verify_home(made.home)
        assert "tail.corrupt" not in codes(report)
        told[count] = max(read[str(path)] for path in folder.glob("tail.*"))
    assert told[FEW] == told[MANY] <= 3
