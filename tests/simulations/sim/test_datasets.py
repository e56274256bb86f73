"""Data sets: no patient on two sides, the same test rows for all, wrong files are named."""

from __future__ import annotations

import os
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from konsil.knowledge import heart
from konsil.knowledge.cohort import scale
from konsil.protocol.errors import ConfigError
from konsil.simulations.sim import datasets
from konsil.simulations.sim.scenario import Population


def read(dataset, folder=Path("/nowhere"), **columns):
    return datasets.read(Population(nodes=2, dataset=dataset, **columns), folder)


def people(data, places):
    return {data.rows.patients[place] for place in places}


@pytest.mark.parametrize(
    ("name", "rows", "tests", "width", "classes"),
    [("digits", 1797, 360, 64, 10), ("breast_cancer", 569, 114, 30, 2)],
)
def test_embedded_data_is_split_80_to_20_and_stratified(name, rows, tests, width, classes):
    data = read(name)
    assert data.rows.inputs.shape == (rows, width)
    assert (len(data.train), len(data.test)) == (rows - tests, tests)
    assert sorted([*data.train, *data.test]) == list(range(rows))
    assert len(data.rows.classes) == classes
    whole, held = (np.bincount(data.rows.labels[p]) for p in (np.arange(rows), data.test))
    assert np.all(np.abs(held - 0.2 * whole) <= 1)
    assert data.sites == ()


def test_digits_has_the_test_rows_of_the_common_workload():
    """Anybody gets them with scikit-learn alone: 80/20, stratified, seed 0."""
    bunch = load_digits()
    _, test, _, labels = train_test_split(
        bunch.data, bunch.target, test_size=0.2, stratify=bunch.target, random_state=0
    )
    data = read("digits")
    order = np.lexsort(test.T)
    mine = data.rows.inputs[data.test]
    assert np.array_equal(mine[np.lexsort(mine.T)], test[order])
    assert np.bincount(labels).tolist() == np.bincount(data.rows.labels[data.test]).tolist()


def test_heart_disease_keeps_each_hospital_s_own_split(data_folder, monkeypatch):
    monkeypatch.setenv("KONSIL_DATA", str(data_folder))
    data = read("heart_disease")
    assert len(data.rows) == len(data.sites) == 740
    assert sorted([*data.train, *data.test]) == list(range(740))
    for site in heart.SITES:
        cohort = heart.read_site(data_folder / "heart_disease", site)
        _, test = heart.train_test(cohort, heart.FLAMBY_SPLIT)
        expected = {cohort.patients[place] for place in test}
        here = [place for place in data.test if data.sites[place] == site]
        assert people(data, here) == expected


def test_absent_heart_data_is_named_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("KONSIL_DATA", str(tmp_path))
    with pytest.raises(ConfigError, match=r"heart_disease: cannot read .*cleveland") as caught:
        read("heart_disease")
    assert "KONSIL_DATA" in caught.value.hint


def test_an_unknown_data_set_is_named():
    with pytest.raises(ConfigError, match='dataset = "mnist" is not known') as caught:
        read("mnist")
    assert "digits, breast_cancer, heart_disease" in caught.value.hint


# ---- own files ---------------------------------------------------------------------------


def test_a_csv_with_patients_and_sites(tmp_path):
    lines = [f"p{n // 3},{n % 7},{n * n % 11},{'ab'[n % 2]},{'nsw'[n % 9 // 3]}" for n in range(90)]
    (tmp_path / "own.csv").write_text("\n".join(["who,age,marker,ill,ward", *lines]) + "\n")
    data = read("own.csv", tmp_path, label="ill", site="ward", patient="who")
    assert data.rows.inputs.shape == (90, 2)
    assert data.rows.classes == ("a", "b")
    assert set(data.sites) == {"n", "s", "w"}
    assert not people(data, data.train) & people(data, data.test)
    assert sorted([*data.train, *data.test]) == list(range(90))
    for site in "nsw":
        assert any(data.sites[place] == site for place in data.test)


def test_a_csv_s_label_column_is_called_label_unless_named(tmp_path):
    (tmp_path / "own.csv").write_text("age,label\n" + "".join(f"{n},{n % 2}\n" for n in range(20)))
    data = read("own.csv", tmp_path)
    assert data.sites == ()
    assert (len(data.train), len(data.test)) == (16, 4)
    with pytest.raises(ConfigError, match="no column 'result'"):
        read("own.csv", tmp_path, label="result")


