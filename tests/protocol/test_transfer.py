"""Transfers: any cutting, any peer, any chunk boundary; and nothing that was not promised."""

from __future__ import annotations

import os
import time
import tracemalloc
from collections import deque
from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol import envelope as dsse
from konsil.protocol import messages
from konsil.protocol.artifact import Artifact, Coverage, Payload, PrivacySpent, seal
from konsil.protocol.chunks import chunk_digests, chunk_root
from konsil.protocol.conversation import Direction, Left
from konsil.protocol.errors import (
    LimitExceeded,
    LocalProtocolError,
    ManifestRefused,
    RemoteError,
    SessionRefused,
)
from konsil.protocol.identity import SigningKey
from konsil.protocol.limits import Limits
from konsil.protocol.messages import Accept, Bye, Chunk, Digests, Done, Missing, Offer, Want
from konsil.protocol.transfer import Pull, Serve, chunk_count
from konsil.protocol.transfer_turns import (
    PULL,
    SERVE,
    Accepted,
    ChunkVerified,
    Delivered,
    Finished,
    NotHeld,
    OfferReceived,
    State,
    TryLater,
    Wanted,
)

MIB = 2**20
SMALL = Limits(message_bytes=2_000, chunk_bytes=64)
PROOF = b"proof " * 120


class Shelf:
    """One artifact as a peer holds it, with its payload cut into chunks."""

    def __init__(self, payload: bytes, chunk_bytes: int) -> None:
        self.payload = payload
        self.chunks = [payload[at : at + chunk_bytes] for at in range(0, len(payload), chunk_bytes)]
        self.digests = chunk_digests(self.chunks)
        self.artifact = Artifact(
            kind="parameters",
            publisher="a" * 32,
            sequence=1,
            round=1,
            task="tabular",
            base="0" * 64,
            architecture="0" * 64,
            parents=(),
            payload=Payload(
                digest=sha256(payload).hexdigest(),
                size=len(payload),
                format="safetensors",
                chunk_bytes=chunk_bytes,
                chunk_root=chunk_root(self.digests).hex(),
            ),
            coverage=Coverage(rows=0, classes=(), not_evaluated=(), tensors=()),
            privacy=PrivacySpent(mechanism="none", unit="none", epsilon_micro=0, delta_e12=0),
            charter="0" * 64,
            knowledge=None,
        )
        self.envelope = dsse.pack(seal(self.artifact, SigningKey.from_seed(bytes(32))))
        self.env = sha256(self.envelope).digest()
        self.chunk_bytes = chunk_bytes

    def offer(self, serve: Serve) -> bytes:
        return serve.offer(
            self.envelope, PROOF, size=len(self.payload), chunk_bytes=self.chunk_bytes
        )


SHELF = Shelf(bytes(range(200)), 64)  # three chunks and a short one
COUNT = 4


def answer(serve: Serve, event: object, shelf: Shelf = SHELF) -> bytes:
    """What an honest server sends on an event: everything at once."""
    match event:
        case Wanted():
            return shelf.offer(serve)
        case Accepted():
            out = serve.listing(shelf.digests)
            while serve.next_chunk is not None:
                out += serve.chunk(shelf.chunks[serve.next_chunk])
            return out
    return b""


def react(pull: Pull, event: object, shelf: Shelf = SHELF, first: int = 0) -> bytes:
    """What an honest client sends on an event."""
    match event:
        case OfferReceived():
            return pull.accept(shelf.artifact, first=first)
        case Finished():
            return pull.done()
    return b""


