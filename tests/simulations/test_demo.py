"""`konsil demo` as people run it: real daemons, killed, stopped and failing.

A whole run, told and left running, is in `tests/e2e/test_provenance.py`.
"""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import konsil
from processes import processes_of, wait_until

from konsil.node.paths import Home
from konsil.protocol.learning_bodies import ArtifactIntegrate, ModelTrain
from konsil.protocol.node_bodies import NodeGenesis
from konsil.simulations.reading import entries_of

KONSIL = [sys.executable, "-m", "konsil.node.cli.app"]
LIMIT_S = 300
pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")


def demo(out, *arguments):
    """The command line of a small demo."""
    return [*KONSIL, "demo", "--out", str(out), "--seed", "100", *arguments]


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, **options)


@pytest.mark.slow
def test_survivors_of_a_killed_hub_go_on_learning_from_each_other(tmp_path):
    out = tmp_path / "run"
    size = ("--hospitals", "4", "--byzantine", "0", "--rounds", "6", "--topology", "star")
    done = run(demo(out, *size, "--kill", "HUB@2", "--json"))
    assert done.returncode == 0, done.stderr
    assert not processes_of(out)
    killed = next(line for line in done.stderr.splitlines() if line.startswith("killed "))
    hub = killed.split()[1]
    data = json.loads(done.stdout)["data"]
    survivors = {one["name"]: one["node_id"] for one in data["hospitals"] if one["name"] != hub}
    last_of_hub = entries_of(Home(out / hub))[-1].ts
    for name, own in survivors.items():
        others = set(survivors.values()) - {own}
        entries = [entry for entry in entries_of(Home(out / name)) if entry.ts > last_of_hub]
        mixes = [entry.b for entry in entries if isinstance(entry.b, ArtifactIntegrate)]
        taken = {part.art for mix in mixes for part in mix.parts if part.node in others}
        assert len(taken) >= 2, name
        rounds = [e.b.round for e in entries_of(Home(out / name)) if isinstance(e.b, ModelTrain)]
        assert rounds == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_unlike_networks_teach_each_other_by_answers_alone(tmp_path):
    size = ("--task", "mixed", "--hospitals", "4", "--byzantine", "0", "--rounds", "3")
    done = run(demo(tmp_path / "run", *size, "--json"))
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)["data"]
    assert data["artifacts"] == {"logits": 9, "weak_labels": 3}
    assert data["metric_pooled"] is None
    assert all(ledger["verified"] for ledger in data["ledgers"])
    assert all(0 < one["metric_network"] <= 1 for one in data["hospitals"])
    entries = [
        entry for name in (tmp_path / "run").iterdir() if (name / "ledger").is_dir()
        for entry in entries_of(Home(name))
    ]  # fmt: skip
    rules = {entry.b.rule for entry in entries if isinstance(entry.b, ArtifactIntegrate)}
    assert "evidence-logits/1" in rules <= {"evidence-logits/1", "evidence-labels/1"}


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_the_end_of_the_demo_leaves_no_process_behind(how, tmp_path):
    out = tmp_path / "run"
    command = demo(out, "--hospitals", "2", "--byzantine", "0", "--rounds", "500")
    # A shell that runs the tests in the background has its children ignore SIGINT.
    heeds = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    piped = {"stderr": subprocess.PIPE, "text": True, "preexec_fn": heeds}
    with subprocess.Popen(command, **piped) as running:
        wait_until(lambda: len(list(out.glob("*/control.sock"))) == 2)
        running.send_signal(how)
        _, told = running.communicate(timeout=30)
    if how == signal.SIGINT:
        assert running.returncode == 1
        assert "interrupted; every daemon was stopped" in told.splitlines()[-1]
        assert not processes_of(out)
    wait_until(lambda: not processes_of(out), 15)
    assert isinstance(entries_of(Home(next(out.iterdir())))[0].b, NodeGenesis)


BAD_TASK = """
import dataclasses
from konsil.knowledge.tabular import build as real

def build(config):
    def fit(module, rows, generator):
        raise RuntimeError("the scanner is on fire")
    options = {"dataset": "breast_cancer", **config.options}
    task = real(dataclasses.replace(config, options=options))
    return dataclasses.replace(task, fit=fit if config.options["site"] == 1 else None)
"""


@pytest.mark.slow
def test_a_task_that_raises_fails_the_demo_and_is_named(tmp_path):
    (tmp_path / "own.py").write_text(BAD_TASK)
    size = ("--hospitals", "2", "--byzantine", "0", "--rounds", "2", "--task", "own.py:build")
    done = run(demo("run", *size, "--json"), cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert told["ok"] is False
    assert "the scanner is on fire" in told["error"]["message"]
    assert "own.py:7" in told["error"]["message"]
    bad = told["data"]["hospitals"][1]
    assert told["error"]["message"].startswith(bad["name"])
    assert bad["metric_network"] is None
    assert all(one["verified"] for one in told["data"]["ledgers"])
    assert not processes_of(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--topology", "moebius"), 2, "moebius"),
        (("--kill", "HUB@99"), 2, "HUB@99"),
        (("--hospitals", "0"), 2, "make no consortium"),
        (("--task", "nothing"), 2, "there is no task"),
        (("--rounds", "eight"), 2, "--rounds"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_starts_nothing(arguments, code, words, tmp_path):
    done = konsil("demo", "--out", tmp_path / "run", "--seed", "100", *arguments)
    assert done.code == code
    assert words in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert done.out == ""
    assert not (tmp_path / "run").exists()