def arrays(**changes):
    """A sound NPZ file of 24 rows, with changes; a change to None leaves the array out."""
    random = np.random.default_rng(0)
    sound = {
        "x": random.normal(size=(24, 3, 5)).astype(np.float32),
        "y": np.arange(24) % 3 * 10,
        "site": np.array(["north", "south"])[np.arange(24) % 2],
        "patient": np.arange(24) // 2,
    }
    return {key: value for key, value in (sound | changes).items() if value is not None}


def test_an_npz_file_of_any_shape(tmp_path):
    np.savez(tmp_path / "own.npz", **arrays())
    data = read("own.npz", tmp_path)
    assert data.rows.inputs.shape == (24, 3, 5)
    assert data.rows.inputs.dtype == np.float64
    assert data.rows.classes == ("0", "10", "20")
    assert data.rows.labels.tolist() == [n % 3 for n in range(24)]
    assert set(data.sites) == {"north", "south"}
    assert not people(data, data.train) & people(data, data.test)
    np.savez(tmp_path / "bare.npz", **arrays(site=None, patient=None))
    bare = read("bare.npz", tmp_path)
    assert bare.sites == ()
    assert len(set(bare.rows.patients)) == 24


WITH_GAP = np.where(np.arange(24)[:, None] == 7, np.nan, 1.0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"x": None}, "no array `x`"),
        ({"y": None}, "no array `y`"),
        ({"x": np.zeros(24)}, r"`x` has the shape \(24,\)"),
        ({"x": np.zeros((24, 0))}, r"`x` has the shape \(24, 0\)"),
        ({"x": WITH_GAP}, "row 7 of `x` has a value that is not a finite"),
        ({"x": np.full((24, 2), "a")}, "`x` holds <U1 values"),
        ({"y": np.arange(23)}, r"`y` has the shape \(23,\), not \(24,\)"),
        ({"y": np.arange(24) / 2}, "`y` holds float64 values, and no whole numbers"),
        ({"y": np.zeros(24, int)}, "`y` has 1 different numbers"),
        ({"y": np.arange(24)}, "`y` has 24 different numbers in 24 rows"),
        ({"site": np.arange(5)}, r"`site` has the shape \(5,\)"),
        ({"patient": np.arange(24) / 2}, "`patient` holds float64"),
        ({"y": np.array([object()] * 24)}, "cannot read"),
    ],
)
def test_a_wrong_npz_file_is_told_in_one_line(tmp_path, changes, said):
    np.savez(tmp_path / "own.npz", **arrays(**changes))
    with pytest.raises(ConfigError, match=said) as caught:
        read("own.npz", tmp_path)
    assert "own.npz" in caught.value.message
    assert "\n" not in caught.value.diagnostics()


@pytest.mark.parametrize("content", [b"", b"x,y\n1,2\n", b"PK\x03\x04broken"])
def test_what_is_no_npz_file_is_told(tmp_path, content):
    (tmp_path / "own.npz").write_bytes(content)
    with pytest.raises(ConfigError, match=r"cannot read .*own\.npz"):
        read("own.npz", tmp_path)
    with pytest.raises(ConfigError, match=r"cannot read .*gone\.npz"):
        read("gone.npz", tmp_path)


