"""Tabular tasks: patients stay on one side, wrong input is named, hospitals share their start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.knowledge import heart, pack, split, tabular, train
from konsil.knowledge.task import TaskConfig
from konsil.protocol.errors import ConfigError


def config(home: Path = Path("/nowhere"), name: str = "charite", seed: int = 3, **options):
    return TaskConfig(home, name, seed, options)


def table(seed: int, rows: int, people: int):
    random = np.random.default_rng(seed)
    patients = [f"p{number}" for number in random.integers(0, people, rows)]
    label_of = {patient: int(random.integers(0, 3)) for patient in patients}
    return np.array([label_of[patient] for patient in patients]), patients


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 120), st.integers(2, 60), st.floats(0.05, 0.9))
def test_no_patient_is_on_two_sides(seed, rows, people, fraction):
    labels, patients = table(seed, rows, people)
    keep, back = split.by_patient(labels, patients, fraction, seed)
    assert sorted([*keep, *back]) == list(range(rows))
    assert not {patients[place] for place in keep} & {patients[place] for place in back}


def test_the_holdout_has_its_share_of_every_class():
    labels = np.array([0] * 100 + [1] * 20)
    patients = [str(number) for number in range(120)]
    keep, back = split.by_patient(labels, patients, 0.25, "seed")
    assert np.bincount(labels[back]).tolist() == [25, 5]
    assert split.by_patient(labels, patients, 0.25, "seed")[1].tolist() == back.tolist()
    assert split.by_patient(labels, patients, 0.25, "other")[1].tolist() != back.tolist()
    assert len(keep) == 90


def test_single_patients_of_each_class_leave_one_to_judge_with():
    keep, back = split.by_patient(np.array([0, 1]), ["a", "b"], 0.2, 1)
    assert len(keep) == len(back) == 1
    assert len(split.by_patient(np.array([0]), ["a"], 0.2, 1)[1]) == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.floats(1.0, 50.0), st.floats(0, 0.5))
def test_dirichlet_deals_every_patient_once(seed, sites, alpha, skew):
    labels, patients = table(seed, 300, 240)
    dealt = split.dirichlet(labels, patients, sites, seed, alpha=alpha, size_skew=skew, fewest=1)
    assert sorted(place for places in dealt for place in places) == list(range(300))
    owners = [{patients[place] for place in places} for places in dealt]
    assert sum(map(len, owners)) == len(set(patients))


def test_dirichlet_is_uneven_when_alpha_is_small():
    labels = np.arange(1000) % 2
    patients = [str(number) for number in range(1000)]

    def spread(alpha: float) -> float:
        dealt = split.dirichlet(labels, patients, 5, 1, alpha=alpha)
        return float(np.std([labels[places].mean() for places in dealt]))

    assert spread(0.5) > 3 * spread(100.0)
    sizes = [
        len(places) for places in split.dirichlet(labels, patients, 4, 1, alpha=1e4, size_skew=1.0)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 3 * sizes[3]
    assert {len(places) for places in split.iid(labels, patients, 4, 1)} <= {249, 250, 251}


def test_an_impossible_split_is_refused():
    labels = np.array([0, 0, 0, 1])
    with pytest.raises(ConfigError, match="3 sites with alpha 1"):
        split.dirichlet(labels, ["a", "b", "c", "d"], 3, 1, alpha=1.0)


def test_pathological_sites_see_few_classes():
    labels = np.arange(400) % 4
    patients = [str(number) for number in range(400)]
    dealt = split.pathological(labels, patients, 4, 1, classes_each=2)
    assert all(len(np.unique(labels[places])) == 2 for places in dealt)
    assert sorted(place for places in dealt for place in places) == list(range(400))
    with pytest.raises(ConfigError, match="cannot hold 4"):
        split.pathological(labels, patients, 1, 1, classes_each=2)


def test_hospitals_share_start_and_test_but_no_patient():
    options = {"sites": 4, "alpha": 2.0}
    tasks = [tabular.build(config(site=site, name=f"h{site}", **options)) for site in range(4)]
    tests = [tabular.common_test(config(site=site, **options)) for site in range(4)]
    starts = {pack.to_bytes(train.initial_model(task, 3)) for task in tasks}
    assert len(starts) == 1
    assert len({tuple(rows.patients) for rows in tests}) == 1
    owners = [set(task.train.patients) | set(task.holdout.patients) for task in tasks]
    everyone = set().union(*owners, tests[0].patients)
    assert sum(map(len, owners)) + len(tests[0]) == len(everyone) == 569
    other = tabular.build(config(site=0, seed=4, **options))
    assert pack.to_bytes(train.initial_model(other, 4)) not in starts
    assert set(other.train.patients) != set(tasks[0].train.patients)


def test_rows_are_normalised_by_the_own_training_rows():
    task = tabular.build(config(sites=3, site=1))
    assert torch.allclose(task.train.inputs.mean(0), torch.zeros(30), atol=1e-5)
    assert torch.allclose(task.train.inputs.std(0), torch.ones(30), atol=1e-4)
    assert not torch.allclose(task.holdout.inputs.mean(0), torch.zeros(30), atol=1e-3)


def test_size_and_model_options():
    task = tabular.build(
        config(sites=3, site=0, size=30, holdout=0.3, model="mlp:8-4", batch=4, lr=0.5)
    )
    assert len(task.train) + len(task.holdout) == pytest.approx(30, abs=1)
    shapes = [tuple(p.shape) for p in task.model().parameters()]
    assert shapes == [(8, 30), (8,), (4, 8), (4,), (2, 4), (2,)]
    assert (task.batch_size, task.learning_rate, task.metric) == (4, 0.5, "balanced_accuracy")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"aplha": 1.0}, "aplha"),
        ({"alpha": "much"}, r"\$.alpha"),
        ({"alpha": 0.0}, r"\$.alpha"),
        ({"holdout": 1.0}, r"\$.holdout"),
        ({"model": "cnn"}, "model = 'cnn'"),
        ({"model": "mlp:"}, "model = 'mlp:'"),
        ({"model": "mlp:16-0"}, "model"),
        ({"model": "logistic:3"}, "model"),
        ({"dataset": "lungs"}, "dataset = 'lungs'"),
        ({"sites": 4, "site": 4}, "site = 4"),
        ({"sites": 4}, "site = None must be a number"),
        ({"sites": 200, "site": 0}, "200 sites"),
        ({"dataset": "heart_disease", "site": "berlin"}, "site = 'berlin'"),
        ({"dataset": "heart_disease"}, "node 'charite'"),
        ({"dataset": "mine.csv"}, "mine.csv"),
    ],
)
def test_a_wrong_option_is_named(options, said):
    with pytest.raises(ConfigError, match=said):
        tabular.build(config(**options))


def test_a_whole_table_has_no_test_rows_unless_asked():
    with pytest.raises(ConfigError, match="test"):
        tabular.common_test(config())
    assert len(tabular.common_test(config(test=0.5))) == pytest.approx(285, abs=2)


# ---- heart disease -----------------------------------------------------------------------


def heart_options(site, **more):
    return {"dataset": "heart_disease", "site": site, **more}


def test_heart_follows_flamby(data_folder, monkeypatch):
    monkeypatch.setenv("KONSIL_DATA", str(data_folder))
    counts, tests = [], []
    for site in heart.SITES:
        task = tabular.build(config(**heart_options(site)))
        test = tabular.common_test(config(**heart_options(site)))
        counts.append((len(task.train) + len(task.holdout), len(test)))
        tests.append(test)
        assert task.train.inputs.shape[1] == 13
        assert not set(test.patients) & (set(task.train.patients) | set(task.holdout.patients))
    assert counts == [(199, 104), (172, 89), (30, 16), (85, 45)]
    assert torch.bincount(tests[2].targets).tolist() == [1, 15]


def test_heart_sites_by_number_name_and_node_are_the_same(data_folder, monkeypatch):
    monkeypatch.setenv("KONSIL_DATA", str(data_folder))
    by_name = tabular.build(config(**heart_options("hungary"))).train.patients
    by_number = tabular.build(config(**heart_options(1))).train.patients
    by_node = tabular.build(config(name="hungarian", dataset="heart_disease")).train.patients
    assert by_name == by_number == by_node
    another = tabular.build(config(**heart_options(1, split_seed=5))).train.patients
    assert another != by_name


def test_missing_and_malformed_heart_files_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("KONSIL_DATA", str(tmp_path))
    with pytest.raises(ConfigError, match=r"processed\.va\.data"):
        tabular.build(config(**heart_options("va")))
    (tmp_path / "heart_disease").mkdir()
    file = tmp_path / "heart_disease" / "processed.va.data"
    file.write_text("1,2,3\n")
    with pytest.raises(ConfigError, match=r"va\.data:1: 3 columns"):
        tabular.build(config(**heart_options("va")))
    file.write_text("63,1,4,140,260,0,1,112,1,x,2,?,?,2\n")
    with pytest.raises(ConfigError, match=r"va\.data:1: "):
        tabular.build(config(**heart_options("va")))


def test_without_konsil_data_the_users_folder_is_searched(monkeypatch):
    monkeypatch.delenv("KONSIL_DATA", raising=False)
    assert tabular.data_folder().name == "konsil"


# ---- own CSV files -----------------------------------------------------------------------

HEAD = "visit_of,age,outcome,clinic,marker"


def csv_rows(count: int = 40) -> list[str]:
    sick, clinics = ("ill", "well", "well"), ("north", "south")
    return [
        f"p{n // 2},{30 + n},{sick[n // 2 % 3]},{clinics[n >= 24]},{n * 0.5}" for n in range(count)
    ]


CSV = {
    "dataset": "own.csv", "label": "outcome", "patient": "visit_of", "site_column": "clinic",
}  # fmt: skip


def written(folder: Path, lines: list[str]) -> Path:
    (folder / "own.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_an_own_table_is_split_by_patient_and_site(tmp_path):
    home = written(tmp_path, [HEAD, *csv_rows()])
    task = tabular.build(config(home, name="north", **CSV))
    assert task.classes == ("ill", "well")
    assert task.train.inputs.shape[1] == 2
    assert len(task.train) + len(task.holdout) == 24
    assert len(set(task.train.patients) | set(task.holdout.patients)) == 12
    south = tabular.build(config(home, site="south", **CSV))
    assert len(south.train) + len(south.holdout) == 16
    assert tabular.build(config(home, site=1, **CSV)).train.patients == south.train.patients
    assert len(tabular.common_test(config(home, site=0, test=0.4, **CSV))) > 0


def test_a_small_hospital_still_has_patients_of_each_class_to_learn_from_and_to_judge_by(tmp_path):
    for site in range(5):
        few = {"dataset": "breast_cancer", "sites": 5, "site": site, "split_seed": 0}
        task = tabular.build(config(tmp_path, size=60, holdout=0.5, alpha=2.0, **few))
        both = task.train.targets.tolist() + task.holdout.targets.tolist()
        assert min(both.count(0), both.count(1)) >= 3
        assert set(task.train.targets.tolist()) == set(task.holdout.targets.tolist()) == {0, 1}


def test_a_table_without_patient_and_site_columns(tmp_path):
    home = written(tmp_path, ["a,label", *[f"{n},{n % 2}" for n in range(30)]])
    task = tabular.build(config(home, dataset=str(tmp_path / "own.csv")))
    assert task.classes == ("0", "1")
    assert len(task.train) + len(task.holdout) == 30
    named = tabular.build(config(home, dataset="own.csv", classes=["1", "0"]))
    assert named.classes == ("1", "0")
    dealt = tabular.build(config(home, dataset="own.csv", sites=2, site=1, test=0.2))
    assert 4 <= len(dealt.train) < 24


def replaced(number: int, text: str) -> list[str]:
    lines = [HEAD, *csv_rows()]
    lines[number - 1] = text
    return lines


@pytest.mark.parametrize(
    ("lines", "options", "said"),
    [
        (replaced(5, "p2,abc,ill,north,2"), {}, r"own\.csv:5: column 'age' is not a finite"),
        (replaced(5, "p2,,ill,north,2"), {}, r"own\.csv:5: column 'age' is empty"),
        (replaced(5, "p2,inf,ill,north,2"), {}, r"own\.csv:5: column 'age' is not a finite"),
        (replaced(7, "p2,33,,north,2"), {"classes": ["ill", "well"]}, r":7: the label is missing"),
        (replaced(7, "p2,33,x,north,2"), {"classes": ["ill", "well"]}, r":7: .* none of the"),
        (replaced(9, ",33,ill,north,2"), {}, r":9: the patient column 'visit_of' is empty"),
        (replaced(9, "p2,33,ill,north"), {}, r":9: 4 cells instead of 5"),
        (replaced(1, "a,a,outcome,clinic,b"), {}, r":1: every column needs a name"),
        ([HEAD, *csv_rows()], {"label": "result"}, "no column 'result'"),
        ([HEAD, *csv_rows()], {"site_column": "ward"}, "no column 'ward'"),
        ([HEAD, *csv_rows()], {"label": "visit_of"}, "cannot be label, patient and site at once"),
        ([HEAD, *csv_rows()], {"site": "west"}, "site = 'west' does not occur in column 'clinic'"),
        ([HEAD], {}, "no rows"),
        (["visit_of,outcome,clinic", "a,ill,north"], {}, "no column of numbers"),
        ([HEAD, csv_rows()[0]], {}, "two or more different classes|too few"),
        ([HEAD, '"unclosed'], {}, r"cannot read .*own\.csv"),
    ],
)
def test_a_wrong_table_is_named_by_file_and_line(tmp_path, lines, options, said):
    home = written(tmp_path, lines)
    with pytest.raises(ConfigError, match=said):
        tabular.build(config(home, name="north", **{**CSV, **options}))


def test_an_error_never_repeats_the_cell(tmp_path):
    home = written(tmp_path, replaced(5, "p2,SECRET-77,ill,north,2"))
    with pytest.raises(ConfigError) as caught:
        tabular.build(config(home, name="north", **CSV))
    assert "SECRET" not in caught.value.diagnostics()


def test_a_column_of_names_is_no_label_and_is_not_published(tmp_path):
    """Class names travel with every artifact: 80 patients must not become 80 classes."""
    rows = [f"Anna Muster {n},{30 + n},{n % 2}" for n in range(80)]
    home = written(tmp_path, ["name,age,ill", *rows])
    with pytest.raises(ConfigError, match="80 different texts in 80 rows") as caught:
        tabular.build(config(home, dataset="own.csv", label="name"))
    assert "Muster" not in caught.value.diagnostics()
    assert "class names are published" in caught.value.hint


def test_the_preparation_of_an_export_gives_the_task_s_own_inputs(tmp_path):
    home = written(tmp_path, [HEAD, *csv_rows()])
    task = tabular.build(config(home, name="north", **CSV))
    by = task.preparation
    assert by.columns == ("age", "marker")
    ages = [30 + n for n in range(24)]
    back = task.train.inputs[:, 0] * by.spread[0] + by.centre[0]
    assert set(back.round().int().tolist()) <= set(ages)
    assert abs(float(task.train.inputs.mean())) < 1e-6
