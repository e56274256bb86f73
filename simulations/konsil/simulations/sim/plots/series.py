"""Series: one line of a plot over the rounds, and the band that its seeds span. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from konsil.simulations.sim.result import Point, Result


@dataclass(frozen=True)
class Series:
    """At each evaluated round for which some seed has a value: the mean, least and greatest."""

    rounds: tuple[int, ...]
    mean: tuple[float, ...]
    least: tuple[float, ...]
    greatest: tuple[float, ...]


def series(results: Sequence[Result], value: Callable[[Point], float | None]) -> Series:
    """The values of all seeds, which were evaluated in the same rounds."""
    rows = [
        (points[0].round, known(map(value, points)))
        for points in zip(*(one.history for one in results), strict=True)
    ]
    kept = [(number, values) for number, values in rows if values]
    return Series(
        rounds=tuple(number for number, _ in kept),
        mean=tuple(fmean(values) for _, values in kept),
        least=tuple(min(values) for _, values in kept),
        greatest=tuple(max(values) for _, values in kept),
    )


def known(values: Iterable[float | None]) -> list[float]:
    """Those that are there."""
    return [one for one in values if one is not None]
