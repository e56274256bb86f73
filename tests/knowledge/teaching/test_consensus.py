"""The consensus: the plain rule where all speak, and its laws where some are silent."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.knowledge.teaching.consensus import consensus, speaking
from konsil.protocol.errors import LocalProtocolError

SEEDS = st.integers(0, 2**32)
TEMPERATURES = st.sampled_from([0.5, 1.0, 2.0, 3.0])


def draw(seed: int, teachers: int = 4, rows: int = 6, classes: int = 5):
    source = torch.Generator().manual_seed(seed)
    sheets = [4 * torch.randn(rows, classes, generator=source) for _ in range(teachers)]
    weights = torch.rand(teachers, generator=source).double()
    seen = torch.rand(teachers, classes, generator=source) < 0.6
    own = torch.randn(rows, classes, generator=source)
    return sheets, weights, seen, own


@given(SEEDS, TEMPERATURES)
@settings(max_examples=30, deadline=None)
def test_where_all_speak_it_is_the_weighted_mean_of_logits(seed, temperature):
    sheets, weights, _, own = draw(seed)
    found = consensus(sheets, weights[:, None].expand(-1, 5), own, temperature=temperature)
    mean = sum(w * z.double() for w, z in zip(weights, sheets, strict=True)) / weights.sum()
    assert torch.allclose(found, torch.softmax(mean / temperature, dim=1), atol=1e-9)


@given(SEEDS, TEMPERATURES)
@settings(max_examples=30, deadline=None)
def test_it_is_the_fit_that_the_docstring_states(seed, temperature):
    """An oracle: the same least squares over a and all b_j, solved as one dense problem."""
    sheets, weights, seen, own = draw(seed)
    strength = weights[:, None] * seen
    found = consensus(sheets, strength, own, temperature=temperature)
    linked = [set(torch.nonzero(row > 0)[:, 0].tolist()) for row in strength]
    if set.union(*linked) != set(range(5)) or len(set.intersection(*linked)) == 0:
        assert torch.allclose(found.sum(dim=1), torch.ones(6).double())
        return
    rows, right = [], []
    for teacher in range(4):
        for place in range(5):
            root = strength[teacher, place].sqrt()
            row = torch.zeros(9, dtype=torch.float64)
            row[place], row[5 + teacher] = root, root
            rows.append(row)
            right.append(root * torch.stack([s[:, place] for s in sheets])[teacher].double())
    solved = torch.linalg.lstsq(torch.stack(rows), torch.stack(right), driver="gelsd").solution
    wanted = torch.softmax(solved[:5].T / temperature, dim=1)
    assert torch.allclose(found, wanted, atol=1e-7)


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_a_teacher_of_weight_0_changes_no_bit(seed):
    sheets, weights, seen, own = draw(seed)
    strength = weights[:, None] * seen
    without = consensus(sheets, strength, own)
    garbage = torch.full_like(sheets[0], torch.nan)
    silent = torch.cat([strength[:2], torch.zeros(1, 5).double(), strength[2:]])
    among = consensus([*sheets[:2], garbage, *sheets[2:]], silent, own)
    assert torch.equal(among, without)


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_what_a_teacher_says_of_a_class_that_it_has_not_seen_changes_no_bit(seed):
    sheets, weights, seen, own = draw(seed)
    strength = weights[:, None] * seen
    changed = [torch.where(mask, z, 1e4 * own) for z, mask in zip(sheets, seen, strict=True)]
    assert torch.equal(consensus(changed, strength, own), consensus(sheets, strength, own))


@given(SEEDS, st.floats(1e-6, 1e6))
@settings(max_examples=30, deadline=None)
def test_order_scale_and_constants_change_roundings_only(seed, factor):
    sheets, weights, seen, own = draw(seed)
    strength = weights[:, None] * seen
    wanted = consensus(sheets, strength, own)
    turned = consensus(sheets[::-1], strength.flip(0) * factor, own)
    lifted = consensus([sheets[0].double() + 50.0, *sheets[1:]], strength, own)
    assert torch.allclose(turned, wanted, atol=1e-8)
    assert torch.allclose(lifted, wanted, atol=1e-8)


@given(SEEDS, TEMPERATURES)
@settings(max_examples=30, deadline=None)
def test_classes_in_another_order_give_the_same_consensus_in_that_order(seed, temperature):
    sheets, weights, seen, own = draw(seed)
    strength = weights[:, None] * seen
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    wanted = consensus(sheets, strength, own, temperature=temperature)[:, order]
    found = consensus(
        [z[:, order] for z in sheets], strength[:, order], own[:, order], temperature=temperature
    )
    assert torch.allclose(found, wanted, atol=1e-8)


@given(SEEDS, TEMPERATURES)
@settings(max_examples=30, deadline=None)
def test_islands_keep_the_mass_that_the_receiver_gives_them(seed, temperature):
    """Two teachers speak of classes 0, 1 and of 2, 3; nobody of 4: three islands."""
    sheets, weights, _, own = draw(seed, teachers=2)
    strength = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 1, 1, 0]]) * weights[:, None]
    found = consensus(sheets, strength, own, temperature=temperature)
    mine = torch.softmax(own.double() / temperature, dim=1)
    for island in ([0, 1], [2, 3], [4]):
        assert torch.allclose(found[:, island].sum(1), mine[:, island].sum(1), atol=1e-9)
    inside = torch.softmax(sheets[0][:, :2].double() / temperature, dim=1)
    assert torch.allclose(found[:, :2] / found[:, :2].sum(1, keepdim=True), inside, atol=1e-9)


def test_with_one_island_the_receivers_own_answer_has_no_influence():
    sheets, _, _, own = draw(3)
    strength = torch.ones(4, 5).double()
    strength[0, 2] = 0
    found = consensus(sheets, strength, own)
    assert torch.equal(found, consensus(sheets, strength, -3 * own))


@pytest.mark.parametrize("strength", [torch.zeros(4, 5), torch.eye(5)[:4]])
def test_who_compares_nothing_teaches_nothing(strength):
    """Nobody has a weight, or each speaks of one class only."""
    sheets, _, _, own = draw(4)
    found = consensus(sheets, strength.double(), own)
    assert torch.equal(found, torch.softmax(own.double(), dim=1))


def test_speaking_is_silent_on_what_the_coverage_does_not_name():
    found = speaking([2.0, 0.5], [{"a", "c"}, {"b", "unheard"}], ("a", "b", "c"))
    assert found.tolist() == [[2.0, 0.0, 2.0], [0.0, 0.5, 0.0]]
    assert speaking([], [], ("a", "b", "c")).shape == (0, 3)


@pytest.mark.parametrize(
    ("weights", "temperature"),
    [
        (torch.ones(3, 5), 1.0),
        (torch.ones(4, 4), 1.0),
        (-torch.ones(4, 5), 1.0),
        (torch.full((4, 5), torch.nan), 1.0),
        (torch.ones(4, 5), 0.0),
        (torch.ones(4, 5), torch.nan),
    ],
)
def test_weights_and_temperatures_that_mean_nothing_are_refused(weights, temperature):
    sheets, _, _, own = draw(5)
    with pytest.raises(LocalProtocolError):
        consensus(sheets, weights, own, temperature=temperature)
    with pytest.raises(LocalProtocolError, match="different shapes"):
        consensus([*sheets[:3], sheets[3][:2]], torch.ones(4, 5), own)


@pytest.mark.parametrize("faint", [1e-6, 1e-16, 1e-300])
def test_a_voice_too_faint_to_link_anything_breaks_nothing(faint):
    weights = torch.tensor([[1, 1, 0, 0], [0, faint, faint, 0], [0, 0, 1, 1.0]]).double()
    sheets = [torch.randn(9, 4, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    found = consensus(sheets, weights, torch.zeros(9, 4))
    assert torch.allclose(found.sum(dim=1), torch.ones(9).double())
