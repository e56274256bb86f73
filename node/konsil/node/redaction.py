"""Redaction: the body of one entry goes, because the law says so, and the log says what went.

Only a running node does it, after its peers vouched for the log: an entry that is written into
an old copy of a log would be a second history of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from konsil.protocol.errors import UsageError
from konsil.protocol.fields import Code, Number
from konsil.trust.redaction import RETENTION_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from konsil.node.log import Log
    from konsil.node.store.chronicle import Chronicle


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an operator asks for; `authority` commits to who ordered it (64 hex digits)."""

    index: Number
    legal: Code
    authority: str
    early: bool = False


class Redaction:
    """Takes bodies away, one at a time, when an operator says so."""

    def __init__(self, chronicle: Chronicle, clock_ms: Callable[[], int], log: Log) -> None:
        """`clock_ms` gives unix milliseconds."""
        self._chronicle = chronicle
        self._clock_ms = clock_ms
        self._log = log

    async def redact(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Take the body of one entry away. Raises `UsageError` or `StorageError`."""
        try:
            wanted = msgspec.convert(arguments, Wanted)
            authority = bytes.fromhex(wanted.authority)
        except (msgspec.ValidationError, ValueError) as error:
            raise UsageError(
                f"cannot redact: {error}", hint="konsil audit redact --help"
            ) from error
        written = await self._chronicle.time_ms(wanted.index)
        if self._clock_ms() - written < RETENTION_MS and not wanted.early:
            raise UsageError(
                f"entry {wanted.index} is younger than six months and must be kept",
                hint="--early if the law leaves no choice; an audit will say redact.refused",
            )
        await self._chronicle.redact(wanted.index, wanted.legal, authority)
        self._log.warning("entry.redacted", index=wanted.index, legal=wanted.legal)
        return {"index": wanted.index, "legal": wanted.legal}
