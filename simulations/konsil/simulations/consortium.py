"""A consortium of real daemons on this machine: one home and one process each, on loopback.

The parent makes all homes, starts a daemon in each, asks them over their control sockets and
stops them. Daemons run in process groups of their own, so that Ctrl-C reaches only the
parent, which then stops them in order; should the parent die without a word, each daemon
notices by itself (`--exit-with-parent`) unless it was asked to go on.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from konsil.node import control
from konsil.node.init import create_home, node_toml
from konsil.protocol.errors import KonsilError, TaskError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path
    from types import TracebackType

    from konsil.simulations.plan import Plan
    from konsil.simulations.population import Hospital

STOP_S = 5.0
"""How long daemons get to stop before they are killed."""
ANSWER_S = 2.0
"""How long a daemon gets to answer one question; the next look comes soon."""


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What was last seen of one daemon.

    `phase` is `ended` once its process is gone, `away` where it was dismissed.
    """

    phase: str
    round: int = 0
    metrics: Mapping[str, float] = msgspec.field(default_factory=dict)
    neighbours: tuple[str, ...] = ()
    bytes_sent: int = 0
    artifacts: Mapping[str, int] = msgspec.field(default_factory=dict)
    integrated: int = 0
    task_error: str | None = None
    node_id: str = ""


class Ground(Protocol):
    """Where daemons stand: how they are reached, and what their processes are started through."""

    def addresses(self, count: int) -> list[str]:
        """A multiaddr for each of so many daemons, all different."""
        ...

    def prefix(self, place: int) -> list[str]:
        """The words before the command line of the daemon at this place."""
        ...


class Loopback:
    """All daemons on 127.0.0.1, each with a port of its own."""

    def addresses(self, count: int) -> list[str]:
        """See `Ground`."""
        return [f"/ip4/127.0.0.1/tcp/{port}" for port in free_ports(count)]

    def prefix(self, _place: int) -> list[str]:
        """See `Ground`."""
        return []


class Daemon:
    """One hospital's process."""

    def __init__(
        self, hospital: Hospital, home: Path, *, stay: bool, prefix: Sequence[str] = ()
    ) -> None:
        self.hospital = hospital
        self.home = home
        self.sight = Sight(phase="starting")
        self.killed_at: int | None = None
        command = [*prefix, sys.executable, "-m", "konsil.node.cli.app", "node", "run", str(home)]
        with (home / "node.log").open("ab") as log:
            self._process = subprocess.Popen(
                command if stay else [*command, "--exit-with-parent"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "KONSIL_PARENT_PID": str(os.getpid())},
            )

    @property
    def pid(self) -> int:
        """The process id, which is also that of its group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self._process.poll()

    def look(self) -> Sight:
        """Ask for the status; the last sight stands while there is no answer."""
        if self.exit_code is not None:
            self.sight = msgspec.structs.replace(self.sight, phase="ended")
            return self.sight
        with contextlib.suppress(KonsilError):
            self.sight = read_status(control.ask(self.home, "status", timeout_s=ANSWER_S))
        return self.sight

    def last_words(self) -> str:
        """The last line of its log, for an error message."""
        with contextlib.suppress(OSError):
            lines = (self.home / "node.log").read_text(errors="replace").strip().splitlines()
            return lines[-1][:400] if lines else ""
        return ""

    def terminate(self) -> None:
        """Ask it to stop."""
        if self.exit_code is None:
            self._process.terminate()

    def kill(self) -> None:
        """End it and its worker at once, as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def wait(self, timeout_s: float) -> bool:
        """Whether it ended within the time."""
        try:
            self._process.wait(max(timeout_s, 0.0))
        except subprocess.TimeoutExpired:
            return False
        return True


def read_status(data: Mapping[str, Any]) -> Sight:
    """A sight from the answer to `status`."""
    return Sight(
        phase=data["phase"],
        round=data["round"],
        metrics=data["metrics"],
        neighbours=tuple(data["neighbours"]),
        bytes_sent=data["bytes_sent"],
        artifacts=data["artifacts"],
        integrated=data["integrated"],
        task_error=data["task_error"],
        node_id=data["node_id"],
    )


