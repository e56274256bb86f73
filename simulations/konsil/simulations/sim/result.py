"""Result: what one simulated run came to, and the mean and spread of several.

The fields are those of the JSON contract, in its order. Metrics and weights leave Byzantine
nodes out (product.md, "Weights in reports"); None stands where there is nothing to measure, and
what is not finite is None in JSON too. Pure.
"""

from __future__ import annotations

import math
from statistics import fmean, stdev
from typing import TYPE_CHECKING, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from konsil.simulations.sim.scenario import Scenario

Json: TypeAlias = dict[str, object]


class Point(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One evaluation on the way."""

    round: int
    metric_mean: float | None
    metric_worst: float | None
    attacker_weight_mean: float | None


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One run. Times in seconds; weights and metrics as shares between 0 and 1."""

    nodes: int
    rounds: int
    topology: str
    dataset: str
    rule: str
    metric: str
    metric_mean: float | None
    metric_worst: float | None
    """Of the honest node that is worst off."""
    metric_local_mean: float | None
    metric_local_worst: float | None
    """Of the same nodes, had they learned alone."""
    metric_pooled: float | None
    """Of one model on all rows: a reference, not a bound."""
    attacker_weight_mean: float | None
    honest_weight_mean: float | None
    """Share of the topology's weight that honest nodes granted, last three quarters of rounds."""
    backdoor_success: float | None = None
    """Share of stamped test rows of other classes that honest models take for the pattern's
    class; None where nobody teaches a pattern, or it was not measured."""
    bytes_per_node_round: float | None
    faults: dict[str, int]
    """How often each kind of fault that was asked for happened."""
    spectral_gap: float | None
    wall_s: float
    setup_s: float
    eval_s: float
    cpu_s: float
    """Of training, trust and mixing alone, as in the rate."""
    node_rounds_per_cpu_s: float | None
    peak_rss_mb: float | None
    history: tuple[Point, ...]
    seed: int


SPREAD = (
    "metric_mean", "metric_worst", "metric_local_mean", "metric_local_worst", "metric_pooled",
    "attacker_weight_mean", "honest_weight_mean", "backdoor_success", "bytes_per_node_round",
    "spectral_gap", "wall_s", "setup_s", "eval_s", "cpu_s", "node_rounds_per_cpu_s", "peak_rss_mb",
)  # fmt: skip
"""The scalars that differ from seed to seed."""

COUNTED_AS = {"delay_rounds": "delay"}
"""Keys of `[faults]` whose count has another name."""


def as_json(result: Result) -> Json:
    """The `data` of one run."""
    return _finite_mapping(msgspec.to_builtins(result))


def combine(results: Sequence[Result]) -> Json:
    """The `data` of one run or more, of one scenario under several seeds.

    A single run stays as it is. Of more, scalars, fault counts and history are means over the
    runs that have a value, `sd` holds the sample standard deviation of each scalar (None below
    two values), `seed` is the first seed, and `seeds` lists all.
    """
    first = as_json(results[0])
    if len(results) == 1:
        return first
    columns = {name: _known(getattr(one, name) for one in results) for name in SPREAD}
    histories = [one.history for one in results]
    return first | {
        **{name: _mean(values) for name, values in columns.items()},
        "faults": {
            kind: fmean(one.faults.get(kind, 0) for one in results) for kind in results[0].faults
        },
        "history": [_mean_point(points) for points in zip(*histories, strict=True)],
        "sd": {
            name: stdev(values) if len(values) > 1 else None for name, values in columns.items()
        },
        "seeds": [one.seed for one in results],
    }


def faults_missed(scenario: Scenario, result: Result) -> tuple[str, ...]:
    """The keys of `[faults]` that ask for what never happened."""
    return tuple(
        key for key in scenario.faults.requested if not result.faults.get(COUNTED_AS.get(key, key))
    )


def unmeasured(result: Result) -> bool:
    """Whether the run ended without one honest model that has a value of the metric."""
    return result.metric_mean is None or not math.isfinite(result.metric_mean)


def _mean_point(points: Sequence[Point]) -> Json:
    names = ("metric_mean", "metric_worst", "attacker_weight_mean")
    means = {name: _mean(_known(getattr(one, name) for one in points)) for name in names}
    return {"round": points[0].round, **means}


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _finite_mapping(values: Mapping[str, object]) -> Json:
    return {name: _finite(value) for name, value in values.items()}


def _finite(value: object) -> object:
    """The same without numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return _finite_mapping(value)
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
