"""The daemon on one screen: what a running hospital is made of, and who restarts what.

    at once                 transport   its own restarts; a bad address ends the node (exit 4)
                            control     answers every question by itself, whatever goes wrong
                            streams     questions about logs are answered, the others wait
                            dialling    one connection a neighbour
    then, once              vouching    do peers hold more of our log? What is missing comes back;
                                        another history ends the node (exit 3)
                            keys        must be those in force (exit 5)
                            assemble    everything that follows from the ledger; `node.boot`
    and until it stops      links       one session a peer; peer errors stay in it
                            herald, pulls, learner (which asks the worker process)
                            chronicle   one writer; failure is fatal: stop, exit 6
                            visits, cosigning, suspicion: the logs of others
                            reclaiming  what a restore lost; another history is fatal (exit 3)

Every service restarts by itself but where an exit code stands. A stop before vouching signs
nothing. Closed in reverse order. It imports no torch: tensors live in the worker process.
"""

from __future__ import annotations

import math
import random
from importlib.metadata import version
from typing import TYPE_CHECKING

import trio

from konsil.node.answers import Answers, Waiting
from konsil.node.clock import now_ms, now_s
from konsil.node.control import Answer, serve_control
from konsil.node.exchange.admission import Admitted, admit, judge
from konsil.node.exchange.asking import Lines
from konsil.node.exchange.cosigning import Cosigning
from konsil.node.exchange.dialling import Dialling
from konsil.node.exchange.exposure import Exposure
from konsil.node.exchange.herald import Herald
from konsil.node.exchange.intake import Intake
from konsil.node.exchange.links import Links
from konsil.node.exchange.mirroring import Mirroring
from konsil.node.exchange.overlay import graph_of
from konsil.node.exchange.pulls import Pulls
from konsil.node.exchange.reclaiming import Reclaiming
from konsil.node.exchange.serving import Serving
from konsil.node.exchange.visits import Visits
from konsil.node.exchange.vouching import SPANS, Vouched, Vouching
from konsil.node.exchange.watch import Watch
from konsil.node.keys import settle
from konsil.node.learning.learner import Learner
from konsil.node.learning.memory import recall
from konsil.node.learning.press import Press
from konsil.node.learning.restore import restore_shelf
from konsil.node.learning.trainer import Trainer
from konsil.node.learning.travelling import Travelling
from konsil.node.learning.worker_messages import Open
from konsil.node.redaction import Redaction
from konsil.node.roster import Roster
from konsil.node.rotation import Rotation
from konsil.node.store.blobs import BlobStore
from konsil.node.store.chronicle import Chronicle
from konsil.node.store.witnessed import NAME as WITNESSED
from konsil.node.store.witnessed import Witnessed
from konsil.node.supervise import Service, supervise
from konsil.node.transports.transport import (
    ARTIFACT_PROTOCOL,
    MIRROR_PROTOCOL,
    SESSION_PROTOCOL,
    WITNESS_PROTOCOL,
    IncomingStream,
    Transport,
)
from konsil.protocol import proof
from konsil.protocol.digest import sha256
from konsil.protocol.encoding import FORMATS
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.messages import Announcement, Have, Head, Hello
from konsil.protocol.node_bodies import NodeBoot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from konsil.node.config import NodeConfig
    from konsil.node.learning.neighbour import Neighbour
    from konsil.node.log import Log
    from konsil.node.paths import Home
    from konsil.node.store.journal import Journal
    from konsil.protocol.members import Member


