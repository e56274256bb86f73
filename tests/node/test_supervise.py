"""The supervisor restarts with backoff, spends its budget, and never hides a broken disk."""

import itertools

import pytest
import structlog
import trio

from konsil.node.supervise import RestartPolicy, supervise
from konsil.protocol.errors import StorageError, VerificationError

LOG = structlog.get_logger()


def crashing(times, calls, error=RuntimeError):
    async def service():
        calls.append(trio.current_time())
        if len(calls) <= times:
            raise error("crash")

    return service


async def test_a_service_that_returns_is_not_restarted(autojump_clock):
    calls = []
    await supervise("x", crashing(0, calls), LOG)
    assert len(calls) == 1


async def test_crashes_are_restarted_ever_more_slowly(autojump_clock):
    calls = []
    await supervise("x", crashing(4, calls), LOG, RestartPolicy(first_delay_s=1, longest_delay_s=4))
    waits = [round(b - a, 3) for a, b in itertools.pairwise(calls)]
    assert waits == [1, 2, 4, 4]


async def test_the_budget_ends_it_with_the_last_exception(autojump_clock):
    calls = []
    with pytest.raises(RuntimeError, match="crash"):
        await supervise("x", crashing(100, calls), LOG, RestartPolicy(budget=3))
    assert len(calls) == 4


async def test_slow_crashes_never_spend_the_budget(autojump_clock):
    calls = []

    async def service():
        calls.append(1)
        await trio.sleep(100)
        if len(calls) < 20:
            raise RuntimeError

    await supervise("x", service, LOG, RestartPolicy(budget=2, window_s=60))
    assert len(calls) == 20


async def test_a_storage_error_is_raised_at_once(autojump_clock):
    calls = []
    with pytest.raises(StorageError):
        await supervise("x", crashing(100, calls, StorageError), LOG)
    assert len(calls) == 1


async def test_cancellation_passes(autojump_clock):
    async def forever():
        await trio.sleep_forever()

    with trio.move_on_after(1) as scope:
        await supervise("x", forever, LOG)
    assert scope.cancelled_caught


@pytest.mark.parametrize("error", [StorageError, VerificationError])
async def test_a_broken_disk_inside_a_nursery_is_raised_at_once_too(error, autojump_clock):
    calls = []

    async def service():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crashing(100, calls, error))

    with pytest.RaisesGroup(error):
        await supervise("x", service, LOG)
    assert len(calls) == 1
