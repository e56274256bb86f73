"""A payload that cannot be read costs one stream, and is not offered."""

from __future__ import annotations

import pytest
import trio
from ledgers import Hospital

from konsil.node.exchange.serving import Serving
from konsil.node.learning.press import head_of
from konsil.node.learning.shelf import Held, Shelf
from konsil.node.transports.memory_stream import MemoryStream, Pipe
from konsil.protocol import chunks, envelope
from konsil.protocol.artifact import read_statement
from konsil.protocol.conversation import Left
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.protocol.transfer import Pull
from konsil.protocol.transfer_turns import Finished, NotHeld, OfferReceived


class Lines:
    """A log that keeps what is told."""

    def __init__(self):
        self.errors = []

    def error(self, event, **facts):
        self.errors.append((event, facts))

    def debug(self, event, **facts):
        pass

    info = warning = debug


@pytest.fixture(params=["digests known", "digests computed"])
def held(request, tmp_path):
    hospital = Hospital(tmp_path, "bern")
    hospital.train()
    sent = hospital.publish()
    hospital.close()
    artifact = read_statement(envelope.unpack(sent.envelope, limits=DEFAULT_LIMITS).payload)
    known = chunks.chunk_digests([sent.data]) if request.param == "digests known" else ()
    return Held(
        head=head_of(artifact, sent.envelope), artifact=artifact, envelope=sent.envelope,
        proof=sent.proof, path=hospital.store.path(sent.art), since_round=1, digests=tuple(known),
    )  # fmt: skip


async def pulled(held, log, *, offered=lambda: None):
    """The events of a pull of `held`; `offered` acts between the offer and its acceptance."""
    shelf = Shelf()
    shelf.add(held)
    there, back = Pipe(), Pipe()
    ours = MemoryStream(there, back, lambda *_: None)
    theirs = MemoryStream(back, there, lambda *_: None)
    found = []
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                Serving(shelf, lambda _: True, DEFAULT_LIMITS, log).answer, "peer", theirs
            )
            machine = Pull(held.head.env)
            await ours.send_all(machine.start())
            while data := await ours.receive_some():
                for event in machine.receive(data):
                    found.append(event)
                    if isinstance(event, OfferReceived):
                        offered()
                        await ours.send_all(machine.accept(held.artifact))
                    elif isinstance(event, Finished):
                        await ours.send_all(machine.done())
                    elif isinstance(event, NotHeld | Left):
                        await ours.send_eof()
    assert theirs.closed
    return [type(event) for event in found]


def shorten(path):
    path.write_bytes(path.read_bytes()[:-1])


async def test_what_is_whole_is_served(held):
    log = Lines()
    assert (await pulled(held, log))[-1] is Finished
    assert log.errors == []


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), shorten])
async def test_a_payload_that_is_not_there_is_missing(held, damage):
    log = Lines()
    damage(held.path)
    assert await pulled(held, log) == [NotHeld]
    ((event, facts),) = log.errors
    assert event == "serve.unreadable"
    assert facts["art"] == held.head.art.hex()
    assert facts["path"] == str(held.path)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), shorten])
async def test_a_payload_that_is_lost_after_the_offer_ends_the_stream(held, damage):
    log = Lines()
    events = await pulled(held, log, offered=lambda: damage(held.path))
    assert events[0] is OfferReceived
    assert events[-1] is Left
    assert [event for event, _ in log.errors] == ["serve.unreadable"]


async def test_a_peer_that_stops_reading_while_it_is_told_costs_nothing_else(held):
    """The answer about a lost payload may itself find a broken stream."""
    log = Lines()
    shelf = Shelf()
    shelf.add(held)
    held.path.unlink()
    there, back = Pipe(), Pipe()
    ours = MemoryStream(there, back, lambda *_: None)
    theirs = MemoryStream(back, there, lambda *_: None)
    await ours.send_all(Pull(held.head.env).start())
    await ours.aclose()
    with trio.fail_after(20):
        await Serving(shelf, lambda _: True, DEFAULT_LIMITS, log).answer("peer", theirs)
    assert theirs.closed
    assert shelf.get(held.head.env) is None
    assert shelf.heads() == (), "what cannot be served is not announced again"
