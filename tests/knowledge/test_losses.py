"""Private losses: the definition on single rows, and laws of leading dimensions and padding."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from konsil.knowledge.losses import (
    balanced_error,
    balanced_mean,
    mask_error,
    mask_losses,
    mask_mean,
    mask_members,
    members,
    row_losses,
)


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


# ---- masks -------------------------------------------------------------------------------


def masks(seed: int, images: int = 4, classes: int = 3):
    draw = torch.Generator().manual_seed(seed)
    targets = torch.randint(classes, (images, 5, 6), generator=draw)
    targets[0] = 0
    return torch.randn(images, classes, 5, 6, generator=draw), targets


def test_the_loss_of_a_mask_is_the_mean_over_each_class_of_an_image():
    outputs, targets = masks(1)
    found = mask_losses(outputs, targets, None)
    pixels = functional.cross_entropy(outputs.double(), targets, reduction="none")
    for image in range(4):
        for k in range(3):
            mine = pixels[image][targets[image] == k]
            wanted = float(mine.mean()) if len(mine) else 0.0
            assert float(found[image, k]) == pytest.approx(wanted)
    of = mask_members(targets, 3)
    assert of.tolist() == [[1, 0, 0], [1, 1, 1], [1, 1, 1], [1, 1, 1]]
    means = [found[:, 0].mean(), found[1:, 1].mean(), found[1:, 2].mean()]
    assert float(mask_mean(found, of)) == pytest.approx(float(sum(means) / 3))


def test_a_large_background_does_not_drown_a_lesion():
    targets = torch.zeros(1, 50, 50, dtype=torch.long)
    targets[0, 3, 3] = 1
    nothing = torch.tensor([4.0, 0.0])[None, :, None, None].expand(1, 2, 50, 50)
    of = mask_members(targets, 2)
    blind = float(mask_mean(mask_losses(nothing, targets, None), of))
    unsure = float(mask_mean(mask_losses(nothing * 0, targets, None), of))
    assert unsure < blind
    assert float(functional.cross_entropy(nothing, targets)) < 0.1


def test_masks_are_not_judged_by_classes_that_are_not_seen():
    outputs, targets = masks(2)
    targets[targets == 2] = 1
    seen = torch.tensor([True, True, False])
    changed = outputs.clone()
    changed[:, 2] += 50
    assert torch.equal(mask_losses(outputs, targets, seen), mask_losses(changed, targets, seen))
    alone = mask_losses(outputs[:, :2], targets, None)
    assert torch.allclose(mask_losses(outputs, targets, seen)[:, :2], alone)


def test_the_error_of_a_mask_mean_is_what_repeated_samples_show():
    """An oracle: images whose classes share an image's luck, drawn many times."""
    draw = torch.Generator().manual_seed(3)
    of = torch.ones(40, 2).double()
    of[25:, 1] = 0
    luck = torch.randn(3000, 40, 1, generator=draw).double()
    samples = luck + 0.5 * torch.randn(3000, 40, 2, generator=draw).double()
    means = torch.stack([mask_mean(one, of) for one in samples])
    errors = torch.stack([mask_error(one, of) for one in samples])
    assert float(errors.square().mean().sqrt()) == pytest.approx(float(means.std()), rel=0.06)
    apart = torch.stack([mask_error(one.flip(0) * of, of) for one in samples])
    assert torch.isfinite(apart).all()


def test_one_image_a_class_is_its_own_spread_as_for_rows():
    of = torch.eye(2).double()
    values = torch.tensor([[2.0, 0.0], [0.0, -1.0]]).double()
    rows = balanced_error(torch.tensor([2.0, -1.0]).double(), members(torch.tensor([0, 1]), 2))
    assert float(mask_error(values, of)) == pytest.approx(float(rows))
    single = torch.zeros(6, 2).double()
    single[:4, 0] = single[4:, 1] = 1
    drawn = torch.randn(6, generator=torch.Generator().manual_seed(4)).double()
    wanted = balanced_error(drawn, members(torch.tensor([0] * 4 + [1] * 2), 2))
    assert float(mask_error(drawn[:, None] * single, single)) == pytest.approx(float(wanted))
