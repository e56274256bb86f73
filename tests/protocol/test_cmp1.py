"""cmp1: one encoding for every value, and nothing else is read."""

import json
import struct
import tracemalloc
import unicodedata
from pathlib import Path

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol import cmp1, records
from konsil.protocol.errors import (
    EncodingRefused,
    LimitExceeded,
    LocalProtocolError,
    RemoteError,
)
from konsil.protocol.limits import DEFAULT_LIMITS, MIB, Limits

VECTORS = Path(__file__).resolve().parent.parent / "vectors"

FOUR_BILLION = b"\xff\xff\xff\xff"


class Typed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A record with one field of bytes and one integer."""

    count: int = 0
    data: bytes = b""


def typed(data: bytes) -> object:
    """Read `data` as a `Typed` record."""
    return records.unpack(data, Typed)


# The 26 encodings of a hostile writer. A plain msgpack decoder refuses a few of the first
# sixteen; decoding and encoding again finds the rest of those. The last ten survive both.
HOSTILE = {
    "truncated": (cmp1.decode, b"\x82\xa1a\x01\xa1b"),
    "trailing byte": (cmp1.decode, b"\x81\xa1a\x01\x00"),
    "long positive int": (cmp1.decode, b"\xcc\x05"),
    "long negative int": (cmp1.decode, b"\xd1\xff\xf0"),
    "positive int in a signed form": (cmp1.decode, b"\xd0\x05"),
    "unsorted keys": (cmp1.decode, b"\x82\xa1b\x01\xa1a\x02"),
    "duplicate key": (cmp1.decode, b"\x82\xa1a\x01\xa1a\x02"),
    "str8 for a short str": (cmp1.decode, b"\xd9\x02hi"),
    "bin16 for a short bin": (cmp1.decode, b"\xc5\x00\x02hi"),
    "map16 for a small map": (cmp1.decode, b"\xde\x00\x01\xa1a\x01"),
    "array16 for a small array": (cmp1.decode, b"\xdc\x00\x01\x01"),
    "array of four billion": (cmp1.decode, b"\xdd" + FOUR_BILLION + b"\x01"),
    "map of four billion": (cmp1.decode, b"\xdf" + FOUR_BILLION + b"\xa1a\x01"),
    "bin of four billion": (cmp1.decode, b"\xc6" + FOUR_BILLION + b"x"),
    "depth bomb": (cmp1.decode, b"\x91" * 60_000 + b"\x01"),
    "float32": (cmp1.decode, b"\xca" + struct.pack(">f", 0.5)),
    "float64": (cmp1.decode, b"\xcb" + struct.pack(">d", 0.5)),
    "NaN with a payload": (cmp1.decode, b"\xcb\x7f\xf8\x00\x00\x00\x00\xbe\xef"),
    "minus zero": (cmp1.decode, b"\xcb" + struct.pack(">d", -0.0)),
    "ext": (cmp1.decode, b"\xd4\x05x"),
    "timestamp ext": (cmp1.decode, b"\xd6\xff\x00\x00\x00\x01"),
    "int key": (cmp1.decode, b"\x81\x01\x02"),
    "bin key": (cmp1.decode, b"\x81\xc4\x01a\x02"),
    "str where bin is meant": (typed, b"\x82\xa5count\x01\xa4data\xa2hi"),
    "bool for int": (typed, b"\x82\xa5count\xc3\xa4data\xc4\x02hi"),
    "text in NFD": (cmp1.decode, b"\xa3e\xcc\x81"),
}

# What else must not pass.
WRONG = {
    "nothing": b"",
    "the byte that MessagePack never uses": b"\xc1",
    "ext8": b"\xc7\x01\x05x",
    "ext16": b"\xc8\x00\x01\x05x",
    "ext32": b"\xc9\x00\x00\x00\x01\x05x",
    "fixext2": b"\xd5\x05xx",
    "timestamp 64": b"\xd7\xff" + bytes(8),
    "fixext16": b"\xd8\x05" + bytes(16),
    "uint16 for 255": b"\xcd\x00\xff",
    "uint32 for 65535": b"\xce\x00\x00\xff\xff",
    "uint64 for 2^32 - 1": b"\xcf\x00\x00\x00\x00\xff\xff\xff\xff",
    "int8 for -32": b"\xd0\xe0",
    "int16 for -128": b"\xd1\xff\x80",
    "int32 for -32768": b"\xd2\xff\xff\x80\x00",
    "int64 for -2^31": b"\xd3\xff\xff\xff\xff\x80\x00\x00\x00",
    "int64 for a positive int": b"\xd3\x7f\xff\xff\xff\xff\xff\xff\xff",
    "str16 for a short str": b"\xda\x00\x02hi",
    "str32 for a short str": b"\xdb\x00\x00\x00\x02hi",
    "bin32 for a short bin": b"\xc6\x00\x00\x00\x02hi",
    "map32 for a small map": b"\xdf\x00\x00\x00\x01\xa1a\x01",
    "array32 for a small array": b"\xdd\x00\x00\x00\x01\x01",
    "str of four billion": b"\xdb" + FOUR_BILLION + b"x",
    "str that is cut off": b"\xa5hi",
    "number that is cut off": b"\xcd\x01",
    "map that ends before a key": b"\x81",
    "key that is cut off": b"\x81\xa2a",
    "str8 for a short key": b"\x81\xd9\x01a\x01",
    "empty key": b"\x81\xa0\x01",
    "upper-case key": b"\x81\xa1A\x01",
    "key that starts with a digit": b"\x81\xa21a\x01",
    "key with a hyphen": b"\x81\xa3a-b\x01",
    "key with a line feed": b"\x81\xa2a\n\x01",
    "key of 33 characters": b"\x81\xd9\x21" + b"a" * 33 + b"\x01",
    "nil key": b"\x81\xc0\x01",
    "text that is not UTF-8": b"\xa2\xff\xfe",
    "overlong UTF-8": b"\xa2\xc0\x80",
    "surrogate in UTF-8": b"\xa3\xed\xa0\x80",
    "line feed in text": b"\xa3a\nb",
    "escape in text": b"\xa2\x1b[",
    "DEL in text": b"\xa1\x7f",
    "C1 control in text": b"\xa2\xc2\x9b",
    "line separator in text": b"\xa3\xe2\x80\xa8",
    "right-to-left override in text": b"\xa3\xe2\x80\xae",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_encoding_is_refused(name):
    read, data = HOSTILE[name]
    with pytest.raises(RemoteError):
        read(data)


def test_there_are_26_hostile_encodings():
    assert len(HOSTILE) == 26


@pytest.mark.parametrize("name", list(HOSTILE)[16:])
def test_the_library_alone_would_accept_the_last_ten(name):
    _, data = HOSTILE[name]
    value = msgpack.unpackb(data, strict_map_key=False)
    assert msgpack.packb(value) == data


@pytest.mark.parametrize("name", WRONG)
def test_wrong_bytes_are_refused(name):
    with pytest.raises(LimitExceeded if "billion" in name else EncodingRefused):
        cmp1.decode(WRONG[name])


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (None, "c0"),
        (False, "c2"),
        (True, "c3"),
        (0, "00"),
        (127, "7f"),
        (128, "cc80"),
        (255, "ccff"),
        (256, "cd0100"),
        (65_535, "cdffff"),
        (65_536, "ce00010000"),
        (2**32 - 1, "ceffffffff"),
        (2**32, "cf0000000100000000"),
        (2**64 - 1, "cfffffffffffffffff"),
        (-1, "ff"),
        (-32, "e0"),
        (-33, "d0df"),
        (-128, "d080"),
        (-129, "d1ff7f"),
        (-32_768, "d18000"),
        (-32_769, "d2ffff7fff"),
        (-(2**31), "d280000000"),
        (-(2**31) - 1, "d3ffffffff7fffffff"),
        (-(2**63), "d38000000000000000"),
        (b"", "c400"),
        ("", "a0"),
        ("Köln", "a54bc3b66c6e"),
        ([], "90"),
        ({}, "80"),
    ],
)
def test_shortest_forms(value, data):
    assert cmp1.encode(value).hex() == data
    decoded = cmp1.decode(bytes.fromhex(data))
    assert decoded == value
    assert type(decoded) is type(value)


@pytest.mark.parametrize("size", [31, 32, 255, 256, 1024])
def test_text_at_each_length_form(size):
    assert cmp1.decode(cmp1.encode("x" * size)) == "x" * size


@pytest.mark.parametrize("size", [255, 256, 65_000, 65_535, 65_536])
def test_bytes_at_each_length_form(size):
    data = cmp1.encode(b"x" * size)
    assert cmp1.decode(data, max_bytes=MIB) == b"x" * size


@pytest.mark.parametrize("size", [15, 16, 4_000])
def test_containers_at_each_count_form(size):
    value = [{f"k{number:06}": number for number in range(size)}, list(range(size))]
    assert cmp1.decode(cmp1.encode(value), max_bytes=MIB) == value


def test_a_count_of_65536_takes_the_longest_form():
    wide = Limits(items=200_000)
    value = [{f"k{number:06}": None for number in range(65_536)}, [None] * 65_536]
    data = cmp1.encode(value)
    assert data[:6] == b"\x92\xdf\x00\x01\x00\x00"
    assert cmp1.decode(data, limits=wide, max_bytes=MIB) == value


def test_a_key_of_32_characters_is_the_longest():
    value = {"a" * 31: 1, "a" * 32: 2}
    assert cmp1.decode(cmp1.encode(value)) == value


def test_tuples_are_arrays():
    assert cmp1.encode(((1,), [2])) == cmp1.encode([[1], [2]])


@pytest.mark.parametrize(
    "value",
    [
        0.5,
        2**64,
        -(2**63) - 1,
        {1: 2},
        {"A": 1},
        {"a" * 33: 1},
        {b"a": 1},
        {1, 2},
        bytearray(b"x"),
        "e\u0301",
        "a\nb",
        "\ud800",
        "x" * 1025,
        "é" * 513,
        object(),
        [[[[[[[[[1]]]]]]]]],
    ],
)
def test_our_own_mistakes_are_bugs(value):
    with pytest.raises(LocalProtocolError):
        cmp1.encode(value)


def test_eight_levels_are_the_most():
    assert cmp1.decode(b"\x91" * 8 + b"\x01") == [[[[[[[[1]]]]]]]]
    with pytest.raises(LimitExceeded, match="8 levels"):
        cmp1.decode(b"\x91" * 9 + b"\x01")
    with pytest.raises(LimitExceeded, match="8 levels"):
        cmp1.decode(b"\x81\xa1a" * 9 + b"\x01")


def test_limits_are_the_callers():
    with pytest.raises(LimitExceeded, match="at most 65535"):
        cmp1.decode(b"\xc4\x00" * 40_000)
    with pytest.raises(LimitExceeded, match="at most 3"):
        cmp1.decode(b"\xa4abcd", max_bytes=3)
    with pytest.raises(LimitExceeded, match="text of 4"):
        cmp1.decode(b"\xa4abcd", limits=Limits(text_bytes=3))
    with pytest.raises(LimitExceeded, match="3 values"):
        cmp1.decode(b"\x93\x01\x01\x01", limits=Limits(items=3))
    with pytest.raises(LimitExceeded, match="text of 1025"):
        cmp1.decode(b"\xda\x04\x01" + b"x" * 1025)


def test_a_second_opinion_can_refuse(monkeypatch):
    monkeypatch.setattr(cmp1, "_packed", lambda value: b"")
    with pytest.raises(EncodingRefused, match="canonical"):
        cmp1.decode(b"\x01")


def restored(value):
    """A value of the golden file: {"bin": hex} stands for bytes."""
    if isinstance(value, dict):
        if set(value) == {"bin"}:
            return bytes.fromhex(value["bin"])
        return {key: restored(item) for key, item in value.items()}
    if isinstance(value, list):
        return [restored(item) for item in value]
    return value


def test_golden_vectors():
    golden = json.loads((VECTORS / "cmp1.json").read_text("utf-8"))
    assert len(golden["accepted"]) >= 10
    for case in golden["accepted"]:
        assert cmp1.encode(restored(case["value"])).hex() == case["hex"], case["name"]
        assert cmp1.decode(bytes.fromhex(case["hex"])) == restored(case["value"]), case["name"]
    names = {case["name"] for case in golden["refused"]}
    assert names == set(WRONG) | {name for name, (read, _) in HOSTILE.items() if read is not typed}
    for case in golden["refused"]:
        with pytest.raises(RemoteError):
            cmp1.decode(bytes.fromhex(case["hex"]))


TEXT = st.text(max_size=12).filter(lambda text: cmp1.text_fault(text) is None)
KEYS = st.from_regex(r"\A[a-z][a-z0-9_]{0,5}\Z")
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(cmp1.INT_MIN, cmp1.INT_MAX),
    st.binary(max_size=40),
    TEXT,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(VALUES)
def test_what_is_encoded_is_decoded(value):
    data = cmp1.encode(value)
    decoded = cmp1.decode(data)
    assert decoded == value
    assert cmp1.encode(decoded) == data


@settings(max_examples=100, deadline=None)
@given(VALUES, st.data())
def test_changed_bytes_are_refused_or_canonical(value, draw):
    data = bytearray(cmp1.encode(value))
    place = draw.draw(st.integers(0, len(data) - 1))
    data[place] = draw.draw(st.integers(0, 255))
    try:
        decoded = cmp1.decode(bytes(data))
    except RemoteError:
        return
    assert cmp1.encode(decoded) == bytes(data)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_do_anything_but_decode_or_be_refused(data):
    try:
        decoded = cmp1.decode(data)
    except RemoteError:
        return
    assert cmp1.encode(decoded) == data


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=8))
def test_text_that_passes_is_normalised_and_prints_on_one_line(text):
    if cmp1.text_fault(text) is None:
        assert unicodedata.normalize("NFC", text) == text
        assert len(text.splitlines()) <= 1
        assert text.encode("utf-8").decode("utf-8") == text


BOMBS = {
    "empty arrays": b"\xdd\x00\x0f\xff\x00" + b"\x90" * 0x0FFF00,
    "nils": b"\xdd\x00\x0f\xff\x00" + b"\xc0" * 0x0FFF00,
    "small maps": b"\xdd\x00\x03\xff\x00" + b"\x81\xa1a\x00" * 0x03FF00,
    "nested claims": b"\xdd\x00\x0f\x00\x00" * 200_000,
    "nested map claims": b"\xdf\x00\x01\x00\x00\xa1a" * 100_000,
    "empty texts": b"\xdd\x00\x0f\xff\x00" + b"\xa0" * 0x0FFF00,
    "claims of four billion": b"\x98" + (b"\xdd" + FOUR_BILLION) * 8,
}


@pytest.mark.parametrize("name", BOMBS)
def test_no_bomb_allocates_beyond_the_limits(name):
    data = BOMBS[name]
    assert len(data) <= DEFAULT_LIMITS.frame_bytes
    tracemalloc.start()
    try:
        with pytest.raises(RemoteError):
            cmp1.decode(data, max_bytes=DEFAULT_LIMITS.frame_bytes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # 256 bytes for each of the values that `Limits.items` grants.
    assert peak < 256 * DEFAULT_LIMITS.items
