"""Chunks: the root over their digests."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol.chunks import chunk_digests, chunk_root
from konsil.protocol.errors import ManifestRefused


def reference(leaves):
    """RFC 6962 §2.1, word for word, over leaf data."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    inner = reference(leaves[:split]) + reference(leaves[split:])
    return hashlib.sha256(b"\1" + inner).digest()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=5), max_size=20))
def test_the_root_is_that_of_rfc_6962(chunks):
    digests = chunk_digests(iter(chunks))
    assert digests == [hashlib.sha256(chunk).digest() for chunk in chunks]
    assert chunk_root(digests) == reference(digests)


def test_golden_root():
    assert chunk_root(chunk_digests([b"a", b"b"])).hex() == (
        "ad5ca6cddc0b27c6a83e332bf28011769236e6c6a1f786ebf7b5267b37a5bd22"
    )


@pytest.mark.parametrize("wrong", [b"", bytes(31), bytes(33)])
def test_a_digest_has_32_bytes(wrong):
    with pytest.raises(ManifestRefused, match=f"chunk digest 1 has {len(wrong)} bytes"):
        chunk_root([bytes(32), wrong])
