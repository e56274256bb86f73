"""A slow and a late hospital: what one costs the others, and how far the other gets.

    python -m benchmarks.pace slow late

Real daemons over libp2p on loopback, everyone linked with everyone, all settings of a node at
their defaults. `slow`: four hospitals whose training takes ten seconds of sleep, and the same
where one takes a hundred; from the others' first training to their last mix, turn by turn, so
that what slows the machine for a while slows both. `late`: three of the four heart-disease
hospitals learn until they stop; then the fourth starts, with nobody else learning any more. Every
model is judged by the test patients of the three hospitals that have both classes, each under its
own scale.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.homes import free_address
from konsil.knowledge import pack, tabular, train
from konsil.knowledge.judge import Judge
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.task import TaskConfig
from konsil.node.control import ask
from konsil.node.init import create_home, node_toml
from konsil.node.paths import Home
from konsil.node.store.blobs import BlobStore
from konsil.protocol.errors import UnreachableError

TASK = '''\
"""The tabular task; what leaves the hospital is held back for some seconds."""

import dataclasses
import time

from konsil.knowledge import tabular


def build(config):
    options = dict(config.options)
    seconds = options.pop("seconds")

    def release(before, trained):
        time.sleep(seconds)
        return trained

    task = tabular.build(dataclasses.replace(config, options=options))
    return dataclasses.replace(task, release=release)
'''
NAMES = ("bern", "graz", "linz", "ulm")
SLOW = "ulm"
TIMES = 10
SITES = ("cleveland", "hungarian", "switzerland", "va")
JUDGED = ("cleveland", "hungarian", "va")
"""Switzerland's test rows have one healthy patient, which gives no AUC."""
ROUNDS = 20
LONGEST_S = 600.0


def make_homes(
    folder: Path, options: Mapping[str, Mapping[str, Any]], *, rounds: int, seed: int = 0,
    gossip: str = "neighbours",
) -> dict[str, Path]:  # fmt: skip
    """A home for each name in `options`, which are those of its task."""
    places = {name: [free_address()] for name in options}
    members = [
        create_home(
            folder / name, name=name, consortium="bench", factory="task:build",
            listen=places[name], options={},
        )
        for name in options
    ]  # fmt: skip
    for member in members:
        home = folder / member.name
        (home / "task.py").write_text(TASK)
        text = node_toml(
            member, "bench", "task:build", places[member.name], options[member.name],
            members=members, training={"rounds": rounds, "seed": seed, "device": "cpu"},
        )  # fmt: skip
        (home / "node.toml").write_text(f'{text}\n[artifacts]\ngossip = "{gossip}"\n')
    return {member.name: folder / member.name for member in members}


@contextmanager
def running(homes: Sequence[Path]) -> Iterator[None]:
    """The daemons of these homes, from their start to their end."""
    daemons = []
    try:
        for home in homes:
            command = [sys.executable, "-m", "konsil.node.cli.app", "node", "run", str(home)]
            with (home / "node.log").open("w") as log:
                daemons.append(subprocess.Popen(command, stderr=log))
        yield
    finally:
        for daemon in daemons:
            daemon.terminate()
        for daemon in daemons:
            daemon.wait(timeout=30)


def until_idle(homes: Sequence[Path]) -> None:
    """Wait until all of these have stopped learning."""
    deadline = time.monotonic() + LONGEST_S
    waiting = list(homes)
    while waiting:
        if time.monotonic() > deadline:
            raise TimeoutError((waiting[0] / "node.log").read_text()[-2000:])
        waiting = [home for home in waiting if status(home).get("phase") != "idle"]
        time.sleep(0.3)


def status(home: Path) -> Mapping[str, Any]:
    """What a node says of itself; nothing while it cannot be asked."""
    try:
        return ask(home, "status")
    except UnreachableError:
        return {}


def learning_s(home: Path) -> float:
    """From a node's first training to the end of its last round, by its log."""
    times: dict[str, list[float]] = {}
    for text in (home / "node.log").read_text().splitlines():
        if text.startswith("{") and (line := json.loads(text))["event"] == "phase":
            at = datetime.fromisoformat(line["timestamp"]).timestamp()
            times.setdefault(line["phase"], []).append(at)
    return times["idle"][0] - times["training"][0]


# ---- slow --------------------------------------------------------------------------------


def finish(times: float, rounds: int, work_s: float, gossip: str, seed: int) -> list[float]:
    """How long the others take when one node takes `times` as long as they do."""
    seconds = {name: work_s * (times if name == SLOW else 1) for name in NAMES}
    options = {
        name: {"seconds": seconds[name], "site": site, "sites": len(NAMES)}
        for site, name in enumerate(NAMES)
    }
    with tempfile.TemporaryDirectory(prefix="konsil-bench-") as folder:
        homes = make_homes(Path(folder), options, rounds=rounds, seed=seed, gossip=gossip)
        others = [home for name, home in homes.items() if name != SLOW]
        with running(list(homes.values())):
            until_idle(others)
        return [learning_s(home) for home in others]


