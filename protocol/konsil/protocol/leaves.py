"""The two parts of an entry under its leaf hash: what a redaction hides, and what it shows.

An entry ends with its type, its time and its version; before that stand body, charter, position
and salt. What is hashed into the tree as a record is SHA-256(0x02 ‖ front) ‖ end. So whoever
takes the body away can still prove of which type the entry was, and when it was written, and
nobody can prove another type. The salt in the front stays unknown: the body cannot be guessed.

Invariant: of a canonical entry the end begins at the key of its type, for nothing that stands
before that key can end as an entry does. It must not judge what an entry says.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING

from konsil.protocol import cmp1
from konsil.protocol.errors import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

_END = re.compile(rb"\xa1t(?:[\xa3-\xbf]|\xd9[\x20\x21])[a-z._]+\xa2ts.{1,9}\xa1v\x01\Z", re.DOTALL)
_LONGEST = 52
"""The most bytes that an end takes."""


def hash_of(data: bytes | memoryview) -> bytes:
    """The leaf hash of an entry; of bytes that do not end as an entry does, of them as they are."""
    found = _END.search(data[-_LONGEST:])
    if found is None:
        return sha256(b"\x00" + data).digest()
    last = found[0]
    front = sha256(b"\x02" + data[: -len(last)]).digest()
    return sha256(b"\x00%b%b" % (front, last)).digest()


def hashes_of(items: Iterable[bytes]) -> list[bytes]:
    """`hash_of` of each: a long log is hashed in runs, where every call tells."""
    find, hasher = _END.search, sha256
    found: list[bytes] = []
    for data in items:
        last = find(data[-_LONGEST:])
        if last is None:
            found.append(hasher(b"\x00" + data).digest())
            continue
        word = last[0]
        front = hasher(b"\x02" + data[: -len(word)]).digest()
        found.append(hasher(b"\x00" + front + word).digest())
    return found


def front_hash(entry: bytes) -> bytes:
    """The commitment to all of an entry before its type.

    Raises `LocalProtocolError` for bytes that do not end as an entry does.
    """
    found = _END.search(entry[-_LONGEST:])
    if found is None:
        raise LocalProtocolError("these bytes do not end as a ledger entry does")
    return sha256(b"\x02" + entry[: -len(found[0])]).digest()


def end(word: str, time_ms: int) -> bytes:
    """How an entry of this type and time ends (unix milliseconds)."""
    return b"\xa1t" + cmp1.encode(word) + b"\xa2ts" + cmp1.encode(time_ms) + b"\xa1v\x01"


def shown(front: bytes, word: str, time_ms: int) -> bytes:
    """The leaf hash of an entry of which only the front's commitment, type and time are known."""
    return sha256(b"\x00" + front + end(word, time_ms)).digest()
