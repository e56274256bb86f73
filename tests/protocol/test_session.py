"""Sessions: one table, honest sides that never refuse each other, and liars who are refused."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol import cmp1, messages
from konsil.protocol.conversation import Direction, Left
from konsil.protocol.errors import (
    EncodingRefused,
    LimitExceeded,
    LocalProtocolError,
    RemoteError,
    SessionRefused,
)
from konsil.protocol.frames import frame
from konsil.protocol.identity import node_id
from konsil.protocol.limits import Limits
from konsil.protocol.messages import Bye, Have, Head, Hello, Ping, Pong
from konsil.protocol.session import (
    TABLE,
    HaveReceived,
    HelloReceived,
    PingReceived,
    PongReceived,
    Role,
    Session,
    State,
)

SMALL = Limits(message_bytes=2_000)
MIRROR = {Role.OPENER: Role.ANSWERER, Role.ANSWERER: Role.OPENER}


def hello(name: str, **changes) -> Hello:
    genesis = b"genesis of " + name.encode()
    fields = {
        "consortium": "demo",
        "node": node_id(genesis),
        "name": name,
        "charter": bytes(32),
        "genesis": genesis,
        "version": "0.1.0",
        "reads": ("safetensors",),
    }
    return Hello(**{**fields, **changes})


HEAD = Head(
    publisher=hello("anna").node,
    kind="parameters",
    sequence=1,
    env=bytes(32),
    art=bytes(32),
    size=100,
    round=0,
)
HAVE = Have(heads=(HEAD,), degree=1, neighbours=(hello("anna").node,), learning=True)

SAMPLES = {
    "hello": hello("bern"),
    "have": HAVE,
    "ping": Ping(nonce=1),
    "pong": Pong(nonce=1),
    "bye": Bye(reason="done"),
    "want": messages.Want(env=bytes(32)),
    "offer": messages.Offer(envelope=b"", proof=b"", knowledge=b"", size=1, chunks=1),
    "missing": messages.Missing(env=bytes(32)),
    "busy": messages.Busy(retry_ms=1),
    "accept": messages.Accept(first=0),
    "digests": messages.Digests(first=0, digests=bytes(32)),
    "done": messages.Done(),
    "announcement": messages.Announcement(
        node=hello("anna").node, heads=(), degree=0, neighbours=(), checkpoint=b"", sent_ms=0
    ),
    "chunk": messages.Chunk(index=0, data=b"x"),
}


def new(role: Role, name: str = "anna") -> Session:
    return Session(role, hello(name), limits=SMALL)


def say(session: Session, *said: messages.Message) -> list[object]:
    """Let the other side say something; the events."""
    return list(session.receive(b"".join(messages.encode(one) for one in said)))


def opened(role: Role) -> Session:
    session = new(role)
    if role is Role.OPENER:
        session.start()
    say(session, hello("bern"))
    if role is Role.ANSWERER:
        session.start()
    assert session.state is State.OPEN
    return session


def at(role: Role, state: State) -> Session:
    """A session in `state`, reached by a conversation."""
    if state is State.START:
        return new(role)
    if state is State.GREETING:
        session = new(role)
        session.start()
        return session
    if state is State.GREETED:
        session = new(role)
        say(session, hello("bern"))
        return session
    session = opened(role)
    if state in (State.ASKING, State.BOTH):
        session.send(Ping(nonce=1))
    if state in (State.ASKED, State.BOTH):
        say(session, Ping(nonce=1))
    if state is State.LEFT:
        session.leave("home")
    if state is State.CLOSED:
        say(session, Bye(reason="home"))
    if state is State.REFUSED:
        with pytest.raises(SessionRefused):
            say(session, messages.Done())
    assert session.state is state
    return session


STATES = [
    (role, state)
    for role in Role
    for state in State
    if (role, state) not in ((Role.OPENER, State.GREETED), (Role.ANSWERER, State.GREETING))
]


@pytest.mark.parametrize(("role", "state"), STATES, ids=lambda value: value.value)
def test_every_message_in_every_state_goes_by_the_table(role, state):
    for name, sample in SAMPLES.items():
        session = at(role, state)
        after = TABLE[role].get((state, Direction.RECEIVE, name))
        if state is State.LEFT:
            assert say(session, sample) == []
            assert session.state is State.LEFT
        elif after is None:
            with pytest.raises(SessionRefused):
                say(session, sample)
            assert session.state is State.REFUSED
            assert session.refusal is not None
        else:
            assert len(say(session, sample)) == 1
            assert session.state is after


@pytest.mark.parametrize(("role", "state"), STATES, ids=lambda value: value.value)
def test_every_word_of_ours_in_every_state_goes_by_the_table(role, state):
    calls = {
        "hello": lambda session: session.start(),
        "have": lambda session: session.send(HAVE),
        "ping": lambda session: session.send(Ping(nonce=1)),
        "pong": lambda session: session.send(Pong(nonce=1)),
        "bye": lambda session: session.leave("done"),
    }
    for name, call in calls.items():
        session = at(role, state)
        after = TABLE[role].get((state, Direction.SEND, name))
        if after is None:
            with pytest.raises(LocalProtocolError):
                call(session)
            assert session.state is state
        else:
            assert messages.name_of(messages.decode(call(session)[4:])) == name
            assert session.state is after


@pytest.mark.parametrize("role", list(Role))
def test_the_table_is_closed_and_its_ends_are_ends(role):
    table = TABLE[role]
    reached = {State.START, State.REFUSED, *table.values()}
    assert {state for state, _, _ in table} <= reached
    assert not [turn for turn in table if turn[0] in (State.LEFT, State.CLOSED)]
    assert [turn for turn in table if turn[0] is State.REFUSED] == [
        (State.REFUSED, Direction.SEND, "bye")
    ]


def test_two_honest_sides_never_refuse_each_other_whatever_crosses_on_the_way():
    """Every conversation with up to three messages under way each way, exhaustively."""
    first = (State.START, State.START, (), ())
    seen, todo = {first}, deque([first])
    while todo:
        opener, answerer, there, back = todo.popleft()
        following = []
        for (state, direction, word), after in TABLE[Role.OPENER].items():
            if state is opener and direction is Direction.SEND and len(there) < 3:
                following.append((after, answerer, (*there, word), back))
        for (state, direction, word), after in TABLE[Role.ANSWERER].items():
            if state is answerer and direction is Direction.SEND and len(back) < 3:
                following.append((opener, after, there, (*back, word)))
        if there:
            after = heard(Role.ANSWERER, answerer, there[0])
            following.append((opener, after, there[1:], back))
        if back:
            after = heard(Role.OPENER, opener, back[0])
            following.append((after, answerer, there, back[1:]))
        for one in following:
            if one not in seen:
                seen.add(one)
                todo.append(one)
    assert len(seen) > 500
    assert any(a is State.BOTH and b is State.BOTH for a, b, _, _ in seen)


def heard(role: Role, state: State, word: str) -> State:
    if state is State.LEFT:
        return state
    after = TABLE[role].get((state, Direction.RECEIVE, word))
    assert after is not None, f"honest {role} in {state} would refuse {word}"
    return after


def converse(cuts: list[int]) -> tuple[list[object], list[object]]:
    """A whole reactive conversation, its bytes cut at will; the events of both sides."""
    sides = {Role.OPENER: new(Role.OPENER, "anna"), Role.ANSWERER: new(Role.ANSWERER, "bern")}
    wires = {role: bytearray() for role in Role}  # bytes on their way to `role`
    events: dict[Role, list[object]] = {role: [] for role in Role}
    wires[Role.ANSWERER] += sides[Role.OPENER].start()
    sizes, turn = deque(cuts), 0
    while wires[Role.OPENER] or wires[Role.ANSWERER]:
        role = list(Role)[turn % 2]
        turn += 1
        take = sizes.popleft() if sizes else len(wires[role])
        piece, wires[role] = bytes(wires[role][:take]), wires[role][take:]
        for event in sides[role].receive(piece):
            events[role].append(event)
            wires[MIRROR[role]] += react(role, sides[role], event)
        assert sides[role].buffered < SMALL.message_bytes + 4
    return events[Role.OPENER], events[Role.ANSWERER]


def react(role: Role, session: Session, event: object) -> bytes:
    match event:
        case HelloReceived() if role is Role.ANSWERER:
            return session.start() + session.send(HAVE) + session.send(Ping(nonce=22))
        case HelloReceived():
            return session.send(HAVE) + session.send(Ping(nonce=11))
        case PingReceived():
            return session.send(Pong(nonce=event.nonce))
        case PongReceived() if role is Role.OPENER:
            return session.send(HAVE) + session.leave("that is all")
    return b""


@settings(max_examples=60)
@given(st.lists(st.integers(0, 300), max_size=40))
def test_any_cutting_of_the_wire_gives_the_same_conversation(cuts):
    opener, answerer = converse(cuts)
    assert opener == [
        HelloReceived(hello=hello("bern")),
        HaveReceived(have=HAVE),
        PingReceived(nonce=22),
        PongReceived(nonce=11),
    ]
    assert answerer == [
        HelloReceived(hello=hello("anna")),
        HaveReceived(have=HAVE),
        PingReceived(nonce=11),
        PongReceived(nonce=22),
        HaveReceived(have=HAVE),
        Left(reason="that is all"),
    ]


VALID = b"".join(
    messages.encode(one)
    for one in (
        hello("bern"),
        HAVE,
        Ping(nonce=3),
        HAVE,
        Bye(reason="see you"),
    )
)


def outcome(data: bytes, cuts: list[int]) -> list[object]:
    """What a greeting opener makes of `data`: its events, then the refusal if any."""
    session = at(Role.OPENER, State.GREETING)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    found: list[object] = []
    try:
        for start, end in pairwise(edges):
            for event in session.receive(data[start:end]):
                found.append(event)
            assert session.buffered < SMALL.message_bytes + 4
    except RemoteError as fault:
        found.append((type(fault), fault.message))
        assert session.state is State.REFUSED
    return found


@settings(max_examples=120)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), max_size=3).map(
            lambda changes: mutated(changes)
        ),
        st.integers(0, len(VALID)).map(lambda at: VALID[:at] + VALID),
    ),
    st.lists(st.integers(0, 1_000), max_size=8),
)
def test_hostile_bytes_end_in_a_remote_error_alike_however_they_are_cut(data, cuts):
    assert outcome(data, cuts) == outcome(data, []) == outcome(data, list(range(0, len(data), 7)))


def mutated(changes: list[tuple[int, int]]) -> bytes:
    data = bytearray(VALID)
    for position, byte in changes:
        data[position] = byte
    return bytes(data)


@pytest.mark.parametrize(
    ("greeting", "text"),
    [
        (hello("bern", consortium="other"), "bern belongs to the consortium 'other', this node"),
        (hello("bern", node=hello("carl").node), "another node than its genesis entry"),
        (hello("bern", genesis=b"forged"), "another node than its genesis entry"),
        (hello("anna"), "talking to itself"),
        (hello("bern", charter=b"\xab" * 32), "another member list: abababababababab there"),
    ],
)
@pytest.mark.parametrize("role", list(Role))
def test_a_hello_that_does_not_fit_is_refused_in_clear_text(role, greeting, text):
    session = at(role, State.GREETING if role is Role.OPENER else State.START)
    with pytest.raises(SessionRefused) as caught:
        say(session, greeting)
    assert text in caught.value.message
    assert session.peer is None


def test_another_member_list_comes_with_a_hint():
    with pytest.raises(SessionRefused) as caught:
        say(new(Role.ANSWERER), hello("bern", charter=bytes([7]) * 32))
    assert "[[members]]" in caught.value.hint


def test_an_unknown_format_is_refused_by_name():
    fields = msgspec.to_builtins(hello("bern"), builtin_types=(bytes,))
    body = cmp1.encode(fields | {"format": 2, "node": 0, "new": True})
    with pytest.raises(SessionRefused, match="format 2 is not known here; this node speaks 1"):
        list(new(Role.ANSWERER).receive(frame(body)))


def test_a_refused_session_is_closed_for_good():
    session = at(Role.OPENER, State.REFUSED)
    with pytest.raises(SessionRefused, match="closed after a refusal: done is out of turn"):
        session.receive(messages.encode(hello("bern")))
    with pytest.raises(LocalProtocolError):
        session.send(HAVE)
    with pytest.raises(LocalProtocolError):
        session.start()
    assert messages.decode(session.leave("no\nmore")[4:]) == Bye(reason="no more")
    assert list(session.receive(b"anything at all")) == []
    with pytest.raises(LocalProtocolError):
        session.leave("twice")


def test_after_our_bye_everything_is_dropped_unread():
    session = opened(Role.OPENER)
    taken = []
    for event in session.receive(messages.encode(HAVE) + b"\xff\xff\xff\xff"):
        taken.append(event)
        session.leave("enough")
    assert taken == [HaveReceived(have=HAVE)]
    assert list(session.receive(b"\xff\xff\xff\xff")) == []
    assert session.state is State.LEFT


def test_a_pong_must_answer_the_ping():
    session = at(Role.OPENER, State.ASKING)
    with pytest.raises(SessionRefused, match="answers no ping"):
        say(session, Pong(nonce=2))
    session = at(Role.OPENER, State.ASKED)
    with pytest.raises(LocalProtocolError, match="answers no ping"):
        session.send(Pong(nonce=2))


def test_a_frame_above_the_bound_of_messages_is_refused_at_its_header():
    with pytest.raises(LimitExceeded, match="2001 bytes"):
        list(new(Role.ANSWERER).receive((2_001).to_bytes(4, "big")))


def test_nonsense_is_refused():
    with pytest.raises(EncodingRefused):
        list(new(Role.ANSWERER).receive(frame(b"GET / HTTP/1.1")))


def test_hello_and_bye_have_calls_of_their_own():
    session = opened(Role.OPENER)
    for word in (hello("anna"), Bye(reason="")):
        with pytest.raises(LocalProtocolError, match="start"):
            session.send(word)  # type: ignore[arg-type]


def test_our_own_hello_must_be_true():
    with pytest.raises(LocalProtocolError, match="genesis"):
        Session(Role.OPENER, hello("anna", node=hello("bern").node))


def test_a_session_knows_its_role_and_its_peer():
    session = opened(Role.ANSWERER)
    assert session.role is Role.ANSWERER
    assert session.peer == hello("bern")


def test_events_must_be_taken_before_more_bytes_come():
    session = opened(Role.OPENER)
    session.receive(messages.encode(HAVE))
    with pytest.raises(LocalProtocolError, match="not all taken"):
        session.receive(messages.encode(HAVE))


@given(st.text(max_size=400))
def test_any_reason_can_be_given(reason):
    session = opened(Role.OPENER)
    message = messages.decode(session.leave(reason)[4:])
    assert isinstance(message, Bye)
    assert len(message.reason) <= 200


def test_a_reason_of_lone_surrogates_can_be_given():
    assert messages.decode(opened(Role.OPENER).leave("\ud800")[4:]) == Bye(reason="?")
