"""Witness and watcher: the race of the specification, suspicion, and a liar among seven."""

from __future__ import annotations

import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol import checkpoint, cosignature, fork, merkle, note, witness
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.cosignature import WitnessKey
from konsil.protocol.errors import ManifestRefused, SignatureRefused
from konsil.protocol.identity import SigningKey
from konsil.protocol.limits import Limits
from konsil.protocol.witness import Request
from konsil.trust import witnessing
from konsil.trust.witnessing import Forked, Known, Newer, Same, Watch, Witness

LOG = SigningKey.from_seed(b"L" * 32)
WIT = SigningKey.from_seed(b"w" * 32)
ORIGIN, NAME = "alps/bern", "alps/ulm"
OPEN = fork.open_with(origin=ORIGIN, key=LOG.public)
WHO = Witness(name=NAME, key=WIT, readers={ORIGIN: OPEN})
KEY = WitnessKey(NAME, WIT.public)


def grown(count, rng, start=()):
    return merkle.Tree([*start, *(rng.randbytes(32) for _ in range(count - len(start)))])


def signed(tree, size=None, key=LOG, origin=ORIGIN):
    size = tree.size if size is None else size
    return checkpoint.sign(Checkpoint(origin=origin, size=size, root=tree.root(size)), key)


def leaves(tree, count):
    return [tree.node(0, index) for index in range(count)]


TREE = grown(40, random.Random(1))
LIE = grown(40, random.Random(2), leaves(TREE, 10))


class Store:
    """A witness's memory: what was durable, in the order in which it became so."""

    def __init__(self):
        self.states, self.history = {}, []
        self.lock = threading.Lock()
        self.between = self.behind = lambda: None

    def get(self, origin):
        with self.lock:
            found = self.states.get(origin)
        self.between()
        return found

    def swap(self, origin, expected, new):
        with self.lock:
            if self.states.get(origin) != expected:
                return False
            self.states[origin] = new
            self.history.append(new.head)
        self.behind()
        return True


def ask(old, size, tree=TREE, data=None, proof=None):
    if proof is None:
        proof = tree.consistency(old, size) if 0 < old < size else ()
    return witness.encode_request(
        Request(old=old, proof=tuple(proof), note=data or signed(tree, size))
    )


def told(data, store, clock=lambda: 5):
    found = witnessing.answer(data, WHO, store, clock)
    witness.decode_response(witness.encode_response(found.response))
    return found


def status(data, store):
    return told(data, store).response.status


@pytest.fixture
def store():
    return Store()


def test_a_witness_vouches_for_a_log_as_it_grows(store):
    for old, size in ((0, 3), (3, 8), (8, 8), (8, 40)):
        found = told(ask(old, size), store).response
        assert found.status == 200
        data = cosignature.merge(signed(TREE, size), found.body, [KEY])
        assert cosignature.seen_by(data, [KEY]) == {NAME: 5}
    assert [head.size for head in store.history] == [3, 8, 8, 40]
    assert store.states[ORIGIN].note == signed(TREE, 40)


def test_an_empty_log_may_be_vouched_for_and_grow(store):
    empty = merkle.Tree()
    wrong = checkpoint.sign(Checkpoint(origin=ORIGIN, size=0, root=bytes(32)), LOG)
    assert status(ask(0, 0, data=wrong), store) == 422
    assert status(ask(0, 0, empty), store) == 200
    assert status(ask(0, 0, empty), store) == 200
    assert status(ask(0, 3, proof=[bytes(32)]), store) == 422
    assert status(ask(0, 3), store) == 200


REFUSED = [
    (400, b""),
    (400, b"old 8\n\nno note\n"),
    (400, ask(8, 8, data=note.sign("no checkpoint\n", [(ORIGIN, LOG)]))),
    (400, ask(9, 8)),
    (403, ask(8, 9, data=signed(TREE, 9, key=WIT))),
    (403, ask(8, 9, data=signed(TREE, 9) + signed(TREE, 9).rpartition(b"\n\n")[2])),
    (404, ask(8, 9, data=signed(TREE, 9, origin="alps/graz"))),
    (409, ask(0, 8)),
    (409, ask(0, 40)),
    (409, ask(7, 9)),
    (409, ask(9, 40)),
    (422, ask(8, 9, proof=())),
    (422, ask(8, 9, proof=TREE.consistency(8, 10))),
    (422, ask(8, 8, proof=TREE.consistency(8, 9))),
    (422, ask(8, 8, data=checkpoint.sign(Checkpoint(origin=ORIGIN, size=8, root=bytes(32)), LOG))),
]


