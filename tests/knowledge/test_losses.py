"""Private losses: the definition on single rows, and laws of leading dimensions and padding."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from konsil.knowledge.losses import balanced_error, balanced_mean, members, row_losses


def balanced(outputs, targets, classes):
    everything = torch.ones(classes, dtype=torch.bool)
    rows = row_losses(outputs, targets, everything)
    return float(balanced_mean(rows, members(targets, classes)))


def test_balanced_loss_counts_every_class_alike():
    outputs = torch.tensor([[2.0, 0.0]] * 10)
    targets = torch.tensor([0] * 9 + [1])
    low = functional.cross_entropy(outputs[:1], targets[:1])
    high = functional.cross_entropy(outputs[9:], targets[9:])
    assert balanced(outputs, targets, 2) == pytest.approx(float((low + high) / 2))


def test_a_class_without_rows_does_not_count():
    outputs = torch.tensor([[2.0, 0.0, 1.0]] * 3)
    targets = torch.tensor([0, 0, 1])
    seen = torch.tensor([True, True, True])
    rows = row_losses(outputs, targets, seen)
    wanted = (rows[0] + rows[2]) / 2
    assert balanced(outputs, targets, 3) == pytest.approx(float(wanted))


def test_a_node_does_not_judge_classes_that_it_cannot_see():
    targets = torch.tensor([0, 2, 2])
    seen = torch.tensor([True, False, True, False])
    outputs = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    changed = outputs.clone()
    changed[:, [1, 3]] += 50.0
    assert torch.equal(row_losses(outputs, targets, seen), row_losses(changed, targets, seen))
    only = torch.tensor([False, False, True, False])
    assert row_losses(outputs[1:], targets[1:], only).abs().max() == pytest.approx(0.0)


def test_the_error_of_a_balanced_mean_is_what_repeated_samples_show():
    """An oracle: the spread of the balanced mean over many samples of 30 and 10 rows."""
    generator = torch.Generator().manual_seed(5)
    of = members(torch.tensor([0] * 30 + [1] * 10), 2)
    spread = torch.tensor([1.0] * 30 + [3.0] * 10)
    samples = (torch.randn(2000, 40, generator=generator) * spread).double()
    means, errors = balanced_mean(samples, of), balanced_error(samples, of)
    assert float(errors.square().mean().sqrt()) == pytest.approx(float(means.std()), rel=0.05)
    two = members(torch.tensor([0, 1]), 2)
    single = balanced_error(torch.tensor([2.0, -1.0]).double(), two)
    assert float(single) == pytest.approx(5**0.5 / 2)


def test_many_models_are_judged_as_each_would_be_alone_and_padding_counts_nothing():
    generator = torch.Generator().manual_seed(2)
    outputs = torch.randn(5, 7, 3, generator=generator)
    targets = torch.randint(3, (5, 7), generator=generator)
    rows = torch.tensor([7, 3, 5, 1, 6])
    counts = torch.arange(7)[None, :] < rows[:, None]
    seen = torch.rand(5, 3, generator=generator) < 0.5
    seen.scatter_(1, targets, value=True)
    losses = row_losses(outputs, targets, seen)
    of = members(targets, 3, counts)
    means, errors = balanced_mean(losses, of), balanced_error(losses, of)
    for place in range(5):
        n = int(rows[place])
        alone = row_losses(outputs[place, :n], targets[place, :n], seen[place])
        mine = members(targets[place, :n], 3)
        assert float(means[place]) == pytest.approx(float(balanced_mean(alone, mine)))
        assert float(errors[place]) == pytest.approx(float(balanced_error(alone, mine)))
