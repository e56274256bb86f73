"""Rotation: another key for a role of a running node, in an order that no stop can spoil.

The new key is on the disk before the ledger says that it counts, and it replaces the old one
only after: whichever of the two is in force after a crash, the node has it. The recovery key
orders every change and is read for that moment only. The transport's key is not changed here:
it stands in every member's list, which a log cannot rewrite.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import trio

from konsil.node.keys import load_key, settle, stage
from konsil.protocol.errors import ConfigError, RemoteError, SignatureRefused, UsageError
from konsil.protocol.fields import Code, Count
from konsil.protocol.identity import RECOVERY
from konsil.protocol.keyring import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from konsil.node.log import Log
    from konsil.node.store.chronicle import Chronicle
    from konsil.protocol.identity import SigningKey


HINTS = {
    "role": "choose log, wit, art or rec; the peer key stands in the member list of every node",
    "reason": "a word such as planned or stolen: small letters, digits and _ . : / -",
    "revoke_from": "give the number of an entry",
}

NAME_IT = "name the file of the recovery key in force with --recovery-key"


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an operator asks for; `recovery_key` is the path of a key file."""

    role: Literal["log", "wit", "art", "rec"]
    reason: Code = "planned"
    revoke_from: Count | None = None
    recovery_key: str | None = None


class Rotation:
    """Changes keys, one at a time, when an operator says so."""

    def __init__(
        self,
        folder: Path,
        chronicle: Chronicle,
        publishing: trio.Lock,
        tell: Callable[[], None],
        log: Log,
    ) -> None:
        """`folder` holds the node's keys; nobody seals and logs an artifact while we hold
        `publishing`; `tell` makes the peers look at our log again."""
        self._folder = folder
        self._chronicle = chronicle
        self._publishing = publishing
        self._tell = tell
        self._log = log

    async def rotate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Another key for a role. Raises `UsageError`, `ConfigError` or `StorageError`."""
        wanted = _wanted(arguments)
        own = self._folder / f"{RECOVERY}.key"
        path = own if wanted.recovery_key is None else Path(wanted.recovery_key)
        try:
            rec = await trio.to_thread.run_sync(load_key, path)
        except ConfigError as error:
            raise ConfigError(error.message, hint=NAME_IT) from error
        async with self._publishing:
            # Never cut in the middle: the only copy of a key in force lies beside its place.
            with trio.CancelScope(shield=True):
                told = await self._rotate(wanted, rec, path)
            return told

    async def _rotate(self, wanted: Wanted, rec: SigningKey, path: Path) -> dict[str, Any]:
        await self._settle()
        old, since = self._chronicle.in_force[wanted.role], self._chronicle.since(wanted.role)
        size = self._chronicle.size
        if wanted.revoke_from is not None and not since <= wanted.revoke_from <= size:
            raise UsageError(
                f"the {wanted.role} key in force serves from entry {since} on, and the log has"
                f" {size} entries: it cannot be revoked from {wanted.revoke_from} on",
                hint=f"give --revoke-from a number from {since} to {size}",
            )
        change = Change(
            role=wanted.role,
            new=await trio.to_thread.run_sync(stage, self._folder, wanted.role),
            rec=rec,
            reason=wanted.reason,
            void_from=wanted.revoke_from,
        )
        index = await self._change(change, path)
        self._log.warning("key.changed", role=wanted.role, index=index, reason=wanted.reason)
        self._tell()
        return {
            "role": wanted.role,
            "index": index,
            "old": old.raw.hex(),
            "new": change.new.public.raw.hex(),
            "revoked_from": wanted.revoke_from,
        }

    async def _change(self, change: Change, path: Path) -> int:
        """The index at which the change stands. After a `StorageError` the next start settles."""
        try:
            receipt = await self._chronicle.change_key(change)
        except SignatureRefused as error:
            await self._settle()
            raise ConfigError(
                f"{path}: is not the recovery key in force; the {change.role} key stays as it is",
                hint=NAME_IT,
            ) from error
        except RemoteError as error:
            await self._settle()
            raise UsageError(f"the {change.role} key stays as it is: {error.message}") from error
        await self._settle()
        return receipt.index

    async def _settle(self) -> None:
        in_force = self._chronicle.in_force
        await trio.to_thread.run_sync(partial(settle, self._folder, in_force, sure=True))


def _wanted(arguments: Mapping[str, Any]) -> Wanted:
    """What is asked for. Raises `UsageError` that names the argument."""
    try:
        return msgspec.convert(arguments, Wanted)
    except msgspec.ValidationError as error:
        name = next((one for one in HINTS if f"$.{one}" in str(error)), "")
        said = f"`{arguments[name]}` is no {name.replace('_', ' ')}" if name else str(error)
        hint = HINTS.get(name, "see konsil node rotate --help")
        raise UsageError(f"no key was changed: {said}", hint=hint) from error
