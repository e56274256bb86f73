"""Generated lesions: every image has one, masks are the same on every scanner, seeds decide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from konsil.knowledge.data import lesions
from konsil.knowledge.data.anatomy import MODALITIES
from konsil.knowledge.data.scanners import IDENTITY, SCANNERS
from konsil.protocol.errors import ConfigError

SMALL = (6, 4, 4, 3, 3)


def plain(patients=24, irregular=0.5, name="north"):
    return lesions.Hospital(name, patients, IDENTITY, irregular)


@pytest.mark.parametrize("modality", MODALITIES)
def test_five_unlike_hospitals_in_three_kinds_of_picture(modality):
    found = lesions.generate(modality, lesions.hospitals(SMALL), 3)
    channels = len(MODALITIES[modality].channels)
    assert found.masked.inputs.shape == (sum(SMALL), channels, 64, 64)
    assert np.array_equal(found.masked.inputs, found.kinds.inputs)
    assert found.masked.classes == ("background", "lesion")
    assert found.kinds.classes == ("smooth", "irregular")
    names, counts = np.unique(found.kinds.sites, return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {
        scanner.name: size for scanner, size in zip(SCANNERS, SMALL, strict=True)
    }
    assert len(set(found.kinds.patients)) == sum(SMALL)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(sorted(MODALITIES)),
    st.integers(0, 10**6),
    st.integers(lesions.SMALLEST, 80),
    st.sampled_from([0.0, 1.0]),
)
def test_every_image_has_a_lesion_of_modest_size(modality, seed, size, irregular):
    masks = lesions.generate(modality, [plain(3, irregular)], seed, size=size).masked.targets
    shares = masks.mean(axis=(1, 2))
    assert masks.shape == (3, size, size)
    assert shares.min() > 0.001
    assert shares.max() < 0.25


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_same_seed_gives_the_same_bits_and_another_others(modality):
    sites = lesions.hospitals(SMALL)
    one, again, other = (lesions.generate(modality, sites, seed) for seed in (5, 5, 6))
    assert one.masked.inputs.tobytes() == again.masked.inputs.tobytes()
    assert one.masked.targets.tobytes() == again.masked.targets.tobytes()
    assert not np.array_equal(one.masked.targets, other.masked.targets)


def test_a_hospital_that_grows_keeps_its_patients():
    few = lesions.generate("ct", [lesions.hospitals()[1]], 7, size=32).kinds
    more = lesions.generate("ct", [replace(lesions.hospitals()[1], patients=80)], 7, size=32).kinds
    assert np.array_equal(more.inputs[: len(few)], few.inputs)
    assert np.array_equal(more.targets[: len(few)], few.targets)


@pytest.mark.parametrize("modality", MODALITIES)
def test_another_scanner_shows_the_same_anatomy(modality):
    seen = [
        lesions.generate(modality, [lesions.Hospital("one", 4, scanner)], 2)
        for scanner in (IDENTITY, SCANNERS[1])
    ]
    assert np.array_equal(seen[0].masked.targets, seen[1].masked.targets)
    assert np.array_equal(seen[0].kinds.targets, seen[1].kinds.targets)
    assert not np.array_equal(seen[0].masked.inputs, seen[1].masked.inputs)


def test_a_photograph_is_never_inverted():
    west = SCANNERS[3]
    assert west.inverted
    upright = replace(west, inverted=False)
    skin = [
        lesions.generate("skin", [lesions.Hospital("one", 2, scanner)], 1).kinds.inputs
        for scanner in (west, upright)
    ]
    assert np.array_equal(*skin)
    ct = [
        lesions.generate("ct", [lesions.Hospital("one", 2, scanner)], 1).kinds.inputs
        for scanner in (west, upright)
    ]
    assert np.allclose(ct[0], 1 - ct[1], atol=1e-6)


@pytest.mark.parametrize(
    ("modality", "channel", "brighter"),
    [("skin", 0, False), ("ct", 0, True), ("mri", 0, False), ("mri", 2, True), ("mri", 3, True)],
)
def test_lesions_stand_out_from_what_is_around_them(modality, channel, brighter):
    """Against a ring of three pixels around them, in most images."""
    found = lesions.generate(modality, [plain(30)], 11).masked
    apart = []
    for image, mask in zip(found.inputs[:, channel], found.targets == 1, strict=True):
        ring = ndimage.binary_dilation(mask, iterations=3) & ~ndimage.binary_dilation(mask)
        apart.append(float(image[mask].mean() - image[ring].mean()))
    assert np.mean(np.array(apart) > 0) == pytest.approx(float(brighter), abs=0.1)


def test_irregular_lesions_are_more_ragged_than_smooth_ones():
    """Border pixels for the area: a disc has the fewest."""
    raggedness = []
    for irregular in (0.0, 1.0):
        masks = lesions.generate("ct", [plain(40, irregular)], 13).masked.targets == 1
        border = [mask.sum() - ndimage.binary_erosion(mask).sum() for mask in masks]
        raggedness.append(np.array(border) / np.sqrt(masks.sum(axis=(1, 2))))
    assert np.median(raggedness[1]) > 1.15 * np.median(raggedness[0])


def test_the_share_of_kinds_is_each_hospital_s_own():
    shares = []
    for irregular in (0.2, 0.8):
        kinds = lesions.generate("ct", [plain(120, irregular)], 4, size=32).kinds
        shares.append(kinds.targets.mean())
    assert shares == pytest.approx([0.2, 0.8], abs=0.1)


def test_views_of_a_patient_share_name_and_kind():
    found = lesions.generate("ct", [plain(10)], 5, size=32, views=3).kinds
    assert len(found) == 30
    for place in range(0, 30, 3):
        assert len(set(found.patients[place : place + 3])) == 1
        assert len(set(found.targets[place : place + 3].tolist())) == 1
    assert not np.array_equal(found.inputs[0], found.inputs[1])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"modality": "pet"}, "'pet' is not known"),
        ({"size": 31}, "32 pixels"),
        ({"views": 0}, "one view"),
        ({"sites": []}, "different names"),
        ({"sites": [plain(), plain()]}, "different names"),
    ],
)
def test_wrong_settings_are_named(wrong, told):
    settings_ = {"modality": "ct", "sites": [plain()], "seed": 0, **wrong}
    with pytest.raises(ConfigError, match=told):
        lesions.generate(**settings_)


def test_hospitals_need_patients_and_scanners():
    with pytest.raises(ConfigError, match="one patient"):
        plain(0)
    with pytest.raises(ConfigError, match="irregular"):
        plain(3, 1.5)
    with pytest.raises(ConfigError, match="6 hospitals"):
        lesions.hospitals((1,) * 6)
