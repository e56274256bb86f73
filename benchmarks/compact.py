"""Compact: what do fewer bytes cost in AUC? Data vectors, and a ring that gossips, by codec.

    python -m benchmarks.compact [--seeds 0-2] [--data digits,breast_cancer,heart_disease]

Models of 90,000 parameters and more. Every hospital trains and encodes by the product's own
code. `vectors`: one shot; all start from one base, train, send their data vector once, and take
the mean of what they decode. `ring`: each round a hospital trains, sends its change to those next
to it, and moves towards the public copies of theirs that it keeps (CHOCO-SGD: Koloskova, Stich
and Jaggi 2019, algorithm 2). Bytes are those of the payload, its signed envelope and its
knowledge manifest. AUC is the mean over the hospitals, on patients on whom nobody trained, without
calibration. What is chosen below was chosen on seeds from 100 on.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import torch

from konsil.knowledge import embedded, split, tabular, train
from konsil.knowledge.compact import feedback, payload, sparse
from konsil.knowledge.judge import Judge
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.networks import perceptron
from konsil.knowledge.task import Rows, Task, TaskConfig
from konsil.knowledge.vectors import merging, vector
from konsil.protocol import artifact, envelope, knowledge_manifest
from konsil.protocol.encoding import encoding_of
from konsil.protocol.identity import SigningKey

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
PACE = 1.0
"""How far a hospital moves towards the public copies (γ of CHOCO-SGD)."""


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
    """Mean bytes of an artifact, envelope and knowledge manifest included."""
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


def sealed_bytes(task: Task, data: bytes, word: str) -> int:
    """Bytes of a payload, of its signed manifest and of its knowledge manifest."""
    name = sha256(data).hexdigest()
    manifest = artifact.Artifact(
        kind="data_vector", publisher="a" * 32, sequence=12, round=12, task=task.name,
        base=name[::-1], architecture=name[::-1], parents=(name[::-1],), charter=name[::-1],
        knowledge=name[::-1],
        payload=artifact.Payload(
            digest=name, size=len(data), format=encoding_of(word).word, chunk_bytes=1 << 20,
            chunk_root=name,
        ),
        coverage=artifact.Coverage(
            rows=artifact.bucket(len(task.train)), not_evaluated=(), tensors=(),
            classes=tuple(artifact.ClassCoverage(name=one, rows=20) for one in task.classes),
        ),
        privacy=artifact.PrivacySpent(mechanism="none", unit="none", epsilon_micro=0, delta_e12=0),
    )  # fmt: skip
    sealed = artifact.seal(manifest, SigningKey.from_seed(b"b" * 32))
    known = knowledge_manifest.KnowledgeManifest(
        labels=tuple(
            knowledge_manifest.LabelKnowledge(system="task", code=one, rows=20)
            for one in task.classes
        ),
        privacy=manifest.privacy,
        base=manifest.base,
    )
    return len(data) + len(envelope.pack(sealed)) + len(knowledge_manifest.write(known))


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
            sealed_bytes(one.task, data, word) for one, data in zip(them, sent, strict=True)
        )
        found[word] = Outcome(auc(them, [merged] * len(them)), size, 1e3 * spent)
    return found


def ring(data: str, seed: int, word: str, share: float, pace: float) -> Outcome:
    """A ring in which public copies advance by what was decoded; the state after all rounds."""
    them = hospitals(data, seed)
    sizes, spent = [], 0.0
    for number in range(1, PLANS[data].rounds + 1):
        for k, one in enumerate(them):
            one.model = trained(one, seed, k, number)
            began = time.process_time()
            sent = payload.write(one.model - one.public, word, share=share)
            spent += time.process_time() - began
            one.public = feedback.followed(one.public, payload.read(sent, word, one.public))
            sizes.append(sealed_bytes(one.task, sent, word))
        copies = [one.public for one in them]
        for k, one in enumerate(them):
            for beside in {k - 1, (k + 1) % len(them)}:
                one.model = one.model + (copies[beside] - copies[k]) * (pace / 3)
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
    parser.add_argument("--pace", type=float, default=PACE, help="γ, of the ring")
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
            by_word = {}
            for word in WORDS:
                codec = encoding_of(word).codec
                sent = word.replace("safetensors+", "safetensors+delta+")
                sent = word if codec == "plain" else sent
                by_word[sent] = ring(data, seed, sent, told.share, told.pace)
            rounds.append(by_word)
        print("\n".join(table(f"ring, {PLANS[data].rounds} rounds: {shown}", rounds)), flush=True)


if __name__ == "__main__":
    main()
