"""Compact: what do fewer bytes cost in AUC? Data vectors, and a ring that gossips, by codec.

    python -m benchmarks.compact [--seeds 0-2] [--data digits,breast_cancer,heart_disease]

Models of 90,000 parameters and more. Every hospital trains and encodes by the product's own
code. `vectors`: one shot; all start from one base, train, send their data vector once, and take
the mean of what they decode. `ring`: each round a hospital trains, sends what changed since its
last artifact, and mixes its model with what the artifacts of those next to it decode to, a third
each. Bytes are all that cross for one artifact: the messages, the payload, its signed manifest,
its proof of publication and its knowledge manifest (`crossing`). AUC is the mean over the
hospitals, on patients on whom nobody trained, without calibration. What is chosen below was chosen
on seeds from 100 on.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from benchmarks.crossing import crossing
from konsil.knowledge import embedded, split, tabular, train
from konsil.knowledge.compact import feedback, payload, sparse
from konsil.knowledge.judge import Judge
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.networks import perceptron
from konsil.knowledge.task import Rows, Task, TaskConfig
from konsil.knowledge.vectors import merging, vector
from konsil.protocol.encoding import encoding_of

LINE_BITS_PER_S = 1_000_000
WORDS = ("safetensors", "safetensors+zstd", "safetensors+fp16+zstd", "safetensors+int8+zstd",
         "safetensors+topk+zstd")  # fmt: skip
GOALS = {"int8": 0.27, "topk": 0.04}
LOSS = 0.01


@dataclass(frozen=True)
class Plan:
    """How one data set is learned."""

    hidden: tuple[int, ...]
    sites: int
    epochs: int
    """Of training before the one data vector."""
    rounds: int
    """Of one epoch each, on the ring."""
    lr: float


PLANS = {
    "digits": Plan((288, 256), 8, 10, 20, 0.1),
    "breast_cancer": Plan((256, 320), 6, 10, 20, 0.05),
    "heart_disease": Plan((256, 336), 4, 10, 20, 0.02),
}


@dataclass
class Hospital:
    """One hospital: its task, the rows that judge it, its model and what it sent so far."""

    task: Task
    test: Rows
    model: NamedTensors
    public: NamedTensors


@dataclass(frozen=True)
class Outcome:
    """One way of sending, on one seed."""

    auc: float
    payload: float
    """Mean bytes that cross for an artifact."""
    encode_ms: float


def hospitals(data: str, seed: int) -> list[Hospital]:
    """All hospitals of a data set, at the common initial model."""
    tasks = list(_digits(PLANS[data], seed) if data == "digits" else _tables(data, seed))
    base = train.initial_model(tasks[0][0], seed)
    return [Hospital(task, test, base, base) for task, test in tasks]


def _digits(plan: Plan, seed: int) -> Iterator[tuple[Task, Rows]]:
    whole = embedded.digits()
    keep, test = split.by_patient(whole.labels, whole.patients, 0.3, "test", seed)
    rest, judged = whole.take(keep), whole.take(test)
    for k, places in enumerate(
        split.dirichlet(rest.labels, rest.patients, plan.sites, seed, alpha=1.0, fewest=1)
    ):
        own = rest.take(places)
        mine, back = split.by_patient(own.labels, own.patients, 0.2, seed, k)
        rows = [
            Rows(
                torch.from_numpy(part.inputs / 16).float(), torch.from_numpy(part.labels),
                part.patients,
            )
            for part in (own.take(mine), own.take(back), judged)
        ]  # fmt: skip
        model = partial(perceptron, 64, plan.hidden, 10)
        yield Task("bench/digits", whole.classes, model, *rows[:2], learning_rate=plan.lr), rows[2]


def _tables(data: str, seed: int) -> Iterator[tuple[Task, Rows]]:
    plan = PLANS[data]
    for site in range(plan.sites):
        options = {
            "dataset": data, "model": "mlp:" + "-".join(map(str, plan.hidden)), "site": site,
            "split_seed": seed, "lr": plan.lr,
        }  # fmt: skip
        if data != "heart_disease":
            options |= {"sites": plan.sites}
        config = TaskConfig(Path(tempfile.gettempdir()), f"site-{site}", seed, options)
        yield tabular.build(config), tabular.common_test(config)


def auc(all_of_them: list[Hospital], models: list[NamedTensors]) -> float:
    """The mean AUC of each hospital's model on its test rows that have both classes."""
    found = [
        Judge(one.task, "cpu").measure(model, one.test, calibrated=False).get("auc")
        for one, model in zip(all_of_them, models, strict=True)
    ]
    return statistics.fmean(value for value in found if value is not None)


def trained(one: Hospital, seed: int, k: int, number: int) -> NamedTensors:
    return train.train(one.task, one.model, seed=seed, node=f"{k}", number=number).model


