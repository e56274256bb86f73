"""Rules that merge data vectors: hand-computed values, and the laws of every rule."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.knowledge import pack
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.vectors import merging
from konsil.knowledge.vectors.merging import cohort_weights
from konsil.protocol.errors import ConfigError, LocalProtocolError, ManifestRefused


def vector(seed: int) -> NamedTensors:
    draw = torch.Generator().manual_seed(seed)
    return NamedTensors(
        {"w": torch.randn(3, 4, generator=draw), "b": torch.randn(5, generator=draw)}
    )


def precision(seed: int) -> NamedTensors:
    return vector(seed + 1000).map(torch.square)


def row(*values: float) -> NamedTensors:
    return NamedTensors({"w": torch.tensor(values, dtype=torch.float64)})


def by_fisher(vectors, weights, seeds):
    return merging.fisher(vectors, weights, [precision(seed) for seed in seeds])


RULES = {
    "mean": lambda v, w, s: merging.mean(v, w),
    "total": lambda v, w, s: merging.total(v, w),
    "ties": lambda v, w, s: merging.ties(v, w),
    "ties whole": lambda v, w, s: merging.ties(v, w, keep=1.0),
    "fisher": by_fisher,
}
each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
COHORTS = st.lists(st.tuples(st.integers(0, 50), st.floats(0.01, 1000)), min_size=1, max_size=6)


# ---- values computed by hand ---------------------------------------------------------------


def test_the_mean_is_weighted():
    merged = merging.mean([row(1, 0), row(4, -2)], [1, 2])
    assert merged["w"].tolist() == [3.0, pytest.approx(-4 / 3)]


def test_the_total_of_equal_weights_is_the_plain_sum():
    parts = [row(1, 0), row(4, -2), row(2, 2)]
    assert merging.total(parts, [5, 5, 5])["w"].tolist() == [7.0, 0.0]
    assert merging.total(parts, [0.5, 1, 0])["w"].tolist() == [4.5, -2.0]


def test_ties_trims_elects_and_averages_who_agrees():
    # Kept (half of four elements): [3, -2, 0, 0], [1, 4, 0, 0], [0, 0, -5, 2].
    parts = [row(3, -2, 1, 0.5), row(1, 4, 0.2, 0.1), row(0.3, 0.1, -5, 2)]
    assert merging.ties(parts, [1, 1, 1], keep=0.5)["w"].tolist() == [2.0, 4.0, -5.0, 2.0]
    # The first counts three times: the second element's sign turns.
    assert merging.ties(parts, [3, 1, 1], keep=0.5)["w"].tolist() == [2.5, -2.0, -5.0, 2.0]


def test_ties_gives_a_tie_of_signs_to_the_majority():
    parts = [row(2, 5, 5, 1), row(-2, 5, 5, 1)]
    assert merging.ties(parts, [1, 1], keep=1.0)["w"].tolist() == [2.0, 5.0, 5.0, 1.0]
    assert merging.ties([one * -1.0 for one in parts], [1, 1], keep=1.0)["w"][0] == -2.0


def test_ties_trims_over_all_tensors_together():
    one = NamedTensors({"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([30.0, 40.0])})
    kept = merging.ties([one], [1], keep=0.5)
    assert kept["a"].tolist() == [0.0, 0.0]
    assert kept["b"].tolist() == [30.0, 40.0]


def test_fisher_follows_who_knows_an_element():
    floor = merging.FLOOR
    merged = merging.fisher([row(1, 0), row(3, 6)], [1, 1], [row(2, 0), row(0, 8)])
    sure, unsure = 2 + floor, floor  # each precision divided by its own mean
    assert merged["w"].tolist() == pytest.approx(
        [(sure * 1 + unsure * 3) / (sure + unsure), sure * 6 / (sure + unsure)]
    )


def test_a_declared_precision_buys_no_weight():
    parts = [vector(1), vector(2)]
    fair = merging.fisher(parts, [1, 1], [precision(1), precision(2)])
    loud = merging.fisher(parts, [1, 1], [precision(1) * 1e6, precision(2)])
    assert fair.distance(loud) < 1e-5
    nothing = precision(1) * 0.0
    even = merging.fisher(parts, [1, 3], [nothing, nothing])
    assert even.distance(merging.mean(parts, [1, 3])) < 1e-6


# ---- laws of every rule --------------------------------------------------------------------


@each_rule
@settings(max_examples=25, deadline=None)
@given(cohort=COHORTS, at=st.integers(0, 6), garbage=st.sampled_from([float("nan"), 1e38, 5.0]))
def test_weight_zero_changes_no_bit(rule, cohort, at, garbage):
    seeds, weights = [seed for seed, _ in cohort], [weight for _, weight in cohort]
    vectors = [vector(seed) for seed in seeds]
    alone = rule(vectors, weights, seeds)
    at = min(at, len(vectors))
    bad = vector(77).map(lambda tensor: tensor * garbage)
    vectors.insert(at, bad)
    weights.insert(at, 0.0)
    seeds.insert(at, 77)
    assert pack.to_bytes(rule(vectors, weights, seeds)) == pack.to_bytes(alone)


@each_rule
@settings(max_examples=25, deadline=None)
@given(cohort=COHORTS, order=st.randoms(use_true_random=False))
def test_the_order_does_not_matter(rule, cohort, order):
    shuffled = list(cohort)
    order.shuffle(shuffled)
    one, other = (
        rule([vector(s) for s, _ in each], [w for _, w in each], [s for s, _ in each])
        for each in (cohort, shuffled)
    )
    assert one.distance(other) < 1e-5


@each_rule
@settings(max_examples=25, deadline=None)
@given(cohort=COHORTS, factor=st.sampled_from([0.25, 4.0, 1024.0]))
def test_only_the_ratios_of_weights_count(rule, cohort, factor):
    seeds, weights = [s for s, _ in cohort], [w for _, w in cohort]
    vectors = [vector(seed) for seed in seeds]
    scaled = rule(vectors, [factor * weight for weight in weights], seeds)
    assert scaled.distance(rule(vectors, weights, seeds)) < 1e-5


@each_rule
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), count=st.integers(1, 4))
def test_like_vectors_stay_within_what_they_say(rule, seed, count):
    merged = rule([vector(seed)] * count, [1.0] * count, [seed] * count)
    most = count if rule is RULES["total"] else 1
    assert list(merged) == list(vector(seed))
    assert merged.finite()
    for name, tensor in vector(seed).items():
        kept = merged[name] != 0
        assert torch.allclose(merged[name][kept], most * tensor[kept], atol=1e-5)
        assert bool(kept.all()) or rule is RULES["ties"]


@each_rule
def test_operands_stay_as_they_were(rule):
    vectors = [vector(1), vector(2)]
    before = [pack.to_bytes(one) for one in vectors]
    rule(vectors, [1, 2], [1, 2])["w"].fill_(9.0)
    assert [pack.to_bytes(one) for one in vectors] == before


@each_rule
@pytest.mark.parametrize("weights", [[0, 0], [-1, 2], [float("nan"), 1], [1, float("inf")], [1]])
def test_impossible_weights_are_a_bug(rule, weights):
    with pytest.raises(LocalProtocolError, match="weights"):
        rule([vector(1), vector(2)], weights, [1, 2])


@each_rule
def test_vectors_that_do_not_fit_are_refused(rule):
    for odd, said in (
        (vector(1).select(["w"]), "only one of two"),
        (NamedTensors({**vector(1), "b": torch.zeros(4)}), "shapes"),
        (NamedTensors({**vector(1), "b": torch.zeros(5, dtype=torch.int64)}), "counters"),
        (vector(1) * float("inf"), "not finite"),
    ):
        with pytest.raises(ManifestRefused, match=said):
            rule([vector(2), odd], [1, 1], [2, 1])


def test_a_sum_that_overflows_is_refused():
    big = NamedTensors({"w": torch.full((2,), 3e38)})
    with pytest.raises(ManifestRefused, match="too large"):
        merging.total([big, big], [1, 1])
    assert merging.mean([big, big], [1, 1])["w"][0] == big["w"][0]


@pytest.mark.parametrize("keep", [0.0, -0.1, 1.1, float("nan")])
def test_ties_keeps_a_share(keep):
    with pytest.raises(ConfigError, match="cannot keep"):
        merging.ties([vector(1)], [1], keep=keep)


def test_a_precision_that_cannot_be_is_refused():
    for odd, said in (
        (precision(1) * -1.0, "negative"),
        (precision(1).select(["w"]), "only one"),
        (precision(1) * float("nan"), "not finite"),
    ):
        with pytest.raises(ManifestRefused, match=said):
            merging.fisher([vector(1), vector(2)], [1, 1], [odd, odd])
    with pytest.raises(LocalProtocolError, match="2 vectors and 1 precisions"):
        merging.fisher([vector(1), vector(2)], [1, 1], [precision(1)])


def test_the_rules_by_name_need_nothing_else():
    for rule in [*merging.RULES.values(), partial(merging.ties, keep=0.2)]:
        assert rule([vector(1), vector(2)], [1, 1]).finite()


# ---- weights of cohorts --------------------------------------------------------------------


def test_a_declared_size_does_not_buy_weight():
    assert cohort_weights([100, 200, 100], [1, 1, 0.5]) == (100, 200, 50)
    assert cohort_weights([100, 1_000_000, 100], [1, 1, 1]) == (100, 400, 100)
    assert cohort_weights([100, 1_000_000, 100], [1, 0, 1]) == (100, 0, 100)
    assert cohort_weights([0, 0], [1, 1]) == (1, 1)
    assert cohort_weights([10, 10], [0, 0]) == (0, 0)
    assert cohort_weights([], []) == ()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0, 10, 50, 100, 1000]), st.floats(0, 1)), min_size=1, max_size=8
    ),
    st.sampled_from([0, 10, 1_000_000]),
)
def test_laws_of_cohort_weights(members, liar):
    sizes, trusts = [n for n, _ in members], [t for _, t in members]
    found = cohort_weights(sizes, trusts)
    assert all((weight > 0) == (trust > 0) for weight, trust in zip(found, trusts, strict=True))
    shuffled = cohort_weights(sizes[::-1], trusts[::-1])
    assert shuffled == found[::-1]
    assert cohort_weights([*sizes, liar], [*trusts, 0.0]) == (*found, 0.0)


def test_impossible_cohorts_are_a_bug():
    for buckets, trusts in (([1], []), ([-1], [1]), ([1], [-1]), ([1], [float("nan")])):
        with pytest.raises(LocalProtocolError, match="cohorts"):
            cohort_weights(buckets, trusts)
