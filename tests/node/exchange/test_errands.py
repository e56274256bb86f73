"""One errand at a time at each member, whatever is stirred meanwhile."""

from __future__ import annotations

import pytest
import trio

from konsil.node.exchange.errands import Errands
from konsil.protocol.members import Member

A, B = (Member(name=name, node=name * 32, peer=name, addresses=()) for name in "ab")


class Diary:
    """When each errand began; an errand takes a second."""

    def __init__(self, pause_s=0.0):
        self.began, self.fails = [], False
        self.errands = Errands(self._errand, pause_s)

    async def _errand(self, member):
        self.began.append((member.name, trio.current_time()))
        if self.fails:
            raise RuntimeError
        await trio.sleep(1)

    def times(self, name):
        return [at for found, at in self.began if found == name]


async def test_what_is_stirred_meanwhile_is_one_more_errand_behind_the_pause(
    autojump_clock, nursery
):
    diary = Diary(pause_s=5)
    nursery.start_soon(diary.errands.run)
    began = trio.current_time()
    for _ in range(10):
        diary.errands.stir(A)
        await trio.sleep(0.5)
    diary.errands.stir(B)
    await trio.sleep(60)
    assert [at - began for at in diary.times("a")] == [0, 6]
    assert [at - began for at in diary.times("b")] == [5], "nobody waits for another member"


async def test_what_an_errand_raises_ends_the_service_which_can_run_again(autojump_clock, nursery):
    diary = Diary()
    diary.fails = True
    diary.errands.stir(A)
    with pytest.raises(ExceptionGroup):
        await diary.errands.run()
    diary.fails = False
    nursery.start_soon(diary.errands.run)
    diary.errands.stir(A)
    await trio.sleep(3)
    assert len(diary.times("a")) == 2
