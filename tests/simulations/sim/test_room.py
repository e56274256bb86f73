"""Room: what cannot fit the memory is refused before it is made, and what fits is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from konsil.knowledge.networks import hidden_widths, perceptron
from konsil.protocol.errors import ConfigError
from konsil.simulations.sim import datasets, room
from konsil.simulations.sim.scenario import Population
from konsil.simulations.sim.scenario_reading import read_scenario, scenario_of

EXAMPLES = sorted((Path(__file__).parents[3] / "examples" / "scenarios").glob("*.toml"))


def scenario(population=None, training=None):
    return scenario_of(
        {
            "population": {"nodes": 6, "dataset": "digits", **(population or {})},
            "topology": {"kind": "ring"},
            "training": training or {},
        }
    )


@pytest.mark.parametrize(
    ("population", "training", "key"),
    [
        ({"model": "mlp:99999999999"}, {}, "[population] model"),
        ({"model": "mlp:100000-100000"}, {}, "[population] model"),
        ({"nodes": 1000, "rows": 1_000_000}, {}, "[population] rows"),
        ({}, {"local_epochs": 1_000_000}, "[training] local_epochs"),
        ({"nodes": 1000}, {"local_steps": 1_000_000}, "[training] local_steps"),
        ({"dataset": "own.csv", "model": "mlp:99999999999"}, {}, "[population] model"),
    ],
)
def test_what_cannot_fit_names_the_key_to_blame(population, training, key):
    with pytest.raises(ConfigError) as caught:
        room.check(scenario(population, training), 16_000)
    assert caught.value.message.startswith(f"{key}: this takes ")
    assert caught.value.message.endswith("and 16.8 GB are free")
    assert caught.value.hint
    assert room.check(scenario(population, training), None) is None


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_fits_a_small_machine(path):
    assert sum(room.needed_bytes(read_scenario(path)).values()) < 10**9


def test_the_largest_networks_of_the_work_order_fit_four_gigabytes():
    one = scenario({"nodes": 10_000, "rows": 30, "model": "mlp:64-32"}, {"rounds": 20})
    assert room.check(one, 3_800) is None


@pytest.mark.parametrize("model", ["logistic", "mlp:64-32", "mlp:7"])
def test_a_model_is_counted_as_torch_makes_it(model):
    made = perceptron(64, hidden_widths(model), 10)
    numbers = sum(one.numel() for one in made.parameters())
    assert (
        room.needed_bytes(scenario({"model": model}))["[population] model"] == 4 * 3 * 6 * numbers
    )


@pytest.mark.parametrize("name", ["digits", "breast_cancer"])
def test_the_sizes_are_those_of_the_data(name):
    data = datasets.read(Population(nodes=2, dataset=name), Path("/nowhere"))
    assert room.KNOWN[name] == (
        len(data.train), data.rows.inputs.shape[1], len(data.rows.classes)
    )  # fmt: skip