def converse(cuts: list[int], first: int = 0) -> tuple[list[object], list[object], bytes]:
    """A whole transfer, its bytes cut at will both ways; all events, and what was written."""
    pull, serve = Pull(SHELF.env, limits=SMALL), Serve(limits=SMALL)
    there, back = bytearray(pull.start()), bytearray()
    pulled: list[object] = []
    served: list[object] = []
    file = bytearray(SHELF.payload[: first * 64].ljust(200, b"\0"))
    sizes = deque(cuts)
    while there or back:
        take = sizes.popleft() if sizes else len(there)
        piece, there = bytes(there[:take]), there[take:]
        for event in serve.receive(piece):
            served.append(event)
            back += answer(serve, event)
        take = sizes.popleft() if sizes else len(back)
        piece, back = bytes(back[:take]), back[take:]
        for event in pull.receive(piece):
            there += react(pull, event, first=first)
            if isinstance(event, ChunkVerified):
                file[event.offset : event.offset + len(event.data)] = event.data
            pulled.append(event)
        assert max(pull.buffered, serve.buffered) < SMALL.message_bytes + 4
    return pulled, served, bytes(file)


@settings(max_examples=80)
@given(st.lists(st.integers(0, 1_500), max_size=40), st.integers(0, COUNT))
def test_any_cutting_of_the_wire_gives_the_same_transfer(cuts, first):
    pulled, served, file = converse(cuts, first)
    assert served == [Wanted(env=SHELF.env), Accepted(first=first), Delivered()]
    assert pulled[0] == OfferReceived(
        envelope=SHELF.envelope, proof=PROOF, knowledge=b"", size=200, chunks=COUNT
    )
    assert pulled[-1] == Finished()
    assert [(one.index, one.offset, bytes(one.data)) for one in pulled[1:-1]] == [
        (index, index * 64, SHELF.chunks[index]) for index in range(first, COUNT)
    ]
    assert file == SHELF.payload


def offered(shelf: Shelf = SHELF, limits: Limits = SMALL) -> tuple[Pull, Serve]:
    pull, serve = Pull(shelf.env, limits=limits), Serve(limits=limits)
    list(serve.receive(pull.start()))
    list(pull.receive(shelf.offer(serve)))
    return pull, serve


def accepted(first: int = 0, shelf: Shelf = SHELF, limits: Limits = SMALL) -> tuple[Pull, Serve]:
    pull, serve = offered(shelf, limits)
    list(serve.receive(pull.accept(shelf.artifact, first=first)))
    return pull, serve


def moving(first: int = 0) -> tuple[Pull, Serve]:
    pull, serve = accepted(first)
    list(pull.receive(serve.listing(SHELF.digests)))
    return pull, serve


def test_a_broken_pull_goes_on_at_the_missing_chunk_from_another_peer():
    file = bytearray()
    pull, serve = moving()
    for index in (0, 1):
        for event in pull.receive(serve.chunk(SHELF.chunks[index])):
            file += event.data
    torn = serve.chunk(SHELF.chunks[2])[:30]
    assert list(pull.receive(torn)) == []
    assert pull.next_chunk == 2

    again, other = moving(first=pull.next_chunk)
    while other.next_chunk is not None:
        for event in again.receive(other.chunk(SHELF.chunks[other.next_chunk])):
            if isinstance(event, ChunkVerified):
                assert event.offset == len(file)
                file += event.data
    assert bytes(file) == SHELF.payload
    assert list(other.receive(again.done())) == [Delivered()]


def test_a_pull_that_has_every_chunk_finishes_on_the_digests():
    pull, serve = accepted(first=COUNT)
    assert list(pull.receive(serve.listing(SHELF.digests))) == [Finished()]
    assert serve.state is State.COMPLETE


