"""One home after its own audit: what the homes are held against each other by.

Nothing here judges; the findings are those that the audit of the home itself made, and whoever
holds homes against each other adds to them.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from konsil.trust.fence import Fence
from konsil.trust.peers import Seen
from konsil.trust.report import Findings
from konsil.trust.rules import History
from konsil.trust.structure import Structure


class Audited(msgspec.Struct, frozen=True):
    """One home after its own audit."""

    home: Path
    moment: int
    """Entries that it had before any of the homes was read."""
    structure: Structure
    history: History
    findings: Findings
    fence: Fence | None = None
    """What its cosigned checkpoint says of the times in it."""
    seen: tuple[Seen, ...] = ()
    """The checkpoints of other logs that it held before any of the homes was read."""
