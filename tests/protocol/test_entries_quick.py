"""The quick way to read and write entries says the same as the careful one, or nothing."""

from __future__ import annotations

import random

import msgspec
import pytest
from bodies import BODIES

from konsil.protocol import entries
from konsil.protocol.errors import RemoteError
from konsil.protocol.learning_bodies import ModelBase, ModelTrain
from konsil.protocol.limits import DEFAULT_LIMITS

SALT = bytes(range(16))


def encoded(body, index=7):
    return entries.encode(entries.entry(body, index=index, time_ms=9, salt=SALT, charter=bytes(32)))


def careful(data):
    try:
        return entries.open_frame(entries.peek(data))
    except RemoteError:
        return None


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_both_ways_agree_on_a_genuine_entry_and_on_any_changed_one(body):
    data = encoded(body)
    assert entries.quick(data) in (None, careful(data))
    dice = random.Random(type(body).__name__)
    for _ in range(400):
        changed = bytearray(data)
        for _ in range(dice.choice((1, 1, 2))):
            changed[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        if dice.random() < 0.2:
            del changed[dice.randrange(len(changed)) :]
        found = entries.quick(bytes(changed))
        assert found is None or found == careful(bytes(changed))


def test_ordinary_entries_take_the_quick_way():
    quick = [body for body in BODIES if entries.quick(encoded(body)) is not None]
    assert len(quick) >= len(BODIES) - 3


def test_many_are_read_as_each_alone():
    dice = random.Random(3)
    genuine = [encoded(body, at) for at, body in enumerate(BODIES * 3)]
    damaged = [bytearray(data) for data in genuine]
    for data in damaged[:: len(BODIES) - 1]:
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    for items in (genuine, [bytes(data) for data in damaged], [b"", *genuine, b"\x80"], []):
        assert entries.quick_all(items) == [entries.quick(data) for data in items]


@pytest.mark.parametrize("moved", [1, 5, -1])
def test_no_entry_may_end_where_its_neighbour_should(moved):
    """Bytes that are in order only together are not in order."""
    body = ModelTrain(
        base=bytes(32), out=bytes(32), data=bytes(32), cohort=10, recipe=bytes(32),
        code=bytes(32), env=bytes(32), round=1, privacy=None,
    )  # fmt: skip
    one, other = encoded(body, 7), encoded(body, 8)
    both, cut = one + other, len(one) + moved
    assert None not in entries.quick_all([one, other])
    assert entries.quick_all([both[:cut], both[cut:]]) == [None, None]


def test_many_are_held_to_the_same_limits():
    text = encoded(ModelBase(model=bytes(32), source="s" * 40, licence="", note=""))
    short = msgspec.structs.replace(DEFAULT_LIMITS, text_bytes=39)
    small = msgspec.structs.replace(DEFAULT_LIMITS, entry_bytes=len(text) - 1)
    assert None not in entries.quick_all([text, text])
    for limits in (short, small):
        assert entries.quick_all([text, text], limits=limits) == [None, None]
