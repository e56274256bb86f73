"""The fence of time: an entry's own time held against the clocks of those who cosigned.

A writer says when an entry was written. A cosignature says that its witness had seen every
entry below a size by then, and none behind it. So what lies below is not later than the first
cosignature, and what lies behind not earlier than the last, give or take what clocks differ.

Invariant: as long as no more than `liars` witnesses say a false time, no honest time is found
wrong; so the first `liars` on either side conclude nothing, and too few witnesses no fence.
Which entries stand nearest to it, and who they are that cosigned, is found out elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.protocol.checkpoint import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

SKEW_MS = 600_000
"""Clocks of two hospitals may differ by so much before an order of times is a finding."""


class Seen(msgspec.Struct, frozen=True):
    """Who had seen the log at a fence, and when: the origin, and unix milliseconds."""

    by: str
    ms: int


class Fence(msgspec.Struct, frozen=True):
    """A checkpoint, and the first and last cosignature under it that must be believed."""

    head: Checkpoint
    first: Seen
    last: Seen


def fence(head: Checkpoint, times: Mapping[str, int], *, liars: int = 0) -> Fence | None:
    """The fence at a checkpoint that these witnesses cosigned at these unix seconds.

    None when so few did that all of them may lie.
    """
    seen = sorted((seconds, by) for by, seconds in times.items())
    if len(seen) <= liars:
        return None
    first, last = (Seen(by, seconds * 1_000) for seconds, by in (seen[liars], seen[-1 - liars]))
    return Fence(head, first, last)


def doubted(witnesses: int, liars: int) -> int:
    """How many of so many witnesses are not believed against a log, `liars` of whom may lie.

    One clock may be wrong even where nobody lies, so one witness alone says nothing against a
    log, nor do those who are not more than half of all.
    """
    return max(liars, 1, (witnesses - 1) // 2)


def crossed(found: Fence, index: int, time_ms: int) -> str:
    """How the time of the entry at `index` contradicts the fence; empty when it does not."""
    if index < found.head.size:
        late = time_ms - found.first.ms
        if late > SKEW_MS:
            return f"its time is {late // 1_000} s after {found.first.by} cosigned it"
    else:
        early = found.last.ms - time_ms
        if early > SKEW_MS:
            return f"its time is {early // 1_000} s before {found.last.by} cosigned without it"
    return ""
