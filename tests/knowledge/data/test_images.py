"""Images: what does not belong together is refused; taking and joining lose nothing."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.knowledge.data.images import Images, as_rows, joined
from konsil.protocol.errors import ConfigError


def some(count=6, *, masked=False, seed=0, shape=(2, 5, 4), classes=("a", "b", "c"), site="x"):
    random = np.random.default_rng(seed)
    wanted = (count, *shape[1:]) if masked else (count,)
    return Images(
        inputs=random.random((count, *shape), dtype=np.float32),
        targets=random.integers(0, len(classes), wanted),
        patients=tuple(f"{site}-{number}" for number in range(count)),
        classes=classes,
        sites=(site,) * count,
    )


def changed(**parts):
    whole = some()
    names = ("inputs", "targets", "patients", "classes", "sites")
    return Images(**{name: parts.get(name, getattr(whole, name)) for name in names})


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"inputs": np.zeros((6, 2, 5, 4))}, "float64"),
        ({"inputs": np.zeros((6, 5, 4), np.float32)}, "shape"),
        ({"inputs": np.full((6, 2, 5, 4), 1.5, np.float32)}, "outside 0"),
        ({"inputs": np.full((6, 2, 5, 4), -0.1, np.float32)}, "outside 0"),
        ({"inputs": np.full((6, 2, 5, 4), np.nan, np.float32)}, "not a number"),
        ({"targets": np.zeros(6, np.int32)}, "int32"),
        ({"targets": np.zeros((6, 1), np.int64)}, "shape"),
        ({"targets": np.zeros((6, 4, 5), np.int64)}, "do not fit"),
        ({"targets": np.full(6, 3)}, "no places in 3 classes"),
        ({"targets": np.full(6, -1)}, "no places in 3 classes"),
        ({"targets": np.zeros(5, np.int64)}, "do not belong together"),
        ({"patients": ("one",)}, "do not belong together"),
        ({"sites": ("one",)}, "do not belong together"),
        ({"classes": ("a", "b", "a")}, "different classes"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(parts, told):
    with pytest.raises(ConfigError, match=told):
        changed(**parts)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9), st.booleans(), st.data())
def test_taking_the_parts_and_joining_them_gives_the_whole(count, masked, data):
    whole = some(count, masked=masked)
    cut = data.draw(st.integers(0, count))
    again = joined([whole.take(np.arange(cut)), whole.take(np.arange(cut, count))])
    assert np.array_equal(again.inputs, whole.inputs)
    assert np.array_equal(again.targets, whole.targets)
    assert (again.patients, again.sites, again.classes) == (
        whole.patients,
        whole.sites,
        whole.classes,
    )
    assert (again.masked, len(again), again.shape) == (masked, count, (2, 5, 4))


def test_taken_images_are_copies_in_the_order_asked_for():
    whole = some()
    taken = whole.take(np.array([4, 1]))
    taken.inputs[:] = 0
    assert taken.patients == ("x-4", "x-1")
    assert taken.targets.tolist() == [whole.targets[4], whole.targets[1]]
    assert whole.inputs[4].max() > 0


@pytest.mark.parametrize(
    "other",
    [some(classes=("a", "b")), some(masked=True), some(shape=(1, 5, 4)), some(shape=(2, 5, 5))],
)
def test_unlike_images_are_not_joined(other):
    with pytest.raises(ConfigError):
        joined([some(), other])


def test_nothing_cannot_be_joined():
    with pytest.raises(ConfigError, match="no images"):
        joined([])


@pytest.mark.parametrize("masked", [False, True])
def test_rows_are_tensors_of_their_own(masked):
    whole = some(masked=masked)
    rows = as_rows(whole)
    assert rows.inputs.dtype == torch.float32
    assert rows.targets.dtype == torch.int64
    assert rows.targets.shape == whole.targets.shape
    assert np.array_equal(rows.inputs.numpy(), whole.inputs)
    assert rows.patients == whole.patients
    rows.inputs.zero_()
    assert whole.inputs.max() > 0


def test_no_reader_loads_torch():
    modules = "arrays checking dicom fetching folders images lesions nuclei origins place xray"
    code = "import sys\nfor name in sys.argv[1:]: __import__(name)\nprint(*sys.modules)"
    wanted = [f"konsil.knowledge.data.{name}" for name in modules.split()]
    done = subprocess.run([sys.executable, "-c", code, *wanted], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"torch", "PIL", "pydicom", "sklearn"} & set(done.stdout.split()) == set()
