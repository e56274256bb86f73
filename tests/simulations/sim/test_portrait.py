"""Grants: means over the last quarter of rounds, link by link, alike however it is sharded."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from konsil.simulations.sim.links import Links
from konsil.simulations.sim.portrait import MOST_NODES, Grants
from konsil.simulations.sim.shard import Shard

LINKS = Links.between(4, [(0, 1), (1, 2), (2, 3)])


def weights(*values):
    return torch.tensor(values, dtype=torch.float32)


def test_only_the_last_quarter_counts():
    grants = Grants(Shard(4), rounds=8)
    for number in range(1, 9):
        grants.add(number, LINKS, weights(*[number / 10] * 6))
    assert grants.of(LINKS, "cpu") == pytest.approx([0.75] * 6)


def test_a_link_over_which_nothing_came_has_no_value_and_others_the_mean_of_what_came():
    grants = Grants(Shard(4), rounds=8)
    first = LINKS.keep(LINKS.sender == 1)
    grants.add(7, first, weights(0.2, 1.0))
    grants.add(8, first.keep(first.receiver == 0), weights(0.4))
    found = dict(zip(zip(LINKS.receiver, LINKS.sender, strict=True), grants.of(LINKS, "cpu"),
                     strict=True))  # fmt: skip
    assert found[0, 1] == pytest.approx(0.3)
    assert found[2, 1] == pytest.approx(1.0)
    assert np.isnan([value for key, value in found.items() if key[1] != 1]).all()


def test_receivers_of_a_later_shard_are_numbered_from_its_first():
    class Second(Shard):
        """Hears of the first half's rows what they were told to hold."""

        def gather(self, own):
            return torch.cat([torch.zeros(2, 4, dtype=own.dtype), own])

    grants = Grants(Second(4, rank=1, processes=2), rounds=1)
    mine, _ = LINKS.of_receivers(2, 4)
    grants.add(1, mine, weights(0.1, 0.2, 0.3))
    found = grants.of(LINKS, "cpu")
    assert found[-3:] == pytest.approx([0.1, 0.2, 0.3])
    assert np.isnan(found[:-3]).all()


def test_a_rule_without_weights_has_no_grants():
    assert Grants(Shard(4), rounds=1).of(LINKS, "cpu") is None


def test_large_networks_keep_none():
    links = Links.between(MOST_NODES + 1, [(0, 1)])
    grants = Grants(Shard(MOST_NODES + 1), rounds=1)
    grants.add(1, links, weights(1.0, 1.0))
    assert grants.of(links, "cpu") is None
