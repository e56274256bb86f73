"""The session: what two nodes say on their long-lived control stream.

The opener greets first; the answerer looks at that greeting before it says who it is. Then
both may say at any time what they have, and ask whether the other is still there. All that
decides who may say what, and when, is `TABLE`; messages that it does not hold are refused
when they come (`SessionRefused`) and a bug when we send them (`LocalProtocolError`).

A `Hello` is refused unless its format is known, its consortium and member list are ours,
its node id is that of the genesis entry it carries, and it is not our own. Whether that
node is a member is for the caller to decide, on `HelloReceived`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from konsil.protocol.conversation import Conversation, Direction, Left
from konsil.protocol.errors import LocalProtocolError, SessionRefused
from konsil.protocol.identity import node_id
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.messages import Have, Hello, Message, Ping, Pong

if TYPE_CHECKING:
    from collections.abc import Mapping

    from konsil.protocol.conversation import Table


class Role(StrEnum):
    """Who opened the stream."""

    OPENER = "opener"
    ANSWERER = "answerer"


class State(StrEnum):
    """Where a session stands."""

    START = "start"
    """Nothing was said."""
    GREETING = "greeting"
    """Our hello is under way (opener)."""
    GREETED = "greeted"
    """Their hello was good; ours is due (answerer)."""
    OPEN = "open"
    """Both have greeted."""
    ASKING = "asking"
    """Open, and our ping has no answer yet."""
    ASKED = "asked"
    """Open, and we owe an answer to their ping."""
    BOTH = "both"
    """Open, and each owes the other an answer."""
    REFUSED = "refused"
    """We refused what they said."""
    LEFT = "left"
    """We said bye."""
    CLOSED = "closed"
    """They said bye."""


_SEND, _RECEIVE = Direction.SEND, Direction.RECEIVE

_TALK: Final[Table[State]] = {
    (State.OPEN, _SEND, "have"): State.OPEN,
    (State.OPEN, _RECEIVE, "have"): State.OPEN,
    (State.OPEN, _SEND, "ping"): State.ASKING,
    (State.OPEN, _RECEIVE, "ping"): State.ASKED,
    (State.OPEN, _SEND, "bye"): State.LEFT,
    (State.OPEN, _RECEIVE, "bye"): State.CLOSED,
    (State.ASKING, _SEND, "have"): State.ASKING,
    (State.ASKING, _RECEIVE, "have"): State.ASKING,
    (State.ASKING, _RECEIVE, "pong"): State.OPEN,
    (State.ASKING, _RECEIVE, "ping"): State.BOTH,
    (State.ASKING, _SEND, "bye"): State.LEFT,
    (State.ASKING, _RECEIVE, "bye"): State.CLOSED,
    (State.ASKED, _SEND, "have"): State.ASKED,
    (State.ASKED, _RECEIVE, "have"): State.ASKED,
    (State.ASKED, _SEND, "pong"): State.OPEN,
    (State.ASKED, _SEND, "ping"): State.BOTH,
    (State.ASKED, _SEND, "bye"): State.LEFT,
    (State.ASKED, _RECEIVE, "bye"): State.CLOSED,
    (State.BOTH, _SEND, "have"): State.BOTH,
    (State.BOTH, _RECEIVE, "have"): State.BOTH,
    (State.BOTH, _SEND, "pong"): State.ASKING,
    (State.BOTH, _RECEIVE, "pong"): State.ASKED,
    (State.BOTH, _SEND, "bye"): State.LEFT,
    (State.BOTH, _RECEIVE, "bye"): State.CLOSED,
    (State.REFUSED, _SEND, "bye"): State.LEFT,
}

TABLE: Final[Mapping[Role, Table[State]]] = {
    Role.OPENER: {
        (State.START, _SEND, "hello"): State.GREETING,
        (State.GREETING, _RECEIVE, "hello"): State.OPEN,
        (State.GREETING, _SEND, "bye"): State.LEFT,
        (State.GREETING, _RECEIVE, "bye"): State.CLOSED,
        **_TALK,
    },
    Role.ANSWERER: {
        (State.START, _RECEIVE, "hello"): State.GREETED,
        (State.GREETED, _SEND, "hello"): State.OPEN,
        (State.GREETED, _SEND, "bye"): State.LEFT,
        (State.GREETED, _RECEIVE, "bye"): State.CLOSED,
        **_TALK,
    },
}
"""Every turn of a session, for each role."""


class HelloReceived(msgspec.Struct, frozen=True, kw_only=True):
    """They greeted, and the greeting is good; membership is still to be decided."""

    hello: Hello


class HaveReceived(msgspec.Struct, frozen=True, kw_only=True):
    """They said what they can serve."""

    have: Have


class PingReceived(msgspec.Struct, frozen=True, kw_only=True):
    """They ask whether we are there; send `Pong(nonce=nonce)`."""

    nonce: int


class PongReceived(msgspec.Struct, frozen=True, kw_only=True):
    """They answered our ping."""

    nonce: int


Event: TypeAlias = HelloReceived | HaveReceived | PingReceived | PongReceived | Left


class Session(Conversation[State, Event]):
    """One side of a control stream; `hello` is our own greeting."""

    def __init__(self, role: Role, hello: Hello, *, limits: Limits = DEFAULT_LIMITS) -> None:
        """Raises `LocalProtocolError` on a greeting that the other side would refuse."""
        super().__init__(
            TABLE[role],
            start=State.START,
            refused=State.REFUSED,
            left=State.LEFT,
            limits=limits,
        )
        if node_id(hello.genesis) != hello.node:
            raise LocalProtocolError("our hello names another node than its genesis entry")
        self._role = role
        self._hello = hello
        self._peer: Hello | None = None
        self._our_nonce = 0
        self._their_nonce = 0

    @property
    def role(self) -> Role:
        """Whether we opened the stream."""
        return self._role

    @property
    def peer(self) -> Hello | None:
        """Their greeting, once it was good."""
        return self._peer

    def start(self) -> bytes:
        """Our `Hello`: for the opener at once, for the answerer after `HelloReceived`."""
        return self._send(self._hello)

    def send(self, message: Have | Ping | Pong) -> bytes:
        """The bytes of a message; raises `LocalProtocolError` when it is not our turn."""
        if not isinstance(message, Have | Ping | Pong):
            raise LocalProtocolError("a hello is sent by start(), a bye by leave()")
        if isinstance(message, Pong) and message.nonce != self._their_nonce:
            raise LocalProtocolError(f"pong {message.nonce} answers no ping")
        data = self._send(message)
        if isinstance(message, Ping):
            self._our_nonce = message.nonce
        return data

    def _take(self, message: Message) -> tuple[Event, ...]:
        match message:
            case Hello():
                self._check_hello(message)
                self._peer = message
                return (HelloReceived(hello=message),)
            case Have():
                return (HaveReceived(have=message),)
            case Ping():
                self._their_nonce = message.nonce
                return (PingReceived(nonce=message.nonce),)
            case Pong(nonce=self._our_nonce):
                return (PongReceived(nonce=message.nonce),)
            case _:
                raise SessionRefused("a pong that answers no ping")

    def _check_hello(self, hello: Hello) -> None:
        ours = self._hello
        if hello.consortium != ours.consortium:
            raise SessionRefused(
                f"{hello.name} belongs to the consortium {hello.consortium!r}, "
                f"this node to {ours.consortium!r}"
            )
        if node_id(hello.genesis) != hello.node:
            raise SessionRefused(f"{hello.name} names another node than its genesis entry")
        if hello.node == ours.node:
            raise SessionRefused("this node is talking to itself")
        if hello.charter != ours.charter:
            raise SessionRefused(
                f"{hello.name} has another member list: {hello.charter.hex()[:16]} there, "
                f"{ours.charter.hex()[:16]} here",
                hint="every node of a consortium needs the same [[members]] tables",
            )
