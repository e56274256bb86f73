"""The node's own ledger on disk: one writer, durable before acknowledged.

Opens and locks the folder, recovers it, appends, signs and proves. `append` may run in one
thread while `sign_checkpoint` runs in another. A clean `close` leaves a checkpoint over
every entry. Small blobs that entries name (envelopes, proofs, evidence) lie beside them.

    journal = Journal.open(folder, keys, clock, random)
    receipts = journal.append([body, …])     # durable now
    journal.sign_checkpoint()                # whenever the caller likes
    journal.close()
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from konsil.node.store.blobs import BlobStore
from konsil.node.store.durable import storage_error, sync_folder
from konsil.node.store.filestore import FileStore
from konsil.node.store.lock import LOCK, take
from konsil.node.store.recovery import recover
from konsil.protocol import entries
from konsil.protocol.entries import NO_CHARTER, Body, Entry
from konsil.protocol.errors import ConfigError, RemoteError, UsageError
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.node_bodies import LogRedact
from konsil.trust.layout import COSIGNED
from konsil.trust.ledger import Ledger
from konsil.trust.ledger import Receipt as Receipt
from konsil.trust.redaction import may_be_pruned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from konsil.protocol.checkpoint import Checkpoint
    from konsil.protocol.genesis import Author
    from konsil.protocol.identity import KeySet
    from konsil.protocol.mirror import Leaf
    from konsil.protocol.p256 import P256SigningKey

BLOBS = "blobs"


class Journal:
    """A node's ledger, open for writing. Make one with `open`."""

    def __init__(
        self,
        folder: Path,
        lock: int,
        store: FileStore,
        ledger: Ledger,
        notices: tuple[str, ...],
        trace: Callable[[str], None] | None,
    ) -> None:
        self.folder = folder
        self.notices = notices
        self.blobs = BlobStore(folder / BLOBS)
        self._lock = lock
        self._store = store
        self._ledger = ledger
        self._trace = trace

    @classmethod
    def create(
        cls,
        folder: Path,
        name: str,
        consortium: str,
        keys: KeySet,
        clock: Callable[[], int],
        random: Callable[[int], bytes],
        *,
        p256_key: P256SigningKey | None = None,
    ) -> bytes:
        """Founds a ledger in a new folder; returns the bytes of its genesis entry.

        The genesis entry binds `p256_key` when there is one. Raises `ConfigError` when a
        ledger is there already and `StorageError`.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            sync_folder(folder.parent)
            occupied = any(item.name != LOCK for item in folder.iterdir())
        except OSError as error:
            raise storage_error(folder, error) from error
        if occupied:
            raise ConfigError(f"{folder}: a ledger is there already", hint="choose another home")
        lock = take(folder)
        try:
            store = FileStore.create(folder)
            Ledger.found(
                store,
                name=name,
                consortium=consortium,
                keys=keys,
                clock=clock,
                random=random,
                p256_key=p256_key,
            )
            store.close()
            return store.entry(0)
        finally:
            os.close(lock)

    @classmethod
    def open(
        cls,
        folder: Path,
        keys: KeySet,
        clock: Callable[[], int],
        random: Callable[[int], bytes],
        limits: Limits = DEFAULT_LIMITS,
        *,
        charter: bytes = NO_CHARTER,
        trace: Callable[[str], None] | None = None,
    ) -> Journal:
        """The ledger in `folder`, recovered; see `notices` for what that changed.

        `charter` is the digest that new entries carry, `trace` is told when an append begins
        and ends. Raises `VerificationError` (see `recover`), `ConfigError` when the keys are
        not this ledger's, and `StorageError`, also while another process has it open.
        """
        with ExitStack() as undo:
            lock = take(folder)
            undo.callback(os.close, lock)
            recovered = recover(folder, limits=limits)
            undo.callback(recovered.store.close)
            ledger = Ledger(
                recovered.store,
                keys=keys,
                clock=clock,
                random=random,
                charter=charter,
                limits=limits,
            )
            undo.pop_all()
        return cls(folder, lock, recovered.store, ledger, recovered.notices, trace)

    @property
    def author(self) -> Author:
        """Who writes this ledger."""
        return self._ledger.author

    @property
    def size(self) -> int:
        """The number of durable entries."""
        return self._ledger.size

    @property
    def root(self) -> bytes:
        """The RFC 6962 root over them."""
        return self._ledger.root()

    @property
    def signed_size(self) -> int:
        """The number of entries under the last checkpoint."""
        return self._ledger.signed_size

    @property
    def cosigned_size(self) -> int:
        """How many entries the cosigned checkpoint beside the ledger covers; 0 without one."""
        try:
            return self.open_checkpoint((self.folder / COSIGNED).read_bytes()).size
        except (OSError, RemoteError):
            return 0

    @property
    def checkpoint(self) -> bytes:
        """The last signed checkpoint note."""
        return self._store.checkpoint or self.sign_checkpoint()

    def append(self, bodies: Sequence[Body]) -> tuple[Receipt, ...]:
        """Appends entries in order with one sync; all are durable on return.

        Raises `StorageError` (code `disk_full` when there is no room); then none was added.
        """
        if self._trace:
            self._trace(f"append begin {self.size} +{len(bodies)}")
        receipts = self._ledger.append(bodies)
        if self._trace:
            self._trace(f"append end {self.size}")
        return receipts

    def redact(self, index: int, legal: str, authority: bytes) -> None:
        """Logs that the body of entry `index` goes, and then takes it away.

        `authority` commits to who ordered it. A stop in between leaves the body, and doing it
        again takes it away. Raises `UsageError` for an entry that may not be pruned, and
        `StorageError`.
        """
        found = next(iter(self.leaves(index, 1)), None)
        if found is None or found.entry is None:
            raise UsageError(f"entry {index}: there is no body here to redact")
        frame = entries.peek(found.entry)
        if not may_be_pruned(frame.t):
            raise UsageError(
                f"entry {index}: a {frame.t} entry may never be redacted",
                hint="a stranger needs it to verify this ledger",
            )
        body = LogRedact(index=index, leaf=found.leaf, legal=legal, authority=authority)
        if not any(isinstance(e.b, LogRedact) and e.b.index == index for e in self.entries()):
            self.append([body])
        self._store.prune(index)

    def sign_checkpoint(self) -> bytes:
        """Signs for every durable entry and moves full bundles out of the tail; the note."""
        return self._ledger.sign_checkpoint()

    def prove(self, index: int) -> bytes:
        """The tlog-proof@v1 of entry `index` with the entry in it; signs first when needed."""
        return self._ledger.prove(index)

    def consistency(self, old: int, size: int) -> list[bytes]:
        """The consistency proof between two sizes of this log."""
        return self._ledger.consistency(old, size)

    def adopt(self, leaves: Sequence[Leaf], head: Checkpoint) -> None:
        """Takes back entries that others kept, up to a head that we signed. See `Ledger.adopt`."""
        self._ledger.adopt(leaves, head)

    def open_checkpoint(self, note: bytes) -> Checkpoint:
        """The head in a checkpoint of this log, whoever kept it. Raises a `RemoteError`."""
        return self._ledger.open_checkpoint(note)

    def root_at(self, size: int) -> bytes:
        """The root over the first `size` entries."""
        return self._ledger.root(size)

    def leaves(self, first: int, count: int) -> list[Leaf]:
        """At most `count` entries from `first` on as they are stored, with their hashes."""
        return self._ledger.leaves(first, count)

    def entry(self, index: int) -> Entry:
        """Entry `index`."""
        return self._ledger.entry(index)

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """The entries from `start` on."""
        return self._ledger.entries(start)

    def close(self, *, sign: bool = True) -> None:
        """Signs for every entry, closes the files and gives the lock back; once is enough.

        Without `sign` nothing is signed: whoever does not know that this is the newest copy
        of the log must not.
        """
        if self._lock < 0:
            return
        try:
            if sign:
                self._ledger.sign_checkpoint()
        finally:
            self._store.close()
            os.close(self._lock)
            self._lock = -1
