"""tlog-proof@v1: that one entry stands in a log, to be checked offline by whoever trusts its key.

Made from a home's files alone: no lock, no private key, beside a running node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.trust.questions.proving import FILE_LIMITS, prove

if TYPE_CHECKING:
    from pathlib import Path

    from konsil.protocol.limits import Limits

MEDIA_TYPE = "text/plain; charset=utf-8"


def to_tlog_proof(home: Path, index: int, *, limits: Limits = FILE_LIMITS) -> bytes:
    """The proof of entry `index` of a home's ledger, with the entry in it.

    Raises `IncompleteError` when there is no such entry, no signature covers it yet, or it
    cannot be read, `VerificationError` naming what was changed, `UsageError`, `StorageError`.
    """
    return prove(home, str(index), limits=limits).data
