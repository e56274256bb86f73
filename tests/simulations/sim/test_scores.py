"""Scores: a model that answers with no numbers counts as the worst, and is not left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from konsil.simulations.sim.scores import Scores


class Constant:
    """Stands in for a network: each model (1, rows · classes) is its own answers."""

    class layout:
        elements = 8

    def outputs(self, models, inputs):
        return models.reshape(len(models), inputs.shape[1], 2)


def scored(metric, *models):
    targets = torch.tensor([0, 1, 0, 1])
    scores = Scores(
        Constant(), (torch.zeros(4, 3),), (targets,), classes=2, metric=metric, device="cpu"
    )
    return scores.of(torch.tensor(models).float(), np.arange(len(models)))


RIGHT = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]
NOTHING = [float("nan")] * 8
HUGE = [float("inf"), 0.0, 0.0, float("inf"), 1.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "auc"])
def test_what_is_no_number_is_no_right_answer(metric):
    right, nothing, huge = scored(metric, RIGHT, NOTHING, HUGE)
    assert (right, nothing) == (1.0, 0.0)
    assert huge == (0.0 if metric == "auc" else 0.5)
