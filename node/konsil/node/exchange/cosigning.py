"""Cosigning: vouch for the logs of others, and collect what others vouch for of ours.

Any member may ask us to vouch for its newest checkpoint (C2SP tlog-witness, over a stream). We
mirror what it signs for first, and the new state is durable before our signature leaves. What
our neighbours sign stands together under our own newest checkpoint in `ledger/cosigned`.

A cosigned checkpoint is therefore one whose entries somebody else holds. Nothing of ours is
released under another: what nobody holds, nobody must know that we signed.

A cosignature whose time is far from our own clock is not stored: it would say of our entries that
they are older or newer than they are. Its witness holds the entries all the same, so it counts.

A witness may cosign with a key that only its newest entries bring: then its log is mirrored
first, and where that fails it is asked again once it is. Times in seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from konsil.node.exchange.asking import BROKEN, Line
from konsil.node.exchange.errands import Errands
from konsil.node.store.durable import replace
from konsil.node.transports.transport import WITNESS_PROTOCOL
from konsil.protocol import checkpoint, cosignature, witness
from konsil.protocol import note as notes
from konsil.protocol.cosignature import WitnessKey
from konsil.protocol.errors import ManifestRefused, RemoteError
from konsil.protocol.witness import COSIGNED, Request
from konsil.trust import witnessing
from konsil.trust.fence import SKEW_MS
from konsil.trust.layout import COSIGNED as COSIGNED_FILE
from konsil.trust.witnessing import Witness

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from konsil.node.exchange.asking import Lines
    from konsil.node.exchange.visits import Expose
    from konsil.node.exchange.watch import Watch
    from konsil.node.log import Log
    from konsil.node.roster import Roster
    from konsil.node.store.chronicle import Chronicle
    from konsil.node.transports.transport import ByteStream
    from konsil.protocol.identity import SigningKey
    from konsil.protocol.limits import Limits
    from konsil.protocol.members import Member


class Cosigning:
    """Answers witness streams, and asks neighbours to cosign."""

    def __init__(
        self,
        lines: Lines,
        roster: Roster,
        chronicle: Chronicle,
        watch: Watch,
        neighbours: Callable[[], Iterable[Member]],
        key: Callable[[], SigningKey],
        mirror: Callable[[Member], Awaitable[None]],
        expose: Expose,
        on_vouched: Callable[[], None],
        clock_s: Callable[[], int],
        limits: Limits,
        log: Log,
    ) -> None:
        """`neighbours` are the live ones, `mirror` makes us hold all that a member signed for,
        `on_vouched` is told when somebody vouched for more, `clock_s` gives unix seconds."""
        self._on_vouched = on_vouched
        self._lines = lines
        self._roster = roster
        self._chronicle = chronicle
        self._watch = watch
        self._neighbours = neighbours
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
        self._errands = Errands(self._ask)
        self._refused: set[str] = set()
        """Who did not vouch for us when we asked last, as far as we could read."""
        self._cosigned = b""
        self._collecting = trio.Lock()

    async def answer(self, peer: str, stream: ByteStream) -> None:
        """Answer the requests on one stream to its end."""
        member = self._roster.peer(peer)
        line = Line(stream, self._limits.message_bytes)
        try:
            while member is not None:
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
            with trio.CancelScope(shield=True):
                await line.aclose()

    def _decide(self, data: bytes, member: Member) -> witnessing.Answer:
        author = self._roster.author(member.node)
        known = author is not None and self._watch.exposed(member.node) is None
        readers = {author.origin: self._watch.reader(member.node)} if author and known else {}
        who = Witness(name=self._origin(self._roster.me.node), key=self._key(), readers=readers)
        return witnessing.answer(data, who, self._watch, self._clock_s, limits=self._limits)

    def stir(self) -> None:
        """Our log grew, or a neighbour came: somebody can vouch for more."""
        for member in self._neighbours():
            self._errands.stir(member)

    def mirrored(self, member: Member) -> None:
        """More of a member's log is held: what it signed may be readable now."""
        if member.node in self._refused:
            self._errands.stir(member)

    async def run(self) -> None:
        """Have the neighbours vouch for whatever we sign, until cancelled."""
        await self._errands.run()

    async def _ask(self, member: Member) -> None:
        """Have one neighbour vouch for all that is durable now, unless it does."""
        try:
            if self._vouched.get(member.node, 0) < self._chronicle.size:
                await self._submit(member)
            self._refused.discard(member.node)
        except RemoteError as error:
            self._refused.add(member.node)
            self._log.warning("cosigning.refused", peer=member.name, reason=error.message)
        except BROKEN as error:
            self._refused.add(member.node)
            self._log.debug("cosigning.broken", peer=member.name, reason=repr(error))

    async def _submit(self, member: Member) -> None:
        """Ask a neighbour to vouch for a checkpoint over all that is durable.

        Raises one of `BROKEN`, or a `RemoteError`.
        """
        note, size = await self._chronicle.sign()
        said = await self._request(member, note, self._vouched.get(member.node, 0), size)
        known = said.known_size
        if known is not None and known <= size:
            said = await self._request(member, note, known, size)
        known = said.known_size
        if known is not None and known > size:
            return  # it vouches for more already, in answer to another request of ours
        if said.status != COSIGNED:
            raise ManifestRefused(f"{member.name} does not cosign {size} entries: {said.status}")
        if not await self._collected(note, said.body, member):
            await self._mirror(member)
            if not await self._collected(note, said.body, member):
                raise ManifestRefused(f"{member.name} says that it cosigned, and did not")
        self._vouched[member.node] = size
        if size > self.vouched:
            self.vouched, self.vouched_note = size, note
            self._on_vouched()

    async def _request(self, member: Member, note: bytes, old: int, size: int) -> witness.Response:
        proof = await self._chronicle.consistency(old, size) if 0 < old < size else []
        data = witness.encode_request(Request(old=old, proof=tuple(proof), note=note))
        told = await self._lines.ask(member.peer, WITNESS_PROTOCOL, data)
        return witness.decode_response(told, limits=self._limits)

    async def _collected(self, note: bytes, lines: bytes, member: Member) -> bool:
        async with self._collecting:
            return await trio.to_thread.run_sync(self._collect, note, lines, member)

    def _collect(self, note: bytes, lines: bytes, member: Member) -> bool:
        """Put cosignatures under our checkpoint; those under an older one are given up.

        False, and nothing is changed, when no key of `member` that we know is among those who
        signed.
        """
        text = note.split(b"\n\n")[0]
        base = self._cosigned if self._cosigned.split(b"\n\n")[0] == text else note
        merged = cosignature.merge(base, lines, self._witnesses(), limits=self._limits)
        if self._origin(member.node) not in cosignature.seen_by(merged, self._witnesses()):
            return False
        if _size(note) < _size(self._cosigned):
            return True  # it came late: more is cosigned by now
        near = self._near(lines, member)
        if not near:
            return True
        if near != lines:
            merged = cosignature.merge(base, near, self._witnesses(), limits=self._limits)
        replace(self._chronicle.folder / COSIGNED_FILE, merged)
        self._cosigned = merged
        return True

    def _near(self, lines: bytes, member: Member) -> bytes:
        """The cosignatures whose times our own clock can believe."""
        now_s, kept = self._clock_s(), b""
        for line in notes.parse_lines(lines, limits=self._limits):
            if len(line.signature) != cosignature.SIGNATURE_BYTES:
                continue  # of a stranger: nobody takes it over
            apart_s = cosignature.time_of(line.signature) - now_s
            if abs(apart_s) * 1_000 <= SKEW_MS:
                kept += line.text.encode()
            else:
                self._log.warning("cosigning.clock", peer=member.name, apart_s=apart_s)
        return kept

    def _witnesses(self) -> list[WitnessKey]:
        """Every key under which a member ever cosigned, as far as its log is mirrored."""
        rings = [self._roster.keyring(member.node) for member in self._roster]
        return [
            WitnessKey(ring.author.origin, key)
            for ring in rings
            if ring is not None
            for key in ring.witness_keys()
        ]

    def _origin(self, node: str) -> str:
        return f"{self._roster.consortium}/{node}"


def _size(note: bytes) -> int:
    """What a checkpoint of ours signs for; nothing for none."""
    return checkpoint.from_text(notes.parse(note)[0]).size if note else 0
