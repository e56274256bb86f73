"""Data vectors of four real hospitals: margins over what the same run has without them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from statistics import fmean

import pytest
import torch

from konsil.knowledge import heart, pack, tabular, train
from konsil.knowledge.judge import Judge
from konsil.knowledge.task import Rows, TaskConfig
from konsil.knowledge.vectors import merging
from konsil.knowledge.vectors.control import controls
from konsil.knowledge.vectors.seeking import seek
from konsil.knowledge.vectors.vector import applied, between
from konsil.protocol.artifact import bucket

BOTH = (0, 1, 3)
"""Switzerland's test rows have one healthy patient, which gives no AUC."""
SPLITS = (0, 1, 2)


def configuration(split: int, site: int) -> TaskConfig:
    options = {"dataset": "heart_disease", "site": site, "split_seed": split, "local_epochs": 10}
    return TaskConfig(Path(), heart.SITES[site], 0, options)


def pooled(tasks):
    """One task on all rows; a reference that no hospital could have."""
    rows = Rows(
        torch.cat([task.train.inputs for task in tasks]),
        torch.cat([task.train.targets for task in tasks]),
        [patient for task in tasks for patient in task.train.patients],
    )
    return dataclasses.replace(tasks[0], train=rows, local_epochs=3)


def one_split(split: int) -> dict[str, float]:
    asked = [configuration(split, site) for site in range(4)]
    tasks, tests = [tabular.build(a) for a in asked], [tabular.common_test(a) for a in asked]
    judges = [Judge(task, "cpu") for task in tasks]
    base = train.initial_model(tasks[0], split)
    before = pack.to_bytes(base)
    models = [
        train.train(task, base, seed=split, node=str(k), number=1).model
        for k, task in enumerate(tasks)
    ]
    assert pack.to_bytes(base) == before, "all started from one base"
    vectors = [between(model, base) for model in models]
    chance = controls(vectors, torch.Generator().manual_seed(split))
    weights = merging.cohort_weights([bucket(len(task.train)) for task in tasks], [1.0] * 4)
    merged = merging.mean(vectors, weights)
    whole = train.train(pooled(tasks), base, seed=split, node="pooled", number=1).model
    common, noise = applied(base, merged), applied(base, merging.mean(chance, weights))
    found = [seek(judges[k], models[k], base, merged)[0] for k in range(4)]
    for judge, own, kept in zip(judges, models, found, strict=True):
        assert judge.loss(kept) <= judge.loss(own), "the guard holds at every hospital"
    chosen = {
        "pooled": [whole] * 4, "vectors": [common] * 4, "random": [noise] * 4,
        "local": models, "searched": found,
    }  # fmt: skip
    return {
        name: fmean(judges[k].measure(each[k], tests[k], calibrated=False)["auc"] for k in BOTH)
        for name, each in chosen.items()
    }


@pytest.mark.slow
def test_one_exchange_does_as_well_as_pooling(data_folder, monkeypatch):
    monkeypatch.setenv("KONSIL_DATA", str(data_folder))
    runs = [one_split(split) for split in SPLITS]
    auc = {name: fmean(run[name] for run in runs) for name in runs[0]}
    assert auc["vectors"] >= auc["pooled"] - 0.015
    assert auc["vectors"] >= auc["local"] + 0.02
    assert auc["searched"] >= auc["local"]
    assert auc["vectors"] >= auc["random"] + 0.1
