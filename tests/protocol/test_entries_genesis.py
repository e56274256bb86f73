"""Entries: one value, one encoding; the closed list; the genesis that founds an author."""

from __future__ import annotations

import msgspec
import pytest
from bodies import BODIES, GENESIS, KEYS, MIX, PARTS, D
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol import cmp1, entries, genesis
from konsil.protocol.errors import (
    EncodingRefused,
    LimitExceeded,
    LocalProtocolError,
    ManifestRefused,
    SignatureRefused,
)
from konsil.protocol.fields import UNIT_E9
from konsil.protocol.limits import Limits
from konsil.protocol.node_bodies import RoleKey


def made(body, **changes):
    item = entries.entry(body, index=3, time_ms=5, salt=bytes(16), charter=bytes(32))
    return msgspec.structs.replace(item, **changes)


def test_every_type_of_the_list_is_tried_here():
    assert {entries.type_of(body) for body in BODIES} == set(entries.TYPES)


@pytest.mark.parametrize("body", BODIES, ids=entries.type_of)
def test_an_entry_survives_its_bytes_and_has_no_other(body):
    data = entries.encode(made(body))
    found = entries.decode(data)
    assert found == made(body)
    assert entries.encode(found) == data
    assert [*cmp1.decode(data)] == ["b", "c", "n", "s", "t", "ts", "v"]


@pytest.mark.parametrize("body", BODIES, ids=entries.type_of)
def test_a_missing_or_foreign_field_is_refused(body):
    plain = cmp1.decode(entries.encode(made(body)))
    for field in [*plain["b"]]:
        less = {name: value for name, value in plain["b"].items() if name != field}
        with pytest.raises(EncodingRefused):
            entries.decode(cmp1.encode({**plain, "b": less}))
    with pytest.raises(EncodingRefused):
        entries.decode(cmp1.encode({**plain, "b": {**plain["b"], "more": 1}}))
    with pytest.raises(EncodingRefused):
        entries.decode(cmp1.encode({**plain, "more": 1}))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(BODIES), st.data())
def test_no_flipped_bit_gives_the_same_entry(body, data):
    original = entries.encode(made(body))
    position = data.draw(st.integers(0, len(original) * 8 - 1))
    flipped = bytearray(original)
    flipped[position // 8] ^= 1 << position % 8
    try:
        found = entries.decode(bytes(flipped))
    except (EncodingRefused, LimitExceeded):
        return
    assert found != made(body)
    assert entries.encode(made(body)) == original


@pytest.mark.parametrize(
    "changes",
    [
        {"c": bytes(31)},
        {"n": -1},
        {"s": bytes(15)},
        {"ts": -5},
        {"v": 2},
        {"n": True},
        {"s": "0123456789abcdef"},
    ],
)
def test_a_wrong_frame_is_refused_by_writer_and_reader(changes):
    with pytest.raises(LocalProtocolError):
        entries.encode(made(BODIES[11], **changes))
    plain = cmp1.decode(entries.encode(made(BODIES[11])))
    with pytest.raises(EncodingRefused):
        entries.decode(cmp1.encode({**plain, **changes}))


def test_an_unknown_type_is_refused_by_the_writer_and_counted_by_a_reader():
    plain = cmp1.decode(entries.encode(made(BODIES[11])))
    data = cmp1.encode({**plain, "t": "model.dream"})
    assert entries.peek(data).t == "model.dream"
    with pytest.raises(EncodingRefused, match=r"model\.dream"):
        entries.decode(data)
    with pytest.raises(LocalProtocolError, match="another type"):
        entries.encode(made(BODIES[11], t="model.train"))
    with pytest.raises(LocalProtocolError, match="no ledger entry"):
        entries.type_of(object())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"parts": PARTS[:1]}, "sum to 999999999"),
        ({"parts": []}, "sum to 0"),
        (
            {"parts": [msgspec.structs.replace(PARTS[0], w_e9=UNIT_E9 // 2)] * 2},
            "listed twice",
        ),
        ({"rule": "Two Words"}, "rule"),
        ({"before": b""}, "before"),
    ],
)
def test_a_mix_that_breaks_a_rule_is_never_written(change, match):
    with pytest.raises(LocalProtocolError, match=match):
        entries.encode(made(msgspec.structs.replace(MIX, **change)))


def test_an_entry_fits_into_a_bundle():
    many = [msgspec.structs.replace(PARTS[0], art=bytes([n]) * 32, w_e9=0) for n in range(100)]
    body = msgspec.structs.replace(MIX, parts=[*many, *PARTS])
    with pytest.raises(LocalProtocolError, match="too large"):
        entries.encode(made(body), limits=Limits(entry_bytes=4_096))
    data = entries.encode(made(body))
    with pytest.raises(LimitExceeded):
        entries.decode(data, limits=Limits(entry_bytes=4_096))


def test_a_genesis_makes_its_author_known():
    data = entries.encode(made(GENESIS, n=0))
    author = genesis.read(data)
    assert (author.name, author.consortium) == ("bern", "alps")
    assert author.origin == f"alps/{author.node}"
    assert author.keys["art"] == KEYS["art"].public
    assert author.entry == data


def changed_key(role, **changes):
    key = msgspec.structs.replace(GENESIS.keys[role], **changes)
    return msgspec.structs.replace(GENESIS, keys={**GENESIS.keys, role: key})


@pytest.mark.parametrize(
    ("body", "changes", "error"),
    [
        (BODIES[11], {"n": 0}, ManifestRefused),
        (GENESIS, {"n": 1}, ManifestRefused),
        (GENESIS, {"n": 0, "c": D}, ManifestRefused),
        (msgspec.structs.replace(GENESIS, charter=D), {"n": 0}, ManifestRefused),
        (msgspec.structs.replace(GENESIS, name="ulm"), {"n": 0}, SignatureRefused),
        (msgspec.structs.replace(GENESIS, consortium="sea"), {"n": 0}, SignatureRefused),
        (changed_key("log", proof=bytes(64)), {"n": 0}, SignatureRefused),
        (changed_key("log", public=bytes(32)), {"n": 0}, SignatureRefused),
        (
            msgspec.structs.replace(GENESIS, keys={**GENESIS.keys, "log": GENESIS.keys["art"]}),
            {"n": 0},
            SignatureRefused,
        ),
    ],
)
def test_a_false_genesis_founds_nothing(body, changes, error):
    with pytest.raises(error):
        genesis.read(entries.encode(made(body, **changes)))


def test_a_genesis_has_all_five_keys_and_all_differ():
    some = {role: key for role, key in GENESIS.keys.items() if role != "rec"}
    body = msgspec.structs.replace(GENESIS, keys=some)
    with pytest.raises(LocalProtocolError, match="rec"):
        entries.encode(made(body, n=0))
    plain = msgspec.to_builtins(made(body, n=0), builtin_types=(bytes,))
    with pytest.raises(ManifestRefused, match="rec"):
        genesis.read(cmp1.encode(plain))
    message = genesis.possession(
        "log", consortium="alps", name="bern", public=KEYS["art"].public.raw
    )
    twin = RoleKey(public=KEYS["art"].public.raw, proof=KEYS["art"].sign(message))
    body = msgspec.structs.replace(GENESIS, keys={**GENESIS.keys, "log": twin})
    with pytest.raises(ManifestRefused, match="two roles"):
        genesis.read(entries.encode(made(body, n=0)))
