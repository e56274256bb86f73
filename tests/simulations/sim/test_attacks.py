"""Every attack: what its formula says, on tensors small enough to check by hand."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from konsil.simulations.sim.attacks import ATTACKS, min_max, noisy_copy, opt_ipm
from konsil.simulations.sim.attacks.forge import forge
from konsil.simulations.sim.attacks.view import View
from konsil.simulations.sim.links import Links

NODES, ELEMENTS = 10, 6
HOSTILE = np.array([2, 5, 7])
HONEST = np.array([0, 1, 3, 4, 6, 8, 9])
RING = [(at, (at + step) % NODES) for at in range(NODES) for step in (1, 2)]
SENDING = sorted(name for name in ATTACKS if ATTACKS[name].release or ATTACKS[name].per_link)
TO_ALL = sorted(name for name in ATTACKS if ATTACKS[name].release)
PER_LINK = sorted(name for name in ATTACKS if ATTACKS[name].per_link)


def a_view(seed=0, number=6, strength=None, edges=RING, **changes) -> View:
    draw = torch.Generator().manual_seed(seed)
    before = torch.randn(NODES, ELEMENTS, generator=draw)
    step = torch.randn(NODES, ELEMENTS, generator=draw) * 0.1 + 0.05
    fields = {
        "number": number,
        "rounds": 40,
        "before": before,
        "trained": before + step,
        "links": Links.between(NODES, edges),
        "hostile": HOSTILE,
        "strength": strength,
        "generator": torch.Generator().manual_seed(seed),
        "classes": 3,
    }
    return View(**(fields | changes))


def by_hand(honest_updates, hostile_before=(0.0, 0.0), **changes) -> View:
    """A view in which honest nodes are few, and the last node is hostile and began there."""
    updates = torch.tensor(honest_updates)
    before = torch.cat([torch.zeros_like(updates), torch.tensor([hostile_before])])
    trained = torch.cat([updates, torch.tensor([[9.0, 9.0]])])
    count = len(before)
    every = [(a, b) for a in range(count) for b in range(a)]
    return a_view(
        before=before,
        trained=trained,
        links=Links.between(count, every),
        hostile=np.array([count - 1]),
        **changes,
    )


def released(name, view):
    return ATTACKS[name].release(view)


# All attacks ----------------------------------------------------------------------------


def test_names_are_known_without_torch():
    code = (
        "import sys; from konsil.simulations.sim.attacks import ATTACKS;"
        "assert 'torch' not in sys.modules; print(' '.join(ATTACKS))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {
        *(f"{form}_{lie}{noise}" for form in ("logits", "labels") for lie in ("flip", "lma", "cpa")
          for noise in ("", "+noise")),
        "sign_flip", "ipm", "opt_ipm", "alie", "min_max", "min_sum", "mimic", "dissensus",
        "creep", "label_flip", "label_flip_boosted", "backdoor", "free_rider", "on_off",
        "noisy_copy", "sybil", "adaptive",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_what_is_sent_is_finite_its_own_and_the_same_for_a_seed(name):
    view = a_view()
    forged, again = forge([name], view), forge([name], a_view())
    assert torch.isfinite(forged.rows).all()
    assert torch.equal(forged.rows, again.rows)
    assert forged.source.tolist() == again.source.tolist()
    sent = forged.rows[forged.source]
    honest = view.trained[view.links.sender[forged.links]]
    differs = (sent - honest).abs().amax(dim=1) > 1e-3
    assert differs.all() if name in SENDING else not differs.any()


@pytest.mark.parametrize("name", SENDING)
def test_nothing_that_is_seen_is_written_into(name):
    view, same = a_view(), a_view()
    forge([name], view).rows.add_(1)
    assert torch.equal(view.before, same.before)
    assert torch.equal(view.trained, same.trained)


@pytest.mark.parametrize("name", SENDING)
def test_the_scenarios_strength_matters_where_an_attack_has_one(name):
    own, weak = forge([name], a_view()), forge([name], a_view(strength=0.5))
    assert (ATTACKS[name].strength is None) == torch.equal(own.rows, weak.rows)


@pytest.mark.parametrize("name", TO_ALL)
def test_with_one_honest_node_an_attack_is_still_finite(name):
    view = a_view(hostile=np.arange(1, NODES))
    assert torch.isfinite(released(name, view)).all()


@pytest.mark.parametrize("name", ["ipm", "opt_ipm", "alie", "min_max", "min_sum", "mimic"])
def test_colluders_look_at_honest_updates_only(name):
    view = a_view()
    other = a_view()
    other.trained[HOSTILE] += 100
    assert torch.equal(released(name, view), released(name, other))


# Own steps ------------------------------------------------------------------------------


def test_sign_flip_turns_the_own_step_round():
    view = a_view()
    step = (view.trained - view.before)[HOSTILE]
    torch.testing.assert_close(released("sign_flip", view), view.before[HOSTILE] - 5 * step)
    twice = released("sign_flip", a_view(strength=2.0))
    torch.testing.assert_close(twice, view.before[HOSTILE] - 2 * step)


def test_a_free_rider_sends_what_it_had():
    view = a_view()
    assert torch.equal(released("free_rider", view), view.before[HOSTILE])


def test_on_and_off_changes_every_five_rounds():
    hostile = [
        torch.equal(released("on_off", view), released("sign_flip", view))
        for view in (a_view(number=number) for number in range(1, 21))
    ]
    assert hostile == ([False] * 5 + [True] * 5) * 2
    quiet = a_view(number=3)
    assert torch.equal(released("on_off", quiet), quiet.trained[HOSTILE])


def test_sybils_send_one_model_byte_for_byte():
    view = a_view()
    sent = released("sybil", view)
    assert sent.shape == (3, ELEMENTS)
    assert torch.equal(sent, released("sign_flip", view)[:1].expand(3, -1))


def test_noisy_copies_lie_a_tenth_of_a_step_from_one_model():
    view = a_view()
    noise = released("noisy_copy", view) - released("sign_flip", view)[:1]
    typical = (view.trained - view.before)[HONEST].norm(dim=1).median()
    expected = torch.full((3,), noisy_copy.NOISE * float(typical))
    torch.testing.assert_close(noise.norm(dim=1), expected, atol=1e-5, rtol=1e-4)
    assert torch.cdist(noise, noise).fill_diagonal_(1).min() > 1e-3
    other = released("noisy_copy", a_view(generator=torch.Generator().manual_seed(8)))
    assert not torch.equal(other, released("noisy_copy", a_view()))


# Against the mean of honest updates -----------------------------------------------------

THREE = [[1.0, 0.0], [2.0, 0.0], [3.0, 6.0]]
"""Mean (2, 2); deviations √(2/3) and √8."""


def test_ipm_by_hand():
    sent = released("ipm", by_hand(THREE, (10.0, 20.0)))
    assert sent.tolist() == [[10 - 3.0, 20 - 3.0]]
    half = released("ipm", by_hand(THREE, strength=0.5))
    assert half.tolist() == [[-1.0, -1.0]]


def test_alie_by_hand():
    sent = released("alie", by_hand(THREE, (10.0, 20.0)))
    expected = [[12 - 1.5 * math.sqrt(2 / 3), 22 - 1.5 * math.sqrt(8)]]
    torch.testing.assert_close(sent, torch.tensor(expected))


def test_mimics_repeat_the_first_honest_update():
    view = a_view()
    step = (view.trained - view.before)[0]
    torch.testing.assert_close(released("mimic", view), view.before[HOSTILE] + step)


def test_optimal_ipm_goes_as_far_against_the_mean_as_honest_updates_spread():
    view = a_view()
    updates = (view.trained - view.before)[HONEST]
    mean = updates.mean(0)
    forged = (released("opt_ipm", view) - view.before[HOSTILE])[0]
    spread = float((updates - mean).norm(dim=1).max())
    assert float((forged - mean).norm()) == pytest.approx(spread, rel=1e-4)
    assert float(torch.cosine_similarity(forged - mean, -mean, dim=0)) == pytest.approx(1)
    found = [
        epsilon
        for epsilon in np.linspace(-1, 10, 1101)
        if float((-epsilon * mean - mean).norm()) <= spread
    ]
    assert opt_ipm.largest(updates) == pytest.approx(max(found), abs=0.011)


def test_optimal_ipm_where_all_agree_stays_with_them():
    sent = released("opt_ipm", by_hand([[1.0, 2.0]] * 3))
    torch.testing.assert_close(sent, torch.tensor([[1.0, 2.0]]))


# Min-max and min-sum --------------------------------------------------------------------


def farthest_pair(forged, updates):
    return float((updates - forged).norm(dim=1).max()), float(torch.cdist(updates, updates).max())


def largest_sum(forged, updates):
    honest = torch.cdist(updates, updates).square().sum(1).max()
    return float((updates - forged).square().sum()), float(honest)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("name", "gap", "bound", "turned"),
    [
        ("min_max", min_max.gap_of_maximum, farthest_pair, lambda mean: -mean / mean.norm()),
        ("min_sum", min_max.gap_of_sum, largest_sum, lambda mean: -mean.sign()),
    ],
)
def test_the_forged_update_keeps_the_bound_and_hardly_more_would_break_it(
    seed, name, gap, bound, turned
):
    view = a_view(seed)
    updates = (view.trained - view.before)[HONEST].double()
    mean = updates.mean(0)
    direction = turned(mean)
    forged = (released(name, view) - view.before[HOSTILE])[0].double()
    reached, allowed = bound(forged, updates)
    assert reached <= allowed * (1 + 1e-5)
    found = gap(updates - mean, direction)
    torch.testing.assert_close(forged, mean + found * direction, atol=1e-5, rtol=1e-4)
    beyond, allowed = bound(mean + 1.01 * found * direction, updates)
    assert beyond > allowed


def test_min_max_by_hand():
    """Updates 0 and 2 on one axis are 2 apart: nothing below 0 is within 2 of both."""
    sent = released("min_max", by_hand([[0.0, 0.0], [2.0, 0.0]]))
    assert sent.tolist() == [[0.0, 0.0]]
    sent = released("min_sum", by_hand([[0.0, 0.0], [2.0, 0.0]]))
    assert sent.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("watched", [2, 3])
def test_a_farthest_pair_that_is_missed_leaves_the_bound_kept(watched, monkeypatch):
    monkeypatch.setattr(min_max, "WATCHED", watched)
    for seed in range(20):
        view = a_view(seed)
        updates = (view.trained - view.before)[HONEST]
        forged = (released("min_max", view) - view.before[HOSTILE])[0]
        reached, allowed = farthest_pair(forged, updates)
        assert reached <= allowed * (1 + 1e-5)


# Link by link ---------------------------------------------------------------------------


def test_dissensus_is_the_papers_formula():
    view = a_view(edges=[*RING, (0, 5), (3, 7)])
    links = view.links
    degrees = links.degrees
    sent = ATTACKS["dissensus"].per_link(view)
    hostile = set(HOSTILE.tolist())
    for row, at in zip(sent, view.hostile_links, strict=True):
        receiver = links.receiver[at]
        heard = links.sender[links.receiver == receiver].tolist()
        weight = {j: 1 / (1 + max(degrees[receiver], degrees[j])) for j in heard}
        own = view.trained[receiver]
        pull = sum(
            (weight[k] * (view.trained[k] - own) for k in heard if k not in hostile),
            torch.zeros(ELEMENTS),
        )
        refused = sum(weight[j] for j in heard if j in hostile)
        torch.testing.assert_close(row, own - 1.5 * pull / refused, atol=1e-5, rtol=1e-4)


def test_dissensus_at_strength_one_undoes_the_pull_of_honest_neighbours():
    """Law: a plain mean with Metropolis weights leaves every attacked node where it was."""
    view = a_view(strength=1.0)
    links, weights = view.links, 0.2
    sent = view.trained[links.sender]
    sent[view.hostile_links] = ATTACKS["dissensus"].per_link(view)
    for node in HONEST:
        mine = links.receiver == node
        if np.isin(links.sender[mine], HOSTILE).any():
            moved = (sent[mine] - view.trained[node]).sum(0) * weights
            torch.testing.assert_close(moved, torch.zeros(ELEMENTS), atol=1e-5, rtol=0)


def test_creep_turns_the_receivers_step_round():
    view = a_view()
    receivers = view.links.receiver[view.hostile_links]
    step = (view.trained - view.before)[receivers]
    sent = ATTACKS["creep"].per_link(view)
    torch.testing.assert_close(sent, view.before[receivers] - step)
    echo = ATTACKS["creep"].per_link(a_view(strength=1.0))
    torch.testing.assert_close(echo, view.before[receivers])


# Forging --------------------------------------------------------------------------------


def test_every_hostile_link_brings_its_senders_row():
    view = a_view()
    forged = forge(["sign_flip"], view)
    assert forged.links.tolist() == np.flatnonzero(np.isin(view.links.sender, HOSTILE)).tolist()
    assert HOSTILE[forged.source].tolist() == view.links.sender[forged.links].tolist()
    assert torch.equal(forged.rows, released("sign_flip", view))


@pytest.mark.parametrize("name", PER_LINK)
def test_an_attack_link_by_link_gives_every_link_a_row(name):
    view = a_view()
    forged = forge([name], view)
    assert torch.equal(forged.rows[:3], view.trained[HOSTILE])
    # A view of its own, because an attack draws from its view's generator.
    assert torch.equal(forged.rows[forged.source], ATTACKS[name].per_link(a_view()))


def test_byzantine_nodes_take_attacks_in_turn():
    """Nodes 2 and 7 take the first, 5 the second."""
    view = a_view()
    forged = forge(["sign_flip", "free_rider"], view)
    flip, rider = released("sign_flip", view), released("free_rider", view)
    assert torch.equal(forged.rows, torch.stack([flip[0], rider[1], flip[2]]))


def test_attacks_of_every_kind_go_together():
    view = a_view()
    forged = forge(["creep", "ipm", "label_flip"], view)
    sender = view.links.sender[forged.links]
    sent = forged.rows[forged.source]
    creep = ATTACKS["creep"].per_link(view)
    assert torch.equal(sent[sender == 2], creep[sender == 2])
    assert torch.equal(forged.rows[1], released("ipm", view)[1])
    assert torch.equal(sent[sender == 7], view.trained[7].expand(int((sender == 7).sum()), -1))
    assert len(forged.rows) == 3 + int((sender == 2).sum())


def test_a_round_without_links_forges_models_that_nobody_hears():
    for name in SENDING:
        forged = forge([name], a_view(edges=[]))
        assert len(forged.rows) == 3
        assert len(forged.links) == len(forged.source) == 0


def test_more_attacks_than_attackers_and_the_rest_is_not_used():
    view = a_view(hostile=HOSTILE[:1])
    forged = forge(["free_rider", "sign_flip"], view)
    assert torch.equal(forged.rows, view.before[HOSTILE[:1]])
