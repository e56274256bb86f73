"""Imaging tasks: options to hospital, for every kind of data that needs no download or has it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from konsil.knowledge import train
from konsil.knowledge.data import xray
from konsil.knowledge.imaging import search
from konsil.knowledge.imaging.tasks import classify, segment
from konsil.knowledge.judge import Judge
from konsil.knowledge.task import TaskConfig, load_factory
from konsil.knowledge.teaching import generated
from konsil.protocol.errors import ConfigError

SMALL = {"size": 32, "local_steps": 2, "batch": 4, "site": 3}


@pytest.fixture
def real_data(data_folder, monkeypatch):
    monkeypatch.setenv("KONSIL_DATA", str(data_folder))


def config(home, name="a", **options) -> TaskConfig:
    return TaskConfig(home, name, 1, options)


@pytest.mark.parametrize(("modality", "channels"), [("skin", 3), ("ct", 1), ("mri", 4)])
def test_lesions_are_classified_and_segmented_in_every_modality(modality, channels, tmp_path):
    kinds = classify(config(tmp_path, modality=modality, **SMALL))
    masks = segment(config(tmp_path, modality=modality, **SMALL))
    assert kinds.classes == ("smooth", "irregular")
    assert masks.classes == ("background", "lesion")
    assert (kinds.problem, masks.problem) == ("classes", "masks")
    for task in (kinds, masks):
        assert task.train.inputs.shape[1:] == (channels, 32, 32)
        start = train.initial_model(task, 1)
        done = train.train(task, start, seed=1, node="a", number=1)
        gain, error = Judge(task, "cpu").gain(start, done.model)
        assert np.isfinite([done.loss, gain, error]).all()
    assert set(kinds.train.patients).isdisjoint(kinds.test().patients)


def test_a_hospital_keeps_no_more_patients_than_asked_for(tmp_path):
    all_of_them = classify(config(tmp_path, **SMALL | {"site": 0}))
    few = classify(config(tmp_path, patients=16, **SMALL | {"site": 0}))
    own = {*few.train.patients, *few.holdout.patients}
    assert len(own) == 16
    assert own < {*all_of_them.train.patients, *all_of_them.holdout.patients}
    assert few.test().patients == all_of_them.test().patients


def test_all_ask_the_same_about_images_that_nobody_has(tmp_path):
    asked = [classify(config(tmp_path, question=20, **SMALL | {"site": site})) for site in (0, 1)]
    questions = [task.question() for task in asked]
    assert questions[0].digest == questions[1].digest
    assert questions[0].inputs.shape == (20, 3, 32, 32)
    assert questions[0].classes == asked[0].classes
    other = classify(config(tmp_path, question=20, split_seed=9, **SMALL)).question()
    assert other.digest != questions[0].digest
    assert segment(config(tmp_path, **SMALL)).question is None


def test_a_public_mean_image_is_asked_about_where_there_is_one(tmp_path):
    mean = np.full((3, 32, 32), 90, dtype=np.uint8)
    np.save(tmp_path / "mean.npy", mean)
    asked = {"question": 20, "atlas": "mean.npy", **SMALL}
    found = classify(config(tmp_path, **asked)).question()
    seed = config(tmp_path, **asked)
    wanted = generated.atlas(20, mean, found.classes, seed=seed.seed)
    assert found.digest == wanted.digest
    for wrong in (mean[:1], mean.astype(float)):
        np.save(tmp_path / "mean.npy", wrong)
        with pytest.raises(ConfigError, match=r"mean\.npy is no image of uint8"):
            classify(config(tmp_path, **asked)).question()
    (tmp_path / "mean.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(ConfigError, match=r"atlas: .*mean\.npy"):
        classify(config(tmp_path, **asked)).question()


@pytest.mark.usefixtures("real_data")
def test_x_ray_asks_about_public_images_that_no_hospital_has(tmp_path):
    options = {"dataset": "pneumoniamnist", "question": 50}
    tasks = [classify(config(tmp_path, site=site, **options)) for site in range(2)]
    levels = [task.question().levels for task in tasks]
    assert np.array_equal(*levels)
    asked = {one.tobytes() for one in levels[0]}
    own = np.rint(tasks[0].train.inputs.numpy() * 255).astype(np.uint8)
    assert not asked & {one.tobytes() for one in own}


def test_hospitals_differ_and_the_split_seed_is_its_own(tmp_path):
    small = {key: SMALL[key] for key in ("size",)}
    one = segment(config(tmp_path, site=3, **small))
    other = segment(config(tmp_path, site=2, **small))
    assert set(one.train.patients).isdisjoint(other.train.patients)
    assert one.name == other.name == "imaging/lesions"
    again = segment(TaskConfig(tmp_path, "a", 1, {"site": 3, **small}))
    assert torch.equal(one.train.inputs, again.train.inputs)
    moved = segment(config(tmp_path, site=3, split_seed=5, **small))
    assert not torch.equal(one.train.inputs[:5], moved.train.inputs[:5])


def test_options_reach_the_fitting(tmp_path):
    options = {
        "augmentation": {"flip": True, "shift": 2},
        "plan": {"kind": "cosine", "rounds": 9},
        "optimiser": "adam", "lr": 0.01, "weighted": True, "dice": 0.5, "model": "unet:4-8",
    }  # fmt: skip
    task = segment(config(tmp_path, **SMALL, **options))
    fit = dataclasses.asdict(task.fit)
    assert (fit["optimiser"], fit["rate"], fit["steps"], fit["batch"]) == ("adam", 0.01, 2, 4)
    assert (fit["weighted"], fit["dice"]) == (True, 0.5)
    assert (task.fit.augmentation.shift, task.fit.plan.rounds) == (2, 9)
    assert task.name == "imaging/lesions"
    whole = segment(config(tmp_path, **SMALL | {"local_steps": 0, "local_epochs": 3}))
    assert (whole.fit.steps, whole.fit.epochs, whole.local_steps) == (None, 3, None)


def test_the_factories_are_found_by_name(tmp_path):
    for factory in (classify, segment):
        spec = f"konsil.knowledge.imaging.tasks:{factory.__name__}"
        assert load_factory(spec, tmp_path) is factory


def arrays(path, masks: bool, sites=("bern", "graz")):
    random = np.random.default_rng(1)
    count = 12 * len(sites)
    images = random.random((count, 3, 10, 12))
    labels = np.arange(count) % 2
    if masks:
        labels = (images[:, 0] > 0.6).astype(np.int64)
    np.savez(path, x=images, y=labels, site=np.repeat(sites, 12))


def test_own_arrays_with_sites(tmp_path):
    arrays(tmp_path / "own.npz", masks=True)
    options = {"dataset": "own.npz", "classes": ["ground", "spot"], "model": "unet:4-8"}
    task = segment(config(tmp_path, "bern", **options))
    assert len(task.train) + len(task.holdout) == 12
    assert task.name == "imaging/own"
    assert task.train.targets.shape[1:] == (10, 12)
    graz = segment(config(tmp_path, "bern", site="graz", test=0.25, **options))
    assert len(graz.train) + len(graz.holdout) == 9
    with pytest.raises(ConfigError, match=r"'ulm'.* is no hospital"):
        segment(config(tmp_path, "ulm", **options))
    with pytest.raises(ConfigError, match="does not have one class an image"):
        classify(config(tmp_path, "bern", **options | {"model": "cnn"}))
    with pytest.raises(ConfigError, match="no patients are set aside"):
        task.test()


def test_an_own_folder_of_classes(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    random = np.random.default_rng(2)
    for name in ("ill", "well"):
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        for number in range(6):
            pixels = random.integers(0, 255, (20, 20), dtype=np.uint8)
            image.fromarray(pixels).save(folder / f"{name}{number}.png")
    options = {"dataset": "folder:pictures", "shape": [12, 12], "model": "cnn:4"}
    task = classify(config(tmp_path, **options))
    assert task.classes == ("ill", "well")
    assert task.train.inputs.shape[1:] == (1, 12, 12)
    assert task.name == "imaging/pictures"


@pytest.mark.usefixtures("real_data")
def test_nuclei(tmp_path):
    options = {"dataset": "nuclei", "site": "stain_white_320x256"}
    task = segment(config(tmp_path, **options))
    test = task.test()
    assert task.train.inputs.shape[1:] == (3, 96, 96)
    everybody = {*task.train.patients, *task.holdout.patients, *test.patients}
    assert len(everybody) == len(task.train) + len(task.holdout) + len(test) == 14
    with pytest.raises(ConfigError, match="nuclei has masks and no classes"):
        classify(config(tmp_path, **options))


@pytest.mark.usefixtures("real_data")
def test_x_rays(tmp_path):
    task = classify(config(tmp_path, dataset="pneumoniamnist", site=3, model="cnn:4-8"))
    assert len(task.train) + len(task.holdout) == xray.HOSPITALS[3].images
    assert task.classes == ("normal", "pneumonia")
    with pytest.raises(ConfigError, match="pneumoniamnist has no masks"):
        segment(config(tmp_path, dataset="pneumoniamnist", site=3))
    with pytest.raises(
        ConfigError, match=r"test = 0\.2: pneumoniamnist has test images of its own"
    ):
        classify(config(tmp_path, dataset="pneumoniamnist", site=3, test=0.2))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dataset": "moon"}, "dataset = 'moon' is not known"),
        ({"dataset": "own.npz"}, "does not name its classes"),
        ({"dataset": "dicom:scans"}, "salt: .*dicom.salt"),
        ({"mode": "x"}, "unknown field `mode`"),
        ({"augmentation": {"mirror": True}}, "unknown field `mirror`"),
        ({"batch": 0}, "batch"),
        ({"site": "nowhere"}, "'nowhere'.* is no hospital of lesions"),
        ({"site": 9}, "site = 9"),
    ],
)
def test_a_wrong_option_is_named(options, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        segment(config(tmp_path, **options))


def test_digits_are_dealt_by_their_classes_and_all_test_and_ask_alike(tmp_path):
    options = {"dataset": "digits", "sites": 3, "model": "mlp:4"}
    tasks = [classify(config(tmp_path, site=site, **options)) for site in range(3)]
    own = [{*task.train.patients, *task.holdout.patients} for task in tasks]
    assert len(set.union(*own)) == sum(map(len, own))
    tests = [task.test() for task in tasks]
    assert all(test.patients == tests[0].patients for test in tests)
    assert not set(tests[0].patients) & set.union(*own)
    assert len({task.question().digest for task in tasks}) == 1
    counts = torch.stack([torch.bincount(task.train.targets, minlength=10) for task in tasks])
    assert (counts.amax(0) > 3 * counts.amin(0)).float().mean() > 0.5
    assert tasks[0].metric == "balanced_accuracy"
    assert 0 <= float(tasks[0].train.inputs.min()) < float(tasks[0].train.inputs.max()) <= 1
    fewer = classify(config(tmp_path, site=0, test=0.1, **options))
    assert len(fewer.test()) < len(tests[0]) / 2
    with pytest.raises(ConfigError, match="no patients are set aside"):
        classify(config(tmp_path, site=0, test=0, **options)).test()
    with pytest.raises(ConfigError, match="digits have no masks"):
        segment(config(tmp_path, dataset="digits", site=0))


def test_a_search_takes_what_does_best_on_the_own_holdout(tmp_path):
    wish = {"settings": 3, "rounds": 1, "lr": [1e-4, 0.3]}
    options = {"dataset": "digits", "sites": 3, "site": 0, "model": "mlp:8", "local_steps": 20}
    found = classify(config(tmp_path, search=wish, **options))
    again = classify(config(tmp_path, search=wish, **options))
    assert (found.fit, found.learning_rate) == (again.fit, again.learning_rate)
    assert found.fit.rate == found.learning_rate
    space = {"lr": search.LogRange(1e-4, 0.3), "optimiser": search.Choices(("sgd", "adam"))}
    settings = search.drawn(space, 3, 1)
    losses = []
    for setting in settings:
        one = classify(config(tmp_path, **options, **setting))
        model = train.train(one, train.initial_model(one, 1), seed=1, node="a", number=1).model
        losses.append(round(Judge(one, "cpu").loss(model), search.DIGITS))
    chosen = settings[losses.index(min(losses))]
    assert (found.fit.optimiser, found.fit.rate) == (chosen["optimiser"], chosen["lr"])
    with pytest.raises(ConfigError, match="lr needs 0 < low <= high"):
        classify(config(tmp_path, search={**wish, "lr": [0.3, 0.1]}, **options))
