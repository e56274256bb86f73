"""Whom a checker without any ledger knows: authors from genesis entries, keys from a policy.

A genesis entry certifies itself: its author's log key signs the checkpoints of the origin that
hashes to it. That is enough until the key changes; then a policy names the new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import checkpoint, genesis, note, policy
from konsil.protocol.errors import ConfigError, IncompleteError, RemoteError, StorageError
from konsil.protocol.genesis import Author
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.protocol.note import NoteKey
from konsil.protocol.policy import Log, Policy
from konsil.trust.printable import printable
from konsil.trust.sources import read_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from konsil.protocol.identity import VerifyKey
    from konsil.protocol.limits import Limits

MAX_FILE_BYTES = 1 << 20


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """The signers that a person trusts to be who they say."""

    authors: dict[str, Author] = {}
    """By origin."""
    policy: Policy | None = None

    def name(self, origin: str) -> str:
        """The short name of a log's author; its origin where only a policy knows it."""
        author = self.authors.get(origin)
        return printable(origin) if author is None else author.name

    def key(self, origin: str) -> VerifyKey:
        """The key that signs the log of `origin`. Raises `IncompleteError` when nobody says."""
        author = self.authors.get(origin)
        if author is not None:
            return author.keys["log"]
        for log in () if self.policy is None else self.policy.logs:
            if log.key.name == origin:
                return log.key.key
        node = printable(origin.rpartition("/")[2]) or "<node id>"
        raise IncompleteError(
            f"the signer {printable(origin)} is not known here",
            hint=f"name its genesis entry: --genesis HOME/peers/{node}.genesis",
        )

    def policy_for(self, origin: str) -> Policy | None:
        """The policy, to which the logs of the given genesis entries belong as well."""
        if self.policy is None or any(log.key.name == origin for log in self.policy.logs):
            return self.policy
        added = Log(key=NoteKey(origin, self.key(origin)))
        return msgspec.structs.replace(self.policy, logs=(*self.policy.logs, added))


def read_given(path: Path) -> bytes:
    """A file that a person names, of a bounded size. Raises `StorageError`."""
    try:
        return read_file(path, MAX_FILE_BYTES)
    except FileNotFoundError as error:
        raise StorageError(f"{path}: there is no such file") from error
    except RemoteError as error:
        raise StorageError(error.message, hint="name a regular file") from error


def known(genesis_files: Sequence[Path], policy_file: Path | None = None) -> Known:
    """Whom these files make known. Raises `ConfigError` or `StorageError`."""
    authors = {}
    for path in genesis_files:
        try:
            author = genesis.read(read_given(path))
        except RemoteError as error:
            raise ConfigError(
                f"{path}: is no genesis entry: {error.message}",
                hint="take HOME/peers/<node id>.genesis of a home that knows the member",
            ) from error
        authors[author.origin] = author
    if policy_file is None:
        return Known(authors=authors)
    try:
        return Known(authors=authors, policy=policy.parse(read_given(policy_file)))
    except RemoteError as error:
        raise ConfigError(
            f"{policy_file}: {error.message}", hint="a policy is a C2SP tlog-policy: docs/spec"
        ) from error


def origin_of(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> str:
    """Whose checkpoint a note says it is; nothing is verified. Raises `RemoteError`."""
    return checkpoint.from_text(note.parse(data, limits=limits)[0]).origin
