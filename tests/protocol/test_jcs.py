"""JCS: one JSON text for every value of the subset, and no other is read."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol import jcs
from konsil.protocol.cmp1 import text_fault
from konsil.protocol.errors import (
    EncodingRefused,
    LimitExceeded,
    LocalProtocolError,
    RemoteError,
)
from konsil.protocol.limits import Limits


def test_names_ascend_by_utf_16_code_units():
    # RFC 8785 §3.2.3: U+1F600 starts with the surrogate D83D and so comes before U+FF5E,
    # which its UTF-8 and its code point do not.
    value = {"\uff5e": 7, "\U0001f600": 6, "€": 5, "ö": 4, "1": 2, "": 0}
    expected = '{"":0,"1":2,"ö":4,"€":5,"\U0001f600":6,"\uff5e":7}'
    assert jcs.canonical(value).decode("utf-8") == expected
    assert jcs.parse(expected.encode("utf-8")) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (-1, "-1"),
        (2**53 - 1, "9007199254740991"),
        (-(2**53) + 1, "-9007199254740991"),
        ("", '""'),
        ('a"\\/é€', '"a\\"\\\\/é€"'),
        ([], "[]"),
        ({}, "{}"),
        ({"b": [1, {"z": None, "a": "x"}], "a": True}, '{"a":true,"b":[1,{"a":"x","z":null}]}'),
    ],
)
def test_canonical_text(value, text):
    assert jcs.canonical(value).decode("utf-8") == text
    assert jcs.parse(text.encode("utf-8")) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        "{}x",
        ' {"a":1}',
        '{"a": 1}',
        '{"a":1}\n',
        '{"b":1,"a":2}',
        '{"a":1,"a":1}',
        '{"a":1,"a":2}',
        '"\\u0061"',
        '"\\/"',
        '"\\ud800"',
        '"\\n"',
        '"e\\u0301"',
        '"e\u0301"',
        '"\u202e"',
        "-0",
        "1.0",
        "1e3",
        "01",
        "NaN",
        "Infinity",
        "-Infinity",
        "9007199254740992",
        "-9007199254740992",
        "1" * 5000,
        "'a'",
        "{1:2}",
        "[1,]",
        "\ufeff1",
        "tru",
    ],
)
def test_other_texts_are_refused(text):
    with pytest.raises(EncodingRefused):
        jcs.parse(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    "data", [b"\xff", '{"a":1}'.encode("utf-16"), b'"\xed\xa0\x80"', b'"\xc0\x80"']
)
def test_other_encodings_are_refused(data):
    with pytest.raises(EncodingRefused):
        jcs.parse(data)


@pytest.mark.parametrize(
    "value",
    [
        0.5,
        2**53,
        -(2**53),
        b"x",
        {1: 2},
        {"a": {1}},
        "\n",
        {"\n": 1},
        "\ud800",
        [[[[[[[[[1]]]]]]]]],
    ],
)
def test_our_own_mistakes_are_bugs(value):
    with pytest.raises(LocalProtocolError):
        jcs.canonical(value)


def test_limits():
    assert jcs.parse(b"[[[[[[[[1]]]]]]]]") == [[[[[[[[1]]]]]]]]
    with pytest.raises(LimitExceeded, match="8 levels"):
        jcs.parse(b"[[[[[[[[[1]]]]]]]]]")
    with pytest.raises(LimitExceeded, match="8 levels"):
        jcs.parse(b'{"a":' * 9 + b"1" + b"}" * 9)
    with pytest.raises(LimitExceeded, match="8 levels"):
        jcs.parse(b"[" * 60_000)
    with pytest.raises(LimitExceeded, match="at most 65536"):
        jcs.parse(b"[" * 70_000)
    with pytest.raises(LimitExceeded, match="at most 2"):
        jcs.parse(b"123", max_bytes=2)
    with pytest.raises(LimitExceeded, match="text"):
        jcs.parse('{"éé":1}'.encode(), limits=Limits(text_bytes=3))
    with pytest.raises(LimitExceeded, match="text"):
        jcs.parse(b'["abcd"]', limits=Limits(text_bytes=3))


TEXT = st.text(max_size=8).filter(lambda text: text_fault(text) is None)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-jcs.INT_MAX, jcs.INT_MAX), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_what_is_written_is_parsed_and_any_json_reader_agrees(value):
    data = jcs.canonical(value)
    assert jcs.parse(data) == value
    assert json.loads(data) == value


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet='{}[]",:0123eE.-+ \\utrfalsn', max_size=14))
def test_nothing_but_canonical_json_is_parsed(text):
    data = text.encode("utf-8")
    try:
        value = jcs.parse(data)
    except RemoteError:
        return
    assert jcs.canonical(value) == data
