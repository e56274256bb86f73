"""Payload: tensors, or a change of tensors, as the bytes of one format, and back.

The digest of an artifact is over these bytes: over what travels. Behind a codec they name the
tensors that they are a change of, so that equal bytes always stand for the same. A payload is read
as hostile: its size is held against the model that the reader brings before it is inflated, then
its header is checked, and what it decodes to has the reader's names, shapes and types or is
refused.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from konsil.knowledge import pack
from konsil.knowledge.compact import eight, half, layout, sparse, zstd
from konsil.knowledge.named import NamedTensors
from konsil.protocol import tensors
from konsil.protocol.digest import DIGEST_BYTES
from konsil.protocol.encoding import encoding_of
from konsil.protocol.errors import LimitExceeded, ManifestRefused
from konsil.protocol.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from torch import Tensor

    from konsil.protocol.digest import Digest
    from konsil.protocol.encoding import Codec

    Decoder: TypeAlias = Callable[[NamedTensors, NamedTensors], NamedTensors]
    Encoder: TypeAlias = Callable[[NamedTensors], NamedTensors]

NOTHING = bytes(DIGEST_BYTES)
"""In place of the digest of tensors: a change of nothing, which is the tensors themselves."""


def codec(name: Codec, *, share: float = sparse.SHARE) -> tuple[Encoder, Decoder]:
    """The pair `encode`, `decode` of a codec; `share` is for `topk` alone."""
    pairs: dict[Codec, tuple[Encoder, Decoder]] = {
        "plain": (_itself, _as_it_is),
        "fp16": (half.encode, half.decode),
        "int8": (eight.encode, eight.decode),
        "topk": (partial(sparse.encode, share=share), sparse.decode),
    }
    return pairs[name]


def write(
    model: NamedTensors, word: str, *, since: Digest = NOTHING, share: float = sparse.SHARE
) -> bytes:
    """The payload of `model` in the format `word`: behind a codec, a change of the tensors with
    the digest `since`.

    Raises `EncodingRefused` on an unknown word, and what the codec raises.
    """
    encoding = encoding_of(word)
    encoded = dict(codec(encoding.codec, share=share)[0](model))
    if encoding.codec != "plain":
        encoded[layout.SINCE] = torch.tensor([*since], dtype=torch.uint8)
    data = pack.to_bytes(encoded)
    return zstd.deflate(data) if encoding.zstd else data


def read(
    data: bytes,
    word: str,
    like: Mapping[str, Tensor],
    *,
    since: Digest = NOTHING,
    limits: Limits = DEFAULT_LIMITS,
) -> NamedTensors:
    """What the payload `data` of the format `word` says, for a model of `like`'s architecture:
    behind a codec, how the tensors with the digest `since` change.

    Raises `EncodingRefused` on an unknown word, `LimitExceeded` for more bytes than any such
    model needs, and `ManifestRefused` on whatever else is against the rules.
    """
    encoding = encoding_of(word)
    most = longest(like, limits)
    if encoding.zstd:
        data = zstd.inflate(data, most=most)
    if len(data) > most:
        raise LimitExceeded(f"{len(data)} bytes for a model that needs at most {most}")
    encoded = dict(pack.from_bytes(data, limits=limits))
    if encoding.codec != "plain":
        named = layout.taken(encoded, layout.SINCE, torch.uint8, DIGEST_BYTES)
        if bytes(named.tolist()) != since:
            raise ManifestRefused("the payload is a change of other tensors")
        del encoded[layout.SINCE]
    return codec(encoding.codec)[1](NamedTensors(encoded), NamedTensors(like))


def longest(like: Mapping[str, Tensor], limits: Limits) -> int:
    """Bytes that no payload for this model exceeds: places take at most one of an element's
    own bytes, scales one in sixteen; a small model is mostly header."""
    own = sum(tensor.numel() * max(tensor.element_size(), 4) for tensor in like.values())
    most = 2 * own + 16 * len(like) + limits.tensor_header_bytes + tensors.LENGTH_BYTES
    return min(most, limits.payload_bytes)


def _itself(model: NamedTensors) -> NamedTensors:
    return model


def _as_it_is(encoded: NamedTensors, like: NamedTensors) -> NamedTensors:
    """The tensors themselves, once they are of `like`'s names, shapes and types, and finite."""
    same = {name: (t.dtype, t.shape) for name, t in encoded.items()}
    if same != {name: (t.dtype, t.shape) for name, t in like.items()}:
        raise ManifestRefused("the payload has other tensors than the model")
    if not encoded.finite():
        raise ManifestRefused("the payload has values that are not finite")
    return NamedTensors({name: encoded[name] for name in like})
