"""Emulation: what daemons are told, what is done to them, and what is made of their homes."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import torch
from processes import processes_of

from konsil.knowledge.named import NamedTensors
from konsil.knowledge.task import TaskConfig
from konsil.protocol.errors import ConfigError, UsageError
from konsil.simulations.consortium import Sight
from konsil.simulations.facts import Judgement, LedgerFacts
from konsil.simulations.sim.attacks import ATTACKS
from konsil.simulations.sim.attacks.forge import forge, poisoned
from konsil.simulations.sim.attacks.view import View
from konsil.simulations.sim.emulate import command, hostile, namespaces
from konsil.simulations.sim.emulate.casting import cast_of
from konsil.simulations.sim.emulate.conducting import Conducting
from konsil.simulations.sim.emulate.gauging import weights
from konsil.simulations.sim.emulate.limits import NODE_MB, Lines, check, free_mb
from konsil.simulations.sim.emulate.timetable import Timetable
from konsil.simulations.sim.engine import simulate
from konsil.simulations.sim.faults import FaultPlan, halves
from konsil.simulations.sim.links import Links
from konsil.simulations.sim.result import Result
from konsil.simulations.sim.scenario import KINDS
from konsil.simulations.sim.scenario_reading import read_scenario, scenario_of
from konsil.simulations.sim.setting import name_of, setting_of
from konsil.simulations.sim.site import build as honest

TEXT = """
seed = 3
[population]
nodes = 4
dataset = "breast_cancer"
[topology]
kind = "complete"
[training]
rounds = 3
"""
FLIP = '[adversary]\nfraction = 0.25\nattack = "sign_flip"\n'
NOWHERE = Path("/nowhere")


def scenario(more="", text=TEXT):
    return scenario_of(tomllib.loads(text + more))


def task_config(**options):
    return TaskConfig(NOWHERE, "any", 3, {"scenario": TEXT, "site": 2, **options})


# Hostile nodes


def a_view(strength=None, number=7, shift=0.0, liars=(1, 3)):
    """Six nodes; `shift` moves everything but the last liar's own row."""
    draw = torch.Generator().manual_seed(1)
    before, step = torch.randn(2, 6, 62, generator=draw)
    others = torch.arange(6) != liars[-1]
    before[others] += shift
    trained = before + step
    trained[others, ::2] += shift
    edges = [(a, b) for a in range(6) for b in range(a)]
    return View(
        number=number, rounds=40, before=before, trained=trained, links=Links.between(6, edges),
        hostile=np.array(liars), strength=strength, generator=torch.Generator().manual_seed(1),
        classes=2,
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_a_daemon_takes_exactly_the_attacks_that_need_no_other_node(name):
    quiet, moved = (forge([name], a_view(shift=shift)) for shift in (0.0, 0.5))
    mine = a_view().links.sender[quiet.links] == 3
    sent = [found.rows[found.source[mine]] for found in (quiet, moved)]
    assert (name in hostile.ALONE) == torch.equal(*sent)


@pytest.mark.parametrize("strength", [None, 2.0])
@pytest.mark.parametrize("name", hostile.ALONE)
def test_what_leaves_a_hostile_daemon_is_what_the_simulator_forges(name, strength):
    task = hostile.build(task_config(attack=name, strength=strength) if strength else
                         task_config(attack=name))  # fmt: skip
    view = a_view(strength, number=1)
    names = {key: tensor.shape for key, tensor in task.model().state_dict().items()}
    sizes = [shape.numel() for shape in names.values()]

    def tensors(row):
        parts = zip(names.items(), row.split(sizes), strict=True)
        return NamedTensors({key: part.reshape(shape) for (key, shape), part in parts})

    before, trained = tensors(view.before[3]), tensors(view.trained[3])
    for number in range(1, 8):
        released = trained if task.release is None else task.release(before, trained)
        row = torch.cat([tensor.reshape(-1) for tensor in released.values()])
        forged = forge([name], dataclasses.replace(view, number=number)).rows[1]
        assert torch.allclose(row, forged, atol=1e-6), number


@pytest.mark.parametrize("name", hostile.ALONE)
def test_a_hostile_daemon_trains_on_the_rows_that_the_simulator_poisons(name):
    cohorts = setting_of(scenario(), NOWHERE).cohorts
    forged = poisoned([name], cohorts, np.array([2]), 3)
    plain, task = honest(task_config()), hostile.build(task_config(attack=name))
    rows = int(cohorts.train_rows[2])
    assert torch.equal(task.train.inputs, forged.inputs[2, :rows])
    assert torch.equal(task.train.targets, forged.targets[2, :rows])
    assert torch.equal(task.holdout.inputs, plain.holdout.inputs)
    if ATTACKS[name].poison is not None:
        assert not torch.equal(task.train.targets, plain.train.targets)


@pytest.mark.parametrize(
    ("options", "said"),
    [({}, "missing required field `attack`"), ({"attack": "ipm"}, "`ipm` is none that one node")],
)
def test_wrong_options_of_a_hostile_node_are_told(options, said):
    with pytest.raises(ConfigError, match=said):
        hostile.build(task_config(**options))


# Limits


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('[trust]\nrule = "krum"', 'rule = "krum" is none of a daemon'),
        (FLIP.replace("sign_flip", "alie"), '"alie" needs what other nodes know'),
        (FLIP.replace("0.25", "0.5").replace('"sign_flip"', '["sign_flip", "sybil"]'), '"sybil"'),
        ("[faults]\ndrop = 0.5", "drop = 0.5: libp2p sends again"),
        ("[faults]\ndelay_rounds = 1", "delay_rounds = 1: daemons have no rounds in common"),
        ("[faults]\nslow = 0.5", "slow = 0.5: daemons have no rounds"),
        ("[faults]\npartition = [[1, 2]]", "partition: the loopback cannot be cut"),
    ],
)
def test_what_daemons_cannot_do_is_refused_in_one_line(more, said):
    with pytest.raises(ConfigError) as caught:
        check(scenario(more), Lines(), available_mb=None)
    assert said in caught.value.message
    assert caught.value.hint
    assert "\n" not in caught.value.diagnostics()


