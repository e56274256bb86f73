"""The margin of one log: where its rules note what is wrong, and the blobs they look up there.

Every rule gets the same margin, so that a finding always names file, offset and entry, and a
blob that is missing is always told in the same words.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from konsil.protocol.errors import LimitExceeded

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from konsil.protocol.limits import Limits
    from konsil.trust.report import Findings
    from konsil.trust.sources import Blobs
    from konsil.trust.structure import Place


class Margin:
    """Findings about the entries of one log, and the blobs that they name."""

    def __init__(self, blobs: Blobs, findings: Findings, limits: Limits) -> None:
        self.limits = limits
        self._blobs = blobs
        self._findings = findings

    def add(self, code: str, place: Place, message: str, evidence: Path | None = None) -> None:
        """Notes what is wrong with the entry at `place`."""
        self._findings.add(
            code, place.file, message, offset=place.offset, index=place.index, evidence=evidence
        )

    def blob(
        self, place: Place, digest: bytes, what: str, *, limit: int | None = None
    ) -> bytes | None:
        """The blob that the entry at `place` names; None, with a finding, when it is not here."""
        try:
            data = self._blobs.get(digest, self.limits.entry_bytes if limit is None else limit)
        except LimitExceeded as error:
            self.add("layout.oversize", place, error.message)
            return None
        if data is None:
            self.add("blob.missing", place, f"{what} ({digest.hex()}) is not here")
        return data

    def quietly(self, digest: bytes) -> bytes | None:
        """A blob that an entry names only through another; None when it is not here, or no
        genuine one would be as large."""
        with suppress(LimitExceeded):
            most = max(self.limits.entry_bytes, self.limits.knowledge_bytes)
            return self._blobs.get(digest, most)
        return None

    def near(self, digests: Iterable[bytes]) -> dict[bytes, bytes]:
        """Those of some blobs that cost nothing to look at."""
        return self._blobs.near(digests)

    def store_of(self, digest: bytes) -> str | None:
        """The root of the store that a blob lies in; None when it is not here."""
        return self._blobs.store_of(digest)

    def path(self, digest: bytes) -> Path | None:
        """Where a blob lies; None when it is not here."""
        return self._blobs.path(digest)
