"""One small network, once as real daemons over the memory transport and once in the simulator.

The same hospitals, one of them hostile, give the same weights and the same models: the simulator
is no second implementation. A changed constant of trust moves both sides alike.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import msgspec
import pytest
import torch
import trio
from network import Network

from konsil.knowledge import pack
from konsil.node.learning.press import Press
from konsil.node.paths import Home
from konsil.node.store.blobs import BlobStore
from konsil.protocol import records
from konsil.protocol.learning_bodies import TrustUpdate
from konsil.simulations.sim.engine import Run, threads
from konsil.simulations.sim.scenario_reading import scenario_of
from konsil.simulations.sim.setting import name_of, setting_of
from konsil.trust.evidence import EvidenceRecord

SCENARIO = """
seed = 103
[population]
nodes = 4
dataset = "breast_cancer"
split = "dirichlet"
alpha = 2.0
holdout = 0.4
model = "mlp:8"
[topology]
kind = "complete"
[training]
rounds = 4
local_epochs = 2
lr = 0.05
[adversary]
fraction = 0.25
attack = "sign_flip"
"""
SITE = "konsil.simulations.sim.site:build"
HOSTILE = "konsil.simulations.adversary:build"


class InStep:
    """Nobody publishes a round before everybody has trained it: then no artifact ever waits."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.trained = Counter()
        self.everybody = defaultdict(trio.Event)

    async def wait(self, number):
        self.trained[number] += 1
        if self.trained[number] == self.nodes:
            self.everybody[number].set()
        await self.everybody[number].wait()


@pytest.fixture
def in_step(monkeypatch):
    step, issue = InStep(4), Press.issue

    async def later(self, entry, index, memory):
        await step.wait(memory.round)
        return await issue(self, entry, index, memory)

    monkeypatch.setattr(Press, "issue", later)


async def as_daemons(root, hostile):
    """Weights by (receiver, sender, round), and the last model of each node."""
    names = [name_of(node) for node in range(4)]
    options = {name: {"scenario": SCENARIO, "site": site} for site, name in enumerate(names)}
    liars = {names[node] for node in hostile}
    for name in liars:
        options[name] = {"factory": SITE, "options": options[name], "attack": "sign_flip"}
    async with trio.open_nursery() as nursery:
        net = Network(
            root, nursery, names, rounds=4, seed=103, factory=SITE, options=options,
            factories=dict.fromkeys(liars, HOSTILE), patience_s=60.0, start_wait_s=60.0,
            edges=[(a, b) for i, a in enumerate(names) for b in names[i + 1 :]],
        )  # fmt: skip
        await net.start()
        await net.until(net.idle, seconds=200)
        numbers = {net.members[name].node: place for place, name in enumerate(names)}
        found = {}
        for receiver, name in enumerate(names):
            blobs = net.daemons[name]._journal.blobs
            for body in net.bodies(name, TrustUpdate):
                record = records.unpack(blobs.get(body.evidence), EvidenceRecord)
                found[receiver, numbers[record.node], record.round] = record
        models = {}
        for place, name in enumerate(names):
            last = net.daemons[name].learner.memory.model
            models[place] = pack.load(BlobStore(Home(root / name).blobs).path(last))
        nursery.cancel_scope.cancel()
    return found, models


def as_simulation(root):
    """The same figures from the simulator."""
    setting = setting_of(scenario_of(msgspec.toml.decode(SCENARIO)), root)
    found = {}
    with threads(1):
        run = Run(setting, "cpu")
        for number in range(1, 5):
            run.round(number)
            judged = run.judgement
            links = run.heard
            for place, (receiver, sender) in enumerate(
                zip(links.receiver.tolist(), links.sender.tolist(), strict=True)
            ):
                found[receiver, sender, number] = {
                    "w_e9": int(judged.weighed.w_e9[place]),
                    "trust_e9": int(judged.weighed.trust_e9[place]),
                    "d_e9": int(judged.measures.d_e9[place]),
                    "scale_e9": int(judged.scale_e9[place]),
                    "g_e9": int(judged.measures.g_e9[place]),
                    "excused_e9": int(judged.measures.excused_e9[place]),
                    "tau_e9": int(judged.tau_e9[place]),
                }
    return found, run.models, setting


@pytest.mark.slow
@pytest.mark.parametrize("planted", [False, True])
async def test_weights_and_models_are_those_of_the_daemons(tmp_path, monkeypatch, in_step, planted):
    if planted:
        # The worker of a daemon is a process of its own, so the constant is planted in its task.
        monkeypatch.setenv("PYTHONPATH", str(_planted(tmp_path)))
        monkeypatch.setattr("konsil.trust.evidence.BENEFIT_OF_DOUBT_E9", 250_000_000)
    simulated, rows, setting = as_simulation(tmp_path)
    recorded, models = await as_daemons(tmp_path / "homes", setting.hostile.tolist())
    assert recorded.keys() == simulated.keys()
    for edge, record in recorded.items():
        for field, value in simulated[edge].items():
            assert abs(getattr(record, field) - value) <= 1e4, (edge, field)
    for node, model in models.items():
        row = setting.network.layout.row(model)
        assert torch.allclose(rows[node], row, atol=1e-5), node
    least = min(value["w_e9"] for value in simulated.values())
    assert least < 250_000_000, "nobody was refused anything: the test shows nothing"
    if planted:
        monkeypatch.undo()
        plain, _, _ = as_simulation(tmp_path)
        assert any(plain[edge]["trust_e9"] != simulated[edge]["trust_e9"] for edge in plain)


def _planted(folder):
    """A start-up file that changes one constant of trust in every process."""
    place = folder / "planted"
    place.mkdir()
    (place / "sitecustomize.py").write_text(
        "import konsil.trust.evidence as evidence\nevidence.BENEFIT_OF_DOUBT_E9 = 250_000_000\n"
    )
    return place