@pytest.mark.parametrize(("wanted", "data"), REFUSED)
def test_a_witness_refuses_with_the_status_of_the_specification(wanted, data, store):
    assert status(ask(0, 8), store) == 200
    before = dict(store.states)
    found = told(data, store).response
    assert found.status == wanted
    assert store.states == before
    assert found.body == (b"8\n" if wanted == 409 else b"")


def test_a_request_that_gives_a_fork_away_is_kept_as_its_proof(store):
    assert status(ask(0, 15), store) == 200
    for data in (ask(15, 15, LIE), ask(15, 30, LIE)):
        found = told(data, store)
        assert found.response.status == 422
        assert fork.verify(found.fork, origin=ORIGIN, key=LOG.public).older.size == 15
    assert told(ask(15, 30, proof=[bytes(32)] * 5), store).fork is None
    # From a power of two the proof does not name the root that it starts from.
    again = Store()
    assert status(ask(0, 16), again) == 200
    assert told(ask(16, 30, LIE), again).fork is None


def test_the_race_of_the_specification_is_lost_by_the_smaller_checkpoint(store):
    """A (to 20) looks, B (to 30) looks and wins, A goes on: A must not take B's state back."""
    assert status(ask(0, 10), store) == 200
    inner = []

    def overtaken():
        store.between = lambda: None
        inner.append(told(ask(10, 30), store).response)

    store.between = overtaken
    outer = told(ask(10, 20), store).response
    assert (inner[0].status, outer.status, outer.known_size) == (200, 409, 30)
    assert store.states[ORIGIN].size == 30
    store.between = overtaken
    store.states[ORIGIN] = Known(note=signed(TREE, 10), head=OPEN(signed(TREE, 10)))
    assert told(ask(10, 10), store).response.status == 409, "an old size is not repeated either"


def test_a_witness_overtaken_while_it_signs_says_the_earlier_time(store):
    """A is durable, B comes and goes, A signs: the later time goes with the larger size."""
    assert status(ask(0, 10), store) == 200
    ticks, bodies = iter(range(100)), []

    def overtaken():
        store.behind = lambda: None
        bodies.append(told(ask(20, 30), store, lambda: next(ticks)).response.body)

    store.behind = overtaken
    bodies.append(told(ask(10, 20), store, lambda: next(ticks)).response.body)
    later, earlier = (
        cosignature.seen_by(signed(TREE, size) + body, [KEY])[NAME]
        for size, body in zip((30, 20), bodies, strict=True)
    )
    assert earlier < later


def test_nothing_is_signed_before_it_is_durable(store):
    class Full(Store):
        def swap(self, origin, expected, new):
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        told(ask(0, 8), Full())
    lines = []
    for size in (8, 9):
        found = told(ask(0 if size == 8 else 8, size), store).response
        lines.append(found.body)
        assert store.history[-1].size == size


def test_many_requests_at_once_never_take_a_witness_back():
    for seed in range(4):
        rng, store, ticks = random.Random(seed), Store(), iter(range(10**6))
        vouched, lock = [], threading.Lock()

        def run(seed, store=store, ticks=ticks, vouched=vouched, lock=lock):
            mine, tree = random.Random(seed), mine_tree(seed)
            for _ in range(20):
                known = store.states.get(ORIGIN)
                old = known.size if known else 0
                size = min(40, old + mine.randint(0, 3))
                found = told(ask(old, size, tree), store, lambda: next(ticks)).response
                if found.status == 200:
                    with lock:
                        vouched.append(cosignature.merge(signed(tree, size), found.body, [KEY]))

        def mine_tree(number):
            return LIE if number % 2 else TREE

        threads = [threading.Thread(target=run, args=(rng.randrange(99),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sizes = [head.size for head in store.history]
        assert sizes == sorted(sizes)
        heads = {(head.size, head.root) for head in store.history}
        assert len({size for size, _ in heads}) == len(heads), "one root for each size"
        times = sorted(
            (cosignature.seen_by(data, [KEY])[NAME], OPEN(data).size) for data in vouched
        )
        assert [size for _, size in times] == sorted(size for _, size in times)
        assert {size for _, size in times} <= set(sizes)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 40), st.integers(0, 40), st.booleans()),
        max_size=12,
    )
)
def test_whatever_is_asked_a_witness_vouches_for_one_history(requests):
    store = Store()
    for lying, old, size, honest in requests:
        tree = LIE if lying else TREE
        known = store.states.get(ORIGIN)
        old = (known.size if known else 0) if honest else old
        proof = None if size else ()
        told(ask(old, size, tree, proof=proof), store)
    heads = store.history
    assert [head.size for head in heads] == sorted(head.size for head in heads)
    for tree in (TREE, LIE):
        if heads and heads[-1].size > 10 and heads[-1].root == tree.root(heads[-1].size):
            assert all(head.root == tree.root(head.size) for head in heads)