class Daemon:
    """One hospital's node over any transport."""

    def __init__(
        self,
        home: Home,
        config: NodeConfig,
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
        self._jitter = jitter
        self.roster = Roster(config, home.peers)
        self.chronicle = Chronicle(journal)
        witnessed = Witnessed(home.peers / WITNESSED)
        self.watch = Watch(self.roster, home.peers, witnessed, limits)
        lines = self._lines = Lines(transport, limits.message_bytes)
        self.visits = Visits(
            lines, self.roster, self.watch, self._expose,
            lambda member: self.cosigning.mirrored(member), now_s, limits, log,
        )  # fmt: skip
        self.cosigning = Cosigning(
            lines, self.roster, self.chronicle, self.watch, self._live,
            lambda: self.chronicle.key("wit"), self.visits.mirror, self._expose, self._on_vouched,
            now_s, limits, log,
        )  # fmt: skip
        self.mirroring = Mirroring(self.roster, journal, self.watch, self.visits.shown, limits, log)
        names = [member.name for member in config.members]
        graph = graph_of(names, config.overlay.edges)
        self._neighbour_count = len(graph[self.roster.me.name])
        self._dialling = Dialling(transport, self.roster, graph, jitter, log)
        self.vouched = False
        """Whether the log may be signed on: our peers know of no newer state of it."""
        self._met: set[str] = set()
        self._linked = trio.Event()
        self._assembled = trio.Event()
        if self._neighbour_count == 0:
            self._linked.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until `stop` is set or the task is cancelled; then close what was opened."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._transport.run)
            waiting = Waiting(self._config, self.roster, self._transport, self.chronicle, self.stop)
            verbs: dict[str, Answer] = dict(waiting.verbs())
            await nursery.start(serve_control, self._home, verbs, self._log)
            nursery.start_soon(self._until_stopped, nursery.cancel_scope)
            for name, service in {
                "streams": self._dispatch,
                "dialling": self._dialling.run,
            }.items():
                nursery.start_soon(supervise, name, service, self._log)
            said = await self._vouch()
            await trio.to_thread.run_sync(self._settle_keys, said)
            self.vouched = True
            await trio.to_thread.run_sync(self._assemble)
            await self._log_boot(said)
            verbs |= self._answers().verbs()
            verbs |= {"rotate": self._rotation.rotate, "redact": self._redaction.redact}
            self._assembled.set()
            try:
                await self._serve(task_status)
            finally:
                with trio.CancelScope(shield=True):
                    await self.trainer.aclose()

    async def _until_stopped(self, scope: trio.CancelScope) -> None:
        await self.stop.wait()
        scope.cancel()

    async def _vouch(self) -> Vouched:
        """Before the first signature: peers may hold more of our log than we do."""
        config, fresh = self._config, self._journal.size == 1
        wait = config.ledger.vouch_wait_s
        patience = math.inf if wait is None else wait
        if fresh:
            patience = min(patience, config.training.start_wait_s)
        vouching = Vouching(
            self._transport, self._lines, self.roster, self._journal, self._limits, self._log
        )
        return await vouching.run(self._neighbour_count, patience)

    def _settle_keys(self, said: Vouched) -> None:
        """What the peers brought back may have put a key in force that was only staged.

        Where nobody knew our log it may be an old copy still, and no staged key is dropped.
        """
        self._journal.require_keys()
        sure = self._neighbour_count == 0 or any(peer.size for peer in said.peers)
        settle(self._home.keys, self._journal.keyring.keys, sure=sure)

    async def _log_boot(self, said: Vouched) -> None:
        """What the peers said of our log stands in it from now on, and what did not come back."""
        for first in range(0, max(1, len(said.lost)), SPANS):
            boot = NodeBoot(
                software=sha256(version("konsil").encode()),
                size=self._journal.size,
                root=self._journal.root,
                peers=said.peers,
                lost=said.lost[first : first + SPANS],
            )
            await self.chronicle.append(boot)

    def _assemble(self) -> None:
        """Make everything that follows from the ledger. Reads the disk."""
        home, config, journal, log = self._home, self._config, self._journal, self._log
        limits, transport = self._limits, self._transport
        me = self.roster.me
        blobs = BlobStore(home.blobs)
        kind = config.artifacts.kind
        memory = recall(journal.entries(), journal.blobs.get, blobs.has, journal.size, kind)
        self.shelf = restore_shelf(journal, blobs, memory, me.node, limits)
        self.trainer = Trainer(self._opening(), log, timeout_s=config.training.timeout_s)
        travelling = Travelling(
            config.artifacts.codec, me.node, self.trainer, self.shelf, blobs,
            lambda: self.links.reads(), log,
        )  # fmt: skip
        press = Press(
            self.roster, blobs, self.chronicle, self.shelf, travelling, limits, self._tell, log,
            opinions=config.trust.opinions,
        )  # fmt: skip
        self.learner = Learner(
            config, self.trainer, self.chronicle, self.shelf, memory, press, self._neighbours, log
        )
        self.intake = Intake(blobs, self.chronicle, self.shelf, self.trainer, self.learner, log)
        self.links = Links(
            transport, self.roster, self._hello(), limits, self._have, self._on_have,
            self._on_links, log,
        )  # fmt: skip
        self.pulls = Pulls(
            transport, self.shelf, home.spool, limits, wanted=lambda head: self.learner.takes(head),
            member=self.roster.node, admit=self._admit, taken=self.intake.take,
            refused=self.intake.refuse, jitter=self._jitter, log=log,
        )  # fmt: skip
        self._herald = Herald(
            transport, self.roster, lambda: self.chronicle.key("art"), limits, self._have,
            lambda: self.cosigning.vouched_note, now_ms, self._on_heads, self.visits.stir, log,
        )  # fmt: skip
        self._reclaiming = Reclaiming(
            transport, me.node, journal, self.chronicle, self.shelf, limits, log
        )
        self._serving = Serving(self.shelf, self._released, limits, log)
        self._rotation = Rotation(
            home.keys, self.chronicle, self.learner.publishing, self._tell, log
        )
        self._redaction = Redaction(self.chronicle, now_ms, log)
        self._exposure = Exposure(self.learner, self.chronicle, self.watch, journal, now_s, log)

    def _answers(self) -> Answers:
        return Answers(
            self._config, self.roster, self._transport, self.links, self.shelf,
            self.learner, self.trainer, self.intake, self.chronicle, self.stop,
        )  # fmt: skip

    async def _serve(self, task_status: trio.TaskStatus[None]) -> None:
        """Everything that an assembled node does, until cancelled."""
        services: dict[str, Service] = {
            "links": self.links.run,
            "herald": self._herald.run,
            "pulls": self._pull_when_ready,
            "reclaiming": self._reclaiming.run,
            "learner": lambda: self.learner.run(self._linked, solitary=self._neighbour_count == 0),
            "chronicle": lambda: self.chronicle.run(self.cosigning.stir),
            "visits": self.visits.run,
            "cosigning": self.cosigning.run,
            "suspicion": self._exposure.run,
        }
        async with trio.open_nursery() as nursery:
            for name, service in services.items():
                nursery.start_soon(supervise, name, service, self._log)
            self._log.info("node.started", addresses=list(self._transport.addresses))
            task_status.started()

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
            kind=self._config.artifacts.kind,
        )

    def _hello(self) -> Hello:
        return Hello(
            consortium=self.roster.consortium,
            node=self.roster.me.node,
            name=self.roster.me.name,
            charter=self.roster.charter,
            genesis=self._journal.author.entry,
            version=version("konsil"),
            reads=FORMATS,
        )

    def _have(self) -> Have:
        live = self.links.live()
        return Have(
            heads=tuple(head for head in self.shelf.heads() if self._released(head)),
            degree=self.learner.degree(len(live)),
            neighbours=tuple(sorted(live)),
            learning=self.learner.learning,
        )

    def _neighbours(self) -> Mapping[str, Neighbour]:
        return self.links.neighbours()

    def _tell(self) -> None:
        self.links.tell()
        self._herald.announce()
        self.cosigning.stir()
        self.pulls.stir()  # another round hears others

    async def _expose(self, node: str, evidence: bytes) -> None:
        await self._exposure.expose(node, evidence)

    def _live(self) -> list[Member]:
        return [link.member for link in self.links.live().values()]

    def _on_vouched(self) -> None:
        """More of our log is held by somebody else: what was published under it may leave."""
        self.links.tell()
        self._herald.announce()

    def _released(self, head: Head) -> bool:
        """Whether somebody else holds the entries that an artifact's proof speaks of."""
        if head.publisher != self.roster.me.node or self._neighbour_count == 0:
            return True
        held = self.shelf.get(head.env)
        if held is None:
            return False
        note = proof.decode(held.proof, limits=self._limits).checkpoint
        return self._journal.open_checkpoint(note).size <= self.cosigning.vouched

    async def _admit(self, head: Head, sealed: bytes, proof: bytes, holder: str) -> Admitted:
        opened, publisher = self.learner.opened, self.roster.node(head.publisher)
        assert opened is not None
        assert publisher is not None

        def look() -> Admitted:
            mirrored = self.watch.kept(head.publisher).size
            return admit(
                head, sealed, proof, holder=holder, roster=self.roster, mirrored=mirrored,
                shelf=self.shelf, opened=opened, limits=self._limits,
            )  # fmt: skip

        return await judge(look, lambda: self.visits.mirror(publisher))

    def _on_have(self, member: Member, have: Have) -> None:
        self.pulls.consider(member, have.heads)
        self._reclaiming.consider(member, have.heads)
        self.visits.stir(member)

    def _on_heads(self, member: Member, said: Announcement) -> None:
        self.pulls.consider(member, said.heads)
        self._reclaiming.consider(member, said.heads)
        self.visits.shown(member, [said.checkpoint])

    def _on_links(self) -> None:
        """Links came, went, or told something: waiting rounds and pulls look again."""
        settled = [one for one in self._neighbours().values() if one.settled]
        if len(settled) >= self._neighbour_count:
            self._linked.set()
        self.learner.arrivals.stir()
        self.pulls.stir()
        live = self.links.live()
        for node in set(live) - self._met:
            self.cosigning.stir()
            self._reclaiming.linked(live[node].member)
        self._met = set(live)

    async def _pull_when_ready(self) -> None:
        await self.learner.ready.wait()
        await self.pulls.run()

    async def _dispatch(self) -> None:
        """Hand every stream to who answers its kind; until assembled, only what needs no more."""
        async with trio.open_nursery() as nursery:
            async for arrived in self._transport.incoming:
                nursery.start_soon(self._answer, arrived)

    async def _answer(self, arrived: IncomingStream) -> None:
        if arrived.protocol == MIRROR_PROTOCOL:
            await self.mirroring.answer(arrived.peer, arrived.stream)
            return
        await self._assembled.wait()
        answers = {
            SESSION_PROTOCOL: self.links.answer,
            ARTIFACT_PROTOCOL: self._serving.answer,
            WITNESS_PROTOCOL: self.cosigning.answer,
        }
        await answers[arrived.protocol](arrived.peer, arrived.stream)
