"""Payload: a model, vector or change as the bytes of one format, and back.

The digest of an artifact is over these bytes: over what travels. A payload is read as hostile:
its size is held against the model that the reader brings before it is inflated, then its header
is checked, and what it decodes to has the reader's names, shapes and types or is refused.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from konsil.knowledge import pack
from konsil.knowledge.compact import eight, half, sparse, zstd
from konsil.knowledge.named import NamedTensors
from konsil.protocol import tensors
from konsil.protocol.encoding import encoding_of
from konsil.protocol.errors import EncodingRefused, LimitExceeded, ManifestRefused, RemoteError
from konsil.protocol.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from konsil.knowledge.compact.feedback import Decoder, Encoder
    from konsil.protocol.encoding import Codec
    from konsil.protocol.fields import Code

_log = logging.getLogger(__name__)


def codec(name: Codec, *, share: float = sparse.SHARE) -> tuple[Encoder, Decoder]:
    """The pair `encode`, `decode` of a codec; `share` is for `topk` alone."""
    pairs: dict[Codec, tuple[Encoder, Decoder]] = {
        "plain": (_itself, _as_it_is),
        "fp16": (half.encode, half.decode),
        "int8": (eight.encode, eight.decode),
        "topk": (partial(sparse.encode, share=share), sparse.decode),
    }
    return pairs[name]


def write(model: NamedTensors, word: str, *, share: float = sparse.SHARE) -> bytes:
    """The payload of `model` in the format `word`.

    Raises `EncodingRefused` on an unknown word, and what the codec raises.
    """
    encoding = encoding_of(word)
    data = pack.to_bytes(codec(encoding.codec, share=share)[0](model))
    return zstd.deflate(data) if encoding.zstd else data


def read(
    data: bytes, word: str, like: Mapping[str, Tensor], *, limits: Limits = DEFAULT_LIMITS
) -> NamedTensors:
    """What the payload `data` of the format `word` says, for a model of `like`'s architecture.

    Raises `EncodingRefused` on an unknown word, `LimitExceeded` for more bytes than any such
    model needs, and `ManifestRefused` on whatever else is against the rules.
    """
    encoding = encoding_of(word)
    most = min(_most(like, limits), limits.payload_bytes)
    if encoding.zstd:
        data = zstd.inflate(data, most=most)
    if len(data) > most:
        raise LimitExceeded(f"{len(data)} bytes for a model that needs at most {most}")
    encoded = pack.from_bytes(data, limits=limits)
    return codec(encoding.codec)[1](encoded, NamedTensors(like))


def reasons(
    data: bytes, word: str, like: Mapping[str, Tensor], *, limits: Limits = DEFAULT_LIMITS
) -> tuple[Code, ...]:
    """Why a payload cannot be mixed; empty when it can: `encoding`, `limit` or `payload`."""
    try:
        read(data, word, like, limits=limits)
    except (EncodingRefused, LimitExceeded) as fault:
        _log.warning("a payload of the format %.64s: %s", word, fault)
        return (fault.code,)
    except RemoteError as fault:
        _log.warning("a payload of the format %s: %s", word, fault)
        return ("payload",)
    return ()


def _most(like: Mapping[str, Tensor], limits: Limits) -> int:
    """Bytes that no payload for this model exceeds: places take at most one of an element's
    own bytes, scales one in sixteen; a small model is mostly header."""
    own = sum(tensor.numel() * max(tensor.element_size(), 4) for tensor in like.values())
    return 2 * own + 16 * len(like) + limits.tensor_header_bytes + tensors.LENGTH_BYTES


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
