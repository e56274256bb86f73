"""What a node knows of other logs: their keys as they change, and what it could never forget."""

from __future__ import annotations

import pytest
from signed_logs import SignedLog, roster_of

from konsil.node.exchange import watch as watch_module
from konsil.node.exchange.watch import Watch
from konsil.node.store.witnessed import Witnessed
from konsil.protocol import fork, merkle, tiles
from konsil.protocol.errors import ManifestRefused, RemoteError, SignatureRefused, StorageError
from konsil.protocol.identity import SigningKey
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.protocol.mirror import Prove, Proven
from konsil.protocol.node_bodies import KeyRevoke, KeyRotate
from konsil.trust.witnessing import Forked, Known, Newer, Same

ROLES = ("log", "wit", "art")


class World:
    """One node that watches `bern`."""

    def __init__(self, folder, *others):
        self.folder, self.others = folder, others
        self.me, self.bern = SignedLog("me"), SignedLog("bern").grow(9)
        self.start()

    def start(self):
        """Begin, or begin again with what is on the disk."""
        self.roster = roster_of(self.folder, self.me, self.bern, *self.others)
        witnessed = Witnessed(self.folder / "witness.log")
        self.watch = Watch(self.roster, self.folder, witnessed, DEFAULT_LIMITS)

    def mirror(self, size=None, data=None, log=None):
        """Take the leaves up to `size`, and hold them under a note."""
        log = log or self.bern
        kept = self.watch.kept(log.node)
        size = log.size if size is None else size
        if kept.taken < size:
            self.watch.take(log.node, log.leaves[kept.taken : size])
        return self.watch.hold(log.node, data or log.note(size), due=100, now=1)

    def meet(self, data):
        return self.watch.meet(self.bern.node, data, due=100)

    def accepted(self):
        """The sizes in the record of accepted checkpoints, which all are of the mirrored log."""
        heads = Witnessed(self.folder / "witness.log").heads(self.bern.node)
        assert {self.bern.tree.root(head.size) for head, _ in heads} == {
            head.root for head, _ in heads
        }
        return sorted(head.size for head, _ in heads)

    @property
    def kept(self):
        return self.watch.kept(self.bern.node)

    @property
    def ring(self):
        return self.roster.keyring(self.bern.node)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.mark.parametrize("lag", [1, 4, 7])
def test_whoever_lags_follows_every_change_of_keys(world, lag):
    """All roles in turn, some twice; the watcher mirrors every so many entries."""
    world.mirror(10)
    for role in (*ROLES, *ROLES):
        world.bern.change(KeyRotate, role)
        world.bern.grow()
    for size in [*range(10 + lag, world.bern.size, lag), world.bern.size]:
        assert world.mirror(size) == Same()
        assert world.kept.size == size
    assert world.ring == world.bern.ring
    assert len(world.ring.witness_keys()) == 3
    world.start()
    assert world.ring == world.bern.ring, "after a restart"
    assert world.kept.mirrored == world.bern.note()


def test_the_note_of_a_transition_carries_both_keys_and_later_ones_the_new(world):
    old = world.bern.keys["log"]
    new = world.bern.change(KeyRotate, "log")
    assert world.mirror(data=world.bern.note(None, old, new)) == Same()
    world.bern.grow()
    with pytest.raises(SignatureRefused):
        world.mirror(data=world.bern.note(None, old))
    assert world.mirror() == Same()


def test_a_note_by_a_key_that_we_do_not_know_yet_is_not_read(world):
    world.mirror(10)
    world.bern.change(KeyRotate, "log")
    with pytest.raises(SignatureRefused):
        world.meet(world.bern.note())
    assert (world.watch.exposed(world.bern.node), world.watch.questions()) == (None, [])
    world.mirror()
    assert world.meet(world.bern.note()) == Same()


def test_a_forged_change_of_keys_ends_the_mirror(world):
    world.mirror(10)
    ring = world.ring
    world.bern.change(KeyRotate, "log", rec=SigningKey.from_seed(b"x" * 32))
    with pytest.raises(SignatureRefused):
        world.mirror()
    assert (world.kept.size, world.kept.taken, world.ring) == (10, 10, ring)
    world.start()
    assert (world.kept.size, world.kept.taken, world.ring) == (10, 10, ring)


