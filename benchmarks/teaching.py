"""Teaching: do unlike models gain from each other's answers, and do students outgrow weak labels?

    python -m benchmarks.teaching heart xray weak

Three tables. `heart`: four real hospitals, four architectures, logits on a Gaussian proxy, splits
0 to 9. `xray`: four simulated scanners, four CNNs, logits on generated or public images, seeds
0 to 2. `weak`: a weak model's labels on 1,200 images, seeds 0 to 2. Settings were chosen on splits
and seeds from 100 on. What answers cost is a test: `tests/knowledge/teaching/test_traffic.py`.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from konsil.knowledge import split, tabular, train
from konsil.knowledge.data import xray
from konsil.knowledge.data.images import Images, as_rows
from konsil.knowledge.imaging.fitting import Fitting
from konsil.knowledge.judge import Judge
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.networks import perceptron
from konsil.knowledge.task import Task, TaskConfig
from konsil.knowledge.teaching import answers, distil, generated, question, recovered, student
from konsil.knowledge.teaching.consensus import consensus, speaking
from konsil.knowledge.teaching.question import Question
from konsil.knowledge.teaching.weak import CONFIDENCE
from konsil.knowledge.train import predict

HEART_MODELS = ("logistic", "mlp:16", "mlp:32-16", "mlp:8")
HEART_BOTH = (0, 1, 3)
"""Switzerland's test rows have one healthy patient, which gives no AUC."""


@dataclass(frozen=True)
class HeartSettings:
    rows: int = 2048
    begin: int = 10
    """Own epochs before the first round."""
    rounds: int = 6
    rate: float = 0.1
    batch: int = 16
    temperature: float = 3.0
    proxy_epochs: int = 2


def spread(values: list[float]) -> str:
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{statistics.fmean(values):.4f} ± {error:.4f}"


def auc(task: Task, model: NamedTensors, rows) -> float:
    return Judge(task, "cpu").measure(model, rows, calibrated=False).get("auc", float("nan"))


