"""Visits: a neighbour's log is taken in portions, and its word on others never costs them more
than it proves."""

from __future__ import annotations

import msgspec
import pytest
import structlog
import trio
import trio.testing
from signed_logs import SignedLog, Wires, roster_of

from konsil.node.exchange import taking
from konsil.node.exchange.visits import Visits
from konsil.node.exchange.watch import Watch
from konsil.node.store.witnessed import Witnessed
from konsil.protocol.errors import EncodingRefused, ManifestRefused, RemoteError, UnreachableError
from konsil.protocol.identity import SigningKey
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.protocol.mirror import Ask, Prove, Seen
from konsil.protocol.node_bodies import KeyRevoke, KeyRotate


class Visitor:
    """A node that visits bern and ulm."""

    def __init__(self, folder, *, strangers=(), limits=DEFAULT_LIMITS):
        self.folder, self.limits = folder, limits
        self.me, self.bern, self.ulm = (SignedLog(name) for name in ("me", "bern", "ulm"))
        self.strangers = strangers
        self.bern.grow(9)
        self.wires = Wires(self.bern, self.ulm, *strangers)
        self.start()

    def start(self):
        self.exposed, self.mirrored, self.lines = [], [], structlog.testing.CapturingLogger()
        roster = roster_of(self.folder, self.me, self.bern, self.ulm, strangers=self.strangers)
        self.roster = roster
        witnessed = Witnessed(self.folder / "witness.log")
        self.watch = Watch(roster, self.folder, witnessed, self.limits)
        self.visits = Visits(
            self.wires, roster, self.watch, self._expose, self.mirrored.append, lambda: 1_000,
            self.limits, structlog.wrap_logger(self.lines, processors=[]),
        )  # fmt: skip

    async def _expose(self, node, proof):
        self.exposed.append(node)

    async def mirror(self, log=None):
        await self.visits.mirror((log or self.bern).member)

    async def visit(self, log):
        await self.visits._call_on(log.member)

    def kept(self, log=None):
        return self.watch.kept((log or self.bern).node)

    def said(self, event):
        return [call for call in self.lines.calls if call.kwargs["event"] == event]


@pytest.fixture
def visitor(tmp_path):
    return Visitor(tmp_path)


@pytest.fixture
def small_portions(monkeypatch):
    monkeypatch.setattr(taking, "PORTION_BYTES", 1)


async def test_a_log_is_mirrored_and_nothing_asked_twice(visitor):
    await visitor.mirror()
    assert visitor.kept().mirrored == visitor.kept().newest == visitor.bern.note()
    assert visitor.mirrored == [visitor.bern.member]
    before = len(visitor.wires.asked)
    await visitor.mirror()
    assert len(visitor.wires.asked) == before + 1
    visitor.bern.grow(3)
    await visitor.mirror()
    assert (visitor.kept().size, visitor.wires.count(Prove)) == (13, 0)


async def test_a_broken_link_costs_one_portion(visitor, small_portions):
    visitor.bern.grow(500)
    visitor.wires.breaks_after = 6
    with pytest.raises(UnreachableError):
        await visitor.mirror()
    taken = visitor.kept().taken
    assert (visitor.kept().size, taken % 64) == (0, 0)
    assert taken > 0
    visitor.start()
    assert visitor.kept().taken == taken
    visitor.wires.asked.clear()
    visitor.wires.breaks_after = None
    visitor.bern.change(KeyRotate, "log")
    await visitor.mirror()
    asked = [one.first for _, one in visitor.wires.asked if isinstance(one, Ask)]
    assert min(asked) == taken
    assert visitor.kept().mirrored == visitor.bern.note()
    assert visitor.roster.keyring(visitor.bern.node) == visitor.bern.ring


async def test_each_portion_is_shown_to_be_of_the_log(visitor, small_portions):
    """Leaves of another history are noticed behind the first portion, not behind the last."""
    visitor.bern.grow(500)
    other = visitor.bern.fork(3).grow(600)
    truth = visitor.bern.leaves
    visitor.bern.leaves = other.leaves
    with pytest.raises(ManifestRefused):
        await visitor.mirror()
    assert (visitor.kept().size, visitor.kept().taken) == (0, 0)
    assert visitor.wires.count(Ask) == 1
    visitor.bern.leaves = truth
    await visitor.mirror()
    assert visitor.kept().size == 510