def test_a_stolen_key_that_signs_after_its_revocation_is_not_followed(world):
    stolen = world.bern.keys["log"]
    world.bern.change(KeyRevoke, "log", good=8)
    world.mirror()
    world.bern.grow(3)
    with pytest.raises(SignatureRefused):
        world.mirror(data=world.bern.note(None, stolen))
    with pytest.raises(SignatureRefused):
        world.meet(world.bern.note(9, stolen))
    assert world.meet(world.bern.note(8, stolen)) == Same()
    assert world.kept.size == 11


def test_what_a_thief_had_us_believe_is_forgotten_with_its_key(world):
    """The thief's checkpoints were met before we knew: nothing of them counts any more."""
    world.mirror(8)
    thief = world.bern.fork(8).grow(20)
    world.bern.change(KeyRevoke, "log", good=8)
    assert isinstance(world.meet(thief.note()), Newer)
    world.watch.settle(
        world.bern.node, Newer(from_size=8, to_size=28),
        Proven(root=thief.tree.root(8), hashes=tuple(thief.tree.consistency(8, 28))), now=1,
    )  # fmt: skip
    world.start()
    assert world.watch.get(world.bern.author.origin).size == 28
    world.meet(thief.note(12))
    assert world.mirror() == Same()
    for _ in range(2):
        assert (world.kept.newest, world.kept.size) == (world.bern.note(), 11)
        assert world.accepted() == [8, 11]
        assert world.watch.get(world.bern.author.origin).head == world.bern.head()
        assert (world.watch.questions(), world.watch.suspects(10**9)) == (
            [], {world.bern.node: False}
        )  # fmt: skip
        world.start()


def test_only_the_keys_of_its_own_size_prove_a_fork(world):
    old = world.bern.keys["log"]
    other = world.bern.fork(10)
    world.bern.change(KeyRotate, "log")
    world.bern.grow(3)
    other.grow(4)
    world.mirror()
    with pytest.raises(SignatureRefused):
        world.meet(other.note(12, old))
    sight = world.meet(other.note(12, world.bern.keys["log"]))
    assert isinstance(sight, Forked)
    assert fork.verify_with(sight.proof, world.ring.open_checkpoint).older.size == 12


def test_the_tree_that_is_mirrored_answers_what_is_open_for_good_or_bad(world):
    other = world.bern.fork(5).grow(3)
    world.mirror(5)
    for size in (6, 7):
        assert isinstance(world.meet(world.bern.note(size)), Newer)
    assert world.mirror(7) == Same()
    assert world.watch.questions() == []
    assert isinstance(world.meet(other.note(8)), Newer)
    sight = world.mirror()
    assert isinstance(sight, Forked)
    assert world.watch.forks() == {world.bern.node: sight.proof}
    assert world.accepted() == [5, 7, 10]
    found = fork.verify_with(sight.proof, world.ring.open_checkpoint)
    assert (found.newer, found.older) == (world.bern.head(), other.head())
    world.start()
    assert world.watch.exposed(world.bern.node) == sight.proof, "it survives a restart"


def test_the_second_side_of_a_fork_survives_a_restart(world):
    other = world.bern.fork(5).grow(20)
    world.mirror()
    question = world.meet(other.note())
    assert world.watch.questions() == [(world.bern.node, question)]
    world.watch.remember(world.bern.node)
    world.start()
    assert world.watch.questions() == [(world.bern.node, question)]
    assert world.watch.suspects(100) == {world.bern.node: True}
    told = Proven(root=other.tree.root(10), hashes=tuple(other.tree.consistency(10, other.size)))
    assert isinstance(world.watch.settle(world.bern.node, question, told, now=1), Forked)
    world.start()
    assert world.watch.forks() != {}


def test_who_is_exposed_stays_exposed_when_the_key_is_revoked_and_the_node_starts_again(world):
    """The proof was good when it was met; nobody takes it back by a revocation."""
    world.mirror()
    sight = world.meet(world.bern.fork(5).grow(4).note(8))
    world.bern.change(KeyRevoke, "log", good=5)
    assert isinstance(world.mirror(), Forked)
    for _ in range(2):
        assert world.watch.exposed(world.bern.node) == sight.proof
        world.start()
    for name in (f"{world.bern.node}.fork", f"{world.bern.node}.mirror"):
        (world.folder / name).unlink()
    world.start()
    assert world.watch.exposed(world.bern.node) is None
    world.watch.believe(world.bern.node, sight.proof)
    world.start()
    assert world.watch.exposed(world.bern.node) == sight.proof, "our ledger had written it down"


