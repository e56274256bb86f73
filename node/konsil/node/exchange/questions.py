"""Questions about logs: each has the one kind of answer that fits, and no other is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from konsil.node.transports.transport import MIRROR_PROTOCOL
from konsil.protocol import mirror
from konsil.protocol.errors import EncodingRefused
from konsil.protocol.mirror import Page, Proven, Question, Seen

if TYPE_CHECKING:
    from konsil.node.exchange.asking import Lines
    from konsil.protocol.limits import Limits
    from konsil.protocol.members import Member

T = TypeVar("T", Page, Proven, Seen)


class Questions:
    """Asks members what they hold of logs."""

    def __init__(self, lines: Lines, limits: Limits) -> None:
        self._lines = lines
        self._limits = limits

    async def ask(self, member: Member, question: Question, kind: type[T]) -> T:
        """The answer of a member. Raises as `Lines.ask` does."""
        data = await self._lines.ask(member.peer, MIRROR_PROTOCOL, mirror.pack(question))
        answer = mirror.read_answer(data, limits=self._limits)
        if not isinstance(answer, kind):
            raise EncodingRefused(f"an answer other than a {kind.__name__}")
        return answer
