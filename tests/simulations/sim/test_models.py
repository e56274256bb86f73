"""Models: a name gives one network, which can be stacked; a wrong name is told."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

from konsil.knowledge.named import NamedTensors
from konsil.knowledge.networks import perceptron
from konsil.protocol.errors import ConfigError
from konsil.simulations.sim.models import MODELS, model_of


def elements(make):
    return sum(p.numel() for p in make().parameters())


def shapes(make):
    return [tuple(p.shape) for p in make().parameters()]


def test_full_widths_and_hidden_widths():
    assert elements(model_of("mlp:64-32-10", (64,), 10)) == 2410, "the common workload"
    assert shapes(model_of("mlp:32", (64,), 10)) == shapes(model_of("mlp:64-32-10", (64,), 10))
    assert shapes(model_of("mlp:64-10", (64,), 10)) == shapes(model_of("logistic", (64,), 10))
    assert shapes(model_of("mlp:64-32-10", (30,), 2)) == [
        (64, 30), (64,), (32, 64), (32,), (10, 32), (10,), (2, 10), (2,),
    ]  # fmt: skip


def test_a_network_of_a_table_is_that_of_the_tabular_task():
    """The same names of tensors, so that artifacts of both can be mixed."""
    assert list(NamedTensors.of(model_of("mlp:16", (30,), 2)())) == list(
        NamedTensors.of(perceptron(30, (16,), 2))
    )


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("logistic", (64,)),
        ("logistic", (3, 8, 6)),
        ("mlp:16", (3, 8, 6)),
        ("cnn", (64,)),
        ("cnn", (8, 8)),
        ("cnn", (3, 28, 30)),
        ("cnn", (1, 4, 4)),
        ("cnn:4-8", (64,)),
        ("cnn:4-8", (3, 28, 30)),
    ],
)
def test_a_model_can_be_stacked_and_trained_at_once(name, columns):
    make = model_of(name, columns, 5)
    modules = [make() for _ in range(3)]
    inputs = torch.randn(3, 7, *columns)
    assert modules[0](inputs[0]).shape == (7, 5)
    assert not dict(modules[0].named_buffers()), "statistics of batches cannot be mixed"
    stacked, _ = stack_module_state(modules)

    def loss(state, x):
        return functional_call(modules[0], state, (x,)).square().mean()

    slopes = vmap(grad(loss))(stacked, inputs)
    alone = grad(loss)(dict(modules[1].named_parameters()), inputs[1])
    for key, slope in slopes.items():
        assert torch.allclose(slope[1], alone[key], atol=1e-5)


def test_the_seed_of_torch_decides_the_start():
    make = model_of("cnn", (64,), 10)
    torch.manual_seed(4)
    one = NamedTensors.of(make())
    torch.manual_seed(4)
    again = NamedTensors.of(make())
    assert all(torch.equal(one[key], again[key]) for key in one)


@pytest.mark.parametrize(
    "name",
    ["resnet", "logistic:8", "mlp", "mlp:", "mlp:0", "mlp:8-", "mlp:-8", "mlp:a", "LOGISTIC"],
)
def test_an_unknown_model_is_told_with_those_there_are(name):
    with pytest.raises(ConfigError, match=r"\[population\] model = .* is not known") as caught:
        model_of(name, (64,), 10)
    assert all(kind in caught.value.hint for kind in MODELS)


@pytest.mark.parametrize(("name", "columns"), [("cnn", (30,)), ("cnn", (3, 3)), ("cnn:8", (30,))])
def test_inputs_that_are_no_image_are_told(name, columns):
    with pytest.raises(ConfigError, match=r'model = "cnn.*" does not fit inputs of the shape'):
        model_of(name, columns, 10)


OWN = """
from torch import nn
def good(inputs, classes):
    return nn.Linear(inputs[0], classes)
def narrow(inputs, classes):
    return nn.Linear(inputs[0], classes + 1)
def broken(inputs, classes):
    raise KeyError("no such layer")
def nothing(inputs, classes):
    return None
"""


def test_an_own_function_beside_the_scenario(tmp_path):
    (tmp_path / "own_nets.py").write_text(OWN)
    make = model_of("own_nets:good", (6,), 3, tmp_path)
    assert isinstance(make(), nn.Linear)
    assert shapes(make) == [(3, 6), (3,)]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("narrow", r"answers two rows with the shape \(2, 4\), not \(2, 3\)"),
        ("broken", "KeyError: 'no such layer'"),
        ("nothing", "AttributeError"),
        ("absent", "has no function 'absent'"),
    ],
)
def test_an_own_function_that_is_wrong_is_named(tmp_path, function, said):
    (tmp_path / "own_nets.py").write_text(OWN)
    with pytest.raises(ConfigError, match=said) as caught:
        model_of(f"own_nets:{function}", (6,), 3, tmp_path)
    assert "[population] model" in caught.value.message


def test_trying_a_model_draws_nothing_from_torch_s_own_numbers(tmp_path):
    (tmp_path / "own_nets.py").write_text(OWN)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    model_of("own_nets:good", (6,), 3, tmp_path)
    assert torch.equal(torch.rand(3), expected)
