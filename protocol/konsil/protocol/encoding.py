"""Formats: the closed list of ways in which the tensors of a payload can travel.

A format is one word in the signed manifest, so what travels is declared before a byte of it is
read, and a reader that does not know the word refuses the manifest (`EncodingRefused`). The
parts of a word, in this order: `safetensors`, the container; the codec (`docs/spec/ledger.md`),
where what travels is a change of tensors that the reader holds; `zstd`, where all of it is one
Zstandard frame. A greeting lists the words that its speaker reads.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import msgspec

from konsil.protocol.errors import EncodingRefused

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
]

FORMATS: Final[tuple[Format, ...]] = get_args(Format)
"""Every word that this version reads."""

PLAIN: Final[Format] = "safetensors"
"""The word that everybody reads: the tensors themselves."""

CHANGES: Final = ("parameters", "data_vector")
"""The kinds of artifact that may travel as a change; the others are small as they are."""


class Encoding(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a format word says, part by part.

    >>> Encoding(codec="int8", zstd=True).word
    'safetensors+int8+zstd'
    """

    codec: Codec = "plain"
    zstd: bool = False

    @property
    def word(self) -> Format:
        """The format word."""
        parts = ["safetensors"]
        parts += [self.codec] * (self.codec != "plain")
        parts += ["zstd"] * self.zstd
        return _WORDS["+".join(parts)]


_WORDS: Final[dict[str, Format]] = {word: word for word in FORMATS}
_MEANINGS: Final[dict[str, Encoding]] = {
    one.word: one
    for codec in get_args(Codec)
    for zstd in (False, True)
    for one in [Encoding(codec=codec, zstd=zstd)]
}


def encoding_of(word: str) -> Encoding:
    """What a format word says. Raises `EncodingRefused` on a word that is not known here.

    >>> encoding_of("safetensors+topk").codec
    'topk'
    """
    found = _MEANINGS.get(word)
    if found is None:
        raise EncodingRefused(f"payloads of the format {word[:64]!r} are not read here")
    return found
