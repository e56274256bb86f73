"""Rotation: another key for a role of a running node, in an order that no stop can spoil.

The new key is on the disk before the ledger says that it counts, and it replaces the old one
only after: whichever of the two is in force after a crash, the node has it. The recovery key
orders every change and is read for that moment only. The transport's key is not changed here:
it stands in every member's list, which a log cannot rewrite.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import trio

from konsil.node.keys import load_key, settle, stage
from konsil.protocol.errors import ConfigError, RemoteError, UsageError
from konsil.protocol.fields import Code, Count
from konsil.protocol.identity import RECOVERY
from konsil.protocol.keyring import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from konsil.node.log import Log
    from konsil.node.store.chronicle import Chronicle
    from konsil.protocol.identity import VerifyKey


ROLES_HINT = (
    "the roles are log, wit, art and rec; the peer key stands in the member list of every node"
)

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
        try:
            wanted = msgspec.convert(arguments, Wanted)
        except msgspec.ValidationError as error:
            raise UsageError(f"cannot change a key: {error}", hint=ROLES_HINT) from error
        own = self._folder / f"{RECOVERY}.key"
        path = own if wanted.recovery_key is None else Path(wanted.recovery_key)
        try:
            rec = await trio.to_thread.run_sync(load_key, path)
        except ConfigError as error:
            raise ConfigError(error.message, hint=NAME_IT) from error
        async with self._publishing:
            old = self._chronicle.in_force[wanted.role]
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
        except RemoteError as error:
            await self._settle(self._chronicle.in_force)
            raise ConfigError(
                f"{path}: the {change.role} key stays as it is: {error.message}",
                hint=NAME_IT,
            ) from error
        await self._settle(self._chronicle.in_force)
        return receipt.index

    async def _settle(self, in_force: Mapping[str, VerifyKey]) -> None:
        await trio.to_thread.run_sync(settle, self._folder, in_force)
