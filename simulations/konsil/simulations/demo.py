"""One run of a consortium from plan to facts: start, watch, stop, read, measure.

Nothing here learns or judges: the daemons do. This module watches them from outside, as any
operator could, and afterwards reads what they left on disk.
"""

from __future__ import annotations

import contextlib
import signal
import time
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol.errors import GoalMissed, KonsilError
from konsil.simulations import gather
from konsil.simulations.consortium import Consortium, Daemon, first_failure
from konsil.simulations.facts import RunFacts
from konsil.simulations.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import FrameType

    from konsil.simulations.consortium import Sight
    from konsil.simulations.plan import Kill, Plan

LOOK_EVERY_S = 0.3


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A finished run: its facts, and the error that ended it early, if any."""

    facts: RunFacts
    error: KonsilError | None


def run(
    plan: Plan, kill: Kill | None, out: Path, *, keep_running: bool, tell: Callable[[str], None]
) -> Outcome:
    """Run the daemons to their end and return everything that is known of the run.

    Leaves no process behind, whatever happens, unless `keep_running` and the run succeeded.
    """
    began, started_ms = time.monotonic(), time.time_ns() // 1_000_000
    with interruptible(), Consortium(plan, out) as consortium:
        nodes = consortium.create()
        consortium.start(stay=keep_running)
        with Progress(plan) as progress:
            error = watch(consortium, kill, progress)
        stays = keep_running and error is None
        if not stays:
            consortium.stop()
        tell("reading the ledgers and measuring the models")
        facts = gather.facts(consortium, nodes, started_ms, error)
        if stays:
            consortium.release()
    return Outcome(
        facts=msgspec.structs.replace(facts, wall_s=time.monotonic() - began), error=error
    )


def watch(
    consortium: Consortium,
    kill: Kill | None,
    progress: Progress,
    act: Callable[[Mapping[str, Sight]], bool] | None = None,
) -> KonsilError | None:
    """Look until every live daemon is idle; the error that ended the run early, if any.

    `act` is shown every look. It may dismiss and start daemons, and tells whether there is more
    for it to do, which is then waited for.
    """
    plan = consortium.plan
    deadline = time.monotonic() + plan.limit_s
    while True:
        sights = consortium.look()
        if kill is not None and sights[kill.name].round >= kill.round:
            consortium.kill(kill.name)
            progress.say(f"killed {kill.name} in round {sights[kill.name].round}")
            kill = None
        more = act is not None and act(sights)
        progress.show(sights, consortium.killed)
        failure = first_failure(consortium.daemons.values())
        if failure is not None:
            return failure
        live = [daemon for daemon in consortium.daemons.values() if daemon.killed_at is None]
        done = all(daemon.sight.phase == "idle" for daemon in live) or _left_alone(live)
        if done and not more:
            return None
        if time.monotonic() > deadline:
            return GoalMissed(
                f"not all hospitals were done after {plan.limit_s:.0f} s: {_laggards(live)}",
                hint=f"their logs: {consortium.out}/*/node.log",
            )
        time.sleep(LOOK_EVERY_S)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind like Ctrl-C does, so that the daemons are stopped."""

    def unwind(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    old = {number: signal.signal(number, unwind) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _left_alone(live: list[Daemon]) -> bool:
    """Whether only one is left, which waits for company that will not come."""
    return len(live) == 1 and live[0].sight.phase == "connecting" and live[0].sight.round > 0


def _laggards(live: list[Daemon]) -> str:
    late = [daemon for daemon in live if daemon.sight.phase != "idle"]
    return ", ".join(f"{d.hospital.name} is {d.sight.phase} in round {d.sight.round}" for d in late)