def test_many_chunks_are_listed_in_full_pages():
    shelf = Shelf(os.urandom(2 * messages.PAGE_DIGESTS + 5), 1)
    pull, serve = accepted(shelf=shelf, limits=Limits())
    listing = serve.listing(shelf.digests)
    pages = [messages.decode(body) for body in messages_in(listing)]
    assert [page.first for page in pages] == [0, 4_096, 8_192]
    assert [len(page.digests) // 32 for page in pages] == [4_096, 4_096, 5]
    assert list(pull.receive(listing)) == []
    assert pull.state is State.MOVING


def messages_in(data: bytes) -> list[bytes]:
    bodies, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        bodies.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return bodies


def test_missing_busy_and_bye_are_events():
    pull, serve = Pull(SHELF.env), Serve()
    assert list(serve.receive(pull.start())) == [Wanted(env=SHELF.env)]
    assert list(pull.receive(serve.missing())) == [NotHeld()]
    pull, serve = Pull(SHELF.env), Serve()
    list(serve.receive(pull.start()))
    assert list(pull.receive(serve.busy(250))) == [TryLater(retry_ms=250)]
    assert pull.state is State.CLOSED
    assert serve.state is State.LEFT
    pull, serve = moving()
    assert list(pull.receive(serve.leave("disk full"))) == [Left(reason="disk full")]
    pull, serve = moving()
    assert list(serve.receive(pull.leave("disk full"))) == [Left(reason="disk full")]
    assert serve.next_chunk is None


def test_missing_of_another_artifact_is_refused():
    pull = Pull(SHELF.env)
    pull.start()
    with pytest.raises(SessionRefused, match="another artifact"):
        list(pull.receive(messages.encode(Missing(env=bytes(32)))))


def test_another_envelope_is_refused():
    pull = Pull(bytes(32), limits=SMALL)
    pull.start()
    offer = Offer(envelope=SHELF.envelope, proof=PROOF, knowledge=b"", size=200, chunks=COUNT)
    with pytest.raises(ManifestRefused, match="not the one that was asked for"):
        list(pull.receive(messages.encode(offer)))


@pytest.mark.parametrize(("size", "chunks"), [(201, 4), (200, 3), (100, 2)])
def test_an_offer_that_contradicts_the_manifest_is_refused(size, chunks):
    pull = Pull(SHELF.env, limits=SMALL)
    pull.start()
    offer = Offer(envelope=SHELF.envelope, proof=PROOF, knowledge=b"", size=size, chunks=chunks)
    list(pull.receive(messages.encode(offer)))
    with pytest.raises(ManifestRefused, match=f"says {size} bytes in {chunks} chunks"):
        pull.accept(SHELF.artifact)
    assert pull.state is State.REFUSED
    with pytest.raises(SessionRefused, match="closed after a refusal"):
        pull.receive(b"")


def test_chunks_above_the_limit_are_refused_with_the_manifest():
    shelf = Shelf(bytes(200), 65)
    pull = Pull(shelf.env, limits=SMALL)
    pull.start()
    offer = Offer(envelope=shelf.envelope, proof=PROOF, knowledge=b"", size=200, chunks=4)
    list(pull.receive(messages.encode(offer)))
    with pytest.raises(LimitExceeded, match="65 bytes"):
        pull.accept(shelf.artifact)


PAGE = b"".join(SHELF.digests)


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (Digests(first=1, digests=PAGE), "digests from 1; wanted them from 0"),
        (Digests(first=0, digests=PAGE[32:]), "96 bytes of digests"),
        (Digests(first=0, digests=PAGE + PAGE[:32]), "160 bytes of digests"),
        (Digests(first=0, digests=PAGE[32:] + PAGE[:32]), "do not lead to the root"),
        (Digests(first=0, digests=bytes(128)), "do not lead to the root"),
    ],
)
def test_digests_that_are_not_those_of_the_manifest_are_refused(page, text):
    pull, _ = accepted()
    with pytest.raises(ManifestRefused, match=text):
        list(pull.receive(messages.encode(page)))


FLIPPED = bytes([SHELF.chunks[0][0] ^ 1]) + SHELF.chunks[0][1:]


