"""The embedded sets are scikit-learn's own, whichever way they are read."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
from sklearn import datasets

from konsil.knowledge import embedded

SETS = {"breast_cancer": datasets.load_breast_cancer, "digits": datasets.load_digits}


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("name", SETS)
def test_what_is_read_is_what_scikit_learn_gives(name, hidden, monkeypatch):
    if hidden:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    cohort, bunch = getattr(embedded, name)(), SETS[name]()
    assert np.array_equal(cohort.inputs, bunch.data)
    assert cohort.columns == tuple(str(one) for one in bunch.feature_names)
    labels = [cohort.classes[label] for label in cohort.labels]
    assert labels == [str(bunch.target_names[target]) for target in bunch.target]
    assert len(set(cohort.patients)) == len(bunch.target)


def test_the_library_is_not_loaded_for_them():
    code = "import sys; from konsil.knowledge import embedded; embedded.breast_cancer(); "
    code += "embedded.digits(); print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
