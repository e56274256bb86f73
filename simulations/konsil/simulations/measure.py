"""Measure models: `python -m konsil.simulations.measure`, a question in and an answer out.

The one module of this floor that imports torch (see `measuring` for the protocol). It opens
each hospital's own task from its home, as the daemon's worker did, and measures on patients
that nobody trained on: those that the task sets aside (`Task.test`), else the honest hospitals'
held-back rows together. Every model is measured as its hospital would use it: with its own
normalisation, and the intercept fitted on its own training rows.

`local` repeats the daemon's training schedule without any exchange; `pooled` is one model
trained in the same way on everybody's rows.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch

from konsil.knowledge import pack
from konsil.knowledge.judge import Judge
from konsil.knowledge.task import Rows, Task, TaskConfig, load_factory
from konsil.knowledge.train import initial_model, train
from konsil.node.config import read_config
from konsil.node.paths import Home
from konsil.node.store.blobs import BlobStore
from konsil.protocol.errors import ConfigError, KonsilError
from konsil.simulations import adversary
from konsil.simulations.measuring import Measured, Question

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from konsil.knowledge.named import NamedTensors


def main() -> None:
    """Answer the one question on standard input."""
    question = msgspec.json.decode(sys.stdin.buffer.readline(), type=Question)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    sys.stdout.buffer.write(msgspec.json.encode(measure(question)) + b"\n")
    sys.stdout.flush()


def measure(question: Question) -> Measured:
    """Everything that can be measured; what cannot is named in `failures` and left out."""
    opened: dict[str, Opened] = {}
    failures: list[str] = []
    for site in question.sites:
        try:
            opened[site.name] = open_task(Path(site.home))
        except Exception as error:  # noqa: BLE001 - the hospital's own code: named, and told
            failures.append(f"{site.name}: the task cannot be opened: {error}")
    honest = [s.name for s in question.sites if not s.byzantine and s.name in opened]
    if not honest:
        return Measured(metric="", failures=tuple(failures))
    benches: dict[str, Bench] = {}
    for name, one in opened.items():
        try:
            test = one.test or joined([opened[other].task.holdout for other in honest])
            benches[name] = Bench(one.task, test)
        except Exception as error:  # noqa: BLE001 - rows that do not belong together: told
            failures.append(f"{name}: there is nothing to measure its models on: {error}")
    local: dict[str, tuple[float | None, ...]] = {}
    network: dict[str, tuple[float | None, ...]] = {}
    reference: dict[str, float] = {}
    for site in question.sites:
        if site.name not in benches:
            continue
        bench = benches[site.name]
        try:
            network[site.name] = tuple(bench.stored(Path(site.home), name) for name in site.models)
            local[site.name] = bench.alone(question.seed, site.name, question.rounds)
        except Exception as error:  # noqa: BLE001 - the hospital's own code: named, and told
            failures.append(f"{site.name}: the task failed when it was measured: {error}")
    try:
        reference = pooled({name: benches[name] for name in honest if name in benches}, question)
    except Exception as error:  # noqa: BLE001 - as above
        failures.append(f"the pooled reference failed: {error}")
    return Measured(
        metric=opened[honest[0]].task.metric,
        rows={name: len(one.task.train) for name, one in opened.items()},
        local=local,
        network=network,
        pooled=reference,
        failures=tuple(failures),
    )


class Opened(msgspec.Struct, frozen=True):
    """A hospital's task, and the rows that it sets aside for everybody, if it does."""

    task: Task
    test: Rows | None


def open_task(root: Path) -> Opened:
    """The task in a home's configuration, built as its worker builds it, without any attack."""
    home = Home(root)
    config = read_config(home.config)
    spec, options = config.task.factory, config.task.options
    if spec == adversary.FACTORY:
        spec, options = options["factory"], options["options"]
    factory = load_factory(spec, home.root)
    told = TaskConfig(
        home=home.root, name=config.node.name, seed=config.training.seed, options=options
    )
    task = factory(told)
    try:
        test = None if task.test is None else task.test()
    except ConfigError:
        test = None
    return Opened(task, test)


class Bench:
    """One hospital's task and the rows on which its models are measured."""

    def __init__(self, task: Task, test: Rows) -> None:
        self.task = task
        self.test = test
        self._judge = Judge(task, "cpu")

    def score(self, model: NamedTensors) -> float | None:
        """The task's metric on the test rows, with the local intercept; None if undefined."""
        return self._judge.measure(model, self.test).get(self.task.metric)

    def stored(self, root: Path, digest: str | None) -> float | None:
        """The score of a model in a home's blob store; None when it is not there."""
        if digest is None:
            return None
        try:
            return self.score(pack.load(BlobStore(Home(root).blobs).path(bytes.fromhex(digest))))
        except KonsilError:
            return None

    def alone(self, seed: int, node: str, rounds: int) -> tuple[float | None, ...]:
        """The score after each round of the local schedule, without any exchange."""
        model = initial_model(self.task, seed)
        scores = []
        for number in range(1, rounds + 1):
            model = train(self.task, model, seed=seed, node=node, number=number).model
            scores.append(self.score(model))
        return tuple(scores)


def joined(parts: Sequence[Rows]) -> Rows:
    """Rows after rows."""
    return Rows(
        inputs=torch.cat([part.inputs for part in parts]),
        targets=torch.cat([part.targets for part in parts]),
        patients=[patient for part in parts for patient in part.patients],
    )


def pooled(benches: Mapping[str, Bench], question: Question) -> dict[str, float]:
    """The reference: one model trained on all honest rows, as each hospital would use it.

    Empty for tasks that do not share their classes, inputs and network.
    """
    tasks = [bench.task for bench in benches.values()]
    shared = {(one.classes, one.train.inputs.shape[1:], str(one.model())) for one in tasks}
    if len(shared) > 1:
        return {}
    together = dataclasses.replace(
        tasks[0],
        train=joined([task.train for task in tasks]),
        holdout=joined([task.holdout for task in tasks]),
    )
    model = initial_model(together, question.seed)
    for number in range(1, question.rounds + 1):
        model = train(together, model, seed=question.seed, node="pooled", number=number).model
    scores = {name: bench.score(model) for name, bench in benches.items()}
    return {name: score for name, score in scores.items() if score is not None}


def _end_with_parent() -> None:
    """The parent holds our standard input open while it lives, and writes no more to it."""
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