def test_a_proof_about_another_log_is_not_taken_up(world):
    other = SignedLog("ulm").grow(5)
    proof = fork.build(other.note(4), other.fork(2).grow(2).note(4))
    for wrong in (proof, b"", b"konsil fork-proof@v1"):
        with pytest.raises(RemoteError):
            world.watch.believe(world.bern.node, wrong)
    assert world.watch.forks() == {}


def test_what_was_answered_is_not_owed_after_a_restart(world):
    world.mirror(5)
    world.meet(world.bern.note(7))
    world.watch.remember(world.bern.node)
    world.mirror(7)
    world.start()
    assert world.watch.questions() == []
    assert (world.folder / f"{world.bern.node}.owed").read_bytes() == b""


def test_damaged_evidence_is_passed_over(world):
    world.mirror()
    world.meet(world.bern.fork(5).grow(20).note())
    world.watch.remember(world.bern.node)
    path = world.folder / f"{world.bern.node}.owed"
    data = path.read_bytes()
    for wrong in (data[:-1], data[:5], b"\xff" * 40, data.replace(b"alps", b"alpz")):
        path.write_bytes(wrong)
        (world.folder / f"{world.bern.node}.fork").write_bytes(wrong)
        world.start()
        assert (world.watch.questions(), world.watch.forks()) == ([], {})


def test_a_log_is_taken_in_portions_over_restarts(world):
    world.bern.grow(40)
    node = world.bern.node
    for end in (20, 33):
        world.watch.take(node, world.bern.leaves[world.kept.taken : end])
        told = world.bern._answer(Prove(node=node, old=end, size=50))
        world.watch.agree(node, told, world.bern.head())
        assert (world.kept.size, world.kept.taken, world.kept.mirrored) == (0, end, b"")
        assert world.watch.leaves(node, 0, 9) == []
        assert world.watch.prove(Prove(node=node, old=1, size=9)).root is None
        world.start()
    assert world.mirror() == Same()
    assert world.watch.leaves(node, 48, 9) == world.bern.leaves[48:]


def on_disk(world):
    """How many leaves a mirror has on the disk, and how many of them no accepted root denies.

    An auditor has these two files and nothing else.
    """
    path = world.folder / f"{world.bern.node}.mirror"
    frames = tiles.read_tail(path.read_bytes() if path.exists() else b"").frames
    tree = merkle.Tree(frame.leaf for frame in frames)
    heads = [head for head, _ in Witnessed(world.folder / "witness.log").heads(world.bern.node)]
    denied = [head.size for head in heads if head.size <= tree.size]
    return tree.size, [size for size in denied if tree.root(size) not in {h.root for h in heads}]


def test_no_portion_that_contradicts_an_accepted_checkpoint_reaches_the_disk(world):
    """It would say of us that our copy was tampered with, and nobody would ever take it back."""
    world.mirror(5)
    question = world.meet(world.bern.note(8))
    told = Proven(root=world.bern.tree.root(5), hashes=tuple(world.bern.tree.consistency(5, 8)))
    world.watch.settle(world.bern.node, question, told, now=1)
    junk = world.bern.fork(5).grow(30)
    world.watch.take(world.bern.node, junk.leaves[5:7])
    with pytest.raises(ManifestRefused, match="signed root of 8"):
        world.watch.take(world.bern.node, junk.leaves[7:20])
    assert on_disk(world) == (5, [])
    assert (world.kept.taken, world.accepted()) == (5, [5, 8])
    assert world.mirror() == Same()


def test_what_was_taken_makes_way_for_a_checkpoint_that_contradicts_it(world):
    world.mirror(5)
    question = world.meet(world.bern.note(8))
    world.watch.take(world.bern.node, world.bern.fork(5).grow(30).leaves[5:20])
    told = Proven(root=world.bern.tree.root(5), hashes=tuple(world.bern.tree.consistency(5, 8)))
    world.watch.settle(world.bern.node, question, told, now=1)
    assert on_disk(world) == (5, [])
    assert (world.kept.taken, world.accepted()) == (5, [5, 8])
    assert world.mirror() == Same()


