"""The daemon on one screen: what a running hospital is made of, and who restarts what.

    daemon
    ├─ transport            its own restarts; a bad listen address ends the node (exit 4)
    ├─ links, dialling      one session a peer; peer errors stay in it
    ├─ streams              hands incoming streams to links and serving
    ├─ herald, pulls        restart
    ├─ learner              restart; asks the worker process
    ├─ control              answers every question by itself, whatever goes wrong
    └─ chronicle            one writer; failure is fatal: stop, exit 6

Built once, from the ledger; run until cancelled or told to stop; closed in reverse order.
It imports no torch: tensors live in the worker process.
"""

from __future__ import annotations

import os
import random
import time
from importlib.metadata import version
from typing import TYPE_CHECKING

import trio

from konsil.node.answers import Answers
from konsil.node.config import check_identity
from konsil.node.control import serve_control
from konsil.node.exchange.admission import Admitted, admit
from konsil.node.exchange.dialling import Dialling
from konsil.node.exchange.herald import Herald
from konsil.node.exchange.intake import Intake
from konsil.node.exchange.links import Links
from konsil.node.exchange.overlay import graph_of
from konsil.node.exchange.pulls import Pulls
from konsil.node.exchange.serving import Serving
from konsil.node.learning.learner import Learner, Neighbour
from konsil.node.learning.memory import recall
from konsil.node.learning.press import Press
from konsil.node.learning.restore import restore_shelf
from konsil.node.learning.trainer import Trainer
from konsil.node.learning.worker_messages import Open
from konsil.node.roster import Roster
from konsil.node.store.blobs import BlobStore
from konsil.node.store.chronicle import Chronicle
from konsil.node.store.journal import Journal
from konsil.node.supervise import Service, supervise
from konsil.node.transports.transport import SESSION_PROTOCOL, Transport
from konsil.protocol.errors import ConfigError
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.messages import Announcement, Have, Head, Hello

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from konsil.node.config import NodeConfig
    from konsil.node.log import Log
    from konsil.node.paths import Home
    from konsil.protocol.identity import KeySet
    from konsil.protocol.members import Member


def now_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