def test_graphs_and_rows_that_change_are_refused():
    for old, new, said in (
        ('"complete"', '"epidemic"', 'kind = "epidemic" changes over the rounds'),
        ('"breast_cancer"', '"breast_cancer"\ndrift = 0.1', "drift moves the rows"),
    ):
        with pytest.raises(ConfigError, match=said):
            check(scenario(text=TEXT.replace(old, new)), Lines(), available_mb=None)


def test_unlike_networks_are_refused_and_one_hands_out_every_kind(tmp_path):
    unlike = TEXT.replace('"breast_cancer"', '"breast_cancer"\nmodel = ["mlp:8", "logistic"]')
    with pytest.raises(ConfigError, match="unlike networks are not emulated"):
        check(scenario('[artifacts]\nkinds = ["logits"]', unlike), Lines(), available_mb=None)
    for kind in KINDS:
        asked = scenario(f'[artifacts]\nkinds = ["{kind}"]')
        check(asked, Lines(), available_mb=None)
        setting = setting_of(asked, tmp_path)
        cast = cast_of(setting, Timetable.of(asked, []), tmp_path, patience_s=5.0)
        assert cast.kinds == (kind,)
        _, options = cast.task_of(cast.hospitals[0])
        task = honest(TaskConfig(tmp_path, "any", 3, options))
        assert (task.question is None) == (setting.question is None)


def test_a_cut_needs_namespaces_and_links():
    cut = "[faults]\npartition = [[1, 2]]\n"
    check(scenario(cut), Lines(netns=True), available_mb=None)
    alone = scenario(cut + '[trust]\nrule = "local_only"')
    with pytest.raises(ConfigError, match="links nobody"):
        check(alone, Lines(netns=True), available_mb=None)


def test_no_more_nodes_than_the_memory_holds(tmp_path):
    check(scenario(), Lines(), available_mb=4 * NODE_MB)
    with pytest.raises(ConfigError, match=f"and {4 * NODE_MB - 1} MB are free: 3 fit"):
        check(scenario(), Lines(), available_mb=4 * NODE_MB - 1)
    told = tmp_path / "meminfo"
    told.write_text("MemTotal: 9 kB\nMemAvailable:   2048000 kB\n")
    assert free_mb(told) == 2000
    assert free_mb(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"loss": 0.1}, "need --netns"),
        ({"netns": True, "loss": 1.0}, "--loss 1 is no share"),
        ({"netns": True, "latency_ms": -1.0}, "--latency-ms -1"),
        ({"netns": True, "rate_mbit": float("nan")}, "--rate-mbit nan"),
    ],
)
def test_hindrances_out_of_range_are_refused(fields, said):
    with pytest.raises(UsageError, match=said):
        Lines(**fields).check()


# Timetable and casting

FAULTS = "[faults]\nchurn = 0.2\nlate = 0.2\n"
LONG = TEXT.replace("nodes = 4", "nodes = 9").replace("rounds = 3", "rounds = 12")


