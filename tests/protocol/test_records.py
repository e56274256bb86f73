"""Records: one encoding each, refused with the path of what is wrong."""

from typing import Annotated, Literal

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
from konsil.protocol.limits import Limits
from konsil.protocol.records import DigestField, SaltField, pack, unpack


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    art: DigestField
    weight: int
    sure: bool = False


class Mixed(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag="mixed",
    tag_field="t",
):
    parts: tuple[Part, ...]
    rule: str
    salt: SaltField | None = None
    pair: tuple[int, bytes] = (0, b"")
    kind: Literal["a", "b"] = "a"


class Named(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag="named",
    tag_field="t",
):
    keys: dict[str, bytes]


class Fraction(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    part: float


class Capital(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    Name: str


class Positional(msgspec.Struct, frozen=True, array_like=True):
    name: str


class Chain(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    next: "Chain | None" = None


class Deep(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    at: list[list[list[list[list[list[list[list[int]]]]]]]]


MIXED = Mixed(parts=(Part(art=bytes(32), weight=7, sure=True),), rule="delta/1")


@pytest.fixture(params=["quick", "careful"])
def way(request, monkeypatch):
    """Both ways of reading must give the same answers."""
    if request.param == "careful":
        monkeypatch.setattr(records, "_quick", lambda data, kind, limits: None)
    return request.param


def test_pack_writes_the_tag_and_every_field():
    assert cmp1.decode(pack(MIXED)) == {
        "kind": "a",
        "pair": [0, b""],
        "parts": [{"art": bytes(32), "sure": True, "weight": 7}],
        "rule": "delta/1",
        "salt": None,
        "t": "mixed",
    }


def test_what_is_packed_is_unpacked(way):
    data = pack(MIXED)
    assert unpack(data, Mixed) == MIXED
    assert unpack(data, Mixed | Named) == MIXED
    named = Named(keys={"b": b"2", "a": b"1"})
    assert unpack(pack(named), Mixed | Named) == named
    accents = Mixed(parts=(), rule='Zürich "β" \\')
    assert unpack(pack(accents), Mixed) == accents
    long = Mixed(parts=(), rule="x" * 1024, pair=(2**64 - 1, bytes(5000)))
    assert unpack(pack(long), Mixed) == long


def change(**fields):
    value = cmp1.decode(pack(MIXED))
    value.update(fields)
    return cmp1.encode({key: item for key, item in value.items() if item is not ...})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (change(more=1), "unknown field `more`"),
        (change(rule=...), "missing required field `rule`"),
        (change(salt=...), "leaves out a field"),
        (change(rule=b"delta/1"), r"Expected `str`, got `bytes` - at `\$.rule`"),
        (change(salt="x" * 16), "Expected `bytes | null`"),
        (change(salt=bytes(15)), r"at `\$.salt`"),
        (change(pair=[True, b""]), r"Expected `int`, got `bool` - at `\$.pair\[0\]`"),
        (change(pair=["1", b""]), r"\$.pair\[0\]"),
        (change(pair=[1]), r"\$.pair"),
        (change(kind="c"), r"\$.kind"),
        (change(t="named"), "t"),
        (change(t="other"), r"Invalid value 'other' - at `\$.t`"),
        (change(t=...), "t"),
        (change(parts=[{"art": bytes(31), "weight": 1, "sure": False}]), r"\$.parts\[0\].art"),
        (change(parts=[{"art": bytes(32), "weight": 1, "sure": 0}]), r"\$.parts\[0\].sure"),
        (change(parts={}), r"\$.parts"),
        (b"\x01", "Expected"),
        (pack(MIXED) + b"\x00", "behind"),
        (pack(MIXED)[:-1], "cut off"),
        (b"", "cut off"),
    ],
)
def test_refused_with_the_path(way, data, reason):
    with pytest.raises(EncodingRefused, match=reason):
        unpack(data, Mixed)


def test_text_rules_hold_in_records(way):
    for text in ("a\nb", "e\u0301", "\x7f", "a\u202eb", "\u2028"):
        raw = msgspec.msgpack.encode({**cmp1.decode(pack(MIXED)), "rule": text}, order="sorted")
        with pytest.raises(EncodingRefused):
            unpack(raw, Mixed)
    raw = msgspec.msgpack.encode({**cmp1.decode(pack(MIXED)), "rule": "x" * 1025}, order="sorted")
    with pytest.raises(LimitExceeded):
        unpack(raw, Mixed)


def test_limits_hold_in_records(way):
    data = pack(MIXED)
    with pytest.raises(LimitExceeded):
        unpack(data, Mixed, max_bytes=len(data) - 1)
    with pytest.raises(LimitExceeded):
        unpack(data, Mixed, limits=Limits(entry_bytes=len(data) - 1))
    with pytest.raises(LimitExceeded):
        unpack(data, Mixed, limits=Limits(depth=2))
    with pytest.raises(LimitExceeded):
        unpack(data, Mixed, limits=Limits(items=12))
    with pytest.raises(LimitExceeded):
        unpack(data, Mixed, limits=Limits(text_bytes=6))
    assert unpack(data, Mixed, limits=Limits(depth=3, items=13, text_bytes=7)) == MIXED


@pytest.mark.parametrize(
    "record",
    [
        Fraction(part=0.5),
        Capital(Name="x"),
        Deep(at=[[[[[[[[1]]]]]]]]),
        Mixed(parts=(), rule="a\nb"),
        Mixed(parts=(), rule="\ud800"),
        Mixed(parts=(), rule="r", salt=b"short"),
        Mixed(parts=(), rule="r", pair=(2**64, b"")),
        Mixed(parts=(), rule=7),  # type: ignore[arg-type]
        Mixed(parts=(), rule=object()),  # type: ignore[arg-type]
        Named(keys={"Upper": b""}),
        Named(keys={"ä": b""}),
    ],
)
def test_a_record_that_a_reader_would_refuse_is_a_bug(record):
    with pytest.raises(LocalProtocolError, match=type(record).__name__):
        pack(record)


def test_a_type_that_contains_itself_is_read_the_careful_way():
    chain = Chain(next=Chain(next=Chain()))
    assert unpack(pack(chain), Chain) == chain
    deep = Chain()
    for _ in range(9):
        deep = Chain(next=deep)
    with pytest.raises(LocalProtocolError, match="levels"):
        pack(deep)


def test_other_shapes_of_type_are_read(way):
    assert unpack(pack(Positional(name="x")), Positional) == Positional(name="x")
    kind = Annotated[list[int], msgspec.Meta(max_length=2, title="two")]
    assert unpack(b"\x92\x01\x02", kind) == [1, 2]
    assert unpack(b"\x90", tuple[()]) == ()


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        (records.DigestField, bytes(32), bytes(33)),
        (records.KeyField, bytes(32), bytes(31)),
        (records.SignatureField, bytes(64), bytes(63)),
        (records.SaltField, bytes(16), bytes(32)),
        (records.HexField, "a1" * 32, "A1" * 32),
        (records.NameField, "charite-2", "2charite"),
        (records.NodeField, "a2" * 16, "a1" * 16),
        (records.PeerField, "12D3KooW" + "A" * 44, "12D3KooW" + "0" * 44),
    ],
)
def test_fields(way, field, good, bad):
    assert unpack(cmp1.encode(good), field) == good
    with pytest.raises(EncodingRefused):
        unpack(cmp1.encode(bad), field)


