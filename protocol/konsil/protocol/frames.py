"""Frames: messages laid end to end on a stream, each behind its length.

A frame is a u32 big-endian length and that many bytes of body. The length counts the body
alone, is at least 1, and at most what the reader admits; a longer one is refused as soon
as its header is complete, before anything is kept for it. A reader takes room only for
bytes that have arrived, copies each of them once, and holds at most one unfinished frame.
It knows nothing of what a body means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from konsil.protocol.errors import (
    EncodingRefused,
    LimitExceeded,
    LocalProtocolError,
    RemoteError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER_BYTES = 4
MAX_BODY_BYTES = 2**32 - 1

Bytes: TypeAlias = bytes | bytearray | memoryview
"""Bytes in any of their forms; a view must be contiguous and count single bytes."""

_NOTHING = memoryview(b"")


def frame(*parts: Bytes) -> bytes:
    """One frame whose body is `parts` end to end, in one piece to be written at once.

    Raises `LocalProtocolError` on a body that is empty or longer than a u32 can say.

    >>> frame(b"ab", b"c").hex()
    '00000003616263'
    """
    size = sum(len(part) for part in parts)
    if not 1 <= size <= MAX_BODY_BYTES:
        raise LocalProtocolError(f"a frame of {size} bytes")
    return b"".join((size.to_bytes(HEADER_BYTES, "big"), *parts))


class FrameReader:
    """Cuts a stream of bytes, fed in pieces of any size, back into the bodies of frames.

    `max_bytes` bounds the body of the next frame whose header is read. After a refusal the
    reader is of no more use: it cannot know where the next frame would begin.
    """

    __slots__ = ("_at", "_body", "_fault", "_header", "_input", "_missing", "max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._input = _NOTHING
        self._at = 0
        self._header = bytearray()
        self._body = bytearray()
        self._missing = 0
        self._fault: RemoteError | None = None

    @property
    def buffered(self) -> int:
        """Bytes of an unfinished frame that are held between two feeds."""
        return len(self._header) + len(self._body)

    def feed(self, data: Bytes) -> Iterator[memoryview]:
        """The bodies that `data` completes, cut one by one while the iterator is driven.

        Each body is a read-only view of memory of its own. The iterator raises
        `LimitExceeded` or `EncodingRefused` at the first wrong header, after the bodies
        before it. Raises `LocalProtocolError` when the last iterator was not driven to its
        end: bytes would be lost.
        """
        if self._fault is not None:
            raise type(self._fault)(f"after a refused frame: {self._fault.message}")
        if self._at < len(self._input):
            raise LocalProtocolError("the frames of the last feed were not all taken")
        self._input, self._at = memoryview(data), 0
        return self._bodies()

    def _bodies(self) -> Iterator[memoryview]:
        while self._at < len(self._input):
            if not self._missing and not self._read_header():
                break
            piece = self._take(self._missing)
            self._body += piece
            self._missing -= len(piece)
            if self._missing:
                break
            body, self._body = self._body, bytearray()
            self._header.clear()
            yield memoryview(body).toreadonly()
        # The caller's buffer must not be kept alive, or locked, between two feeds.
        self._input, self._at = _NOTHING, 0

    def _take(self, most: int) -> memoryview:
        piece = self._input[self._at : self._at + most]
        self._at += len(piece)
        return piece

    def _read_header(self) -> bool:
        """True once the length of the next body is known."""
        self._header += self._take(HEADER_BYTES - len(self._header))
        if len(self._header) < HEADER_BYTES:
            return False
        length = int.from_bytes(self._header, "big")
        if length == 0:
            self._fault = EncodingRefused("an empty frame")
        elif length > self.max_bytes:
            self._fault = LimitExceeded(
                f"a frame of {length} bytes; at most {self.max_bytes} are read"
            )
        if self._fault is not None:
            self._input, self._at = _NOTHING, 0
            raise self._fault
        self._missing = length
        return True