def test_own_rounds_are_the_rounds_for_which_a_node_is_there():
    table = Timetable.of(scenario(FAULTS, LONG), [0])
    assert not table.present.all()
    for node in range(9):
        here = [number for number in range(1, 13) if table.present[number - 1, node]]
        spans = [range(one.first, one.last + 1) for one in table.stays(node)]
        assert [number for span in spans for number in span] == here
        assert all(a.stop < b.start for a, b in itertools.pairwise(spans))
        assert [table.number_of(node, own) for own in range(1, len(here) + 1)] == here
        assert [table.own_until(node, number) for number in here] == [*range(1, len(here) + 1)]
        assert table.number_of(node, 0) == 0


def test_presence_and_halves_are_those_of_the_simulator():
    played = scenario(FAULTS + "partition = [[1, 12]]\n", LONG)
    table = Timetable.of(played, [0])
    plan = FaultPlan.of(played.faults, 9, 12, [0], played.seed)
    side = halves(9, played.seed)
    every = Links.between(9, [(a, b) for a in range(9) for b in range(a)])
    for number in range(1, 13):
        condition = plan.step(number, every)
        assert np.array_equal(condition.present, table.present[number - 1])
        assert (side[condition.links.receiver] == side[condition.links.sender]).all()
    assert side.sum() == 4


def test_the_cast_has_the_scenario_and_nothing_of_the_folder_it_came_from(tmp_path):
    (tmp_path / "own.csv").write_text(
        "age,label\n" + "".join(f"{n % 13},{n % 2}\n" for n in range(80))
    )
    (tmp_path / "own_nets.py").write_text(
        "from torch import nn\ndef net(inputs, classes):\n    return nn.Linear(*inputs, classes)\n"
    )
    text = TEXT.replace("breast_cancer", "own.csv").replace(
        "[topology]", 'model = "own_nets:net"\n[topology]'
    )
    played = scenario(FLIP.replace("0.25", "0.5") + "strength = 2.0\n", text)
    setting = setting_of(played, tmp_path)
    cast = cast_of(setting, Timetable.of(played, setting.hostile), tmp_path, patience_s=5.0)
    assert cast.choice.file == tmp_path / "own_nets.py"
    assert [one.site for one in cast.hospitals if one.byzantine] == setting.hostile.tolist()
    assert len(cast.links) == 6
    for one in cast.hospitals:
        factory, options = cast.task_of(one)
        config = TaskConfig(tmp_path, one.name, 3, options)
        if one.byzantine:
            assert (factory, options["attack"], options["strength"]) == (
                hostile.FACTORY, "sign_flip", 2.0
            )  # fmt: skip
            task = hostile.build(config)
        else:
            task = honest(config)
        rows = setting.cohorts.inputs[one.site, : setting.cohorts.train_rows[one.site]]
        assert torch.equal(task.train.inputs, rows)
        assert cast.training_of(one)["rounds"] == 3


def test_without_any_rule_there_are_no_links_and_attacks_take_turns():
    text = FLIP.replace("0.25", "0.75").replace('"sign_flip"', '["sign_flip", "free_rider"]')
    played = scenario(text + '[trust]\nrule = "local_only"')
    setting = setting_of(played, NOWHERE)
    cast = cast_of(setting, Timetable.of(played, setting.hostile), NOWHERE, patience_s=5.0)
    assert cast.links == ()
    assert cast.training_of(cast.hospitals[0])["patience_s"] == 0.0
    assert list(cast.attacks.values()) == ["sign_flip", "free_rider", "sign_flip"]


# Conducting, with daemons that are only numbers


class Daemons:
    """A consortium that starts and stops names."""

    def __init__(self, edges):
        self.plan = SimpleNamespace(links=edges, patience_s=1.0)
        self.daemons, self.told = {}, []

    def start(self, *, only):
        for name in sorted(only):
            look = SimpleNamespace(sight=Sight(phase="starting", bytes_sent=100), killed_at=None)
            look.look = lambda look=look: look.sight
            self.daemons[name] = look
            self.told.append(f"+{name}")

    def dismiss(self, name):
        self.told.append(f"-{name}")
        return name != "node-4"


class Spaces:
    """Namespaces that note when they are cut and joined."""

    def __init__(self):
        self.told = []

    def cut(self, side):
        self.told.append([int(on) for on in side])

    def join(self):
        self.told.append("join")


PRESENT = ["xxxxxx", "xxxxxx", "xx..xx", "...xxx", "xxx..."]


