"""Seeds and sweeps: from one scenario to the scenarios that a command line asks for.

`--seeds K` is the same scenario under K consecutive seeds. `--sweep key=a,b,c` sets a dotted key
to each of its values; several sweeps give every combination, the last one turning fastest.
Every variant is checked like a file before the first of them runs.
"""

from __future__ import annotations

import itertools
import math
import re
from typing import TYPE_CHECKING, Any

import msgspec

from konsil.protocol.errors import ConfigError, UsageError
from konsil.simulations.sim.scenario import MAX_SEED, Scenario
from konsil.simulations.sim.scenario_checks import check
from konsil.simulations.sim.scenario_reading import cut, keys, known, scenario_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_RUNS = 10_000
"""Of one command, all seeds and variants together."""

_COMMA = re.compile(r",(?![^\[\]]*\])")
"""A comma that is not within brackets."""


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario, and what a sweep set in it."""

    settings: dict[str, Any]
    """Dotted key to TOML value; empty without a sweep."""
    scenario: Scenario


def under_seeds(scenario: Scenario, count: int) -> list[Scenario]:
    """The scenario under its own seed and the next ones, `count` in all. Raises `UsageError`."""
    if not 1 <= count <= MOST_RUNS:
        raise UsageError(
            f"--seeds {count} is not between 1 and {MOST_RUNS}",
            hint="it is how many seeds there shall be; the first one stands in the scenario",
        )
    last = scenario.seed + count - 1
    if last > MAX_SEED:
        raise UsageError(
            f"--seeds {count} from seed {scenario.seed}: there are no such seeds",
            hint=f"the last seed is {MAX_SEED}; begin with a smaller one",
        )
    return [msgspec.structs.replace(scenario, seed=seed) for seed in range(scenario.seed, last + 1)]


def variants(scenario: Scenario, sweeps: Sequence[str]) -> list[Variant]:
    """Every combination of the sweeps, the scenario itself where there is none.

    Raises `UsageError` for a sweep that names no key or no value, and `ConfigError` for a
    variant that is no good scenario; both name the sweep.
    """
    values: dict[str, list[Any]] = {}
    for words in sweeps:
        key, found = parse_sweep(words)
        if key in values:
            raise UsageError(f"--sweep {key} is given twice", hint="list all values in one")
        values[key] = found
    if math.prod(map(len, values.values())) > MOST_RUNS:
        raise UsageError(
            f"--sweep {', '.join(values)}: more than {MOST_RUNS} combinations",
            hint="sweep fewer values, or some keys after the others",
        )
    combinations = itertools.product(*values.values())
    return [_variant(scenario, dict(zip(values, one, strict=True))) for one in combinations]


def parse_sweep(words: str) -> tuple[str, list[Any]]:
    """Key and values of `key=a,b,c`; values as in TOML, or texts. Raises `UsageError`."""
    key, equals, said = words.partition("=")
    key = key.strip()
    if not equals:
        raise UsageError(f"--sweep {cut(words)} is no key=a,b,c", hint="adversary.fraction=0.1,0.3")
    section, sections = key.partition(".")[0], keys()
    if key not in {f"{one}.{name}" if one else name for one in sections for name in sections[one]}:
        hint = known(section if section in sections else "")
        raise UsageError(f"--sweep {cut(key)}: there is no such key", hint=hint)
    found = _toml(f"[{said}]")
    if not isinstance(found, list):
        pieces = [piece.strip() for piece in _COMMA.split(said)]
        found = [piece if (value := _toml(piece)) is None else value for piece in pieces]
        found = found if all(pieces) else []
    if not found:
        raise UsageError(f"--sweep {cut(words)}: a value is missing", hint=f"write {key}=a,b,c")
    return key, found


def _toml(words: str) -> Any:
    """The TOML value that these words are; None where they are none."""
    try:
        table = msgspec.toml.decode(f"value = {words}")
    except (msgspec.DecodeError, RecursionError):
        return None
    return table["value"] if list(table) == ["value"] else None


def _variant(scenario: Scenario, settings: dict[str, Any]) -> Variant:
    """The scenario with these settings, checked."""
    if not settings:
        return Variant(settings={}, scenario=scenario)
    values = plain(scenario)
    for key, value in settings.items():
        section, dot, name = key.partition(".")
        if dot:
            values[section][name] = value
        else:
            values[section] = value
    try:
        changed = scenario_of(values)
        check(changed)
    except ConfigError as error:
        raise ConfigError(f"--sweep {told(settings)}: {error.message}", hint=error.hint) from error
    return Variant(settings=settings, scenario=changed)


def told(settings: Mapping[str, Any]) -> str:
    """The settings of a variant, as a command line has them."""
    return ", ".join(f"{key}={cut(str(value))}" for key, value in settings.items())


def plain(scenario: Scenario) -> dict[str, Any]:
    """The scenario as TOML would hold it: absent keys instead of None."""
    values: dict[str, Any] = msgspec.to_builtins(scenario)
    return {
        section: {key: one for key, one in value.items() if one is not None}
        if isinstance(value, dict)
        else value
        for section, value in values.items()
    }
