"""What a herald has to say is said once the transport runs again, and what it hears counts under
the key of its time."""

from __future__ import annotations

import math
from types import SimpleNamespace

import msgspec
import pytest
import structlog
import trio
from signed_logs import SignedLog, roster_of

from konsil.node.exchange.herald import Herald
from konsil.node.transports.transport import GossipMessage
from konsil.protocol import envelope, messages
from konsil.protocol.digest import sha256
from konsil.protocol.errors import ManifestRefused, UnreachableError
from konsil.protocol.identity import SigningKey
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.protocol.messages import HEADS_TYPE, Announcement, Have, Head
from konsil.protocol.node_bodies import KeyRotate

LOG = structlog.wrap_logger(structlog.ReturnLogger())
ME = "a" * 32


def head(number):
    return Head(
        publisher=ME, kind="parameters", sequence=number, env=sha256(b"env %d" % number),
        art=sha256(b"art"), size=4, round=number,
    )  # fmt: skip


class Restarting:
    """A transport that cannot publish until a moment."""

    def __init__(self, until):
        self._until = until
        self._keep, self.gossip = trio.open_memory_channel(math.inf)
        self.said = []

    async def publish(self, data):
        if trio.current_time() < self._until:
            raise UnreachableError("the transport does not run")
        sealed = envelope.unpack(data, limits=DEFAULT_LIMITS)
        said = messages.unpack(sealed.payload, limits=DEFAULT_LIMITS)
        self.said.append((trio.current_time(), [one.sequence for one in said.heads]))


def herald_of(transport, heads):
    return Herald(
        transport, SimpleNamespace(me=SimpleNamespace(node=ME)),
        lambda: SigningKey.from_seed(bytes(32)), DEFAULT_LIMITS,
        lambda: Have(heads=tuple(heads), degree=0, neighbours=(), learning=True),
        lambda: b"checkpoint", lambda: 1, lambda *_: None, lambda *_: None, LOG,
    )  # fmt: skip


async def test_an_announcement_survives_a_restart_of_the_transport(autojump_clock, nursery):
    began = trio.current_time()
    transport, heads = Restarting(began + 100), [head(1)]
    herald = herald_of(transport, heads)
    nursery.start_soon(herald.run)
    herald.announce()
    await trio.sleep(110)
    assert [sequences for _, sequences in transport.said] == [[1]]
    heads[:] = [head(2)]
    herald.announce()
    await trio.sleep(1)
    assert [sequences for _, sequences in transport.said] == [[1], [2]]
    nursery.cancel_scope.cancel()


async def test_what_is_said_late_is_the_newest(autojump_clock, nursery):
    transport, heads = Restarting(trio.current_time() + 5), [head(1)]
    herald = herald_of(transport, heads)
    nursery.start_soon(herald.run)
    herald.announce()
    await trio.sleep(2)
    heads[:] = [head(2)]
    await trio.sleep(10)
    assert [sequences for _, sequences in transport.said] == [[2]]
    nursery.cancel_scope.cancel()


class Listener:
    """A herald that hears what bern announces, and knows bern's first key."""

    def __init__(self, folder):
        self.bern, self.me, self.ulm = (SignedLog(name) for name in ("bern", "me", "ulm"))
        self.roster = roster_of(folder, self.me, self.bern, strangers=[self.ulm])
        self.heard, self.unread, self.lines = [], [], structlog.testing.CapturingLogger()
        self.herald = Herald(
            None, self.roster, None, DEFAULT_LIMITS, None, None, None,
            lambda member, said: self.heard.append((member.name, said.degree)),
            lambda member: self.unread.append(member.name),
            structlog.wrap_logger(self.lines, processors=[]),
        )  # fmt: skip

    def hear(self, log, key=None, **changes):
        said = Announcement(
            node=log.node, heads=(), degree=3, neighbours=(), checkpoint=b"note", sent_ms=1
        )
        data = messages.pack(msgspec.structs.replace(said, **changes))
        sealed = envelope.pack(envelope.sign(HEADS_TYPE, data, key or log.keys["art"]))
        self.herald._take(GossipMessage(author=log.member.peer, data=sealed))


@pytest.fixture
def listener(tmp_path):
    return Listener(tmp_path)


def test_an_announcement_counts_under_the_key_that_the_mirror_ends_with(listener):
    listener.hear(listener.bern)
    listener.bern.change(KeyRotate, "art")
    listener.roster.follow(listener.bern.ring)
    listener.hear(listener.bern, degree=4)
    assert listener.heard == [("bern", 3), ("bern", 4)]


def test_an_announcement_under_another_key_sends_us_to_look(listener):
    listener.bern.change(KeyRotate, "art")
    listener.hear(listener.bern)
    assert (listener.heard, listener.unread) == ([], ["bern"])
    listener.hear(listener.ulm)
    assert (listener.heard, listener.unread) == ([], ["bern"]), "nobody whom we never met"


def test_what_somebody_announces_for_others_is_refused(listener):
    with pytest.raises(ManifestRefused):
        listener.hear(listener.bern, node=listener.ulm.node)
    with pytest.raises(ManifestRefused):
        listener.hear(listener.bern, heads=(head(1),))
    assert listener.heard == []
