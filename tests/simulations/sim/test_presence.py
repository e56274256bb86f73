"""Presence: chances are kept, late nodes join once, and somebody honest is always there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.simulations.sim.presence import Presence, share_of
from konsil.simulations.sim.scenario import Faults

shares = st.floats(0, 1)


@settings(deadline=None)
@given(shares, shares, st.integers(2, 12), st.integers(1, 12), st.data())
def test_two_honest_nodes_are_there_in_every_round(churn, late, nodes, rounds, data):
    hostile = data.draw(st.sets(st.integers(0, nodes - 1)))
    found = Presence.of(Faults(churn=churn, late=late), nodes, rounds, hostile, 1)
    honest = [node for node in range(nodes) if node not in hostile]
    counted = honest if len(honest) >= 2 else list(range(nodes))
    assert (found.table[:, counted].sum(axis=1) >= 2).all()
    assert found.table.shape == (rounds + 1, nodes)


@settings(deadline=None)
@given(st.floats(0, 0.8), st.integers(2, 15), st.integers(2, 12))
def test_late_nodes_are_away_until_half_time(late, nodes, rounds):
    found = Presence.of(Faults(late=late), nodes, rounds, (), 1)
    assert found.late.sum() == min(share_of(nodes, late), nodes - 2)
    half = rounds // 2
    assert (found.table[: half + 1] == ~found.late).all()
    assert found.table[half + 1 :].all()
    joins = sum(found.joined(number).sum() for number in range(1, rounds + 1))
    assert joins == found.late.sum()


def test_late_nodes_churn_only_after_they_joined():
    found = Presence.of(Faults(late=0.5, churn=0.9), 40, 20, (), 1)
    assert not found.table[:11, found.late].any()
    assert found.table[11, found.late].all()
    assert not found.table[12:, found.late].all()


def test_churn_is_the_share_that_changes_in_a_round():
    found = Presence.of(Faults(churn=0.1), 500, 200, (), 1)
    changes = (found.table[1:] != found.table[:-1]).mean()
    assert changes == pytest.approx(0.1, abs=5 * np.sqrt(0.09 / 100_000))


def test_without_faults_everybody_is_there():
    assert Presence.of(Faults(), 9, 5, (), 1).table.all()


def test_presence_follows_the_seed():
    one, same, other = (Presence.of(Faults(churn=0.3), 9, 9, (), seed).table for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()
