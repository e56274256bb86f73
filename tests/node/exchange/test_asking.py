"""One question, one answer, in turn; a line that was lost unused is opened once more."""

from __future__ import annotations

import pytest
import trio
from signed_logs import line_ends

from konsil.node.exchange import asking
from konsil.node.exchange.asking import Line, Lines
from konsil.protocol.errors import EncodingRefused, LimitExceeded, UnreachableError
from konsil.protocol.frames import frame

MAX = 1_000


class Member:
    """Opens streams to one member, which echoes so many questions and then hangs up."""

    def __init__(self, nursery):
        self.nursery, self.opened, self.answers = nursery, 0, []

    async def open_stream(self, peer, protocol):
        if self.opened == len(self.answers):
            raise UnreachableError("nobody is there")
        ours, theirs = line_ends()
        self.nursery.start_soon(self._serve, Line(theirs, MAX), self.answers[self.opened])
        self.opened += 1
        return ours

    async def _serve(self, line, answers):
        for _ in range(answers):
            await line.answer(b"to " + await line.question())
        await line.aclose()


@pytest.fixture
def member(nursery):
    return Member(nursery)


async def test_questions_share_one_stream_and_take_turns(member):
    member.answers, lines, told = [9], Lines(member, MAX), []

    async def ask(number):
        question = b"%d" % number
        told.append((question, await lines.ask("a", "p", question)))

    async with trio.open_nursery() as asking_:
        for number in range(5):
            asking_.start_soon(ask, number)
    assert sorted(told) == [(b"%d" % n, b"to %d" % n) for n in range(5)]
    assert member.opened == 1


async def test_a_line_that_was_lost_is_opened_once_more_and_no_more_often(member):
    member.answers, lines = [1, 1, 0], Lines(member, MAX)
    assert await lines.ask("a", "p", b"1") == b"to 1"
    assert await lines.ask("a", "p", b"2") == b"to 2"
    assert member.opened == 2
    with pytest.raises(asking.BROKEN):
        await lines.ask("a", "p", b"3")
    assert member.opened == 3
    with pytest.raises(UnreachableError):
        await lines.ask("a", "p", b"4")


async def test_each_protocol_has_a_line_of_its_own(member):
    member.answers, lines = [1, 1], Lines(member, MAX)
    assert await lines.ask("a", "p", b"1") == b"to 1"
    assert await lines.ask("a", "q", b"2") == b"to 2"


async def test_silence_ends_a_question_and_its_line(autojump_clock, nursery):
    ours, _theirs = line_ends()
    began = trio.current_time()
    with pytest.raises(trio.TooSlowError):
        await Line(ours, MAX).ask(b"?")
    assert trio.current_time() - began == asking.ANSWER_S
    with pytest.raises(trio.TooSlowError):
        await Line(ours, MAX).question()
    assert trio.current_time() - began == asking.ANSWER_S + asking.IDLE_S


async def test_an_interrupted_question_leaves_nothing_for_the_next(autojump_clock, member):
    """The answer to the first question must not pass for one to the second."""
    member.answers, lines = [2, 2], Lines(member, MAX)
    with trio.CancelScope() as scope:
        scope.cancel()
        await lines.ask("a", "p", b"1")
    assert await lines.ask("a", "p", b"2") == b"to 2"


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (frame(b"1") + frame(b"2"), EncodingRefused),
        ((MAX + 1).to_bytes(4, "big"), LimitExceeded),
        (bytes(4), EncodingRefused),
        (b"", EOFError),
    ],
    ids=["two", "large", "empty", "end"],
)
async def test_what_is_not_one_answer_is_refused(sent, error):
    ours, theirs = line_ends()
    if sent:
        await theirs.send_all(sent)
    await theirs.send_eof()
    with pytest.raises(error):
        await Line(ours, MAX).question()


async def test_an_answer_may_come_in_pieces():
    ours, theirs = line_ends()
    for byte in frame(b"an answer"):
        await theirs.send_all(bytes([byte]))
    assert await Line(ours, MAX).ask(b"?") == b"an answer"