def slow_table(turns: Sequence[int], rounds: int, work_s: float, gossip: str) -> None:
    print(f"\nOne of {len(NAMES)} ten times slower, {rounds} rounds of {work_s:g} s, {gossip}")
    print("\n| turn | alike | one slow | the others' finish |\n|---|---|---|---|")
    changes = []
    for turn in turns:
        runs = {}
        for times in (1, TIMES) if turn % 2 == 0 else (TIMES, 1):
            runs[times] = statistics.fmean(finish(times, rounds, work_s, gossip, turn))
        changes.append(runs[TIMES] / runs[1] - 1)
        print(
            f"| {turn} | {runs[1]:.1f} s | {runs[TIMES]:.1f} s | {changes[-1]:+.1%} |", flush=True
        )
    print(f"| median | | | {statistics.median(changes):+.1%} |")


# ---- late --------------------------------------------------------------------------------


def late(newcomer: str, split: int, rounds: int) -> dict[str, float]:
    """AUC of the newcomer and of the others, and of the newcomer had it learned alone."""
    options = {
        site: {
            "seconds": 0.0, "dataset": "heart_disease", "site": site, "split_seed": split,
            "holdout": 0.3,
        }
        for site in SITES
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="konsil-bench-") as folder:
        homes = make_homes(Path(folder), options, rounds=rounds, seed=split)
        others = [home for name, home in homes.items() if name != newcomer]
        with running(others):
            until_idle(others)
            with running([homes[newcomer]]):
                until_idle([homes[newcomer]])
                models = {name: model_of(home) for name, home in homes.items()}
    judged = {name: auc(model, split) for name, model in models.items()}
    return {
        "others": statistics.fmean(judged[name] for name in SITES if name != newcomer),
        "newcomer": judged[newcomer],
        "alone": auc(alone(newcomer, split, rounds), split),
    }


def model_of(home: Path) -> NamedTensors:
    digest = bytes.fromhex(ask(home, "status")["model"])
    return pack.load(BlobStore(Home(home).blobs).path(digest))


def heart(site: str, split: int) -> TaskConfig:
    options = {"dataset": "heart_disease", "site": site, "split_seed": split, "holdout": 0.3}
    return TaskConfig(Path("."), site, split, options)


def auc(model: NamedTensors, split: int) -> float:
    """The mean over the judged hospitals' test patients."""
    found = []
    for site in JUDGED:
        config = heart(site, split)
        judge = Judge(tabular.build(config), "cpu")
        rows = tabular.common_test(config)
        found.append(judge.measure(model, rows, calibrated=False)["auc"])
    return statistics.fmean(found)


def alone(site: str, split: int, rounds: int) -> NamedTensors:
    """The model of a hospital that nobody has taught anything."""
    task = tabular.build(heart(site, split))
    model = train.initial_model(task, split)
    for number in range(1, rounds + 1):
        model = train.train(task, model, seed=split, node=site, number=number).model
    return model


def late_table(splits: Sequence[int], rounds: int, newcomers: Sequence[str]) -> None:
    print(f"\nHeart, {rounds} rounds, one hospital after the others have stopped: macro AUC")
    print("\n| newcomer | split | others | newcomer | its difference | alone |")
    print("|---|---|---|---|---|---|")
    gaps = []
    for newcomer in newcomers:
        for split in splits:
            run = late(newcomer, split, rounds)
            gaps.append(run["newcomer"] - run["others"])
            figures = f"{run['others']:.4f} | {run['newcomer']:.4f} | {gaps[-1]:+.4f}"
            print(f"| {newcomer} | {split} | {figures} | {run['alone']:.4f} |", flush=True)
    print(f"| mean | | | | {statistics.fmean(gaps):+.4f}, worst {min(gaps):+.4f} | |")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tables: dict[str, Callable[[argparse.Namespace], None]] = {
        "slow": lambda wish: slow_table(range(wish.turns), wish.rounds, wish.work, wish.gossip),
        "late": lambda wish: late_table(range(wish.turns), wish.rounds, wish.newcomers),
    }
    parser.add_argument("tables", nargs="*", choices=list(tables), default=list(tables))
    parser.add_argument("--turns", type=int, default=3, help="turns, or splits, from 0 on")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--work", type=float, default=10.0, help="seconds of sleep in a round")
    choices = ["neighbours", "epidemic", "pairs"]
    parser.add_argument("--gossip", choices=choices, default="neighbours", help="of slow")
    parser.add_argument("--newcomers", nargs="*", choices=SITES, default=list(JUDGED))
    wish = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for table in wish.tables:
        tables[table](wish)
    return 0


if __name__ == "__main__":
    sys.exit(main())