class Daemon:
    """One hospital's node over any transport."""

    def __init__(
        self,
        home: Home,
        config: NodeConfig,
        keys: KeySet,
        journal: Journal,
        transport: Transport,
        log: Log,
        *,
        limits: Limits = DEFAULT_LIMITS,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.stop = trio.Event()
        self._home, self._config, self._log = home, config, log
        self._journal, self._transport, self._limits = journal, transport, limits
        self.roster = Roster(config, home.peers)
        me = self.roster.me
        blobs = BlobStore(home.blobs)
        self.chronicle = Chronicle(journal)
        memory = recall(journal.entries(), journal.blobs.get)
        self.shelf = restore_shelf(journal, blobs, memory, me.node, limits)
        self.trainer = Trainer(self._opening(), log, timeout_s=config.training.timeout_s)
        press = Press(
            self.roster, keys["art"], blobs, self.chronicle, self.shelf, limits, self._tell, log
        )
        self.learner = Learner(
            config, self.trainer, self.chronicle, self.shelf, memory, press, self._neighbours, log
        )
        self.intake = Intake(blobs, self.chronicle, self.shelf, self.trainer, self.learner, log)
        self.links = Links(
            transport, self.roster, self._hello(), limits, self._have, self._on_have,
            self._on_links, log,
        )  # fmt: skip
        self.pulls = Pulls(
            transport,
            self.shelf,
            home.spool,
            limits,
            wanted=self._wanted,
            member=self.roster.node,
            admit=self._admit,
            taken=self.intake.take,
            refused=self.intake.refuse,
            jitter=jitter,
            log=log,
        )
        self._herald = Herald(
            transport, self.roster, keys["art"], limits, self._have,
            lambda: journal.checkpoint, now_ms, self._on_heads, log,
        )  # fmt: skip
        names = [member.name for member in config.members]
        graph = graph_of(names, config.overlay.edges)
        self._neighbour_count = len(graph[me.name])
        self._dialling = Dialling(transport, self.roster, graph, jitter, log)
        self._serving = Serving(self.shelf, limits, log)
        self._linked = trio.Event()
        if self._neighbour_count == 0:
            self._linked.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until `stop` is set or the task is cancelled; then close what was opened."""
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._transport.run)
                answers = Answers(
                    self._config, self.roster, self._transport, self.links, self.shelf,
                    self.learner, self.trainer, self.intake, self.chronicle, self.stop,
                )  # fmt: skip
                verbs = answers.verbs()
                services: dict[str, Service] = {
                    "links": self.links.run,
                    "streams": self._dispatch,
                    "dialling": self._dialling.run,
                    "herald": self._herald.run,
                    "pulls": self._pull_when_ready,
                    "learner": lambda: self.learner.run(self._linked),
                    "chronicle": self.chronicle.run,
                }
                await nursery.start(serve_control, self._home, verbs, self._log)
                for name, service in services.items():
                    nursery.start_soon(supervise, name, service, self._log)
                self._log.info("node.started", addresses=list(self._transport.addresses))
                task_status.started()
                await self.stop.wait()
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await self.trainer.aclose()

    def _opening(self) -> Open:
        task, training = self._config.task, self._config.training
        return Open(
            home=str(self._home.root),
            blobs=str(self._home.blobs),
            factory=task.factory,
            options=task.options,
            name=self._config.node.name,
            seed=training.seed,
            device=training.device,
        )

    def _hello(self) -> Hello:
        return Hello(
            consortium=self.roster.consortium,
            node=self.roster.me.node,
            name=self.roster.me.name,
            charter=self.roster.charter,
            genesis=self._journal.author.entry,
            version=version("konsil"),
        )

    def _have(self) -> Have:
        live = self.links.live()
        return Have(
            heads=self.shelf.heads(),
            degree=len(live),
            neighbours=tuple(sorted(live)),
            learning=self.learner.learning,
        )

    def _neighbours(self) -> Mapping[str, Neighbour]:
        return self.links.neighbours()

    def _tell(self) -> None:
        self.links.tell()
        self._herald.announce()

    def _wanted(self, publisher: str) -> bool:
        """Take artifacts of neighbours, unless an operator or a proof put them aside."""
        standing = self.learner.memory.standing(publisher)
        return publisher in self.links.live() and standing.operator != "quarantined"

    def _admit(self, head: Head, sealed: bytes, proof: bytes, holder: str) -> Admitted:
        opened = self.learner.opened
        assert opened is not None
        return admit(
            head, sealed, proof, holder=holder, roster=self.roster, shelf=self.shelf,
            opened=opened, limits=self._limits,
        )  # fmt: skip

    def _on_have(self, member: Member, have: Have) -> None:
        self.pulls.consider(member, have.heads)

    def _on_heads(self, member: Member, said: Announcement) -> None:
        self.pulls.consider(member, said.heads)

    def _on_links(self) -> None:
        """Links came, went, or told something: waiting rounds and pulls look again."""
        if len(self.links.live()) >= self._neighbour_count:
            self._linked.set()
        self.learner.arrivals.stir()
        self.pulls.stir()

    async def _pull_when_ready(self) -> None:
        await self.learner.ready.wait()
        await self.pulls.run()

    async def _dispatch(self) -> None:
        async with trio.open_nursery() as nursery:
            async for arrived in self._transport.incoming:
                answer = (
                    self.links.answer
                    if arrived.protocol == SESSION_PROTOCOL
                    else self._serving.answer
                )
                nursery.start_soon(answer, arrived.peer, arrived.stream)


def open_journal(home: Home, config: NodeConfig, keys: KeySet, log: Log) -> Journal:
    """The home's ledger, recovered and locked; notices go to the log.

    Raises as `Journal.open` does, and `ConfigError` when the ledger is somebody else's.
    """

    def trace(mark: str) -> None:
        log.debug("journal", mark=mark)

    journal = Journal.open(
        home.ledger,
        keys,
        now_ms,
        os.urandom,
        charter=config.charter().digest(),
        trace=trace,
    )
    try:
        check_identity(config, journal.author, home.config)
    except ConfigError:
        journal.close()
        raise
    for notice in journal.notices:
        log.warning("journal.notice", notice=notice)
    return journal
