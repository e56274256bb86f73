"""Namespaces: each node in a network of its own, joined by a bridge, with hindrances of one's own.

A namespace lives as long as the process that holds it: `cat`, which reads our end of a pipe and
so ends with this process, however that ends. The bridge lies in a namespace too, so that nothing
of this machine's own network is touched, and nothing is left behind. While the graph is cut, one
half hangs on a second bridge. Needs Linux, `ip`, `unshare` and `nsenter`, and mostly root; what
hinders links needs `tc` and a kernel with netem besides.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import shutil
import subprocess
from typing import TYPE_CHECKING

from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from konsil.simulations.sim.emulate.limits import Lines

NETWORK = ipaddress.ip_network("10.77.0.0/16")
PORT = 4001
TOOLS = ("unshare", "nsenter", "ip")
QUEUE = 10_000
"""Packets that netem keeps back at most."""
LIMIT_S = 20.0
"""How long one call of a tool may take."""
WHOLE, HALF = "whole", "half"
"""The two bridges."""
_HOLD = ["unshare", "--net", "--", "sh", "-c", "echo held && exec cat"]


class Namespaces:
    """The ground of `nodes` daemons; leaving its `with` block ends it. Stop the daemons first."""

    def __init__(self, nodes: int, lines: Lines) -> None:
        self._nodes, self._lines = nodes, lines
        self._held: list[subprocess.Popen[bytes]] = []
        """The bridges' holder, then one a node."""

    def __enter__(self) -> Namespaces:
        try:
            for _ in range(self._nodes + 1):
                self._held.append(_hold())
            self._wire()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._release()

    def addresses(self, count: int) -> list[str]:
        """See `Ground`."""
        return [f"/ip4/{address(place)}/tcp/{PORT}" for place in range(count)]

    def prefix(self, place: int) -> list[str]:
        """See `Ground`; `nsenter` becomes the daemon, so that its process id stays."""
        return self._within(place + 1)

    def cut(self, side: Iterable[bool]) -> None:
        """Part the nodes of one side from the others."""
        self._bridge(
            f"link set {_port(place)} master {HALF}" for place, on in enumerate(side) if on
        )

    def join(self) -> None:
        """Put all nodes together again."""
        self._bridge(f"link set {_port(place)} master {WHOLE}" for place in range(self._nodes))

    def counts(self) -> dict[str, int]:
        """Packets that were delayed, lost or paced, by kind of hindrance that was asked for."""
        found = dict.fromkeys(self._lines.asked, 0)
        for place in range(self._nodes if found else 0):
            told = _call(
                [*self._within(place + 1), "tc", "-s", "-j", "qdisc", "show", "dev", "eth0"]
            )
            for queue in json.loads(told or "[]"):
                for kind in found if queue.get("kind") == "netem" else ():
                    found[kind] += int(queue["drops" if kind == "loss" else "packets"])
        return found

    def _within(self, holder: int) -> list[str]:
        return ["nsenter", "--target", str(self._held[holder].pid), "--net", "--"]

    def _wire(self) -> None:
        """Both bridges, and a cable from the first one into every node's namespace."""
        bridges = [f"link add {name} type bridge" for name in (WHOLE, HALF)]
        bridges += [f"link set {name} up" for name in (WHOLE, HALF)]
        for place in range(self._nodes):
            port, holder = _port(place), self._held[place + 1].pid
            bridges += [
                f"link add {port} type veth peer name eth0 netns {holder}",
                f"link set {port} master {WHOLE} up",
            ]
        self._bridge(bridges)
        queue = netem(self._lines)
        for place in range(self._nodes):
            inside = self._within(place + 1)
            own = f"addr add {address(place)}/{NETWORK.prefixlen} dev eth0"
            _batch(inside, [own, "link set eth0 up", "link set lo up"])
            if queue:
                _call([*inside, "tc", "qdisc", "add", "dev", "eth0", "root", *queue])

    def _bridge(self, commands: Iterable[str]) -> None:
        _batch(self._within(0), commands)

    def _release(self) -> None:
        for held in self._held:
            held.kill()
        for held in self._held:
            with contextlib.suppress(BrokenPipeError):
                held.communicate()
        self._held.clear()


def require(lines: Lines) -> None:
    """Raise `ConfigError` in one line where this process cannot have what `lines` ask for."""
    if not lines.netns:
        return
    tools = (*TOOLS, "tc") if lines.asked else TOOLS
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        raise ConfigError(
            f"--netns: {missing[0]} is not installed", hint="it is part of util-linux or iproute2"
        )
    said = _refusal(["unshare", "--net", "true"])
    if said:
        raise ConfigError(
            f"--netns: this process may not make network namespaces: {said}",
            hint="run it as root, or leave --netns out",
        )
    if not lines.asked:
        return
    command = ["unshare", "--net", "tc", "qdisc", "add", "dev", "lo", "root", *netem(lines)]
    said = _refusal(command)
    if said:
        raise ConfigError(
            f"--latency-ms, --loss and --rate-mbit: the kernel refuses tc netem: {said}",
            hint="modprobe sch_netem, or leave them out",
        )


def netem(lines: Lines) -> list[str]:
    """The words for tc; none where nothing shall hinder."""
    words = []
    if lines.latency_ms:
        words += ["delay", f"{lines.latency_ms:g}ms"]
    if lines.loss:
        words += ["loss", f"{100 * lines.loss:g}%"]
    if lines.rate_mbit:
        words += ["rate", f"{lines.rate_mbit:g}mbit"]
    return ["netem", "limit", str(QUEUE), *words] if words else []


def address(place: int) -> str:
    """The address of the node at this place, from 0."""
    return str(NETWORK[place + 1])


def _port(place: int) -> str:
    """The bridge's end of a node's cable."""
    return f"node{place}"


def _hold() -> subprocess.Popen[bytes]:
    """A process in a namespace of its own, which is there when this returns."""
    held = subprocess.Popen(
        _HOLD, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert held.stdout is not None
    if held.stdout.readline() != b"held\n":
        held.communicate()
        raise ConfigError("--netns: a network namespace could not be made", hint="see above")
    return held


def _batch(inside: Sequence[str], commands: Iterable[str]) -> None:
    """Run commands of `ip` there, all in one process."""
    _call([*inside, "ip", "-batch", "-"], "".join(f"{one}\n" for one in commands))


def _call(words: Sequence[str], said: str = "") -> str:
    """What a tool prints. Raises `ConfigError` with its first words where it fails."""
    done = subprocess.run(
        words, input=said, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    if done.returncode:
        raise ConfigError(f"--netns: {' '.join(words[4:])}: {_first_line(done.stderr)}")
    return done.stdout


def _refusal(words: Sequence[str]) -> str:
    """What is said against a command; empty where it works."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    return _first_line(done.stderr) or f"exit code {done.returncode}" if done.returncode else ""


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")
