"""Exact amounts: sums and products of mixing weights as integers (n, d), for n / 10^(9·d).

No floating point: d grows by one with every mix, and nothing is rounded before it is shown.
"""

from __future__ import annotations

DIGITS = 9
"""Decimal digits of one mixing weight (1e-9)."""
SHOWN_MIXES = 2
"""An amount is shown as exactly as this many mixes can make it: to 18 decimals."""

Amount = tuple[int, int]
"""n and d of n / 10^(9·d)."""


def shown(exact: Amount) -> str:
    """An exact amount n / 10^(9·d) as a decimal, rounded to 18 places.

    >>> shown((5, 0)), shown((250_000_000, 1))
    ('5', '0.25')
    """
    return decimal(*rounded(*exact))


def decimal(amount: int, depth: int) -> str:
    """amount / 10^(9·depth) as an exact decimal without trailing zeros; for a small depth.

    >>> decimal(1_250_000_000, 1)
    '1.25'
    """
    digits = str(amount).rjust(DIGITS * depth + 1, "0")
    point = len(digits) - DIGITS * depth
    fraction = digits[point:].rstrip("0")
    return digits[:point] + (f".{fraction}" if fraction else "")


def plus(one: Amount, other: Amount) -> Amount:
    """The sum of two exact numbers n / 10^(9·depth)."""
    if one[1] < other[1]:
        one, other = other, one
    return one[0] + other[0] * 10 ** (DIGITS * (one[1] - other[1])), one[1]


def rounded(amount: int, depth: int) -> Amount:
    """The number rounded to what `SHOWN_MIXES` mixes can say."""
    if depth <= SHOWN_MIXES:
        return amount, depth
    unit = 10 ** (DIGITS * (depth - SHOWN_MIXES))
    return (amount + unit // 2) // unit, SHOWN_MIXES