def met(state, *notes, due=100):
    sight = None
    for data in notes:
        state, sight = witnessing.watch(state, data, OPEN, due=due)
    return state, sight


def test_a_watcher_asks_for_what_it_cannot_tell():
    state, sight = met(Watch(origin=ORIGIN), signed(TREE, 5))
    assert sight == Same()
    assert met(state, signed(TREE, 5)) == (state, Same())
    state, sight = met(state, signed(TREE, 9))
    assert sight == Newer(from_size=5, to_size=9)
    assert met(state, signed(TREE, 9)) == (state, sight), "asked again, due as before"
    state, sight = met(state, signed(TREE, 3))
    assert sight == Newer(from_size=3, to_size=5)
    assert witnessing.questions(state) == (sight, Newer(from_size=5, to_size=9))
    state, sight = witnessing.settle(state, 9, TREE.consistency(5, 9), now=1)
    assert (sight, state.held.size) == (Same(), 9)
    assert witnessing.questions(state) == (Newer(from_size=3, to_size=9),)
    state, _ = witnessing.settle(state, 3, TREE.consistency(3, 9), now=1)
    assert (state.held.size, state.pending) == (9, ())
    assert witnessing.settle(state, 3, [], now=1) == (state, Same())


def test_an_empty_log_contradicts_nobody():
    empty = merkle.Tree()
    state, _ = met(Watch(origin=ORIGIN), signed(empty), signed(TREE, 5), signed(empty))
    assert (state.held.size, state.pending) == (5, ())
    with pytest.raises(ManifestRefused):
        met(state, checkpoint.sign(Checkpoint(origin=ORIGIN, size=0, root=bytes(32)), LOG))


def test_what_the_log_did_not_sign_changes_nothing():
    state, _ = met(Watch(origin=ORIGIN), signed(TREE, 5))
    for wrong in (signed(LIE, 5, key=WIT), signed(LIE, 5, origin="alps/graz")):
        with pytest.raises(SignatureRefused):
            met(state, wrong)
    other = fork.open_with(origin="alps/graz", key=LOG.public)
    with pytest.raises(ManifestRefused, match="no state of that log"):
        witnessing.watch(state, signed(TREE, 5, origin="alps/graz"), other, due=1)


@pytest.mark.parametrize("first", [[20], [15, 20], [25, 20]])
def test_two_roots_at_one_size_expose_at_once(first):
    state, _ = met(Watch(origin=ORIGIN), *(signed(TREE, size) for size in first))
    state, sight = met(state, signed(LIE, 20))
    assert fork.verify(sight.proof, origin=ORIGIN, key=LOG.public).newer.size == 20
    assert (state.fork, state.pending, state.suspect) == (sight.proof, (), False)
    assert met(state, signed(TREE, 40))[1] == sight, "for good"
    assert witnessing.remind(state, 10**9) == state
    assert witnessing.settle(state, 20, [], now=1) == (state, sight)


@pytest.mark.parametrize(("held", "other"), [(15, 30), (30, 15), (16, 30), (30, 16)])
def test_a_failing_proof_becomes_a_fork_proof_where_it_can(held, other):
    state, _ = met(Watch(origin=ORIGIN), signed(TREE, held), signed(LIE, other))
    older, newer = sorted((held, other))
    tree = LIE if newer == other else TREE
    proof = tree.consistency(older, newer)
    shown, exposed = witnessing.settle(state, other, proof, root=tree.root(older), now=1)
    assert exposed == Forked(proof=shown.fork)
    assert fork.verify(shown.fork, origin=ORIGIN, key=LOG.public).older.size == older
    if older == 16:
        with pytest.raises(ManifestRefused):
            witnessing.settle(state, other, proof, now=1)
    else:
        assert witnessing.settle(state, other, proof, now=1) == (shown, exposed)
    for root in (None, bytes(32), TREE.root(older)):
        with pytest.raises(ManifestRefused):
            witnessing.settle(state, other, [bytes(32)] * len(proof), root=root, now=1)


