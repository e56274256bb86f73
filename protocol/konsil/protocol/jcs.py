"""JCS: the one JSON text of a value (RFC 8785), for the subset that manifests use.

The subset is null, booleans, integers within 2^53 - 1 (larger ones are not safe in other
languages), strings, arrays and objects. There are no floats, so the number formatting of
RFC 8785 §3.2.2.3 is that of integers. Names ascend by UTF-16 code units (§3.2.3). Text is
held to the same rules as in cmp1. `parse` refuses every text that is not its own canonical
form, so white space, escapes that are not needed, duplicate names and `-0` cannot hide.
"""

from __future__ import annotations

import json
from typing import NoReturn, TypeAlias, Union

from konsil.protocol.cmp1 import text_fault
from konsil.protocol.errors import EncodingRefused, LimitExceeded, LocalProtocolError
from konsil.protocol.limits import DEFAULT_LIMITS, Limits

Value: TypeAlias = Union[bool, int, str, "list[Value]", "dict[str, Value]", None]
"""What this subset of JSON can say."""

INT_MAX = 2**53 - 1
_INT_DIGITS = len(str(INT_MAX))


def canonical(value: object) -> bytes:
    """The canonical JSON of `value` in UTF-8; tuples are written as arrays.

    Raises `LocalProtocolError` on anything outside the subset.

    >>> canonical({"b": [1, None], "a": "é"}).decode()
    '{"a":"é","b":[1,null]}'
    """
    _check(value, DEFAULT_LIMITS.depth)
    return _text(value).encode("utf-8")


def parse(data: bytes, *, limits: Limits = DEFAULT_LIMITS, max_bytes: int | None = None) -> Value:
    """The value of canonical JSON, at most `max_bytes` long (by default one envelope).

    Raises `LimitExceeded` on too many bytes or levels or too long a text, and
    `EncodingRefused` on everything that is not JCS of the subset.
    """
    bound = limits.envelope_bytes if max_bytes is None else max_bytes
    if len(data) > bound:
        raise LimitExceeded(f"{len(data)} bytes of JSON; at most {bound} are read")
    try:
        value: Value = json.loads(
            data.decode("utf-8"),
            parse_int=_integer,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
    except RecursionError:
        raise LimitExceeded(f"more than {limits.depth} levels of JSON") from None
    except ValueError as fault:
        raise EncodingRefused(f"not JSON: {fault}") from None
    _bound(value, limits, limits.depth)
    try:
        same = canonical(value) == data
    except LocalProtocolError as fault:
        raise EncodingRefused(fault.message) from None
    if not same:
        raise EncodingRefused("the JSON is not in its canonical form (RFC 8785)")
    return value


def _check(value: object, levels: int) -> None:
    kind = type(value)
    if value is None or kind is bool:
        return
    if isinstance(value, int) and kind is int:
        if not -INT_MAX <= value <= INT_MAX:
            raise LocalProtocolError(f"{value} is not a safe integer of JSON")
    elif isinstance(value, str) and kind is str:
        _check_text(value)
    elif levels == 0:
        raise LocalProtocolError("too many levels of JSON")
    elif isinstance(value, (list, tuple)) and kind in (list, tuple):
        for item in value:
            _check(item, levels - 1)
    elif isinstance(value, dict) and kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise LocalProtocolError(f"{key!r} is no name of a JSON object")
            _check_text(key)
            _check(item, levels - 1)
    else:
        raise LocalProtocolError(f"this subset of JSON cannot say a {kind.__name__}")


def _check_text(text: str) -> None:
    fault = text_fault(text)
    if fault:
        raise LocalProtocolError(f"{text!r} holds {fault}")


def _text(value: object) -> str:
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(f"{_text(name)}:{_text(value[name])}" for name in names) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_text(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _bound(value: Value, limits: Limits, levels: int) -> None:
    """Refuse a parsed value that nests more than `levels` deep or has too long a text."""
    if isinstance(value, str):
        if len(value.encode("utf-8", "surrogatepass")) > limits.text_bytes:
            raise LimitExceeded(f"a text of more than {limits.text_bytes} bytes in JSON")
        return
    if not isinstance(value, (list, dict)):
        return
    if levels == 0:
        raise LimitExceeded(f"more than {limits.depth} levels of JSON")
    if isinstance(value, dict):
        for name, item in value.items():
            _bound(name, limits, levels)
            _bound(item, limits, levels - 1)
    else:
        for item in value:
            _bound(item, limits, levels - 1)


def _integer(digits: str) -> int:
    # Python refuses texts of more than 4300 digits by itself; ours is the tighter bound.
    if len(digits) > _INT_DIGITS + 1:
        raise EncodingRefused("an integer of JSON that is not safe")
    return int(digits)


def _refuse_number(text: str) -> NoReturn:
    raise EncodingRefused(f"{text[:32]!r} is not an integer")
