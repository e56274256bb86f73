"""Where exceptions caused by a peer's bytes stop.

Stock py-libp2p 0.8.1 lets one malformed message, or one raising handler, end the whole host.
Every entry point that a peer can reach runs inside `Guard.contain` instead.

Invariants: `Cancelled` always passes; nothing here decides about trust.
"""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from libp2p.stream_muxer.yamux.yamux import Yamux

from konsil.node.transports.libp2p_conduct import Conduct

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from libp2p.abc import INetStream

    from konsil.node.log import Log

STREAMS_PER_PEER = 64
"""Streams that one member may hold open towards us."""


class Guard:
    """Contains and counts exceptions; logs each kind less and less often (1, 2, 4, 8, …)."""

    def __init__(self, log: Log, now_s: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._conduct = Conduct()
        self._log = log
        self._now_s = now_s

    def score(self, peer: str) -> float:
        """How a peer has behaved towards our transport: 0, or less."""
        return self._conduct.score(peer, self._now_s())

    def note(self, where: str, peer: str, error: BaseException) -> None:
        """Count an exception at a place and for a peer (empty: unknown), and log it."""
        self.counts[where, peer] += 1
        self._conduct.note(where, peer, self._now_s())
        count = self.counts[where, peer]
        if count & (count - 1) == 0:
            self._log.warning(
                "transport.contained", where=where, peer=peer, count=count, error=repr(error)
            )

    async def contain(
        self,
        where: str,
        peer: str,
        step: Callable[[], Awaitable[None]],
        *,
        expected: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Run `step`; False when it raised. Cancellation passes.

        Not counted when `expected` says that anything may raise now: the connection is gone.
        """
        try:
            await step()
        except Exception as error:  # noqa: BLE001  # the boundary towards other people's bytes
            if not expected():
                self.note(where, peer, error)
            return False
        return True


def is_lost(stream: INetStream) -> bool:
    """Whether the connection below a stream is closing or closed."""
    muxed = stream.muxed_conn
    return muxed.is_closed or (isinstance(muxed, Yamux) and muxed.event_shutting_down.is_set())


class StreamGuard:
    """Runs every incoming stream contained, and bounds how many one peer holds open."""

    def __init__(self, guard: Guard, inner: Callable[[INetStream], Awaitable[None]]) -> None:
        self._guard = guard
        self._inner = inner
        self._open: Counter[str] = Counter()

    async def __call__(self, stream: INetStream) -> None:
        """Handle one stream; reset it when its handler raises or its peer has too many."""
        peer = str(stream.muxed_conn.peer_id)
        if self._open[peer] >= STREAMS_PER_PEER:
            await self._guard.contain("reset", peer, stream.reset)
            return
        self._open[peer] += 1
        try:
            step = partial(self._inner, stream)
            lost = partial(is_lost, stream)
            if not await self._guard.contain("stream", peer, step, expected=lost):
                await self._guard.contain("reset", peer, stream.reset)
        finally:
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]
