"""Conversations: a table of turns, walked by two parties who do not trust each other.

A table maps (state, direction, what) to the next state; what it does not hold is out of
turn. `Conversation` owns one state and changes it by that table alone, so a table is all
there is to know about who may say what, and when. Bytes go in, events come out, and bytes
to send are returned: no socket, no clock, no randomness.

Events are made one by one while the caller iterates, so that what it does on an event
(accept an offer, say) counts before the next message is looked at, and at most one frame is
alive. How the bytes were cut on their way changes neither the events nor the refusal.

A refusal is for good: nothing more is read, and the only thing left to say is a `Bye`.
After our own `Bye`, bytes that were still under way are dropped unread.
"""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import msgspec

from konsil.protocol import cmp1, messages
from konsil.protocol.errors import LocalProtocolError, RemoteError, SessionRefused
from konsil.protocol.frames import Bytes, FrameReader
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.messages import Bye, Message

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E")

REASON_CHARACTERS = 200


class Direction(StrEnum):
    """How a conversation moves on: we speak, they speak, or a count is complete."""

    SEND = "send"
    RECEIVE = "receive"
    REACH = "reach"


Table: TypeAlias = "Mapping[tuple[S, Direction, str], S]"
"""Every turn there is: (state, direction, name of the message) to the next state."""


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """They said `Bye`: nothing more will come, and nothing more may be sent."""

    reason: str


class Conversation(ABC, Generic[S, E]):
    """One party's side of a stream: its state, and the messages it may send and receive.

    `refused` and `left` are the states after a refusal of ours and after a `Bye` of ours.
    """

    def __init__(
        self, table: Table[S], *, start: S, refused: S, left: S, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self._table = table
        self._state = start
        self._refused = refused
        self._left = left
        self._limits = limits
        self._reader = FrameReader(limits.message_bytes)
        self._refusal: RemoteError | None = None

    @property
    def state(self) -> S:
        """Where the conversation stands."""
        return self._state

    @property
    def refusal(self) -> RemoteError | None:
        """What we refused, once we did."""
        return self._refusal

    @property
    def buffered(self) -> int:
        """Bytes of an unfinished frame that are held; never more than the limit of one."""
        return self._reader.buffered

    def receive(self, data: Bytes) -> Iterator[E | Left]:
        """The events that `data` completes; iterate to the end before the next call.

        The iterator raises a `RemoteError` at the first thing that the rules refuse, after
        the events before it; from then on `receive` raises `SessionRefused`. Raises
        `LocalProtocolError` when the events of the last call were not all taken.
        """
        if self._state == self._left:
            return iter(())
        if self._refusal is not None:
            raise SessionRefused(f"closed after a refusal: {self._refusal.message}")
        return self._events(self._reader.feed(data))

    def leave(self, reason: str) -> bytes:
        """The `Bye` to send before closing, also once after a refusal.

        `reason` is cut and cleaned so that it can be sent whatever it quotes.
        """
        most = min(REASON_CHARACTERS, self._limits.text_bytes // 4)
        return self._send(Bye(reason=_presentable(reason)[:most]))

    @abstractmethod
    def _take(self, message: Message) -> Sequence[E | Left]:
        """The events of a message that is in turn; raises `RemoteError` to refuse it."""

    def _events(self, bodies: Iterator[memoryview]) -> Iterator[E | Left]:
        while self._state != self._left:
            try:
                body = next(bodies, None)
                if body is None:
                    return
                events = self._hear(messages.decode(body, limits=self._limits))
            except RemoteError as fault:
                self._refuse(fault)
                raise
            # Only the event may keep the frame alive while the next one is cut.
            del body
            yield from events
            del events

    def _hear(self, message: Message) -> Sequence[E | Left]:
        self._step(Direction.RECEIVE, messages.name_of(message))
        if isinstance(message, Bye):
            return (Left(reason=message.reason),)
        return self._take(message)

    def _send(self, message: Message) -> bytes:
        """The frame of `message`; raises `LocalProtocolError` when it is not our turn."""
        after = self._after(Direction.SEND, messages.name_of(message))
        data = messages.encode(message, limits=self._limits)
        self._state = after
        return data

    def _step(self, direction: Direction, what: str) -> None:
        self._state = self._after(direction, what)

    def _after(self, direction: Direction, what: str) -> S:
        after = self._table.get((self._state, direction, what))
        if after is not None:
            return after
        text = f"{what} is out of turn in the state {self._state.value!r}"
        if direction is Direction.RECEIVE:
            raise SessionRefused(text)
        raise LocalProtocolError(text)

    def _refuse(self, fault: RemoteError) -> None:
        self._refusal = fault
        self._state = self._refused


def _presentable(reason: str) -> str:
    """`reason` as cmp1 can say it: in NFC, and a space for whatever cannot be shown."""
    text = unicodedata.normalize("NFC", reason.encode("utf-8", "replace").decode("utf-8"))
    return "".join(one if cmp1.text_fault(one) is None else " " for one in text)
