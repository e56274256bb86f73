"""A consortium of real daemons in one process, over the memory transport.

Real ledgers, sessions, transfers and control sockets; the trainer is the caller's choice.
"""

from __future__ import annotations

from collections import Counter

import msgspec
import structlog
import trio

from konsil.node.config import read_config
from konsil.node.daemon import Daemon
from konsil.node.init import create_home, node_toml
from konsil.node.keys import load_keys
from konsil.node.opening import open_journal
from konsil.node.paths import Home
from konsil.node.transports.memory_transport import MemoryFabric
from konsil.protocol.learning_bodies import ArtifactIntegrate

LOG = structlog.wrap_logger(structlog.ReturnLogger())


class Network:
    """Homes and daemons of a few hospitals in one process."""

    def __init__(
        self, root, nursery, names, *, edges=None, options=None, rounds=5, outbound=(),
        factory="x:y", factories=None, seed=0, patience_s=2.0, start_wait_s=5.0, vouch_wait_s=0.5,
        kind="parameters", kinds=None, opinions=False, codecs=None, gossip="neighbours",
        late_after_s=None,
    ):  # fmt: skip
        self.fabric = MemoryFabric()
        self.root, self.nursery, self.rounds = root, nursery, rounds
        self.daemons = {}
        self.scopes = {}
        self.stopped = {}
        members = {}
        for name in names:
            member = create_home(
                root / name, name=name, consortium="c", factory=factory, listen=(), options={}
            )
            address = () if name in outbound else (f"/memory/{member.peer}",)
            members[name] = msgspec.structs.replace(member, addresses=address)
        for i, name in enumerate(names):
            own = (options or {}).get(name, {"target": 1.7**i})
            text = node_toml(
                members[name], "c", (factories or {}).get(name, factory), members[name].addresses,
                own,
                members=list(members.values()), edges=edges,
                training={
                    "rounds": rounds, "patience_s": patience_s, "start_wait_s": start_wait_s,
                    "seed": seed,
                    # A toy round takes milliseconds: on a busy machine everybody would be late.
                    "late_after_s": patience_s if late_after_s is None else late_after_s,
                },
            )  # fmt: skip
            # A node that starts alone in a test does not wait for anybody to vouch for it.
            text += f"\n[ledger]\nvouch_wait_s = {vouch_wait_s}\n"
            text += f'\n[artifacts]\nkind = "{(kinds or {}).get(name, kind)}"\n'
            text += f'codec = "{(codecs or {}).get(name, "plain")}"\ngossip = "{gossip}"\n'
            text += f"\n[trust]\nopinions = {str(opinions).lower()}\n"
            Home(root / name).config.write_text(text)
        self.members = members

    async def start(self, *names):
        async with trio.open_nursery() as starting:
            for name in names or self.members:
                starting.start_soon(self.nursery.start, self._run, name)

    async def _run(self, name, task_status):
        home = Home(self.root / name)
        config, keys = read_config(home.config), load_keys(home.keys)
        log = LOG.bind(node=name)
        journal = open_journal(home, config, keys, log)
        peers = frozenset(member.peer for member in self.members.values())
        transport = self.fabric.transport(
            self.members[name].peer, peers, reachable=bool(self.members[name].addresses)
        )
        daemon = Daemon(home, config, journal, transport, log, jitter=lambda: 0.5)
        self.daemons[name] = daemon
        self.stopped[name] = trio.Event()
        try:
            with trio.CancelScope() as scope:
                self.scopes[name] = scope
                await daemon.run(task_status=task_status)
        finally:
            journal.close(sign=daemon.vouched)
            self.stopped[name].set()

    async def kill(self, name):
        self.fabric.kill(self.members[name].peer)
        self.scopes[name].cancel()
        await self.stopped[name].wait()

    async def until(self, condition, seconds=60):
        with trio.fail_after(seconds):
            while not condition():
                await trio.sleep(0.05)

    def idle(self, *names):
        return all(self.daemons[n].learner.phase == "idle" for n in names or self.daemons)

    def bodies(self, name, kind):
        journal = self.daemons[name]._journal
        return [e.b for e in journal.entries() if isinstance(e.b, kind)]

    def sources(self, name):
        """How often each other hospital's artifact was mixed in."""
        names = {member.node: n for n, member in self.members.items()}
        found = Counter()
        for body in self.bodies(name, ArtifactIntegrate):
            found.update(names[p.node] for p in body.parts if p.node != self.members[name].node)
        return found
