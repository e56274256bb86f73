"""Our own log comes back whole when anybody shows a body, and nothing else comes back with it.

Scripted neighbours, honest and hostile; the logs are real.
"""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import msgspec
import pytest
import structlog
import trio
from ledgers import Hospital, word_of_redaction

from konsil.node.exchange import regaining
from konsil.node.exchange import vouching as vouching_module
from konsil.node.exchange.regaining import Regaining, lost_bodies, spans
from konsil.node.exchange.vouching import Vouching
from konsil.node.store.journal import Journal
from konsil.protocol import checkpoint, entries, merkle, mirror, note
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.errors import ConfigError, UnreachableError, VerificationError
from konsil.protocol.identity import KeySet, SigningKey
from konsil.protocol.keyring import Change
from konsil.protocol.learning_bodies import ModelBase
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.protocol.members import Member
from konsil.protocol.mirror import Leaf, Page, Prove, Proven
from konsil.protocol.node_bodies import NodeBoot, PeerSuspect, Span
from konsil.protocol.note import sign as sign_note

LOG = structlog.wrap_logger(structlog.ReturnLogger())
D = bytes(32)


class Neighbour:
    """Shows a log as its own mirror of it; keeps the bodies of `withheld` to itself."""

    def __init__(self, journal, withheld=()):
        self.journal, self.withheld = journal, set(withheld)
        self.note, self.size = journal.sign_checkpoint(), journal.size

    def leaves(self, first):
        kept = self.journal.leaves(first, self.size - first)
        return [
            Leaf(None if index in self.withheld else leaf.entry, leaf.leaf)
            for index, leaf in enumerate(kept, first)
        ]

    async def answer(self, question):
        if isinstance(question, Prove):
            hashes = self.journal.consistency(question.old, question.size)
            return Proven(root=self.journal.root_at(question.old), hashes=tuple(hashes))
        frames = mirror.page(self.leaves(question.first))
        return Page(
            note=self.note, held=self.note, size=self.size, first=question.first, frames=frames
        )


class Forger(Neighbour):
    """Every leaf is another one, under our genuine signature."""

    def leaves(self, first):
        return [Leaf(None, bytes(reversed(leaf.leaf))) for leaf in super().leaves(first)]


class Inventor(Neighbour):
    """Entries of its own making, whole and more than there are, under a note that nobody signed."""

    def __init__(self, journal):
        super().__init__(journal)
        self.size += 10
        text = checkpoint.to_text(Checkpoint(origin=journal.author.origin, size=self.size, root=D))
        self.note = note.sign(text, [(journal.author.origin, SigningKey.from_seed(bytes(32)))])

    def leaves(self, first):
        made = [
            entries.encode(
                entries.entry(
                    ModelBase(model=D, source="", licence="", note=""),
                    index=index, time_ms=1, salt=bytes(16), charter=D,
                )
            )
            for index in range(first, self.size)
        ]  # fmt: skip
        return [Leaf(data, merkle.leaf_hash(data)) for data in made]


class Late(Neighbour):
    """Takes its time."""

    async def answer(self, question):
        await trio.sleep(1)
        return await super().answer(question)


class Stalling(Neighbour):
    """Never answers."""

    async def answer(self, question):
        await trio.sleep_forever()


class Gone(Neighbour):
    """Its connection breaks at every question."""

    async def answer(self, question):
        raise UnreachableError("gone")


class Endless(Neighbour):
    """Says that there is no end of leaves, and shows as many as one page holds, or fewer."""

    def __init__(self, journal, most=None, note=None):
        super().__init__(journal)
        self.most, self.pages = most, 0
        if note is None:
            text = checkpoint.to_text(Checkpoint(origin=journal.author.origin, size=2**40, root=D))
            key = SigningKey.from_seed(D)
            note = sign_note(text, [(journal.author.origin, key)])
        self.note = note

    async def answer(self, question):
        if isinstance(question, Prove):
            return Proven(root=D, hashes=())
        self.pages += 1
        await trio.sleep(0.01 if self.most else 0)
        frames = mirror.page([Leaf(None, b"x" * 32)] * (self.most or 8))
        return Page(note=self.note, held=self.note, size=2**40, first=question.first, frames=frames)


