"""A manifest held against the entry that published it: both must say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from konsil.protocol.artifact import Artifact
    from konsil.protocol.learning_bodies import ArtifactPublish

_COMPARED = (
    "payload", "size", "chunk root", "kind", "sequence", "parents", "charter", "knowledge",
)  # fmt: skip


def differences(manifest: Artifact, body: ArtifactPublish, charter: bytes) -> str:
    """Which fields of a manifest contradict its publish entry."""
    payload = manifest.payload
    said = (
        payload.digest,
        payload.size,
        payload.chunk_root,
        manifest.kind,
        manifest.sequence,
        sorted(manifest.parents),
        manifest.charter,
        manifest.knowledge,
    )
    logged = (
        body.art.hex(),
        body.size,
        body.chunk_root.hex(),
        body.kind,
        body.sequence,
        sorted(digest.hex() for digest in body.derived_from),
        charter.hex(),
        body.knowledge and body.knowledge.hex(),
    )
    if said == logged:
        return ""
    pairs = zip(_COMPARED, said, logged, strict=True)
    return ", ".join(name for name, one, other in pairs if one != other)
