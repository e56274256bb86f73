"""Site: a daemon's task has exactly the rows that the simulator gives the node."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import torch

from konsil.knowledge.task import TaskConfig, load_factory
from konsil.protocol.errors import ConfigError, UsageError
from konsil.simulations.sim import site
from konsil.simulations.sim.populate import populate
from konsil.simulations.sim.scenario_reading import read_scenario, scenario_of
from konsil.simulations.sim.setting import setting_of

TEXT = """
seed = 5
[population]
nodes = 6
dataset = "breast_cancer"
split = "dirichlet"
model = ["mlp:30-8-2", "logistic"]
metric = "balanced_accuracy"
{population}
[topology]
kind = "ring"
[training]
local_steps = 3
batch = 8
lr = 0.05
[artifacts]
kinds = ["logits"]
question = "random"
question_rows = 20
"""


def config(text=TEXT, number=0, population="", home=Path("/nowhere"), **options):
    scenario = text.replace("{population}", population)
    return TaskConfig(home, "any", 1, {"scenario": scenario, "site": number, **options})


def cohorts_of(config):
    values = tomllib.loads(config.options["scenario"])
    scenario = scenario_of(values)
    return populate(scenario.population, scenario.seed, config.home)


@pytest.mark.parametrize("extra", ["", "rows = 30", "feature_shift = 0.4"])
def test_a_task_has_the_rows_of_the_simulator(extra):
    for number in (0, 5):
        given = config(number=number, population=extra)
        cohorts, task, test = cohorts_of(given), site.build(given), site.common_test(given)
        train, held = int(cohorts.train_rows[number]), int(cohorts.holdout_rows[number])
        assert torch.equal(task.train.inputs, cohorts.inputs[number, :train])
        assert torch.equal(task.train.targets, cohorts.targets[number, :train])
        assert torch.equal(task.holdout.inputs, cohorts.holdout_inputs[number, :held])
        assert torch.equal(task.holdout.targets, cohorts.holdout_targets[number, :held])
        own = number if len(cohorts.test_inputs) > 1 else 0
        assert torch.equal(test.inputs, cohorts.test_inputs[own])
        assert torch.equal(test.targets, cohorts.test_targets[own])
        assert not {*test.patients} & {*task.train.patients, *task.holdout.patients}


def test_a_task_trains_as_the_scenario_says():
    task = site.build(config())
    assert (task.local_steps, task.batch_size, task.learning_rate) == (3, 8, 0.05)
    assert (task.metric, task.classes) == ("balanced_accuracy", ("benign", "malignant"))
    epochs = site.build(config(TEXT.replace("local_steps = 3", "local_epochs = 2")))
    assert (epochs.local_steps, epochs.local_epochs) == (None, 2)


def test_models_go_round_and_are_part_of_the_name():
    tasks = [site.build(config(number=number)) for number in range(3)]
    assert [sum(p.numel() for p in task.model().parameters()) for task in tasks] == [266, 62, 266]
    assert tasks[0].name == tasks[2].name == "sim/breast_cancer/mlp:30-8-2"
    assert tasks[1].name == "sim/breast_cancer/logistic"


def test_all_sites_are_asked_the_same_question_as_in_the_simulator():
    text = TEXT.replace('"random"', '"pool"')
    questions = [site.build(config(text, number)).question() for number in (0, 1)]
    setting = setting_of(scenario_of(tomllib.loads(text.replace("{population}", ""))), Path())
    assert {one.digest for one in questions} == {setting.question.digest}
    weights = text.replace('"logits"]\nquestion = "pool"\nquestion_rows = 20', '"parameters"]')
    plain = config(weights.replace('["mlp:30-8-2", "logistic"]', '"logistic"'))
    assert site.build(plain).question is None
    with pytest.raises(ConfigError, match="nothing is asked"):
        site.common_question(plain)


def test_a_scenario_file_and_its_folder(tmp_path):
    (tmp_path / "net").mkdir()
    rows = "".join(f"{n % 13},{n % 2}\n" for n in range(60))
    (tmp_path / "net" / "my own.csv").write_text("age,label\n" + rows)
    (tmp_path / "net" / "own_nets.py").write_text(
        "from torch import nn\ndef net(inputs, classes):\n    return nn.Linear(*inputs, classes)\n"
    )
    text = '[population]\nnodes = 3\ndataset = "my own.csv"\nmodel = "own_nets:net"\n'
    (tmp_path / "net" / "ring.toml").write_text(f'{text}[topology]\nkind = "ring"\n')
    given = TaskConfig(tmp_path, "any", 1, {"scenario": "net/ring.toml", "site": 2})
    task = load_factory("konsil.simulations.sim.site:build", tmp_path)(given)
    assert task.name == "sim/my-own/own_nets:net"
    scenario = read_scenario(tmp_path / "net" / "ring.toml")
    cohorts = populate(scenario.population, scenario.seed, tmp_path / "net")
    assert torch.equal(task.train.inputs, cohorts.inputs[2, : cohorts.train_rows[2]])
    assert task.model()(task.train.inputs).shape == (len(task.train), 2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (config(number=6), r"site = 6 is no node"),
        (config(number=-1), r"site = -1 is no node"),
        (config(home=Path("/nowhere"), seats=1), "unknown field `seats`"),
        (config(number="0"), "Expected `int`, got `str`"),
        (config(population="drift = 0.1"), "drift moves the rows between rounds"),
        (config(population="nods = 3"), "no key `nods`"),
        (config(population='split = "no"\n').__class__(
            Path("/nowhere"), "any", 1, {"scenario": "a = \nb", "site": 0}), "is not TOML"),
    ],
)  # fmt: skip
def test_wrong_options_are_told(given, said):
    with pytest.raises(ConfigError, match=said):
        site.build(given)


def test_an_absent_scenario_is_told(tmp_path):
    given = TaskConfig(tmp_path, "any", 1, {"scenario": "gone.toml", "site": 0})
    with pytest.raises(UsageError, match=r"gone\.toml"):
        site.build(given)