async def test_a_log_that_is_too_large_is_not_held_and_that_is_said_once(tmp_path, small_portions):
    limits = msgspec.structs.replace(DEFAULT_LIMITS, mirror_bytes=30_000)
    visitor = Visitor(tmp_path, limits=limits)
    visitor.bern.grow(50)
    await visitor.mirror()
    visitor.bern.grow(500)
    await visitor.mirror()
    before = len(visitor.wires.asked)
    await visitor.mirror()
    assert len(visitor.wires.asked) == before + 1, "it is not fetched again in vain"
    assert visitor.kept().size == 60
    assert visitor.kept().disk_bytes <= limits.mirror_bytes
    (told,) = visitor.said("mirror.full")
    assert (told.kwargs["peer"], told.kwargs["limit_bytes"]) == ("bern", 30_000)


@pytest.mark.parametrize("wrong", ["first", "empty", "whose", "note"])
async def test_no_wrong_page_is_believed(visitor, wrong, monkeypatch):
    answer = visitor.bern._answer

    def lie(question):
        page = answer(question)
        if not isinstance(question, Ask):
            return page
        fields = {
            "first": {"first": page.first + 1}, "empty": {"frames": b""},
            "whose": {"held": visitor.ulm.note()}, "note": {"held": b"no note"},
        }[wrong]  # fmt: skip
        return msgspec.structs.replace(page, **fields)

    monkeypatch.setattr(visitor.bern, "_answer", lie)
    with pytest.raises(RemoteError):
        await visitor.mirror()
    assert visitor.kept().size == 0


async def test_another_answer_than_fits_is_refused(visitor, monkeypatch):
    monkeypatch.setattr(visitor.bern, "_answer", lambda question: Seen(notes=()))
    with pytest.raises(EncodingRefused):
        await visitor.mirror()


async def test_a_rewritten_log_is_exposed_when_it_is_mirrored_again(visitor):
    await visitor.mirror()
    other = visitor.bern.fork(4).grow(9)
    visitor.wires.logs[visitor.bern.member.peer] = other
    with pytest.raises(ManifestRefused):
        await visitor.mirror()
    assert visitor.exposed == [visitor.bern.node]
    await visitor.visit(visitor.bern)
    assert visitor.wires.asked[-1][1].__class__ is Seen, "whoever is exposed is not mirrored"


async def test_a_forged_change_of_keys_ends_the_mirror_and_the_visit_goes_on(visitor):
    await visitor.mirror()
    visitor.bern.change(KeyRotate, "art", rec=SigningKey.from_seed(b"x" * 32))
    visitor.ulm.grow(3)
    visitor.bern.shows = [visitor.ulm.note()]
    await visitor.visit(visitor.bern)
    assert (visitor.kept().size, visitor.exposed) == (10, [])
    assert visitor.kept(visitor.ulm).newest == visitor.ulm.note()
    assert len(visitor.said("mirror.refused")) == 1


async def test_what_two_neighbours_saw_is_set_against_each_other(visitor):
    await visitor.mirror()
    other = visitor.bern.fork(4).grow(2)
    visitor.ulm.shows = [other.note()]
    await visitor.visit(visitor.ulm)
    assert (visitor.exposed, visitor.wires.count(Prove)) == ([visitor.bern.node], 0)
    visitor.start()
    with trio.move_on_after(0):
        await visitor.visits.run()
    assert visitor.exposed == [visitor.bern.node], "and again after a restart"


async def test_a_question_that_nobody_answered_is_asked_at_a_later_visit(visitor):
    await visitor.mirror()
    other = visitor.bern.fork(4).grow(20)
    visitor.bern.reachable = False
    visitor.ulm.shows = [other.note()]
    await visitor.visit(visitor.ulm)
    assert (visitor.exposed, len(visitor.watch.questions())) == ([], 1)
    visitor.start()
    visitor.ulm.shows = []
    visitor.ulm.knows = {visitor.bern.node: other}
    await visitor.visit(visitor.ulm)
    assert visitor.exposed == [visitor.bern.node]


