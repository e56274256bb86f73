"""Pulls from holders that are busy, broken or lying, over the memory transport."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
import structlog
import torch
import trio
from ledgers import Hospital

from konsil.knowledge import pack
from konsil.knowledge.compact import feedback, payload
from konsil.knowledge.named import NamedTensors
from konsil.node.exchange import pulls as pulls_module
from konsil.node.exchange.admission import Admitted, Refusal
from konsil.node.exchange.pulls import AT_ONCE, Pulls
from konsil.node.exchange.serving import Serving
from konsil.node.learning.press import head_of
from konsil.node.learning.shelf import Held, Shelf
from konsil.node.transports.memory_transport import MemoryFabric
from konsil.protocol import envelope
from konsil.protocol.artifact import read_statement
from konsil.protocol.digest import sha256
from konsil.protocol.errors import LocalProtocolError, StorageError, VerificationError
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.protocol.members import Member
from konsil.protocol.messages import Head
from konsil.protocol.transfer import Serve
from konsil.protocol.transfer_turns import Wanted

LOG = structlog.wrap_logger(structlog.ReturnLogger())
HOLDERS = "abcdefgh"
PEERS = frozenset({*HOLDERS, "me"})


def member(name):
    return Member(name=name, node=name * 32, peer=name, addresses=(f"/memory/{name}",))


def envelope_of(name, number=1):
    return f"envelope {number} of {name}".encode()


def head_by(name, number=1):
    return Head(
        publisher=name * 32, kind="parameters", sequence=number,
        env=sha256(envelope_of(name, number)), art=sha256(name.encode()), size=4, round=number,
    )  # fmt: skip


class Puller:
    """Pulls of a node, with holders whose answers a test decides."""

    def __init__(self, tmp_path, nursery):
        self.fabric, self.nursery = MemoryFabric(), nursery
        self.transport = self.fabric.transport("me", PEERS)
        self.members = {member(name).node: member(name) for name in HOLDERS}
        self.asked = []
        """(seconds since the start, holder, envelope) of every question."""
        self.admit = lambda *_: pytest.fail("nothing was offered")
        self.taken = []
        self.refused = []
        self.take = self._take
        self.pulls = Pulls(
            self.transport, Shelf(), tmp_path / "spool", DEFAULT_LIMITS,
            wanted=lambda _: True, member=self.members.get,
            admit=self._admit, taken=lambda *told: self.take(*told),
            refused=self._refused, jitter=lambda: 0.5, log=LOG,
        )  # fmt: skip

    async def _admit(self, *told):
        return self.admit(*told)

    async def _take(self, head, admitted, path):
        self.taken.append(head.env)

    async def _refused(self, head, refusal):
        self.refused.append((head.env, refusal.culprit))

    async def start(self):
        await self.nursery.start(self.transport.run)
        self.began = trio.current_time()
        self.nursery.start_soon(self.pulls.run)

    async def holder(self, name, reply, *heads):
        """A connected member that answers every question with `reply(machine, env)`."""
        transport = self.fabric.transport(name, PEERS)
        await self.nursery.start(transport.run)
        await self.transport.dial(name, [f"/memory/{name}"])

        async def answer(stream):
            machine = Serve()
            for event in machine.receive(await stream.receive_some()):
                if isinstance(event, Wanted):
                    self.asked.append((trio.current_time() - self.began, name, event.env))
                    await stream.send_all(reply(machine, event.env))

        async def serve():
            async for arrived in transport.incoming:
                self.nursery.start_soon(answer, arrived.stream)

        self.nursery.start_soon(serve)
        self.pulls.consider(self.members[name * 32], heads)

    def questions(self, name):
        return [at for at, holder, _ in self.asked if holder == name]


def missing(machine, env):
    return machine.missing()


def busy(machine, env):
    return machine.busy(60_000)


def offer(machine, env):
    (data,) = (envelope_of(n, i) for n in HOLDERS for i in (1, 2) if head_by(n, i).env == env)
    return machine.offer(data, b"proof", size=4, chunk_bytes=4)


@pytest.fixture
async def puller(tmp_path, nursery):
    made = Puller(tmp_path, nursery)
    await made.start()
    yield made
    nursery.cancel_scope.cancel()


async def test_the_next_holder_is_asked_while_the_first_is_busy(autojump_clock, puller):
    await puller.holder("a", busy)
    await puller.holder("b", missing)
    puller.pulls.consider(puller.members["b" * 32], [head_by("a")])
    puller.pulls.consider(puller.members["a" * 32], [head_by("a")])
    await trio.sleep(5)
    assert puller.questions("a")[0] < 1
    assert puller.questions("b")[0] < 1


async def test_a_busy_holder_is_left_alone_for_as_long_as_it_said(autojump_clock, puller):
    await puller.holder("a", busy, head_by("a"))
    await trio.sleep(200)
    times = puller.questions("a")
    assert len(times) == 4
    assert all(later - one >= 60 for one, later in pairwise(times))


async def test_a_busy_holder_does_not_delay_the_others(autojump_clock, puller):
    """One that always says it is busy, beside one that often does not have it yet."""
    await puller.holder("a", busy)
    await puller.holder("b", missing)
    for name in "ab":
        puller.pulls.consider(puller.members[name * 32], [head_by("b")])
    await trio.sleep(20)
    assert len(puller.questions("b")) >= 4
    assert len(puller.questions("a")) == 1


async def test_busy_holders_take_no_place_from_others(autojump_clock, puller):
    for name in HOLDERS[:AT_ONCE]:
        await puller.holder(name, busy, head_by(name))
    await trio.sleep(1)
    await puller.holder("h", missing, head_by("h"))
    await trio.sleep(1)
    assert puller.questions("h") != []


async def test_nobody_may_ask_for_an_endless_pause(autojump_clock, puller):
    await puller.holder("a", lambda machine, _: machine.busy(3_600_000), head_by("a"))
    await trio.sleep(1.5 * pulls_module.LONGEST_RETRY_S)
    assert len(puller.questions("a")) == 2


async def test_a_bug_that_one_artifact_brings_to_light_refuses_only_it(autojump_clock, puller):
    def admit(head, sealed, proof, holder):
        if head.publisher == "a" * 32:
            raise LocalProtocolError("out of turn")
        raise Refusal("offer", ("signature",), holder)

    puller.admit = admit
    await puller.holder("a", offer, head_by("a"))
    await trio.sleep(100)
    assert len(puller.questions("a")) == 1
    await puller.holder("b", offer, head_by("b"))
    await trio.sleep(1)
    assert puller.refused == [(head_by("b").env, "b" * 32)]
    puller.pulls.consider(puller.members["a" * 32], [head_by("a", 2)])
    await trio.sleep(1)
    assert len(puller.questions("a")) == 2, "a newer one is asked for"


async def test_a_holder_of_whom_everything_is_refused_is_shunned_for_ever(autojump_clock, puller):
    """More refusals than doublings of a float."""

    def admit(head, sealed, proof, holder):
        raise Refusal("manifest", ("sequence",), head.publisher)

    puller.admit = admit
    puller.pulls._strikes["a" * 32] = 5000
    await puller.holder("a", offer, head_by("a"))
    await trio.sleep(1)
    assert puller.refused == [(head_by("a").env, "a" * 32)]
    puller.pulls.consider(puller.members["a" * 32], [head_by("a", 2)])
    await trio.sleep(pulls_module.LONGEST_SHUN_S / 2)
    assert len(puller.questions("a")) == 1


async def beside(tmp_path, nursery, data=None, **payload):
    """A puller beside one hospital that serves one real artifact, in real time.

    `data` is what travels, and `payload` what else the manifest says of it.
    """
    hospital = Hospital(tmp_path, "bern")
    hospital.train()
    changes = {}
    if data is not None:
        plain = hospital.manifest(sha256(data), data).payload
        changes["payload"] = msgspec.structs.replace(plain, **payload)
    sent = hospital.publish(data, **changes)
    hospital.close()
    artifact = read_statement(envelope.unpack(sent.envelope, limits=DEFAULT_LIMITS).payload)
    held = Held(
        head=head_of(artifact, sent.envelope), artifact=artifact, envelope=sent.envelope,
        proof=sent.proof, path=hospital.store.path(sent.art), since_round=1,
    )  # fmt: skip
    shelf = Shelf()
    shelf.add(held)
    puller = Puller(tmp_path, nursery)
    publisher = Member(name="bern", node=held.head.publisher, peer="a", addresses=())
    puller.members[publisher.node] = publisher
    puller.admit = lambda *_: Admitted(
        artifact=artifact, envelope=sent.envelope, proof=sent.proof, published=None
    )
    transport = puller.fabric.transport("a", PEERS)
    serving = Serving(shelf, lambda _: True, DEFAULT_LIMITS, LOG)

    async def serve():
        async for arrived in transport.incoming:
            nursery.start_soon(serving.answer, arrived.peer, arrived.stream)

    await nursery.start(transport.run)
    nursery.start_soon(serve)
    await nursery.start(puller.transport.run)
    await puller.transport.dial("a", ["/memory/a"])
    puller.pulls.consider(publisher, [held.head])
    return puller


@pytest.fixture
async def served(tmp_path, nursery):
    yield await beside(tmp_path, nursery)
    nursery.cancel_scope.cancel()


MODEL = NamedTensors(
    {"w": torch.randn(300, 318, generator=torch.Generator().manual_seed(1)), "b": torch.zeros(300)}
)


@pytest.mark.parametrize(("codec", "most", "seconds"), [("int8", 0.27, 1.0), ("topk", 0.04, 0.2)])
async def test_few_bytes_cross_a_slow_line(tmp_path, nursery, codec, most, seconds):
    """All of them, the proof too, in both directions: at 1 Mbit/s it is a matter of a second."""
    start = MODEL.map(torch.zeros_like)
    sent = feedback.advance(MODEL, start, codec, since=bytes(32))
    puller = await beside(
        tmp_path, nursery, sent.data, format=sent.word,
        decoded=sha256(pack.to_bytes(sent.public)).hex(),
    )  # fmt: skip
    nursery.start_soon(puller.pulls.run)
    with trio.fail_after(30):
        while not puller.taken:
            await trio.sleep(0.01)
    crossed = puller.transport.bytes_read + puller.transport.bytes_written
    assert len(sent.data) < crossed < most * len(pack.to_bytes(MODEL))
    assert 8 * crossed / 1_000_000 < seconds
    nursery.cancel_scope.cancel()


async def test_who_names_what_it_does_not_show_is_refused(tmp_path, nursery):
    word = "safetensors+int8"
    data = payload.write(MODEL, word)
    puller = await beside(
        tmp_path, nursery, data, format=word, decoded="ab" * 32, reference="cd" * 32
    )
    nursery.start_soon(puller.pulls.run)
    with trio.fail_after(30):
        while not puller.refused:
            await trio.sleep(0.01)
    (publisher,) = set(puller.members) - {member(name).node for name in HOLDERS}
    assert [culprit for _, culprit in puller.refused] == [publisher]
    assert puller.taken == []
    nursery.cancel_scope.cancel()


async def test_a_bug_in_taking_an_artifact_refuses_only_it(served, nursery, monkeypatch):
    monkeypatch.setattr(pulls_module, "FIRST_RETRY_S", 0.01)
    calls = []

    async def take(head, admitted, path):
        calls.append(path.stat().st_size)
        raise LocalProtocolError("Check before Open")

    served.take = take
    nursery.start_soon(served.pulls.run)
    with trio.fail_after(30):
        while not calls:
            await trio.sleep(0.01)
    await trio.sleep(0.5)
    assert len(calls) == 1


@pytest.mark.parametrize("kind", [StorageError, VerificationError])
async def test_an_error_of_our_own_disk_is_fatal(served, kind):
    async def take(head, admitted, path):
        raise kind("no space left")

    served.take = take
    with pytest.RaisesGroup(kind, flatten_subgroups=True), trio.fail_after(30):
        await served.pulls.run()


async def test_a_spool_file_that_cannot_be_removed_is_an_error_of_our_own_disk(served, monkeypatch):
    async def take(head, admitted, path):
        raise Refusal("payload", ("architecture",), head.publisher)

    async def unlink(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    served.take = take
    monkeypatch.setattr(trio.Path, "unlink", unlink)
    with pytest.RaisesGroup(StorageError, flatten_subgroups=True), trio.fail_after(30):
        await served.pulls.run()


async def test_a_head_that_is_never_delivered_does_not_starve_its_publisher(autojump_clock, puller):
    fake = msgspec.structs.replace(head_by("a"), sequence=2**50, env=b"f" * 32)
    await puller.holder("b", missing, fake)  # told by another, and never shown
    await trio.sleep(1)
    await puller.holder("a", missing, head_by("a"))
    await trio.sleep(600)
    assert puller.questions("a")
