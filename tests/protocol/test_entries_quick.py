"""The quick way to read and write entries says the same as the careful one, or nothing."""

from __future__ import annotations

import random

import pytest
from bodies import BODIES

from konsil.protocol import entries
from konsil.protocol.errors import LocalProtocolError, RemoteError
from konsil.protocol.learning_bodies import ModelBase

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


@pytest.mark.parametrize("count", [1, 5])
def test_a_group_is_what_its_entries_are(count):
    bodies = BODIES[1:] * count
    salts = [bytes([at % 256]) * 16 for at in range(len(bodies))]
    group = entries.encode_group(bodies, index=3, time_ms=5, salts=salts, charter=bytes(32))
    assert group == [
        entries.encode(entries.entry(body, index=at, time_ms=5, salt=salt, charter=bytes(32)))
        for at, (body, salt) in enumerate(zip(bodies, salts, strict=True), 3)
    ]


@pytest.mark.parametrize("text", ["line\nbreak", "e\u0301", "x" * 1_025, "\u202e"])
def test_a_group_is_refused_like_its_worst_entry(text):
    good = ModelBase(model=bytes(32), source="seed", licence="", note="ok")
    bad = ModelBase(model=bytes(32), source="seed", licence="", note=text)
    with pytest.raises(LocalProtocolError):
        entries.encode_group([good, bad], index=1, time_ms=5, salts=[SALT] * 2, charter=bytes(32))
