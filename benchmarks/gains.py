"""Gains: does learning together help? The worker's own code in one process, without daemons.

    python benchmarks/gains.py breast_cancer --seeds 0-4
    python benchmarks/gains.py heart_disease --seeds 0-9 --topology ring --rounds 30

All nodes train, publish and mix in step, over the graph that the demo would use, so this is
the best that the demo can show; in a real network everyone keeps an own pace. The seed is the
consortium's seed, or the random split of the heart data. Figures per seed: the mean over the
honest hospitals of network minus local, the worst of them, and the attacker's weight.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import torch

from konsil.knowledge import pack, tabular, train
from konsil.knowledge.judge import Judge
from konsil.knowledge.task import Rows, Task, TaskConfig
from konsil.node.learning.workbench import Workbench
from konsil.node.learning.worker_messages import Candidate, Mix, Open, Train
from konsil.protocol import records
from konsil.simulations import topology
from konsil.trust import weights
from konsil.trust.evidence import EvidenceRecord

TABULAR = "konsil.knowledge.tabular:build"


@dataclass
class Hospital:
    """One hospital of the loop: its workbench, its model, and what it remembers of others."""

    name: str
    options: dict
    seed: int
    home: Path
    blobs: Path
    byzantine: bool
    model: bytes = b""
    scores: dict = field(default_factory=dict)
    granted: list = field(default_factory=list)

    def open(self) -> None:
        options, factory = self.options, TABULAR
        if self.byzantine:
            options = {"factory": TABULAR, "options": self.options, "attack": "sign_flip"}
            factory = "konsil.simulations.adversary:build"
        self.home.mkdir()
        self.bench = Workbench(
            Open(
                home=str(self.home), blobs=str(self.blobs), factory=factory, options=options,
                name=self.name, seed=self.seed, device="cpu",
            )
        )  # fmt: skip
        config = TaskConfig(self.home, self.name, self.seed, self.options)
        self.task = tabular.build(config)
        self.test = tabular.common_test(config)
        self.judge = Judge(self.task, "cpu")
        self.model = self.bench.opened.base

    def load(self, digest: bytes):
        name = digest.hex()
        return pack.load(self.blobs / "sha256" / name[:2] / name)

    def metric(self, model, *, calibrated: bool) -> float:
        return self.judge.measure(model, self.test, calibrated=calibrated).get(
            self.task.metric, float("nan")
        )


def one_round(hospitals: list[Hospital], near: dict[str, set[str]], number: int) -> None:
    """Everyone trains and publishes; then everyone mixes what the neighbours published."""
    trained = {h.name: h.bench.train(Train(model=h.model, round=number)) for h in hospitals}
    for me in hospitals:
        candidates = tuple(
            Candidate(
                art=trained[name].release,
                tensors=trained[name].release,
                node=name,
                lag=0,
                metropolis_e9=weights.metropolis_e9(len(near[me.name]), len(near[name])),
                r_e9=me.scores.get(name, (0, 0))[0],
                s_e9=me.scores.get(name, (0, 0))[1],
            )
            for name in sorted(near[me.name])
        )
        mixed = me.bench.mix(
            Mix(
                before=me.model, trained=trained[me.name].out, node=me.name, round=number,
                kind="parameters", candidates=candidates,
            )
        )  # fmt: skip
        me.model = mixed.out
        me.scores |= {judged.node: (judged.r_e9, judged.s_e9) for judged in mixed.judged}
        seen = [records.unpack(judged.record, EvidenceRecord) for judged in mixed.judged]
        me.granted.append({record.node: record.w_e9 / record.metropolis_e9 for record in seen})


def alone(task: Task, name: str, seed: int, rounds: int):
    """What a hospital reaches by itself in as many rounds."""
    model = train.initial_model(task, seed)
    for number in range(1, rounds + 1):
        model = train.train(task, model, seed=seed, node=name, number=number).model
    return model


def pooled(tasks: list[Task]) -> Task:
    """One task on all rows; a reference that no hospital could have."""
    rows = Rows(
        torch.cat([task.train.inputs for task in tasks]),
        torch.cat([task.train.targets for task in tasks]),
        [f"{k}/{patient}" for k, task in enumerate(tasks) for patient in task.train.patients],
    )
    first = tasks[0]
    return Task(
        name="pooled", classes=first.classes, model=first.model, train=rows,
        holdout=Rows(first.holdout.inputs, first.holdout.targets, ["-"] * len(first.holdout)),
        local_epochs=first.local_epochs, batch_size=first.batch_size,
        learning_rate=first.learning_rate,
    )  # fmt: skip


def run(dataset: str, seed: int, options: dict, *, honest: int, byzantine: int, kind: str,
        rounds: int, calibrated: bool) -> dict:  # fmt: skip
    """One consortium of one seed: metrics of every honest hospital, and the attacker's weight."""
    total = honest + byzantine
    names = [f"h{site}" for site in range(total)]
    hostile = {names[(seed * 7 + k) % total] for k in range(byzantine)}
    near: dict[str, set[str]] = {name: set() for name in names}
    for one, other in topology.edges(kind, names, seed=seed):
        near[one].add(other)
        near[other].add(one)
    consortium = 0 if dataset == "heart_disease" else seed
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        root = Path(folder)
        hospitals = []
        for site, name in enumerate(names):
            own = {"dataset": dataset, "site": site, "sites": total, **options}
            if dataset == "heart_disease":
                own["split_seed"] = seed
            hospitals.append(
                Hospital(name, own, consortium, root / name, root / "blobs", name in hostile)
            )
            hospitals[-1].open()
        for number in range(1, rounds + 1):
            one_round(hospitals, near, number)
        rows = [h for h in hospitals if not h.byzantine]
        everything = alone(pooled([h.task for h in rows]), "pooled", consortium, rounds)
        figures = {
            h.name: {
                "network": h.metric(h.load(h.model), calibrated=calibrated),
                "local": h.metric(alone(h.task, h.name, consortium, rounds), calibrated=calibrated),
                "pooled": h.metric(everything, calibrated=calibrated),
            }
            for h in rows
        }
        late = [w for h in rows for w in h.granted[rounds // 4 :]]
        last = [w for h in rows for w in h.granted[-max(1, rounds // 4) :]]
        return {
            "seed": seed,
            "hospitals": figures,
            "attacker": _mean([w[name] for w in late for name in w if name in hostile]),
            "attacker_last": _mean([w[name] for w in last for name in w if name in hostile]),
            "honest": _mean([w[name] for w in late for name in w if name not in hostile]),
            "honest_last": _mean([w[name] for w in last for name in w if name not in hostile]),
        }


def _mean(values: list[float]) -> float:
    return statistics.fmean(values) if values else float("nan")


def summary(result: dict, leave_out: tuple[str, ...] = ()) -> dict:
    """The figures of one seed over its honest hospitals."""
    rows = [row for name, row in result["hospitals"].items() if name not in leave_out]
    gains = [row["network"] - row["local"] for row in rows]
    return {
        "seed": result["seed"],
        **{what: _mean([row[what] for row in rows]) for what in ("local", "network", "pooled")},
        "gain": _mean(gains),
        "worst": min(gains),
        "attacker": result["attacker"],
        "attacker_last": result["attacker_last"],
        "honest": result["honest"],
        "honest_last": result["honest_last"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", choices=["breast_cancer", "heart_disease"])
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--honest", type=int, default=4)
    parser.add_argument("--byzantine", type=int)
    parser.add_argument("--topology", default="ring_chords")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--options", default="{}", help="task options as JSON")
    parser.add_argument("--plain", action="store_true", help="without the local intercept")
    parser.add_argument("--json", action="store_true")
    wish = parser.parse_args()
    torch.set_num_threads(1)
    heart = wish.dataset == "heart_disease"
    first, last = (int(part) for part in wish.seeds.split("-"))
    table = [
        summary(
            run(
                wish.dataset, seed, json.loads(wish.options), honest=wish.honest,
                byzantine=(0 if heart else 1) if wish.byzantine is None else wish.byzantine,
                kind=wish.topology, rounds=wish.rounds, calibrated=not wish.plain,
            ),
            ("h2",) if heart else (),
        )
        for seed in range(first, last + 1)
    ]  # fmt: skip
    means = {key: _mean([row[key] for row in table]) for key in table[0] if key != "seed"}
    if wish.json:
        print(json.dumps({"rows": table, "mean": means}))
        return 0
    print("  ".join(f"{key:>13}" for key in table[0]))
    for row in [*table, {"seed": "mean", **means}]:
        print(
            "  ".join(f"{v:>13.3f}" if isinstance(v, float) else f"{v:>13}" for v in row.values())
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