def test_the_first_checkpoint_that_is_met_denies_what_was_taken_before(world):
    world.watch.take(world.bern.node, world.bern.fork(1).grow(30).leaves[:20])
    world.meet(world.bern.note())
    assert (on_disk(world), world.kept.taken) == ((0, []), 0)
    world.mirror()
    assert on_disk(world) == (10, [])


def test_the_last_portion_is_written_under_its_signed_root_only(world):
    world.mirror(5)
    junk = world.bern.fork(5).grow(30)
    for wrong, error in ((world.bern.note(), ManifestRefused), (junk.note(35)[:-9], RemoteError)):
        with pytest.raises(error):
            world.watch.hold(world.bern.node, wrong, junk.leaves[5:10], due=100, now=1)
        assert (on_disk(world), world.kept.taken) == ((5, []), 5)
    rest = world.bern.leaves[5:]
    assert world.watch.hold(world.bern.node, world.bern.note(), rest, due=100, now=1) == Same()
    world.bern.change(KeyRotate, "log")
    rest = world.bern.leaves[10:]
    assert world.watch.hold(world.bern.node, world.bern.note(), rest, due=100, now=1) == Same()
    world.bern.grow()
    assert world.mirror() == Same()
    assert on_disk(world) == (12, [])


def test_a_signed_root_over_the_last_portion_exposes_what_was_accepted_of_another(world):
    """Also where the log changed its key meanwhile, so that only its leaves say who signed."""
    world.meet(world.bern.fork(5).grow(3).note())
    world.bern.change(KeyRotate, "log")
    sight = world.watch.hold(world.bern.node, world.bern.note(), world.bern.leaves, due=100, now=1)
    assert isinstance(sight, Forked)
    assert (on_disk(world), world.accepted()) == ((11, []), [11])


def test_the_fork_proof_is_on_the_disk_before_the_other_side_is_forgotten(world, monkeypatch):
    world.meet(world.bern.fork(5).grow(3).note())

    def cut(*_):
        raise StorageError("the power is cut")

    monkeypatch.setattr(Witnessed, "forget", cut)
    with pytest.raises(StorageError):
        world.watch.hold(world.bern.node, world.bern.note(), world.bern.leaves, due=100, now=1)
    monkeypatch.undo()
    world.start()
    assert world.watch.exposed(world.bern.node) is not None


def test_a_thief_whom_we_believed_does_not_keep_us_from_the_leaves_that_revoke_its_key(world):
    """What the taken leaves make void denies nothing, though it is still in the record."""
    world.mirror(8)
    thief = world.bern.fork(8).grow(4)
    told = Proven(root=thief.tree.root(8), hashes=tuple(thief.tree.consistency(8, 12)))
    world.watch.settle(world.bern.node, world.meet(thief.note()), told, now=1)
    world.bern.change(KeyRevoke, "log", good=8)
    world.bern.grow(20)
    world.watch.take(world.bern.node, world.bern.leaves[8:20])
    assert world.kept.taken == 20
    assert world.mirror() == Same()
    assert world.accepted() == [8, 31]


@pytest.mark.parametrize("answer", ["other", "nothing"])
def test_portions_that_are_not_of_the_log_are_forgotten(world, answer):
    world.mirror(5)
    other = world.bern.fork(5).grow(4)
    world.watch.take(world.bern.node, other.leaves[5:8])
    told = Proven(root=None, hashes=())
    if answer == "other":
        told = world.bern._answer(Prove(node=world.bern.node, old=8, size=10))
    with pytest.raises(ManifestRefused):
        world.watch.agree(world.bern.node, told, world.bern.head())
    assert (world.kept.size, world.kept.taken) == (5, 5)
    assert world.mirror() == Same()


