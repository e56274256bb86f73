"""Events in order, in lines and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.trust.questions.words import describe, plain, when

if TYPE_CHECKING:
    from collections.abc import Sequence

    from konsil.trust.questions.gathering import Gathered
    from konsil.trust.questions.timeline import Event


def to_lines(homes: Gathered, events: Sequence[Event]) -> list[str]:
    """One line an event."""
    names = [homes.name(event.node) for event in events]
    wide = max((len(name) for name in names), default=0)
    return [
        f"{when(event.entry.ts)}  {name:<{wide}}  {event.entry.n:>5}  {event.entry.t:<18}"
        f"  {describe(event.entry.b, homes.name)}"
        for name, event in zip(names, events, strict=True)
    ]


def to_data(homes: Gathered, events: Sequence[Event]) -> dict[str, object]:
    """The `data` object of `konsil audit timeline --json`."""
    return {
        "count": len(events),
        "events": [
            {
                "time_ms": event.entry.ts,
                "node_id": event.node,
                "name": homes.name(event.node),
                "index": event.entry.n,
                "type": event.entry.t,
                "charter": event.entry.c.hex(),
                "says": describe(event.entry.b, homes.name),
                "body": plain(event.entry.b),
            }
            for event in events
        ],
    }
