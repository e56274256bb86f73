"""A group of entries is what its entries are, and is refused like its first wrong one."""

from __future__ import annotations

import random

import msgspec
import pytest
from bodies import BODIES
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol import cmp1, entries, entry_groups
from konsil.protocol.entry_groups import encode_group
from konsil.protocol.errors import LocalProtocolError
from konsil.protocol.learning_bodies import ArtifactIntegrate, ModelBase
from konsil.protocol.limits import DEFAULT_LIMITS, Limits

SALT = bytes(range(16))
BASE = ModelBase(model=bytes(32), source="seed", licence="", note="")


def one_by_one(bodies, *, index, time_ms, salts, charter, limits=DEFAULT_LIMITS):
    """The group as `encode` makes it, which is what the other library writes."""
    found = []
    for at, (body, salt) in enumerate(zip(bodies, salts, strict=True), index):
        item = entries.entry(body, index=at, time_ms=time_ms, salt=salt, charter=charter)
        found.append(entries.encode(item, limits=limits))
        assert found[-1] == cmp1.encode(msgspec.to_builtins(item, builtin_types=(bytes,)))
    return found


def result(way, bodies, **frame):
    """What a way makes of a group: the bytes, or the words of its refusal."""
    try:
        return way(bodies, **frame)
    except LocalProtocolError as error:
        return error.message


# Where the canonical form of a number changes its length.
EDGES = [0, 127, 128, 255, 256, 2**16 - 1, 2**16, 2**32 - 1, 2**32, 2**63 - 40]


@settings(deadline=None, max_examples=80)
@given(
    bodies=st.lists(st.sampled_from(BODIES), min_size=1, max_size=30),
    index=st.builds(
        lambda edge, back: max(0, edge - back), st.sampled_from(EDGES), st.integers(0, 9)
    ),
    time_ms=st.sampled_from(EDGES),
    charter=st.binary(min_size=32, max_size=32),
    seed=st.integers(0, 2**32),
)
def test_a_group_is_what_its_entries_are(bodies, index, time_ms, charter, seed):
    draw = random.Random(seed).randbytes
    salts = [draw(16) for _ in bodies]
    frame = {"index": index, "time_ms": time_ms, "salts": salts, "charter": charter}
    assert encode_group(bodies, **frame) == one_by_one(bodies, **frame)


WRONG = [None, True, 1.0, -1, 2**63, 2**70, b"", bytes(31), bytes(33), "", "line\nbreak", "\ud800",
         "e\u0301", "x" * 1_025, [], [None], {}, {"A": 1}, msgspec.Raw(b"\xcd\x00\x01"),
         msgspec.Raw(b"\xd9\x01a")]  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_a_wrong_field_is_refused_in_a_group_as_it_is_alone(body):
    frame = {"index": 7, "time_ms": 9, "salts": [SALT] * 9, "charter": bytes(32)}
    for field in body.__struct_fields__:
        for value in WRONG:
            changed = msgspec.structs.replace(body, **{field: value})
            for group in ([changed] * 9, [BASE, body, *[BASE] * 3, changed, body, BASE, body]):
                found = result(encode_group, group, **frame)
                assert found == result(one_by_one, group, **frame), (field, value)
                assert isinstance(found, str) or all(
                    entries.open_frame(entries.peek(data)) for data in found
                )


@pytest.mark.parametrize(
    "change",
    [
        {"index": -1},
        {"index": 2**63 - 8},
        {"time_ms": -1},
        {"time_ms": 2**63},
        {"time_ms": 1.0},
        {"charter": bytes(31)},
        {"charter": "c" * 32},
        {"salts": [*[SALT] * 4, bytes(15), *[SALT] * 4]},
        {"salts": [*[SALT] * 4, "s" * 16, *[SALT] * 4]},
        {"salts": [*[SALT] * 4, msgspec.Raw(b"\xc4\x10" + SALT), *[SALT] * 4]},
        {"limits": Limits(entry_bytes=100)},
    ],
)
def test_a_wrong_frame_is_refused_in_a_group_as_it_is_alone(change):
    frame = {"index": 7, "time_ms": 9, "salts": [SALT] * 9, "charter": bytes(32), **change}
    found = result(encode_group, [BASE] * 9, **frame)
    assert isinstance(found, str)
    assert found == result(one_by_one, [BASE] * 9, **frame)


@pytest.mark.parametrize("text", ["line\nbreak", "e\u0301", "x" * 1_025, "\u202e"])
def test_a_group_is_refused_like_its_worst_entry(text):
    good = ModelBase(model=bytes(32), source="seed", licence="", note="ok")
    bad = ModelBase(model=bytes(32), source="seed", licence="", note=text)
    with pytest.raises(LocalProtocolError):
        encode_group([*[good] * 8, bad], index=1, time_ms=5, salts=[SALT] * 9, charter=bytes(32))


def test_every_entry_needs_a_salt_and_a_group_may_be_empty():
    frame = {"index": 7, "time_ms": 9, "charter": bytes(32)}
    assert encode_group([], salts=[], **frame) == []
    with pytest.raises(LocalProtocolError, match="8 salts for 9 entries"):
        encode_group([BASE] * 9, salts=[SALT] * 8, **frame)


def test_a_group_with_a_broken_rule_is_refused():
    (mix,) = (body for body in BODIES if isinstance(body, ArtifactIntegrate))
    wrong = msgspec.structs.replace(mix, parts=mix.parts[:1])
    frame = {"index": 7, "time_ms": 9, "salts": [SALT] * 9, "charter": bytes(32)}
    with pytest.raises(LocalProtocolError, match="the weights sum to"):
        encode_group([*[mix] * 4, wrong, *[mix] * 4], **frame)


def test_only_the_first_of_an_ordinary_group_is_encoded_alone(monkeypatch):
    alone = []
    monkeypatch.setattr(
        entry_groups,
        "encode",
        lambda item, **options: (alone.append(item.n), entries.encode(item, **options))[1],
    )
    ordinary = [body for body in BODIES if entry_groups.pack_all([body], DEFAULT_LIMITS)]
    assert len(ordinary) >= len(BODIES) - 3
    salts = [SALT] * len(ordinary)
    encode_group(ordinary, index=7, time_ms=9, salts=salts, charter=bytes(32))
    assert alone == [7]


def test_a_large_entry_amid_small_ones_is_refused():
    large = msgspec.structs.replace(BASE, note="x" * 200)
    frame = {"index": 7, "time_ms": 9, "salts": [SALT] * 9, "charter": bytes(32)}
    sizes = {len(data) for data in encode_group([*[BASE] * 4, large, *[BASE] * 4], **frame)}
    limits = Limits(entry_bytes=max(sizes) - 1)
    with pytest.raises(LocalProtocolError, match="too large"):
        encode_group([*[BASE] * 4, large, *[BASE] * 4], limits=limits, **frame)