def test_a_bare_array_and_a_damaged_archive_are_no_npz_file(tmp_path):
    with (tmp_path / "own.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ConfigError, match="one bare array"):
        read("own.npz", tmp_path)
    np.savez_compressed(tmp_path / "own.npz", **arrays())
    whole = bytearray((tmp_path / "own.npz").read_bytes())
    whole[300:340] = bytes(40)
    (tmp_path / "own.npz").write_bytes(whole)
    with pytest.raises(ConfigError, match="cannot read"):
        read("own.npz", tmp_path)


def test_an_executable_array_is_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    np.savez(tmp_path / "own.npz", **arrays(patient=np.array([Trap()] * 24, dtype=object)))
    with pytest.raises(ConfigError, match="cannot read"):
        read("own.npz", tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_a_constant_column_has_the_unit_one():
    """The mean of many 0.1 is not 0.1: that rounding error must not become a deviation."""
    inputs = np.stack([np.full(1437, 0.1), np.arange(1437.0)], axis=1)
    centre, spread = scale(inputs)
    assert spread[0] == 1.0
    assert abs(centre[0] - 0.1) < 1e-12
    assert spread[1] == pytest.approx(np.std(np.arange(1437.0), ddof=1))


def claiming(path, shape, *, kind="<f8", held=b"", key="x", compression=zipfile.ZIP_STORED):
    """An NPZ file whose header of one array says whatever it likes."""
    header = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode() + b"\n"
    raw = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + held
    np.savez(path, **arrays(**{key: None}))
    with zipfile.ZipFile(path, "a", compression) as archive:
        archive.writestr(f"{key}.npy", raw)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((10**12, 4), "`x` claims 32000000000000 bytes, and has 0"),
        ((10**400, 4), "`x` claims "),
        ((-1, 4), "`x` claims "),
        ((24, 5), "`x` claims 960 bytes, and has 0"),
    ],
)
def test_an_array_is_measured_before_there_is_room_made_for_it(tmp_path, shape, said):
    claiming(tmp_path / "own.npz", shape)
    tracemalloc.start()
    with pytest.raises(ConfigError, match=said):
        read("own.npz", tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def test_an_array_that_unfolds_without_end_is_refused(tmp_path):
    """130 MB of zeros in 130 kB, which would be a gigabyte as 64-bit numbers."""
    size = 130_000_000
    claiming(
        tmp_path / "own.npz", (size, 1), kind="|u1", held=bytes(size),
        compression=zipfile.ZIP_DEFLATED,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="`x` takes more than 1000 MB of memory"):
        read("own.npz", tmp_path)


@pytest.mark.parametrize("kind", ["|O", "|V8"])
def test_objects_and_bytes_are_no_numbers(tmp_path, kind):
    claiming(tmp_path / "own.npz", (24, 2), kind=kind, held=bytes(384))
    with pytest.raises(ConfigError, match="`x` holds"):
        read("own.npz", tmp_path)


def altered(path, first, second):
    """The file with bytes of both headers of its first member changed."""
    raw = bytearray(path.read_bytes())
    for magic, place, value in ((b"PK\x03\x04", *first), (b"PK\x01\x02", *second)):
        raw[raw.find(magic) + place] = value
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [((6, 1), (8, 1), "encrypted"), ((8, 99), (10, 99), "compression method")],
)
def test_an_archive_that_python_cannot_open_is_told(tmp_path, first, second, said):
    np.savez(tmp_path / "own.npz", **arrays())
    altered(tmp_path / "own.npz", first, second)
    with pytest.raises(ConfigError, match=f"cannot read .*{said}") as caught:
        read("own.npz", tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize("held", [b"", b"notnpy"])
def test_a_member_that_is_no_array_is_told(tmp_path, held):
    np.savez(tmp_path / "own.npz", **arrays(x=None))
    with zipfile.ZipFile(tmp_path / "own.npz", "a") as archive:
        archive.writestr("x.npy", held)
    with pytest.raises(ConfigError, match="cannot read"):
        read("own.npz", tmp_path)


@pytest.mark.parametrize("content", [b"hello", pickle.dumps([1])])
def test_nobody_is_told_to_read_a_pickle(tmp_path, content):
    (tmp_path / "own.npz").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read("own.npz", tmp_path)
    assert "pickle" not in caught.value.diagnostics()


@pytest.mark.parametrize("name", ["own.csv", "own.npz"])
def test_pipes_folders_and_devices_are_no_data(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ConfigError, match=r"cannot read .*no plain file"):
        read(name, tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match=r"cannot read .*no plain file"):
        read(name, tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match="cannot read"):
        read(name, tmp_path)


@pytest.mark.parametrize("largest", [1.7e308, -1e101])
def test_values_whose_deviation_cannot_be_computed_are_refused(tmp_path, largest):
    inputs = arrays()["x"].astype(np.float64)
    inputs[7, 1, 2] = largest
    np.savez(tmp_path / "own.npz", **arrays(x=inputs))
    with pytest.raises(ConfigError, match="data row 7 has a value beyond ±1e"):
        read("own.npz", tmp_path)
    inputs[7, 1, 2] = 1e100
    np.savez(tmp_path / "own.npz", **arrays(x=inputs))
    with np.errstate(all="raise"):
        assert np.isfinite(scale(read("own.npz", tmp_path).rows.inputs)[1]).all()


def test_a_table_of_many_columns_is_not_listed_whole(tmp_path):
    columns = ",".join(f"column{n}" for n in range(10_000))
    (tmp_path / "own.csv").write_text(f"{columns}\n")
    with pytest.raises(ConfigError, match="there is no column 'label'") as caught:
        read("own.csv", tmp_path)
    assert len(caught.value.diagnostics()) < 700
