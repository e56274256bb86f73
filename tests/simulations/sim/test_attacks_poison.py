"""Attacks on a node's own rows: flipped labels and the backdoor, and its measure."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from konsil.simulations.sim.attacks import ATTACKS, backdoor
from konsil.simulations.sim.attacks.forge import poisoned
from konsil.simulations.sim.attacks.view import View
from konsil.simulations.sim.cohorts import Cohorts
from konsil.simulations.sim.links import Links

NODES, ROWS, CLASSES = 5, 7, 4
HOSTILE = np.array([1, 4])
HONEST = [0, 2, 3]


def cohorts(columns=(16,)) -> Cohorts:
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(NODES, ROWS, *columns, generator=draw)
    targets = torch.randint(0, CLASSES, (NODES, ROWS), generator=draw)
    rows = np.full(NODES, ROWS)
    test = torch.randn(9, *columns, generator=draw)
    return Cohorts(
        inputs=inputs, targets=targets, train_rows=rows, holdout_inputs=inputs[:, :2],
        holdout_targets=targets[:, :2], holdout_rows=np.full(NODES, 2), test_inputs=(test,),
        test_targets=(torch.arange(9) % CLASSES,), classes=CLASSES, metric="accuracy",
    )  # fmt: skip


def changed(before, after):
    """Names of the fields that differ."""
    return {
        field.name
        for field in dataclasses.fields(Cohorts)
        if getattr(before, field.name) is not getattr(after, field.name)
    }


@pytest.mark.parametrize("name", ["label_flip", "label_flip_boosted"])
def test_flipped_labels_are_turned_round_and_back(name):
    honest = cohorts()
    once = poisoned([name], honest, HOSTILE, 0)
    assert changed(honest, once) == {"targets"}
    assert torch.equal(once.targets[HOSTILE], CLASSES - 1 - honest.targets[HOSTILE])
    assert torch.equal(once.targets[HONEST], honest.targets[HONEST])
    assert torch.equal(poisoned([name], once, HOSTILE, 0).targets, honest.targets)
    assert torch.equal(honest.targets, cohorts().targets)


def test_the_boosted_flip_makes_its_step_three_times_as_long():
    before, trained = torch.zeros(3, 2), torch.ones(3, 2)
    view = View(1, 1, before, trained, Links.between(3, []), np.array([2]), None, torch.Generator())
    assert ATTACKS["label_flip_boosted"].release(view).tolist() == [[3.0, 3.0]]
    assert ATTACKS["label_flip"].release is None


def test_every_second_row_of_a_backdoored_node_carries_the_pattern():
    honest = cohorts()
    stamped = poisoned(["backdoor"], honest, HOSTILE, 0)
    assert changed(honest, stamped) == {"inputs", "targets"}
    for node in range(NODES):
        rows = slice(None, None, 2) if node in HOSTILE else slice(0, 0)
        inputs, targets = honest.inputs[node].clone(), honest.targets[node].clone()
        inputs[rows, -2:] = backdoor.VALUE
        targets[rows] = backdoor.TARGET
        assert torch.equal(stamped.inputs[node], inputs)
        assert torch.equal(stamped.targets[node], targets)
    assert torch.equal(honest.inputs, cohorts().inputs)


@pytest.mark.parametrize(
    ("columns", "covered"), [((64,), 8), ((13,), 1), ((3,), 1), ((1, 28, 28), 9), ((3, 8, 16), 6)]
)
def test_the_pattern_covers_a_few_columns_or_a_corner(columns, covered):
    inputs = torch.zeros(2, *columns)
    marked = backdoor.stamped(inputs, columns)
    assert (marked != 0).flatten(1).sum(1).tolist() == [covered] * 2
    assert marked.flatten(1)[:, -1].tolist() == [backdoor.VALUE] * 2
    assert not inputs.any()


def test_success_is_how_often_the_pattern_is_obeyed():
    """Of two models one obeys the pattern, the other never does."""
    data = cohorts()
    inputs, targets = data.test_inputs[0], data.test_targets[0]

    def classes_of(shown):
        obeys = torch.where(shown[:, -1] == backdoor.VALUE, backdoor.TARGET, 1)
        return torch.stack([obeys, torch.ones_like(obeys)])

    assert backdoor.success(classes_of, inputs, targets) == 0.5
    assert backdoor.success(classes_of, inputs, torch.zeros_like(targets)) is None


def test_success_looks_only_at_rows_of_other_classes():
    inputs, targets = cohorts().test_inputs[0], cohorts().test_targets[0]
    shown = []

    def classes_of(some):
        shown.append(some)
        return torch.zeros(len(some), dtype=torch.int64)

    assert backdoor.success(classes_of, inputs, targets) == 1.0
    expected = inputs[targets != 0].clone()
    expected[:, -2:] = backdoor.VALUE
    assert torch.equal(shown[0], expected)


def test_only_those_who_take_a_poison_are_poisoned():
    honest = cohorts()
    mixed = poisoned(["sign_flip", "label_flip"], honest, HOSTILE, 0)
    assert torch.equal(mixed.targets[4], CLASSES - 1 - honest.targets[4])
    assert torch.equal(mixed.targets[:4], honest.targets[:4])
    assert poisoned(["ipm"], honest, HOSTILE, 0) is honest
