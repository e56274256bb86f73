"""What a herald has to say is said once the transport runs again."""

from __future__ import annotations

import math
from types import SimpleNamespace

import structlog
import trio

from konsil.node.exchange.herald import Herald
from konsil.protocol import envelope, messages
from konsil.protocol.digest import sha256
from konsil.protocol.errors import UnreachableError
from konsil.protocol.identity import SigningKey
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.protocol.messages import Have, Head

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
        transport, SimpleNamespace(me=SimpleNamespace(node=ME)), SigningKey.from_seed(bytes(32)),
        DEFAULT_LIMITS, lambda: Have(heads=tuple(heads), degree=0, neighbours=(), learning=True),
        lambda: b"checkpoint", lambda: 1, lambda *_: None, LOG,
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
