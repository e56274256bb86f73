"""Data vectors: does one exchange of what each site learned do as well as pooling its rows?

    python -m benchmarks.vectors heart xray
    python -m benchmarks.vectors heart --first 100       development splits

`heart`: four real hospitals, two models; AUC is the mean over the three sites that have both
classes, splits 0 to 9. `xray`: four simulated scanners of PneumoniaMNIST; balanced accuracy and
AUC, each model judged under all four scanners on the official test images, seeds 0 to 2. Random
vectors of equal norm go through the same rule at the same scale. Settings were chosen on
splits and seeds from 100 on.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from konsil.knowledge import tabular, train
from konsil.knowledge.calibrate import fit_intercept
from konsil.knowledge.data import xray
from konsil.knowledge.data.images import Images, as_rows, joined
from konsil.knowledge.evaluate import evaluate
from konsil.knowledge.imaging.networks import ConvolutionalNetwork
from konsil.knowledge.judge import Judge
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.restoring import restored, statistic_names
from konsil.knowledge.split import by_patient
from konsil.knowledge.task import Rows, Task, TaskConfig
from konsil.knowledge.vectors import merging, precision
from konsil.knowledge.vectors.control import controls
from konsil.knowledge.vectors.seeking import seek
from konsil.knowledge.vectors.vector import applied, between
from konsil.protocol.artifact import bucket

Figures = dict[str, float]
Score = tuple[float, ...]

HEART_BOTH = (0, 1, 3)
"""Switzerland's test rows have one healthy patient, which gives no AUC."""


@dataclass(frozen=True)
class Plan:
    """A rule and the scale at which its vector is applied; None searches it on own rows."""

    rule: str
    scale: float | None


@dataclass(frozen=True)
class Vectors:
    """What the sites hand in: their vectors, their precisions and their weights."""

    base: NamedTensors
    each: list[NamedTensors]
    precisions: list[NamedTensors]
    weights: tuple[float, ...]

    def merged(self, rule: str, each: list[NamedTensors], keep: float) -> NamedTensors:
        if rule == "fisher":
            return merging.fisher(each, self.weights, self.precisions)
        if rule == "total":
            return merging.total(each, [1.0] * len(each))
        if rule == "ties":
            return merging.ties(each, self.weights, keep=keep)
        return merging.RULES[rule](each, self.weights)


def trained(task: Task, start: NamedTensors, epochs: int, seed: int, node: str) -> NamedTensors:
    once = replace(task, local_epochs=epochs)
    return train.train(once, start, seed=seed, node=node, number=1).model


def pooled(tasks: Sequence[Task]) -> Task:
    """One task on all rows; a reference that no hospital could have."""
    first = tasks[0]
    sides = [[task.train for task in tasks], [task.holdout for task in tasks]]
    rows = [
        Rows(
            torch.cat([one.inputs for one in side]),
            torch.cat([one.targets for one in side]),
            [f"{k}/{patient}" for k, one in enumerate(side) for patient in one.patients],
        )
        for side in sides
    ]
    return replace(first, name="pooled", train=rows[0], holdout=rows[1])


def handed_in(
    tasks: Sequence[Task], base: NamedTensors, models: list[NamedTensors], *, fisher: bool
) -> Vectors:
    """What the sites hand in once, each trusted alike, as the declared cohorts weigh it."""
    without = statistic_names(tasks[0].model())
    each = [between(model, base, without) for model in models]
    return Vectors(
        base,
        each,
        [
            precision.diagonal(task, model, list(each[0])) if fisher else each[0]
            for task, model in zip(tasks, models, strict=True)
        ],
        merging.cohort_weights([bucket(len(task.train)) for task in tasks], [1.0] * len(tasks)),
    )


# ---- heart ---------------------------------------------------------------------------------

HEART_MODELS = ("logistic", "mlp:16")
HEART_PLANS = (
    Plan("mean", 1.0),
    Plan("mean", None),
    Plan("total", 0.3),
    Plan("ties", 1.0),
    Plan("fisher", 1.0),
)


@dataclass(frozen=True)
class HeartSettings:
    """Each method has the epochs that are best for it; pooling by model."""

    epochs: int = 10
    pooled_logistic: int = 3
    pooled_mlp: int = 5
    keep: float = 0.7


