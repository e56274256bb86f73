"""Names and times that several formats share: digests, places in ledgers, instants, documents."""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)


def instant(time_ms: int) -> str:
    """Unix milliseconds in RFC 3339; a time beyond the year 9999 is shown as its end.

    >>> instant(1_760_000_000_123)
    '2025-10-09T08:53:20.123Z'
    """
    at = _EPOCH + timedelta(milliseconds=min(time_ms, _LAST_MS))
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def urn_uuid(*words: object) -> str:
    """A UUID that follows from `words` alone, as a URN."""
    digest = hashlib.sha256("\n".join(["konsil uuid", *map(str, words)]).encode()).digest()
    return uuid.UUID(bytes=digest[:16], version=5).urn


def document(value: Mapping[str, object]) -> bytes:
    """A JSON document as a file: indented, sorted by name, in UTF-8."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2, sort_keys=True)
    return f"{text}\n".encode()