def test_silence_makes_suspect_and_a_late_answer_clears():
    state, _ = met(Watch(origin=ORIGIN), signed(TREE, 5), signed(TREE, 9), due=100)
    state, _ = met(state, signed(TREE, 12), due=200)
    assert not witnessing.remind(state, 99).suspect
    late = witnessing.remind(state, 100)
    assert (late.suspect, late.fork) == (True, None)
    assert witnessing.remind(late, 10**12) == late, "suspect is all that silence makes of it"
    with pytest.raises(ManifestRefused):
        witnessing.settle(late, 9, [bytes(32)] * 3, now=150)
    clear, _ = witnessing.settle(late, 9, TREE.consistency(5, 9), now=150)
    assert (clear.suspect, clear.fork, clear.held.size) == (False, None, 9)
    still, _ = witnessing.settle(late, 9, TREE.consistency(5, 9), now=250)
    assert still.suspect, "another question is overdue by now"
    assert not witnessing.settle(still, 12, TREE.consistency(9, 12), now=251)[0].suspect


def test_open_questions_are_bounded_and_a_flood_hides_no_newest_one():
    state = Watch(origin=ORIGIN)
    for size in range(1, 30):
        state, _ = witnessing.watch(
            state, signed(TREE, size), OPEN, due=size, limits=Limits(head_history=4)
        )
    assert [item.due for item in state.pending] == [26, 27, 28, 29]
    assert state.suspect


def known(tree, size):
    data = signed(tree, size)
    return Known(note=data, head=OPEN(data))


def held(state, tree, size, now=1):
    return witnessing.hold(state, known(tree, size), tree, due=9, now=now)


def test_a_tree_that_is_held_answers_every_smaller_question():
    state, _ = met(Watch(origin=ORIGIN), *(signed(TREE, size) for size in (5, 9, 12, 30)))
    state = witnessing.remind(state, 10**9)
    after, sight = held(state, TREE, 20)
    assert (sight, after.held.size, after.suspect) == (Same(), 20, False)
    assert [item.known.size for item in after.pending] == [30]
    assert held(after, TREE, 40)[0].pending == ()
    assert held(Watch(origin=ORIGIN), TREE, 3)[0].held == known(TREE, 3)


def test_a_tree_that_is_held_exposes_what_it_contradicts():
    for sizes in ((15, 19), (22, 15)):
        state, _ = met(Watch(origin=ORIGIN), signed(TREE, 5))
        state, _ = met(state, *(signed(LIE, size) for size in sizes))
        after, sight = held(state, TREE, 40)
        assert after.fork == sight.proof
        assert fork.verify(sight.proof, origin=ORIGIN, key=LOG.public).newer.size == 40
        assert held(after, TREE, 40) == (after, sight)


def test_a_tree_that_is_smaller_than_what_was_met_leaves_a_question():
    state, _ = met(Watch(origin=ORIGIN), signed(TREE, 30))
    after, sight = held(state, TREE, 20)
    assert sight == Newer(from_size=20, to_size=30)
    assert witnessing.questions(after) == (sight,)
    done, sight = witnessing.settle(after, 20, TREE.consistency(20, 30), now=1)
    assert (done.held.size, done.pending, sight) == (30, (), Same())


def test_a_checkpoint_within_the_held_tree_is_judged_at_once():
    state, _ = held(Watch(origin=ORIGIN), TREE, 40)
    top = known(TREE, 40)
    assert witnessing.compare(state, known(TREE, 12), top, TREE) == (state, Same())
    for size in (12, 40):
        after, sight = witnessing.compare(state, known(LIE, size), top, TREE)
        found = fork.verify(sight.proof, origin=ORIGIN, key=LOG.public)
        assert (found.newer.size, found.older.size) == (40, size)
        assert witnessing.compare(after, known(TREE, 12), top, TREE) == (after, sight)