@pytest.mark.parametrize(
    ("chunk", "text"),
    [
        (Chunk(index=0, data=FLIPPED), "chunk 0 does not have its digest"),
        (Chunk(index=0, data=SHELF.chunks[1]), "chunk 0 does not have its digest"),
        (Chunk(index=1, data=SHELF.chunks[1]), "chunk 1; wanted chunk 0"),
        (Chunk(index=3, data=SHELF.chunks[3]), "chunk 3; wanted chunk 0"),
        (Chunk(index=4, data=SHELF.chunks[0]), "chunk 4; wanted chunk 0"),
        (Chunk(index=0, data=SHELF.chunks[0][:-1]), "has 63 bytes; wanted 64"),
    ],
)
def test_a_chunk_that_was_not_promised_is_refused(chunk, text):
    pull, _ = moving()
    with pytest.raises(ManifestRefused, match=text):
        list(pull.receive(messages.encode(chunk)))
    assert pull.next_chunk == 0


def test_a_chunk_is_refused_when_it_is_longer_repeated_or_one_too_many():
    pull, _ = moving(first=3)
    with pytest.raises(ManifestRefused, match="has 9 bytes; wanted 8"):
        list(pull.receive(messages.encode(Chunk(index=3, data=bytes(9)))))
    pull, serve = moving()
    first = serve.chunk(SHELF.chunks[0])
    list(pull.receive(first))
    with pytest.raises(ManifestRefused, match="chunk 0; wanted chunk 1"):
        list(pull.receive(first))
    pull, serve = moving(first=3)
    list(pull.receive(serve.chunk(SHELF.chunks[3])))
    assert pull.state is State.COMPLETE
    with pytest.raises(ManifestRefused, match="chunk 4 after the last of 4"):
        list(pull.receive(messages.encode(Chunk(index=4, data=b"x"))))


def test_nothing_is_taken_before_it_was_accepted():
    for early in (
        Digests(first=0, digests=PAGE),
        Chunk(index=0, data=SHELF.chunks[0]),
    ):
        pull, _ = offered()
        with pytest.raises(SessionRefused, match="out of turn"):
            list(pull.receive(messages.encode(early)))
    pull, _ = accepted()
    with pytest.raises(SessionRefused, match="chunk is out of turn"):
        list(pull.receive(messages.encode(Chunk(index=0, data=SHELF.chunks[0]))))


def test_the_server_refuses_a_chunk_that_is_not_there():
    _, serve = offered()
    with pytest.raises(SessionRefused, match="chunk 5 of 4 accepted"):
        list(serve.receive(messages.encode(Accept(first=5))))


def test_our_own_mistakes_are_bugs():
    pull, serve = offered()
    for first in (-1, 5):
        with pytest.raises(LocalProtocolError, match=f"chunk {first} of 4 accepted"):
            pull.accept(SHELF.artifact, first=first)
    assert pull.state is State.OFFERED
    with pytest.raises(LocalProtocolError, match="out of turn"):
        serve.chunk(b"x")
    with pytest.raises(LocalProtocolError, match="out of turn"):
        serve.listing([])
    with pytest.raises(LocalProtocolError, match="out of turn"):
        Pull(SHELF.env).accept(SHELF.artifact)
    with pytest.raises(LocalProtocolError, match="out of turn"):
        SHELF.offer(Serve())
    _, serve = accepted()
    with pytest.raises(LocalProtocolError, match="3 digests of 4 chunks"):
        serve.listing(SHELF.digests[1:])
    serve.listing(SHELF.digests)
    with pytest.raises(LocalProtocolError, match="chunk 0 of 63 bytes"):
        serve.chunk(bytes(63))
    serve = Serve(limits=SMALL)
    list(serve.receive(messages.encode(Want(env=bytes(32)))))
    with pytest.raises(LocalProtocolError, match="not the one that is wanted"):
        SHELF.offer(serve)


def pull_at(state: State) -> Pull:
    if state is State.START:
        return Pull(SHELF.env, limits=SMALL)
    if state is State.ASKING:
        pull = pull_at(State.START)
        pull.start()
        return pull
    if state in (State.OFFERED, State.REFUSED, State.CLOSED, State.LEFT):
        pull, _ = offered()
        finish(pull, state)
        return pull
    if state is State.LISTING:
        return accepted()[0]
    if state is State.MOVING:
        return moving()[0]
    pull, serve = accepted(first=COUNT)
    list(pull.receive(serve.listing(SHELF.digests)))
    return pull


