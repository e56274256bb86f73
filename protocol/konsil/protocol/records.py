"""Records: frozen msgspec structs as canonical bytes, and back.

`unpack` is bounds, then parse, then canonical form, then types: unknown fields, a text
where bytes belong, a boolean where an integer belongs and a left-out default are all
refused, so that a record has exactly one encoding. A reader that must keep a signature
valid keeps the bytes it received and never packs a record again.

There are two ways to the same answer. The careful one reads the bytes with `cmp1` and
names what is wrong. The quick one, some twenty times faster, lets msgspec decode straight
into the type and encode again with sorted keys: equal bytes prove the form, the type proves
the rest, and where it proves nothing the careful way judges.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar, cast

import msgspec
from msgspec import inspect

from konsil.protocol import cmp1
from konsil.protocol.errors import EncodingRefused, LocalProtocolError, RemoteError
from konsil.protocol.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

T = TypeVar("T")

DigestField: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
"""A SHA-256 digest: exactly 32 raw bytes."""
KeyField: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
"""An Ed25519 public key: exactly 32 raw bytes."""
SignatureField: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
"""An Ed25519 signature: exactly 64 raw bytes."""
SaltField: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
"""A random salt: exactly 16 raw bytes."""
HexField: TypeAlias = Annotated[
    str, msgspec.Meta(min_length=64, max_length=64, pattern=r"^[0-9a-f]{64}\Z")
]
"""A SHA-256 digest for JSON: 64 lower-case hexadecimal digits."""
NameField: TypeAlias = Annotated[
    str, msgspec.Meta(min_length=1, max_length=32, pattern=r"^[a-z][a-z0-9-]*\Z")
]
"""The short name of a node or consortium: `[a-z][a-z0-9-]{0,31}`."""
NodeField: TypeAlias = Annotated[
    str, msgspec.Meta(min_length=32, max_length=32, pattern=r"^[a-z2-7]{32}\Z")
]
"""A node id: 32 characters of lower-case base32."""
PeerField: TypeAlias = Annotated[
    str, msgspec.Meta(min_length=52, max_length=52, pattern=r"^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}\Z")
]
"""The libp2p peer id of an Ed25519 key: 52 characters of base58btc."""


ENCODER = msgspec.msgpack.Encoder(order="sorted")
"""Writes structs with their fields in the order of cmp1; texts and depth are not checked."""
_JSON = msgspec.json.Encoder()
_SCALARS = (
    inspect.NoneType,
    inspect.BoolType,
    inspect.IntType,
    inspect.StrType,
    inspect.BytesType,
    inspect.LiteralType,
)
# Deeper than any limit: a type of which the quick way can prove nothing.
_UNPROVEN = 2**16
_MOST_LEVELS = 16


def pack(record: msgspec.Struct) -> bytes:
    """The cmp1 bytes of `record`, with every field and its tag.

    Raises `LocalProtocolError` when a reader would refuse them.
    """
    try:
        data = ENCODER.encode(record)
        unpack(data, type(record), max_bytes=len(data))
    except (RemoteError, TypeError, ValueError, OverflowError) as fault:
        name = type(record).__name__
        raise LocalProtocolError(f"this {name} cannot be packed: {fault}") from None
    return data


def unpack(
    data: bytes,
    kind: type[T],
    *,
    limits: Limits = DEFAULT_LIMITS,
    max_bytes: int | None = None,
) -> T:
    """The record of type `kind` (a struct or a tagged union of structs) in `data`.

    Raises `LimitExceeded`, or `EncodingRefused` naming the byte or the path of the field.
    """
    if len(data) <= (limits.entry_bytes if max_bytes is None else max_bytes):
        found = _quick(data, kind, limits)
        if found is not None:
            return found
    value = cmp1.decode(data, limits=limits, max_bytes=max_bytes)
    record = typed(value, kind)
    if ENCODER.encode(record) != data:
        raise EncodingRefused("the record leaves out a field, or has one too many")
    return record


def typed(value: cmp1.Value, kind: type[T]) -> T:
    """A decoded value as a record of type `kind`, strictly.

    Raises `EncodingRefused` naming the path of the wrong field.
    """
    try:
        return msgspec.convert(value, kind, strict=True, builtin_types=(bytes,))
    except msgspec.ValidationError as fault:
        raise EncodingRefused(str(fault)) from None


def _quick(data: bytes, kind: type[T], limits: Limits) -> T | None:
    """The record, or None where only the careful way can tell.

    A value takes a byte at least, so that `items` values fit in as many bytes. JSON escapes
    what ends a line or controls a terminal: its text shows at once that all texts are plain.
    """
    decoder, depth = plan(cast("Hashable", kind))
    if len(data) > limits.items or depth > limits.depth:
        return None
    try:
        record: T = decoder.decode(data)
        if ENCODER.encode(record) != data:
            return None
    except (msgspec.MsgspecError, ValueError, OverflowError):
        return None
    return record if is_plain(record, limits) else None


def is_plain(record: object, limits: Limits) -> bool:
    """Whether every text in a record is short, printable ASCII; no says nothing about it."""
    text = _JSON.encode(record)
    if not text.isascii() or b"\\" in text or b"\x7f" in text:
        return False
    if len(text) <= limits.text_bytes:
        return True
    # A longer text than the limit covers a whole block of half the limit: one without a quote.
    half = max(1, limits.text_bytes // 2)
    blocks = (text[at : at + half] for at in range(0, len(text) - half + 1, half))
    return all(b'"' in block for block in blocks) or _longest(record) <= limits.text_bytes


def _longest(record: object) -> int:
    """The size of the longest text; in JSON bytes look like texts too."""
    waiting, longest = [msgspec.to_builtins(record, builtin_types=(bytes,))], 0
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            longest = max(longest, len(value))
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value
    return longest


@lru_cache(maxsize=512)
def plan(kind: Hashable) -> tuple[msgspec.msgpack.Decoder[Any], int]:
    """The decoder of a type, and how deep its values nest at most.

    Far deeper than any limit where equal bytes would not prove the form: floats, free maps.
    """
    return msgspec.msgpack.Decoder(kind), _depth(inspect.type_info(kind), _MOST_LEVELS)


def _depth(info: inspect.Type, left: int) -> int:
    """How deep values of this type nest; `left` ends types that contain themselves."""
    if isinstance(info, inspect.Metadata):
        return _depth(info.type, left)
    if isinstance(info, _SCALARS):
        return 0
    if left == 0:
        return _UNPROVEN
    members: Iterable[inspect.Type]
    if isinstance(info, inspect.UnionType):
        return max(_depth(item, left) for item in info.types)
    if isinstance(info, (inspect.ListType, inspect.VarTupleType)):
        members = (info.item_type,)
    elif isinstance(info, inspect.TupleType):
        members = info.item_types
    elif isinstance(info, inspect.StructType) and _keys_hold(info):
        members = (field.type for field in info.fields)
    else:
        return _UNPROVEN
    return 1 + max((_depth(item, left - 1) for item in members), default=0)


def _keys_hold(info: inspect.StructType) -> bool:
    """Whether the names that a struct writes are keys of cmp1."""
    names = [field.encode_name for field in info.fields]
    if info.tag_field is not None:
        names.append(info.tag_field)
    return not info.array_like and all(map(cmp1.KEY.fullmatch, names))