def test_what_the_keys_do_not_bear_any_more_was_never_met():
    state, _ = met(Watch(origin=ORIGIN), signed(TREE, 5), signed(TREE, 9), signed(TREE, 12))
    state = witnessing.remind(state, 10**9)

    def until(size):
        def reader(data):
            head = OPEN(data)
            if head.size > size:
                raise SignatureRefused("void")
            return head

        return reader

    assert witnessing.reread(state, OPEN, now=10**9) == state
    after = witnessing.reread(state, until(9), now=1)
    assert (after.held.size, [item.known.size for item in after.pending]) == (5, [9])
    assert after.suspect is False
    after = witnessing.reread(state, until(1), now=1)
    assert (after.held, after.pending, after.suspect) == (None, (), False)
    exposed, _ = met(state, signed(LIE, 12))
    assert witnessing.reread(exposed, until(1), now=1).fork == exposed.fork


def test_a_fork_proof_from_anybody_is_believed_only_if_it_holds():
    state, _ = met(Watch(origin=ORIGIN), signed(TREE, 5))
    good = fork.build_from_tree(signed(LIE, 12), signed(TREE), TREE)
    exposed = witnessing.believe(state, good, OPEN)
    assert exposed.fork == good
    second = fork.build(signed(LIE, 20), signed(TREE, 20))
    assert witnessing.believe(exposed, second, OPEN) == exposed
    with pytest.raises(ManifestRefused):
        witnessing.believe(state, fork.build_from_tree(signed(TREE, 12), signed(TREE), TREE), OPEN)
    with pytest.raises(SignatureRefused):
        witnessing.believe(state, good, fork.open_with(origin="alps/graz", key=LOG.public))
    with pytest.raises(ManifestRefused, match="says nothing of"):
        witnessing.believe(Watch(origin="alps/graz"), good, OPEN)


def test_no_honest_log_is_exposed_whatever_is_answered():
    """1 000 growing logs, heads in any order, answers true, random or from other places."""
    rng = random.Random(28)
    settled = 0
    for _ in range(1_000):
        tree = grown(rng.randint(2, 60), rng)
        state = Watch(origin=ORIGIN)
        for now in range(5):
            state, _ = met(state, signed(tree, rng.randint(0, tree.size)), due=now + 1)
            state = witnessing.remind(state, now)
            for item in rng.sample(state.pending, min(2, len(state.pending))):
                size = item.known.size
                older, newer = sorted((size, state.held.size))
                proof, root = tree.consistency(older, newer), tree.root(older)
                if rng.random() < 0.5:
                    proof = [rng.randbytes(32) for _ in proof]
                root = rng.choice([None, root, rng.randbytes(32)])
                try:
                    state, _ = witnessing.settle(state, size, proof, root=root, now=now)
                    settled += 1
                except ManifestRefused:
                    pass
        assert state.fork is None
        for item in state.pending:
            older, newer = sorted((item.known.size, state.held.size))
            proof = tree.consistency(older, newer)
            state, sight = witnessing.settle(state, item.known.size, proof, now=99)
            assert sight == Same()
        assert (state.suspect, state.pending) == (False, ())
    assert settled > 1_000


class Hospital:
    """One node of the simulation: its own log, the trees it mirrors, and its watches."""

    def __init__(self, number, count):
        self.key = SigningKey.from_seed(bytes([number + 1]) * 32)
        self.origin = f"alps/node{number}"
        self.tree = merkle.Tree()
        self.mirrors = {}
        self.watches = {f"alps/node{other}": Watch(origin=f"alps/node{other}")
                        for other in range(count)}  # fmt: skip

    def face(self, _who):
        return self.tree


class Liar(Hospital):
    """Shows half of the others another history once it has forked."""

    def __init__(self, number, count, fooled):
        super().__init__(number, count)
        self.fooled, self.other = fooled, None

    def face(self, who):
        return self.other if self.other is not None and who in self.fooled else self.tree


