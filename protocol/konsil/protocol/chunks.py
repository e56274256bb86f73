"""Chunks: the digests of the pieces of a payload, and the one root over them.

The root is an RFC 6962 tree over the chunk digests as leaf data, so that a receiver checks
each chunk on arrival against a list whose root the publisher signed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.protocol import merkle
from konsil.protocol.digest import DIGEST_BYTES, Digest, sha256
from konsil.protocol.errors import ManifestRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def chunk_digests(chunks: Iterable[bytes]) -> list[Digest]:
    """The SHA-256 of each chunk, in order; holds one chunk at a time."""
    return [sha256(chunk) for chunk in chunks]


def chunk_root(digests: Sequence[Digest]) -> Digest:
    """The RFC 6962 root whose leaves are the chunk digests (SHA-256 of nothing for none).

    Raises `ManifestRefused` on a digest that has not 32 bytes.
    """
    for position, digest in enumerate(digests):
        if len(digest) != DIGEST_BYTES:
            raise ManifestRefused(f"chunk digest {position} has {len(digest)} bytes; wanted 32")
    return merkle.root_of([merkle.record_hash(digest) for digest in digests])
