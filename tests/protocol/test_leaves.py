"""The leaf hash of an entry in two parts: its end can be shown without its front."""

from __future__ import annotations

from hashlib import sha256

import pytest
from bodies import BODIES
from hypothesis import given
from hypothesis import strategies as st

from konsil.protocol import cmp1, entries, leaves, merkle
from konsil.protocol.errors import LocalProtocolError

ODD = b"\xa1t\xa3a.b\xa2ts\x01\xa1v\x01"
"""The shortest end that an entry can have."""
salts = st.one_of(
    st.binary(min_size=16, max_size=16),
    st.integers(0, len(ODD)).map(lambda at: (ODD + bytes(16))[at : at + 16].ljust(16, b"t")),
)
times = st.one_of(
    st.integers(0, 2**63 - 1), st.just(int.from_bytes(b"\x01" + ODD[-7:], "big")),
    st.just(int.from_bytes(b"\x00\xa1t\xa3a.b\xa2", "big")),
)  # fmt: skip


@given(st.sampled_from(BODIES), st.integers(0, 2**63 - 1), times, salts)
def test_type_and_time_of_every_entry_can_be_shown_without_the_rest(body, index, time_ms, salt):
    one = entries.entry(body, index=index, time_ms=time_ms, salt=salt, charter=bytes(32))
    data = entries.encode(one)
    front = data[: -len(leaves.end(one.t, time_ms))]
    assert front + leaves.end(one.t, time_ms) == data
    assert leaves.front_hash(data) == sha256(b"\x02" + front).digest()
    leaf = merkle.leaf_hash(data)
    assert leaf == leaves.shown(leaves.front_hash(data), one.t, time_ms)
    assert leaf == merkle.leaf_hash(memoryview(data)) == merkle.leaf_hashes([data])[0]
    assert leaf != leaves.shown(leaves.front_hash(data), "peer.odd", time_ms)
    assert leaf != leaves.shown(leaves.front_hash(data), one.t, time_ms ^ 1)


@pytest.mark.parametrize("word", ["a.b", "a" * 16 + "." + "b" * 16])
def test_types_of_every_length_end_an_entry(word):
    frame = {"b": {}, "c": bytes(32), "n": 1, "s": bytes(16), "t": word, "ts": 2**40, "v": 1}
    data = cmp1.encode(frame)
    assert merkle.leaf_hash(data) == leaves.shown(leaves.front_hash(data), word, 2**40)


@given(st.binary(max_size=200))
def test_other_bytes_are_hashed_as_they_are(data):
    assert merkle.leaf_hash(data) == merkle.record_hash(data) == sha256(b"\0" + data).digest()
    assert merkle.leaf_hashes([data, ODD, data]) == [*map(merkle.leaf_hash, (data, ODD, data))]
    with pytest.raises(LocalProtocolError, match="do not end"):
        leaves.front_hash(data)
