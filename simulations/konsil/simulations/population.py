"""The hospitals of a consortium: their names, which of them are Byzantine, and their data.

Everything follows from the seed, so the names of a seed can be told before anything runs.
Site `i` of the split belongs to the `i`-th hospital of the member list. No file is read.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from konsil.protocol.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAMES = (
    "lakeside", "northgate", "st-martin", "hillcrest", "riverside", "oakwood", "harbour",
    "westfield", "st-anna", "eastbridge", "greenvale", "seaview", "southport", "elmhurst",
    "fairhaven", "st-luke", "kingsway", "maplewood", "bayview", "stonebridge", "highland",
    "ashford", "clearwater", "st-clare", "pinecrest", "windmere", "brookfield", "larkhill",
    "foxglove", "st-james", "goldwater", "thornbury",
)  # fmt: skip
"""Generic names, in no order that means anything."""

HEART_SITES = ("cleveland", "hungary", "switzerland", "va")
"""The four real hospitals of the heart-disease data."""

TABULAR = "konsil.knowledge.tabular:build"
"""The factory of every tabular task."""

MAX_MEMBERS = 64
"""Daemons that one machine can be asked to start."""


class Hospital(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One hospital of the plan: its name, its part of the data, and which side it is on."""

    name: str
    site: int
    byzantine: bool


def hospitals(*, honest: int, byzantine: int, seed: int, task: str) -> tuple[Hospital, ...]:
    """The members in the order of the member list, honest and Byzantine mixed by the seed.

    Raises `UsageError` when a count is out of range, and `ConfigError` when the data has
    fewer sites than there are members.
    """
    total = honest + byzantine
    if honest < 1 or byzantine < 0 or not 2 <= total <= MAX_MEMBERS:
        raise UsageError(
            f"{honest} honest and {byzantine} Byzantine hospitals make no consortium",
            hint=f"one or more honest, and 2 to {MAX_MEMBERS} in all",
        )
    draw = random.Random(f"konsil population {seed}")
    names = _names(total, task, draw)
    hostile = set(draw.sample(range(total), byzantine))
    return tuple(
        Hospital(name=name, site=site, byzantine=site in hostile) for site, name in enumerate(names)
    )


def _names(total: int, task: str, draw: random.Random) -> list[str]:
    if task == "heart_disease":
        if total > len(HEART_SITES):
            raise ConfigError(
                f"heart_disease has {len(HEART_SITES)} hospitals, not {total}",
                hint="lower --hospitals or --byzantine, for example --hospitals 4 --byzantine 0",
            )
        return list(HEART_SITES[:total])
    names = draw.sample(NAMES, min(total, len(NAMES)))
    more = (f"{name}-{ward}" for ward in range(2, MAX_MEMBERS) for name in names)
    return [*names, *(next(more) for _ in range(total - len(names)))]


class TaskChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `--task NAME` means: a factory, its options, and a file to copy into each home."""

    factory: str
    options: dict[str, Any]
    file: Path | None = None

    def options_of(self, hospital: Hospital, sites: int) -> dict[str, Any]:
        """The `[task.options]` of one hospital: its site, of so many."""
        return {**self.options, "site": hospital.site, "sites": sites}

    def with_options(self, words: Sequence[str]) -> TaskChoice:
        """The same with more `[task.options]`, each `KEY=VALUE`; VALUE as in TOML, or a text.

        Raises `UsageError` for what is no such pair.
        """
        more = {}
        for word in words:
            key, equals, value = word.partition("=")
            if not equals or not key.isidentifier():
                raise UsageError(f"`--option {word}` is no KEY=VALUE")
            try:
                more[key] = msgspec.toml.decode(f"value = {value}")["value"]
            except (msgspec.DecodeError, KeyError):
                more[key] = value
        return msgspec.structs.replace(self, options={**self.options, **more})


def choose_task(name: str, *, seed: int, folder: Path) -> TaskChoice:
    """What the name of a task stands for, split by `seed`; files are looked up from `folder`.

    A name is `breast_cancer`, `heart_disease`, a path to a CSV file, a path to a Python file
    followed by `:function`, or `module:function`. Raises `UsageError` for anything else.
    """
    if name in DATASETS:
        return TaskChoice(
            factory=TABULAR, options={"dataset": name, "split_seed": seed, **DATASETS[name]}
        )
    if name.endswith(".csv"):
        return TaskChoice(factory=TABULAR, options={"dataset": str(_existing(folder / name))})
    module, colon, function = name.rpartition(":")
    if not colon or not module or not function:
        known = ", ".join(DATASETS)
        raise UsageError(
            f"there is no task `{name}`",
            hint=f"one of {known}, FILE.csv, FILE.py:function or module:function",
        )
    if module.endswith(".py"):
        file = _existing(folder / module)
        return TaskChoice(factory=f"{file.stem}:{function}", options={}, file=file)
    beside = folder / f"{module}.py"
    return TaskChoice(factory=name, options={}, file=beside if beside.is_file() else None)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file")
    return path.resolve()


DATASETS: Mapping[str, dict[str, Any]] = {
    # Small hospitals with uneven classes that have not finished learning after eight rounds:
    # what a network is for. Chosen on seeds 100 and up (docs/benchmarks.md).
    "breast_cancer": {"size": 60, "holdout": 0.5, "alpha": 2.0, "local_epochs": 4, "lr": 0.02},
    "heart_disease": {"holdout": 0.3},
}
"""The data sets that a name stands for, and the options that go with each."""
