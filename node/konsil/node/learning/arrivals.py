"""Arrivals: who delivered since the last mix, and for whom a round waits, and how long.

A round waits for all who keep pace with it. As long as more than half of them are missing, it
waits as long as its patience: then the company is slow, or this node fast; and so it does for its
only neighbour, without whom there is nothing to mix. Once at most half are missing, or one of
several, they get a grace; who has not delivered by then is late, and nobody waits for it until
it delivered in two of our rounds one after the other. Each time that it is late again, twice as
many are asked of it, so that a node which is slow now and fast then cannot hold up the others for
long. Of those for whom patience ended one round is asked at first. Whoever is not waited for is
heard all the same: what it delivers is mixed when it comes.

So one slow node costs its neighbours one grace, whatever their number of rounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

ANYBODY = ""
"""Waited for where nobody is linked."""
FIRST_TEST = 2
LONGEST_TEST = 64
"""How many rounds one after the other a late node must deliver in; in the end."""


class _Late:
    """A node that nobody waits for, and what it has shown since."""

    def __init__(self, asked: int) -> None:
        self.asked = asked
        self.shown = 0
        self.waived = True

    def again(self) -> None:
        """It was waited for, and late once more."""
        self.asked = min(2 * self.asked, LONGEST_TEST)
        self.shown, self.waived = 0, True

    def note_round(self, delivered: bool) -> None:
        """A round ended, with something new of it or without."""
        self.shown = self.shown + 1 if delivered else 0
        self.waived = self.waived and self.shown < self.asked


class Arrivals:
    """Who delivered something new (or something refused) since the last mix."""

    def __init__(self, delivered: Iterable[str] = ()) -> None:
        self.delivered = set(delivered)
        self._late: dict[str, _Late] = {}
        self._news = trio.Event()

    @property
    def waived(self) -> frozenset[str]:
        """The late ones, for whom no round waits."""
        return frozenset(node for node, late in self._late.items() if late.waived)

    def note(self, node: str) -> None:
        """A neighbour delivered."""
        self.delivered.add(node)
        self.stir()

    def stir(self) -> None:
        """Something changed that a waiting round must look at."""
        self._news.set()
        self._news = trio.Event()

    def missing(self, company: Collection[str]) -> frozenset[str]:
        """Those of the company that keep pace and have not delivered."""
        return frozenset(company) - self.delivered - self.waived

    async def wait(
        self, company: Callable[[], Collection[str]], patience_s: float, grace_s: float
    ) -> None:
        """Return when nobody is missing, or when patience or grace ends; who is missing is late.

        `company` says who may be waited for by now; it may hold `ANYBODY`, who is never late.
        """
        begun = trio.current_time()
        deadline, few_since = begun + patience_s, None
        while missing := self.missing(company()):
            if few_since is None and self._few(missing, company()):
                few_since = trio.current_time()
                deadline = min(deadline, few_since + grace_s)
            with trio.move_on_at(deadline) as limit:
                await self._news.wait()
            if limit.cancelled_caught:
                # Where patience ended they may be no slower than everybody else.
                asked = 1 if few_since is None else FIRST_TEST
                self._be_late(self.missing(company()) - {ANYBODY}, asked)
                return

    def take(self, company: Collection[str]) -> None:
        """A mix of what these delivered begins; what comes from now on is new."""
        for node in company:
            if node in self._late:
                self._late[node].note_round(node in self.delivered)
        self.delivered.clear()

    def _few(self, missing: Collection[str], company: Collection[str]) -> bool:
        """Are at most half of those that keep pace missing, or one of several?"""
        in_pace = len(frozenset(company) - self.waived)
        return len(missing) < in_pace and len(missing) <= max(1, in_pace // 2)

    def _be_late(self, nodes: Iterable[str], asked: int) -> None:
        for node in nodes:
            if node in self._late:
                self._late[node].again()
            else:
                self._late[node] = _Late(asked)
