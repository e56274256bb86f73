"""The hospitals of a consortium: their names, which of them are Byzantine, and their data.

Everything follows from the seed, so the names of a seed can be told before anything runs.
Site `i` of the split belongs to the `i`-th hospital of the member list. No file is read.
"""

from __future__ import annotations

import random
from pathlib import Path
from types import MappingProxyType
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

SITES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "heart_disease": ("cleveland", "hungary", "switzerland", "va"),
        "xray": ("plain", "bright", "dark-noisy", "soft"),
        "nuclei": ("fluo-256", "fluo-696", "stain-purple", "stain-white"),
    }
)
"""The hospitals of the data sets that have their own, in the order of their sites."""

TABULAR = "konsil.knowledge.tabular:build"
"""The factory of every tabular task."""
CLASSIFY = "konsil.knowledge.imaging.tasks:classify"
SEGMENT = "konsil.knowledge.imaging.tasks:segment"
"""The factories of tasks on images."""

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
    task = ALIASES.get(task, task)
    most = len(SITES.get(task, ())) or MOST.get(task, total)
    if total > most:
        raise ConfigError(
            f"{task} has {most} hospitals, not {total}",
            hint="lower --hospitals or --byzantine, for example --hospitals 4 --byzantine 0",
        )
    if task in SITES:
        return list(SITES[task][:total])
    names = draw.sample(NAMES, min(total, len(NAMES)))
    more = (f"{name}-{ward}" for ward in range(2, MAX_MEMBERS) for name in names)
    return [*names, *(next(more) for _ in range(total - len(names)))]


class TaskChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `--task NAME` means: a factory, its options, and a file to copy into each home."""

    factory: str
    options: dict[str, Any]
    file: Path | None = None
    kind: str = "parameters"
    """What is handed out, where nothing else is asked for."""
    kinds: tuple[str, ...] = ()
    """The same for each site, in turn, where hospitals differ in that too."""
    each: tuple[dict[str, Any], ...] = ()
    """More options of each site, in turn, where hospitals differ."""

    def options_of(self, hospital: Hospital, sites: int) -> dict[str, Any]:
        """The `[task.options]` of one hospital: its site, of so many where a table is dealt."""
        own = self.each[hospital.site % len(self.each)] if self.each else {}
        whole = self.factory in (CLASSIFY, SEGMENT) and self.options.get("dataset") != "digits"
        dealt = {} if whole else {"sites": sites}
        return {**self.options, **own, "site": hospital.site, **dealt}

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

    A name is one of `CHOICES` or `ALIASES`, a path to a CSV file, a path to a Python file
    followed by `:function`, or `module:function`. Raises `UsageError` for anything else.
    """
    name = ALIASES.get(name, name)
    if name in CHOICES:
        known = CHOICES[name]
        return msgspec.structs.replace(known, options={"split_seed": seed, **known.options})
    if name.endswith(".csv"):
        return TaskChoice(factory=TABULAR, options={"dataset": str(_existing(folder / name))})
    module, colon, function = name.rpartition(":")
    if not colon or not module or not function:
        names = ", ".join(CHOICES)
        raise UsageError(
            f"there is no task `{name}`",
            hint=f"one of {names}, FILE.csv, FILE.py:function or module:function",
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


ALIASES: Mapping[str, str] = MappingProxyType({"heart": "heart_disease"})
"""Shorter names of data sets."""

MOST: Mapping[str, int] = MappingProxyType({"lesions": 5})
"""Hospitals of data sets that are generated for so many at most."""

CHOICES: Mapping[str, TaskChoice] = MappingProxyType(
    {
        # Small hospitals with uneven classes that have not finished learning after eight rounds:
        # what a network is for. Chosen on seeds 100 and up (docs/benchmarks.md).
        "breast_cancer": TaskChoice(
            factory=TABULAR,
            options={
                "dataset": "breast_cancer",
                "size": 60,
                "holdout": 0.5,
                "alpha": 2.0,
                "local_epochs": 4,
                "lr": 0.02,
            },
        ),
        "heart_disease": TaskChoice(
            factory=TABULAR, options={"dataset": "heart_disease", "holdout": 0.3}
        ),
        "lesions": TaskChoice(
            factory=CLASSIFY,
            options={
                "dataset": "lesions",
                "modality": "ct",
                "size": 32,
                "crowd": 2,
                "optimiser": "adam",
                "lr": 0.01,
                "local_steps": 40,
                "batch": 16,
            },
        ),
        "xray": TaskChoice(
            factory=CLASSIFY,
            options={"dataset": "pneumoniamnist", "optimiser": "adam", "lr": 0.01},
        ),
        "nuclei": TaskChoice(
            factory=SEGMENT,
            options={"dataset": "nuclei", "optimiser": "adam", "lr": 0.01, "local_steps": 3},
        ),
        # Unlike networks, and one hospital with few patients: only answers can teach here. The
        # small one takes them as weak labels: it goes on as their student only if that is better.
        "mixed": TaskChoice(
            factory=CLASSIFY,
            kind="logits",
            kinds=("logits", "logits", "logits", "weak_labels"),
            options={
                "dataset": "digits",
                "alpha": 0.5,
                "optimiser": "adam",
                "lr": 0.01,
                "local_steps": 20,
                "batch": 16,
            },
            each=(
                {"model": "cnn:8-16"},
                {"model": "cnn:12-24"},
                {"model": "mlp:32"},
                {"model": "mlp:16", "patients": 40},
            ),
        ),
    }
)
"""What a name stands for: how its hospitals learn, and what they hand out."""
