"""Nuclei: sites are the acquisition groups, masks are two classes, parts share no image."""

from __future__ import annotations

import numpy as np
import pytest

from konsil.knowledge.data import nuclei
from konsil.protocol.errors import ConfigError


@pytest.fixture(scope="module")
def images(data_folder):
    return nuclei.read(data_folder / nuclei.FOLDER)


def test_four_groups_without_the_faint_one(images):
    names, counts = np.unique(images.sites, return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {
        "fluo_256x256": 334,
        "fluo_696x520": 90,
        "stain_purple_320x256": 93,
        "stain_white_320x256": 14,
    }
    assert images.shape == (3, 96, 96)
    assert len(set(images.patients)) == 531


def test_masks_are_background_and_nucleus_in_every_image(images):
    assert images.masked
    assert np.unique(images.targets).tolist() == [0, 1]
    shares = images.targets.mean(axis=(1, 2))
    assert shares.min() > 0
    assert 0.05 < shares.mean() < 0.5


def test_masks_lie_on_their_images(images):
    """Nuclei are brighter than their background under fluorescence, and darker when stained."""
    for site, brighter in (("fluo_256x256", True), ("stain_purple_320x256", False)):
        places = np.flatnonzero(np.array(images.sites) == site)[:40]
        inside = images.targets[places] == 1
        grey = images.inputs[places].mean(axis=1)
        apart = [
            one[mask].mean() - one[~mask].mean() for one, mask in zip(grey, inside, strict=True)
        ]
        assert np.mean(np.array(apart) > 0) == pytest.approx(float(brighter), abs=0.2)


def test_the_faint_group_is_read_when_it_is_asked_for(data_folder):
    faint = nuclei.read(data_folder / nuclei.FOLDER, [nuclei.FAINT])
    assert (len(faint), set(faint.sites)) == (16, {nuclei.FAINT})
    with pytest.raises(ConfigError, match="no site brightfield"):
        nuclei.read(data_folder / nuclei.FOLDER, ["brightfield"])


def test_laboratories_have_parts_that_share_no_image(images):
    found = nuclei.laboratories(images, 0)
    assert [(one.name, len(one.train), len(one.test)) for one in found] == [
        ("fluo_256x256", 84, 36),
        ("fluo_696x520", 63, 27),
        ("stain_purple_320x256", 65, 28),
        ("stain_white_320x256", 10, 4),
    ]
    for one in found:
        assert not set(one.train.patients) & set(one.test.patients)
        assert {*one.train.sites, *one.test.sites} == {one.name}
    again, other = nuclei.laboratories(images, 0), nuclei.laboratories(images, 1)
    assert [one.train.patients for one in again] == [one.train.patients for one in found]
    assert [one.train.patients for one in other] != [one.train.patients for one in found]


@pytest.mark.parametrize("settings", [{"most": 1}, {"test_share": 0.0}, {"test_share": 1.0}])
def test_an_empty_part_is_refused(images, settings):
    with pytest.raises(ConfigError):
        nuclei.laboratories(images, 0, **settings)


def test_an_absent_file_and_a_malformed_one_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no .*nuclei96\.npz") as caught:
        nuclei.read(tmp_path)
    assert "--from DIR" in caught.value.hint
    parts = {
        "images": np.zeros((2, 96, 96, 3), np.uint8),
        "masks": np.zeros((3, 96, 96), np.uint8),
        "site": np.array(["fluo_256x256"] * 2),
        "image_id": np.array(["a", "b"]),
    }
    np.savez(tmp_path / nuclei.FILE, **parts)
    with pytest.raises(ConfigError, match="differ in number"):
        nuclei.read(tmp_path)
