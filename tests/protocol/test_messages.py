"""Messages: golden bytes, one encoding, every bound, and the format named before all else."""

from __future__ import annotations

import json
from pathlib import Path

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol import cmp1, messages
from konsil.protocol.artifact import KINDS
from konsil.protocol.errors import (
    EncodingRefused,
    LimitExceeded,
    LocalProtocolError,
    RemoteError,
    SessionRefused,
)
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.messages import Chunk, Have, Head, Hello, Offer, Ping

VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "messages.json").read_text(encoding="utf-8")
)
NODE = "abcdefghijklmnopqrstuvwxyz234567"
INT = st.integers(0, 2**53 - 1)
DIGEST = st.binary(min_size=32, max_size=32)
NODES = st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=32, max_size=32)
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True)
TEXT = st.text("abc äöü\u4e00 ", max_size=30)
HEADS = st.builds(
    Head,
    publisher=NODES,
    kind=st.sampled_from(KINDS),
    sequence=INT.map(lambda n: n or 1),
    env=DIGEST,
    art=DIGEST,
    size=INT.map(lambda n: n or 1),
    round=INT,
)
HEAD_LISTS = st.lists(HEADS, max_size=3).map(tuple)
NODE_LISTS = st.lists(NODES, max_size=3).map(tuple)
DEGREES = st.integers(0, 1024)
RECORDS = st.one_of(
    st.builds(
        Hello,
        consortium=NAMES,
        node=NODES,
        name=NAMES,
        charter=DIGEST,
        genesis=st.binary(max_size=200),
        version=TEXT,
        reads=st.lists(st.sampled_from(["safetensors", "safetensors+new"])).map(tuple),
    ),
    st.builds(
        Have, heads=HEAD_LISTS, degree=DEGREES, neighbours=NODE_LISTS, learning=st.booleans()
    ),
    st.builds(messages.Ping, nonce=INT),
    st.builds(messages.Pong, nonce=INT),
    st.builds(messages.Bye, reason=TEXT),
    st.builds(messages.Want, env=DIGEST),
    st.builds(
        Offer,
        envelope=st.binary(max_size=100),
        proof=st.binary(max_size=100),
        knowledge=st.binary(max_size=50),
        size=st.integers(1, 2**32),
        chunks=st.integers(1, 65_536),
    ),
    st.builds(messages.Missing, env=DIGEST),
    st.builds(messages.Busy, retry_ms=st.integers(0, 3_600_000)),
    st.builds(messages.Accept, first=INT),
    st.builds(
        messages.Digests,
        first=INT,
        digests=st.lists(DIGEST, min_size=1, max_size=4).map(b"".join),
    ),
    st.just(messages.Done()),
    st.builds(
        messages.Announcement,
        node=NODES,
        heads=HEAD_LISTS,
        degree=DEGREES,
        neighbours=NODE_LISTS,
        checkpoint=st.binary(max_size=100),
        sent_ms=INT,
    ),
)


def head(**changes) -> Head:
    fields = {
        "publisher": NODE,
        "kind": "parameters",
        "sequence": 1,
        "env": bytes(32),
        "art": bytes(32),
        "size": 8,
        "round": 0,
    }
    return Head(**{**fields, **changes})


def hello_map(**changes) -> dict[str, object]:
    fields = {
        "t": "hello",
        "format": 1,
        "consortium": "c",
        "node": NODE,
        "name": "n",
        "charter": bytes(32),
        "genesis": b"",
        "version": "1",
        "reads": ["safetensors"],
    }
    return {**fields, **changes}


def plain(value):
    """A decoded value as the vector file writes it: bytes as `hex:…`."""
    if isinstance(value, bytes):
        return "hex:" + value.hex()
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


@pytest.mark.parametrize("vector", VECTORS["records"], ids=lambda v: v["fields"]["t"])
def test_golden_bytes_of_every_record(vector):
    body = bytes.fromhex(vector["body"])
    message = messages.decode(body)
    assert messages.name_of(message) == vector["fields"]["t"]
    assert messages.pack(message) == body
    assert messages.encode(message) == len(body).to_bytes(4, "big") + body
    # An independent reader sees the fields that the file names.
    assert plain(msgpack.unpackb(body)) == vector["fields"]


def test_the_vectors_hold_every_type_of_record():
    assert sorted(v["fields"]["t"] for v in VECTORS["records"]) == sorted(messages.TYPES)


def test_golden_bytes_of_a_chunk():
    vector = VECTORS["chunk"]
    data = bytes.fromhex(vector["data"])
    frame = messages.encode(Chunk(index=vector["index"], data=data))
    assert frame.hex() == vector["frame"]
    chunk = messages.decode(frame[4:])
    assert isinstance(chunk, Chunk)
    assert (chunk.index, bytes(chunk.data)) == (vector["index"], data)


