"""Networks: three ways to compute with a batch of models, against plain torch one by one."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from konsil.protocol.errors import ConfigError
from konsil.simulations.sim.layout import Layout
from konsil.simulations.sim.networks import OneByOne, Perceptron, Step, Vmapped, network_of

MLP = lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))  # noqa: E731
CNN = lambda: nn.Sequential(  # noqa: E731
    nn.Unflatten(1, (1, 2, 3)),
    nn.Conv2d(1, 4, 2),
    nn.GroupNorm(2, 4),
    nn.Flatten(),
    nn.Linear(8, 3),
)


def models_of(network, make, count):
    rows = []
    for seed in range(count):
        torch.manual_seed(seed)
        rows.append(network.layout.row(make().state_dict()))
    return torch.stack(rows)


def a_batch(count, rows=7):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, rows, 6, generator=generator)
    targets = torch.randint(3, (count, rows), generator=generator)
    weights = torch.rand(count, rows, generator=generator)
    weights[:, -2:] = 0
    weights /= weights.sum(1, keepdim=True)
    weights[-1] = 0
    return inputs, targets, weights


def by_hand(make, layout, model, inputs, targets, weights, rate):
    """One step with autograd and plain torch."""
    module = make()
    module.load_state_dict(layout.tensors(model))
    loss = functional.cross_entropy(module(inputs), targets, reduction="none") @ weights
    slopes = torch.autograd.grad(loss, list(module.parameters()))
    with torch.no_grad():
        for parameter, slope in zip(module.parameters(), slopes, strict=True):
            parameter -= rate * slope
    return layout.row(module.state_dict()), module(inputs).detach()


@pytest.mark.parametrize(
    ("make", "way"),
    [(MLP, Perceptron), (MLP, Vmapped), (MLP, OneByOne), (CNN, Vmapped), (CNN, OneByOne)],
)
@pytest.mark.parametrize("soft", [False, True])
def test_a_step_and_the_answers_are_those_of_plain_torch(make, way, soft):
    network = way(make())
    models = models_of(network, make, 4)
    inputs, targets, weights = a_batch(4)
    if soft:
        targets = torch.randn(4, 7, 3, generator=torch.Generator().manual_seed(2)).softmax(-1)
    wanted = [
        by_hand(make, network.layout, models[i], inputs[i], targets[i], weights[i], 0.3)
        for i in range(4)
    ]
    stepped = models.clone()
    network.descend(stepped, [Step(inputs, targets, weights)], 0.3)
    answers = network.outputs(stepped, inputs)
    for i, (row, answer) in enumerate(wanted):
        torch.testing.assert_close(stepped[i], row, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(answers[i], answer, atol=1e-5, rtol=1e-4)
    assert torch.equal(stepped[-1], models[-1]), "a model without rows does not move"


def test_the_fastest_way_that_fits_is_taken():
    assert isinstance(network_of(MLP, (6,)), Perceptron)
    flat = lambda: nn.Sequential(nn.Flatten(), MLP())  # noqa: E731
    assert isinstance(network_of(flat, (2, 3)), Perceptron)
    assert isinstance(network_of(CNN, (6,)), Vmapped)
    assert isinstance(network_of(lambda: nn.Sequential(nn.Linear(6, 3, bias=False)), (6,)), Vmapped)

    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(6, 3)

        def forward(self, inputs):
            return self.linear(inputs) * float(inputs.sum() > -1e9)

    assert isinstance(network_of(Stubborn, (6,)), OneByOne)


class Scaled(nn.Module):
    """Has a buffer and a frozen tensor, which nobody trains."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 3)
        self.register_buffer("scale", torch.ones(6))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, inputs):
        return self.linear(inputs * self.scale) * self.frozen


def test_buffers_and_frozen_tensors_stay_as_they_are():
    network = network_of(Scaled, (6,))
    models = models_of(network, Scaled, 4)
    stepped = models.clone()
    network.descend(stepped, [Step(*a_batch(4))], 0.3)
    before, after = network.layout.tensors(models), network.layout.tensors(stepped)
    for name in ("scale", "frozen"):
        assert torch.equal(before[name], after[name])
    assert not torch.equal(before["linear.weight"][0], after["linear.weight"][0])


def test_a_network_that_draws_while_it_trains_is_refused():
    with pytest.raises(ConfigError, match="random"):
        network_of(lambda: nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5)), (6,))


def test_only_what_is_a_perceptron_is_taken_for_one():
    shared = nn.ReLU()
    twice = nn.Sequential(nn.Linear(6, 5), shared, nn.Linear(5, 3), shared)
    assert not isinstance(network_of(lambda: twice, (6,)), Perceptron)

    class Doubled(nn.Sequential):
        def forward(self, inputs):
            return 2 * super().forward(inputs)

    assert not isinstance(network_of(lambda: Doubled(nn.Linear(6, 3)), (6,)), Perceptron)


def test_a_network_that_counts_is_refused_by_the_name_of_its_tensor():
    with pytest.raises(ConfigError, match="num_batches_tracked"):
        Layout.of(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))


def test_a_row_is_a_model_and_its_views_write_into_it():
    layout = Layout.of(MLP())
    module = MLP()
    row = layout.row(module.state_dict())
    assert row.shape == (layout.elements,)
    views = layout.tensors(row)
    assert all(torch.equal(views[name], tensor) for name, tensor in module.state_dict().items())
    views["0.bias"].fill_(7.0)
    assert int((row == 7.0).sum()) == 5
