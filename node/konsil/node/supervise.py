"""Restart a service that crashed, with backoff and a budget; then let it fail.

Every exception of a service is caught here, logged and counted. A service that keeps crashing
is raised to its parent, so that nothing spins unseen. Cancellation passes untouched, and so do
the errors of our own disk, also from inside a service's nursery: a node that cannot write its
ledger, or whose ledger does not verify, must stop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec
import trio

from konsil.protocol.errors import StorageError, VerificationError

if TYPE_CHECKING:
    from konsil.node.log import Log

Service = Callable[[], Awaitable[None]]


class RestartPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how fast a service may be restarted. Times in seconds."""

    budget: int = 5
    """Restarts within `window_s`; one more crash is raised."""
    window_s: float = 60.0
    first_delay_s: float = 0.1
    longest_delay_s: float = 5.0


async def supervise(
    name: str, service: Service, log: Log, policy: RestartPolicy | None = None
) -> None:
    """Run `service` until it returns; restart it when it raises.

    Raises the service's last exception when the budget is spent.
    """
    rule = policy or RestartPolicy()
    crashes: list[float] = []
    delay = rule.first_delay_s
    while True:
        try:
            await service()
            return
        except Exception as error:
            if _fatal(error):
                raise
            now = trio.current_time()
            crashes = [at for at in crashes if now - at < rule.window_s] + [now]
            log.error("service.crashed", service=name, error=repr(error), crashes=len(crashes))
            if len(crashes) > rule.budget:
                raise
            delay = (
                rule.first_delay_s if len(crashes) == 1 else min(delay * 2, rule.longest_delay_s)
            )
        await trio.sleep(delay)


def _fatal(error: BaseException) -> bool:
    """Is this, or something in this group, an error of our own disk?"""
    if isinstance(error, BaseExceptionGroup):
        return any(_fatal(part) for part in error.exceptions)
    return isinstance(error, (StorageError, VerificationError))
