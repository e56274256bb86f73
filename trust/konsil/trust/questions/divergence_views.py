"""How two copies of one log relate, in lines and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.trust.printable import printable
from konsil.trust.questions.words import describe, plain, plural, when

if TYPE_CHECKING:
    from konsil.trust.questions.divergence import Copy, Divergence


def verdict(found: Divergence) -> str:
    """The answer in one line."""
    one, other = found.one, found.other
    name = found.author.name
    if found.relation == "divergent":
        words = f"the copies of {name}'s log differ from entry {found.first} on"
        return f"{words}, and both are signed: a fork" if found.forked else words
    faulty = next((copy for copy in (one, other) if copy.fault), None)
    if faulty is not None:
        return f"{faulty.home} does not verify: {faulty.fault}"
    if found.relation == "equal":
        return f"equal: both copies of {name}'s log have the same {plural(one.size, 'entry')}"
    small, large = (one, other) if one.size < other.size else (other, one)
    more = plural(large.size - small.size, "entry")
    return f"equal as far as both go: {small.home} is a prefix, {large.home} has {more} more"


def to_lines(found: Divergence) -> list[str]:
    """The comparison in lines for a person."""
    lines = [verdict(found)]
    for copy in (found.one, found.other):
        lines.append(f"{copy.home}: {plural(copy.size, 'entry')}, {copy.signed} signed for")
        if copy.fault:
            lines.append(f"  does not verify: {copy.fault}")
        if found.relation == "divergent":
            lines.append(f"  entry {found.first}: {_entry(copy)}")
    if found.differs:
        lines.append(f"different in: {', '.join(found.differs)}")
    return [printable(line) for line in lines]


def _entry(copy: Copy) -> str:
    entry = copy.entry
    if entry is None:
        return "cannot be read"
    return f"{entry.t}, {when(entry.ts)}: {describe(entry.b, lambda node: node[:8] + '…')}"


def to_data(found: Divergence) -> dict[str, object]:
    """The `data` object of `konsil audit diff --json`."""
    return {
        "node_id": found.author.node,
        "name": found.author.name,
        "origin": found.author.origin,
        "relation": found.relation,
        "first": found.first,
        "fork": found.forked,
        "differs": list(found.differs),
        "copies": [_copy_data(copy) for copy in (found.one, found.other)],
    }


def _copy_data(copy: Copy) -> dict[str, object]:
    entry = copy.entry
    return {
        "home": printable(str(copy.home)),
        "entries": copy.size,
        "signed": copy.signed,
        "fault": copy.fault or None,
        "entry": None if entry is None else {
            "type": entry.t, "time_ms": entry.ts, "body": plain(entry.b),
        },
    }  # fmt: skip