def heart(split: int, model: str, settings: HeartSettings) -> Figures:
    """AUC (three sites) of every method on one split."""
    asked = [
        TaskConfig(
            Path(), name, 0,
            {"dataset": "heart_disease", "site": site, "split_seed": split, "model": model},
        )
        for site, name in enumerate(("cleveland", "hungarian", "switzerland", "va"))
    ]  # fmt: skip
    tasks = [tabular.build(one) for one in asked]
    tests = [tabular.common_test(one) for one in asked]
    judges = [Judge(task, "cpu") for task in tasks]
    base = train.initial_model(tasks[0], split)
    models = [trained(task, base, settings.epochs, split, str(k)) for k, task in enumerate(tasks)]

    def auc(of: Callable[[int], NamedTensors]) -> float:
        return statistics.fmean(
            judges[k].measure(of(k), tests[k], calibrated=False)["auc"] for k in HEART_BOTH
        )

    epochs = settings.pooled_logistic if model == "logistic" else settings.pooled_mlp
    everything = trained(pooled(tasks), base, epochs, split, "pooled")
    found = {"base": auc(lambda k: base), "local": auc(lambda k: models[k])}
    found["pooled"] = auc(lambda k: everything)
    vectors = handed_in(tasks, base, models, fisher=True)
    chance = controls(vectors.each, torch.Generator().manual_seed(split))
    for plan in HEART_PLANS:
        for kind, each in (("", vectors.each), ("random ", chance)):
            merged = vectors.merged(plan.rule, each, settings.keep)
            if plan.scale is not None:
                common = applied(base, merged, plan.scale)
                found[f"{kind}{plan.rule} {plan.scale:g}"] = auc(lambda k, m=common: m)
            else:
                own = [seek(judges[k], models[k], base, merged) for k in range(4)]
                found[f"{kind}{plan.rule} searched"] = auc(lambda k, m=own: m[k][0])
                found[f"{kind}{plan.rule} accepted"] = statistics.fmean(
                    own[k][1].chosen is not None for k in range(4)
                )
    return found


# ---- x-ray ---------------------------------------------------------------------------------

XRAY_PLANS = (
    Plan("mean", 1.0),
    Plan("mean", None),
    Plan("total", 0.3),
    Plan("total", 1.0),
    Plan("ties", 1.0),
    Plan("fisher", 1.0),
)
HOLDOUT = 0.2


@dataclass(frozen=True)
class XraySettings:
    widths: tuple[int, ...] = (8, 16, 32)
    norm: str = "batch"
    public: int = 0
    """Epochs of the common base on the official validation images, without a scanner."""
    epochs: int = 10
    pooled_epochs: int = 10
    rate: float = 0.05
    batch: int = 16
    keep: float = 0.7


XRAY_SETTINGS = (XraySettings(), XraySettings(public=10))


def image_task(images: Images, settings: XraySettings, seed: int, name: str) -> Task:
    keep, back = by_patient(images.targets, images.patients, HOLDOUT, seed, name)
    return Task(
        name="xray",
        classes=images.classes,
        model=partial(ConvolutionalNetwork, 1, 2, settings.widths, settings.norm),
        train=as_rows(images.take(keep)),
        holdout=as_rows(images.take(back)),
        metric="balanced_accuracy",
        batch_size=settings.batch,
        learning_rate=settings.rate,
    )


@dataclass(frozen=True)
class Xray:
    """One seed: the hospitals, their scanners' test images, and the models before merging."""

    tasks: list[Task]
    tests: list[Rows]
    judges: list[Judge]
    base: NamedTensors
    models: list[NamedTensors]
    pooled: NamedTensors

    def home(self, model: NamedTensors, k: int) -> NamedTensors:
        """The model restored on the unlabelled training images of hospital k."""
        task = self.tasks[k]
        return restored(task.model, model, task.train.inputs)

    def under_all(self, model: NamedTensors, *, restore: bool) -> Score:
        """Balanced accuracy, the same with a balanced intercept, and AUC: means over scanners."""
        rows = []
        for k, (task, judge, test) in enumerate(
            zip(self.tasks, self.judges, self.tests, strict=True)
        ):
            own = self.home(model, k) if restore else model
            logits = judge.outputs(own, test.inputs).double().numpy()
            shift = balanced_intercept(judge.outputs(own, task.train.inputs), task.train.targets)
            targets = test.targets.numpy()
            found, even = evaluate(logits, targets), evaluate(logits + shift, targets)
            rows.append((found["balanced_accuracy"], even["balanced_accuracy"], found["auc"]))
        return tuple(np.mean(rows, axis=0).tolist())


def balanced_intercept(outputs: torch.Tensor, targets: torch.Tensor) -> tuple[float, ...]:
    """The local intercept as if every class had equally many of a hospital's own rows."""
    of_class = [torch.nonzero(targets == label)[:, 0] for label in range(outputs.shape[1])]
    most = max(len(places) for places in of_class)
    even = torch.cat([places[torch.arange(most) % len(places)] for places in of_class])
    return fit_intercept(outputs[even].double().numpy(), targets[even].numpy())


def xray_seed(seed: int, settings: XraySettings, collection: xray.Collection) -> Xray:
    dealt = xray.simulated(collection.train, seed).hospitals
    tasks = [image_task(one, settings, seed, str(k)) for k, one in enumerate(dealt)]
    tests = [as_rows(one) for one in xray.under_each(collection.test, seed)]
    base = train.initial_model(tasks[0], seed)
    if settings.public:
        known = xray.apart(collection.validation, joined(dealt))
        public = image_task(known, settings, seed, "public")
        base = trained(public, base, settings.public, seed, "public")
    models = [trained(task, base, settings.epochs, seed, str(k)) for k, task in enumerate(tasks)]
    everything = trained(pooled(tasks), base, settings.pooled_epochs, seed, "pooled")
    return Xray(tasks, tests, [Judge(task, "cpu") for task in tasks], base, models, everything)


