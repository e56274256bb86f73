"""A consortium of real learners in simulated time: fake workers sleep, nothing touches a disk.

`run` gives what happened on a clock that jumps, so days pass in milliseconds. What is fake: the
worker (it sleeps as long as the node's pace says and takes in nothing), the ledger, and the way
of an artifact to the others, which takes `TRIP_S`. All waiting is done by the real learner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace

import structlog
import trio
import trio.testing

from konsil.node.learning.learner import Learner
from konsil.node.learning.memory import Memory
from konsil.node.learning.neighbour import Neighbour
from konsil.node.learning.shelf import Shelf
from konsil.node.learning.worker_messages import Mix, Mixed, Train, Trained

TRIP_S = 0.1
KIND = "parameters"
LOG = structlog.wrap_logger(structlog.ReturnLogger())

Pace = Callable[[int], float]
"""How long the training of a round (from 1) takes, in seconds."""


class Hospital:
    """One learner, and what it did: when each round ended, and whom it mixed in it."""

    def __init__(
        self, name: str, pace: Pace, world: World, *, rounds: int, patience_s: float, gossip: str
    ) -> None:
        self.name, self.pace, self.world = name, pace, world
        self.ended: list[float] = []
        self.mixed: list[dict[str, int]] = []
        """In each round, the lag of every artifact that took part."""
        self.shelf, self.memory = Shelf(), Memory()
        training = SimpleNamespace(
            rounds=rounds, patience_s=patience_s, late_after_s=0.5, start_wait_s=20.0, pause_s=0.0
        )
        config = SimpleNamespace(
            training=training, artifacts=SimpleNamespace(gossip=gossip), members=world.names,
            trust=SimpleNamespace(opinions=False),
            me=lambda: SimpleNamespace(node=name),
        )  # fmt: skip
        trainer = SimpleNamespace(open=self._open, ask=self._ask)
        chronicle = SimpleNamespace(append=self._append)
        press = SimpleNamespace(prepare=self._prepare, issue=self._issue, tell=self._tell)
        self.learner = Learner(
            config, trainer, chronicle, self.shelf, self.memory, press, self._neighbours, LOG
        )  # type: ignore[arg-type]

    def _neighbours(self) -> dict[str, Neighbour]:
        others = {name: one for name, one in self.world.open.items() if name != self.name}
        return {
            name: Neighbour(
                node=name,
                degree=one.learner.degree(len(others)),
                learning=one.learner.learning,
                told={KIND: one.memory.sequence},
            )
            for name, one in others.items()
        }

    async def _open(self) -> SimpleNamespace:
        return SimpleNamespace(
            base=b"base", task="", whole=True, rows=50, data=b"", recipe=b"", code=b"",
            environment=b"",
        )  # fmt: skip

    async def _ask(self, request, _):
        if isinstance(request, Train):
            await trio.sleep(self.pace(request.round))
            model = f"{self.name} {request.round}".encode()
            return Trained(out=model, release=model, loss=0.0)
        assert isinstance(request, Mix)
        self.memory.current = request.round + 1  # as the judgements of a mix tell it
        self.mixed[-1] = {one.node: one.lag for one in request.candidates}
        return Mixed(
            out=request.trained, rule="", parts=(), not_mixed=(), judged=(), before={}, after={},
            reason="",
        )  # fmt: skip

    def _tell(self) -> None:
        if self.learner.phase == "mixing":
            self.ended.append(trio.current_time())
            self.mixed.append({})
        self.world.stir()

    async def _append(self, *bodies):
        return [SimpleNamespace(index=0, time_ms=0) for _ in bodies]

    async def _prepare(self, release, _opened, memory, *, parents, number, figures):
        head = SimpleNamespace(
            publisher=self.name, kind=KIND, sequence=memory.sequence + 1, art=release,
            env=release, round=number,
        )  # fmt: skip
        return SimpleNamespace(body=None, head=head)

    async def _issue(self, entry, _index, memory):
        memory.published(entry.head.sequence, entry.head.art)
        held = SimpleNamespace(head=entry.head, artifact=None, since_round=entry.head.round)
        self.shelf.add(held)
        self.world.nursery.start_soon(self.world.carry, entry.head)
        return held

    def receive(self, head: SimpleNamespace) -> None:
        """An artifact of somebody else has come, checked and logged."""
        covered = SimpleNamespace(
            coverage=SimpleNamespace(classes=()), payload=SimpleNamespace(tensors="00" * 32)
        )
        self.shelf.add(
            SimpleNamespace(head=head, artifact=covered, since_round=self.memory.current)
        )
        self.learner.arrivals.note(head.publisher)


class World:
    """All hospitals, everyone linked with everyone from the moment it is open."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.open: dict[str, Hospital] = {}

    def stir(self) -> None:
        """Somebody told the others what it does now."""
        for one in self.open.values():
            one.learner.arrivals.stir()

    async def carry(self, head: SimpleNamespace) -> None:
        """Bring an artifact to all that are there when it arrives."""
        await trio.sleep(TRIP_S)
        for name, one in self.open.items():
            if name != head.publisher:
                one.receive(head)

    def join(self, one: Hospital) -> None:
        """A hospital is linked, and takes the newest of everybody."""
        self.open[one.name] = one
        for other in self.open.values():
            held = other.shelf.newest(other.name, KIND)
            if other is not one and held is not None:
                one.receive(held.head)
        self.stir()


def run(
    paces: Mapping[str, Pace], *, rounds: int = 20, patience_s: float = 60.0,
    gossip: str = "neighbours", late: Mapping[str, float] | None = None,
    until: tuple[str, ...] | None = None,
) -> dict[str, Hospital]:  # fmt: skip
    """Have all learn until those in `until` (by default all) are done; `late` join then."""

    async def live() -> dict[str, Hospital]:
        world = World(tuple(paces))
        hospitals = {
            name: Hospital(name, pace, world, rounds=rounds, patience_s=patience_s, gossip=gossip)
            for name, pace in paces.items()
        }
        done = {name: trio.Event() for name in paces}
        async with trio.open_nursery() as world.nursery:
            for name, one in hospitals.items():
                after = (late or {}).get(name, 0.0)
                world.nursery.start_soon(_learn, world, one, after, done[name])
            for name in until or paces:
                await done[name].wait()
            world.nursery.cancel_scope.cancel()
        return hospitals

    return trio.run(live, clock=trio.testing.MockClock(autojump_threshold=0))


async def _learn(world: World, one: Hospital, after: float, done: trio.Event) -> None:
    await trio.sleep(after)
    world.join(one)
    linked = trio.Event()
    linked.set()
    await one.learner.run(linked)
    done.set()