def serve_at(state: State) -> Serve:
    if state is State.START:
        return Serve(limits=SMALL)
    if state is State.ASKING:
        serve = serve_at(State.START)
        list(serve.receive(messages.encode(Want(env=SHELF.env))))
        return serve
    if state in (State.OFFERED, State.REFUSED, State.CLOSED, State.LEFT):
        _, serve = offered()
        finish(serve, state)
        return serve
    if state is State.LISTING:
        return accepted()[1]
    if state is State.MOVING:
        return moving()[1]
    _, serve = accepted(first=COUNT)
    serve.listing(SHELF.digests)
    return serve


def finish(side: Pull | Serve, state: State) -> None:
    if state is State.REFUSED:
        with pytest.raises(SessionRefused):
            list(side.receive(messages.encode(messages.Ping(nonce=1))))
    if state is State.CLOSED:
        list(side.receive(messages.encode(Bye(reason=""))))
    if state is State.LEFT:
        side.leave("")


WORDS = {
    "want": Want(env=SHELF.env),
    "offer": Offer(envelope=SHELF.envelope, proof=PROOF, knowledge=b"", size=200, chunks=COUNT),
    "missing": Missing(env=SHELF.env),
    "busy": messages.Busy(retry_ms=1),
    "accept": Accept(first=0),
    "digests": Digests(first=0, digests=PAGE),
    "chunk": Chunk(index=0, data=SHELF.chunks[0]),
    "done": Done(),
    "bye": Bye(reason="so"),
    "hello": messages.Hello(
        consortium="c",
        node="a" * 32,
        name="n",
        charter=bytes(32),
        genesis=b"",
        version="",
        reads=(),
    ),
    "have": messages.Have(heads=(), degree=0, neighbours=(), learning=True),
    "ping": messages.Ping(nonce=1),
    "pong": messages.Pong(nonce=1),
}


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize(("table", "make"), [(PULL, pull_at), (SERVE, serve_at)])
def test_every_message_in_every_state_goes_by_the_table(table, make, state):
    assert make(state).state is state
    for name, word in WORDS.items():
        side = make(state)
        after = table.get((state, Direction.RECEIVE, name))
        if state is State.LEFT:
            assert list(side.receive(messages.encode(word))) == []
            assert side.state is State.LEFT
        elif after is None:
            with pytest.raises(SessionRefused):
                list(side.receive(messages.encode(word)))
            assert side.state is State.REFUSED
        elif (state, name) == (State.COMPLETE, "chunk"):
            with pytest.raises(ManifestRefused):
                list(side.receive(messages.encode(word)))
        else:
            list(side.receive(messages.encode(word)))
            # The one page of digests is the whole list, so the state moves on by itself.
            assert side.state is (State.MOVING if name == "digests" else after)


@pytest.mark.parametrize("state", list(State))
def test_every_word_of_ours_in_every_state_goes_by_the_table(state):
    pulls = {
        "want": lambda pull: pull.start(),
        "accept": lambda pull: pull.accept(SHELF.artifact),
        "done": lambda pull: pull.done(),
        "bye": lambda pull: pull.leave("so"),
    }
    serves = {
        "offer": SHELF.offer,
        "missing": lambda serve: serve.missing(),
        "busy": lambda serve: serve.busy(1),
        "digests": lambda serve: serve.listing(SHELF.digests),
        "chunk": lambda serve: serve.chunk(SHELF.chunks[0]),
        "bye": lambda serve: serve.leave("so"),
    }
    for table, make, calls in ((PULL, pull_at, pulls), (SERVE, serve_at, serves)):
        for name, call in calls.items():
            side = make(state)
            if (state, Direction.SEND, name) not in table:
                with pytest.raises(LocalProtocolError):
                    call(side)
                assert side.state is state
            else:
                sent = messages.decode(messages_in(call(side))[0])
                assert messages.name_of(sent) == name


