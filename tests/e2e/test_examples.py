"""What a hospital has already becomes a task: a plain training script, a Flower client."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from network import Network

from konsil.knowledge import TaskConfig, train
from konsil.knowledge.judge import Judge
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.task import load_factory
from konsil.node.config import read_config
from konsil.node.learning.rehearsal import rehearse
from konsil.node.paths import Home

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PARTS = {"script": ("train.py", "task.py"), "flower": ("client.py", "task.py")}


class NumPyClient:
    """The methods of Flower's class of this name, none of which a node relies on."""

    context = None

    def get_properties(self, config):
        return {}

    def get_parameters(self, config):
        return []

    def fit(self, parameters, config):
        return [], 0, {}

    def evaluate(self, parameters, config):
        return 0.0, 0, {}

    def to_client(self):
        raise NotImplementedError


@pytest.fixture(params=["with Flower", "without"])
def flower(request, monkeypatch):
    """Flower's import path with a stand-in behind it, or nothing."""
    client = ModuleType("flwr.client")
    client.NumPyClient = NumPyClient
    package = ModuleType("flwr")
    package.client = client
    there = request.param == "with Flower"
    monkeypatch.setitem(sys.modules, "flwr", package if there else None)
    monkeypatch.setitem(sys.modules, "flwr.client", client if there else None)
    return NumPyClient if there else object


@pytest.fixture
def load(tmp_path, monkeypatch):
    """A task as a node loads it, from a home with the files of an example."""
    kept = list(sys.path)

    def load(example, **options):
        for name in PARTS[example]:
            shutil.copy(EXAMPLES / example / name, tmp_path)
            monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
        build = load_factory("task:build", tmp_path)
        return build(TaskConfig(tmp_path, "bern", 3, {"site": 0, "sites": 2, **options}))

    yield load
    sys.path[:] = kept
    for name in ("train", "client", "task"):
        sys.modules.pop(name, None)


def learned(task, rounds):
    model = train.initial_model(task, 3)
    for number in range(1, rounds + 1):
        model = train.train(task, model, seed=3, node="bern", number=number).model
    return model


def test_a_round_is_an_epoch_of_the_script(load):
    task = load("script")
    script = sys.modules["train"]
    found = train.train(task, train.initial_model(task, 3), seed=3, node="bern", number=1)
    seed = train.seed_of(3, "train", "bern", "1")
    net = script.Net()
    train.initial_model(task, 3).load_into(net)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(task.train.inputs, task.train.targets), script.BATCH,
        shuffle=True, generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    loss = script.train_epoch(net, loader, torch.optim.Adam(net.parameters(), script.RATE))
    assert found.loss == loss
    assert found.model.distance(NamedTensors.of(net)) == 0


def test_a_round_is_one_call_of_the_flower_client(flower, load):
    task = load("flower")
    client = sys.modules["client"]
    assert issubclass(client.Hospital, flower)
    found = train.train(task, train.initial_model(task, 3), seed=3, node="bern", number=1)
    again = train.train(task, train.initial_model(task, 3), seed=3, node="bern", number=1)
    assert found.model.distance(again.model) == 0
    own = client.client_fn(0, 2)
    arrays = [value.numpy() for value in train.initial_model(task, 3).values()]
    with torch.random.fork_rng():
        torch.manual_seed(train.seed_of(3, "train", "bern", "1"))
        task.model()
        trained, count, metrics = own.fit(arrays, {})
    assert (count, metrics["loss"]) == (len(task.train), found.loss)
    assert all(
        torch.equal(torch.tensor(mine), theirs)
        for mine, theirs in zip(trained, found.model.values(), strict=True)
    )
    loss, rows, _ = own.evaluate(trained, {})
    assert rows == len(task.holdout)
    assert loss < own.evaluate(arrays, {})[0]


@pytest.mark.parametrize("example", PARTS)
def test_a_wrapped_task_learns(load, example):
    task = load(example)
    judge = Judge(task, "cpu")
    before = judge.measure(train.initial_model(task, 3))["auc"]
    assert judge.measure(learned(task, 5))["auc"] > max(0.97, before)


@pytest.mark.slow
async def test_a_script_and_a_flower_client_learn_from_each_other(tmp_path, nursery):
    names = dict(zip("ab", PARTS, strict=True))
    options = {name: {"site": site, "sites": 2} for site, name in enumerate(names)}
    net = Network(
        tmp_path, nursery, "ab", rounds=3, factory="task:build", options=options, patience_s=60.0
    )
    for name, example in names.items():
        for file in PARTS[example]:
            shutil.copy(EXAMPLES / example / file, tmp_path / name)
    await net.start()
    await net.until(net.idle, seconds=200)
    assert (net.sources("a")["b"], net.sources("b")["a"]) == (3, 3)
    assert all(daemon.learner.metrics["auc"] > 0.9 for daemon in net.daemons.values())
    nursery.cancel_scope.cancel()


@pytest.mark.slow
def test_konsil_config_check_opens_the_wrapped_client(tmp_path):
    net = Network(tmp_path, None, "a", factory="task:build", options={"a": {"site": 0, "sites": 2}})
    for file in PARTS["flower"]:
        shutil.copy(EXAMPLES / "flower" / file, tmp_path / "a")
    opened = rehearse(tmp_path / "a", read_config(Home(net.root / "a").config))
    assert (opened.task, opened.classes) == ("breast-cancer-wrapped", ("malignant", "benign"))
    assert opened.rows == 213