class Lines:
    """Lines to scripted neighbours, by peer."""

    def __init__(self, neighbours):
        self.neighbours = neighbours
        self.asked = []

    async def ask(self, peer, protocol, question):
        self.asked.append(peer)
        asked = mirror.read_question(question, limits=DEFAULT_LIMITS)
        return mirror.pack(await self.neighbours[peer].answer(asked))


@pytest.fixture
def log(tmp_path):
    """A hospital with four artifacts, and its journal as it was after the first of them."""
    bern = Hospital(tmp_path, "bern")
    bern.train()
    bern.publish()
    bern.journal.sign_checkpoint()
    shutil.copytree(bern.home / "ledger", tmp_path / "old")
    for _ in range(3):
        bern.train()
        bern.publish()
    old = Journal.open(tmp_path / "old", bern.keys, bern.clock, bern.draw.randbytes)
    yield bern, old
    old.close(sign=False)
    bern.close()


async def regain(bern, old, *neighbours, expected=None, limits=DEFAULT_LIMITS):
    members = [
        Member(name=f"n{at}", node="a" * 31 + "bcdefg"[at], peer=f"peer{at}", addresses=())
        for at in range(len(neighbours))
    ]
    lines = Lines({one.peer: shown for one, shown in zip(members, neighbours, strict=True)})
    service = Regaining(lines, bern.node, old, limits, LOG)
    await service.run(lambda: members, len(neighbours) if expected is None else expected)
    return lines


def bodies(journal):
    return [leaf.entry for leaf in journal.leaves(0, journal.size)]


async def test_one_honest_neighbour_gives_everything_back(log):
    bern, old = log
    await regain(bern, old, Neighbour(bern.journal))
    assert (old.size, old.root) == (bern.journal.size, bern.journal.root)
    assert bodies(old) == bodies(bern.journal)
    assert lost_bodies(old) == []


@pytest.mark.parametrize("first", ["hostile", "honest"])
async def test_what_one_withholds_another_shows(log, first):
    bern, old = log
    neighbours = [Neighbour(bern.journal, range(100)), Neighbour(bern.journal)]
    await regain(bern, old, *(neighbours if first == "hostile" else reversed(neighbours)))
    assert bodies(old) == bodies(bern.journal)


async def test_bodies_come_together_from_several(log):
    bern, old = log
    size = bern.journal.size
    await regain(
        bern, old, Neighbour(bern.journal, range(0, size, 2)),
        Neighbour(bern.journal, range(1, size, 2)),
    )  # fmt: skip
    assert bodies(old) == bodies(bern.journal)


async def test_a_shorter_copy_fills_a_longer_one(log):
    bern, old = log
    behind = Neighbour(bern.journal)
    shown = bern.journal.size
    bern.train()
    ahead = Neighbour(bern.journal, range(shown))
    await regain(bern, old, ahead, behind)
    assert bodies(old) == bodies(bern.journal)


async def test_what_nobody_shows_is_lost_and_nothing_more(log):
    bern, old = log
    first, size = old.size, bern.journal.size
    await regain(bern, old, *[Neighbour(bern.journal, [first, size - 2, size - 1])] * 2)
    assert old.root == bern.journal.root
    assert lost_bodies(old) == spans([first, size - 2, size - 1])


async def test_one_that_never_answers_is_waited_for_a_while_only(log, autojump_clock):
    bern, old = log
    began = trio.current_time()
    await regain(bern, old, Neighbour(bern.journal, [old.size]), Stalling(bern.journal))
    assert old.root == bern.journal.root
    assert trio.current_time() - began >= regaining.OTHERS_S


async def test_nobody_waits_when_no_body_is_missing(log, autojump_clock):
    bern, old = log
    began = trio.current_time()
    await regain(bern, old, Neighbour(bern.journal), Stalling(bern.journal))
    assert bodies(old) == bodies(bern.journal)
    assert trio.current_time() - began < regaining.OTHERS_S


async def test_a_neighbour_that_comes_late_is_asked_too(log, autojump_clock):
    bern, old = log
    hostile, honest = (
        Member(name=name, node="a" * 31 + name, peer=name, addresses=()) for name in "bc"
    )
    lines = Lines({"b": Neighbour(bern.journal, range(100)), "c": Neighbour(bern.journal)})
    comes = trio.current_time() + regaining.OTHERS_S / 2

    def reachable():
        return [hostile, honest] if trio.current_time() >= comes else [hostile]

    await Regaining(lines, bern.node, old, DEFAULT_LIMITS, LOG).run(reachable, 2)
    assert bodies(old) == bodies(bern.journal)


