"""Segmentation: nuclei of four laboratories, each left out in turn, learned in a ring.

    python -m benchmarks.segmentation --seeds 0-2 --save segmentation.jsonl
    python -m benchmarks.segmentation --seeds 100-101 --setting plain --rounds 12

For every seed and every laboratory left out: what the three others reach together by gossip
(Metropolis weights on a ring, which is a triangle), what each reaches alone, and what a model of
their pooled images reaches with as many steps as all three took together. Dice on test images,
in the laboratories that learned (each with its own model) and in the one left out (the mean of
the members' models). With `--save`, results are appended as JSON lines, and what is there
already is not computed again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from konsil.knowledge import pack, split, train
from konsil.knowledge.data import nuclei
from konsil.knowledge.data.images import Images, as_rows, joined
from konsil.knowledge.imaging.augment import Augmentation
from konsil.knowledge.imaging.fitting import Fitting
from konsil.knowledge.imaging.networks import network
from konsil.knowledge.imaging.plans import Plan
from konsil.knowledge.judge import Judge, local_names
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.restoring import restored
from konsil.knowledge.tabular import data_folder
from konsil.knowledge.task import Rows, Task

HOLDOUT = 0.2
WATCHED = {1, 4, 12}
"""Rounds in which the private losses before and after the mix are noted."""
CROP = Augmentation(flip=True, turn=True, crop=64)


@dataclass(frozen=True)
class Setting:
    """How everybody trains; `guard` keeps a mix from raising the own loss."""

    model: str = "unet"
    fitting: Fitting = field(default_factory=lambda: Fitting(2, 0.01))
    guard: bool = False
    share_norms: bool = False
    """Whether batch normalisation is mixed as well, and only re-estimated in the end."""


SETTINGS = {
    # Whole epochs and cross-entropy alone: with it a ring can learn to predict nothing.
    "plain": Setting(fitting=Fitting(2, 0.01, optimiser="adam", augmentation=CROP)),
    "adam": Setting(
        fitting=Fitting(
            2, 0.01, steps=6, optimiser="adam", augmentation=CROP, dice=1.0,
            plan=Plan(kind="cosine", warmup_steps=2),
        )
    ),
    "sgd": Setting(
        fitting=Fitting(
            2, 0.1, steps=6, momentum=0.9, augmentation=CROP, dice=1.0,
            plan=Plan(kind="cosine", warmup_steps=2),
        )
    ),
}  # fmt: skip
_SHORT = replace(SETTINGS["adam"].fitting, steps=3)
SETTINGS |= {
    "short": Setting(fitting=_SHORT),
    "short-bn": Setting(model="unet-bn", fitting=_SHORT),
    "short-bn-shared": Setting(model="unet-bn", fitting=_SHORT, share_norms=True),
    "plain-guard": replace(SETTINGS["plain"], guard=True),
}


@dataclass(frozen=True)
class Site:
    """A laboratory's task, and the images on which nobody trains."""

    name: str
    task: Task
    test: Rows

    @property
    def judge(self) -> Judge:
        return Judge(self.task, "cpu")


def site_of(name: str, own: Images, test: Images, setting: Setting, seed: int) -> Site:
    labels = own.targets.any(axis=(1, 2)).astype(np.int64)
    keep, back = split.by_patient(labels, own.patients, HOLDOUT, seed, name, fewest=2)
    make = network(setting.model, shape=(3, 96, 96), classes=2, masks=True, search=Path())
    task = Task(
        name="nuclei", classes=own.classes, model=make, metric="dice", problem="masks",
        train=as_rows(own.take(keep)), holdout=as_rows(own.take(back)), fit=setting.fitting,
    )  # fmt: skip
    return Site(name, task, as_rows(test))


def trained(site: Site, model: NamedTensors, seed: int, number: int) -> NamedTensors:
    return train.train(site.task, model, seed=seed, node=site.name, number=number).model


def alone(site: Site, seed: int, rounds: int) -> NamedTensors:
    model = train.initial_model(site.task, seed)
    for number in range(1, rounds + 1):
        model = trained(site, model, seed, number)
    return model


