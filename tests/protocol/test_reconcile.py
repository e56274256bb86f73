"""Reconciliation: the laws of merging, the wants, and the publishers who say two things."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol.errors import LimitExceeded
from konsil.protocol.limits import Limits
from konsil.protocol.messages import Head
from konsil.protocol.reconcile import HeadTable, News

LIMITS = Limits(heads=4, head_history=8, head_forks=3, payload_bytes=1_000)
ANNA, BERN = "a" * 32, "b" * 32


def head(publisher=ANNA, sequence=1, env=0, kind="parameters", **changes) -> Head:
    fields = {
        "publisher": publisher,
        "kind": kind,
        "sequence": sequence,
        "env": bytes([env]) * 32,
        "art": bytes([env]) * 32,
        "size": 10,
        "round": sequence,
    }
    return Head(**{**fields, **changes})


HEADS = st.builds(
    head,
    publisher=st.sampled_from([ANNA, BERN]),
    sequence=st.integers(1, 8),
    env=st.integers(0, 4),
    kind=st.sampled_from(["parameters", "logits"]),
    size=st.integers(1, 2),
)
LISTS = st.lists(HEADS, max_size=14)


def state(table: HeadTable) -> tuple[object, object]:
    return table.heads, table.equivocations


@settings(max_examples=150)
@given(LISTS, st.randoms(use_true_random=False), st.lists(st.integers(0, 14), max_size=4))
def test_the_order_and_the_grouping_of_heads_decide_nothing(heads, random, cuts):
    whole = HeadTable(heads, limits=LIMITS)
    shuffled = list(heads)
    random.shuffle(shuffled)
    edges = [0, *sorted(cuts), len(shuffled)]
    pieces = HeadTable(limits=LIMITS)
    for start, end in pairwise(edges):
        pieces.merge(shuffled[start:end])
    assert state(pieces) == state(whole)


@settings(max_examples=60)
@given(LISTS)
def test_merging_again_changes_nothing(heads):
    table = HeadTable(heads, limits=LIMITS)
    before = state(table)
    assert table.merge(heads) == News(heads=(), equivocations=())
    assert state(table) == before


@settings(max_examples=60)
@given(LISTS, LISTS)
def test_the_newest_are_order_free_beyond_the_memory_too(first, second):
    short = msgspec.structs.replace(LIMITS, head_history=2)
    one, other = HeadTable(first, limits=short), HeadTable(second, limits=short)
    one.merge(second)
    other.merge(first)
    assert one.heads == other.heads


@settings(max_examples=100)
@given(LISTS)
def test_the_table_says_what_a_full_memory_would(heads):
    """Against a plain model that keeps everything."""
    table = HeadTable(heads, limits=LIMITS)
    by_key: dict[tuple[str, str], dict[int, set[bytes]]] = {}
    for one in heads:
        slots = by_key.setdefault((one.publisher, one.kind), {})
        slots.setdefault(one.sequence, set()).add(one.env)
    assert [(one.publisher, one.kind) for one in table.heads] == sorted(by_key)
    for one in table.heads:
        slots = by_key[one.publisher, one.kind]
        assert one.sequence == max(slots)
        assert one.env == min(slots[one.sequence])
    found = {
        (one.publisher, one.kind, one.sequence): [head.env for head in one.heads]
        for one in table.equivocations
    }
    assert found == {
        (*key, sequence): sorted(envs)[:3]
        for key, slots in by_key.items()
        for sequence, envs in slots.items()
        if len(envs) > 1
    }


@settings(max_examples=60)
@given(LISTS, LISTS)
def test_news_are_the_difference(before, heads):
    table = HeadTable(before, limits=LIMITS)
    old = state(table)
    news = table.merge(heads)
    assert set(news.heads) == set(table.heads) - set(old[0])
    assert set(news.equivocations) == set(table.equivocations) - set(old[1])


def test_sequences_must_grow():
    table = HeadTable([head(sequence=5)], limits=LIMITS)
    assert table.merge([head(sequence=4, env=9)]).heads == ()
    assert table.newest(ANNA, "parameters") == head(sequence=5)
    newer = head(sequence=6, env=1)
    assert table.merge([newer]).heads == (newer,)
    assert table.newest(ANNA, "logits") is None


def test_two_artifacts_with_one_sequence_are_an_equivocation_with_both_heads():
    first, second = head(env=7), head(env=3)
    table = HeadTable([first], limits=LIMITS)
    (found,) = table.merge([second]).equivocations
    assert (found.publisher, found.kind, found.sequence) == (ANNA, "parameters", 1)
    assert found.heads == (second, first)
    assert table.merge([first, second]).equivocations == ()


def test_an_equivocation_is_never_overwritten():
    table = HeadTable([head(env=1), head(env=2)], limits=LIMITS)
    for sequence in range(2, 30):
        table.merge([head(sequence=sequence)])
    assert [one.heads for one in table.equivocations] == [(head(env=1), head(env=2))]
    (grown,) = table.merge([head(env=3)]).equivocations
    assert grown.heads == (head(env=1), head(env=2), head(env=3))
    assert table.merge([head(env=4)]).equivocations == ()
    assert table.equivocations == (grown,)


def test_only_the_last_sequences_are_remembered():
    table = HeadTable([head(sequence=one) for one in range(1, 10)], limits=LIMITS)
    assert table.merge([head(sequence=1, env=9)]).equivocations == ()
    (found,) = table.merge([head(sequence=2, env=9)]).equivocations
    assert found.sequence == 2


def test_one_artifact_told_in_two_ways_is_no_equivocation():
    table = HeadTable([head(size=2), head(size=1)], limits=LIMITS)
    assert table.equivocations == ()
    assert table.heads == (head(size=1),)


def test_what_is_remembered_is_bounded():
    table = HeadTable(limits=LIMITS)
    for sequence in range(1, 40):
        table.merge([head(sequence=sequence, env=env) for env in range(6)])
    assert len(table.equivocations) == LIMITS.head_history
    assert all(len(one.heads) == LIMITS.head_forks for one in table.equivocations)
    assert [one.sequence for one in table.equivocations] == list(range(1, 9))


def test_too_many_publishers_are_refused_and_change_nothing():
    table = HeadTable([head(publisher=letter * 32) for letter in "abcd"], limits=LIMITS)
    before = state(table)
    with pytest.raises(LimitExceeded, match="heads of 5 publishers"):
        table.merge([head(sequence=9), head(publisher="e" * 32)])
    assert state(table) == before
    assert table.merge([head(sequence=9)]).heads == (head(sequence=9),)


def test_wants_are_what_is_newer_there():
    theirs = HeadTable(
        [head(sequence=3), head(BERN, sequence=2), head("c" * 32), head("d" * 32, size=1_001)],
        limits=LIMITS,
    )
    ours = HeadTable([head(sequence=3), head(BERN, sequence=1)], limits=LIMITS)
    assert theirs.wants(ours) == (head(BERN, sequence=2), head("c" * 32))
    assert ours.wants(theirs) == ()
    assert theirs.wants(ours, known={bytes(32)}) == ()
    assert theirs.wants(HeadTable(limits=LIMITS)) == theirs.heads[:3]


@settings(max_examples=60)
@given(LISTS, LISTS)
def test_getting_what_is_wanted_leaves_nothing_to_want(theirs, ours):
    there, here = HeadTable(theirs, limits=LIMITS), HeadTable(ours, limits=LIMITS)
    here.merge(there.wants(here))
    assert there.wants(here) == ()
