"""X-rays: official counts, duplicates are one patient, hospitals differ as the table says."""

from __future__ import annotations

import numpy as np
import pytest

from konsil.knowledge.data import xray
from konsil.knowledge.data.images import Images
from konsil.protocol.errors import ConfigError


@pytest.fixture(scope="module")
def collection(data_folder):
    return xray.read(data_folder / xray.FOLDER)


def test_the_parts_have_the_official_counts(collection):
    parts = (collection.train, collection.validation, collection.test)
    assert [np.bincount(part.targets).tolist() for part in parts] == [
        [1214, 3494],
        [135, 389],
        [234, 390],
    ]
    for part in parts:
        assert part.shape == (1, 28, 28)
        assert part.classes == ("normal", "pneumonia")
        assert 0 <= part.inputs.min() < 0.1 < 0.9 < part.inputs.max() <= 1


def test_the_eight_images_of_train_and_validation_are_eight_patients(collection):
    train, validation, test = (
        set(part.patients) for part in (collection.train, collection.validation, collection.test)
    )
    assert len(train & validation) == 8
    assert not test & (train | validation)
    apart = xray.apart(collection.validation, collection.train)
    assert len(apart) == len(collection.validation) - 8
    assert not set(apart.patients) & train


def test_equal_patients_show_equal_images(collection):
    train = collection.train
    places: dict[str, int] = {}
    twice = 0
    for place, patient in enumerate(train.patients):
        first = places.setdefault(patient, place)
        twice += first != place
        assert np.array_equal(train.inputs[first], train.inputs[place])
        assert train.targets[first] == train.targets[place]
    assert twice > 0


def test_hospitals_have_their_sizes_and_prevalences_and_share_nobody(collection):
    dealt = xray.simulated(collection.train, 0)
    assert [len(one) for one in dealt.hospitals] == [400, 250, 150, 100]
    assert [one.targets.mean() for one in dealt.hospitals] == pytest.approx([0.74, 0.5, 0.3, 0.9])
    everybody = [set(one.patients) for one in (*dealt.hospitals, dealt.rest)]
    assert sum(map(len, everybody)) == len(set(collection.train.patients))
    assert set.union(*everybody) == set(collection.train.patients)
    assert [set(one.sites) for one in dealt.hospitals] == [
        {hospital.name} for hospital in xray.HOSPITALS
    ]


def test_only_the_seed_decides_who_goes_where(collection):
    one, again, other = (xray.simulated(collection.train, seed) for seed in (1, 1, 2))
    for mine, same, another in zip(one.hospitals, again.hospitals, other.hospitals, strict=True):
        assert mine.inputs.tobytes() == same.inputs.tobytes()
        assert mine.patients == same.patients
        assert mine.patients != another.patients


def test_the_test_part_is_the_same_patients_under_each_scanner(collection):
    seen = xray.under_each(collection.test, 0)
    assert len(seen) == 4
    for images in seen:
        assert images.patients == collection.test.patients
        assert np.array_equal(images.targets, collection.test.targets)
    assert np.array_equal(seen[0].inputs, collection.test.inputs)
    assert len({images.inputs.tobytes() for images in seen}) == 4


def test_more_than_there_is_cannot_be_dealt(collection):
    few = collection.train.take(np.arange(100))
    with pytest.raises(ConfigError, match="hospital 'plain': too few"):
        xray.simulated(few, 0)


def write(folder, **changed):
    arrays = {}
    for part, count in (("train", 3), ("val", 2), ("test", 2)):
        arrays[f"{part}_images"] = np.zeros((count, 28, 28), np.uint8)
        arrays[f"{part}_labels"] = np.zeros((count, 1), np.uint8)
    np.savez(folder / xray.FILE, **{**arrays, **changed})


def test_an_absent_file_says_how_to_get_it(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no .*pneumoniamnist\.npz") as caught:
        xray.read(tmp_path)
    assert "konsil data fetch pneumoniamnist" in caught.value.hint


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"val_images": np.zeros((2, 28, 27), np.uint8)}, "`val_images` has the shape"),
        ({"val_labels": np.zeros((3, 1), np.uint8)}, "2 images and 3 labels in val"),
        ({"test_labels": np.full((2, 1), 7, np.uint8)}, "no places in 2 classes"),
        ({"test_labels": np.zeros((2, 1))}, "`test_labels` holds float64"),
    ],
)
def test_a_malformed_file_is_named(tmp_path, changed, told):
    write(tmp_path, **changed)
    with pytest.raises(ConfigError, match=told):
        xray.read(tmp_path)


def test_a_small_file_of_the_form_is_read(tmp_path):
    write(tmp_path)
    assert isinstance(xray.read(tmp_path).train, Images)
    assert len(xray.read(tmp_path).train) == 3