def own(task: Task, start: NamedTensors, epochs: int, *, seed: int, node: str, number: int):
    """`epochs` of local training as a round of distillation without a question would do them."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = task.model()
        start.load_into(module)
        distil.revise(task, module, epochs, seed=seed, node=node, number=number)
    return NamedTensors.of(module)


def sheet(task: Task, model: NamedTensors, asked: Question) -> torch.Tensor:
    module = task.model()
    model.load_into(module)
    return answers.logits(answers.answered(module, asked))


def exchange(tasks: list[Task], begun: list[NamedTensors], asked: Question, rounds: int,
             how: distil.Distillation, *, seed: int, sized: bool):  # fmt: skip
    """`rounds` in which all answer, agree and learn; every class is seen by those who have it."""
    models = list(begun)
    seen = [
        {task.classes[place] for place in task.train.targets.unique().tolist()} for task in tasks
    ]
    sizes = [float(len(task.train)) if sized else 1.0 for task in tasks]
    weights = speaking(sizes, seen, tasks[0].classes)
    for number in range(1, rounds + 1):
        sheets = [sheet(task, model, asked) for task, model in zip(tasks, models, strict=True)]
        models = [
            distil.distil(
                task, model, asked, consensus(sheets, weights, mine, temperature=how.temperature),
                seed=seed, node=str(place), number=number, how=how,
            ).model
            for place, (task, model, mine) in enumerate(zip(tasks, models, sheets, strict=True))
        ]  # fmt: skip
    return models


# ---- heart -------------------------------------------------------------------------------


def heart(number: int, settings: HeartSettings | None = None) -> dict[str, list[float]]:
    """AUC of the sites with both classes, alone and after the exchange."""
    s = settings or HeartSettings()
    tasks, tests = [], []
    for site, model in enumerate(HEART_MODELS):
        options = {
            "dataset": "heart_disease", "site": site, "split_seed": number, "model": model,
            "lr": s.rate, "batch": s.batch,
        }  # fmt: skip
        config = TaskConfig(Path("."), f"h{site}", number, options)
        tasks.append(tabular.build(config))
        tests.append(tabular.common_test(config))
    asked = generated.gaussian(s.rows, 13, tasks[0].classes, seed=number)
    how = distil.Distillation(temperature=s.temperature, proxy_epochs=s.proxy_epochs)
    begun = [
        own(task, train.initial_model(task, number), s.begin, seed=number, node=str(k), number=0)
        for k, task in enumerate(tasks)
    ]
    alone = [
        own(task, model, s.rounds * how.own_epochs, seed=number, node=str(k), number=1)
        for k, (task, model) in enumerate(zip(tasks, begun, strict=True))
    ]
    taught = exchange(tasks, begun, asked, s.rounds, how, seed=number, sized=False)
    return {
        name: [auc(tasks[k], models[k], tests[k]) for k in HEART_BOTH]
        for name, models in (("begun", begun), ("local", alone), ("taught", taught))
    }


# ---- x-ray -------------------------------------------------------------------------------


class Strided(torch.nn.Sequential):
    """A CNN that halves 28 × 28 images at every convolution: a few milliseconds a step.

    `pooled` takes the mean over all places, so that it cannot learn pixels by heart.
    """

    def __init__(
        self, *widths: int, kernel: int = 3, hidden: int = 0, pooled: bool = False
    ) -> None:
        layers, before, side = [], 1, 28
        for width in widths:
            layers += [
                torch.nn.Conv2d(before, width, kernel, stride=2, padding=kernel // 2),
                torch.nn.GroupNorm(2, width),
                torch.nn.ReLU(),
            ]
            before, side = width, -(-side // 2)
        if pooled:
            layers.append(torch.nn.AdaptiveAvgPool2d(1))
            side = 1
        super().__init__(
            *layers,
            torch.nn.Flatten(),
            *perceptron(before * side * side, (hidden,) if hidden else (), 2),
        )


CNNS = (
    partial(Strided, 8, 16),
    partial(Strided, 8, 16, 32),
    partial(Strided, 12, 24, kernel=5),
    partial(Strided, 6, 12, hidden=16),
)


@dataclass(frozen=True)
class XraySettings:
    proxies: tuple[str, ...] = ("atlas", "public")
    """`atlas`, or `public`: unlabelled images of nobody here."""
    rows: int = 512
    begin: int = 20
    rounds: int = 5
    rate: float = 0.003
    batch: int = 32
    temperature: float = 1.0
    proxy_epochs: int = 2
    own_epochs: int = 2


@lru_cache(maxsize=1)
def collection() -> xray.Collection:
    return xray.read(tabular.data_folder() / xray.FOLDER)


def public() -> Images:
    """The official validation images of patients whom no hospital has, as public images."""
    found = collection()
    return xray.apart(xray.apart(found.validation, found.train), found.test)


def adam(rate: float):
    return lambda parameters: torch.optim.Adam(parameters, lr=rate)


def image_task(images: Images, model, rate: float, batch: int, epochs: int, seed: int):
    """A task whose round is `epochs` of Adam; a fifth of its patients is held back."""
    keep, back = split.by_patient(images.targets, images.patients, 0.2, seed, images.sites[0])
    fit = Fitting(classes=2, rate=rate, batch=batch, epochs=epochs, optimiser="adam")
    return Task(
        name="xray", classes=images.classes, model=model, train=as_rows(images.take(keep)),
        holdout=as_rows(images.take(back)), fit=fit,
    )  # fmt: skip


def xray_question(proxy: str, rows: int, seed: int) -> Question:
    if proxy == "public":
        return question.images(public().inputs[:rows], xray.CLASSES)
    mean = np.rint(255 * public().inputs.mean(axis=0)).astype(np.uint8)
    return generated.atlas(rows, mean, xray.CLASSES, seed=seed)


def trained(task: Task, start: NamedTensors, epochs: int, seed: int, node: str) -> NamedTensors:
    """`epochs` of the task's own fit, in one go."""
    longer = dataclasses.replace(task, fit=dataclasses.replace(task.fit, epochs=epochs))
    return train.train(longer, start, seed=seed, node=node, number=1).model


