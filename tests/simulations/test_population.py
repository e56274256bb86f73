"""Names, sides and data of the hospitals follow from the seed."""

from __future__ import annotations

import re

import pytest

from konsil.knowledge.imaging.options import read_options
from konsil.knowledge.task import TaskConfig
from konsil.protocol.errors import ConfigError, UsageError
from konsil.simulations import population


def plan(honest=4, byzantine=1, seed=0, task="breast_cancer"):
    return population.hospitals(honest=honest, byzantine=byzantine, seed=seed, task=task)


def test_names_are_stable_for_a_seed_and_differ_between_seeds():
    assert plan(seed=5) == plan(seed=5)
    assert len({tuple(one.name for one in plan(seed=seed)) for seed in range(6)}) > 1


def test_honest_and_byzantine_are_mixed_by_the_seed():
    places = {next(h.site for h in plan(seed=seed) if h.byzantine) for seed in range(30)}
    assert places == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(("honest", "byzantine"), [(1, 1), (4, 0), (40, 20)])
def test_counts_sites_and_names(honest, byzantine):
    hospitals = plan(honest, byzantine)
    assert sum(not one.byzantine for one in hospitals) == honest
    assert sum(one.byzantine for one in hospitals) == byzantine
    assert [one.site for one in hospitals] == list(range(honest + byzantine))
    names = [one.name for one in hospitals]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z][a-z0-9-]{0,31}", name) for name in names)


@pytest.mark.parametrize(("honest", "byzantine"), [(0, 2), (1, 0), (2, -1), (60, 5)])
def test_a_consortium_that_makes_no_sense_is_refused(honest, byzantine):
    with pytest.raises(UsageError):
        plan(honest, byzantine)


def test_heart_disease_has_its_four_real_hospitals():
    for name in ("heart_disease", "heart"):
        found = [hospital.name for hospital in plan(4, 0, task=name)]
        assert found == ["cleveland", "hungary", "switzerland", "va"]
        with pytest.raises(ConfigError, match="heart_disease has 4 hospitals, not 5"):
            plan(4, 1, task=name)


@pytest.mark.parametrize(("task", "most"), [("xray", 4), ("nuclei", 4), ("lesions", 5)])
def test_a_data_set_has_so_many_hospitals_and_no_more(task, most):
    names = [hospital.name for hospital in plan(most, 0, task=task)]
    assert len(set(names)) == most
    assert all(re.fullmatch(r"[a-z][a-z0-9-]{0,31}", name) for name in names)
    with pytest.raises(ConfigError, match=f"{task} has {most} hospitals, not {most + 1}"):
        plan(most, 1, task=task)


@pytest.mark.parametrize("task", ["lesions", "xray", "nuclei", "mixed"])
def test_what_a_name_stands_for_is_what_the_task_understands(task, tmp_path):
    choice = population.choose_task(task, seed=4, folder=tmp_path)
    for hospital in plan(4, 0, task=task):
        options = choice.options_of(hospital, 4)
        told = read_options(TaskConfig(tmp_path, hospital.name, 0, options))
        assert (told.site, told.split_seed) == (hospital.site, 4)


def test_the_hospitals_of_the_mixed_task_have_unlike_networks_and_one_has_few_patients(tmp_path):
    choice = population.choose_task("mixed", seed=0, folder=tmp_path)
    found = [choice.options_of(hospital, 4) for hospital in plan(4, 0, task="mixed")]
    assert choice.kind == "logits"
    assert len({options["model"] for options in found}) == 4
    assert {options["model"].partition(":")[0] for options in found} == {"cnn", "mlp"}
    assert [options.get("patients") for options in found] == [None, None, None, 40]


def test_a_task_is_a_data_set_a_file_or_a_factory(tmp_path):
    choice = population.choose_task("breast_cancer", seed=4, folder=tmp_path)
    assert choice.factory == population.TABULAR
    options = choice.options_of(plan()[2], 5)
    assert (options["dataset"], options["site"], options["sites"]) == ("breast_cancer", 2, 5)
    assert options["split_seed"] == 4

    (tmp_path / "rows.csv").write_text("a\n")
    assert population.choose_task("rows.csv", seed=4, folder=tmp_path).options == {
        "dataset": str(tmp_path / "rows.csv")
    }
    (tmp_path / "own.py").write_text("")
    beside = population.choose_task("own:build", seed=4, folder=tmp_path)
    named = population.choose_task("own.py:build", seed=4, folder=tmp_path)
    assert beside.factory == named.factory == "own:build"
    assert beside.file == named.file == tmp_path / "own.py"
    assert population.choose_task("package.module:build", seed=4, folder=tmp_path).file is None


@pytest.mark.parametrize("name", ["iris", "none.csv", "none.py:build", ":build", "module:"])
def test_an_unknown_task_is_a_usage_error_in_one_line(name, tmp_path):
    with pytest.raises(UsageError) as caught:
        population.choose_task(name, seed=4, folder=tmp_path)
    assert "\n" not in caught.value.diagnostics()


def test_options_of_a_task_are_toml_values_or_texts(tmp_path):
    choice = population.choose_task("breast_cancer", seed=4, folder=tmp_path)
    more = choice.with_options(["lr=0.5", "label=outcome", 'classes=["a", "b"]', "name=a b"])
    assert more.options["lr"] == 0.5
    assert more.options["label"] == "outcome"
    assert more.options["classes"] == ["a", "b"]
    assert more.options["name"] == "a b"
    assert more.options["dataset"] == "breast_cancer"
    for wrong in ("lr", "=3", "a b=3"):
        with pytest.raises(UsageError, match="no KEY=VALUE"):
            choice.with_options([wrong])
