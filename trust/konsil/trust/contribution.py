"""Contribution: how often what a peer handed in helped, beyond the error of the measurement.

A figure of its own, never part of trust: whoever gives nothing harms nobody, and keeps its
weight. Copies of others' payloads and echoes of our own count as nothing given, whatever they
gained. Pure, from the evidence records of a ledger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.trust.fixed import UNIT_E9

if TYPE_CHECKING:
    from collections.abc import Iterable

    from konsil.trust.evidence import EvidenceRecord


class Contribution(msgspec.Struct, frozen=True, kw_only=True):
    """Artifacts of one peer that were judged, and how many of them helped."""

    judged: int = 0
    helped: int = 0

    @property
    def share_e9(self) -> int | None:
        """The share that helped, in 1e-9, rounded down; None before anything was judged."""
        return self.helped * UNIT_E9 // self.judged if self.judged else None

    def after(self, record: EvidenceRecord) -> Contribution:
        """With one more judgement."""
        return Contribution(judged=self.judged + 1, helped=self.helped + helps(record))


def helps(record: EvidenceRecord) -> bool:
    """Whether an own artifact lowered the private loss by more than the error of that figure."""
    return record.share_e9 > 0 and record.g_e9 > record.error_e9


def contribution(records: Iterable[EvidenceRecord]) -> Contribution:
    """What one peer gave, by the first judgement of each of its artifacts: one that is mixed again,
    because its publisher has stopped, was given once.

    >>> contribution(()).share_e9 is None
    True
    """
    found, known = Contribution(), set()
    for record in records:
        if record.art not in known:
            known.add(record.art)
            found = found.after(record)
    return found
