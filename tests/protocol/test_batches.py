"""Records packed together are those packed one by one, or the answer is left to the careful way."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import pytest
from bodies import BODIES
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol import cmp1
from konsil.protocol.batches import longest_text, pack_all
from konsil.protocol.fields import Code, Text
from konsil.protocol.learning_bodies import ModelBase, ModelTrain
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.records import HexField, NameField, NodeField, PeerField

# The genesis has a free map, and the base a text beyond ASCII.
SAMPLES = [body for body in BODIES[1:] if not isinstance(body, ModelBase)]
BASE = ModelBase(model=bytes(32), source="seed", licence="", note="")


def told(**fields):
    return msgspec.structs.replace(BASE, **fields)


def alone(record):
    return cmp1.encode(msgspec.to_builtins(record, builtin_types=(bytes,)))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([*SAMPLES, BASE]), min_size=1, max_size=40))
def test_any_mixture_is_packed_in_its_order_as_the_other_library_writes_it(records):
    packed = pack_all(records, DEFAULT_LIMITS)
    assert [bytes(one) for one in packed] == [alone(one) for one in records]


@pytest.mark.parametrize(
    "record",
    [
        told(model=bytes(31)),
        told(note="line\nbreak"),
        told(note="\x7f"),
        told(note="é"),
        told(note=msgspec.Raw(b"\xd9\x01x")),
        told(note=msgspec.Raw(b"\xa1x\xa1y")),
        told(note=7),
        told(note=None),
        told(note=object()),
    ],
)
def test_one_record_that_is_not_surely_right_leaves_all_to_the_careful_way(record):
    assert pack_all([BASE, record, BASE], DEFAULT_LIMITS) is None
    assert pack_all([*SAMPLES, record], DEFAULT_LIMITS) is None


def test_texts_and_levels_are_held_to_the_limits_that_are_given():
    assert pack_all([BASE], Limits(text_bytes=5)) is not None
    long = told(note="x" * 6)
    assert pack_all([BASE, long], Limits(text_bytes=6)) is not None
    assert pack_all([BASE, long], Limits(text_bytes=5)) is None
    assert pack_all([BASE], Limits(depth=2)) is not None
    assert pack_all([BASE], Limits(depth=1)) is None


class Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    one: Literal["longest", "b"] | None
    many: list[Code]


@pytest.mark.parametrize(
    ("kind", "most"),
    [
        (ModelTrain, 0),
        (NameField, 32),
        (NodeField, 32),
        (PeerField, 52),
        (HexField, 64),
        (Code, 64),
        (Words, 64),
        (Literal["longest", "b"], 7),
    ],
)
def test_a_type_tells_how_long_its_plain_texts_get(kind, most):
    assert longest_text(kind) == most


@pytest.mark.parametrize(
    "kind",
    [
        str,
        Text,
        ModelBase,
        dict[str, int],
        list[Text],
        Literal["e\u0301"],
        *(
            Annotated[str, msgspec.Meta(pattern=pattern, max_length=8)]
            for pattern in (
                r"[a-z]\Z",
                r"^[a-z]",
                r"^[a-z]$",
                r"^.\Z",
                r"^[^a]\Z",
                r"^\w\Z",
                r"^[\w]\Z",
                r"^a|b\Z",
                r"^(?:a)\Z",
                r"^\Z",
            )
        ),
        Annotated[str, msgspec.Meta(pattern=r"^[a-z]*\Z")],
    ],
    ids=repr,
)
def test_a_type_that_does_not_say_that_its_texts_are_plain_proves_nothing(kind):
    assert longest_text(kind) > 2**31
