"""Reading a scenario: from TOML, or from plain values, to a checked `Scenario`.

Whatever is wrong gives a `ConfigError` of one line: the file, the place as it stands in the
file (`[section] key`), what it must be, and as a hint the keys there are. Pure but for the file.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol.errors import ConfigError, UsageError
from konsil.simulations.sim.reading import read_bounded, reason
from konsil.simulations.sim.scenario import Scenario
from konsil.simulations.sim.scenario_checks import check
from konsil.trust.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MOST_BYTES = 1_000_000
"""Of a scenario's file."""
MOST_DOTS = 500
"""In one line; dotted keys of some ten thousand parts would fill the memory."""

_PLACED = " - at `$."
"""Before the path, in what msgspec says; a name of the user's may hold it too."""
_FIELD = re.compile(
    r"Object (?P<what>contains unknown|missing required) field `(?P<key>.*)`", re.DOTALL
)
_RANGE = re.compile(r"Expected `(?:int|float)` (?P<sign><=|>=|<|>) (?P<bound>\S+)")
_STEP = re.compile(r"(?P<name>[^.\[\]]+)|\[(?P<index>\d+)\]")
_BOUNDS = {"<=": "at most", ">=": "at least", "<": "below", ">": "above"}


def read_scenario(path: Path) -> Scenario:
    """The checked scenario at `path`.

    Raises `UsageError` when there is no such file, else `ConfigError`.
    """
    try:
        raw = read_bounded(path, MOST_BYTES).removeprefix(codecs.BOM_UTF8)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: there is no such file", hint="check the path") from error
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {reason(error)}", hint="name a scenario, which is a TOML file"
        ) from error
    if max(line.count(b".") for line in raw.split(b"\n")) > MOST_DOTS:
        raise ConfigError(f"{path}: a line has more than {MOST_DOTS} dots", hint=known(""))
    try:
        values = msgspec.toml.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: this is not TOML in UTF-8: {error}") from error
    try:
        scenario = scenario_of(values)
        check(scenario)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint) from error
    return scenario


def scenario_of(values: Mapping[str, object]) -> Scenario:
    """The scenario of these plain values, each in its range. Raises `ConfigError`."""
    try:
        return msgspec.convert(values, Scenario, strict=True)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), values) from None


def keys() -> dict[str, tuple[str, ...]]:
    """The keys of each section; those outside of one under the empty name."""
    fields = msgspec.structs.fields(Scenario)
    sections = {
        one.name: tuple(one.type.__struct_fields__)
        for one in fields
        if hasattr(one.type, "__struct_fields__")
    }
    return {"": tuple(one.name for one in fields if one.name not in sections), **sections}


def known(section: str) -> str:
    """A hint that names the keys of a section, or the sections."""
    if section:
        return f"keys of [{section}] are {', '.join(keys()[section])}"
    return f"there are seed and the sections {', '.join(name for name in keys() if name)}"


def _refusal(words: str, values: Mapping[str, object]) -> ConfigError:
    """What msgspec said, in the words of the file."""
    said, found, path = words.rpartition(_PLACED)
    said, path = (said, path.removesuffix("`")) if found and path.endswith("`") else (words, "")
    if "`" in path:  # a key of the user's that looks like a path
        said, path = words, ""
    section = path.partition(".")[0]
    hint = known(section if section in keys() else "")
    field = _FIELD.fullmatch(said)
    if field is not None:
        return ConfigError(_about_field(field, path), hint=hint)
    value = _shown(_at(values, path))
    bound = _RANGE.fullmatch(said)
    if bound is not None:
        needed = f"must be {_BOUNDS[bound['sign']]} {_figure(bound['bound'])}"
        return ConfigError(f"{_place(path)} = {value} {needed}", hint=hint)
    return ConfigError(f"{_place(path)} = {value}: {said[:1].lower()}{said[1:]}", hint=hint)


def _about_field(field: re.Match[str], path: str) -> str:
    unknown = field["what"] == "contains unknown"
    key = cut(field["key"])
    if path:
        return f"[{path}] " + (f"has no key `{key}`" if unknown else _needs(key))
    if unknown:
        return f"there is no key or section `{key}`"
    return _needs(f"[{key}]")


def _figure(bound: str) -> str:
    """A bound as people write it: 1000000, and not 1e+06."""
    return f"{int(float(bound))}" if "e" in bound or bound.endswith(".0") else bound


def _needs(what: str) -> str:
    return f"{what} is missing"


def _place(path: str) -> str:
    """`population.alpha` as it stands in the file: `[population] alpha`."""
    section, dot, key = path.partition(".")
    return f"[{section}] {key}" if dot else section


def _at(values: object, path: str) -> object:
    """The value at msgspec's path."""
    for step in _STEP.finditer(path):
        if isinstance(values, dict):
            values = values.get(step["name"])
        elif isinstance(values, list | tuple) and step["index"] is not None:
            values = values[int(step["index"])]
    return values


def _shown(value: object) -> str:
    """A value as TOML has it, cut where it is long."""
    if isinstance(value, str):
        text = f'"{value}"'
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, dict):
        text = "{…}"
    else:
        text = str(value)
    return cut(text)


def cut(text: str) -> str:
    """A text of the user's, short enough for one line, and nothing but one line."""
    return printable(text if len(text) <= 40 else f"{text[:39]}…")
