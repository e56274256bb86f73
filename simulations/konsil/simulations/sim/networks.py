"""Networks: what a batch of models answers, and one step of gradient descent for each.

Three ways to the same numbers. A perceptron (linear layers with ReLU between) is written out as
batched matrix products, which is the fastest by far; any other network that torch's `vmap` can
carry goes that way; the rest runs one model after the other. `network_of` chooses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import func, nn
from torch.nn import functional

from konsil.knowledge import train
from konsil.protocol.errors import ConfigError
from konsil.simulations.sim.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor


@dataclass(frozen=True)
class Step:
    """One batch of each of the first b models; the others take no part in it."""

    inputs: Tensor
    """(b, n, …)."""
    targets: Tensor
    """(b, n) class numbers, or (b, n, C) probabilities."""
    weights: Tensor
    """(b, n): those of a model sum to one; 0 is padding."""


class Trials(Protocol):
    """What models answer that lie between a start and an end, to the inputs of the start."""

    def stay(self) -> Tensor:
        """Answers (n, r, C) of the starts themselves."""
        ...

    def moved(self, starts: Tensor, ends: Tensor, way: Tensor) -> Tensor:
        """Answers (s · k, r, C) of models a part `way` (s, k) of the way from the starts with
        these numbers (s, k) to the ends (s, p), each of which goes with k starts."""
        ...


class Network(Protocol):
    """An architecture, applied to rows of parameters (b, p)."""

    layout: Layout
    way: str
    """How it is computed: `batched products`, `vmap` or `one by one`."""

    def outputs(self, models: Tensor, inputs: Tensor) -> Tensor:
        """Answers (b, n, C) to inputs (b, n, …), without gradients."""
        ...

    def trials(self, starts: Tensor, inputs: Tensor) -> Trials:
        """Of models that lie between starts (n, p), each with its inputs (n, r, …), and others."""
        ...

    def descend(self, models: Tensor, steps: Iterable[Step], rate: float) -> None:
        """Steps of descent on the weighted cross-entropy, written into `models` (b, p)."""
        ...


def network_of(make: Callable[[], nn.Module], columns: tuple[int, ...]) -> Network:
    """The fastest way to compute with networks of this kind; `columns` is an input's shape.

    Raises `ConfigError` for a network that draws random numbers while it trains: the simulator
    could not repeat them.
    """
    module = make()
    rows, targets = torch.zeros(2, 2, *columns), torch.zeros(2, 2, dtype=torch.int64)
    step = Step(rows, targets, torch.full((2, 2), 0.5))
    alone = OneByOne(module)
    _require_repeatable(alone, step)
    if _is_perceptron(module) and _agree(Perceptron(module), alone, step):
        return Perceptron(module)
    # Buffers and frozen tensors are in a row too, and must not be trained.
    moved = all(parameter.requires_grad for parameter in module.parameters())
    if moved and not any(True for _ in module.buffers()):
        try:
            if _agree(Vmapped(module), alone, step):
                return Vmapped(module)
        except RuntimeError:
            return alone  # vmap cannot carry it
    return alone


def _require_repeatable(network: OneByOne, step: Step) -> None:
    """Raises `ConfigError` where one step draws from torch's random numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        before = torch.get_rng_state()
        network.descend(network.start(2), [step], 0.1)
        if not torch.equal(before, torch.get_rng_state()):
            raise ConfigError(
                "[population] model draws random numbers while it trains, as dropout does",
                hint="take such layers out: a run could not be repeated",
            )


def _agree(fast: Perceptron | Vmapped, alone: OneByOne, step: Step) -> bool:
    """Do both make the same of one step?"""
    one, other = alone.start(2), alone.start(2)
    fast.descend(one, [step], 0.1)
    alone.descend(other, [step], 0.1)
    return torch.allclose(one, other, atol=1e-5)