def outcome(side: Pull | Serve, data: bytes, cuts: list[int], respond) -> list[object]:
    """The events that `data` makes, answered honestly, then the refusal if any."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    found: list[object] = []
    try:
        for start, end in pairwise(edges):
            for event in side.receive(data[start:end]):
                found.append(event)
                respond(side, event)
            assert side.buffered < SMALL.message_bytes + 4
    except RemoteError as fault:
        found.append((type(fault), fault.message))
        assert side.state is State.REFUSED
    return found


def honest_bytes() -> tuple[bytes, bytes]:
    """All that the client and the server of one transfer say."""
    pull, serve = Pull(SHELF.env, limits=SMALL), Serve(limits=SMALL)
    there, back = pull.start(), b""
    for want in serve.receive(there):
        back += answer(serve, want)
    for event in pull.receive(back):
        there += react(pull, event)
    for event in serve.receive(there[len(pull_at(State.START).start()) :]):
        back += answer(serve, event)
    return there + messages.encode(Done()), back


CLIENT_SAYS, SERVER_SAYS = honest_bytes()


def hostile(valid: bytes) -> st.SearchStrategy[bytes]:
    """Random bytes, changed bytes, lost pieces and repeated pieces of a valid conversation."""

    def change(changes: list[tuple[int, int]]) -> bytes:
        data = bytearray(valid)
        for position, byte in changes:
            data[position] = byte
        return bytes(data)

    places = st.integers(0, len(valid))
    return st.one_of(
        st.binary(max_size=200),
        st.lists(st.tuples(st.integers(0, len(valid) - 1), st.integers(0, 255)), max_size=3).map(
            change
        ),
        st.tuples(places, places).map(lambda two: valid[: min(two)] + valid[max(two) :]),
        st.tuples(places, places).map(lambda two: valid[: max(two)] + valid[min(two) :]),
    )


@settings(max_examples=100)
@given(hostile(SERVER_SAYS), st.lists(st.integers(0, 3_000), max_size=8))
def test_no_server_can_do_more_than_be_refused(data, cuts):
    def run(cuts: list[int]) -> list[object]:
        return outcome(pull_at(State.ASKING), data, cuts, react)

    whole = run([])
    assert run(cuts) == run(list(range(0, len(data), 5))) == whole
    got = b"".join(bytes(one.data) for one in whole if isinstance(one, ChunkVerified))
    assert SHELF.payload.startswith(got)


@settings(max_examples=100)
@given(hostile(CLIENT_SAYS), st.lists(st.integers(0, 3_000), max_size=8))
def test_no_client_can_do_more_than_be_refused(data, cuts):
    def respond(serve: Serve, event: object) -> None:
        if event == Wanted(env=SHELF.env):
            SHELF.offer(serve)
        elif isinstance(event, Wanted):
            serve.missing()
        else:
            answer(serve, event)

    def run(cuts: list[int]) -> list[object]:
        return outcome(Serve(limits=SMALL), data, cuts, respond)

    assert run(cuts) == run([]) == run(list(range(0, len(data), 5)))


def test_two_honest_sides_never_refuse_each_other_whatever_crosses_on_the_way():
    """Two chunks, every interleaving with up to three messages under way each way."""
    first = (State.START, State.START, 0, 0, (), ())
    seen, todo = {first}, deque([first])

    def step(table, state, direction, word, moved):
        after = table.get((state, direction, word))
        assert after is not None, f"{word} is refused in {state}"
        if word == "digests":
            after = table[after, Direction.REACH, "listed"]
        if word == "chunk":
            moved += 1
            if moved == 2:
                after = table[after, Direction.REACH, "moved"]
        return after, moved

    def hear(table, state, word, moved):
        if state is State.LEFT:
            return state, moved
        return step(table, state, Direction.RECEIVE, word, moved)

    while todo:
        pull, serve, got, gave, there, back = todo.popleft()
        following = []
        for table, state, wire in ((PULL, pull, there), (SERVE, serve, back)):
            for where, direction, word in table:
                if where is not state or direction is not Direction.SEND or len(wire) == 3:
                    continue
                if table is PULL:
                    after, _ = step(table, state, direction, word, got)
                    following.append((after, serve, got, gave, (*there, word), back))
                else:
                    after, moved = step(table, state, direction, word, gave)
                    following.append((pull, after, got, moved, there, (*back, word)))
        if there:
            after, moved = hear(SERVE, serve, there[0], gave)
            following.append((pull, after, got, moved, there[1:], back))
        if back:
            after, moved = hear(PULL, pull, back[0], got)
            following.append((after, serve, moved, gave, there, back[1:]))
        for one in following:
            if one not in seen:
                seen.add(one)
                todo.append(one)
    assert (State.LEFT, State.CLOSED, 2, 2, (), ()) in seen
    assert len(seen) > 50


@pytest.mark.parametrize("size", [1, 200, 10_000, 999_999, 1_000_000, 3 * MIB, 3 * MIB + 1])
def test_the_wire_costs_little_more_than_the_payload(size):
    shelf = Shelf(os.urandom(size), MIB)
    # A real envelope and proof: about 2 KB and 0.7 KB.
    assert len(PROOF) > 700
    pull, serve = Pull(shelf.env), Serve()
    there, back = pull.start(), b""
    for event in serve.receive(there):
        back += answer(serve, event, shelf)
    start = len(there)
    for event in pull.receive(back):
        there += react(pull, event, shelf)
    before = len(back)
    for event in serve.receive(there[start:]):
        back += answer(serve, event, shelf)
    for event in pull.receive(back[before:]):
        there += react(pull, event, shelf)
    # The envelope here is small; count as if it had 2,048 bytes.
    overhead = len(there) + len(back) - size + max(0, 2_048 - len(shelf.envelope))
    assert overhead <= (size // 50 if size >= 1_000_000 else 4_096)


def test_a_pull_holds_one_chunk_and_hardly_costs_more_than_its_hashes():
    shelf = Shelf(os.urandom(24 * MIB), MIB)
    limits = Limits()

    def pull_all() -> float:
        pull, serve = accepted(shelf=shelf, limits=limits)
        pieces = [serve.listing(shelf.digests)]
        started, taken = time.process_time(), 0
        while pieces or serve.next_chunk is not None:
            frame = pieces.pop() if pieces else serve.chunk(shelf.chunks[serve.next_chunk or 0])
            for at in range(0, len(frame), 65_536):
                for event in pull.receive(frame[at : at + 65_536]):
                    taken += isinstance(event, ChunkVerified)
        assert taken == 24
        return time.process_time() - started

    def hash_all() -> float:
        started = time.process_time()
        for chunk in shelf.chunks:
            sha256(chunk).digest()
        return time.process_time() - started

    assert min(pull_all() for _ in range(3)) < 4 * min(hash_all() for _ in range(3))
    tracemalloc.start()
    pull_all()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Here both sides live in one process: the server's frame, and the client's.
    assert peak < 4 * MIB


def test_a_reader_never_holds_more_than_the_manifest_admits():
    pull, _ = moving()
    with pytest.raises(LimitExceeded):
        list(pull.receive((SMALL.message_bytes + 1).to_bytes(4, "big")))
    shelf = Shelf(bytes(10_000), 4_000)
    pull, serve = accepted(shelf=shelf, limits=Limits(message_bytes=2_000))
    list(pull.receive(serve.listing(shelf.digests)))
    assert list(pull.receive((4_005).to_bytes(4, "big"))) == []
    with pytest.raises(LimitExceeded):
        list(Pull(shelf.env).receive((4_006 * 1_000).to_bytes(4, "big")))


def test_chunks_are_counted_up():
    assert [chunk_count(size, 64) for size in (1, 64, 65, 128)] == [1, 1, 2, 2]
