"""What a member is shown of logs: ours as far as it may see, another's own, and proofs."""

from __future__ import annotations

import msgspec
import pytest
import structlog
import trio
from ledgers import Hospital
from signed_logs import SignedLog, line_ends, roster_of

from konsil.node.exchange.asking import Line
from konsil.node.exchange.mirroring import Mirroring
from konsil.node.exchange.watch import Watch
from konsil.node.store.witnessed import Witnessed
from konsil.protocol import merkle, mirror
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.protocol.mirror import Ask, Prove, Proven, Seen

MAX = DEFAULT_LIMITS.message_bytes


class House:
    """A node that mirrors bern and has met ulm."""

    def __init__(self, folder):
        self.own = Hospital(folder / "own", "me")
        self.me, self.bern, self.ulm = (SignedLog(name) for name in ("me", "bern", "ulm"))
        self.bern.grow(600)
        self.me.node, self.me.author = self.own.node, self.own.author
        self.me.member = msgspec.structs.replace(self.me.member, node=self.own.node)
        roster = roster_of(folder, self.me, self.bern, self.ulm)
        self.watch = Watch(roster, folder, Witnessed(folder / "witness.log"), DEFAULT_LIMITS)
        self.watch.take(self.bern.node, self.bern.leaves)
        self.watch.hold(self.bern.node, self.bern.note(), due=1, now=1)
        self.shown, self.lines = [], structlog.testing.CapturingLogger()
        self.mirroring = Mirroring(
            roster, self.own.journal, self.watch,
            lambda member, notes: self.shown.append((member.name, [*notes])), DEFAULT_LIMITS,
            structlog.wrap_logger(self.lines, processors=[]),
        )  # fmt: skip

    async def told(self, asker, *questions):
        """The answers to one member's questions, all on one stream."""
        ours, theirs = line_ends()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.mirroring.answer, asker.member.peer, theirs)
            line, answers = Line(ours, MAX), []
            for question in questions:
                data = question if isinstance(question, bytes) else mirror.pack(question)
                answers.append(mirror.read_answer(await line.ask(data)))
            await ours.aclose()
        return answers


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path)
    yield house
    house.own.close()


def leaves_of(page):
    return [leaf for _, leaf in mirror.read_page(page.frames, page.first)]


async def test_our_own_log_is_shown_without_what_is_not_for_the_asker(house):
    house.own.train()
    house.own.publish()
    (page,) = await house.told(house.bern, Ask(node=house.own.node, first=0))
    found = leaves_of(page)
    head = house.own.journal.open_checkpoint(page.held)
    assert merkle.root_of([leaf.leaf for leaf in found]) == head.root
    assert [leaf.entry is None for leaf in found] == [False, True, True, False]


async def test_anothers_log_is_shown_to_itself_and_its_first_entry_to_anybody(house):
    ask = Ask(node=house.bern.node, first=590)
    (page,) = await house.told(house.bern, ask)
    assert leaves_of(page) == house.bern.leaves[590:]
    (page,) = await house.told(house.ulm, ask)
    assert (page.frames, page.held, page.size) == (b"", house.bern.note(), 601)
    (page,) = await house.told(house.ulm, Ask(node=house.bern.node, first=0))
    assert leaves_of(page) == house.bern.leaves[:1]
    (page,) = await house.told(house.ulm, Ask(node=house.ulm.node, first=0))
    assert (page.note, page.held, page.size, page.frames) == (b"", b"", 0, b"")


async def test_what_is_taken_and_not_signed_for_is_shown_to_nobody(house):
    house.bern.grow(5)
    house.watch.take(house.bern.node, house.bern.leaves[601:])
    page, proven = await house.told(
        house.bern,
        Ask(node=house.bern.node, first=600),
        Prove(node=house.bern.node, old=5, size=603),
    )
    assert (page.size, leaves_of(page)) == (601, house.bern.leaves[600:601])
    assert proven == Proven(root=None, hashes=())


async def test_proofs_about_any_log_are_for_anybody(house):
    bern = house.bern
    house.own.journal.sign_checkpoint()
    mine = Prove(node=house.own.node, old=1, size=house.own.journal.size)
    proven, own, beyond, unknown = await house.told(
        house.ulm,
        Prove(node=bern.node, old=300, size=601),
        mine,
        Prove(node=bern.node, old=300, size=602),
        Prove(node=house.ulm.node, old=1, size=1),
    )
    assert (proven.root, list(proven.hashes)) == (
        bern.tree.root(300), bern.tree.consistency(300, 601),
    )  # fmt: skip
    assert own.root == house.own.journal.root_at(1)
    assert beyond == unknown == Proven(root=None, hashes=())


async def test_only_news_is_handed_on(house):
    old, news = house.bern.note(9), house.ulm.note()
    (told,) = await house.told(house.ulm, Seen(notes=(old, news, b"no note")))
    assert told.notes == (house.bern.note(),)
    assert house.shown == [("ulm", [news])]


NO_QUESTIONS = [b"\xc0", b"\x81\xa1t\xa4seen", mirror.pack(Proven(root=None, hashes=()))]


@pytest.mark.parametrize("data", NO_QUESTIONS, ids=["nil", "bare", "answer"])
async def test_no_other_question_is_answered(house, data):
    ours, theirs = line_ends()
    await Line(ours, MAX).answer(data)
    await house.mirroring.answer(house.ulm.member.peer, theirs)
    (told,) = house.lines.calls
    assert told.kwargs["event"] == "mirror.refused"
    await house.mirroring.answer("a stranger", line_ends()[0])
