"""Whom a checker without any ledger knows: authors from genesis entries, keys from a policy.

A genesis entry certifies itself: its author's log key signs the checkpoints of the origin that
hashes to it. That is enough until the key changes. A change is signed by the recovery key, so it
counts wherever it is found: in the mirror that lies beside the genesis entry. Then the position
of what was signed decides which key must have signed it.

A policy that names a log is the person's own word: only the keys that it names count.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import checkpoint, genesis, note, policy
from konsil.protocol.errors import (
    ConfigError,
    IncompleteError,
    RemoteError,
    SignatureRefused,
    StorageError,
    UsageError,
)
from konsil.protocol.genesis import Author
from konsil.protocol.keyring import Keyring
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.protocol.note import NoteKey
from konsil.protocol.policy import Log, Policy
from konsil.trust.layout import MAX_TAIL_BYTES
from konsil.trust.peers import GENESIS, MIRROR
from konsil.trust.printable import printable
from konsil.trust.sources import pieces_of, read_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from konsil.protocol.checkpoint import Checkpoint
    from konsil.protocol.fork import OpenHead
    from konsil.protocol.limits import Limits

MAX_FILE_BYTES = DEFAULT_LIMITS.named_file_bytes


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """The signers that a person trusts to be who they say."""

    authors: dict[str, Author] = {}
    """By origin."""
    rings: dict[str, Keyring] = {}
    """By origin, of those whose keys changed as far as is known."""
    policy: Policy | None = None

    def name(self, origin: str) -> str:
        """The short name of a log's author; its origin where only a policy knows it."""
        author = self.authors.get(origin)
        return printable(origin) if author is None else author.name

    def ring(self, origin: str) -> Keyring | None:
        """The keys of a log's author over time; None where only a policy knows the log."""
        author = self.authors.get(origin)
        return self.rings.get(origin) or (None if author is None else Keyring.of(author))

    def reader(self, origin: str, *, limits: Limits = DEFAULT_LIMITS) -> OpenHead:
        """What verifies the checkpoints of `origin`. Raises `IncompleteError` for a stranger."""
        named = self._named(origin)
        ring = self.ring(origin)
        if named:
            return partial(_open_named, origin=origin, named=named, ring=ring, limits=limits)
        if ring is not None:
            return partial(ring.open_checkpoint, limits=limits)
        node = printable(checkpoint.node_of(origin)) or "<node id>"
        raise IncompleteError(
            f"the signer {printable(origin)} is not known here",
            hint=f"name its genesis entry: --genesis HOME/peers/{node}.genesis",
        )

    def policy_for(self, origin: str) -> Policy | None:
        """The policy, to which the logs of the given genesis entries belong as well."""
        ring = self.ring(origin)
        if self.policy is None or self._named(origin) or ring is None:
            return self.policy
        added = [Log(key=key) for key in _log_keys(ring)]
        return msgspec.structs.replace(self.policy, logs=(*self.policy.logs, *added))

    def _named(self, origin: str) -> list[NoteKey]:
        logs = () if self.policy is None else self.policy.logs
        return [log.key for log in logs if log.key.name == origin]


def _log_keys(ring: Keyring) -> list[NoteKey]:
    origin = ring.author.origin
    return [NoteKey(origin, one.key) for one in ring.periods if one.role == "log"]


def _open_named(
    data: bytes, *, origin: str, named: Sequence[NoteKey], ring: Keyring | None, limits: Limits
) -> Checkpoint:
    """The head in a note that a key signed which the policy names.

    Where it is known when each of these keys served, the one of that position must have signed.
    """
    text, _ = note.open_note(data, named, limits=limits)
    head = checkpoint.from_text(text)
    if head.origin != origin:
        raise SignatureRefused(f"checkpoint of {head.origin} instead of {origin}")
    if ring is not None and {key.key for key in named} <= {key.key for key in _log_keys(ring)}:
        ring.open_checkpoint(data, limits=limits)
    return head


def read_given(path: Path) -> bytes:
    """A file that a person names, of a bounded size. Raises `UsageError` or `StorageError`."""
    try:
        return read_file(path, MAX_FILE_BYTES)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: there is no such file", hint="check the path") from error
    except RemoteError as error:
        raise StorageError(error.message, hint="name a regular file") from error


def known(genesis_files: Sequence[Path], policy_file: Path | None = None) -> Known:
    """Whom these files make known. Raises `UsageError`, `ConfigError` or `StorageError`."""
    authors, rings = {}, {}
    for path in genesis_files:
        try:
            author = genesis.read(read_given(path))
        except RemoteError as error:
            raise ConfigError(
                f"{path}: is no genesis entry: {error.message}",
                hint="take HOME/peers/<node id>.genesis of a home that knows the member",
            ) from error
        authors[author.origin] = author
        if path.suffix == GENESIS:
            rings[author.origin] = _ring_beside(path.with_suffix(MIRROR), Keyring.of(author))
    if policy_file is None:
        return Known(authors=authors, rings=rings)
    try:
        rules = policy.parse(read_given(policy_file))
        return Known(authors=authors, rings=rings, policy=rules)
    except RemoteError as error:
        raise ConfigError(
            f"{policy_file}: {error.message}", hint="a policy is a C2SP tlog-policy: docs/spec"
        ) from error


def _ring_beside(mirror: Path, ring: Keyring) -> Keyring:
    """The keys after every good change in what a home mirrors of the log, if it does."""
    with suppress(FileNotFoundError, RemoteError):
        for index, piece in enumerate(pieces_of(read_file(mirror, MAX_TAIL_BYTES), 0)):
            if piece.entry:
                with suppress(RemoteError):
                    ring = ring.follow(index, piece.entry)
    return ring


def origin_of(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> str:
    """Whose checkpoint a note says it is; nothing is verified. Raises `RemoteError`."""
    return checkpoint.from_text(note.parse(data, limits=limits)[0]).origin
