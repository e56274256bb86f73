"""A node's own rounds: train, publish, wait for neighbours, mix what is new.

There is no network-wide round. Whom a round hears, `partners` says; for whom it waits, and how
long, `arrivals`; what it mixes, `offers`. A node without any live neighbour waits for one. Where
rounds are counted, none begins while nobody is linked: whoever starts before all others, or is
cut off, would use them up alone. A task that fails costs the round; three failures in a row stop
the learning, never the node.

Order that a crash cannot break: blobs are durable before the entry that names them, and the
entry before anything is announced. So the ledger alone says where to go on (`memory`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from konsil.node.learning.arrivals import ANYBODY, Arrivals
from konsil.node.learning.offers import candidate, offers
from konsil.node.learning.partners import degree, partners
from konsil.node.learning.round_entries import integration, training
from konsil.node.learning.worker_messages import (
    Mix,
    Mixed,
    Opened,
    Release,
    Released,
    Train,
    Trained,
)
from konsil.protocol import cmp1
from konsil.protocol.errors import ConfigError, TaskError
from konsil.protocol.learning_bodies import (
    ModelBase,
    ModelTrain,
    TrustUpdate,
)
from konsil.trust import integrate
from konsil.trust.fixed import to_e9

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from konsil.node.config import NodeConfig
    from konsil.node.learning.memory import Memory
    from konsil.node.learning.neighbour import Neighbour
    from konsil.node.learning.press import Prepared, Press
    from konsil.node.learning.shelf import Held, Shelf
    from konsil.node.learning.trainer import Trainer
    from konsil.node.log import Log
    from konsil.node.store.chronicle import Chronicle
    from konsil.protocol.entries import Body
    from konsil.protocol.messages import Head

FAILURES = 3
RETRY_S = 1.0
PATIENCE_SHARE = 0.25
"""The part of its own training in a round for which a node bears with one that is late."""
CARRYING_TIMES = 3.0
"""The same, as a multiple of what a round takes beside training and waiting: a busy machine or a
slow disk delays an artifact on its way several times, where it is made and where it is taken."""
LOOK_AT = (
    "are the other nodes running, is the member list the same everywhere, are the addresses in it"
    " right, and does a firewall let them through?"
)
"""What to check when nobody is linked."""


class Learner:
    """The service that runs the rounds; its fields are what `node status` shows."""

    def __init__(
        self,
        config: NodeConfig,
        trainer: Trainer,
        chronicle: Chronicle,
        shelf: Shelf,
        memory: Memory,
        press: Press,
        neighbours: Callable[[], Mapping[str, Neighbour]],
        log: Log,
    ) -> None:
        self.phase = "starting"
        self.since = 0.0
        """When the phase began, on trio's clock."""
        self.task_error: str | None = None
        self.metrics: dict[str, float] = {}
        self.opened: Opened | None = None
        self.ready = trio.Event()
        self.memory = memory
        self.judging = trio.Lock()
        """Held from a look at a peer's standing until ledger and memory have what followed."""
        self._config = config
        self._me = config.me().node
        self._gossip = config.artifacts.gossip
        self._foreign: set[tuple[str, str]] = set()
        """Who hands out which kind that is of no use here; each was told of once."""
        self._trained_s = self._issued_s = self._mixed_s = 0.0
        """How long the last training, handing out its result, and mixing took."""
        self._trainer = trainer
        self._chronicle = chronicle
        self._shelf = shelf
        self.arrivals = Arrivals(self._unmixed())
        self._press = press
        self._neighbours = neighbours
        self._log = log
        # One artifact at a time: two at once would take the same sequence number.
        self.publishing = trio.Lock()

    @property
    def learning(self) -> bool:
        """Whether more artifacts will come from this node."""
        return self.phase not in ("idle", "failed")

    @property
    def awaited(self) -> set[str]:
        """The nodes whose next artifact the round is waiting for, or whose task the first one."""
        if self.phase == "connecting":
            return {node for node, one in self._neighbours().items() if not one.settled}
        missing = self.arrivals.missing(self._company()) if self.phase == "waiting" else ()
        return set(missing) - {ANYBODY}

    @property
    def heard(self) -> frozenset[str]:
        """Whose artifacts the present round takes in; after its mix, the next one."""
        return partners(self._gossip, self._me, self.memory.current, self._neighbours())

    def degree(self, linked: int) -> int:
        """With how many of those `linked` a round of ours mixes; 0 while the task is not open."""
        return degree(self._gossip, linked) if self.ready.is_set() else 0

    async def run(self, linked: trio.Event, *, solitary: bool = False) -> None:
        """Open the task, wait for `linked` (or patience), then run all rounds.

        A `solitary` node has no neighbours that could ever be linked.
        """
        if not await self._persist(self._open):
            return
        self._enter("connecting")
        with trio.move_on_after(self._config.training.start_wait_s):
            await linked.wait()
        rounds = self._config.training.rounds
        while rounds == 0 or self.memory.round < rounds or self.memory.pending:
            if rounds and not solitary and not self.memory.pending:
                await self._anybody()
            if not await self._persist(self._round):
                return
            await trio.sleep(self._config.training.pause_s)
        self._enter("idle")

    async def _anybody(self) -> None:
        """Wait until somebody is linked, however long that takes."""
        if not self._neighbours():
            self._enter("connecting")
            self._log.warning("learner.alone", round=self.memory.round, hint=LOOK_AT)
            somebody = self._neighbours
            await self.arrivals.wait(
                lambda: () if somebody() else {ANYBODY}, patience_s=math.inf, grace_s=math.inf
            )

    async def publish_now(self) -> Held:
        """Publish the current model again, on an operator's word."""
        if self.opened is None or self.memory.model is None:
            raise TaskError("there is no model yet", hint="wait for the first round")
        async with self.publishing:
            model, source = self.memory.model, self.memory.source or self.memory.model
            payload, figures = model, None
            if not self.opened.whole:
                before = self.memory.began or model
                made = await self._trainer.ask(Release(before=before, model=model), Released)
                source, payload, figures = model, made.payload, made.figures
            entry = await self._press.prepare(
                payload, self.opened, self.memory, parents=(source,), figures=figures
            )
            return await self._issue(entry)

    def _enter(self, phase: str) -> None:
        self.phase, self.since = phase, trio.current_time()
        self._log.info("phase", phase=phase, round=self.memory.round)
        self._press.tell()

    async def _persist(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Run `work`, again when the task fails; False when it failed too often."""
        for attempt in range(1, FAILURES + 1):
            try:
                await work()
            except TaskError as error:
                self.task_error = error.diagnostics()
                self._log.error("task.failed", attempt=attempt, error=self.task_error)
                await trio.sleep(RETRY_S * attempt)
            except ConfigError as error:
                self.task_error = error.diagnostics()
                self._log.error("task.failed", attempt=attempt, error=self.task_error)
                break
            else:
                self.task_error = None
                return True
        self._enter("failed")
        return False

    async def _open(self) -> None:
        opened = await self._trainer.open()
        if self.memory.base is None:
            await self._chronicle.append(
                ModelBase(model=opened.base, source="seed", licence="", note=opened.task)
            )
            self.memory.begin(opened.base)
        elif self.memory.base != opened.base:
            raise ConfigError(
                "the task's base model is not the one this ledger began with",
                hint="undo the change of task or seed, or begin a new home",
            )
        self.opened = opened
        self.ready.set()

    async def _round(self) -> None:
        if not self.memory.pending:
            await self._train()
        self._enter("waiting")
        self.arrivals.delivered |= self._unmixed()
        await self.arrivals.wait(self._company, self._config.training.patience_s, self._grace_s())
        self._enter("mixing")
        self.arrivals.take(self.heard)
        async with self.judging:
            await self._mix()
        self._mixed_s = trio.current_time() - self.since

    def _grace_s(self) -> float:
        """How long the round bears with a few that are late."""
        carrying_s = CARRYING_TIMES * (self._issued_s + self._mixed_s)
        enough_s = max(self._config.training.late_after_s, carrying_s)
        return enough_s + PATIENCE_SHARE * self._trained_s

    def _unmixed(self) -> set[str]:
        """Of whom something is here that came before a restart, or while they were not heard."""
        waiting = self._shelf.fresh(integrate.alike(self.memory.kind), without=self._me)
        return {held.head.publisher for held in waiting}

    def takes(self, head: Head) -> bool:
        """Whether an artifact is of use here: of a kind that is taken in, by somebody whom the
        round hears and whom neither an operator nor a proof put aside."""
        publisher = head.publisher
        if publisher not in self.heard:
            return False
        if head.kind not in integrate.alike(self.memory.kind):
            if (publisher, head.kind) not in self._foreign:
                self._foreign.add((publisher, head.kind))
                self._log.warning(
                    "artifact.other_kind", publisher=publisher, theirs=head.kind,
                    ours=self.memory.kind, hint="set the same [artifacts] kind at all members",
                )  # fmt: skip
            return False
        return self.memory.standing(publisher).operator != "quarantined"

    def _company(self) -> set[str]:
        """Who may be waited for: those that this round hears, as long as they have more to say."""
        live = self._neighbours()
        if not live and len(self._config.members) > 1:
            # Alone for the moment: the overlay is healing, and somebody will be linked soon.
            return {ANYBODY}
        found = set()
        for node in self.heard:
            if self.memory.standing(node).operator == "quarantined":
                continue  # nothing of it will be taken
            kinds = integrate.alike(self.memory.kind)
            held = self._shelf.latest(node, kinds)
            told = max(live[node].told.get(kind, 0) for kind in kinds)
            under_way = told > (0 if held is None else held.head.sequence)
            # In pairs its newest will do, however old; who has stopped may be heard for the last
            # time, and a newcomer hears it for the first.
            enough = held is not None and self._gossip == "pairs"
            if not enough and (live[node].at_work or under_way):
                found.add(node)
        return found

    async def _train(self) -> None:
        opened, memory = self.opened, self.memory
        assert opened is not None
        assert memory.model is not None
        before, number = memory.model, memory.round + 1
        self._enter("training")
        self._log.info("train.begin", round=number)
        trained = await self._trainer.ask(Train(model=before, round=number), Trained)
        self._log.info("train.end", round=number, loss=trained.loss)
        ended = trio.current_time()
        self._trained_s = ended - self.since
        source = before if trained.release == trained.out else trained.out
        async with self.publishing:
            entry = await self._press.prepare(
                trained.release, opened, memory, parents=(source,), figures=trained.figures,
                number=number,
            )  # fmt: skip
            await self._issue(entry, training(opened, before, trained.out, number))
        self._issued_s = trio.current_time() - ended

    async def _issue(self, entry: Prepared, train: ModelTrain | None = None) -> Held:
        """Log an artifact, behind the training that made it if that is new, and show it.

        Never cut in the middle: a number that the ledger has and the memory has not would be
        given to a second artifact.
        """
        with trio.CancelScope(shield=True):
            if train is None:
                receipts = await self._chronicle.append(entry.body)
            else:
                async with self.judging:
                    receipts = await self._chronicle.append(train, entry.body)
                    self.memory.begun_round(receipts[0].index, receipts[0].time_ms)
                    self.memory.trained(train.round, train.base, train.out)
            held = await self._press.issue(entry, receipts[-1].index, self.memory)
        return held

    async def _mix(self) -> None:
        memory = self.memory
        assert memory.pending is not None
        live = self._neighbours()
        taken = offers(self._gossip, self._shelf, memory, self._me, self.heard, live)
        # Artifacts of neighbours that left since count too, so that all weights fit into one.
        mixed_with = max(self.degree(len(live)), len(taken), 1)
        rates = await self._base_rates({offer.held.head.publisher for offer in taken})
        candidates = tuple(
            candidate(offer, memory, live, mixed_with, rates.get(offer.held.head.publisher))
            for offer in taken
            if memory.standing(offer.held.head.publisher).operator != "quarantined"
        )
        if not candidates:
            memory.settle()
            return
        question = Mix(
            before=memory.pending.before,
            trained=memory.pending.out,
            node=self._me,
            round=memory.round,
            kind=memory.kind,
            candidates=candidates,
        )
        mixed = await self._trainer.ask(question, Mixed)
        await self._record(mixed)
        self._shelf.mark_mixed([offer.held.head.env for offer in taken])
        memory.mixed(mixed)
        self.metrics = dict(mixed.after)
        self._log.info("mix.end", round=memory.round, reason=mixed.reason, metrics=self.metrics)

    async def _base_rates(self, nodes: set[str]) -> dict[str, int]:
        """The base rate of each node by what others say of it, where opinions are asked for."""
        if not self._config.trust.opinions:
            return {}
        speakers = self.memory.speakers()
        return await trio.to_thread.run_sync(self.memory.base_rates_e9, nodes, speakers)

    async def _record(self, mixed: Mixed) -> None:
        """Log every judgement and the mix, in one durable group."""
        bodies: list[Body] = []
        for judged in mixed.judged:
            bodies.append(
                TrustUpdate(
                    node=judged.node,
                    kind=self.memory.kind,
                    art=judged.art,
                    old_e9=judged.old_e9,
                    new_e9=judged.new_e9,
                    cause=judged.cause,
                    evidence=await self._chronicle.put(judged.record),
                )
            )
        trained = self.memory.pending
        assert trained is not None
        if mixed.out != trained.out:
            before, after = await self._scores(mixed.before), await self._scores(mixed.after)
            bodies.append(integration(mixed, trained.out, self.memory.round, before, after))
        await self._chronicle.append(*bodies)

    async def _scores(self, metrics: Mapping[str, float]) -> bytes:
        """Store metrics as evidence (integers in 1e-9); their digest."""
        scores = {name: to_e9(value) for name, value in metrics.items() if math.isfinite(value)}
        return await self._chronicle.put(cmp1.encode(scores))