async def test_a_checkpoint_under_a_new_key_sends_us_to_its_author_first(visitor):
    await visitor.mirror()
    visitor.bern.change(KeyRotate, "log")
    visitor.ulm.shows = [visitor.bern.note()]
    visitor.bern.reachable = False
    await visitor.visit(visitor.ulm)
    assert (visitor.kept().size, visitor.exposed, visitor.watch.questions()) == (10, [], [])
    assert visitor.watch.suspects(10**9)[visitor.bern.node] is False
    assert {*visitor.visits._errands._due} == {visitor.bern.node}
    visitor.bern.reachable = True
    await visitor.visit(visitor.bern)
    assert (visitor.kept().size, visitor.kept().newest) == (11, visitor.bern.note())
    assert visitor.said("checkpoint.refused") == []


async def test_a_fork_under_a_new_key_is_found_once_its_author_was_mirrored(visitor, nursery):
    """The shower shows it once, and nothing else brings us there again."""
    await visitor.mirror()
    visitor.bern.change(KeyRotate, "log")
    other = visitor.bern.fork(11).grow(2)
    visitor.bern.grow(3)
    visitor.visits.shown(visitor.ulm.member, [other.note()])
    visitor.visits._errands._pause_s = 0.0
    nursery.start_soon(visitor.visits.run)
    with trio.fail_after(20):
        while not visitor.exposed:
            await trio.sleep(0.01)
    nursery.cancel_scope.cancel()


async def test_nobody_waits_for_a_member_that_shows_its_log_slowly(visitor, nursery, monkeypatch):
    """A visit at an honest neighbour ends, whoever's checkpoints that one shows."""
    await visitor.mirror()
    visitor.bern.change(KeyRotate, "log")
    ask = visitor.wires.ask

    async def slow(peer, protocol, data):
        if peer == visitor.bern.member.peer:
            await trio.sleep_forever()
        return await ask(peer, protocol, data)

    monkeypatch.setattr(visitor.wires, "ask", slow)
    nursery.start_soon(visitor.mirror)
    await trio.testing.wait_all_tasks_blocked()
    visitor.ulm.grow(3)
    visitor.ulm.shows = [visitor.bern.note()]
    with trio.fail_after(5):
        await visitor.visit(visitor.ulm)
    assert visitor.kept(visitor.ulm).size == 4
    nursery.cancel_scope.cancel()


async def test_a_checkpoint_by_a_revoked_key_is_no_fork(visitor):
    stolen = visitor.bern.keys["log"]
    thief = visitor.bern.fork(10).grow(5)
    await visitor.mirror()
    visitor.ulm.shows = [thief.note(), thief.note(11)]
    visitor.ulm.knows = {visitor.bern.node: thief}
    await visitor.visit(visitor.ulm)
    assert visitor.kept().newest == thief.note()
    visitor.bern.change(KeyRevoke, "log", good=10)
    await visitor.mirror()
    visitor.ulm.shows.append(thief.note(12, stolen))
    await visitor.visit(visitor.ulm)
    assert visitor.kept().newest == visitor.bern.note()
    assert (visitor.exposed, visitor.watch.questions()) == ([], [])


async def test_a_member_that_we_never_met_is_introduced_by_whoever_shows_it(tmp_path):
    graz = SignedLog("graz").grow(3)
    visitor = Visitor(tmp_path, strangers=[graz])
    visitor.ulm.shows = [graz.note()]
    await visitor.visit(visitor.ulm)
    assert visitor.kept(graz).newest == b""
    visitor.ulm.knows = {graz.node: graz}
    await visitor.visit(visitor.ulm)
    assert visitor.kept(graz).newest == graz.note()


async def test_who_showed_something_is_visited_and_a_lost_way_there_ends_that_visit_only(
    visitor, nursery
):
    visitor.bern.reachable = False
    nursery.start_soon(visitor.visits.run)
    visitor.visits.stir(visitor.bern.member)
    visitor.visits.shown(visitor.ulm.member, [visitor.ulm.note()])
    with trio.fail_after(20):
        while visitor.kept(visitor.ulm).size == 0 or not visitor.said("visit.broken"):
            await trio.sleep(0.01)
    nursery.cancel_scope.cancel()