def average(mine: NamedTensors, others: list[NamedTensors], fixed: tuple[str, ...]) -> NamedTensors:
    """Mine moved by Metropolis weights on a triangle: one third of the way to each other one."""
    moved = {
        name: tensor
        if name in fixed or not tensor.is_floating_point()
        else torch.stack([tensor, *(one[name] for one in others)]).mean(dim=0)
        for name, tensor in mine.items()
    }
    return NamedTensors(moved)


def guarded(
    judge: Judge, before: NamedTensors, fresh: NamedTensors, mixed: NamedTensors
) -> tuple[NamedTensors, float]:
    """The longest of four steps from the own trained model to the mix that does not raise the
    private loss of the round's start, as the trust rule has it; and that step."""
    bound = judge.loss(before)
    for step in (1.0, 0.5, 0.25):
        model = fresh + (mixed - fresh) * step
        if judge.loss(model) <= bound:
            return model, step
    return fresh, 0.0


def gossip(
    sites: list[Site], setting: Setting, seed: int, rounds: int
) -> tuple[dict[str, NamedTensors], list[dict]]:
    """Everybody's model after the last mix, and what each saw of it in every round."""
    own = {site.name: train.initial_model(site.task, seed) for site in sites}
    judges = {site.name: site.judge for site in sites}
    fixed = () if setting.share_norms else local_names(sites[0].task, sites[0].task.model())
    seen = []
    for number in range(1, rounds + 1):
        start = dict(own)
        fresh = {site.name: trained(site, own[site.name], seed, number) for site in sites}
        steps = {}
        for name, mine in fresh.items():
            others = [one for other, one in fresh.items() if other != name]
            own[name], steps[name] = average(mine, others, fixed), 1.0
            if setting.guard:
                own[name], steps[name] = guarded(judges[name], start[name], mine, own[name])
        if number in WATCHED or number == rounds:
            row = {k: watched(judges[k], fresh[k], own[k], steps[k]) for k in own}
            seen.append({"round": number, **row})
    return own, seen


def watched(judge: Judge, fresh: NamedTensors, mixed: NamedTensors, step: float) -> list[float]:
    """Before and after a mix: private loss and predicted foreground on the holdout; the step."""
    found = []
    for model in (fresh, mixed):
        found += [judge.loss(model), judge.measure(model)["foreground"]]
    return [round(value, 4) for value in (*found, step)]


def pooled(
    sites: list[Site], images: dict[str, Images], setting: Setting, seed: int, rounds: int
) -> NamedTensors:
    """One model of all members' training images, with as many steps as they took together."""
    own = joined([images[site.name] for site in sites])
    steps = setting.fitting.steps
    more = replace(setting.fitting, steps=None if steps is None else steps * len(sites))
    whole = site_of("pooled", own, own, replace(setting, fitting=more), seed)
    return alone(whole, seed, rounds)


def dice(site: Site, model: NamedTensors, restore: bool = False) -> dict[str, float]:
    """Dice, distance and predicted foreground of a model on a laboratory's test images."""
    if restore:
        model = restored(site.task.model, model, site.task.train.inputs)
    found = site.judge.measure(model, site.test)
    return {name: round(value, 4) for name, value in found.items()}


