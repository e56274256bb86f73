"""Frames: one encoding, any cutting, one bounded buffer."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol.errors import EncodingRefused, LimitExceeded, LocalProtocolError
from konsil.protocol.frames import HEADER_BYTES, FrameReader, frame

BODIES = st.lists(st.binary(min_size=1, max_size=40), max_size=8)


def cut(data: bytes, points: list[int]) -> list[bytes]:
    """`data` in pieces, cut at every point that falls inside it."""
    edges = [0, *sorted(point % (len(data) + 1) for point in points), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def test_a_frame_is_a_length_and_the_parts_end_to_end():
    assert frame(b"hi") == b"\x00\x00\x00\x02hi"
    assert frame(b"h", bytearray(b"i"), memoryview(b"!")) == b"\x00\x00\x00\x03hi!"


def test_an_empty_frame_is_a_bug_of_ours():
    with pytest.raises(LocalProtocolError, match="0 bytes"):
        frame()
    with pytest.raises(LocalProtocolError):
        frame(b"", b"")


@given(BODIES, st.lists(st.integers(0, 400), max_size=20))
def test_any_cutting_gives_the_same_bodies_and_one_bounded_buffer(bodies, points):
    reader = FrameReader(40)
    taken = []
    for piece in cut(b"".join(frame(body) for body in bodies), points):
        taken += [bytes(body) for body in reader.feed(piece)]
        assert reader.buffered < 40 + HEADER_BYTES
    assert taken == bodies
    assert reader.buffered == 0


@settings(max_examples=60)
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=10))
def test_hostile_bytes_are_refused_alike_however_they_are_cut(data, points):
    def run(pieces):
        reader, taken = FrameReader(16), []
        try:
            for piece in pieces:
                for body in reader.feed(piece):
                    taken.append(bytes(body))
                assert reader.buffered < 16 + HEADER_BYTES
        except (LimitExceeded, EncodingRefused) as fault:
            taken.append((type(fault), fault.message))
        return taken

    assert run(cut(data, points)) == run([data]) == run([data[i : i + 1] for i in range(len(data))])


def test_a_length_beyond_the_bound_is_refused_at_its_header():
    reader = FrameReader(10)
    with pytest.raises(LimitExceeded, match=r"a frame of 11 bytes; at most 10 are read"):
        list(reader.feed(b"\x00\x00\x00\x0b"))
    assert reader.buffered <= HEADER_BYTES


def test_the_bodies_before_a_wrong_header_are_given_first():
    reader = FrameReader(10)
    bodies = reader.feed(frame(b"a") + frame(b"b") + b"\x00\x00\x00\x00rest")
    assert [bytes(next(bodies)), bytes(next(bodies))] == [b"a", b"b"]
    with pytest.raises(EncodingRefused, match="empty frame"):
        next(bodies)


def test_a_refused_reader_stays_refused():
    reader = FrameReader(10)
    with pytest.raises(LimitExceeded):
        list(reader.feed(b"\xff\xff\xff\xff"))
    with pytest.raises(LimitExceeded, match="after a refused frame"):
        reader.feed(frame(b"ok"))


def test_a_forged_length_takes_no_room():
    reader = FrameReader(2**30)
    assert list(reader.feed(b"\x3f\xff\xff\xff" + b"x" * 100)) == []
    assert reader.buffered == 100 + HEADER_BYTES


def test_bytes_cannot_be_lost_by_not_taking_frames():
    reader = FrameReader(10)
    reader.feed(frame(b"a"))
    with pytest.raises(LocalProtocolError, match="not all taken"):
        reader.feed(frame(b"b"))


def test_a_body_is_read_only_and_apart_from_the_buffer_it_came_in():
    reader, buffer = FrameReader(10), bytearray(frame(b"abc"))
    (body,) = reader.feed(buffer)
    assert body.readonly
    buffer[:] = bytes(7)
    buffer.clear()  # raises if the reader still held a view
    assert bytes(body) == b"abc"


def test_the_bound_counts_for_the_next_header():
    reader = FrameReader(2)
    taken = []
    for body in reader.feed(frame(b"ab") + frame(b"abcd")):
        taken.append(bytes(body))
        reader.max_bytes = 4
    assert taken == [b"ab", b"abcd"]
