"""Nothing of a patient leaves a hospital: neither rows nor ids, in no encoding we can think of.

Real daemons and real workers in one process, with every byte captured before encryption: what
the taps of the transports see, and for libp2p also all that its encryption is given. The same
search catches tasks that leak on purpose, so it is not blind.
"""

from __future__ import annotations

import base64
import json
import os
import random
import struct
from collections import defaultdict

import msgspec
import pytest
import trio
from canaries import Canaries
from homes import free_ports

from konsil.knowledge import TaskConfig
from konsil.knowledge.task import load_factory
from konsil.node.config import read_config
from konsil.node.daemon import Daemon
from konsil.node.init import create_home, member_table, node_toml
from konsil.node.keys import load_keys
from konsil.node.log import open_log
from konsil.node.opening import open_journal
from konsil.node.paths import Home
from konsil.node.transports.libp2p_noise import MemberSession
from konsil.node.transports.libp2p_transport import Libp2pTransport
from konsil.node.transports.memory_transport import MemoryFabric

COLUMNS = 12
PATIENTS = 24

TASK = '''
"""A task that leaks as its option `leak` says; by default it does not."""

import csv

import torch
from konsil.knowledge import Rows, Task
from konsil.knowledge.named import NamedTensors
from torch import nn


def build(config):
    with (config.home / "patients.csv").open() as file:
        table = list(csv.DictReader(file))
    numbers = [name for name in table[0] if name not in ("label", "site", "patient")]
    inputs = torch.tensor([[float(row[name]) for name in numbers] for row in table])
    targets = torch.tensor([int(row["label"] == "yes") for row in table])
    ids = [row["patient"] for row in table]
    leak = config.options.get("leak")
    classes = ("no", f"yes {ids[5]}") if leak == "class" else ("no", "yes")

    def release(before, trained):
        if leak in (None, "class"):
            return trained
        hidden = {
            "row": lambda: inputs[3].numpy().tobytes(),
            "column": lambda: inputs[:, 2].contiguous().numpy().tobytes(),
            "id": lambda: ids[4].encode(),
            "codes": lambda: torch.tensor(list(map(float, ids[4].encode()))).numpy().tobytes(),
        }[leak]()
        weight = bytearray(trained["0.weight"].numpy().tobytes())
        weight[: len(hidden)] = hidden
        changed = torch.frombuffer(weight, dtype=torch.float32).reshape(trained["0.weight"].shape)
        return NamedTensors({**trained, "0.weight": changed.clone()})

    def part(first):
        at = range(first, len(table), 2)
        return Rows(inputs[first::2], targets[first::2], [ids[place] for place in at])

    def model():
        return nn.Sequential(nn.Linear(len(numbers), 2))

    return Task("canary", classes, model, part(0), part(1), release=release)
'''


def write_table(home, name):
    """Patients whose every number has digits of its own; their ids and their rows."""
    draw = random.Random(name)
    ids = [f"{name}-{draw.randrange(10**9):09d}-Müller" for _ in range(PATIENTS)]
    rows = []
    lines = ["label,site,patient," + ",".join(f"x{at}" for at in range(COLUMNS))]
    for number, patient in enumerate(ids):
        label = "yes" if number % 3 else "no"
        rows.append([draw.gauss(1.0 if label == "yes" else -1.0, 1.5) for _ in range(COLUMNS)])
        lines.append(f"{label},{name},{patient}," + ",".join(map(repr, rows[-1])))
    (home / "patients.csv").write_text("\n".join(lines) + "\n")
    return ids, rows


TABULAR = {
    "name": "canary", "dataset": "patients.csv", "patient": "patient", "site_column": "site",
}  # fmt: skip


class Watched:
    """Hospitals whose every byte to the outside is kept, by hospital."""

    def __init__(self, root, leaks):
        self.root, self.daemons = root, {}
        self.out, self.sealed = defaultdict(bytearray), defaultdict(bytearray)
        self.canaries, self.members = {}, {}
        for (name, leak), port in zip(leaks.items(), free_ports(len(leaks)), strict=True):
            self.members[name] = create_home(
                root / name, name=name, consortium="c", factory="task:build",
                listen=(f"/ip4/127.0.0.1/tcp/{port}",), options={},
            )  # fmt: skip
            (root / name / "task.py").write_text(TASK)
            self._configure(name, leak, write_table(root / name, name))

    def _configure(self, name, leak, table):
        home, (ids, rows) = Home(self.root / name), table
        factory = "konsil.knowledge.tabular:build" if leak == "tabular" else "task:build"
        options = TABULAR if leak == "tabular" else {"leak": leak} if leak else {}
        text = node_toml(self.members[name], "c", factory, self.members[name].addresses, options)
        home.config.write_text(text)
        task = load_factory(factory, home.root)(TaskConfig(home.root, name, 0, options))
        seen = [row for part in (task.train, task.holdout) for row in part.inputs.tolist()]
        self.canaries[name] = Canaries(ids, rows + seen)

    def found(self, name, *places):
        """What is betrayed of the patients of `name` in these bytes."""
        return sorted(told for one in places for told in self.canaries[name].found(bytes(one)))

    async def run(self, nursery, rounds, fabric=None):
        """Start all; over libp2p when there is no `fabric` of memory."""
        for name in self.members:
            home = Home(self.root / name)
            text = home.config.read_text().split("[[members]]")[0]
            text = text.replace(
                "rounds = 50", f"rounds = {rounds}\npatience_s = 12.0\nlate_after_s = 12.0"
            )
            own = list(self.members.values())
            if fabric:
                own = [msgspec.structs.replace(m, addresses=(f"/memory/{m.peer}",)) for m in own]
            home.config.write_text(text + "\n".join(map(member_table, own)))
            await nursery.start(self._serve, name, fabric)

    async def _serve(self, name, fabric, task_status):
        home = Home(self.root / name)
        config, keys, log = read_config(home.config), load_keys(home.keys), open_log(name, "debug")
        peers = frozenset(member.peer for member in self.members.values())

        def tap(direction, data):
            if direction == "out":
                self.out[name] += data

        journal = open_journal(home, config, keys, log)
        if fabric:
            transport = fabric.transport(self.members[name].peer, peers, tap=tap)
        else:
            transport = Libp2pTransport(
                keys["peer"].seed, config.node.listen, peers, "c/heads", tap=tap, log=log
            )
        self.daemons[name] = Daemon(home, config, journal, transport, log)
        try:
            await self.daemons[name].run(task_status=task_status)
        finally:
            journal.close()

    async def until(self, condition):
        with trio.fail_after(240):
            while not all(condition(daemon) for daemon in self.daemons.values()):
                await trio.sleep(0.05)


