"""Cosigning: vouch for the logs of others, and collect what others vouch for of ours.

Any member may ask us to vouch for its newest checkpoint (C2SP tlog-witness, over a stream). We
mirror what it signs for first, and the new state is durable before our signature leaves. What
our neighbours sign stands together under our own newest checkpoint in `ledger/cosigned`.

A cosigned checkpoint is therefore one whose entries somebody else holds. Nothing of ours is
released under another: what nobody holds, nobody must know that we signed. Times in seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from konsil.node.exchange.asking import BROKEN, Line, calling
from konsil.node.store.durable import replace
from konsil.node.transports.transport import WITNESS_PROTOCOL
from konsil.protocol import cosignature, witness
from konsil.protocol.cosignature import WitnessKey
from konsil.protocol.errors import ManifestRefused, RemoteError
from konsil.protocol.witness import COSIGNED, Request
from konsil.trust import witnessing
from konsil.trust.witnessing import Witness

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from konsil.node.exchange.visits import Expose
    from konsil.node.exchange.watch import Watch
    from konsil.node.log import Log
    from konsil.node.roster import Roster
    from konsil.node.store.chronicle import Chronicle
    from konsil.node.transports.transport import ByteStream, Transport
    from konsil.protocol.identity import SigningKey
    from konsil.protocol.limits import Limits
    from konsil.protocol.members import Member


class Cosigning:
    """Answers witness streams, and asks neighbours to cosign."""

    def __init__(
        self,
        transport: Transport,
        roster: Roster,
        chronicle: Chronicle,
        watch: Watch,
        key: SigningKey,
        mirror: Callable[[Member], Awaitable[None]],
        expose: Expose,
        on_vouched: Callable[[], None],
        clock_s: Callable[[], int],
        limits: Limits,
        log: Log,
    ) -> None:
        """`mirror` makes us hold all that a member signed for; `clock_s` gives unix seconds."""
        self._on_vouched = on_vouched
        self._transport = transport
        self._roster = roster
        self._chronicle = chronicle
        self._watch = watch
        self._key = key
        self._mirror = mirror
        self._expose = expose
        self._clock_s = clock_s
        self._limits = limits
        self._log = log
        self.vouched = 0
        """How many of our entries somebody else holds and vouches for."""
        self.vouched_note: bytes | None = None
        self._vouched: dict[str, int] = {}
        self._cosigned = b""
        self._collecting = trio.Lock()

    async def answer(self, peer: str, stream: ByteStream) -> None:
        """Answer one request."""
        member = self._roster.peer(peer)
        line = Line(stream, self._limits.message_bytes)
        try:
            if member is not None:
                question = await line.question()
                if self._watch.exposed(member.node) is None:
                    await self._mirror(member)
                said = await trio.to_thread.run_sync(self._decide, question, member)
                await line.answer(witness.encode_response(said.response))
                if said.fork is not None:
                    await self._expose(member.node, said.fork)
        except RemoteError as error:
            self._log.warning("witness.refused", peer=peer, reason=error.message)
        except BROKEN as error:
            self._log.debug("witness.broken", peer=peer, reason=repr(error))
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(1.0):
                await stream.aclose()

    def _decide(self, data: bytes, member: Member) -> witnessing.Answer:
        author = self._roster.author(member.node)
        known = author is not None and self._watch.exposed(member.node) is None
        readers = {author.origin: self._watch.reader(member.node)} if author and known else {}
        who = Witness(name=self._origin(self._roster.me.node), key=self._key, readers=readers)
        return witnessing.answer(data, who, self._watch, self._clock_s, limits=self._limits)

    async def submit(self, member: Member) -> None:
        """Ask a neighbour to vouch for our newest checkpoint, unless it did.

        Raises one of `BROKEN`, or a `RemoteError`.
        """
        note, size = await self._chronicle.checkpoint()
        if self._vouched.get(member.node, 0) >= size:
            return
        longest = self._limits.message_bytes
        async with calling(self._transport, member.peer, WITNESS_PROTOCOL, longest) as line:
            old = self._vouched.get(member.node, 0)
            said = await self._request(line, note, old, size)
            known = said.known_size
            if known is not None and known <= size:
                async with calling(
                    self._transport, member.peer, WITNESS_PROTOCOL, longest
                ) as second:
                    said = await self._request(second, note, known, size)
        if said.status != COSIGNED:
            raise ManifestRefused(f"{member.name} does not cosign {size} entries: {said.status}")
        async with self._collecting:
            await trio.to_thread.run_sync(self._collect, note, said.body)
        self._vouched[member.node] = size
        if size > self.vouched:
            self.vouched, self.vouched_note = size, note
            self._on_vouched()

    async def _request(self, line: Line, note: bytes, old: int, size: int) -> witness.Response:
        proof = await self._chronicle.consistency(old, size) if 0 < old < size else []
        data = witness.encode_request(Request(old=old, proof=tuple(proof), note=note))
        return witness.decode_response(await line.ask(data), limits=self._limits)

    def _collect(self, note: bytes, lines: bytes) -> None:
        """Put cosignatures under our checkpoint; those under an older one are given up."""
        same = self._cosigned.split(b"\n\n")[0] == note.split(b"\n\n")[0]
        base = self._cosigned if same else note
        merged = cosignature.merge(base, lines, self._witnesses(), limits=self._limits)
        replace(self._chronicle.folder / "cosigned", merged)
        self._cosigned = merged

    def _witnesses(self) -> list[WitnessKey]:
        authors = [self._roster.author(member.node) for member in self._roster]
        return [WitnessKey(one.origin, one.keys["wit"]) for one in authors if one is not None]

    def _origin(self, node: str) -> str:
        return f"{self._roster.consortium}/{node}"
