"""One round of local training on images: seeded, planned, and able to learn masks and classes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from konsil.knowledge import pack, train
from konsil.knowledge.imaging.augment import Augmentation
from konsil.knowledge.imaging.fitting import Fitting, soft_dice_loss
from konsil.knowledge.imaging.networks import network
from konsil.knowledge.imaging.plans import Plan
from konsil.knowledge.judge import Judge
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.task import Rows, Scheduled, Task
from konsil.protocol.errors import ConfigError, TaskError

pytestmark = pytest.mark.slow

AUGMENTED = Augmentation(flip=True, turn=True, gain=0.1)


def discs(count: int, seed: int, *, masks: bool, first: int = 0) -> Rows:
    """A bright disc on every image; of two sizes, which is the class."""
    draw = torch.Generator().manual_seed(seed)
    kind = torch.randint(2, (count,), generator=draw)
    centre = 5 + 6 * torch.rand(count, 2, generator=draw)
    grid = torch.stack(torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij"))
    apart = (grid[None] - centre[:, :, None, None]).square().sum(1).sqrt()
    inside = apart < (2.0 + 2.5 * kind)[:, None, None]
    noise = 0.3 * torch.rand(count, 16, 16, generator=draw)
    inputs = (0.6 * inside + noise)[:, None]
    names = [f"p{first + number}" for number in range(count)]
    return Rows(inputs, inside.long() if masks else kind, names)


def task(*, masks: bool, **changes) -> Task:
    model = "unet:4-8" if masks else "cnn:4-8"
    fit = Fitting(2, 0.02, optimiser="adam", steps=12, augmentation=AUGMENTED, dice=1.0)
    plain = Task(
        name="discs",
        classes=("ground", "disc") if masks else ("small", "large"),
        model=network(model, shape=(1, 16, 16), classes=2, masks=masks, search=Path()),
        train=discs(32, 1, masks=masks),
        holdout=discs(16, 2, masks=masks, first=100),
        fit=fit,
        problem="masks" if masks else "classes",
    )
    return dataclasses.replace(plain, **changes)


def after(toy: Task, rounds: int):
    model = train.initial_model(toy, 1)
    for number in range(1, rounds + 1):
        model = train.train(toy, model, seed=1, node="a", number=number).model
    return model


def test_masks_are_learned():
    toy = task(masks=True)
    found = Judge(toy, "cpu").measure(after(toy, 4))
    assert found["dice"] > 0.9
    assert found["hausdorff95"] < 3
    assert found["foreground"] == pytest.approx(found["true_foreground"], rel=0.25)


def test_classes_are_learned_from_few_large_ones():
    toy = task(masks=False)
    fit = dataclasses.replace(toy.fit, weighted=True, steps=25)
    assert Judge(toy, "cpu").measure(after(dataclasses.replace(toy, fit=fit), 4))["auc"] > 0.9


def test_a_round_is_repeatable_and_leaves_its_start():
    toy = task(masks=True)
    start = train.initial_model(toy, 1)
    before = pack.to_bytes(start)
    one, other = (train.train(toy, start, seed=1, node="a", number=3) for _ in range(2))
    assert pack.to_bytes(one.model) == pack.to_bytes(other.model) != before
    assert one.loss == other.loss
    assert pack.to_bytes(start) == before
    elsewhere = train.train(toy, start, seed=1, node="b", number=3)
    assert pack.to_bytes(elsewhere.model) != pack.to_bytes(one.model)


def test_the_plan_sets_how_far_a_round_goes():
    """Gradients of a linear loss do not change, so a round of SGD goes as far as its rate."""

    class Slope(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, images):
            return self.weight * images.flatten(1)[:, :2]

    images = torch.zeros(8, 1, 1, 2)
    images[..., 0] = 1e-3
    rows = Rows(images, torch.zeros(8, dtype=torch.long), list("abcdefgh"))
    plan = Plan(kind="step", every=1, drop=0.5, floor=0.0, warmup_steps=1)
    fit = Fitting(2, 1.0, batch=4, steps=2, plan=plan)
    assert isinstance(fit, Scheduled)
    moved = []
    for number in (1, 2, 3):
        module = Slope()
        fit.at(number)(module, rows, torch.Generator().manual_seed(1))
        moved.append(float(module.weight.detach()))
    gradient = 0.5e-3
    assert moved == pytest.approx([1.5 * gradient, 0.75 * gradient, 0.375 * gradient], rel=1e-3)


def test_every_row_is_seen_once_an_epoch_and_no_batch_is_single():
    seen: list[torch.Tensor] = []

    class Watch(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self, images):
            seen.append(images[:, 0, 0, 0])
            return images.flatten(1)[:, :1] * self.weight

    numbers = torch.arange(17.0).view(17, 1, 1, 1)
    rows = Rows(numbers, torch.zeros(17, dtype=torch.long), [str(n) for n in range(17)])
    Fitting(2, 0.1, batch=8, epochs=2)(Watch(), rows, torch.Generator().manual_seed(1))
    assert sorted(len(one) for one in seen) == [5, 5, 6, 6, 6, 6]
    assert torch.equal(torch.cat(seen[:3]).sort().values, torch.arange(17.0))
    assert not torch.equal(torch.cat(seen[:3]), torch.cat(seen[3:]))


def test_a_loss_without_a_value_is_a_clear_error():
    toy = task(masks=True)
    toy.train.inputs[2] = float("nan")
    with pytest.raises(TaskError, match=r"the loss of batch \d+ is nan"):
        after(toy, 1)


def together(sites: list[Task], rounds: int) -> NamedTensors:
    """Everybody trains, then all take the mean: three hospitals in a ring."""
    model = train.initial_model(sites[0], 1)
    for number in range(1, rounds + 1):
        each = [
            train.train(site, model, seed=1, node=str(at), number=number).model
            for at, site in enumerate(sites)
        ]
        model = NamedTensors(
            {name: torch.stack([one[name] for one in each]).mean(0) for name in model}
        )
    return model


def test_a_small_hospital_with_the_other_contrast_is_not_outvoted():
    """Two hospitals see bright discs, a small one sees dark ones, and all take equal steps."""
    few = discs(4, 7, masks=True, first=500)
    dark = Rows(1 - few.inputs, few.targets, few.patients)
    own = discs(12, 8, masks=True, first=600)
    sites = [
        task(masks=True, train=discs(40, seed, masks=True, first=seed * 50)) for seed in (3, 4)
    ]
    small = task(masks=True, train=dark, holdout=Rows(1 - own.inputs, own.targets, own.patients))
    found = {}
    for steps in (None, 5):
        fit = Fitting(2, 0.01, optimiser="adam", steps=steps)
        every = [dataclasses.replace(site, fit=fit) for site in (*sites, small)]
        model = together(every, 16)
        found[steps] = [Judge(site, "cpu").measure(model)["dice"] for site in every]
    assert found[None][2] < 0.15 < 0.4 < found[5][2]
    assert min(found[5][:2]) > 0.7


@pytest.mark.parametrize(
    "wrong", [{"rate": 0.0}, {"batch": 0}, {"epochs": 0}, {"steps": 0}, {"number": 0}]
)
def test_a_fitting_that_trains_nothing_is_refused(wrong):
    with pytest.raises(ConfigError, match="above zero"):
        Fitting(**{"classes": 2, "rate": 0.1} | wrong)


def test_soft_dice_of_sure_answers():
    targets = discs(3, 4, masks=True).targets
    sure = nn.functional.one_hot(targets, 2).movedim(-1, 1).float() * 100
    assert float(soft_dice_loss(sure, targets)) == pytest.approx(0, abs=1e-6)
    assert float(soft_dice_loss(sure.flip(1), targets)) > 0.99
    nothing = torch.zeros_like(targets)
    ground = nn.functional.one_hot(nothing, 2).movedim(-1, 1).float() * 100
    assert float(soft_dice_loss(ground, nothing)) == pytest.approx(0, abs=1e-6)