def test_a_mirror_that_lost_a_change_of_keys_is_asked_for_again(world):
    world.bern.change(KeyRotate, "log")
    world.mirror()
    path = world.folder / f"{world.bern.node}.mirror"
    entry, leaf = world.bern.leaves[-1].entry, world.bern.leaves[-1].leaf
    whole = path.read_bytes()
    path.write_bytes(whole.removesuffix(tiles.frame(entry, leaf)) + tiles.frame(b"", leaf))
    world.start()
    assert (world.kept.size, world.kept.taken) == (0, 0)
    assert world.mirror() == Same()
    assert (world.ring, path.read_bytes()) == (world.bern.ring, whole)


def test_leaves_that_do_not_lead_to_the_note_are_forgotten(world):
    world.mirror(5)
    with pytest.raises(ManifestRefused):
        world.mirror(data=world.bern.fork(5).grow(5).note())
    assert (world.kept.size, world.kept.taken) == (5, 5)


def test_we_vouch_for_what_we_hold_only(world):
    origin = world.bern.author.origin
    world.mirror(5)
    known = world.watch.get(origin)
    fresh = Known(note=world.bern.note(6), head=world.bern.head(6))
    with pytest.raises(ManifestRefused):
        world.watch.swap(origin, known, fresh)
    world.mirror(6)
    assert world.watch.swap(origin, known, fresh)
    assert not world.watch.swap(origin, known, fresh)
    assert world.watch.get(origin) == fresh


def test_nothing_is_known_of_strangers(world):
    for data in (b"", b"no note", SignedLog("ulm").note(), world.me.note()):
        assert world.watch.news([data]) == []
    with pytest.raises(RemoteError):
        world.watch.meet("x" * 32, world.bern.note(), due=1)


def test_news_is_what_says_more_than_we_hold(world):
    world.mirror(5)
    other = world.bern.fork(3).grow(4)
    news = [world.bern.note(7), other.note(4)]
    assert world.watch.news([*news, world.bern.note(4), world.bern.note(5), *news]) == news
    world.meet(other.note(4))
    assert world.watch.news(news) == [], "nothing is news of whoever is exposed"


def test_all_members_notes_fit_in_turn(tmp_path, monkeypatch):
    others = [SignedLog(f"m{n}") for n in range(7)]
    world = World(tmp_path, *others)
    for log in others:
        world.watch.meet(log.node, log.note(), due=1)
    notes = {log.note() for log in others}
    assert {*world.watch.newest_notes()} == notes
    monkeypatch.setattr(watch_module, "NOTES_BYTES", 3 * max(map(len, notes)))
    told = [world.watch.newest_notes() for _ in range(3)]
    assert {len(found) for found in told} == {3}
    assert {data for found in told for data in found} == notes
    monkeypatch.setattr(watch_module, "MAX_NOTES", 2)
    told = [world.watch.newest_notes() for _ in range(4)]
    assert {data for found in told for data in found} == notes


@pytest.mark.parametrize("ask", ["forks", "suspects", "questions", "newest_notes"])
def test_a_member_may_be_met_while_the_event_loop_goes_through_all_logs(tmp_path, ask):
    other = SignedLog("ulm")
    world = World(tmp_path)
    world.mirror(5)
    roster, member = world.roster, other.member
    roster._by_node[member.node] = roster._by_peer[member.peer] = member
    roster.learn(other.leaves[0].entry, member.peer)
    real = world.watch._logs[world.bern.node]

    class Meeting:
        """A log whose state is looked at just when another thread meets a member."""

        @property
        def view(self):
            world.watch.meet(other.node, other.note(), due=1)
            return real.view

    world.watch._logs[world.bern.node] = Meeting()
    asked = getattr(world.watch, ask)
    asked(1) if ask == "suspects" else asked()
    assert world.watch.kept(other.node).newest == other.note()


def test_the_event_loop_never_waits_for_a_disk(world):
    """What it may call works while a thread has the lock of the log."""
    world.mirror(5)
    world.meet(world.bern.note(7))
    with world.watch._logs[world.bern.node]._lock:
        assert world.kept.size == 5
        assert world.watch.exposed(world.bern.node) is None
        assert world.watch.suspects(100) == {world.bern.node: True}
        assert len(world.watch.questions()) == len(world.watch.newest_notes()) == 1
        assert (world.watch.forks(), world.watch.whose(world.bern.note())) == (
            {}, world.bern.node
        )  # fmt: skip
