"""Books: the ledgers of all simulated hospitals, kept along with the rounds.

Twice a round the engine calls: when models have been released and before anybody judges them,
and when the rule has weighed them. Each node logs what its daemon would, in the daemon's order:
training, publication, receipts, judgements, the mix. Byzantine nodes log what they release.
What no log shows does not arrive: a model of a round that its sender slept through, and one
that is not finite.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from konsil.protocol.learning_bodies import ModelBase
from konsil.simulations.sim.ledgered import members
from konsil.simulations.sim.ledgered.archive import BLOBS, LEDGER, PAYLOADS
from konsil.simulations.sim.ledgered.clerk import Clerk
from konsil.simulations.sim.ledgered.desk import Desk
from konsil.simulations.sim.ledgered.payloads import Payloads
from konsil.simulations.sim.ledgered.press import Press
from konsil.simulations.sim.ledgered.store import LogStore
from konsil.simulations.sim.ledgered.weighing import Weighing

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.exchange import Exchange, Mixed
    from konsil.simulations.sim.ledgered.archive import Archive
    from konsil.simulations.sim.ledgered.payloads import Payload
    from konsil.simulations.sim.ledgered.release import Release
    from konsil.simulations.sim.links import Links, Mask
    from konsil.simulations.sim.rules.evidence import Judgement
    from konsil.simulations.sim.setting import Setting


class Books:
    """One ledger for each node of a setting, whose files go to `archive`."""

    def __init__(self, setting: Setting, archive: Archive) -> None:
        self._setting, self._archive = setting, archive
        self._clock = members.Clock()
        self._stores = [LogStore(partial(self._file, node)) for node in range(setting.nodes)]
        ledgers, charter = members.found(self._stores, setting.scenario.seed, self._clock)
        self._payloads = Payloads(setting.network.layout, setting.base)
        base = self._payloads.of(setting.base[None])[0]
        self._desks = [Desk(ledger, base.digest) for ledger in ledgers]
        self._press = Press(setting, self._payloads, base.digest, charter)
        self._clerk = Clerk(setting, self._desks, archive)
        self._releases: dict[tuple[int, int], Release] = {}
        """By round and publisher, as long as they may still arrive."""
        self._proofs: dict[bytes, int] = {}
        """A home that holds a proof."""
        self._arrived: list[Release] = []
        """What each link of this round brought."""
        for node, desk in enumerate(self._desks):
            self._begin(node, desk, base)

    def released(self, exchange: Exchange, active: Mask) -> Exchange:
        """What arrives of a round, once every active node has logged and signed its release."""
        number, count = exchange.number, self._setting.nodes
        self._clock.enter(number)
        self._forget(number)
        trained, hostile = self._payloads.of(exchange.trained), self._setting.hostile
        out = dict(enumerate(trained))
        out |= zip(hostile.tolist(), self._payloads.of(exchange.table[hostile]), strict=True)
        for node in np.flatnonzero(active).tolist():
            self._issue(node, number, trained[node], out[node])
        # Without models for single links, the table is that of this round, then those before.
        keys = [(number - row // count, row % count) for row in exchange.source.tolist()]
        exchange = exchange.keep(np.array([key in self._releases for key in keys], bool))
        keys = [(number - row // count, row % count) for row in exchange.source.tolist()]
        self._arrived = [self._releases[key] for key in keys]
        return replace(exchange, copied=self._taken(exchange.links))

    def mixed(self, exchange: Exchange, mixed: Mixed, judgement: Judgement | None) -> Tensor:
        """(n, p): the models after a round, mixed by the kernel; all that led there is logged."""
        weighing = Weighing.of(exchange, mixed, judgement, self._arrived)
        who, rows = weighing.blended()
        self._clerk.judge(weighing)
        outs = [payload.digest for payload in self._payloads.of(rows)]
        self._clerk.integrate(weighing, who, rows, outs)
        models = exchange.trained.clone()
        models[who] = rows
        return models

    def close(self, models: Tensor) -> None:
        """Signs for every entry; the nodes' last models lie in their homes too."""
        for node, payload in enumerate(self._payloads.of(models)):
            self._archive.put(node, PAYLOADS, payload.digest, self._payloads.head, payload.data)
            self._desks[node].flush()
            self._desks[node].ledger.sign_checkpoint()
            self._stores[node].close()

    def _begin(self, node: int, desk: Desk, base: Payload) -> None:
        """The first entry behind genesis, and what else a home has from the start."""
        note = self._press.task
        desk.ledger.append([ModelBase(model=base.digest, source="seed", licence="", note=note)])
        desk.had(base.digest, desk.node)
        self._archive.put(node, PAYLOADS, base.digest, self._payloads.head, base.data)
        for name, text in members.papers(self._setting, node, desk.ledger).items():
            self._archive.write(node, name, text.encode())

    def _file(self, node: int, name: str, data: bytes) -> None:
        self._archive.write(node, f"{LEDGER}/{name}", data)

    def _issue(self, node: int, number: int, trained: Payload, out: Payload) -> None:
        desk, head = self._desks[node], self._payloads.head
        release = self._press.issue(node, number, desk, trained.digest, out)
        self._stores[node].roll()
        desk.train(trained.digest, out.digest)
        self._releases[number, node] = release
        self._archive.put(node, BLOBS, release.env, release.sealed)
        for payload in {trained.digest: trained, out.digest: out}.values():
            self._archive.put(node, PAYLOADS, payload.digest, head, payload.data)

    def _taken(self, links: Links) -> Mask:
        """Takes in what each link brings; which of it is nothing of the sender's own."""
        pairs = list(zip(links.receiver.tolist(), links.sender.tolist(), strict=True))
        for (receiver, sender), release in zip(pairs, self._arrived, strict=True):
            if self._desks[receiver].take(release):
                self._keep(receiver, sender, release)
        copied = [
            self._desks[receiver].worthless(release)
            for (receiver, _), release in zip(pairs, self._arrived, strict=True)
        ]
        return np.array(copied, dtype=np.bool_)

    def _keep(self, receiver: int, sender: int, release: Release) -> None:
        """What a receiver's home holds of an artifact, and of its sender."""
        desk, archive = self._desks[receiver], self._archive
        archive.share(sender, receiver, BLOBS, release.env)
        archive.share(sender, receiver, PAYLOADS, release.art)
        holder = self._proofs.setdefault(release.proven, receiver)
        if holder == receiver:
            archive.put(receiver, BLOBS, release.proven, release.proof)
        else:
            archive.share(holder, receiver, BLOBS, release.proven)
        if release.publisher not in desk.met:
            desk.met.add(release.publisher)
            entry = self._desks[sender].ledger.author.entry
            archive.write(receiver, f"peers/{release.publisher}.genesis", entry)

    def _forget(self, number: int) -> None:
        """What was released so long ago that it can no longer arrive."""
        oldest = number - self._setting.scenario.faults.delay_rounds
        for key in [key for key in self._releases if key[0] < oldest]:
            self._proofs.pop(self._releases.pop(key).proven, None)