def scanners(seed: int, settings: XraySettings | None = None) -> dict[str, list[float]]:
    """AUC of every hospital under its own scanner, alone and after the exchange."""
    s = settings or XraySettings()
    dealt = xray.simulated(collection().train, seed)
    tests = [as_rows(images) for images in xray.under_each(collection().test, seed)]
    tasks = [
        image_task(images, model, s.rate, s.batch, s.own_epochs, seed)
        for images, model in zip(dealt.hospitals, CNNS, strict=True)
    ]
    how = distil.Distillation(
        temperature=s.temperature, proxy_epochs=s.proxy_epochs, own_epochs=s.own_epochs,
        optimise=adam(s.rate),
    )  # fmt: skip
    begun = [
        trained(task, train.initial_model(task, seed), s.begin, seed, f"h{k}")
        for k, task in enumerate(tasks)
    ]
    alone = [
        trained(task, model, s.rounds * s.own_epochs, seed, f"more{k}")
        for k, (task, model) in enumerate(zip(tasks, begun, strict=True))
    ]
    found = {"begun": begun, "local": alone}
    for proxy in s.proxies:
        asked = xray_question(proxy, s.rows, seed)
        found[proxy] = exchange(tasks, begun, asked, s.rounds, how, seed=seed, sized=True)
    return {
        name: [auc(*part) for part in zip(tasks, models, tests, strict=True)]
        for name, models in found.items()
    }


# ---- weak to strong ----------------------------------------------------------------------


@dataclass(frozen=True)
class WeakSettings:
    labelled: int = 60
    unlabelled: int = 1200
    teacher_epochs: int = 60
    epochs: int = 15
    rate: float = 0.005
    """Of the student; the teacher has TEACHER_RATE."""
    batch: int = 32


TEACHER_RATE = 0.003


class Flat(torch.nn.Sequential):
    """A perceptron over the pixels of small images."""

    def __init__(self, width: int) -> None:
        super().__init__(torch.nn.Flatten(), *perceptron(28 * 28, (width,), 2))


STRONG = partial(Strided, 16, 32, pooled=True)
WEAK = {"mlp:8": partial(Flat, 8), "cnn:4": partial(Strided, 4)}
AUX = {"confidence": CONFIDENCE}
ARMS = {
    "soft": (False, {}), "soft, top half": (False, {"share": 0.5}), "aux .75": (False, AUX),
    "soft, from its own model": (True, {}), "aux .75, from its own model": (True, AUX),
}  # fmt: skip
"""Whether a student begins as a model of 60 rows of its own, and how it learns."""


def weak_to_strong(seed: int, weak: str, settings: WeakSettings | None = None) -> dict:
    """Students of one weak model's labels, each beside weak and ceiling on the test images."""
    s = settings or WeakSettings()
    whole = collection().train
    order = split.random_source("weak", seed).permutation(len(whole))
    few = whole.take(np.sort(order[: s.labelled]))
    many = whole.take(np.sort(order[s.labelled : s.labelled + s.unlabelled]))
    own_few = whole.take(np.sort(order[s.labelled + s.unlabelled :][: s.labelled]))
    teacher = image_task(few, WEAK[weak], TEACHER_RATE, 16, s.teacher_epochs, seed)
    taught = train.train(
        teacher, train.initial_model(teacher, seed), seed=seed, node="weak", number=1
    ).model
    module = teacher.model()
    taught.load_into(module)
    inputs = torch.from_numpy(many.inputs)
    labels = student.weak_labels(module, inputs)
    strong = image_task(own_few, STRONG, s.rate, s.batch, s.epochs, seed)
    truth = dataclasses.replace(strong, train=as_rows(many))
    start = train.initial_model(strong, seed)
    ceiling = train.train(truth, start, seed=seed, node="ceiling", number=1).model
    alone = trained(strong, start, s.epochs * 4, seed, "alone")
    test, judge = as_rows(collection().test), Judge(strong, "cpu")
    answers_of = lambda m: judge.outputs(m, test.inputs).numpy()  # noqa: E731
    weak_answers = predict(module, test.inputs).numpy()
    result = {}
    for name, (own, arm) in ARMS.items():
        how = student.Study(epochs=s.epochs, batch_size=s.batch, optimise=adam(s.rate), **arm)
        begin = alone if own else start
        model = student.study(
            strong, begin, inputs, labels, seed=seed, node="student", number=1, how=how
        ).model
        gap = recovered.in_auc(
            weak_answers, answers_of(model), answers_of(ceiling), test.targets.numpy()
        )
        result[name] = (gap, judge.loss(model) < judge.loss(alone), auc(strong, alone, test))
    return result


