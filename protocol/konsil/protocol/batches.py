"""Many records as canonical bytes at once: the quick way of `records` for a whole group.

All records of a type are encoded as one array and read back as that type: our encoder has one
form for every value, and the type proves the rest. What was read must equal what was given, for a
value that is written as it stands (`msgspec.Raw`) may have any form. Then the array is cut into
its records. So msgspec is called a few times for each type and not for each record. Where that
proves nothing, the answer is None and the careful way judges; no record is ever changed, left
out, or moved.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import msgspec
from msgspec import inspect

from konsil.protocol.cmp1 import text_fault
from konsil.protocol.records import ENCODER, is_plain, plan

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from konsil.protocol.limits import Limits

_CUT = msgspec.msgpack.Decoder(list[msgspec.Raw])
_UNBOUND = 2**32
_ENDLESS = 1_000
"""What `plan` says of a type that contains itself, or more."""
# A pattern of letters, digits and classes of them and of a few marks: all of it printable ASCII.
_ITEM = r"(?:[A-Za-z0-9]|\[[A-Za-z0-9_.:/-]+\])(?:\{(?:[0-9]+,)?([0-9]+)\}|(\*))?"
_ITEMS = re.compile(_ITEM)
_PLAIN_PATTERN = re.compile(rf"\^(?:{_ITEM})+\\Z")


def pack_all(records: Sequence[msgspec.Struct], limits: Limits) -> list[msgspec.Raw] | None:
    """The cmp1 bytes of every record, in order; None when only the careful way can tell.

    One level of `limits.depth` is left for what holds the record. The size is the caller's to
    bound, and so are `limits.items`, which are no more than the bytes.
    """
    kinds = {*map(type, records)}
    if len(kinds) == 1:
        return _pack_kind(kinds.pop(), records, limits)
    parts: dict[type[msgspec.Struct], Iterator[msgspec.Raw]] = {}
    for kind in kinds:
        packed = _pack_kind(kind, [one for one in records if type(one) is kind], limits)
        if packed is None:
            return None
        parts[kind] = iter(packed)
    return [next(parts[type(one)]) for one in records]


def cut(data: bytes) -> list[msgspec.Raw]:
    """The members of an array that our own encoder wrote, each as its bytes."""
    return _CUT.decode(data)


def _pack_kind(
    kind: type[msgspec.Struct], records: Sequence[msgspec.Struct], limits: Limits
) -> list[msgspec.Raw] | None:
    decoder, depth, longest = _array_plan(kind)
    if depth > limits.depth:
        return None
    try:
        data = ENCODER.encode(records)
        read = decoder.decode(data)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError):
        return None
    if read != list(records) or (longest > limits.text_bytes and not is_plain(read, limits)):
        return None
    return cut(data)


@lru_cache(maxsize=512)
def _array_plan(kind: Hashable) -> tuple[msgspec.msgpack.Decoder[Any], int, int]:
    """The decoder of an array of a type, how deep it nests, and `longest_text` of the type."""
    decoder, depth = plan(cast("Hashable", list[kind]))  # type: ignore[valid-type]
    return decoder, depth, longest_text(kind) if depth < _ENDLESS else _UNBOUND


def longest_text(kind: Hashable) -> int:
    """The most bytes of any text in a value of this type, if the type says that all are plain.

    Plain as in `is_plain`, but for quotes and backslashes. Beyond any limit where it does not.
    """
    return max(map(_longest, _texts(inspect.type_info(kind))), default=0)


def _texts(info: inspect.Type) -> Iterator[inspect.Type]:
    """All types inside a type that no other types are inside of, but those without a text."""
    if isinstance(info, inspect.Metadata):
        yield from _texts(info.type)
    elif isinstance(info, inspect.UnionType):
        for item in info.types:
            yield from _texts(item)
    elif isinstance(info, inspect.ListType):
        yield from _texts(info.item_type)
    elif isinstance(info, inspect.StructType) and info.tag is None:
        for field in info.fields:
            yield from _texts(field.type)
    elif not isinstance(
        info, (inspect.NoneType, inspect.BoolType, inspect.IntType, inspect.BytesType)
    ):
        yield info


def _longest(info: inspect.Type) -> int:
    if isinstance(info, inspect.LiteralType):
        words = [word for word in info.values if isinstance(word, str)]
        plain = all(word.isascii() and not text_fault(word) for word in words)
        return max(map(len, words), default=0) if plain else _UNBOUND
    if not isinstance(info, inspect.StrType) or not _PLAIN_PATTERN.fullmatch(info.pattern or ""):
        return _UNBOUND
    if info.max_length is not None:
        return info.max_length
    items = _ITEMS.findall((info.pattern or "")[1:-2])
    return _UNBOUND if any(star for _, star in items) else sum(int(most or 1) for most, _ in items)