async def test_leaves_that_do_not_lead_to_our_signature_are_refused(log):
    bern, old = log
    await regain(bern, old, Forger(bern.journal), Gone(bern.journal), Neighbour(bern.journal))
    assert bodies(old) == bodies(bern.journal)


async def test_a_fast_forger_does_not_outrun_an_honest_neighbour(log, autojump_clock):
    bern, old = log
    await regain(bern, old, Inventor(bern.journal), Late(bern.journal))
    assert bodies(old) == bodies(bern.journal)


async def test_a_forger_holds_nobody_up_for_one_that_cannot_be_reached(log, monkeypatch):
    monkeypatch.setattr(regaining, "OTHERS_S", 0.1)
    bern, old = log
    before = old.size
    with trio.fail_after(60):
        await regain(bern, old, Inventor(bern.journal), expected=2)
    assert old.size == before


async def test_little_is_taken_that_nobody_signed(log, monkeypatch):
    monkeypatch.setattr(regaining, "PORTION_BYTES", 1000)
    limits = msgspec.structs.replace(DEFAULT_LIMITS, unsigned_bytes=3000, mirror_bytes=10**6)
    bern, old = log
    liar = Endless(bern.journal)
    await regain(bern, old, liar, Neighbour(bern.journal), limits=limits)
    assert bodies(old) == bodies(bern.journal)
    await regain(bern, old, liar, limits=limits)
    page_bytes = 8 * 34
    assert liar.pages * page_bytes < 2 * (3000 + page_bytes)


async def test_what_leads_to_no_signature_of_ours_is_not_taken_to_its_end(log, monkeypatch):
    """The checkpoint is ours and about very much; the leaves are not."""
    monkeypatch.setattr(regaining, "PORTION_BYTES", 1000)
    bern, old = log
    head = Checkpoint(origin=bern.journal.author.origin, size=2**40, root=D)
    liar = Endless(bern.journal, note=checkpoint.sign(head, bern.keys["log"]))
    limits = msgspec.structs.replace(DEFAULT_LIMITS, mirror_bytes=10**6)
    await regain(bern, old, liar, Neighbour(bern.journal), limits=limits)
    assert bodies(old) == bodies(bern.journal)
    assert liar.pages < 10


async def test_one_that_shows_leaf_by_leaf_what_nobody_signed_is_left(log, monkeypatch):
    monkeypatch.setattr(regaining, "UNSIGNED_S", 0.1)
    bern, old = log
    before = old.size
    with trio.fail_after(60):
        await regain(bern, old, Endless(bern.journal, most=1))
    assert old.size == before


async def test_a_long_log_comes_back_in_portions_that_are_proven(log, monkeypatch):
    monkeypatch.setattr(regaining, "PORTION_BYTES", 1000)
    monkeypatch.setattr(mirror, "PAGE_BYTES", 500)
    bern, old = log
    proven = []

    class Proving(Neighbour):
        async def answer(self, question):
            if isinstance(question, Prove):
                proven.append(question.old)
            return await super().answer(question)

    first = old.size
    await regain(bern, old, Proving(bern.journal))
    assert bodies(old) == bodies(bern.journal)
    assert proven
    assert all(first < size < old.size for size in proven)


async def test_another_history_is_found_in_its_first_portion(log, monkeypatch):
    monkeypatch.setattr(regaining, "PORTION_BYTES", 1000)
    monkeypatch.setattr(mirror, "PAGE_BYTES", 500)
    bern, old = log
    old.append([msgspec.structs.replace(bern.journal.entry(1).b, note="another")])
    with pytest.raises(VerificationError, match="are not these"):
        await regain(bern, old, Neighbour(bern.journal))


async def test_liars_alone_change_nothing(log):
    bern, old = log
    before = old.size
    await regain(bern, old, Forger(bern.journal), Gone(bern.journal))
    assert old.size == before


async def test_another_history_under_our_signature_ends_the_start(log):
    bern, old = log
    old.append([msgspec.structs.replace(bern.journal.entry(1).b, note="another")])
    before = old.checkpoint
    with pytest.raises(VerificationError, match="are not these"):
        await regain(bern, old, Neighbour(bern.journal))
    assert old.checkpoint == before


