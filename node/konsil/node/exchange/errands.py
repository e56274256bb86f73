"""Errands: something to do at each member, one at a time there, and at all members at once.

Whatever is stirred while an errand runs is one more errand afterwards, however often it was
stirred: the errand itself looks at how things are. What an errand raises ends the service.
Times in seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from konsil.protocol.members import Member


class Errands:
    """Runs `errand` at every member that was stirred, with a pause behind each."""

    def __init__(self, errand: Callable[[Member], Awaitable[None]], pause_s: float = 0.0) -> None:
        self._errand = errand
        self._pause_s = pause_s
        self._due: dict[str, Member] = {}
        self._running: set[str] = set()
        self._news = trio.Event()

    def stir(self, member: Member) -> None:
        """There may be something to do at `member`."""
        self._due[member.node] = member
        self._news.set()

    async def run(self) -> None:
        """Run errands until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._news.wait()
                self._news = trio.Event()
                for member in [*self._due.values()]:
                    if member.node not in self._running:
                        del self._due[member.node]
                        self._running.add(member.node)
                        nursery.start_soon(self._go, member)

    async def _go(self, member: Member) -> None:
        try:
            await self._errand(member)
            await trio.sleep(self._pause_s)
        finally:
            self._running.discard(member.node)
            if member.node in self._due:
                self._news.set()
