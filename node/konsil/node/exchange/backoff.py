"""The pause after a failure: doubled each time, never longer than a bound."""

from __future__ import annotations

MOST_DOUBLINGS = 40
"""More than any two bounds here are apart, and far fewer than a float can hold."""


def backoff(failures: int, *, first_s: float, longest_s: float) -> float:
    """`first_s` doubled for each of `failures`, at most `longest_s`; any count is fine. Seconds.

    >>> backoff(3, first_s=0.5, longest_s=60.0), backoff(5000, first_s=0.5, longest_s=60.0)
    (4.0, 60.0)
    """
    return min(first_s * 2.0 ** min(failures, MOST_DOUBLINGS), longest_s)