def conducting(faults, rows=PRESENT):
    text = TEXT.replace("nodes = 4", "nodes = 5").replace("rounds = 3", "rounds = 6")
    setting = setting_of(scenario(f"[faults]\n{faults}", text), NOWHERE)
    present = np.array([[mark == "x" for mark in row] for row in rows]).T
    table = Timetable(present, np.arange(5) == 3)
    edges = [(name_of(a), name_of(b)) for a in range(5) for b in range(a)]
    daemons, spaces = Daemons(edges[1:]), Spaces()
    return Conducting(setting, table, daemons, spaces), daemons, spaces


def sights(*own, phase="training"):
    return {
        name_of(node): Sight(phase=phase, round=at, neighbours=("node-0",) if node else ())
        for node, at in enumerate(own)
        if at is not None
    }


def test_nodes_go_and_come_when_the_rounds_say_so_and_each_is_counted():
    act, daemons, _ = conducting("churn = 0.1\nlate = 0.2\n")
    act.begin()
    assert daemons.told == ["+node-0", "+node-1", "+node-2", "+node-4"]
    assert act(sights(1, 1, 1, None, 1))
    assert act(sights(2, 2, 2, None, 2))
    assert daemons.told[4:] == ["-node-2"]
    assert act(sights(3, 3, 2, None, 3))
    assert daemons.told[5:] == ["-node-4", "+node-3"]
    assert act.counts == {"churn": 2, "returns": 0, "late": 1}
    assert not act(sights(4, 4, 2, 1, 3))
    assert daemons.told[7:] == ["+node-2"]
    assert act.counts == {"churn": 2, "returns": 1, "late": 1}
    assert not act(sights(6, 6, 4, 3, 3, phase="idle"))
    assert act.bytes_sent == 600
    assert act.killed == {"node-4"}


def test_whoever_is_late_comes_also_when_all_others_are_done():
    act, daemons, _ = conducting("late = 0.2\n", [*["xxxxxx"] * 3, "...xxx", "xxxxxx"])
    act.begin()
    assert act(sights(1, 1, 1, None, 1))
    assert not act(sights(6, 6, 6, None, 6, phase="idle"))
    assert daemons.told[4:] == ["+node-3"]
    assert act.counts == {"late": 1}


def test_a_cut_lasts_its_rounds_and_counts_the_links_between_the_halves():
    act, _, spaces = conducting("partition = [[2, 3]]\n", ["xxxxxx"] * 5)
    act.begin()
    assert not act(sights(1, 1, 1, 1, 1))
    assert spaces.told == []
    assert act(sights(2, 2, 2, 1, 2))
    assert act(sights(3, 3, 3, 2, 3))
    assert spaces.told == [halves(5, 3).astype(int).tolist()]
    assert not act(sights(4, 4, 4, 3, 3))
    assert spaces.told[1:] == ["join"]
    rounds, crossing = 2, 2 * 3
    assert act.counts == {"partition": 2 * crossing * rounds}


def test_links_that_the_topology_does_not_have_count_as_healing():
    act, _, _ = conducting("churn = 0.1\nheal = true\n")
    act.begin()
    act(sights(1, 1, 1, None, 1))
    act(sights(1, 1, 1, None, 1))
    # the made-up plan leaves out the link between node-1 and node-0
    assert act.counts["heal"] == 1


# Results


def test_weights_are_those_that_honest_nodes_granted_in_each_round():
    def judged(observer, peer, at, granted):
        return Judgement(
            observer=f"node-{observer}", peer=f"node-{peer}", round=at, trust=0.5, granted=granted
        )

    found = weights(
        [judged(0, 1, 1, 0.5), judged(0, 2, 1, 0.1), judged(2, 0, 1, 1.0), judged(1, 0, 1, None)],
        np.array([True, True, False]),
        lambda node, own: own + 3,
    )
    assert found == {4: ([0.1], [0.5])}


def outcome(faults=None, **ledger):
    nothing = dict.fromkeys(Result.__struct_fields__)
    result = Result(**nothing | {"faults": faults or {}, "seed": 3, "history": ()})
    fine = {"name": "node-1", "entries": 9, "root": "", "verified": True}
    facts = (LedgerFacts(**fine | ledger),)
    return SimpleNamespace(
        result=result, ledgers=facts, killed=frozenset({"node-9"}), homes=NOWHERE
    )


