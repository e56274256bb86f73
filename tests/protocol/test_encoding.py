"""Formats: a closed list of words, each with one meaning."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from konsil.protocol.encoding import FORMATS, PLAIN, Encoding, encoding_of
from konsil.protocol.errors import EncodingRefused


@pytest.mark.parametrize("word", FORMATS)
def test_every_word_has_one_meaning_and_every_meaning_one_word(word):
    assert encoding_of(word).word == word
    assert sum(encoding_of(other) == encoding_of(word) for other in FORMATS) == 1


@given(st.lists(st.sampled_from(["safetensors", "fp16", "int8", "topk", "zstd", ""])))
def test_parts_in_another_order_or_number_are_no_format(parts):
    word = "+".join(parts)
    if word in FORMATS:
        assert encoding_of(word).word == word
    else:
        with pytest.raises(EncodingRefused) as refused:
            encoding_of(word)
        assert refused.value.code == "encoding"


def test_the_word_that_everybody_reads_is_the_container_alone():
    assert Encoding().word == PLAIN == FORMATS[0]
    assert encoding_of(PLAIN) == Encoding(codec="plain", zstd=False)
