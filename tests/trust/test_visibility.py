"""Who may see what: a body goes to members, to those it names, or to nobody."""

from __future__ import annotations

import pytest
from bodies import BODIES, NODE

from konsil.protocol import entries
from konsil.trust.visibility import MEMBERS, visible_to

NAMED = {"artifact.integrate", "artifact.receive", "artifact.reject"}
OTHER = "c" * 32


@pytest.mark.parametrize("body", BODIES, ids=entries.type_of)
def test_a_body_is_seen_by_those_it_is_for(body):
    word = entries.type_of(body)
    data = entries.encode(
        entries.entry(body, index=1, time_ms=1, salt=bytes(16), charter=bytes(32))
    )
    assert visible_to(OTHER, data) == (word in MEMBERS)
    assert visible_to(NODE, data) == (word in MEMBERS or word in NAMED)


def test_what_trains_judges_and_spends_stays_at_home():
    private = set(entries.TYPES) - MEMBERS - NAMED
    assert {"model.train", "trust.update", "privacy.spend", "inference.batch"} <= private


def test_what_cannot_be_read_is_not_shown():
    assert not visible_to(NODE, b"\xff")