class Network:
    """Seven hospitals in memory; one lies, `edges` join the others."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        halves = self.rng.sample(range(1, 7), 6)
        self.half = {*halves[:3]}
        self.nodes = [Liar(0, 7, self.half), *(Hospital(n, 7) for n in range(1, 7))]
        self.openers = {one.origin: fork.open_with(origin=one.origin, key=one.key.public)
                        for one in self.nodes}  # fmt: skip
        self.within = [(halves[a], halves[a + 1]) for a in (0, 1, 3, 4)]
        self.across = (halves[2], halves[3])
        self.now = 0
        self.proofs = []

    def publish(self, forking):
        self.now += 1
        liar = self.nodes[0]
        if forking and liar.other is None:
            liar.other = merkle.Tree(leaves(liar.tree, liar.tree.size))
        for one in self.nodes:
            for tree in filter(None, (one.tree, getattr(one, "other", None))):
                for _ in range(self.rng.randint(1, 4)):
                    tree.append(self.rng.randbytes(32))
        for number, one in enumerate(self.nodes):
            for reader in range(1, 7):
                if reader != number and self.rng.random() < 0.8:
                    tree = one.face(reader)
                    self.nodes[reader].mirrors[one.origin] = leaves(tree, tree.size)
                    self.tell(reader, one.origin, signed(tree, key=one.key, origin=one.origin))
        self.ask_the_logs()

    def tell(self, reader, origin, data, source=None):
        """`reader` meets a checkpoint, from its log or from `source`, and asks what it must."""
        node = self.nodes[reader]
        node.watches[origin], sight = witnessing.watch(
            node.watches[origin], data, self.openers[origin], due=self.now + 2
        )
        self.note(sight)
        if isinstance(sight, Newer):
            size = self.openers[origin](data).size
            for holder in filter(None, (node, source)):
                mirror = holder.mirrors.get(origin, [])
                if self.settled(node, origin, size, mirror):
                    node.mirrors[origin] = max(mirror, node.mirrors.get(origin, []), key=len)
                    break

    def settled(self, node, origin, size, mirror):
        """Whether `mirror`, a tree as somebody has it, answers the question about `size`."""
        state, tree = node.watches[origin], merkle.Tree(mirror)
        older, newer = sorted((size, state.held.size))
        if older == 0 or tree.size < newer:
            return False
        root, proof = tree.root(older), tree.consistency(older, newer)
        try:
            state, sight = witnessing.settle(state, size, proof, root=root, now=self.now)
        except ManifestRefused:
            return False
        self.note(sight)
        node.watches[origin] = state
        return True

    def note(self, sight):
        if isinstance(sight, Forked) and sight.proof not in self.proofs:
            self.proofs.append(sight.proof)

    def ask_the_logs(self):
        """Every open question is put to the log that it is about; each answers as it shows."""
        for number, node in enumerate(self.nodes[1:], start=1):
            for log in self.nodes:
                tree = log.face(number)
                for item in node.watches[log.origin].pending:
                    self.settled(node, log.origin, item.known.size, leaves(tree, tree.size))

    def gossip(self, edge):
        """Both ends of an edge tell each other the heads that they hold of every log."""
        for source, reader in (edge, edge[::-1]):
            giver = self.nodes[source]
            for origin, state in sorted(giver.watches.items()):
                if state.held is not None and origin != self.nodes[reader].origin:
                    self.tell(reader, origin, state.held.note, giver)

    def accused(self):
        return {origin for one in self.nodes[1:] for origin, state in one.watches.items()
                if state.fork is not None}  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_a_split_view_ends_at_the_first_honest_edge_between_the_halves(seed):
    network = Network(seed)
    for _ in range(3):
        network.publish(forking=False)
        for edge in (*network.within, network.across):
            network.gossip(edge)
    assert network.accused() == set()
    for _ in range(3):
        network.publish(forking=True)
        for edge in network.within:
            network.gossip(edge)
    assert network.accused() == set(), "inside one half the liar's story is consistent"
    network.gossip(network.across)
    assert network.accused() == {"alps/node0"}
    liar = network.nodes[0]
    (first, *_) = network.proofs
    assert fork.verify(first, origin=liar.origin, key=liar.key.public)
    for one in network.nodes[1:]:
        state = one.watches[liar.origin]
        one.watches[liar.origin] = witnessing.believe(state, first, network.openers[liar.origin])
    assert all(one.watches[liar.origin].fork for one in network.nodes[1:])
    for _ in range(2):
        network.publish(forking=True)
        for edge in (*network.within, network.across):
            network.gossip(edge)
    assert network.accused() == {"alps/node0"}, "nobody honest, neither then nor later"
    for one in network.nodes[1:]:
        for origin, state in one.watches.items():
            assert origin == liar.origin or not witnessing.remind(state, network.now).suspect
