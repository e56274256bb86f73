"""Cosigning: whose signature counts under our checkpoint, and what becomes of one that we cannot
read yet."""

from __future__ import annotations

import pytest
import structlog
import trio
from signed_logs import SignedLog, Wires, line_ends, roster_of

from konsil.node.exchange.asking import Line
from konsil.node.exchange.cosigning import Cosigning
from konsil.node.exchange.visits import Visits
from konsil.node.exchange.watch import Watch
from konsil.node.store.witnessed import Witnessed
from konsil.node.transports.transport import MIRROR_PROTOCOL
from konsil.protocol import cosignature, witness
from konsil.protocol.cosignature import WitnessKey
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.protocol.node_bodies import KeyRevoke, KeyRotate
from konsil.protocol.witness import Request, Response
from konsil.trust.layout import COSIGNED


class Own:
    """Our own log, where a chronicle stands."""

    def __init__(self, log, folder):
        self.log, self.folder = log, folder
        folder.mkdir()

    @property
    def size(self):
        return self.log.size

    async def sign(self):
        return self.log.note(), self.log.size

    async def consistency(self, old, size):
        return self.log.tree.consistency(old, size)


class Witnesses(Wires):
    """Members that cosign whatever they are asked to, with the newest key that they have."""

    def __init__(self, *logs):
        super().__init__(*logs)
        self.requests = 0
        self.mirrors = True
        self.now_s = 1_000

    async def ask(self, peer, protocol, data):
        if protocol == MIRROR_PROTOCOL:
            self.breaks_after = None if self.mirrors else 0
            return await super().ask(peer, protocol, data)
        self.requests += 1
        log, request = self.logs[peer], witness.decode_request(data)
        line = cosignature.sign(request.note, log.author.origin, log.keys["wit"], self.now_s)
        return witness.encode_response(Response(status=200, body=line))


class Asker:
    """A node that has its log cosigned by bern and ulm."""

    def __init__(self, folder):
        self.me, self.bern, self.ulm = (SignedLog(name) for name in ("me", "bern", "ulm"))
        self.wires = Witnesses(self.bern, self.ulm)
        self.roster = roster_of(folder, self.me, self.bern, self.ulm)
        watch = Watch(self.roster, folder, Witnessed(folder / "witness.log"), DEFAULT_LIMITS)
        self.lines, self.vouched = structlog.testing.CapturingLogger(), []
        log = structlog.wrap_logger(self.lines, processors=[])
        self.visits = Visits(
            self.wires, self.roster, watch, None, lambda member: self.cosigning.mirrored(member),
            lambda: 1_000, DEFAULT_LIMITS, log,
        )  # fmt: skip
        self.clock_s = 1_000
        self.own = Own(self.me, folder / "ledger")
        self.cosigning = Cosigning(
            self.wires, self.roster, self.own, watch,
            lambda: [self.bern.member, self.ulm.member], lambda: self.me.keys["wit"],
            self.visits.mirror, None, lambda: self.vouched.append(self.me.size),
            lambda: self.clock_s, DEFAULT_LIMITS, log,
        )  # fmt: skip

    async def ask(self, log):
        await self.cosigning._ask(log.member)

    def cosigned_by(self):
        """Who stands under our cosigned checkpoint, by any key that it ever had."""
        keys = [
            WitnessKey(log.author.origin, key)
            for log in (self.bern, self.ulm)
            for key in log.ring.witness_keys()
        ]
        return {*cosignature.seen_by((self.own.folder / COSIGNED).read_bytes(), keys)}


@pytest.fixture
def asker(tmp_path):
    return Asker(tmp_path)


async def test_who_cosigned_stands_under_our_newest_checkpoint(asker):
    await asker.ask(asker.bern)
    await asker.ask(asker.ulm)
    assert asker.cosigned_by() == {asker.bern.author.origin, asker.ulm.author.origin}
    assert (asker.cosigning.vouched, asker.vouched) == (1, [1])
    await asker.ask(asker.bern)
    assert asker.wires.requests == 2, "for the same entries nobody is asked twice"
    asker.me.grow()
    await asker.ask(asker.ulm)
    assert asker.cosigned_by() == {asker.ulm.author.origin}
    assert (asker.cosigning.vouched, asker.vouched) == (2, [1, 2])


@pytest.mark.parametrize("kind", [KeyRotate, KeyRevoke])
async def test_a_witness_with_a_new_key_is_mirrored_and_then_counts(asker, kind):
    await asker.visits.mirror(asker.bern.member)
    asker.bern.change(kind, "wit")
    await asker.ask(asker.bern)
    assert asker.cosigned_by() == {asker.bern.author.origin}
    assert asker.cosigning.vouched == 1
    assert asker.wires.requests == 1


async def test_two_keys_of_one_witness_are_one_witness(asker):
    await asker.ask(asker.bern)
    asker.bern.change(KeyRotate, "wit")
    await asker.visits.mirror(asker.bern.member)
    asker.cosigning._vouched.clear()
    await asker.ask(asker.bern)
    assert asker.cosigned_by() == {asker.bern.author.origin}