def test_a_ping_by_hand():
    assert messages.pack(Ping(nonce=7)).hex() == "82" + "a56e6f6e6365" + "07" + "a174a470696e67"


@settings(max_examples=100)
@given(RECORDS)
def test_packing_and_unpacking_are_inverse(record):
    body = messages.pack(record)
    assert messages.unpack(body) == record
    assert messages.decode(bytearray(body)) == record


@settings(max_examples=150)
@given(st.binary(max_size=300))
def test_random_bytes_are_refused_or_are_the_one_encoding(data):
    assert_refused_or_canonical(data)


@settings(max_examples=200)
@given(
    st.sampled_from([bytes.fromhex(v["body"]) for v in VECTORS["records"]]),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, 10**6),
)
def test_mutated_messages_are_refused_or_are_the_one_encoding(body, changes, keep):
    mutated = bytearray(body)
    for position, byte in changes:
        mutated[position % len(mutated)] = byte
    assert_refused_or_canonical(bytes(mutated))
    assert_refused_or_canonical(bytes(mutated[: keep % len(mutated)]))


def assert_refused_or_canonical(data: bytes) -> None:
    try:
        message = messages.decode(data)
    except RemoteError:
        return
    assert messages.encode(message)[4:] == data


@pytest.mark.parametrize("number", [0, 2, 99, -1, 2**64 - 1])
def test_an_unknown_format_is_refused_by_name_before_any_other_field(number):
    for value in (
        hello_map(format=number),
        {"t": "hello", "format": number},
        {"t": "hello", "format": number, "node": 5, "surprise": [None]},
    ):
        with pytest.raises(SessionRefused) as caught:
            messages.unpack(cmp1.encode(value))
        assert caught.value.message == f"format {number} is not known here; this node speaks 1"


@pytest.mark.parametrize("value", [None, "1", True, b"1", [1]])
def test_a_format_that_is_no_number_is_refused(value):
    with pytest.raises(EncodingRefused, match="format"):
        messages.unpack(cmp1.encode(hello_map(format=value)))


def test_a_hello_without_format_is_refused():
    value = hello_map()
    del value["format"]
    with pytest.raises(EncodingRefused, match="format"):
        messages.unpack(cmp1.encode(value))


@pytest.mark.parametrize(
    "value",
    [None, 1, [], {}, {"t": 1}, {"t": "nope"}, {"t": ["hello"]}, {"nonce": 1}, "ping"],
)
def test_what_is_not_a_known_record_is_refused(value):
    with pytest.raises(EncodingRefused, match="not a message"):
        messages.unpack(cmp1.encode(value))


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"t": "ping"}, "nonce"),
        ({"t": "ping", "nonce": 1, "more": 1}, "more"),
        ({"t": "ping", "nonce": -1}, "nonce"),
        ({"t": "ping", "nonce": 2**53}, "nonce"),
        ({"t": "ping", "nonce": True}, "nonce"),
        ({"t": "want", "env": bytes(31)}, "env"),
        ({"t": "want", "env": "x" * 32}, "env"),
        ({"t": "busy", "retry_ms": 3_600_001}, "retry_ms"),
        (hello_map(node="short"), "node"),
        (hello_map(name="Name"), "name"),
        (hello_map(consortium=""), "consortium"),
        (
            {"t": "have", "heads": [1], "degree": 0, "neighbours": [], "learning": True},
            r"heads\[0\]|heads\[...\]",
        ),
        (
            {"t": "have", "heads": [], "degree": 0, "neighbours": ["x"], "learning": True},
            "neighbours",
        ),
    ],
)
def test_a_wrong_field_is_refused_by_its_path(value, where):
    with pytest.raises(EncodingRefused, match=where):
        messages.unpack(cmp1.encode(value))


def test_a_head_of_an_unknown_kind_is_refused():
    value = {**msgspec.to_builtins(head(), builtin_types=(bytes,)), "kind": "gossip"}
    body = cmp1.encode(
        {"t": "have", "heads": [value], "degree": 0, "neighbours": [], "learning": True}
    )
    with pytest.raises(EncodingRefused, match="gossip"):
        messages.unpack(body)


SMALL = Limits(
    heads=1,
    members=1,
    entry_bytes=4,
    envelope_bytes=4,
    proof_bytes=4,
    knowledge_bytes=5,
    payload_bytes=100,
    chunks=2,
    chunk_bytes=8,
    message_bytes=2_000,
)