class Saved:
    """Results by their key, one JSON line each; nothing is computed twice."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path and path.is_file() else []
        self._found = {json.dumps(one["key"]): one["value"] for one in map(json.loads, lines)}

    def get(self, key: list, compute):
        """What was computed under `key`, or is now."""
        name = json.dumps(key)
        if name not in self._found:
            self._found[name] = compute()
            if self._path:
                with self._path.open("a") as file:
                    file.write(json.dumps({"key": key, "value": self._found[name]}) + "\n")
        return self._found[name]


class Experiment:
    """One seed of one setting: its laboratories and what is measured with them."""

    def __init__(self, saved: Saved, name: str, seed: int, rounds: int) -> None:
        self._saved, self._name, self._seed, self._rounds = saved, name, seed, rounds
        self._setting = SETTINGS[name]
        every = nuclei.laboratories(nuclei.read(data_folder() / nuclei.FOLDER), seed)
        self._images = {lab.name: lab.train for lab in every}
        self.sites = [site_of(lab.name, lab.train, lab.test, self._setting, seed) for lab in every]
        self._restore = "bn" in self._setting.model

    def _get(self, *words: str, compute):
        return self._saved.get([self._name, self._rounds, self._seed, *words], compute)

    def alone(self, site: Site) -> dict[str, dict[str, float]]:
        """What one laboratory's own model does everywhere."""

        def compute():
            model = alone(site, self._seed, self._rounds)
            return {one.name: dice(one, model, self._restore) for one in self.sites}

        return self._get("alone", site.name, compute=compute)

    def together(self, left: str) -> dict:
        """What the ring without `left` does: each model at home, and all of them at `left`."""

        def compute():
            members = [site for site in self.sites if site.name != left]
            (out,) = [site for site in self.sites if site.name == left]
            own, seen = gossip(members, self._setting, self._seed, self._rounds)
            found = {site.name: dice(site, own[site.name], self._restore) for site in members}
            there = self._everywhere(out, own)
            return {"home": found, "left": there, "seen": seen}

        return self._get("together", left, compute=compute)

    def _everywhere(self, out: Site, own: dict[str, NamedTensors]) -> dict[str, dict[str, float]]:
        """What each model does at `out`; where a mix made all models one, it is asked once."""
        found: dict[bytes, dict[str, float]] = {}
        keys = {name: pack.to_bytes(model) for name, model in own.items()}
        for name, key in keys.items():
            if key not in found:
                found[key] = dice(out, own[name], self._restore)
        return {name: found[key] for name, key in keys.items()}

    def pooled(self, left: str) -> dict[str, dict[str, float]]:
        """What the model of all members' images does everywhere."""

        def compute():
            members = [site for site in self.sites if site.name != left]
            model = pooled(members, self._images, self._setting, self._seed, self._rounds)
            return {one.name: dice(one, model, self._restore) for one in self.sites}

        return self._get("pooled", left, compute=compute)


def row_of(experiment: Experiment, left: str, with_pooled: bool) -> dict[str, float]:
    """The Dice of one seed with one laboratory left out."""
    members = [site for site in experiment.sites if site.name != left]
    ring = experiment.together(left)
    single = {site.name: experiment.alone(site) for site in members}
    row = {
        "left_ring": mean(one["dice"] for one in ring["left"].values()),
        "left_alone": mean(one[left]["dice"] for one in single.values()),
        "home_ring": mean(one["dice"] for one in ring["home"].values()),
        "home_alone": mean(one[name]["dice"] for name, one in single.items()),
        "foreground": mean(one["foreground"] for one in ring["left"].values()),
        "true": mean(one["true_foreground"] for one in ring["left"].values()),
    }
    if with_pooled:
        whole = experiment.pooled(left)
        row["home_pooled"] = mean(whole[site.name]["dice"] for site in members)
        row["left_pooled"] = whole[left]["dice"]
    return row | {"gain": row["left_ring"] - row["left_alone"]}


def mean(values) -> float:
    return statistics.fmean(values)


def table(rows: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: one line a laboratory left out, mean and spread (standard deviation) over seeds."""
    columns = list(next(iter(rows.values()))[0])
    lines = [f"| left out | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for left, found in [*rows.items(), ("all", [row for some in rows.values() for row in some])]:
        cells = []
        for column in columns:
            values = [row[column] for row in found]
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{mean(values):.3f}{spread}")
        lines.append(f"| {left} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0-2")
    parser.add_argument("--setting", choices=sorted(SETTINGS), default="short")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--left", nargs="*", default=list(nuclei.SITES), choices=nuclei.SITES)
    parser.add_argument("--without-pooled", action="store_true")
    parser.add_argument("--save", type=Path)
    wish = parser.parse_args()
    torch.set_num_threads(1)
    first, _, last = wish.seeds.partition("-")
    saved = Saved(wish.save)
    rows: dict[str, list[dict[str, float]]] = {left: [] for left in wish.left}
    for seed in range(int(first), int(last or first) + 1):
        experiment = Experiment(saved, wish.setting, seed, wish.rounds)
        for left in wish.left:
            rows[left].append(row_of(experiment, left, not wish.without_pooled))
            print(f"seed {seed}, without {left}: {rows[left][-1]}", file=sys.stderr, flush=True)
    print(f"Setting {wish.setting}, {wish.rounds} rounds, seeds {wish.seeds}; Dice.\n")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