def boot(journal, lost=()):
    return NodeBoot(software=D, size=journal.size, root=journal.root, peers=[], lost=[*lost])


async def test_a_stop_between_taking_back_and_saying_so_is_no_harm(log):
    """What is lost is told by the log, not by the memory of whoever took it back."""
    bern, old = log
    first = old.size
    await regain(bern, old, Neighbour(bern.journal, [first, first + 1]))
    old.close(sign=False)
    again = Journal.open(old.folder, bern.keys, bern.clock, bern.draw.randbytes)
    assert lost_bodies(again) == [Span(first=first, last=first + 1)]
    again.append([boot(again, lost_bodies(again))])
    assert lost_bodies(again) == []
    again.close(sign=False)


async def test_a_start_counts_nothing_as_lost_that_was_redacted(log):
    bern, old = log
    gone = bern.journal.size
    bern.journal.append([PeerSuspect(node="b" * 32, kind="late", evidence=None)])
    await regain(bern, old, Neighbour(bern.journal, [gone]))
    word = word_of_redaction(bern.journal, gone)
    old.append([msgspec.structs.replace(word, kind="peer.clear")])
    assert lost_bodies(old) == [Span(first=gone, last=gone)]
    old.append([word])
    assert lost_bodies(old) == []


def test_numbers_become_spans():
    assert spans([]) == []
    assert spans([3, 4, 5, 9]) == [Span(first=3, last=5), Span(first=9, last=9)]


def changed(bern):
    """A new log key is in force, and signs for all that there is; the new key."""
    fresh = SigningKey.from_seed(bern.draw.randbytes(32))
    bern.journal.change_key(Change(role="log", new=fresh, rec=bern.keys["rec"], reason="routine"))
    for _ in range(2):
        bern.train()
        bern.publish()
        bern.journal.sign_checkpoint()
    return fresh


def behind(bern, folder, **options):
    return Journal.open(folder, bern.keys, bern.clock, bern.draw.randbytes, **options)


def vouching(bern, journal, *neighbours):
    members = {
        f"peer{at}": Member(
            name=f"n{at}", node="a" * 31 + "bcdefg"[at], peer=f"peer{at}", addresses=()
        )
        for at in range(len(neighbours))
    }
    lines = Lines(dict(zip(members, neighbours, strict=True)))
    transport = SimpleNamespace(connected=lambda: frozenset(members))
    roster = SimpleNamespace(me=SimpleNamespace(node=bern.node), peer=members.get)
    return Vouching(transport, lines, roster, journal, DEFAULT_LIMITS, LOG)


async def vouch(bern, journal, *neighbours):
    return await vouching(bern, journal, *neighbours).run(len(neighbours), float("inf"))


async def test_a_key_that_changed_after_the_backup_comes_back_with_the_log(log):
    bern, old = log
    fresh = changed(bern)
    old.close(sign=False)
    again = behind(bern, old.folder, following={"log": fresh})
    said = await vouch(bern, again, Neighbour(bern.journal), Neighbour(bern.journal))
    assert (again.size, again.root) == (bern.journal.size, bern.journal.root)
    assert {one.size for one in said.peers} == {again.size}
    assert again.keys["log"].public == fresh.public
    again.close(sign=False)


async def test_what_a_newer_key_of_ours_signed_is_asked_for_until_it_is_here(log, monkeypatch):
    """The home's keys are newer than its log, and the only neighbour's link breaks at first."""
    monkeypatch.setattr(vouching_module, "AGAIN_S", 0.01)
    bern, old = log
    fresh = changed(bern)
    old.close(sign=False)
    keys = KeySet({**bern.keys.keys, "log": fresh})
    again = Journal.open(old.folder, keys, bern.clock, bern.draw.randbytes)

    class Breaking(Neighbour):
        answers = 0

        async def answer(self, question):
            self.answers += 1
            if self.answers == 2:
                raise UnreachableError("gone")
            return await super().answer(question)

    with trio.fail_after(60):
        await vouch(bern, again, Breaking(bern.journal))
    assert (again.size, again.root) == (bern.journal.size, bern.journal.root)
    again.close(sign=False)


