"""Dialling goes on for as long as a member is away, and for everybody else meanwhile."""

from __future__ import annotations

import structlog
import trio

from konsil.node.exchange import dialling as dialling_module
from konsil.node.exchange.dialling import Dialling
from konsil.node.exchange.overlay import graph_of
from konsil.node.transports.memory_transport import MemoryFabric
from konsil.protocol.members import Member

LOG = structlog.wrap_logger(structlog.ReturnLogger())
MEMBERS = [Member(name=n, node=n * 32, peer=n, addresses=(f"/memory/{n}",)) for n in "abc"]
PEERS = frozenset("abc")


class Roster(list):
    me = MEMBERS[0]


async def test_a_member_that_was_away_for_days_is_taken_back(autojump_clock, nursery, monkeypatch):
    monkeypatch.setattr(dialling_module, "LONGEST_RETRY_S", 0.1)
    fabric, graph = MemoryFabric(), graph_of("abc", None)
    a = fabric.transport("a", PEERS)
    await nursery.start(a.run)
    dialling = Dialling(a, Roster(MEMBERS), graph, lambda: 0.5, LOG)
    nursery.start_soon(dialling.run)
    await trio.sleep(600)  # more than 1024 failed dials
    for name in "bc":
        await nursery.start(fabric.transport(name, PEERS).run)
    await trio.sleep(5)
    assert a.connected() == {"b", "c"}
    nursery.cancel_scope.cancel()
