"""Augmentation: seeded, masks go with images, and what is inside stays what it is."""

from __future__ import annotations

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.knowledge.imaging.augment import Augmentation, augmented

EVERYTHING = Augmentation(flip=True, turn=True, shift=3, crop=6, gain=0.3, gamma=0.3)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(seed: int, count: int = 6, height: int = 8, width: int = 8):
    inputs = torch.rand(count, 2, height, width, generator=seeded(seed))
    return inputs, (inputs[:, 0] > 0.5).long()


wishes = st.builds(
    Augmentation,
    flip=st.booleans(),
    turn=st.booleans(),
    shift=st.integers(0, 4),
    crop=st.sampled_from([0, 3, 8, 20]),
)


@settings(max_examples=60, deadline=None)
@given(wishes, st.integers(0, 10**6), st.sampled_from([(8, 8), (8, 5)]))
def test_a_mask_goes_every_way_that_its_image_goes(wish, seed, size):
    inputs, masks = batch(seed, 6, *size)
    images, followed = augmented(inputs, masks, wish, seeded(seed))
    assert torch.equal(followed, (images[:, 0] > 0.5).long())
    assert followed.dtype == torch.int64
    length = [min(wish.crop or side, side) for side in size]
    assert images.shape == (6, 2, *length)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_flips_and_turns_only_move_pixels(seed):
    inputs, masks = batch(seed)
    images, _ = augmented(inputs, masks, Augmentation(flip=True, turn=True), seeded(seed))
    for one, other in zip(inputs, images, strict=True):
        assert torch.equal(one.flatten(1).sort(1).values, other.flatten(1).sort(1).values)


def test_the_same_generator_gives_the_same_and_the_input_stays():
    inputs, masks = batch(1)
    kept = inputs.clone(), masks.clone()
    one = augmented(inputs, masks, EVERYTHING, seeded(4))
    other = augmented(inputs, masks, EVERYTHING, seeded(4))
    third = augmented(inputs, masks, EVERYTHING, seeded(5))
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert not torch.equal(one[0], third[0])
    assert torch.equal(inputs, kept[0])
    assert torch.equal(masks, kept[1])


def test_all_eight_positions_of_a_square_occur_and_two_of_its_corners_never_part():
    image = torch.arange(9.0).view(1, 1, 3, 3) / 9
    targets = torch.zeros(400, dtype=torch.long)
    wish = Augmentation(flip=True, turn=True)
    images, same = augmented(image.expand(400, -1, -1, -1), targets, wish, seeded(1))
    assert len({tuple(one.flatten().tolist()) for one in images}) == 8
    assert torch.equal(same, targets)


def test_an_image_that_is_not_square_is_only_turned_by_half():
    image = torch.arange(6.0).view(1, 1, 2, 3) / 6
    images, _ = augmented(
        image.expand(60, -1, -1, -1), torch.zeros(60), Augmentation(turn=True), seeded(1)
    )
    found = {tuple(one.flatten().tolist()) for one in images}
    whole = tuple(image.flatten().tolist())
    assert found == {whole, whole[::-1]}


def test_brightness_keeps_the_order_of_pixels_and_their_range():
    inputs, labels = batch(2)
    images, _ = augmented(inputs, labels, Augmentation(gain=0.5, gamma=0.5), seeded(3))
    assert 0 <= float(images.min()) < float(images.max()) <= 1
    assert not torch.allclose(images, inputs)
    for one, other in zip(inputs.flatten(1), images.flatten(1), strict=True):
        assert (other[one.argsort()].diff() >= 0).all()


def test_a_shift_repeats_the_edge():
    image = torch.arange(5.0).view(1, 1, 1, 5).expand(200, 1, 4, 5) / 5
    images, _ = augmented(image, torch.zeros(200), Augmentation(shift=2), seeded(1))
    rows = {tuple((one[0, 0] * 5).round().int().tolist()) for one in images}
    assert rows == {
        (0, 0, 0, 1, 2), (0, 0, 1, 2, 3), (0, 1, 2, 3, 4), (1, 2, 3, 4, 4), (2, 3, 4, 4, 4)
    }  # fmt: skip


def test_nothing_is_the_default_and_unknown_words_are_refused():
    inputs, masks = batch(3)
    same = augmented(inputs, masks, Augmentation(), seeded(1))
    assert torch.equal(same[0], inputs)
    assert torch.equal(same[1], masks)
    assert not Augmentation().active
    assert Augmentation(shift=1).active
    for wrong in ({"mirror": True}, {"shift": -1}, {"gain": 3.0}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, Augmentation)
