"""Digests: SHA-256 of exact bytes, plain or separated by domain.

A digest is 32 raw bytes; hex is for JSON, TOML and people only. Every hash of our own
making starts with the words `konsil <domain>`, so that no two uses can be confused for
each other, and prefixes each part with its length, so that no two lists of parts share
their bytes.
"""

from __future__ import annotations

import hashlib
import re

from konsil.protocol.errors import LocalProtocolError

Digest = bytes
"""32 raw bytes of SHA-256."""

DIGEST_BYTES = 32

_DOMAIN = re.compile(r"[a-z][a-z0-9 ]*")


def sha256(data: bytes | memoryview) -> Digest:
    """The SHA-256 of `data` (FIPS 180-4), 32 bytes.

    >>> sha256(b"").hex()[:16]
    'e3b0c44298fc1c14'
    """
    return hashlib.sha256(data).digest()


def tagged(domain: str, *parts: bytes) -> Digest:
    """SHA-256 of `konsil <domain>`, a line feed, and each part behind its u64 length.

    The length prefix is big-endian. Raises `LocalProtocolError` on a domain that is not
    lower-case words, because a line feed in it would blur two domains.

    >>> tagged("example", b"ab", b"c") == tagged("example", b"a", b"bc")
    False
    """
    if not _DOMAIN.fullmatch(domain):
        raise LocalProtocolError(f"digest domain {domain!r} is not lower-case words")
    state = hashlib.sha256(f"konsil {domain}\n".encode("ascii"))
    for part in parts:
        state.update(len(part).to_bytes(8, "big"))
        state.update(part)
    return state.digest()
