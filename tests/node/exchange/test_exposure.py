"""What a node writes down of its peers: exposed once, suspect until an answer, also over a stop."""

from __future__ import annotations

import pytest
import structlog
import trio
from ledgers import Hospital

from konsil.node.exchange import exposure
from konsil.node.exchange.exposure import Exposure
from konsil.node.exchange.watch import Kept
from konsil.node.learning.memory import Memory
from konsil.node.store.chronicle import Chronicle
from konsil.protocol.learning_bodies import TrustUpdate
from konsil.protocol.node_bodies import PeerClear, PeerExposed, PeerSuspect

LOG = structlog.wrap_logger(structlog.ReturnLogger())
NODE, OTHER = "a" * 32, "b" * 32


class Watched:
    """What the watch tells: who owes, how much of a log is held, which fork proofs there are."""

    def __init__(self, size=5, **owes):
        self.owes = owes or {NODE: False}
        self.sizes = {}
        self.size = size
        self.proofs = {}
        self.believed = {}
        self.looks = 0

    def suspects(self, now):
        self.looks += 1
        return self.owes

    def kept(self, node):
        return Kept(size=self.sizes.get(node, self.size))

    def forks(self):
        return self.proofs

    def believe(self, node, proof):
        self.believed[node] = proof


class Learning:
    """The part of a learner that an exposure touches."""

    def __init__(self):
        self.memory = Memory()
        self.judging = trio.Lock()


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(exposure, "LOOK_EVERY_S", 0.0)


@pytest.fixture
def bern(tmp_path):
    hospital = Hospital(tmp_path, "bern")
    yield hospital
    hospital.close()


class Service:
    """An exposure over a hospital's ledger, looked at once at a time."""

    def __init__(self, hospital, watch, nursery):
        self.hospital, self.watch = hospital, watch
        self.learner = Learning()
        chronicle = Chronicle(hospital.journal)
        self.exposure = Exposure(self.learner, chronicle, watch, hospital.journal, lambda: 100, LOG)
        nursery.start_soon(self.exposure.run)

    async def look(self):
        """A whole look: it has ended when the one after it has begun."""
        begun = self.watch.looks
        with trio.fail_after(10):
            while self.watch.looks < begun + 2:
                await trio.lowlevel.checkpoint()

    def words(self):
        kinds = PeerSuspect | PeerClear | PeerExposed | TrustUpdate
        found = [entry.b for entry in self.hospital.journal.entries()]
        return [(type(body).__name__, body.node) for body in found if isinstance(body, kinds)]


SUSPECT, CLEAR = ("PeerSuspect", NODE), ("PeerClear", NODE)


async def test_who_owes_is_suspect_until_it_answers(bern, nursery):
    service = Service(bern, Watched(), nursery)
    for owes, expected in (
        (False, []),
        (True, [SUSPECT]),
        (True, [SUSPECT]),
        (False, [SUSPECT, CLEAR]),
        (True, [SUSPECT, CLEAR, SUSPECT]),
    ):
        service.watch.owes = {NODE: owes}
        await service.look()
        assert service.words() == expected


def suspected(hospital):
    hospital.journal.append([PeerSuspect(node=NODE, kind="consistency", evidence=None)])


async def test_a_restart_that_forgot_what_was_owed_clears_nobody(bern, nursery):
    suspected(bern)
    service = Service(bern, Watched(), nursery)
    await service.look()
    assert service.words() == [SUSPECT]


async def test_what_its_log_shows_after_the_restart_is_an_answer(bern, nursery):
    suspected(bern)
    service = Service(bern, Watched(size=5), nursery)
    await service.look()
    service.watch.sizes[NODE] = 6
    await service.look()
    assert service.words() == [SUSPECT, CLEAR]


async def test_a_debt_that_outlived_the_restart_is_answered_as_before(bern, nursery):
    suspected(bern)
    service = Service(bern, Watched(**{NODE: True}), nursery)
    await service.look()
    service.watch.owes = {NODE: False}
    await service.look()
    assert service.words() == [SUSPECT, CLEAR]


async def test_who_was_cleared_before_the_restart_is_not_suspect(bern, nursery):
    suspected(bern)
    bern.journal.append([PeerClear(node=NODE, kind="consistency", evidence=None)])
    service = Service(bern, Watched(), nursery)
    await service.look()
    assert service.words() == [SUSPECT, CLEAR]
    service.watch.owes = {NODE: True}
    await service.look()
    assert service.words() == [SUSPECT, CLEAR, SUSPECT]


async def test_one_who_answers_does_not_clear_another(bern, nursery):
    suspected(bern)
    service = Service(bern, Watched(**{NODE: False, OTHER: False}), nursery)
    service.watch.sizes[OTHER] = 9
    await service.look()
    assert service.words() == [SUSPECT]


async def test_a_fork_is_written_down_once_with_its_proof(bern, nursery):
    service = Service(bern, Watched(), nursery)
    for _ in range(2):
        await service.exposure.expose(NODE, b"proof")
    assert service.words() == [("PeerExposed", NODE), ("TrustUpdate", NODE)]
    assert service.learner.memory.standing(NODE).operator == "quarantined"
    again = Service(bern, Watched(), nursery)
    assert again.watch.believed == {NODE: b"proof"}
    assert again.learner.memory.standing(NODE).operator == "quarantined"
    await again.exposure.expose(NODE, b"proof")
    assert again.words() == service.words()


async def test_a_fork_that_a_stop_kept_out_of_the_ledger_is_written_down_later(bern, nursery):
    service = Service(bern, Watched(), nursery)
    service.watch.proofs = {OTHER: b"proof"}
    await service.look()
    assert service.words() == [("PeerExposed", OTHER), ("TrustUpdate", OTHER)]


async def test_an_operator_who_released_an_exposed_peer_is_heeded(bern, nursery):
    service = Service(bern, Watched(), nursery)
    await service.exposure.expose(NODE, b"proof")
    bern.journal.append(
        [
            TrustUpdate(
                node=NODE, kind="parameters", art=None, old_e9=0, new_e9=0,
                cause="operator.release", evidence=bytes(32),
            )
        ]
    )  # fmt: skip
    again = Service(bern, Watched(), nursery)
    assert again.learner.memory.standing(NODE).operator is None


async def test_a_proof_that_was_lost_may_be_met_again(bern, nursery):
    bern.journal.append([PeerExposed(node=NODE, kind="fork", evidence=bytes(32))])
    service = Service(bern, Watched(), nursery)
    assert service.watch.believed == {}
    assert service.learner.memory.standing(NODE).operator == "quarantined"
    await service.exposure.expose(NODE, b"proof")
    assert service.words() == [("PeerExposed", NODE), ("PeerExposed", NODE), ("TrustUpdate", NODE)]
