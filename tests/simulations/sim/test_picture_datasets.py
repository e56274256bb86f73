"""Images as data sets of the simulator: official parts, unlike sites, nobody on two sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from konsil.knowledge.data import lesions, xray
from konsil.protocol.errors import ConfigError
from konsil.simulations.sim import datasets
from konsil.simulations.sim.datasets.pictures import as_cohort
from konsil.simulations.sim.scenario import Population


def read(dataset):
    return datasets.read(Population(nodes=2, dataset=dataset), Path("/nowhere"))


def people(data, places):
    return {data.rows.patients[place] for place in places}


def test_pneumoniamnist_keeps_its_official_parts(data_folder, monkeypatch):
    monkeypatch.setenv("KONSIL_DATA", str(data_folder))
    data = read("pneumoniamnist")
    assert data.rows.inputs.shape == (5332, 1, 28, 28)
    assert np.bincount(data.rows.labels[data.train]).tolist() == [1214, 3494]
    assert np.bincount(data.rows.labels[data.test]).tolist() == [234, 390]
    assert data.sites == ()
    assert not people(data, data.train) & people(data, data.test)
    assert len(data.rows.columns) == 784


def test_xray_scanners_have_four_sites_with_the_official_tests(data_folder, monkeypatch):
    monkeypatch.setenv("KONSIL_DATA", str(data_folder))
    data = read("xray_scanners")
    sites = np.array(data.sites)
    names, counts = np.unique(sites[data.train], return_counts=True)
    assert sorted(counts.tolist()) == [100, 150, 250, 400]
    assert set(names) == {one.name for one in xray.HOSPITALS}
    assert np.unique(sites[data.test], return_counts=True)[1].tolist() == [624] * 4
    assert len(data.rows) == len(data.train) + len(data.test) == 3396
    assert not people(data, data.train) & people(data, data.test)


def test_pneumoniamnist_that_is_absent_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("KONSIL_DATA", str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        read("pneumoniamnist")
    assert "konsil data fetch pneumoniamnist" in caught.value.hint


def test_lesions_have_five_sites_with_tests_of_their_own():
    data = read("lesions")
    assert data.rows.inputs.shape == (600, 3, 32, 32)
    assert data.rows.classes == lesions.KINDS
    sites = np.array(data.sites)
    names, counts = np.unique(sites, return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {
        "abroad": 120,
        "east": 120,
        "north": 180,
        "south": 120,
        "west": 60,
    }
    for site in names:
        mine = np.flatnonzero(sites == site)
        tests = np.intersect1d(mine, data.test)
        assert len(tests) == pytest.approx(0.2 * len(mine), abs=1)
    assert not people(data, data.train) & people(data, data.test)
    assert sorted([*data.train, *data.test]) == list(range(600))


def test_masks_are_no_classes_of_rows():
    found = lesions.generate("ct", lesions.hospitals((1,)), 0, size=32)
    with pytest.raises(ConfigError, match="masks"):
        as_cohort(found.masked)
    assert as_cohort(found.kinds).columns[:2] == ("0:0,0", "0:0,1")
