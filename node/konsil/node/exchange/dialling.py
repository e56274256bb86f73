"""Keep the links that the overlay wants: dial, heal around the dead, drop what is surplus.

A member is held for dead when its link was lost a moment ago and has not come back, or when
dialling it failed again and again; of one that nobody tried to reach nothing is believed.
Dead neighbours are dialled on, ever more slowly, so a hospital that was away for days is
taken back. Times in seconds, from trio's clock.

Of two members that both want a link, the one whose name is smaller dials at once and the
other a moment later, so that they do not dial each other in the same instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from konsil.node.exchange.backoff import backoff
from konsil.node.exchange.overlay import Graph, wanted_links
from konsil.protocol.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from konsil.node.log import Log
    from konsil.node.roster import Roster
    from konsil.node.transports.transport import Transport
    from konsil.protocol.members import Member

LOST_GRACE_S = 1.5
FAILED_DIALS = 4
SURPLUS_S = 30.0
TICK_S = 0.5
FIRST_RETRY_S = 0.3
LONGEST_RETRY_S = 30.0


class _Contact:
    """What we know of the way to one member."""

    def __init__(self, member: Member, now: float) -> None:
        self.member = member
        self.unlinked_since = now
        self.met = False
        self.failures = 0
        self.due = now
        self.dialling = False
        self.surplus_since: float | None = None
        self.dialled_by_us = False

    def dead(self, now: float) -> bool:
        """Whether the overlay must heal around this member."""
        if self.met:
            return now - self.unlinked_since > LOST_GRACE_S
        return self.failures >= FAILED_DIALS


class Dialling:
    """The service that opens and closes links; `jitter()` gives a number in [0, 1)."""

    def __init__(
        self,
        transport: Transport,
        roster: Roster,
        graph: Graph,
        jitter: Callable[[], float],
        log: Log,
    ) -> None:
        self._transport = transport
        self._graph = graph
        self._jitter = jitter
        self._log = log
        self._me = roster.me
        self._members = [member for member in roster if member.node != roster.me.node]
        self._contacts: dict[str, _Contact] = {}

    async def run(self) -> None:
        """Watch and dial until cancelled."""
        now = trio.current_time()
        self._contacts = {m.name: _Contact(m, now) for m in self._members}
        async with trio.open_nursery() as nursery:
            while True:
                await self._step(nursery)
                await trio.sleep(TICK_S)

    async def _step(self, nursery: trio.Nursery) -> None:
        now = trio.current_time()
        connected = self._transport.connected()
        for contact in self._contacts.values():
            if contact.member.peer in connected:
                contact.met, contact.failures, contact.unlinked_since = True, 0, now
        dead = {name for name, contact in self._contacts.items() if contact.dead(now)}
        wanted = wanted_links(self._graph, self._me.name, dead)
        # A dead neighbour is dialled on, so that it is taken back when it returns.
        for name in sorted(wanted | self._graph[self._me.name]):
            contact = self._contacts[name]
            if contact.member.peer not in connected and self._may_dial(contact, now):
                contact.dialling = True
                nursery.start_soon(self._dial, contact)
        for name, contact in self._contacts.items():
            if contact.member.peer in connected:
                await self._drop_surplus(contact, name in wanted, now)

    def _may_dial(self, contact: _Contact, now: float) -> bool:
        if contact.dialling or not contact.member.addresses or now < contact.due:
            return False
        they_dial_first = contact.member.name < self._me.name and self._me.addresses
        return not they_dial_first or now - contact.unlinked_since > 1.0 + contact.failures

    async def _dial(self, contact: _Contact) -> None:
        try:
            await self._transport.dial(contact.member.peer, contact.member.addresses)
            contact.dialled_by_us = True
        except UnreachableError as error:
            contact.failures += 1
            delay = backoff(contact.failures, first_s=FIRST_RETRY_S, longest_s=LONGEST_RETRY_S)
            contact.due = trio.current_time() + delay * (0.5 + self._jitter())
            self._log.debug("dial.failed", peer=contact.member.name, error=error.message)
        finally:
            contact.dialling = False

    async def _drop_surplus(self, contact: _Contact, wanted: bool, now: float) -> None:
        """Close a link that healing made and nothing needs any more; only its dialler may."""
        if wanted or not contact.dialled_by_us:
            contact.surplus_since = None
        elif contact.surplus_since is None:
            contact.surplus_since = now
        elif now - contact.surplus_since > SURPLUS_S:
            contact.surplus_since, contact.dialled_by_us, contact.met = None, False, False
            self._log.info("link.surplus", peer=contact.member.name)
            await self._transport.disconnect(contact.member.peer)