class Consortium:
    """All daemons of a plan; leaving its `with` block stops every one that was not released."""

    def __init__(self, plan: Plan, out: Path, ground: Ground | None = None) -> None:
        self.plan = plan
        self.out = out
        self._ground = ground or Loopback()
        self.daemons: dict[str, Daemon] = {}
        self._away: dict[str, Sight] = {}
        """The last sights of those that were dismissed and are not back."""
        self._released = False

    def __enter__(self) -> Consortium:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._released:
            self.stop()

    def create(self) -> dict[str, str]:
        """Make every home and configuration; node ids by name.

        Raises `ConfigError` or `StorageError`.
        """
        plan = self.plan
        addresses = self._ground.addresses(len(plan.hospitals))
        listen = {name: [at] for name, at in zip(plan.names, addresses, strict=True)}
        tasks = {one.name: plan.task_of(one) for one in plan.hospitals}
        members = [
            create_home(
                self.out / one.name,
                name=one.name,
                consortium=plan.name,
                factory=tasks[one.name][0],
                listen=listen[one.name],
                options=tasks[one.name][1],
            )
            for one in plan.hospitals
        ]
        for member, hospital in zip(members, plan.hospitals, strict=True):
            factory, options = tasks[member.name]
            text = node_toml(
                member,
                plan.name,
                factory,
                listen[member.name],
                options,
                members=members,
                training=plan.training_of(hospital),
                kind=plan.kind_of(hospital),
                edges=plan.links,
            )
            (self.out / member.name / "node.toml").write_text(text)
            if plan.choice.file is not None:
                shutil.copy(plan.choice.file, self.out / member.name / plan.choice.file.name)
        return {member.name: member.node for member in members}

    def start(self, *, stay: bool = False, only: Collection[str] | None = None) -> None:
        """Start every daemon, or only some; with `stay` they outlive this process."""
        for place, one in enumerate(self.plan.hospitals):
            if only is None or one.name in only:
                prefix = self._ground.prefix(place)
                self._away.pop(one.name, None)
                self.daemons[one.name] = Daemon(one, self.out / one.name, stay=stay, prefix=prefix)

    def look(self) -> dict[str, Sight]:
        """Look at every daemon, a few at a time."""
        with ThreadPoolExecutor(max_workers=8) as pool:
            sights = list(pool.map(Daemon.look, self.daemons.values()))
        return self._away | dict(zip(self.daemons, sights, strict=True))

    def kill(self, name: str) -> None:
        """Kill one hospital's daemon and remember the round it had reached."""
        daemon = self.daemons[name]
        daemon.kill()
        daemon.killed_at = daemon.sight.round
        daemon.look()

    def dismiss(self, name: str) -> bool:
        """Stop one hospital's daemon in order; False when it did not heed and was killed.

        It is not watched any more until it is started again.
        """
        daemon = self.daemons[name]
        daemon.terminate()
        heeded = daemon.wait(STOP_S)
        daemon.kill()
        self._away[name] = msgspec.structs.replace(daemon.sight, phase="away")
        del self.daemons[name]
        return heeded

    @property
    def killed(self) -> dict[str, int]:
        """The daemons killed on purpose, and the round that each had reached."""
        ended = ((name, daemon.killed_at) for name, daemon in self.daemons.items())
        return {name: at for name, at in ended if at is not None}

    def release(self) -> None:
        """Let the daemons run on after this process."""
        self._released = True

    def stop(self) -> None:
        """Ask all to stop, and kill those that do not within `STOP_S`."""
        deadline = time.monotonic() + STOP_S
        try:
            for daemon in self.daemons.values():
                daemon.terminate()
            for daemon in self.daemons.values():
                daemon.wait(deadline - time.monotonic())
        finally:
            for daemon in self.daemons.values():
                daemon.kill()


def free_ports(count: int) -> list[int]:
    """TCP ports of the loopback that nobody uses now, all different."""
    with contextlib.ExitStack() as held:
        ports = []
        for _ in range(count):
            probe = held.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
        return ports


def first_failure(daemons: Iterable[Daemon]) -> TaskError | None:
    """The first daemon that ended by itself, or whose task failed, as an error."""
    for daemon in daemons:
        if daemon.killed_at is not None:
            continue
        name, sight = daemon.hospital.name, daemon.sight
        if sight.phase == "failed":
            return TaskError(
                f"{name}: {sight.task_error or 'the task failed'}",
                hint=f"its log is {daemon.home / 'node.log'}",
            )
        if sight.phase == "ended":
            return TaskError(
                f"{name}: the daemon ended with exit code {daemon.exit_code}:"
                f" {daemon.last_words()}",
                hint=f"its log is {daemon.home / 'node.log'}",
            )
    return None
