"""What happened, in order over several logs: the listing of entries.

Within a log the order is the log's own; between logs it is by time, which each writer says for
itself. A bound is a moment, or an index that counts in every log for itself; both ends belong
to the range.
"""

from __future__ import annotations

import heapq
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol.entries import TYPES, Entry
from konsil.protocol.errors import UsageError
from konsil.trust.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from konsil.trust.questions.gathering import Gathered, GivenHome

_MOST_DIGITS = 18


class Bound(msgspec.Struct, frozen=True):
    """One end of a range: an index, or unix milliseconds; neither is no bound."""

    index: int | None = None
    time_ms: int | None = None


class Event(msgspec.Struct, frozen=True):
    """One entry and the member in whose log it stands."""

    node: str
    entry: Entry


def bound(word: str, *, last: bool = False) -> Bound:
    """The bound that a person writes: an index, a date, or a moment in ISO 8601 (UTC if bare).

    With `last` a bare date means its end. Raises `UsageError`.

    >>> bound("12").index, bound("2025-10-09T08:53:20Z").time_ms
    (12, 1760000000000)
    """
    if not word:
        return Bound()
    if word.isdecimal() and len(word) <= _MOST_DIGITS and word.isascii():
        # "20251009" is an index as well: a date has dashes here.
        return Bound(index=int(word))
    try:
        if word[4:5] != "-":
            raise ValueError(word)
        if len(word) == len("2025-10-09"):
            day = datetime.combine(date.fromisoformat(word), time(), UTC)
            moment = day + timedelta(days=1, milliseconds=-1) if last else day
        else:
            moment = datetime.fromisoformat(word)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
        return Bound(time_ms=round((moment - datetime.fromtimestamp(0, UTC)) / _MS))
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"`{printable(word[:80])}` is no moment and no index",
            hint="write 2025-10-09, 2025-10-09T08:53, or the index of an entry",
        ) from error


_MS = timedelta(milliseconds=1)


def known_type(word: str) -> str:
    """The type, or group of types, that a person names. Raises `UsageError` for an unknown one."""
    if not word or any(kind == word or kind.startswith(f"{word}.") for kind in TYPES):
        return word
    groups = ", ".join(dict.fromkeys(kind.partition(".")[0] for kind in TYPES))
    raise UsageError(
        f"`{printable(word[:80])}` is no type of entry",
        hint=f"a type like trust.update, or a group: {groups}",
    )


def timeline(
    homes: Gathered, *, start: Bound, end: Bound, kind: str = "", node: str = ""
) -> tuple[Event, ...]:
    """The entries between two bounds, of a type or group of types, of one member or of all."""
    seen: set[str] = set()
    logs = []
    for home in homes.homes:
        if home.node not in seen and node in ("", home.node):
            seen.add(home.node)
            logs.append(_dated(home))
    return tuple(
        event
        for _, event in heapq.merge(*logs, key=lambda item: item[0])
        if _within(event.entry, start, end) and _is_kind(event.entry.t, kind)
    )


def _dated(home: GivenHome) -> Iterator[tuple[tuple[int, str, int], Event]]:
    """A log's entries under times that never run backwards, so that its order is kept."""
    latest = 0
    for entry in home.told.entries:
        latest = max(latest, entry.ts)
        yield (latest, home.node, entry.n), Event(home.node, entry)


def _within(entry: Entry, start: Bound, end: Bound) -> bool:
    return (
        (start.index is None or entry.n >= start.index)
        and (start.time_ms is None or entry.ts >= start.time_ms)
        and (end.index is None or entry.n <= end.index)
        and (end.time_ms is None or entry.ts <= end.time_ms)
    )


def _is_kind(kind: str, wanted: str) -> bool:
    return not wanted or kind == wanted or kind.startswith(f"{wanted}.")
