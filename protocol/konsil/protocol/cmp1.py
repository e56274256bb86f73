"""cmp1: MessagePack with exactly one encoding for every value.

Bytes are valid if and only if `encode(decode(data)) == data` under these rules:

1. nil, booleans, integers from -2^63 to 2^64 - 1, bin, str, array and map; no floats, no
   extension types, no timestamps. A fraction is an integer with its unit in its name.
2. The shortest form of every integer, length and count; integers >= 0 in unsigned forms.
3. Map keys are str of the form `[a-z][a-z0-9_]{0,31}`, unique and ascending by bytes.
4. str is valid UTF-8, in NFC, without control characters, at most `Limits.text_bytes`.
5. At most `Limits.depth` containers deep, `Limits.items` values and `max_bytes` bytes, with
   nothing behind the value.

The reader checks every rule before it keeps anything, and takes room only for bytes that
are there: a forged length cannot allocate. The result is then encoded once more by the
msgpack library and compared, so that two implementations must agree on every accepted
byte. Compare encodings, never decoded values: in Python `True == 1`.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TypeAlias, Union, cast

import msgpack

from konsil.protocol.errors import EncodingRefused, LimitExceeded, LocalProtocolError
from konsil.protocol.limits import DEFAULT_LIMITS, Limits

Value: TypeAlias = Union[bool, int, bytes, str, "list[Value]", "dict[str, Value]", None]
"""What cmp1 can say."""

INT_MIN = -(2**63)
INT_MAX = 2**64 - 1

KEY = re.compile(r"[a-z][a-z0-9_]{0,31}")
"""What a map key looks like."""

_KEY_BYTES = re.compile(rb"[a-z][a-z0-9_]{0,31}")
_KEY_OF_32 = b"\xd9\x20"

_U16, _U32 = 2**16 - 1, 2**32 - 1
# First byte -> bytes of the number behind it, the least and the most that need this form,
# and what the number is for.
_LONG = {
    0xC4: (1, 0, 0xFF, "bin"),
    0xC5: (2, 0x100, _U16, "bin"),
    0xC6: (4, 0x1_0000, _U32, "bin"),
    0xCC: (1, 0x80, 0xFF, "positive"),
    0xCD: (2, 0x100, _U16, "positive"),
    0xCE: (4, 0x1_0000, _U32, "positive"),
    0xCF: (8, 0x1_0000_0000, INT_MAX, "positive"),
    0xD0: (1, -(2**7), -33, "negative"),
    0xD1: (2, -(2**15), -(2**7) - 1, "negative"),
    0xD2: (4, -(2**31), -(2**15) - 1, "negative"),
    0xD3: (8, INT_MIN, -(2**31) - 1, "negative"),
    0xD9: (1, 32, 0xFF, "str"),
    0xDA: (2, 0x100, _U16, "str"),
    0xDB: (4, 0x1_0000, _U32, "str"),
    0xDC: (2, 16, _U16, "array"),
    0xDD: (4, 0x1_0000, _U32, "array"),
    0xDE: (2, 16, _U16, "map"),
    0xDF: (4, 0x1_0000, _U32, "map"),
}
_CONSTANTS: dict[int, Value] = {0xC0: None, 0xC2: False, 0xC3: True}
_FORBIDDEN = {
    0xC1: "a byte that MessagePack never uses",
    0xCA: "a float",
    0xCB: "a float",
    **dict.fromkeys((0xC7, 0xC8, 0xC9, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8), "an extension type"),
}
# Control characters, lone surrogates, and what ends a line or a paragraph.
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
# Embeddings, overrides and isolates make a text read differently from what it says.
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def encode(value: object) -> bytes:
    """The one cmp1 encoding of `value`; tuples are written as arrays.

    Raises `LocalProtocolError` on anything cmp1 cannot say: the caller built it wrongly.
    Depth and text are held to the default limits; the size is the caller's to bound.

    >>> encode({"b": 1, "a": [None, b"x"]}).hex()
    '82a16192c0c40178a16201'
    """
    return _packed(_ordered(value, 0))


def decode(data: bytes, *, limits: Limits = DEFAULT_LIMITS, max_bytes: int | None = None) -> Value:
    """The value of `data`, which is at most `max_bytes` long (by default one ledger entry).

    Raises `LimitExceeded` on too many bytes, levels, values or too long a text, and
    `EncodingRefused`, naming the byte, on everything that is not canonical.
    """
    bound = limits.entry_bytes if max_bytes is None else max_bytes
    if len(data) > bound:
        raise LimitExceeded(f"{len(data)} bytes of cmp1; at most {bound} are read")
    reader = _Reader(data, limits)
    value = reader.value(0)
    if reader.at != len(data):
        raise EncodingRefused(f"{len(data) - reader.at} bytes behind the value")
    if _packed(value) != data:
        raise EncodingRefused("the bytes are not the canonical form of their value")
    return value


def text_fault(text: str) -> str | None:
    """Why `text` breaks rule 4, or None when it keeps it."""
    if text.isascii():
        return None if text.isprintable() else "a control character"
    if not unicodedata.is_normalized("NFC", text):
        return "text that is not in NFC"
    for character in text:
        if character in _BIDI or unicodedata.category(character) in _FORBIDDEN_CATEGORIES:
            return "a control character or a lone surrogate"
    return None


def _packed(value: object) -> bytes:
    return cast("bytes", msgpack.packb(value, use_bin_type=True, strict_types=True))


def _ordered(value: object, depth: int) -> object:
    """`value` with its map keys ascending, every rule checked."""
    kind = type(value)
    if value is None or kind is bool or kind is bytes:
        return value
    if isinstance(value, int) and kind is int:
        if not INT_MIN <= value <= INT_MAX:
            raise LocalProtocolError(f"{value} is outside the integers of cmp1")
        return value
    if isinstance(value, str) and kind is str:
        return _checked_text(value)
    if depth == DEFAULT_LIMITS.depth:
        raise LocalProtocolError(f"more than {depth} levels")
    if isinstance(value, (list, tuple)) and kind in (list, tuple):
        return [_ordered(item, depth + 1) for item in value]
    if isinstance(value, dict) and kind is dict:
        for key in value:
            if type(key) is not str or not KEY.fullmatch(key):
                raise LocalProtocolError(f"{key!r} is no map key of cmp1")
        return {key: _ordered(value[key], depth + 1) for key in sorted(value)}
    raise LocalProtocolError(f"cmp1 cannot say a {kind.__name__}")


def _checked_text(text: str) -> str:
    fault = text_fault(text)
    if fault:
        raise LocalProtocolError(f"{text!r} holds {fault}")
    size = len(text.encode("utf-8"))
    if size > DEFAULT_LIMITS.text_bytes:
        raise LocalProtocolError(f"a text of {size} bytes")
    return text


class _Reader:
    """One pass over the bytes; `at` is the next byte to read."""

    __slots__ = ("at", "data", "end", "limits", "room")

    def __init__(self, data: bytes, limits: Limits) -> None:
        self.data = data
        self.end = len(data)
        self.limits = limits
        self.at = 0
        self.room = limits.items

    def value(self, depth: int) -> Value:
        """The value that starts at `at`, inside `depth` containers."""
        at = self.at
        if at >= self.end:
            raise EncodingRefused(f"cut off: a value wanted at byte {at}")
        self.at = at + 1
        self.room -= 1
        if self.room < 0:
            raise LimitExceeded(f"more than {self.limits.items} values")
        first = self.data[at]
        if first <= 0x7F:
            return first
        if first >= 0xE0:
            return first - 0x100
        if first <= 0x8F:
            return self._map(first & 0x0F, depth)
        if first <= 0x9F:
            return self._array(first & 0x0F, depth)
        if first <= 0xBF:
            return self._text(first & 0x1F)
        if first in _CONSTANTS:
            return _CONSTANTS[first]
        if first in _FORBIDDEN:
            raise EncodingRefused(f"{_FORBIDDEN[first]} at byte {at}")
        return self._long(first, depth)

    def _long(self, first: int, depth: int) -> Value:
        """The value whose length, count or number follows its first byte."""
        width, least, most, family = _LONG[first]
        number = int.from_bytes(self._take(width), "big", signed=family == "negative")
        if not least <= number <= most:
            raise EncodingRefused(f"a number longer than it need be before byte {self.at}")
        if family == "bin":
            return self._take(number)
        if family == "str":
            return self._text(number)
        if family == "array":
            return self._array(number, depth)
        if family == "map":
            return self._map(number, depth)
        return number

    def _take(self, count: int) -> bytes:
        at = self.at
        stop = at + count
        if stop > self.end:
            raise EncodingRefused(f"cut off: {count} bytes wanted at byte {at}")
        self.at = stop
        return self.data[at:stop]

    def _text(self, size: int) -> str:
        at = self.at
        if size > self.limits.text_bytes:
            raise LimitExceeded(f"a text of {size} bytes at byte {at}")
        try:
            text = self._take(size).decode("utf-8")
        except UnicodeDecodeError:
            raise EncodingRefused(f"text that is not UTF-8 at byte {at}") from None
        fault = text_fault(text)
        if fault:
            raise EncodingRefused(f"{fault} at byte {at}")
        return text

    def _enter(self, count: int, bytes_each: int, depth: int) -> None:
        """Refuse a container that is too deep or claims more than the bytes that follow."""
        if depth >= self.limits.depth:
            raise LimitExceeded(f"more than {self.limits.depth} levels at byte {self.at}")
        if count * bytes_each > self.end - self.at:
            raise EncodingRefused(f"cut off: {count} members claimed before byte {self.at}")

    def _array(self, count: int, depth: int) -> list[Value]:
        self._enter(count, 1, depth)
        return [self.value(depth + 1) for _ in range(count)]

    def _map(self, count: int, depth: int) -> dict[str, Value]:
        self._enter(count, 2, depth)
        result: dict[str, Value] = {}
        before = ""
        for _ in range(count):
            at = self.at
            key = self._key()
            if key <= before:
                raise EncodingRefused(f"map keys out of order or twice at byte {at}")
            result[key] = self.value(depth + 1)
            before = key
        return result

    def _key(self) -> str:
        at = self.at
        start, size = at + 1, -1
        if at < self.end:
            size = self.data[at] ^ 0xA0
        if size > 31 and self.data[at : start + 1] == _KEY_OF_32:
            # From 32 characters on, the length takes a byte of its own.
            start, size = at + 2, 32
        stop = start + size
        if not 0 < size <= 32 or stop > self.end:
            raise EncodingRefused(f"no map key of cmp1 at byte {at}")
        found = _KEY_BYTES.fullmatch(self.data, start, stop)
        if found is None:
            raise EncodingRefused(f"no map key of cmp1 at byte {at}")
        self.at = stop
        return found[0].decode("ascii")