@pytest.mark.parametrize(
    "record",
    [
        Have(heads=(head(), head()), degree=0, neighbours=(), learning=True),
        Have(heads=(), degree=0, neighbours=(NODE, NODE), learning=True),
        Have(heads=(), degree=2, neighbours=(), learning=True),
        msgspec.convert(hello_map(genesis=b"12345"), Hello),
        Offer(envelope=b"12345", proof=b"", knowledge=b"", size=1, chunks=1),
        Offer(envelope=b"", proof=b"12345", knowledge=b"", size=1, chunks=1),
        Offer(envelope=b"", proof=b"", knowledge=b"123456", size=1, chunks=1),
        Offer(envelope=b"", proof=b"", knowledge=b"", size=101, chunks=1),
        Offer(envelope=b"", proof=b"", knowledge=b"", size=1, chunks=3),
        messages.Digests(first=0, digests=bytes(32 * 4_097)),
        messages.Announcement(
            node=NODE, heads=(head(), head()), degree=0, neighbours=(), checkpoint=b"", sent_ms=0
        ),
    ],
)
def test_every_bound_holds_for_reading_and_for_sending(record):
    data = cmp1.encode(msgspec.to_builtins(record, builtin_types=(bytes,)))
    with pytest.raises(LimitExceeded):
        messages.unpack(data, limits=SMALL)
    with pytest.raises(LocalProtocolError, match="would be refused"):
        messages.pack(record, limits=SMALL)


@pytest.mark.parametrize("size", [0, 1, 31, 33])
def test_a_page_that_is_no_list_of_digests_is_refused(size):
    body = cmp1.encode({"t": "digests", "first": 0, "digests": bytes(size)})
    with pytest.raises(EncodingRefused, match="no list of digests"):
        messages.unpack(body)


def test_a_record_longer_than_a_message_is_refused_before_it_is_parsed():
    with pytest.raises(LimitExceeded, match="2001 bytes"):
        messages.decode(b"\x80" + bytes(2_000), limits=SMALL)


def test_the_largest_have_fits_into_a_message():
    largest = head(
        kind="data_vector", sequence=2**53 - 1, size=2**53 - 1, round=2**53 - 1, env=b"\xff" * 32
    )
    have = Have(heads=(largest,) * 1_024, degree=1_024, neighbours=(NODE,) * 1_024, learning=True)
    assert messages.unpack(messages.pack(have)) == have
    assert len(messages.pack(have)) <= DEFAULT_LIMITS.message_bytes


@pytest.mark.parametrize("body", [b"C", b"C\x00\x00\x00", b"C\x00\x00\x00\x01"])
def test_a_chunk_without_data_is_refused(body):
    with pytest.raises(EncodingRefused, match="without data"):
        messages.decode(body)


def test_a_chunk_above_the_limit_is_refused_both_ways():
    with pytest.raises(LimitExceeded, match="9 bytes in a chunk"):
        messages.decode(b"C\x00\x00\x00\x00" + bytes(9), limits=SMALL)
    with pytest.raises(LimitExceeded, match="3 chunks; at most 2"):
        messages.decode(b"C\x00\x00\x00\x02x", limits=SMALL)
    for chunk in (
        Chunk(index=0, data=bytes(9)),
        Chunk(index=0, data=b""),
        Chunk(index=2, data=b"x"),
        Chunk(index=-1, data=b"x"),
    ):
        with pytest.raises(LocalProtocolError, match="chunk"):
            messages.encode(chunk, limits=SMALL)


def test_the_data_of_a_chunk_is_not_copied():
    body = bytearray(b"C\x00\x00\x00\x00abc")
    chunk = messages.decode(body)
    assert isinstance(chunk, Chunk)
    body[-1] = ord("!")
    assert bytes(chunk.data) == b"ab!"


def test_what_cmp1_cannot_say_is_a_bug_of_ours():
    with pytest.raises(LocalProtocolError):
        messages.pack(messages.Bye(reason="line\nfeed"))
    with pytest.raises(LocalProtocolError, match="nonce"):
        messages.pack(messages.Ping(nonce=-1))


def test_an_announcement_has_a_bound_of_its_own():
    fields = {"node": NODE, "heads": (), "degree": 0, "checkpoint": bytes(100), "sent_ms": 0}
    announcement = messages.Announcement(**fields, neighbours=())
    with pytest.raises(LocalProtocolError, match="bytes of announcement"):
        messages.pack(announcement, limits=Limits(announcement_bytes=150))
    with pytest.raises(LimitExceeded, match="at most 150"):
        messages.unpack(messages.pack(announcement), limits=Limits(announcement_bytes=150))


def test_a_message_longer_than_the_limit_is_a_bug_of_ours():
    with pytest.raises(LocalProtocolError, match="bytes of bye"):
        messages.pack(messages.Bye(reason="x" * 900), limits=Limits(message_bytes=800))