class Perceptron:
    """Linear layers with ReLU between them, as batched matrix products."""

    way = "batched products"

    def __init__(self, module: nn.Module) -> None:
        self.layout = Layout.of(module)

    def _layers(self, models: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Weights (b, out, in) and biases (b, 1, out) of each layer, as views."""
        found = list(self.layout.tensors(models).values())
        pairs = zip(found[::2], found[1::2], strict=True)
        return [(weight, bias.unsqueeze(1)) for weight, bias in pairs]

    def outputs(self, models: Tensor, inputs: Tensor) -> Tensor:
        """See `Network`."""
        return _forward(self._layers(models), inputs.flatten(2))[-1]

    def trials(self, starts: Tensor, inputs: Tensor) -> Trials:
        """See `Network`."""
        return _LayeredTrials(self._layers, starts, inputs.flatten(2))

    def descend(self, models: Tensor, steps: Iterable[Step], rate: float) -> None:
        """See `Network`. The layers are unpacked for the time of it: a product into a part of
        a row would be made for one model after the other."""
        views = self._layers(models)
        layers = [(weight.contiguous(), bias.contiguous()) for weight, bias in views]
        for step in steps:
            few = len(step.inputs)
            taking = layers if few == len(models) else [(w[:few], b[:few]) for w, b in layers]
            _descend(taking, step, rate)
        for (weight, bias), (new_weight, new_bias) in zip(views, layers, strict=True):
            weight.copy_(new_weight)
            bias.copy_(new_bias)


def _forward(layers: list[tuple[Tensor, Tensor]], inputs: Tensor) -> list[Tensor]:
    """The inputs (b, n, in), every layer's activations, and the outputs."""
    found = [inputs]
    for number, (weight, bias) in enumerate(layers, 1):
        values = torch.baddbmm(bias, found[-1], weight.transpose(1, 2))
        found.append(values.relu_() if number < len(layers) else values)
    return found


def _descend(layers: list[tuple[Tensor, Tensor]], step: Step, rate: float) -> None:
    """One step, written into the layers."""
    *active, outputs = _forward(layers, step.inputs.flatten(2))
    slope = outputs.softmax(-1)
    if step.targets.dim() == 3:
        slope -= step.targets
    else:
        right = step.targets.unsqueeze(2)
        slope.scatter_add_(2, right, slope.new_full((), -1).expand(right.shape))
    slope *= (step.weights * rate).unsqueeze(2)
    for (weight, bias), values in zip(reversed(layers), reversed(active), strict=True):
        below = torch.bmm(slope, weight) if values is not active[0] else None
        weight.baddbmm_(slope.transpose(1, 2), values, alpha=-1)
        bias -= slope.sum(1, keepdim=True)
        if below is not None:
            slope = torch.ops.aten.threshold_backward(below, values, 0)


class _LayeredTrials:
    """Trials of perceptrons. The first layer is linear in its weights: what it answers of each
    end alone is mixed with what it answers of the starts, which is less than to mix weights."""

    def __init__(
        self,
        layers_of: Callable[[Tensor], list[tuple[Tensor, Tensor]]],
        starts: Tensor,
        inputs: Tensor,
    ) -> None:
        self._layers_of, self._inputs = layers_of, inputs
        (weight, bias), *above = layers_of(starts)
        self._first = torch.baddbmm(bias, inputs, weight.transpose(1, 2))
        self._above = [(weight.contiguous(), bias.contiguous()) for weight, bias in above]

    def stay(self) -> Tensor:
        """See `Trials`."""
        return self._upwards(self._first, self._above)

    def moved(self, starts: Tensor, ends: Tensor, way: Tensor) -> Tensor:
        """See `Trials`."""
        which = starts.flatten()
        (weight, bias), *far = self._layers_of(ends)
        rows = self._inputs.index_select(0, which)
        side_by_side = rows.view(len(ends), -1, rows.shape[-1])
        there = torch.baddbmm(bias, side_by_side, weight.transpose(1, 2))
        values = self._first.index_select(0, which)
        values.lerp_(there.view(values.shape), way.reshape(-1, 1, 1))
        above = [
            (_between(near[0], one[0], starts, way), _between(near[1], one[1], starts, way))
            for near, one in zip(self._above, far, strict=True)
        ]
        return self._upwards(values, above)

    def _upwards(self, values: Tensor, above: list[tuple[Tensor, Tensor]]) -> Tensor:
        return _forward(above, values.relu())[-1] if above else values


def _between(near: Tensor, far: Tensor, starts: Tensor, way: Tensor) -> Tensor:
    """(s · k, …): a part of the way from near (n, …) to far (s, …), for starts (s, k)."""
    chosen = near.index_select(0, starts.flatten())
    spread = chosen.view(*starts.shape, *near.shape[1:])
    spread.lerp_(far.unsqueeze(1), way[..., None, None])
    return chosen


class _WholeTrials:
    """Trials of any networks, whose whole models are mixed."""

    def __init__(
        self, outputs: Callable[[Tensor, Tensor], Tensor], starts: Tensor, inputs: Tensor
    ) -> None:
        self._outputs, self._starts, self._inputs = outputs, starts, inputs

    def stay(self) -> Tensor:
        """See `Trials`."""
        return self._outputs(self._starts, self._inputs)

    def moved(self, starts: Tensor, ends: Tensor, way: Tensor) -> Tensor:
        """See `Trials`."""
        which = starts.flatten()
        models = torch.lerp(
            self._starts[which], ends.repeat_interleave(starts.shape[1], 0), way.reshape(-1, 1)
        )
        return self._outputs(models, self._inputs[which])


class Vmapped:
    """Any network without state, through `torch.func`."""

    way = "vmap"

    def __init__(self, module: nn.Module) -> None:
        self.layout = Layout.of(module)
        self._module = module

    def _answer(self, model: Tensor, inputs: Tensor) -> Tensor:
        answer: Tensor = func.functional_call(self._module, self.layout.tensors(model), (inputs,))
        return answer

    def _loss(self, model: Tensor, inputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        rows = functional.cross_entropy(self._answer(model, inputs), targets, reduction="none")
        return (rows * weights).sum()

    def outputs(self, models: Tensor, inputs: Tensor) -> Tensor:
        """See `Network`."""
        self._module.eval()
        with torch.no_grad():
            return func.vmap(self._answer)(models, inputs)

    def trials(self, starts: Tensor, inputs: Tensor) -> Trials:
        """See `Network`."""
        return _WholeTrials(self.outputs, starts, inputs)

    def descend(self, models: Tensor, steps: Iterable[Step], rate: float) -> None:
        """See `Network`."""
        self._module.train()
        slopes_of = func.vmap(func.grad(self._loss), randomness="different")
        for step in steps:
            taking = models[: len(step.inputs)]
            slopes = slopes_of(taking, step.inputs, step.targets, step.weights)
            taking.sub_(slopes, alpha=rate)


class OneByOne:
    """A network that only runs by itself: one model after the other."""

    way = "one by one"

    def __init__(self, module: nn.Module) -> None:
        self.layout = Layout.of(module)
        self._module = module

    def start(self, count: int) -> Tensor:
        """(count, p): the weights that the network was made with."""
        return self.layout.row(self._module.state_dict()).repeat(count, 1)

    def _load(self, model: Tensor) -> None:
        state = self._module.state_dict()
        for name, values in self.layout.tensors(model).items():
            state[name].copy_(values)

    def outputs(self, models: Tensor, inputs: Tensor) -> Tensor:
        """See `Network`."""
        self._module.eval()
        answers = []
        with torch.no_grad():
            for model, mine in zip(models, inputs, strict=True):
                self._load(model)
                answers.append(self._module(mine))
        return torch.stack(answers)

    def trials(self, starts: Tensor, inputs: Tensor) -> Trials:
        """See `Network`."""
        return _WholeTrials(self.outputs, starts, inputs)

    def descend(self, models: Tensor, steps: Iterable[Step], rate: float) -> None:
        """See `Network`."""
        self._module.train()
        for step in steps:
            for place, inputs in enumerate(step.inputs):
                with torch.no_grad():
                    self._load(models[place])
                counted = step.weights[place] > 0
                self._module.zero_grad()
                answers = self._module(inputs[counted])
                targets, weights = step.targets[place][counted], step.weights[place][counted]
                rows = functional.cross_entropy(answers, targets, reduction="none")
                torch.autograd.backward((rows * weights).sum())
                train.step(self._module, rate)
                models[place].copy_(self.layout.row(self._module.state_dict()))


def _is_perceptron(module: nn.Module) -> bool:
    """Linear layers with biases, ReLU between them, and nothing else but a Flatten."""
    parts = [part for part in _layers_of(module) if type(part) is not nn.Flatten]
    linear, between = parts[::2], parts[1::2]
    return (
        len(parts) % 2 == 1
        and all(isinstance(part, nn.Linear) and part.bias is not None for part in linear)
        and all(type(part) is nn.Linear for part in linear)
        and all(type(part) is nn.ReLU for part in between)
    )


def _layers_of(module: nn.Module) -> list[nn.Module]:
    """The layers of plain sequences within each other, in their order, repeated ones too."""
    if type(module) is not nn.Sequential:
        return [module]
    return [layer for part in module for layer in _layers_of(part)]
