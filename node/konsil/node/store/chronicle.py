"""The ledger as the daemon's tasks see it: append and be sure, sign in the background.

One writer. `append` returns once the entries are durable; nothing that an entry speaks of is
sent before that. The thread hop keeps the event loop free while the disk syncs. A failure
here is fatal to the node (exit 6, or 3 when the disk does not verify): it is never retried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from konsil.node.store.journal import Journal, Receipt
    from konsil.protocol.entries import Body
    from konsil.protocol.identity import SigningKey, VerifyKey
    from konsil.protocol.keyring import Change

CHECKPOINT_EVERY_S = 1.0
T = TypeVar("T")


class Chronicle:
    """Appends, proofs and checkpoints of this node's own ledger."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._turn = trio.Lock()

    @property
    def size(self) -> int:
        """Entries that are durable."""
        return self._journal.size

    async def head(self) -> tuple[int, bytes]:
        """How many entries are durable, and the RFC 6962 root over them.

        In turn like everything else: the journal holds its lock while the disk syncs.
        """
        return await self._alone(lambda: (self._journal.size, self._journal.root))

    async def root_at(self, size: int) -> bytes | None:
        """The root over the first `size` entries; None when there are fewer."""
        journal = self._journal
        return await self._alone(lambda: journal.root_at(size) if size <= journal.size else None)

    async def append(self, *bodies: Body) -> tuple[Receipt, ...]:
        """Log these entries, in order, durably. Raises `StorageError`."""
        return await self._alone(lambda: tuple(self._journal.append(bodies)))

    async def put(self, data: bytes) -> bytes:
        """Store evidence (an envelope, a proof, a record) beside the ledger; its digest."""
        return await self._alone(lambda: self._journal.blobs.put(data))

    @property
    def folder(self) -> Path:
        """Where the ledger lies."""
        return self._journal.folder

    async def sign(self) -> tuple[bytes, int]:
        """A checkpoint over all that is durable, signed now if needed, and how much that is."""

        def signed() -> tuple[bytes, int]:
            if self._journal.signed_size < self._journal.size:
                self._journal.sign_checkpoint()
            return self._journal.checkpoint, self._journal.signed_size

        return await self._alone(signed)

    async def consistency(self, old: int, size: int) -> list[bytes]:
        """The consistency proof between two sizes of the log."""
        return await self._alone(lambda: self._journal.consistency(old, size))

    @property
    def in_force(self) -> Mapping[str, VerifyKey]:
        """The public keys in force, by role."""
        return self._journal.keyring.keys

    def since(self, role: str) -> int:
        """The entry from which on our key in force for `role` signs."""
        periods = self._journal.keyring.periods
        return max(one.since for one in periods if one.role == role)

    def key(self, role: str) -> SigningKey:
        """Our key in force for `role`."""
        return self._journal.keys[role]

    async def time_ms(self, index: int) -> int:
        """When entry `index` was written; 0 for one that is not here, or has no body."""
        return await self._alone(lambda: self._journal.time_ms(index))

    async def redact(self, index: int, legal: str, authority: bytes) -> None:
        """Take the body of an entry away. Raises as `Journal.redact` does."""
        await self._alone(lambda: self._journal.redact(index, legal, authority))

    async def change_key(self, change: Change) -> Receipt:
        """Put another key in force, durably. Raises as `Journal.change_key` does."""
        return await self._alone(lambda: self._journal.change_key(change))

    async def prove(self, index: int) -> bytes:
        """A tlog-proof of one entry under a checkpoint that covers it, signed now if needed."""

        def proven() -> bytes:
            if self._journal.signed_size <= index:
                self._journal.sign_checkpoint()
            return self._journal.prove(index)

        return await self._alone(proven)

    async def run(self, signed: Callable[[], None]) -> None:
        """Sign a checkpoint over what was appended, about once a second, until cancelled."""
        while True:
            await trio.sleep(CHECKPOINT_EVERY_S)
            if self._journal.signed_size < self._journal.size:
                await self._alone(self._journal.sign_checkpoint)
                signed()

    async def _alone(self, work: Callable[[], T]) -> T:
        async with self._turn:
            # Not abandoned on cancel: an append that began must end before the journal closes.
            return await trio.to_thread.run_sync(work)
