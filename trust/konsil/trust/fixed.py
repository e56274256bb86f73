"""Fixed point: fractions as integers in 1e-9, and the few operations trust needs on them.

Every weight that a node grants must come out the same on an auditor's machine, so nothing
behind the measurements uses floating point: sums, products and even the normal distribution
are integer arithmetic. A name that ends in `_e9` holds such an integer.
"""

from __future__ import annotations

import math

from konsil.protocol.errors import LocalProtocolError

UNIT_E9 = 10**9
"""One."""

CEILING_E9 = 10**18
"""The largest magnitude that is kept: a billion. Beyond it a measurement saturates."""

_SCALE = 10**40
_BY_ROOT_TWO_PI = 3989422804014326779399460599343818684759
_TAIL_E9 = 7 * UNIT_E9


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


def ratio(numerator: int, denominator: int) -> int:
    """`numerator / denominator` in 1e-9, to the nearest integer, halves up.

    >>> ratio(2, 3)
    666666667
    """
    return (2 * numerator * UNIT_E9 + denominator) // (2 * denominator)


def product(*factors: int) -> int:
    """The product of fractions in 1e-9, rounded down once, so that it never grants more.

    >>> product(500_000_000, 333_333_333)
    166666666
    """
    return int(math.prod(factors) // UNIT_E9 ** (len(factors) - 1))


def normal_cdf(x_e9: int) -> int:
    """The standard normal distribution function, correct to 1e-9, by its power series.

    Integers of forty decimals carry the alternating series, whose terms stay below 1e11
    for |x| <= 7; beyond that the result is 0 or 1 to nine decimals.

    >>> normal_cdf(0), normal_cdf(1_959_963_985)
    (500000000, 975000000)
    """
    if abs(x_e9) >= _TAIL_E9:
        return UNIT_E9 if x_e9 > 0 else 0
    x = x_e9 * (_SCALE // UNIT_E9)
    squared = x * x // _SCALE
    term, total, n = x, x, 0
    while term:
        n += 1
        term = -(abs(term) * squared // (2 * n * _SCALE)) * (1 if term > 0 else -1)
        total += term // (2 * n + 1)
    shifted = _SCALE // 2 + total * _BY_ROOT_TWO_PI // _SCALE
    return ratio(shifted, _SCALE)