async def test_a_witness_that_cannot_be_read_is_asked_again_once_it_is_mirrored(asker, nursery):
    asker.bern.change(KeyRotate, "wit")
    asker.wires.mirrors = False
    await asker.ask(asker.bern)
    assert (asker.cosigning.vouched, asker.wires.requests) == (0, 1)
    nursery.start_soon(asker.cosigning.run)
    asker.wires.mirrors = True
    await asker.visits.mirror(asker.bern.member)
    with trio.fail_after(20):
        while asker.cosigning.vouched == 0:
            await trio.sleep(0.01)
    assert asker.cosigned_by() == {asker.bern.author.origin}
    nursery.cancel_scope.cancel()


async def test_a_witness_that_did_not_sign_does_not_count(asker):
    asker.bern.keys = asker.ulm.keys
    await asker.ask(asker.bern)
    assert asker.cosigning.vouched == 0
    assert not (asker.own.folder / COSIGNED).exists()
    (told,) = [call for call in asker.lines.calls if call.kwargs["event"] == "cosigning.refused"]
    assert "and did not" in told.kwargs["reason"]


@pytest.mark.parametrize("apart_s", [-10_601, 601, 86_400])
async def test_a_cosignature_by_a_clock_that_is_far_from_ours_is_not_stored(asker, apart_s):
    """Its witness holds our entries all the same: what they are good for does not wait."""
    asker.clock_s = 20_000
    asker.wires.now_s = asker.clock_s + apart_s
    await asker.ask(asker.bern)
    assert asker.cosigning.vouched == 1
    assert not (asker.own.folder / COSIGNED).exists()
    (warned,) = [one for one in asker.lines.calls if one.kwargs["event"] == "cosigning.clock"]
    assert warned.kwargs["apart_s"] == apart_s
    asker.wires.now_s = asker.clock_s + 600
    await asker.ask(asker.ulm)
    assert asker.cosigned_by() == {asker.ulm.author.origin}


async def told(asker, log, *requests):
    """What we answer one member's requests."""
    ours, theirs = line_ends()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asker.cosigning.answer, log.member.peer, theirs)
        line, answers = Line(ours, DEFAULT_LIMITS.message_bytes), []
        for request in requests:
            answers.append(witness.decode_response(await line.ask(request)))
        await ours.aclose()
    return answers


def request(log, old, size=None):
    size = log.size if size is None else size
    proof = tuple(log.tree.consistency(old, size)) if 0 < old < size else ()
    return witness.encode_request(Request(old=old, proof=proof, note=log.note(size)))


@pytest.mark.parametrize("kind", [KeyRotate, KeyRevoke])
async def test_a_member_with_a_new_log_key_is_vouched_for_once_it_is_mirrored(asker, kind):
    asker.bern.grow(5)
    (first,) = await told(asker, asker.bern, request(asker.bern, 0))
    asker.bern.change(kind, "log")
    asker.bern.grow()
    (second,) = await told(asker, asker.bern, request(asker.bern, 6))
    assert (first.status, second.status) == (200, 200)
    key = WitnessKey(asker.me.author.origin, asker.me.keys["wit"].public)
    merged = cosignature.merge(asker.bern.note(), second.body, [key])
    assert cosignature.seen_by(merged, [key]) == {asker.me.author.origin: 1_000}


async def test_we_cosign_with_the_key_that_is_in_force(asker):
    asker.me.change(KeyRotate, "wit")
    (said,) = await told(asker, asker.bern, request(asker.bern, 0))
    key = WitnessKey(asker.me.author.origin, asker.me.keys["wit"].public)
    assert cosignature.seen_by(cosignature.merge(asker.bern.note(), said.body, [key]), [key])


async def test_a_thief_of_a_revoked_key_is_not_vouched_for(asker):
    stolen = asker.bern.keys["log"]
    asker.bern.grow(5)
    thief = asker.bern.fork(6).grow(9)
    asker.bern.change(KeyRevoke, "log", good=6)
    asker.bern.grow()
    data = witness.encode_request(Request(old=0, proof=(), note=thief.note(9, stolen)))
    (said,) = await told(asker, asker.bern, data)
    assert said.status == 403


async def test_who_cannot_be_mirrored_is_not_vouched_for(asker):
    asker.wires.mirrors = False
    with pytest.raises(ExceptionGroup) as raised:
        await told(asker, asker.bern, request(asker.bern, 0))
    assert raised.group_contains(EOFError)


async def test_an_answer_that_comes_late_takes_nothing_back(asker):
    old = asker.me.note()
    late = cosignature.sign(old, asker.ulm.author.origin, asker.ulm.keys["wit"], 1_000)
    asker.me.grow()
    await asker.ask(asker.bern)
    assert asker.cosigning._collect(old, late, asker.ulm.member)
    assert asker.cosigned_by() == {asker.bern.author.origin}