@pytest.mark.parametrize(
    ("faults", "lines", "given", "code", "said"),
    [
        ("", {}, {}, 0, None),
        ("", {}, {"verified": False, "grade": 3}, 3, "the ledger of node-1 does not verify"),
        ("", {}, {"verified": False, "grade": 4}, 4, "is incomplete"),
        ("", {}, {"verified": False, "grade": 4, "name": "node-9"}, 0, None),
        ("[faults]\nlate = 0.3", {}, {}, 1, "[faults] late: this never happened under seed 3"),
        ("[faults]\nlate = 0.3", {}, {"faults": {"late": 1}}, 0, None),
        ("", {"netns": True, "loss": 0.1}, {"faults": {"loss": 0}}, 1, "--loss: this never"),
        ("", {"netns": True, "loss": 0.1}, {"faults": {"loss": 2}}, 0, None),
    ],
)
def test_the_verdict(faults, lines, given, code, said):
    found, problem = command.verdict(scenario(faults), Lines(**lines), [outcome(**given)])
    assert found == code
    assert said is None if problem is None else said in problem["message"]


# Namespaces

CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 9), timeout=1).close()
except ConnectionRefusedError:
    print("reached")
except OSError:
    print("cut")
"""


def may_make_namespaces():
    if sys.platform != "linux":
        return False
    try:
        namespaces.require(Lines(netns=True))
    except ConfigError:
        return False
    return True


def test_netem_is_told_what_was_asked_for():
    assert namespaces.netem(Lines(netns=True)) == []
    found = namespaces.netem(Lines(netns=True, latency_ms=20, loss=0.015, rate_mbit=2.5))
    assert found[3:] == ["delay", "20ms", "loss", "1.5%", "rate", "2.5mbit"]


@pytest.mark.slow
@pytest.mark.skipif(not may_make_namespaces(), reason="may not make network namespaces")
def test_nodes_of_namespaces_reach_each_other_but_for_a_cut():
    with namespaces.Namespaces(3, Lines(netns=True)) as spaces:
        held = [int(one) for one in {spaces.prefix(place)[2] for place in range(3)}]

        def reach(one, other):
            call = [*spaces.prefix(one), sys.executable, "-c", CONNECT, namespaces.address(other)]
            return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()

        assert [reach(0, 1), reach(2, 0)] == ["reached", "reached"]
        spaces.cut([True, False, True])
        assert [reach(0, 2), reach(0, 1)] == ["reached", "cut"]
        spaces.join()
        assert reach(0, 1) == "reached"
        assert spaces.counts() == {}
        assert spaces.addresses(2) == ["/ip4/10.77.0.1/tcp/4001", "/ip4/10.77.0.2/tcp/4001"]
    assert not any(Path(f"/proc/{pid}").exists() for pid in held)


# The command


def emulate(path, *more):
    konsil = [sys.executable, "-m", "konsil.node.cli.app", "sim", "emulate", str(path)]
    return subprocess.run(
        [*konsil, *map(str, more)], capture_output=True, text=True, timeout=300, check=False
    )


def test_a_bad_scenario_is_one_line_and_starts_nothing(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text(TEXT + '[trust]\nrule = "mean"\n')
    done = emulate(path, "--out", tmp_path / "out")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.splitlines() == [
        'konsil: [trust] rule = "mean" is none of a daemon'
        " (use konsil sim run, or one of evidence, local_only)"
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_daemons_come_to_what_a_simulation_of_them_comes_to(tmp_path):
    """Near, not equal: daemons have no rounds in common, and mix what has come by then."""
    path, out = tmp_path / "flip.toml", tmp_path / "out"
    path.write_text(TEXT + FLIP)
    done = emulate(path, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)["data"]
    expected = simulate(read_scenario(path), tmp_path, device="cpu")
    assert abs(data["metric_mean"] - expected.metric_mean) <= 0.05
    for same in ("metric_local_mean", "metric_pooled", "spectral_gap", "nodes", "rounds", "rule"):
        assert data[same] == pytest.approx(getattr(expected, same)), same
    assert data["attacker_weight_mean"] < data["honest_weight_mean"]
    assert data["bytes_per_node_round"] > expected.bytes_per_node_round
    assert list(data) == list(msgspec.to_builtins(expected))
    assert [point["round"] for point in data["history"]] == [1, 2, 3]
    assert (data["cpu_s"], data["peak_rss_mb"], data["faults"]) == (None, None, {})
    assert json.loads((out / "result.json").read_text()) == data
    assert read_scenario(out / "scenario.toml") == read_scenario(path)
    assert len(os.listdir(out / "seed-3")) == 4
    assert not processes_of(out)