# ---- tables ------------------------------------------------------------------------------


def heart_table(numbers: list[int]) -> None:
    runs = [heart(number) for number in numbers]
    print(f"\nHeart, {len(runs)} splits, macro AUC over three sites, ± standard error of splits")
    print("\n| | AUC | over local | cleveland | hungarian | va |\n|---|---|---|---|---|---|")
    for name in runs[0]:
        means = [statistics.fmean(run[name]) for run in runs]
        gains = [m - statistics.fmean(run["local"]) for m, run in zip(means, runs, strict=True)]
        sites = [statistics.fmean(run[name][k] for run in runs) for k in range(3)]
        print(f"| {name} | {spread(means)} | {spread(gains)} | {columns(sites)} |")


def xray_table(numbers: list[int]) -> None:
    print("\nX-ray, AUC of each hospital under its own scanner")
    print("\n| seed | | four hospitals | mean | worst | worst over local |")
    print("|---|---|---|---|---|---|")
    gains: dict[str, list[float]] = {}
    for seed in numbers:
        run = scanners(seed)
        for name, values in run.items():
            gain = min(values) - min(run["local"])
            gains.setdefault(name, []).append(gain)
            sites = " ".join(f"{value:.3f}" for value in values)
            mean = statistics.fmean(values)
            print(f"| {seed} | {name} | {sites} | {mean:.3f} | {min(values):.3f} | {gain:+.3f} |")
    for name, values in gains.items():
        print(f"| all | {name} | | | | {spread(values)} |")


def weak_table(numbers: list[int], weak: str) -> None:
    print(f"\nWeak to strong, teacher {weak}, AUC on the official test images")
    print("\n| seed | student | weak | student | ceiling | PGR | kept | own rows only |")
    print("|---|---|---|---|---|---|---|---|")
    shares: dict[str, list[float]] = {}
    for seed in numbers:
        for name, (gap, better, alone) in weak_to_strong(seed, weak).items():
            told = gap.reason if gap.share is None else f"{gap.share:.2f}"
            shares.setdefault(name, []).append(float("nan") if gap.share is None else gap.share)
            figures = columns([gap.weak, gap.student, gap.ceiling])
            print(f"| {seed} | {name} | {figures} | {told} | {better} | {alone:.3f} |")
    for name, values in shares.items():
        print(f"| all | {name} | | | | {spread(values)} | | |")


def columns(values: list[float]) -> str:
    return " | ".join(f"{value:.3f}" for value in values)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    choices = ["heart", "xray", "weak"]
    parser.add_argument("tables", nargs="*", choices=choices, default=choices)
    parser.add_argument("--seeds", help="first-last; by default 0-2, for heart 0-9")
    parser.add_argument("--teachers", nargs="*", choices=list(WEAK), default=list(WEAK))
    wish = parser.parse_args()
    torch.set_num_threads(1)

    def seeds(default: str) -> list[int]:
        first, last = (int(part) for part in (wish.seeds or default).split("-"))
        return list(range(first, last + 1))

    if "heart" in wish.tables:
        heart_table(seeds("0-9"))
    if "xray" in wish.tables:
        xray_table(seeds("0-2"))
    if "weak" in wish.tables:
        for weak in wish.teachers:
            weak_table(seeds("0-2"), weak)
    return 0


if __name__ == "__main__":
    sys.exit(main())
