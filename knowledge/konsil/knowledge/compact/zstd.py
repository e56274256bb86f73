"""zstd: a payload as one Zstandard frame (RFC 8878), and back without trusting the frame.

The frame must say how long its content is, and that is held against what the reader expects
before any memory is taken; then it is inflated into exactly that much, and a frame that holds
more or less is damaged. No dictionary, no second frame, nothing behind it. The bytes of a frame
depend on the version of the compressor, so equal models may travel under different digests; what
comes out is the same.
"""

from __future__ import annotations

import zstandard

from konsil.protocol.errors import LimitExceeded, ManifestRefused

LEVEL = 9
"""Beyond this level a payload of tensors hardly shrinks further, and takes many times longer."""
_UNKNOWN = (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR)


def deflate(data: bytes) -> bytes:
    """`data` as one frame that declares its content's size."""
    return zstandard.ZstdCompressor(level=LEVEL, write_content_size=True).compress(data)


def inflate(data: bytes, *, most: int) -> bytes:
    """The content of a frame, of at most `most` bytes.

    Raises `LimitExceeded` when it declares more, and `ManifestRefused` on anything else that is
    not exactly one frame of the declared size.
    """
    try:
        header = zstandard.get_frame_parameters(data)
        size = header.content_size
        if size in _UNKNOWN or size == 0 or header.dict_id:
            raise ManifestRefused("a Zstandard frame of unknown size, or with a dictionary")
        if size > most:
            raise LimitExceeded(f"a Zstandard frame of {size} bytes; at most {most} are expected")
        content = zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as fault:
        raise ManifestRefused(f"the Zstandard frame cannot be read: {fault}") from None
    if len(content) != size:
        raise ManifestRefused(f"a Zstandard frame of {len(content)} bytes claims {size}")
    return content
