"""Attacks change what leaves a hospital, and nothing else of its task."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from konsil.knowledge.named import NamedTensors
from konsil.knowledge.task import TaskConfig
from konsil.protocol.errors import ConfigError
from konsil.simulations import adversary

TASK = """
import torch
from torch import nn
from konsil.knowledge.task import Rows, Task

def build(config):
    rows = Rows(torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]), [f"p{i}" for i in range(4)])
    kept = Rows(torch.zeros(2, 2), torch.tensor([0, 1]), ["q0", "q1"])
    return Task(
        name=config.options["word"], classes=("no", "yes"), model=lambda: nn.Linear(2, 2),
        train=rows, holdout=kept,
    )
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "honest_task.py").write_text(TASK)

    def make(attack):
        options = {"attack": attack, "factory": "honest_task:build", "options": {"word": "real"}}
        return TaskConfig(home=tmp_path, name="evil", seed=3, options=options)

    return make


def models():
    before = NamedTensors({"w": torch.tensor([1.0, 2.0]), "count": torch.tensor([3])})
    trained = NamedTensors({"w": torch.tensor([1.5, 1.0]), "count": torch.tensor([4])})
    return before, trained


def test_sign_flip_turns_the_step_round_and_makes_it_five_times_as_long(config):
    before, trained = models()
    task = adversary.build(config("sign_flip"))
    assert task.release is not None
    released = task.release(before, trained)
    assert torch.equal(released["w"], torch.tensor([1.0 - 2.5, 2.0 + 5.0]))
    assert torch.equal(trained["w"], torch.tensor([1.5, 1.0]))


def test_a_free_rider_gives_back_what_it_had(config):
    before, trained = models()
    released = adversary.build(config("free_rider")).release(before, trained)
    assert torch.equal(released["w"], before["w"])


def test_noise_is_five_steps_long_and_repeats_with_the_seed(config):
    before, trained = models()
    first = adversary.build(config("noise")).release(before, trained)
    again = adversary.build(config("noise")).release(before, trained)
    assert torch.equal(first["w"], again["w"])
    step = (trained - before).norm()
    assert (first - trained).norm() == pytest.approx(5 * step, rel=1e-5)
    assert torch.equal(first["count"], trained["count"])


def test_all_else_of_the_task_is_the_real_one(config):
    task = adversary.build(config("sign_flip"))
    assert task.name == "real"
    assert dataclasses.replace(task, release=None).release is None
    assert len(task.train) == 4


@pytest.mark.parametrize("attack", ["", "kindness"])
def test_an_unknown_attack_is_refused(config, attack):
    with pytest.raises(ConfigError, match="there is no attack"):
        adversary.build(config(attack))


def test_a_missing_factory_is_refused(tmp_path):
    config = TaskConfig(home=tmp_path, name="evil", seed=0, options={"attack": "sign_flip"})
    with pytest.raises(ConfigError, match="module:function"):
        adversary.build(config)
