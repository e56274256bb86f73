"""Batches: shuffles are permutations, evenly cut, and the same alone as among thousands."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.knowledge.batches import batches, keys_of

hospitals = st.lists(
    st.tuples(st.integers(0, 2**63 - 1), st.integers(1, 40)), min_size=1, max_size=6
)


def steps_of(plan, place) -> list[list[int]]:
    """The batches of one hospital, without padding."""
    pairs = zip(plan.rows[place], plan.counts[place], strict=True)
    return [rows[counts].tolist() for rows, counts in pairs if counts.any()]


@settings(max_examples=100)
@given(hospitals, st.integers(1, 20), st.integers(1, 3), st.integers(1, 50))
def test_each_shuffle_is_every_row_once_in_batches_of_nearly_equal_size(
    several, size, epochs, number
):
    seeds, rows = zip(*several, strict=True)
    plan = batches(keys_of(seeds, number), np.array(rows), size=size, epochs=epochs)
    for place, count in enumerate(rows):
        steps = steps_of(plan, place)
        each = -(-count // size)
        assert len(steps) == epochs * each
        for turn in range(epochs):
            shuffle = steps[turn * each : (turn + 1) * each]
            assert sorted(row for batch in shuffle for row in batch) == list(range(count))
            sizes = {len(batch) for batch in shuffle}
            assert max(sizes) <= size
            assert max(sizes) - min(sizes) <= 1


@settings(max_examples=100)
@given(hospitals, st.integers(1, 20), st.integers(1, 12), st.integers(1, 50))
def test_so_many_steps_go_through_one_shuffle_after_the_other(several, size, steps, number):
    seeds, rows = zip(*several, strict=True)
    plan = batches(keys_of(seeds, number), np.array(rows), size=size, steps=steps)
    for place, count in enumerate(rows):
        mine = steps_of(plan, place)
        assert len(mine) == steps
        each = -(-count // size)
        for begin in range(0, steps - each + 1, each):
            seen = [row for batch in mine[begin : begin + each] for row in batch]
            assert sorted(seen) == list(range(count))


@given(hospitals, st.integers(1, 20), st.integers(1, 3))
def test_a_hospital_gets_alone_what_it_gets_among_others(several, size, epochs):
    seeds, rows = zip(*several, strict=True)
    together = batches(keys_of(seeds, 7), np.array(rows), size=size, epochs=epochs)
    for place, (seed, count) in enumerate(several):
        alone = batches(keys_of([seed], 7), np.array([count]), size=size, epochs=epochs)
        assert steps_of(alone, 0) == steps_of(together, place)


def test_rounds_epochs_and_seeds_are_shuffled_differently():
    def order(seed, number):
        return steps_of(batches(keys_of([seed], number), np.array([200]), size=200, epochs=2), 0)

    first, second = order(1, 1)
    assert first != second
    assert order(1, 1) != order(1, 2)
    assert order(1, 1) != order(2, 1)


def test_every_order_is_about_as_likely():
    """Where row 0 lands over many rounds: the chi-squared statistic of a uniform place."""
    keys = np.concatenate([keys_of([5], number) for number in range(4000)])
    plan = batches(keys, np.full(4000, 8), size=8)
    places = np.argmax(plan.rows[:, 0, :] == 0, axis=-1)
    counts = np.bincount(places, minlength=8)
    assert ((counts - 500) ** 2 / 500).sum() < 24.3  # p = .001 with 7 degrees of freedom


def test_the_weights_of_a_batch_sum_to_one():
    plan = batches(keys_of([1, 2], 1), np.array([5, 17]), size=4)
    sums = plan.weights.sum(axis=-1)
    assert np.allclose(sums[plan.counts.any(axis=-1)], 1)
    assert not plan.weights[~plan.counts].any()
