"""Every rule of mixing against its law, or against a plain loop over one node at a time."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from konsil.simulations.sim.exchange import Exchange, RuleSetting
from konsil.simulations.sim.links import Links
from konsil.simulations.sim.routes import Routes
from konsil.simulations.sim.rules import POOLING, RULES, neighbourhoods
from konsil.simulations.sim.rules.clipped_gossip import radii
from konsil.simulations.sim.rules.ordering import ascending, comparators
from konsil.simulations.sim.rules.told import liars

ELSEWHERE = {"evidence"}
"""Tested in a file of its own."""
NAMES = sorted(set(RULES) - ELSEWHERE)
EXCHANGING = sorted(set(NAMES) - {"local_only", "pooled"})

EDGES = [
    (0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (0, 6), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6),
    (6, 7), (7, 8), (8, 9), (9, 10),
]  # fmt: skip
"""Degrees from 0 (node 11) to 6."""
NODES = 12


def an_exchange(trained, edges=EDGES, hostile=(), number=1, table=None, before=None) -> Exchange:
    links = Links.between(len(trained), edges)
    degrees = links.degrees
    return Exchange(
        number=number,
        before=trained if before is None else before,
        trained=trained,
        table=trained if table is None else table,
        routes=Routes(
            links,
            links.sender,
            10**9 // (1 + np.maximum(degrees[links.receiver], degrees[links.sender])),
        ),
        lag=np.zeros(len(links), dtype=np.int64),
        hostile=frozenset(hostile),
    )


def drawn(seed=0, nodes=NODES, elements=7):
    return torch.randn(nodes, elements, generator=torch.Generator().manual_seed(seed))


def setting(rounds, nodes) -> RuleSetting:
    """None of these rules judges anything."""
    return RuleSetting(rounds=rounds, nodes=nodes, judging=None)


def mixed(name, exchange, rounds=10):
    return RULES[name](setting(rounds, exchange.links.nodes)).mix(exchange)


def candidates(exchange, node):
    """The own model and all received, as numpy rows."""
    mine = exchange.links.receiver == node
    rows = [exchange.trained[node], *exchange.table[exchange.source[mine]]]
    return torch.stack(rows).double().numpy()


def close(one, other):
    other = torch.as_tensor(other, dtype=one.dtype)
    return one.shape == other.shape and torch.allclose(one, other, atol=2e-5, rtol=1e-5)


# All rules ------------------------------------------------------------------------------


def test_names_are_known_without_torch_and_a_rule_is_made_when_it_is_asked_for():
    assert set(RULES) == {
        "evidence", "mean", "median", "trimmed_mean", "krum", "nnm_trimmed_mean",
        "clipped_gossip", "balance", "local_only", "oracle", "pooled",
    }  # fmt: skip
    for name in NAMES:
        assert callable(RULES[name](setting(1, 2)).mix)
        assert f"konsil.simulations.sim.rules.{name}" in sys.modules


@pytest.mark.parametrize("name", NAMES)
def test_where_all_agree_nothing_moves(name):
    exchange = an_exchange(drawn(nodes=1).repeat(NODES, 1))
    assert close(mixed(name, exchange).models, exchange.trained)


@pytest.mark.parametrize("name", NAMES)
def test_a_mix_is_a_new_tensor_and_leaves_the_exchange_as_it_was(name):
    exchange = an_exchange(drawn(), hostile={3, 8}, table=drawn(1))
    kept = [tensor.clone() for tensor in (exchange.trained, exchange.table, exchange.before)]
    models = mixed(name, exchange).models
    models += 1
    for tensor, copy in zip((exchange.trained, exchange.table, exchange.before), kept, strict=True):
        assert torch.equal(tensor, copy)


@pytest.mark.parametrize("name", EXCHANGING)
def test_the_numbers_of_nodes_mean_nothing(name):
    """Law: renaming the nodes renames the results, whatever block or place they fall into."""
    trained, sent = drawn(), drawn(1)
    order = np.random.default_rng(5).permutation(NODES)
    renamed = np.argsort(order)
    hostile = {3, 8}
    plain = mixed(name, an_exchange(trained, hostile=hostile, table=sent)).models
    edges = [(renamed[a], renamed[b]) for a, b in EDGES]
    other = an_exchange(trained[order], edges, {int(renamed[h]) for h in hostile}, 1, sent[order])
    assert close(mixed(name, other).models, plain[order])


@pytest.mark.parametrize("name", EXCHANGING)
def test_whoever_hears_nobody_keeps_its_own(name):
    exchange = an_exchange(drawn(), hostile={3})
    assert close(mixed(name, exchange).models[11], exchange.trained[11])
    alone = an_exchange(drawn(), edges=[])
    assert close(mixed(name, alone).models, alone.trained)


@pytest.mark.parametrize("name", EXCHANGING)
def test_the_size_of_a_block_changes_nothing(name, monkeypatch):
    exchange = an_exchange(drawn(), hostile={3, 8}, table=drawn(1))
    whole = mixed(name, exchange).models
    monkeypatch.setattr(neighbourhoods, "ELEMENTS", 1)
    monkeypatch.setattr("konsil.simulations.sim.rules.distances.LINKS_AT_ONCE", 2)
    assert close(mixed(name, exchange).models, whole)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_granted_is_a_share_of_every_link_or_nothing_is_said(name):
    exchange = an_exchange(drawn(), hostile={3, 8})
    granted = mixed(name, exchange).granted
    if name in {"median", "trimmed_mean", "krum", "nnm_trimmed_mean", "pooled"}:
        assert granted is None
    else:
        assert granted.shape == (len(exchange.links),)
        assert granted.min() >= 0
        assert granted.max() <= 1


def test_a_link_brings_the_row_of_the_table_that_its_source_names():
    """Late and forged models lie anywhere in the table."""
    trained = torch.tensor([[0.0], [6.0]])
    late = an_exchange(trained, [(0, 1)], table=torch.tensor([[9.0], [10.0], [20.0]]))
    late = replace(late, routes=replace(late.routes, source=np.array([2, 1])))
    assert mixed("mean", late).models.tolist() == [[10.0], [8.0]]
    assert mixed("median", late).models.tolist() == [[10.0], [8.0]]


# Weighted means -------------------------------------------------------------------------


def test_the_mean_keeps_the_average_of_all():
    exchange = an_exchange(drawn())
    assert close(mixed("mean", exchange).models.mean(0), exchange.trained.mean(0))


def test_the_mean_is_the_product_with_the_matrix_of_weights():
    exchange = an_exchange(drawn(), table=drawn(1))
    matrix = np.zeros((NODES, NODES))
    links = exchange.links
    matrix[links.receiver, links.sender] = exchange.metropolis_e9 / 1e9
    own = (1 - matrix.sum(1))[:, None] * exchange.trained.double().numpy()
    assert close(mixed("mean", exchange).models, matrix @ exchange.table.double().numpy() + own)
    assert mixed("mean", exchange).granted.tolist() == [1.0] * len(links)


def test_weight_of_what_did_not_arrive_stays_at_home():
    trained = torch.tensor([[0.0], [3.0], [6.0]])
    whole = an_exchange(trained, [(0, 1), (0, 2)])
    arrived = np.array([True, False, True, True])
    part = whole.keep(arrived)
    assert mixed("mean", part).models[0].item() == pytest.approx(1.0)
    assert whole.keep(np.ones(4, bool)).routes is whole.routes, "nothing has to be made anew"


@pytest.mark.parametrize("name", ["mean", "oracle", "clipped_gossip", "balance"])
def test_own_models_that_lie_in_the_table_too_are_mixed_alike(name):
    """The own model is then one more row of the sum."""
    together, apart = (an_exchange(drawn(), table=table) for table in (None, drawn()))
    assert together.table is together.trained
    assert apart.table is not apart.trained
    assert close(mixed(name, together).models, mixed(name, apart).models)


def test_the_oracle_gives_the_weight_of_liars_back():
    exchange = an_exchange(drawn(), hostile={3, 8})
    found = mixed("oracle", exchange)
    lying = np.isin(exchange.links.sender, [3, 8])
    assert found.granted.tolist() == [0.0 if lie else 1.0 for lie in lying]
    poisoned = exchange.table.clone()
    poisoned[[3, 8]] = 1e6
    assert close(mixed("oracle", replace(exchange, table=poisoned)).models, found.models)
    weights = np.where(lying, 0, exchange.metropolis_e9)
    honest = replace(exchange, routes=replace(exchange.routes, metropolis_e9=weights))
    assert close(found.models, mixed("mean", honest).models)


def test_alone_and_pooled_nothing_is_exchanged():
    exchange = an_exchange(drawn(), table=drawn(1))
    alone, pooled = mixed("local_only", exchange), mixed("pooled", exchange)
    assert torch.equal(alone.models, exchange.trained)
    assert torch.equal(pooled.models, exchange.trained)
    assert alone.granted.tolist() == [0.0] * len(exchange.links)
    assert set(RULES) > POOLING == {"pooled"}


# ClippedGossip --------------------------------------------------------------------------


def test_the_radius_is_the_spread_of_the_nearest_over_the_weight_of_the_rest():
    """One node, four neighbours at 1, 2, 3 and 10, of which one is told to lie."""
    links = Links.of(5, np.zeros(4, dtype=np.int64), np.arange(1, 5))
    weights, distances = np.full(4, 0.2), np.array([10.0, 2.0, 3.0, 1.0])
    told = np.array([1, 0, 0, 0, 0])
    found = radii(links, weights, distances, told)
    assert found[0] == pytest.approx(math.sqrt((1 + 4 + 9) * 0.2 / 0.2))
    assert np.isinf(found[1:]).all()
    two = radii(links, weights, distances, np.array([2, 0, 0, 0, 0]))
    assert two[0] == pytest.approx(math.sqrt((1 + 4) * 0.2 / 0.4))


def test_the_clip_draws_a_far_model_to_the_radius():
    trained = torch.tensor([[0.0], [1.0], [2.0], [3.0], [10.0]])
    exchange = an_exchange(trained, [(0, 1), (0, 2), (0, 3), (0, 4)], hostile={4})
    found = mixed("clipped_gossip", exchange)
    radius = math.sqrt(1 + 4 + 9)
    assert found.models[0].item() == pytest.approx(0.2 * (1 + 2 + 3 + radius))
    assert found.granted[:4].tolist() == pytest.approx([1, 1, 1, radius / 10])


def test_a_clipped_node_never_moves_farther_than_its_radius_allows():
    trained = drawn() * 3
    exchange = an_exchange(trained, hostile={0, 3, 8}, table=drawn(1) * 100)
    links = exchange.links
    weights = exchange.metropolis_e9 / 1e9
    apart = (exchange.table[links.sender] - trained[links.receiver]).norm(dim=1).numpy()
    radius = radii(links, weights, apart, liars(exchange))
    moved = (mixed("clipped_gossip", exchange).models - trained).norm(dim=1).numpy()
    allowed = np.bincount(links.receiver, weights, NODES) * np.nan_to_num(radius, posinf=1e9)
    assert (moved <= allowed + 1e-3).all()
    assert np.isfinite(radius[:9]).any()


def test_without_liars_clipped_gossip_is_the_mean():
    exchange = an_exchange(drawn())
    assert close(mixed("clipped_gossip", exchange).models, mixed("mean", exchange).models)


def test_where_all_neighbours_lie_a_clipped_node_stays():
    exchange = an_exchange(drawn(nodes=3), [(0, 1), (0, 2)], hostile={1, 2})
    assert close(mixed("clipped_gossip", exchange).models[0], exchange.trained[0])


# BALANCE --------------------------------------------------------------------------------


def test_balance_takes_the_near_and_refuses_the_far():
    """|x_0| = 1: at round 5 of 10 others may be 0.3 e^-0.5 = 0.182 away."""
    trained = torch.tensor([[1.0], [1.1], [1.18], [1.19]])
    exchange = an_exchange(trained, [(0, 1), (0, 2), (0, 3)], number=5)
    found = mixed("balance", exchange, rounds=10)
    assert found.models[0].item() == pytest.approx(0.5 * 1.0 + 0.5 * (1.1 + 1.18) / 2)
    assert found.granted[:3].tolist() == pytest.approx([1, 1, 0])
    earlier = mixed("balance", replace(exchange, number=1), rounds=10)
    assert earlier.models[0].item() == pytest.approx(0.5 + 0.5 * (1.1 + 1.18 + 1.19) / 3)
    assert earlier.granted[:3].tolist() == pytest.approx([0.5 / 3 / 0.25] * 3)


def test_balance_alone_among_strangers_keeps_its_own():
    exchange = an_exchange(torch.tensor([[1.0], [5.0]]), [(0, 1)])
    assert mixed("balance", exchange).models.tolist() == [[1.0], [5.0]]


# Order statistics -----------------------------------------------------------------------


@pytest.mark.parametrize("count", range(1, 11))
def test_the_network_sorts_every_row_of_noughts_and_ones_and_so_every_row(count):
    """The zero-one principle: it is enough that all 2^count such rows come out sorted."""
    every = (torch.arange(2**count)[None] >> torch.arange(count)[:, None]) & 1
    found = torch.stack(ascending(every.clone()))
    assert torch.equal(found, every.sort(dim=0).values)
    assert all(low < high < count for low, high in comparators(count))


def test_the_network_sorts_many_planes():
    planes = drawn(nodes=65, elements=40)
    assert torch.equal(torch.stack(ascending(planes.clone())), planes.sort(dim=0).values)


def test_the_median_is_numpys():
    exchange = an_exchange(drawn(), table=drawn(1))
    found = mixed("median", exchange).models
    for node in range(NODES):
        assert close(found[node], np.median(candidates(exchange, node), axis=0))


def test_the_trimmed_mean_is_the_mean_of_what_is_left():
    exchange = an_exchange(drawn(), hostile={3, 8}, table=drawn(1))
    found = mixed("trimmed_mean", exchange).models
    for node in range(NODES):
        rows = np.sort(candidates(exchange, node), axis=0)
        cut = min(liars(exchange)[node], (len(rows) - 1) // 2)
        assert close(found[node], rows[cut : len(rows) - cut].mean(0))


def test_a_rule_is_told_the_true_number_or_the_nominal_share_rounded_up():
    exchange = an_exchange(drawn(), hostile={0, 1, 3})
    true = [1, 1, 3, 1, 2, 1, 1, 0, 0, 0, 0, 0]
    nominal = [math.ceil(degree * 3 / 12) for degree in exchange.links.degrees]
    assert liars(exchange).tolist() == [max(pair) for pair in zip(true, nominal, strict=True)]
    assert liars(an_exchange(drawn())).tolist() == [0] * NODES


# Rules of distance ----------------------------------------------------------------------


def krum_of(rows, told):
    scores = []
    for at, row in enumerate(rows):
        others = sorted(((row - other) ** 2).sum() for i, other in enumerate(rows) if i != at)
        scores.append(sum(others[: max(len(rows) - told - 2, 1)]))
    equal = [at for at, score in enumerate(scores) if score <= min(scores) * (1 + 1e-5)]
    return rows[min(equal, key=lambda at: ((rows[at] - rows[0]) ** 2).sum())]


def nearest_mixed(rows, told):
    kept = len(rows) - min(told, (len(rows) - 1) // 2)
    found = []
    for row in rows:
        order = np.argsort([((row - other) ** 2).sum() for other in rows])
        found.append(rows[order[:kept]].mean(0))
    return np.stack(found)


@pytest.mark.parametrize("hostile", [(), (3, 8), (0, 2, 4, 6)])
def test_krum_is_the_plain_loop(hostile):
    exchange = an_exchange(drawn(), hostile=hostile, table=drawn(1))
    found = mixed("krum", exchange).models
    for node in range(NODES):
        assert close(found[node], krum_of(candidates(exchange, node), liars(exchange)[node]))


def test_krum_takes_one_of_the_crowd_and_never_the_outlier():
    trained = torch.tensor([[100.0], [1.0], [1.1], [1.25], [1.5]])
    exchange = an_exchange(trained, [(0, at) for at in range(1, 5)], hostile={4})
    assert mixed("krum", exchange).models[0].item() == pytest.approx(1.1)


def test_of_two_that_are_equally_close_krum_takes_the_one_nearer_to_its_own():
    """Two of three lie, so one other counts: the pair 5, 6 scores 1 twice."""
    for near, far in ((1, 2), (2, 1)):
        trained = torch.tensor([[0.0], [0.0], [0.0], [20.0]])
        trained[near], trained[far] = 5.0, 6.0
        exchange = an_exchange(trained, [(0, 1), (0, 2), (0, 3)], hostile={2, 3})
        assert mixed("krum", exchange).models[0].item() == 5.0


@pytest.mark.parametrize("hostile", [(), (3, 8), (0, 2, 4, 6)])
def test_nearest_neighbour_mixing_is_the_plain_loop(hostile):
    exchange = an_exchange(drawn(), hostile=hostile, table=drawn(1))
    found = mixed("nnm_trimmed_mean", exchange).models
    for node in range(NODES):
        told = int(liars(exchange)[node])
        rows = np.sort(nearest_mixed(candidates(exchange, node), told), axis=0)
        cut = min(told, (len(rows) - 1) // 2)
        assert close(found[node], rows[cut : len(rows) - cut].mean(0))


@pytest.mark.parametrize("name", ["krum", "nnm_trimmed_mean"])
def test_distances_are_right_far_from_the_origin(name):
    """Products of whole models would lose every digit of these differences."""
    far = an_exchange(drawn() + 4096, hostile={3, 8})
    near = replace(far, trained=far.trained - 4096, table=far.table - 4096)
    torch.testing.assert_close(
        mixed(name, far).models - 4096, mixed(name, near).models, atol=2e-3, rtol=0
    )


@pytest.mark.parametrize("name", ["median", "trimmed_mean", "krum", "nnm_trimmed_mean"])
def test_one_liar_of_six_moves_a_robust_rule_no_farther_than_the_honest_lie_apart(name):
    trained = drawn(nodes=7)
    for forged in (1e4, -1e4):
        sent = trained.clone()
        sent[6] = forged
        exchange = an_exchange(trained, [(0, at) for at in range(1, 7)], {6}, table=sent)
        found = mixed(name, exchange).models[0]
        assert (found >= trained[:6].min(0).values - 1e-2).all()
        assert (found <= trained[:6].max(0).values + 1e-2).all()
