"""Formats: the closed list of ways in which the tensors of a payload can travel.

A format is one word in the signed manifest, so what travels is declared before a byte of it is
read, and a reader that does not know the word refuses the manifest (`EncodingRefused`). The
parts of a word, in this order: `safetensors`, the container; `delta`, where the tensors are a
change of what the publisher sent before; the codec (`docs/spec/ledger.md`), where the tensors
are not simply themselves; `zstd`, where all of it is one Zstandard frame.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import msgspec

from konsil.protocol.errors import EncodingRefused, LocalProtocolError

Codec: TypeAlias = Literal["plain", "fp16", "int8", "topk"]
"""How numbers are written; `plain` means as they are."""

Format: TypeAlias = Literal[
    "safetensors",
    "safetensors+zstd",
    "safetensors+fp16",
    "safetensors+fp16+zstd",
    "safetensors+int8",
    "safetensors+int8+zstd",
    "safetensors+topk",
    "safetensors+topk+zstd",
    "safetensors+delta+fp16",
    "safetensors+delta+fp16+zstd",
    "safetensors+delta+int8",
    "safetensors+delta+int8+zstd",
    "safetensors+delta+topk",
    "safetensors+delta+topk+zstd",
]

FORMATS: Final[tuple[Format, ...]] = get_args(Format)
"""Every word that this version reads."""


class Encoding(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a format word says, part by part.

    >>> Encoding(codec="int8", zstd=True).word
    'safetensors+int8+zstd'
    """

    codec: Codec = "plain"
    delta: bool = False
    zstd: bool = False

    @property
    def word(self) -> Format:
        """The format word. Raises `LocalProtocolError` where there is none (a plain delta)."""
        parts = ["safetensors"]
        parts += ["delta"] * self.delta
        parts += [self.codec] * (self.codec != "plain")
        parts += ["zstd"] * self.zstd
        word = "+".join(parts)
        for known in FORMATS:
            if word == known:
                return known
        raise LocalProtocolError(f"{word} is no format of a payload")


_MEANINGS: Final[dict[str, Encoding]] = {
    one.word: one
    for codec in get_args(Codec)
    for delta in (False, True)
    for zstd in (False, True)
    if codec != "plain" or not delta
    for one in [Encoding(codec=codec, delta=delta, zstd=zstd)]
}


def encoding_of(word: str) -> Encoding:
    """What a format word says. Raises `EncodingRefused` on a word that is not known here.

    >>> encoding_of("safetensors+delta+topk").delta
    True
    """
    found = _MEANINGS.get(word)
    if found is None:
        raise EncodingRefused(f"payloads of the format {word[:64]!r} are not read here")
    return found
