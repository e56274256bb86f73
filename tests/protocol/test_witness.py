"""The bodies of the witness stream: one encoding for each value, and bounds."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol import checkpoint, cosignature, note, witness
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.errors import (
    EncodingRefused,
    LimitExceeded,
    LocalProtocolError,
    RemoteError,
)
from konsil.protocol.identity import SigningKey
from konsil.protocol.limits import Limits
from konsil.protocol.witness import Request, Response

KEY = SigningKey.from_seed(bytes(31) + b"\1")
NOTE = checkpoint.sign(Checkpoint(origin="alps/bern", size=7, root=b"r" * 32), KEY)
LINE = cosignature.sign(NOTE, "alps/ulm", KEY, 5)
REQUEST = Request(old=3, proof=(b"a" * 32, b"b" * 32), note=NOTE)
ENCODED = witness.encode_request(REQUEST)
HASH = note.encode_base64(b"a" * 32).encode()


def test_a_request_is_the_body_of_the_specification():
    second = note.encode_base64(b"b" * 32).encode()
    assert b"old 3\n" + HASH + b"\n" + second + b"\n\n" + NOTE == ENCODED
    first = witness.encode_request(Request(old=0, proof=(), note=NOTE))
    assert first == b"old 0\n\n" + NOTE


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**63 - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=63),
    st.binary(min_size=1, max_size=300),
)
def test_a_request_survives_its_bytes(old, proof, data):
    request = Request(old=old, proof=tuple(proof), note=data)
    assert witness.decode_request(witness.encode_request(request)) == request


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80) | st.text("old 0123=A\n").map(str.encode))
def test_what_is_accepted_has_one_encoding(data):
    try:
        found = witness.decode_request(data)
    except RemoteError:
        pass
    else:
        assert witness.encode_request(found) == data
    try:
        answer = witness.decode_response(data)
    except RemoteError:
        pass
    else:
        assert witness.encode_response(answer) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"old 3\n",
        b"old 3\n\n",
        b"old 03\n\n" + NOTE,
        b"old -3\n\n" + NOTE,
        b"old 9223372036854775808\n\n" + NOTE,
        b"old  3\n\n" + NOTE,
        b"Old 3\n\n" + NOTE,
        b"\n\n" + NOTE,
        b"old 3\r\n\n" + NOTE,
        b"old 3\n" + HASH[:-1] + b"\n\n" + NOTE,
        b"old 3\n" + HASH + b" \n\n" + NOTE,
        b"old 3\nAAAA\n\n" + NOTE,
        b"old 3\n\xff\n\n" + NOTE,
    ],
)
def test_malformed_requests_are_refused(data):
    with pytest.raises(EncodingRefused):
        witness.decode_request(data)


def test_requests_are_bounded():
    many = b"old 3\n" + (HASH + b"\n") * 64 + b"\n" + NOTE
    with pytest.raises(LimitExceeded, match="64 hashes"):
        witness.decode_request(many)
    with pytest.raises(LimitExceeded):
        witness.decode_request(b"old 0\n\n" + bytes(16 * 1024 + 1))
    with pytest.raises(LimitExceeded):
        witness.decode_request(ENCODED, limits=Limits(message_bytes=len(ENCODED) - 1))


@pytest.mark.parametrize(
    "change",
    [{"old": -1}, {"old": 2**63}, {"proof": (b"x",)}, {"proof": (b"x" * 32,) * 64}, {"note": b""}],
)
def test_we_never_send_what_no_witness_reads(change):
    with pytest.raises(LocalProtocolError):
        witness.encode_request(msgspec.structs.replace(REQUEST, **change))


@pytest.mark.parametrize(
    ("answer", "data"),
    [
        (Response(status=200, body=LINE), b"200\n" + LINE),
        (witness.conflict(0), b"409\n0\n"),
        (witness.conflict(77), b"409\n77\n"),
        (Response(status=400), b"400\n"),
        (Response(status=403), b"403\n"),
        (Response(status=404), b"404\n"),
        (Response(status=422), b"422\n"),
    ],
)
def test_an_answer_is_a_status_and_what_belongs_to_it(answer, data):
    assert witness.encode_response(answer) == data
    assert witness.decode_response(data) == answer


def test_a_conflict_tells_the_size():
    assert witness.conflict(77).known_size == 77
    assert Response(status=422).known_size is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"200",
        b"200\n",
        b"200\njunk\n",
        b"200\n" + LINE[:-1],
        b"200\n" + LINE + LINE,
        b"200 \n" + LINE,
        b"0200\n" + LINE,
        b"201\n",
        b"500\n",
        b"404\nbody",
        b"422\n\n",
        b"409\n",
        b"409\n7",
        b"409\n07\n",
        b"409\n7\n\n",
        b"409\n\xff\n",
    ],
)
def test_other_answers_are_refused(data):
    with pytest.raises(RemoteError):
        witness.decode_response(data)


def test_answers_are_bounded():
    lines = b"".join(
        cosignature.sign(NOTE, f"alps/{number}", KEY, 5) for number in range(129)
    )  # fmt: skip
    with pytest.raises(LimitExceeded):
        witness.decode_response(b"200\n" + lines)
    with pytest.raises(LimitExceeded):
        witness.decode_response(b"200\n" + LINE, limits=Limits(proof_bytes=50))


def test_we_never_send_an_answer_that_nobody_reads():
    for answer in (Response(status=404, body=b"x"), Response(status=409, body=b"x\n")):
        with pytest.raises(LocalProtocolError):
            witness.encode_response(answer)