@pytest.mark.parametrize("field", [records.HexField, records.NameField, records.NodeField])
def test_patterns_refuse_a_line_feed_at_the_end(field):
    for text in ("a" * 63 + "\n", "a" * 31 + "\n", "a\n"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(text, field)


PARTS = st.builds(
    Part,
    art=st.binary(min_size=32, max_size=32),
    weight=st.integers(cmp1.INT_MIN, cmp1.INT_MAX),
    sure=st.booleans(),
)
MIXEDS = st.builds(
    Mixed,
    parts=st.lists(PARTS, max_size=3).map(tuple),
    rule=st.text(max_size=8).filter(lambda text: cmp1.text_fault(text) is None),
    salt=st.none() | st.binary(min_size=16, max_size=16),
    pair=st.tuples(st.integers(-40, 40), st.binary(max_size=40)),
)


@settings(max_examples=100, deadline=None)
@given(MIXEDS, st.data())
def test_the_quick_way_agrees_with_the_careful_way(record, draw):
    data = bytearray(pack(record))
    assert unpack(bytes(data), Mixed) == record
    for _ in range(draw.draw(st.integers(1, 3))):
        place = draw.draw(st.integers(0, len(data) - 1))
        data[place] = draw.draw(st.integers(0, 255))
    limits = Limits(text_bytes=6)
    found = records._quick(bytes(data), Mixed, limits)
    try:
        value = cmp1.decode(bytes(data), limits=limits)
        careful = records.typed(value, Mixed)
    except RemoteError:
        assert found is None
    else:
        assert found is None or found == careful
        assert pack(careful) == bytes(data) or found is None


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=50))
def test_no_bytes_do_anything_but_unpack_or_be_refused(data):
    with pytest.raises(RemoteError):
        unpack(data, Mixed | Named)
