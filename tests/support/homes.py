"""Homes and daemon processes for tests that kill: real nodes on loopback, read by their log.

Each daemon is a process of its own, started as a hospital starts it. Its log is read line by
line as it is written (and kept in HOME/node.log), so that a test can act in the very moment in
which a line appears. `Fleet` ends every process when its `with` block is left.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from commands import konsil

from konsil.node.init import create_home, node_toml
from konsil.node.paths import Home
from konsil.protocol.entries import Body, Entry
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.protocol.members import Member
from konsil.trust.layout import scan
from konsil.trust.report import Findings
from konsil.trust.walking import walk

CONSORTIUM = "crash"
START_S = 60.0

TASK = '''\
"""A small task whose model is as large, and whose training is as slow, as a test wants."""

import time

import torch
from konsil.knowledge.task import Rows, Task
from torch import nn


def build(config):
    width = config.options["width"]

    def model():
        return nn.Sequential(
            nn.Linear(8, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2)
        )

    def fit(module, rows, generator):
        optimiser = torch.optim.SGD(module.parameters(), lr=0.05)
        loss = nn.functional.cross_entropy(module(rows.inputs), rows.targets)
        torch.autograd.backward(loss)
        optimiser.step()
        time.sleep(config.options["seconds"])
        return float(loss.detach())

    def rows(count, number):
        draw = torch.Generator().manual_seed(number + 10 * sum(config.name.encode()))
        targets = torch.arange(count) % 2
        inputs = torch.randn(count, 8, generator=draw) + targets[:, None].float()
        return Rows(inputs, targets, [f"{config.name}-{number}-{at}" for at in range(count)])

    return Task("crash", ("no", "yes"), model, train=rows(40, 1), holdout=rows(20, 2), fit=fit)
'''


def make_homes(
    root: Path, names: str, *, width: int, seconds: float, rounds: int, patience_s: float
) -> dict[str, Path]:
    """A home for each letter of `names`, everyone linked with everyone; logs tell all."""
    factory, options = "task:build", {"width": width, "seconds": seconds}
    members: dict[str, Member] = {}
    for name, port in zip(names, free_ports(len(names)), strict=True):
        listen = [f"/ip4/127.0.0.1/tcp/{port}"]
        members[name] = create_home(
            root / name, name=name, consortium=CONSORTIUM, factory=factory, listen=listen,
            options=options,
        )  # fmt: skip
    training = {
        "rounds": rounds, "patience_s": patience_s, "late_after_s": patience_s,
        "start_wait_s": 30.0, "device": "cpu",
    }  # fmt: skip
    for name, member in members.items():
        text = node_toml(
            member, CONSORTIUM, factory, member.addresses, options,
            members=list(members.values()), training=training,
        )  # fmt: skip
        Home(root / name).config.write_text(text + '\n[log]\nlevel = "debug"\n')
        (root / name / "task.py").write_text(TASK)
    return {name: root / name for name in names}


def free_ports(count: int) -> list[int]:
    """TCP ports on loopback that nobody uses now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


Line = dict[str, Any]
"""One line of a node's log; what is not JSON (a worker's own words) has the event `text`."""


class Life:
    """One daemon process from its start to its end."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.lines: list[Line] = []
        self.watch: Callable[[Line], None] | None = None
        """Told of every line, in the reading thread, the moment it is written."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "konsil.node.cli.app", "node", "run", str(home),
             "--exit-with-parent"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def kill(self) -> None:
        """`kill -9` of the daemon alone; its worker has to notice by itself."""
        self._process.send_signal(signal.SIGKILL)

    def ended(self, seconds: float = 30.0) -> int:
        """Wait until the daemon, and whatever inherited its log, is gone; the exit code."""
        code = self._process.wait(seconds)
        self._reader.join(seconds)
        assert not self._reader.is_alive(), f"a child of {self.home.name} outlives it"
        return code

    def end(self) -> None:
        """Stop it, by force when it does not listen."""
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        for pid in self.workers():
            os.kill(pid, signal.SIGKILL)
        self._reader.join(10)

    def workers(self) -> list[int]:
        """The process ids of those of its workers that are alive."""
        started = [line["pid"] for line in self.events("worker.started")]
        return [pid for pid in started if _is_worker_of(self._process.pid, pid)]

    def events(self, *names: str) -> list[Line]:
        """The lines of these events."""
        return [line for line in list(self.lines) if line["event"] in names]

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as pipe, (self.home / "node.log").open("ab") as file:
            for raw in pipe:
                line = _parse(raw)
                self.lines.append(line)
                if self.watch is not None:
                    self.watch(line)
                file.write(raw)


def _parse(raw: bytes) -> Line:
    try:
        line = json.loads(raw)
    except ValueError:
        line = None
    return line if isinstance(line, dict) and "event" in line else {"event": "text", "raw": raw}


def _is_worker_of(daemon: int, pid: int) -> bool:
    """Whether this process was started by that daemon; one that ended has no environment."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return f"KONSIL_DAEMON_PID={daemon}".encode() in environment


class Fleet:
    """The running nodes of some homes; leaving the `with` block ends them all."""

    def __init__(self, homes: dict[str, Path]) -> None:
        self.homes = homes
        self.lives: dict[str, Life] = {}

    def __enter__(self) -> Fleet:
        for name in self.homes:
            self.start(name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        for life in self.lives.values():
            life.end()

    def start(self, name: str) -> Life:
        """Start the daemon of a home (again)."""
        self.lives[name] = Life(self.homes[name])
        return self.lives[name]

    def until(self, condition: Callable[[], object], what: str, seconds: float = START_S) -> None:
        """Wait for a condition; fails when a node ended or time is over."""
        end = time.monotonic() + seconds
        while not condition():
            for name, life in self.lives.items():
                assert life.running, f"{name} ended by itself: {life.lines[-3:]}"
            assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
            time.sleep(0.05)


def audit(*homes: Path) -> tuple[int, str]:
    """`konsil audit verify --replay`: exit code and what it printed."""
    done = konsil("audit", "verify", "--replay", *homes)
    return done.code, done.out + done.err


def entries_of(home: Path) -> list[Entry]:
    """Every entry of a home's ledger, read without its lock, also beside a running node."""
    for _ in range(20):
        try:
            return _read_entries(home)
        except FileNotFoundError:
            continue  # the node moved its tail meanwhile
    raise AssertionError(f"{home}: the ledger cannot be read")


def _read_entries(home: Path) -> list[Entry]:
    found: list[Entry] = []
    findings = Findings(home.name)
    layout = scan(home / "ledger", findings)
    walk(layout, findings, DEFAULT_LIMITS, lambda _, entry: found.append(entry))
    return found


def bodies_of(home: Path, *kinds: type[Body]) -> Iterator[tuple[int, Any]]:
    """Index and body of the entries of some kinds."""
    for entry in entries_of(home):
        if isinstance(entry.b, kinds):
            yield entry.n, entry.b