async def test_a_changed_key_is_found_among_many_portions(log, monkeypatch):
    monkeypatch.setattr(regaining, "PORTION_BYTES", 500)
    monkeypatch.setattr(mirror, "PAGE_BYTES", 500)
    bern, old = log
    fresh = changed(bern)
    old.close(sign=False)
    again = behind(bern, old.folder, following={"log": fresh})
    await vouch(bern, again, Neighbour(bern.journal), Neighbour(bern.journal))
    assert (again.size, again.root) == (bern.journal.size, bern.journal.root)
    again.close(sign=False)


async def test_without_the_new_key_nothing_is_signed(log):
    bern, old = log
    changed(bern)
    size, note = old.size, old.checkpoint
    with pytest.raises(ConfigError):
        await vouch(bern, old, Neighbour(bern.journal), Neighbour(bern.journal))
    assert (old.size, old.checkpoint) == (size, note)


async def test_a_note_that_nobody_can_read_holds_nobody_up(log):
    """A liar makes one up; who shows what we know vouches."""
    bern, old = log

    class Inventive(Neighbour):
        async def answer(self, question):
            page = await super().answer(question)
            note = page.note[:-20] + b"A" * 19 + page.note[-1:]
            return msgspec.structs.replace(page, note=note, held=note)

    said = await vouch(bern, old, Inventive(bern.journal), Neighbour(old))
    assert {one.size for one in said.peers} == {old.size}


def revoked(bern, good):
    """The log key is revoked from `good` on."""
    fresh = SigningKey.from_seed(bern.draw.randbytes(32))
    change = Change(role="log", new=fresh, rec=bern.keys["rec"], reason="stolen", void_from=good)
    bern.journal.change_key(change)


async def test_what_a_revoked_key_signed_vouches_where_it_is_our_log(log):
    """The key was revoked while nobody could be reached: the peers know of it from us only."""
    bern, old = log
    behind = Neighbour(bern.journal)
    revoked(bern, old.size)
    with trio.fail_after(60):
        said = await vouch(bern, bern.journal, behind, behind)
    assert {one.size for one in said.peers} == {behind.size}
    assert behind.size > old.size


@pytest.mark.parametrize("more", [1, 40])
async def test_what_a_thief_signed_with_a_revoked_key_holds_nobody_up(log, more):
    bern, old = log
    good = old.size
    (bern.journal.folder / "cosigned").write_bytes(old.checkpoint)
    old.append([msgspec.structs.replace(bern.journal.entry(1).b, note="another")] * more)
    thief = Neighbour(old)
    revoked(bern, good)
    assert bern.journal.cosigned_size == good
    assert (thief.size < bern.journal.size) == (more == 1)
    before = bern.journal.root
    with trio.fail_after(60):
        said = await vouch(bern, bern.journal, thief, thief)
    assert {one.size for one in said.peers} == {0}
    assert bern.journal.root == before


async def test_a_history_from_before_the_revocation_ends_the_start(log):
    """The key was good there: two histories under it are ours."""
    bern, old = log
    old.append([msgspec.structs.replace(bern.journal.entry(1).b, note="another")])
    other = Neighbour(old)
    revoked(bern, other.size)
    with pytest.raises(VerificationError, match="are not these"):
        await vouch(bern, bern.journal, other, other)


async def test_who_knows_less_than_what_was_cosigned_does_not_vouch(log):
    bern, old = log
    (old.folder / "cosigned").write_bytes(old.checkpoint)
    assert old.cosigned_size == old.size

    class Blank(Neighbour):
        async def answer(self, question):
            return Page(note=b"", held=b"", size=0, first=question.first, frames=b"")

    for others, expected in (((Blank(bern.journal),), 0), ((Neighbour(old),), 1)):
        service = vouching(bern, old, Blank(bern.journal), *others)
        said = await service.run(2, 0.1)
        assert len(said.peers) == 2
        assert service._heard() == expected


async def test_a_person_is_told_once_that_nobody_vouches(log, autojump_clock):
    bern, old = log
    told = []
    service = vouching(bern, old, Gone(bern.journal))
    service._log = SimpleNamespace(
        debug=lambda *_, **__: None, warning=lambda event, **facts: told.append((event, facts))
    )
    await service.run(1, 60.0)
    assert [event for event, _ in told] == ["ledger.waiting", "ledger.unvouched"]
    assert "firewall" in told[0][1]["hint"]
