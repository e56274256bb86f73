"""Answers between unlike networks, once through the daemons' workbenches and once simulated.

The same hospitals, most of which have not seen every class, give the same evidence, weights and
models: the simulator's lessons are those of `konsil.node.learning.kinds`.
"""

from __future__ import annotations

import msgspec
import pytest
import torch

from konsil.knowledge import pack
from konsil.node.learning import fingerprints
from konsil.node.learning.workbench import Workbench
from konsil.node.learning.worker_messages import Candidate, Mix, Open, Train
from konsil.node.store.blobs import BlobStore
from konsil.protocol import records
from konsil.simulations.sim.engine import threads
from konsil.simulations.sim.lessons.run import LessonRun
from konsil.simulations.sim.scenario_reading import scenario_of
from konsil.simulations.sim.setting import name_of, setting_of
from konsil.trust import weights
from konsil.trust.evidence import EvidenceRecord

SCENARIO = """
seed = 104
[population]
nodes = 4
dataset = "digits"
split = "dirichlet"
alpha = 0.2
rows = 60
holdout = 0.4
model = ["mlp:8", "logistic"]
[topology]
kind = "complete"
[training]
rounds = 2
[artifacts]
kinds = ["KIND"]
question_rows = 70
"""
SITE = "konsil.simulations.sim.site:build"
FIELDS = ("w_e9", "trust_e9", "p_f_e9", "p_g_e9", "gate_e9")
ROUNDS = 2


def simulated(root, kind):
    """Every figure of every round by receiver and sender, and the models at the end."""
    text = SCENARIO.replace("KIND", kind)
    setting = setting_of(scenario_of(msgspec.toml.decode(text)), root)
    found = {}
    with threads(1):
        run = LessonRun(setting, "cpu")
        for number in range(1, ROUNDS + 1):
            run.round(number)
            judged = run.judgement
            pairs = zip(run.heard.receiver.tolist(), run.heard.sender.tolist(), strict=True)
            for place, (receiver, sender) in enumerate(pairs):
                values = {name: int(getattr(judged.weighed, name)[place]) for name in FIELDS}
                values["d_e9"] = int(judged.measures.d_e9[place])
                values["g_e9"] = int(judged.measures.g_e9[place])
                values["step_e9"] = int(judged.step_e9[place])
                found[receiver, sender, number] = values
    return found, run.stacked, setting


def benches(root, kind):
    """The workbench of each node, as its worker opens it."""
    text = SCENARIO.replace("KIND", kind)
    found = []
    for node in range(4):
        (root / name_of(node)).mkdir()
        found.append(
            Workbench(
                Open(
                    home=str(root / name_of(node)), blobs=str(root / "blobs"), factory=SITE,
                    options={"scenario": text, "site": node}, name=name_of(node), seed=104,
                    device="cpu", kind=kind,
                )
            )
        )  # fmt: skip
    return found


def as_workers(root, kind):
    """The same figures from what the workers of four daemons would say."""
    opened = benches(root, kind)
    models, standing, found = [one.opened.base for one in opened], {}, {}
    for number in range(1, ROUNDS + 1):
        trained = [
            bench.train(Train(model=model, round=number))
            for bench, model in zip(opened, models, strict=True)
        ]
        mixes = []
        for node, bench in enumerate(opened):
            candidates = tuple(
                Candidate(
                    art=trained[other].release, tensors=trained[other].release,
                    node=name_of(other), lag=0,
                    metropolis_e9=weights.metropolis_e9(3, 3),
                    r_e9=standing.get((node, other), (0, 0))[0],
                    s_e9=standing.get((node, other), (0, 0))[1],
                    classes=_seen(opened[other].opened),
                )
                for other in range(4) if other != node
            )  # fmt: skip
            mixes.append(
                bench.mix(
                    Mix(
                        before=models[node], trained=trained[node].out, node=name_of(node),
                        round=number, kind=kind, candidates=candidates,
                    )
                )
            )  # fmt: skip
        for node, mixed in enumerate(mixes):
            for judged in mixed.judged:
                other = int(judged.node.removeprefix("node-"))
                standing[node, other] = (judged.r_e9, judged.s_e9)
                found[node, other, number] = records.unpack(judged.record, EvidenceRecord)
        models = [mixed.out for mixed in mixes]
    blobs = BlobStore(root / "blobs")
    return found, [pack.load(blobs.path(model)) for model in models]


def _seen(opened):
    """The classes of which a node has rows, as its coverage says."""
    return tuple(name for name, rows in zip(opened.classes, opened.class_rows, strict=True) if rows)


@pytest.mark.parametrize("kind", ["logits", "weak_labels"])
def test_evidence_weights_and_models_are_those_of_the_workers(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(fingerprints, "code", lambda factory: b"c" * 32)
    expected, stacked, setting = simulated(tmp_path, kind)
    recorded, models = as_workers(tmp_path, kind)
    assert recorded.keys() == expected.keys()
    for edge, values in expected.items():
        for field, value in values.items():
            assert getattr(recorded[edge], field) == pytest.approx(value, abs=3e5), (edge, field)
    for architecture, rows in zip(setting.architectures, stacked, strict=True):
        for node, row in zip(architecture.nodes.tolist(), rows, strict=True):
            theirs = architecture.network.layout.row(models[node])
            assert torch.allclose(theirs, row, atol=1e-4), node
    granted = [value["w_e9"] for value in expected.values()]
    assert min(granted) < 200_000_000 <= max(granted), "nobody was refused: this shows nothing"
