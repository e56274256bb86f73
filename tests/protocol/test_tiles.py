"""The bytes of ledger files: paths, bundles, tiles, and tails that end anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol import merkle, tiles
from konsil.protocol.errors import EncodingRefused


@settings(max_examples=50)
@given(st.integers(0, 2**63))
def test_a_tile_number_has_one_path(index):
    path = tiles.index_path(index)
    assert tiles.parse_index(path) == index


@pytest.mark.parametrize(
    ("index", "path"), [(0, "000"), (999, "999"), (1_000, "x001/000"), (1_234_067, "x001/x234/067")]
)
def test_paths_of_the_specification(index, path):
    assert tiles.index_path(index) == path
    assert tiles.bundle_path(index) == f"tile/entries/{path}"
    assert tiles.tile_path(3, index) == f"tile/3/{path}"


@pytest.mark.parametrize("path", ["", "0", "0000", "x000/001", "001/002", "x001", "x01/002", "a"])
def test_other_spellings_are_no_tile_number(path):
    assert tiles.parse_index(path) is None


ENTRIES = [bytes([index]) * (index % 40) for index in range(256)]  # each 40th is pruned


def test_a_bundle_tells_where_each_entry_lies():
    data = tiles.bundle(ENTRIES)
    found = tiles.read_bundle(data)
    assert [entry for _, entry in found] == ENTRIES
    assert all(data[at : at + len(entry)] == entry for at, entry in found)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        tiles.bundle(ENTRIES[:255]),
        tiles.bundle([*ENTRIES, b"x"]),
        tiles.bundle(ENTRIES)[:-1],
        tiles.bundle(ENTRIES) + b"\0",
        tiles.bundle(ENTRIES[:255]) + b"\0",
    ],
)
def test_a_bundle_is_exactly_full(data):
    with pytest.raises(EncodingRefused):
        tiles.read_bundle(data)


def test_a_tile_is_exactly_full():
    hashes = [merkle.leaf_hash(item) for item in ENTRIES]
    assert tiles.read_tile(b"".join(hashes)) == hashes
    with pytest.raises(EncodingRefused):
        tiles.read_tile(b"".join(hashes[:-1]))


FRAMES = [tiles.frame(item, merkle.leaf_hash(item)) for item in (b"first", b"2", b"third" * 9)]
TAIL = b"".join(FRAMES)
ENDS = [sum(len(frame) for frame in FRAMES[:count]) for count in range(4)]


def whole(cut: int) -> int:
    """How many frames end at or before `cut`."""
    return max(count for count in range(4) if ENDS[count] <= cut)


def test_every_cut_of_a_tail_is_recovered_to_the_exact_frame():
    for cut in range(len(TAIL) + 1):
        found = tiles.read_tail(TAIL[:cut])
        assert len(found.frames) == whole(cut)
        assert found.end == ENDS[whole(cut)]
        assert found.torn == (cut not in ENDS)


def test_a_tail_whose_end_reads_as_zeros_is_recovered_too():
    for cut in range(len(TAIL)):
        if len(TAIL) - cut < tiles.ZERO_FILL_BYTES:
            continue
        found = tiles.read_tail(TAIL[:cut] + bytes(len(TAIL) - cut))
        assert len(found.frames) == whole(cut)
        assert (found.end, found.torn) == (ENDS[whole(cut)], True)


def test_a_flipped_bit_is_corruption_and_names_its_frame():
    for position in range(len(TAIL) * 8):
        flipped = bytearray(TAIL)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(EncodingRefused, match=f"offset {ENDS[whole(position // 8)]}( |$)"):
            tiles.read_tail(bytes(flipped))


GONE = tiles.frame(b"", merkle.leaf_hash(b"second"))
PRUNED = [FRAMES[0], GONE, GONE, FRAMES[2]]


def test_a_pruned_body_leaves_its_hash_in_the_tail():
    found = tiles.read_tail(b"".join(PRUNED))
    assert [item.entry for item in found.frames] == [b"first", b"", b"", b"third" * 9]
    assert {item.leaf for item in found.frames[1:3]} == {merkle.leaf_hash(b"second")}
    assert tiles.read_tail(b"".join(PRUNED[:2])).torn is False


def test_zeros_at_the_end_of_a_tail_are_no_pruned_body():
    for count in (8, 34, 68, 4096):
        found = tiles.read_tail(FRAMES[0] + bytes(count))
        assert (len(found.frames), found.end, found.torn) == (1, len(FRAMES[0]), True)


@pytest.mark.parametrize("size", [1, 64, 256])
def test_a_length_that_a_flipped_bit_made_zero_is_corruption(size):
    """It reads as a pruned body, and what follows must not pass for a torn frame."""
    entry = bytes(range(7, 7 + 64)) * 4
    last = tiles.frame(entry[:size], merkle.leaf_hash(entry[:size]))
    data = FRAMES[0] + bytes(2) + last[2:]
    with pytest.raises(EncodingRefused, match=f"offset {len(FRAMES[0])}"):
        tiles.read_tail(data)


class Looked(bytes):
    """Bytes that count how often somebody takes a part of them."""

    def __new__(cls, data):
        found = super().__new__(cls, data)
        found.times = 0
        return found

    def __getitem__(self, key):
        self.times += 1
        return super().__getitem__(key)


def test_behind_many_withheld_bodies_only_what_can_be_a_frame_is_looked_at():
    count = 10_000
    data = Looked(FRAMES[0] + (b"\0\0" + b"x" * 32) * count + b"\0\5ab")
    assert tiles.read_tail(data).torn
    assert data.times < 5 * count + 0x10000


class Copied(bytes):
    """Bytes that count how often all of them are copied."""

    count = 0

    def rstrip(self, *what):
        type(self).count += 1
        return super().rstrip(*what)


def test_pruned_frames_are_read_without_copying_the_file_for_each():
    """The last byte is a zero, as it is in one hash out of 256."""
    gone = tiles.frame(b"", bytes([1]) * 32)
    for number in (10, 1_000):
        Copied.count = 0
        last = tiles.frame(b"", bytes([1]) * 31 + b"\0")
        found = tiles.read_tail(Copied(gone * number + last))
        assert (len(found.frames), found.torn) == (number + 1, False)
        assert Copied.count <= 1