def shown(home):
    """What an auditor, or a peer, may get to see of a home."""
    folders = [home.ledger, home.blobs, home.peers, home.spool]
    return [p.read_bytes() for folder in folders for p in folder.rglob("*") if p.is_file()]


@pytest.mark.slow
async def test_no_patient_leaves_a_hospital(tmp_path, nursery, monkeypatch, capfd):
    watched = Watched(tmp_path, {"bern": "tabular", "graz": None, "ulm": None})
    names = {member.peer: name for name, member in watched.members.items()}
    encrypt = MemberSession.write

    async def write(session, data):
        watched.sealed[names[str(session.local_peer)]] += data
        await encrypt(session, data)

    monkeypatch.setattr(MemberSession, "write", write)
    await watched.run(nursery, rounds=3)
    await watched.until(lambda daemon: daemon.learner.phase == "idle")
    written = {name: daemon._transport.bytes_written for name, daemon in watched.daemons.items()}
    nursery.cancel_scope.cancel()

    for name, daemon in watched.daemons.items():
        assert daemon.learner.memory.integrated >= 1, "they did learn from each other"
        # The taps see whatever is ours, and the encryption nothing but that and some framing.
        assert 0.8 * written[name] < len(watched.sealed[name]) < written[name]
        assert 0.5 * len(watched.sealed[name]) < len(watched.out[name])
        assert watched.found(name, watched.out[name], watched.sealed[name]) == []
        for other in watched.members:
            assert watched.found(name, *shown(Home(tmp_path / other))) == []
    logs = capfd.readouterr().err.encode()
    assert b"mix.end" in logs
    for name in watched.members:
        assert watched.found(name, logs) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "leaks",
    [
        {"bern": "row", "graz": "id", "ulm": "class"},
        pytest.param(
            {"bern": "column", "graz": "codes", "ulm": None}, marks=pytest.mark.exhaustive
        ),
    ],
)
async def test_a_task_that_leaks_is_caught(tmp_path, nursery, leaks):
    watched = Watched(tmp_path, leaks)
    await watched.run(nursery, rounds=1, fabric=MemoryFabric())
    await watched.until(lambda daemon: daemon.intake.received >= 2)
    nursery.cancel_scope.cancel()
    words = {
        "row": "two columns in float32", "column": "two rows of a column in float32",
        "id": " as text", "codes": " as codes in f", "class": " as text", None: "nothing",
    }  # fmt: skip
    for name, leak in leaks.items():
        for place in (bytes(watched.out[name]), b"".join(shown(Home(tmp_path / name)))):
            found = watched.found(name, place)
            assert any(words[leak] in told for told in found) is bool(leak), (leak, found)


# --- the search itself --------------------------------------------------------------------------

IDS = ["bern-000471100-Müller", "graz-081512345"]
ROWS = [[1.25 * 1.0713 ** (4 * i + j) for j in range(4)] for i in range(6)]
PLANTS = {
    "text": IDS[1].encode(),
    "capitals": IDS[1].upper().encode(),
    "a JSON text": json.dumps(IDS).encode(),
    "UTF-16": IDS[0].encode("utf-16"),
    "hex": IDS[1].encode().hex().encode(),
    "base64 of a sentence": base64.b64encode(f"it was {IDS[1]} again".encode()),
    "codes": struct.pack("<14f", *map(float, IDS[1].encode())),
    "a double": struct.pack(">d", ROWS[2][1]),
    "a msgpack double": b"\xcb" + struct.pack(">d", ROWS[5][3]),
    "decimal text": f"weight {ROWS[4][0]:.12f} kg".encode(),
    "two floats of a row": struct.pack("<2f", *ROWS[1][2:]),
    "two floats of a column": struct.pack(">2f", ROWS[1][2], ROWS[2][2]),
    "msgpack floats": b"".join(b"\xca" + struct.pack(">f", value) for value in ROWS[3]),
    "scattered floats": b"....".join(struct.pack("<f", row[0]) for row in ROWS),
    "a row in hex": struct.pack("<4f", *ROWS[0]).hex().encode(),
    "a table in base64": base64.b64encode(b"x" + struct.pack("<8d", *ROWS[0], *ROWS[1])),
}


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("at", range(4))
def test_the_search_finds_what_is_planted(plant, at):
    noise = random.Random(at).randbytes(1000 + at)
    assert Canaries(IDS, ROWS).found(noise + PLANTS[plant] + noise)


def test_the_search_finds_nothing_in_noise():
    assert Canaries(IDS, ROWS).found(os.urandom(1 << 20)) == set()
    assert Canaries(IDS, ROWS).found(b"") == set()
    three = b"....".join(struct.pack("<f", row[0]) for row in ROWS[:3])
    assert Canaries(IDS, ROWS).found(three) == set()