def vectors(data: str, seed: int, words: tuple[str, ...], share: float) -> dict[str, Outcome]:
    """One shot: the mean of all data vectors, by format."""
    them = hospitals(data, seed)
    base = them[0].model
    models = []
    for k, one in enumerate(them):
        for number in range(1, PLANS[data].epochs + 1):
            one.model = trained(one, seed, k, number)
        models.append(one.model)
    steps = [vector.between(model, base) for model in models]
    weights = [float(len(one.task.train)) for one in them]
    found = {"alone": Outcome(auc(them, models), 0.0, 0.0)}
    for word in words:
        began = time.process_time()
        sent = [payload.write(step, word, share=share) for step in steps]
        spent = (time.process_time() - began) / len(sent)
        read = [payload.read(one, word, base) for one in sent]
        merged = vector.applied(base, merging.mean(read, weights))
        size = statistics.fmean(
            crossing(one.task, data, word) for one, data in zip(them, sent, strict=True)
        )
        found[word] = Outcome(auc(them, [merged] * len(them)), size, 1e3 * spent)
    return found


def ring(data: str, seed: int, word: str, share: float) -> Outcome:
    """A ring whose members mix what was decoded; the state after all rounds."""
    them = hospitals(data, seed)
    codec = encoding_of(word).codec
    sizes, spent = [], 0.0
    for number in range(1, PLANS[data].rounds + 1):
        for k, one in enumerate(them):
            one.model = trained(one, seed, k, number)
            began = time.process_time()
            if codec == "plain":
                sent, used, one.public = payload.write(one.model, word), word, one.model
            else:
                told = feedback.advance(
                    one.model, one.public, codec, since=payload.NOTHING, share=share
                )
                sent, used, one.public = told.data, told.word, told.public
            spent += time.process_time() - began
            sizes.append(crossing(one.task, sent, used))
        copies = [one.public for one in them]
        for k, one in enumerate(them):
            beside = {k - 1, (k + 1) % len(them)}
            others = (copies[place] * (1 / 3) for place in sorted(beside))
            one.model = sum(others, one.model * (1 - len(beside) / 3))
    outcome = auc(them, [one.model for one in them])
    return Outcome(outcome, statistics.fmean(sizes), 1e3 * spent / len(sizes))


def table(title: str, found: list[dict[str, Outcome]]) -> Iterator[str]:
    """Lines of Markdown: one row a format, with the goals it has."""
    yield f"\n{title}\n"
    columns = ["format", "AUC (sd)", "loss, mean / worst", "bytes", "of fp32", "s at 1 Mbit/s",
               "encode, ms", "goal"]  # fmt: skip
    yield f"| {' | '.join(columns)} |"
    yield "|" + " --- |" * len(columns)
    whole = [one["safetensors"] for one in found]
    for word in found[0]:
        these = [one[word] for one in found]
        values = [one.auc for one in these]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        losses = [a.auc - b.auc for a, b in zip(whole, these, strict=True)]
        size = statistics.fmean(one.payload for one in these)
        share = size / statistics.fmean(one.payload for one in whole)
        goal = GOALS.get("" if word == "alone" else encoding_of(word).codec)
        met = goal and ("met" if share <= goal and statistics.fmean(losses) <= LOSS else "MISSED")
        yield (
            f"| {word} | {statistics.fmean(values):.4f} ({spread:.4f}) | "
            f"{statistics.fmean(losses):+.4f} / {max(losses):+.4f} | {size:,.0f} | {share:.2%} | "
            f"{size * 8 / LINE_BITS_PER_S:.3f} | "
            f"{statistics.fmean(one.encode_ms for one in these):.1f} | {met or ''} |"
        )


def main() -> None:
    """Print a table for each data set and way of learning."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0-2", help="first-last")
    parser.add_argument("--data", default=",".join(PLANS))
    parser.add_argument("--share", type=float, default=sparse.SHARE, help="of elements, for topk")
    told = parser.parse_args()
    torch.set_num_threads(1)
    first, _, last = told.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    for data in told.data.split(","):
        size = hospitals(data, seeds[0])[0].model.elements()
        shown = f"{data}, {size:,} parameters, {PLANS[data].sites} hospitals, seeds {told.seeds}"
        shot = [vectors(data, seed, WORDS, told.share) for seed in seeds]
        print("\n".join(table(f"vectors: {shown}", shot)), flush=True)
        rounds = []
        for seed in seeds:
            by_word = {word: ring(data, seed, word, told.share) for word in WORDS}
            rounds.append(by_word)
        print("\n".join(table(f"ring, {PLANS[data].rounds} rounds: {shown}", rounds)), flush=True)


if __name__ == "__main__":
    main()
