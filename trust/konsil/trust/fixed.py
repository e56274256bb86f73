"""Fixed point: fractions as integers in 1e-9, and the few operations trust needs on them.

Every weight that a node grants must come out the same on an auditor's machine, so nothing
behind the measurements uses floating point: sums, products and even the normal distribution
are integer arithmetic. A name that ends in `_e9` holds such an integer.

The same functions carry one integer, as it stands in a ledger, and numpy arrays of int64, as a
simulator has them for thousands of nodes; nothing overflows 64 bits below `CEILING_E9`. numpy
is imported only where arrays are, so that an audit starts quickly.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from konsil.protocol.errors import LocalProtocolError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Integers: TypeAlias = "npt.NDArray[np.int64]"
"""An array of amounts in 1e-9."""
Truths: TypeAlias = "npt.NDArray[np.bool_]"

Amount = TypeVar("Amount", int, "Integers")
"""One amount in 1e-9, or an array of them."""

UNIT_E9 = 10**9
"""One."""

CEILING_E9 = 10**15
"""The largest magnitude that is kept: a million. Beyond it a measurement saturates."""

_STEP = 256
"""Places of the normal distribution's table in one unit."""
_END = 7
"""From here on the normal distribution is 1 to nine decimals."""
_SCALE = 10**40
_BY_ROOT_TWO_PI = 3989422804014326779399460599343818684759


def to_e9(value: float) -> int:
    """A measurement as an integer in 1e-9, half to even, saturated at `CEILING_E9`.

    Raises `LocalProtocolError` on NaN, which measures nothing.

    >>> to_e9(0.25), to_e9(float("-inf")) == -CEILING_E9
    (250000000, True)
    """
    if math.isnan(value):
        raise LocalProtocolError("a measurement is NaN")
    if abs(value) >= CEILING_E9 / UNIT_E9:
        return CEILING_E9 if value > 0 else -CEILING_E9
    return round(value * UNIT_E9)


def many_to_e9(values: npt.NDArray[np.float64]) -> Integers:
    """`to_e9` of every value of an array."""
    import numpy as np

    if np.isnan(values).any():
        raise LocalProtocolError("a measurement is NaN")
    largest = CEILING_E9 / UNIT_E9
    return np.rint(np.clip(values, -largest, largest) * UNIT_E9).astype(np.int64)


def choose(condition: bool | Truths, yes: Any, no: Any) -> Any:
    """`yes` where the condition holds, else `no`."""
    if isinstance(condition, bool):
        return yes if condition else no
    import numpy as np

    return np.where(condition, yes, no)


def lesser(one: Amount, other: Amount | int) -> Amount:
    """The smaller of two amounts."""
    if isinstance(one, int) and isinstance(other, int):
        return min(one, other)
    import numpy as np

    return np.minimum(one, other)


def greater(one: Amount, other: Amount | int) -> Amount:
    """The larger of two amounts."""
    if isinstance(one, int) and isinstance(other, int):
        return max(one, other)
    import numpy as np

    return np.maximum(one, other)


def ratio(numerator: Amount, denominator: Amount | int) -> Amount:
    """`numerator / denominator` in 1e-9, to the nearest integer, halves up, saturated.

    Both are at most a few times `CEILING_E9`, the denominator is positive.

    >>> ratio(2, 3)
    666666667
    """
    whole = numerator // denominator
    digits, rest = _digits(numerator - whole * denominator, denominator)
    most = CEILING_E9 // UNIT_E9
    kept = lesser(greater(whole, -most), most)
    exact = kept * UNIT_E9 + digits + choose(2 * rest >= denominator, 1, 0)
    found: Amount = choose(whole < -most, -CEILING_E9, exact)
    return lesser(found, CEILING_E9)


def part(amount: Amount, whole: Amount) -> Amount:
    """`amount / whole` in 1e-9, rounded down, for ``0 <= amount <= whole`` and ``whole > 0``.

    >>> part(2, 3)
    666666666
    """
    equal = amount >= whole
    return choose(equal, UNIT_E9, _digits(amount, whole)[0])  # type: ignore[no-any-return]


def _digits(rest: Amount, denominator: Amount | int) -> tuple[Amount, Amount]:
    """Nine decimals of ``rest / denominator < 1`` and what is left of `rest`, by long division
    to the base 1000, which keeps each step within 64 bits."""
    digits = rest * 0
    for _ in range(3):
        rest = rest * 1000
        digit = rest // denominator
        digits, rest = digits * 1000 + digit, rest - digit * denominator
    return digits, rest


def product(first: Amount, *others: Amount | int) -> Amount:
    """The product of fractions in 1e-9, rounded down after each, so that it never grants more.

    >>> product(500_000_000, 333_333_333)
    166666666
    """
    result = first
    for other in others:
        result = result * other // UNIT_E9
    return result


def normal_cdf(x_e9: Amount) -> Amount:
    """The standard normal distribution function, monotone and correct to 5e-7.

    By definition: straight lines between its values at the multiples of 1/256, each rounded to
    1e-9; 0 and 1 from 7 on. So anyone can repeat it, and it never falls where `x` grows.

    >>> normal_cdf(0), normal_cdf(1_000_000_000)
    (500000000, 841344746)
    """
    size = lesser(abs(x_e9), _END * UNIT_E9) * _STEP
    place = size // UNIT_E9
    part = size - place * UNIT_E9
    table: Any = _table() if isinstance(x_e9, int) else _array()
    low, high = table[place], table[place + 1]
    value = low + (high - low) * part // UNIT_E9
    return choose(x_e9 < 0, UNIT_E9 - value, value)  # type: ignore[no-any-return]


@functools.cache
def _table() -> tuple[int, ...]:
    inside = (_exact(place * UNIT_E9 // _STEP) for place in range(_END * _STEP))
    return (*inside, UNIT_E9, UNIT_E9)


@functools.cache
def _array() -> Integers:
    import numpy as np

    return np.array(_table(), dtype=np.int64)


def _exact(x_e9: int) -> int:
    """The distribution function at one place, correct to 1e-9, by its power series.

    Integers of forty decimals carry the alternating series, whose terms stay below 1e11
    for |x| <= 7.
    """
    x = x_e9 * (_SCALE // UNIT_E9)
    squared = x * x // _SCALE
    term, total, n = x, x, 0
    while term:
        n += 1
        term = -(abs(term) * squared // (2 * n * _SCALE)) * (1 if term > 0 else -1)
        total += term // (2 * n + 1)
    shifted = _SCALE // 2 + total * _BY_ROOT_TWO_PI // _SCALE
    return (2 * shifted * UNIT_E9 + _SCALE) // (2 * _SCALE)
