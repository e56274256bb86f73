"""Digests: known answers, and domains that cannot be confused."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol.digest import sha256, tagged
from konsil.protocol.errors import LocalProtocolError


def test_sha256_has_the_known_answer_of_fips_180():
    assert sha256(b"abc").hex() == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    assert sha256(memoryview(b"abc")) == sha256(b"abc")


def test_tagged_is_the_documented_bytes():
    expected = hashlib.sha256(b"konsil charter 0\n" + b"\0\0\0\0\0\0\0\2ab" + bytes(8)).digest()
    assert tagged("charter 0", b"ab", b"") == expected


@settings(max_examples=50, deadline=None)
@given(
    st.tuples(st.sampled_from(["a", "b"]), st.lists(st.binary(max_size=4), max_size=4)),
    st.tuples(st.sampled_from(["a", "b"]), st.lists(st.binary(max_size=4), max_size=4)),
)
def test_other_domain_or_other_parts_give_another_digest(one, two):
    assert (tagged(one[0], *one[1]) == tagged(two[0], *two[1])) == (one == two)


@pytest.mark.parametrize("domain", ["", "two\nlines", "Upper", " space", "1st", "dash-ed"])
def test_a_domain_is_lower_case_words(domain):
    with pytest.raises(LocalProtocolError):
        tagged(domain, b"")