def xray_figures(
    seed: int, settings: XraySettings, collection: xray.Collection
) -> dict[str, Score]:
    """Every method's figures on one seed."""
    here = xray_seed(seed, settings, collection)
    found = {}
    for word, restore in ("as is", False), ("restored", True):
        singles = [here.under_all(model, restore=restore) for model in here.models]
        found[f"single, {word}"] = tuple(np.mean(singles, axis=0).tolist())
        found[f"base, {word}"] = here.under_all(here.base, restore=restore)
        found[f"pooled, {word}"] = here.under_all(here.pooled, restore=restore)
    vectors = handed_in(here.tasks, here.base, here.models, fisher=True)
    chance = controls(vectors.each, torch.Generator().manual_seed(seed))
    for plan in XRAY_PLANS:
        for kind, each in (("", vectors.each), ("random ", chance)):
            merged = vectors.merged(plan.rule, each, settings.keep)
            if plan.scale is None:
                found[f"{kind}{plan.rule} searched"] = _searched(here, merged)
                continue
            common = applied(here.base, merged, plan.scale)
            name = f"{kind}{plan.rule} {plan.scale:g}"
            found[f"{name}, restored"] = here.under_all(common, restore=True)
            if plan.rule == "mean":
                found[f"{name}, as is"] = here.under_all(common, restore=False)
    return found


def _searched(here: Xray, merged: NamedTensors) -> Score:
    """Each hospital searches its scale; the mean over the four models that come out."""
    out = []
    for k, judge in enumerate(here.judges):
        finish = partial(here.home, k=k)
        best, _ = seek(judge, here.home(here.models[k], k), here.base, merged, finish=finish)
        out.append(here.under_all(best, restore=True))
    return tuple(np.mean(out, axis=0).tolist())


# ---- tables --------------------------------------------------------------------------------


def spread(values: Sequence[float]) -> str:
    """Mean ± standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{statistics.fmean(values):.3f} ± {error:.3f}"


def heart_table(model: str, runs: Sequence[Figures]) -> str:
    lines = [
        f"heart, {model}, {len(runs)} splits: AUC over three sites (mean ± standard error)",
        "",
        "| method | AUC | minus pooled | minus random |",
        "|---|---|---|---|",
    ]
    for name in runs[0]:
        if name.startswith("random ") or name.endswith(" accepted"):
            continue
        apart = [run[name] - run["pooled"] for run in runs]
        chance = [run[name] - run[f"random {name}"] for run in runs if f"random {name}" in run]
        lines.append(
            f"| {name} | {spread([run[name] for run in runs])} | {spread(apart)} |"
            f" {spread(chance) if chance else ''} |"
        )
    accepted = statistics.fmean(run["mean accepted"] for run in runs)
    return "\n".join([*lines, "", f"accepted after search: {accepted:.2f}", ""])


def xray_table(settings: XraySettings, runs: Sequence[dict[str, Score]]) -> str:
    base = f"trained on public images, {settings.public} epochs" if settings.public else "untrained"
    lines = [
        f"x-ray, {settings.norm} normalisation, base {base}, {len(runs)} seeds: every model under "
        "all four scanners (mean ± standard error)",
        "",
        "| method | bal. acc. | minus single site | minus random | bal. acc., balanced intercept "
        "| AUC | minus single site |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in runs[0]:
        if name.startswith("random "):
            continue
        single = f"single, {'as is' if name.endswith('as is') else 'restored'}"
        chance = [
            run[name][0] - run[f"random {name}"][0] for run in runs if f"random {name}" in run
        ]
        accuracy, even, auc = ([run[name][place] for run in runs] for place in range(3))
        gain, rise = ([run[name][at] - run[single][at] for run in runs] for at in (0, 2))
        lines.append(
            f"| {name} | {spread(accuracy)} | {spread(gain)} | {spread(chance) if chance else ''} "
            f"| {spread(even)} | {spread(auc)} | {spread(rise)} |"
        )
    return "\n".join([*lines, ""])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="*", default=["heart", "xray"], choices=["heart", "xray"])
    parser.add_argument("--first", type=int, default=0, help="the first split or seed")
    parser.add_argument("--count", type=int, help="how many; by default 10 splits, 3 seeds")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for table in asked.tables:
        count = asked.count or (10 if table == "heart" else 3)
        seeds = range(asked.first, asked.first + count)
        if table == "heart":
            for model in HEART_MODELS:
                print(heart_table(model, [heart(one, model, HeartSettings()) for one in seeds]))
            continue
        collection = xray.read(tabular.data_folder() / xray.FOLDER)
        for settings in XRAY_SETTINGS:
            print(xray_table(settings, [xray_figures(one, settings, collection) for one in seeds]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
