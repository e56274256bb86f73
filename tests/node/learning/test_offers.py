"""Which artifacts take part in a mix, and how stale each counts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from konsil.node.learning.memory import Memory
from konsil.node.learning.neighbour import Neighbour
from konsil.node.learning.offers import offers
from konsil.node.learning.shelf import Shelf


def shelf_of(*rows, mixed=()):
    """Rows of publisher, sequence, the publisher's round, and our round when it came."""
    shelf = Shelf()
    for publisher, sequence, number, since in rows:
        head = SimpleNamespace(
            publisher=publisher, kind="parameters", sequence=sequence, round=number,
            env=f"{publisher}{sequence}",
        )  # fmt: skip
        shelf.add(SimpleNamespace(head=head, since_round=since))
    shelf.mark_mixed(mixed)
    return shelf


def taken(gossip, shelf, number, heard, *, stopped=""):
    memory = Memory()
    memory.round = number
    live = {node: Neighbour(node=node, degree=2, learning=node not in stopped) for node in "abc"}
    found = offers(gossip, shelf, memory, "me", set(heard), live)
    return {offer.held.head.env: offer.lag for offer in found}


def test_what_is_new_counts_once_by_its_age():
    shelf = shelf_of(("a", 1, 1, 1), ("a", 2, 2, 3), ("b", 1, 1, 1), ("b", 2, 2, 2), mixed=["b2"])
    assert taken("neighbours", shelf, 4, "abc") == {"a2": 1}


def test_what_came_of_one_that_left_is_not_lost():
    shelf = shelf_of(("gone", 1, 1, 2), ("me", 7, 7, 2))
    assert taken("neighbours", shelf, 2, "ab") == {"gone1": 0}
    assert taken("epidemic", shelf, 2, "ab") == {}


@pytest.mark.parametrize("gossip", ["neighbours", "epidemic", "pairs"])
def test_who_has_stopped_stands_until_we_have_trained_longer(gossip):
    shelf = shelf_of(("a", 9, 20, 1), mixed=["a9"])
    assert taken(gossip, shelf, 20, "a", stopped="a") == {"a9": 0}
    after = taken(gossip, shelf, 21, "a", stopped="a")
    assert after == ({"a9": 20} if gossip == "pairs" else {})


def test_an_epidemic_takes_only_what_the_round_hears():
    shelf = shelf_of(("a", 1, 1, 3), ("b", 1, 1, 1))
    assert taken("epidemic", shelf, 3, "bc") == {"b1": 2}


def test_a_pair_takes_the_newest_again_with_its_age():
    shelf = shelf_of(("a", 1, 1, 3), ("b", 1, 1, 1), mixed=["a1"])
    assert taken("pairs", shelf, 5, "a") == {"a1": 2}
    assert taken("pairs", shelf, 5, "c") == {}
