"""Generated proxies: the same bytes from the same seed everywhere, and the wanted statistics."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from konsil.knowledge.teaching import generated
from konsil.protocol.errors import ConfigError

CLASSES = ("no", "yes")
MEAN = (np.add.outer(np.arange(24), np.arange(20)) * 5).astype(np.uint8)[None]
GOLDEN = {
    "gaussian": "0c99b1c36f45b9b6",
    "smooth": "afb06cece2b3cf27",
    "atlas": "00c91de438ef2da5",
}


def make(name: str, seed: int, rows: int = 40):
    if name == "gaussian":
        return generated.gaussian(rows, 13, CLASSES, seed=seed)
    if name == "smooth":
        return generated.smooth(rows, (3, 24, 20), CLASSES, seed=seed)
    return generated.atlas(rows, MEAN, CLASSES, seed=seed)


@pytest.mark.parametrize("name", GOLDEN)
def test_a_seed_gives_the_same_bytes_on_every_machine(name):
    assert make(name, 7).digest.hex()[:16] == GOLDEN[name]


@pytest.mark.parametrize("name", GOLDEN)
def test_another_seed_is_another_question_and_rows_differ(name):
    asked = make(name, 7)
    assert asked.digest != make(name, 8).digest
    flat = asked.levels.reshape(len(asked), -1)
    assert len(np.unique(flat, axis=0)) == len(asked)


def test_gaussian_rows_are_normal_enough():
    values = generated.gaussian(20_000, 3, CLASSES, seed=1).inputs.numpy()
    assert np.abs(values.mean(axis=0)).max() < 0.03
    assert np.abs(values.std(axis=0) - 1).max() < 0.02
    assert np.abs(np.corrcoef(values.T) - np.eye(3)).max() < 0.03
    assert np.abs(values).max() <= 6
    # Twelve uniforms are not normal, only near; the largest gap of the two distributions.
    assert stats.kstest(values[:, 0], "norm").statistic < 0.012


def test_smooth_fields_fill_the_range_and_vary_slowly():
    fields = make("smooth", 3).levels.astype(int)
    assert fields.min(axis=(2, 3)).max() == 0
    assert fields.max(axis=(2, 3)).min() == 255
    steps = np.abs(np.diff(fields, axis=2)).mean(), np.abs(np.diff(fields, axis=3)).mean()
    shuffled = np.random.default_rng(1).permuted(fields.reshape(len(fields), -1), axis=1)
    assert max(steps) < 0.3 * np.abs(np.diff(shuffled, axis=1)).mean()


def test_an_atlas_looks_like_its_mean_image_with_a_gain_that_varies():
    images = make("atlas", 3, rows=400).levels[:, 0].astype(float)
    one = MEAN[0].astype(float)
    alike = [np.corrcoef(image.ravel(), one.ravel())[0, 1] for image in images]
    assert np.mean(alike) > 0.8
    gains = images.mean(axis=(1, 2)) / one.mean()
    assert gains.min() < 0.75
    assert gains.max() > 1.25
    assert abs(gains.mean() - 1) < 0.05


@pytest.mark.parametrize(
    "draw",
    [
        lambda: generated.gaussian(0, 3, CLASSES, seed=1),
        lambda: generated.smooth(3, (1, 0, 4), CLASSES, seed=1),
        lambda: generated.atlas(3, MEAN[0], CLASSES, seed=1),
        lambda: generated.atlas(3, MEAN.astype(float), CLASSES, seed=1),
    ],
)
def test_an_empty_proxy_or_an_atlas_of_another_form_is_refused(draw):
    with pytest.raises(ConfigError):
        draw()
