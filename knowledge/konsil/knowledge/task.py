"""Task: what a hospital brings, in plain torch, and how the node finds it.

A task file has one function, ``build(config: TaskConfig) -> Task``. This module imports no
torch itself, so that command lines stay quick; the task's own module does.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from torch import Generator, Tensor, nn
    from torch.optim import Optimizer

    from konsil.knowledge.named import NamedTensors
    from konsil.knowledge.teaching.question import Question

_NAME = re.compile(r"[!-~]{1,128}")

Loss: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"
"""Outputs and targets of a batch to one scalar."""
Fit: TypeAlias = "Callable[[nn.Module, Rows, Generator], float]"
"""Trains the module in place for one round and returns the mean loss."""
Problem: TypeAlias = Literal["classes", "masks"]
"""What is asked of a row: its class, or the class of each of its pixels."""
Optimise: TypeAlias = "Callable[[Iterable[nn.Parameter]], Optimizer]"
"""Makes an optimiser of parameters; it begins anew each time."""
Release: TypeAlias = "Callable[[NamedTensors, NamedTensors], NamedTensors]"
"""Turns the models before and after training into what may leave the hospital."""


@runtime_checkable
class Scheduled(Protocol):
    """A `Fit` that is another one in each round: it has a plan for its learning rate."""

    def at(self, number: int) -> Fit:
        """The fit of round `number`, which counts from 1."""
        ...


@dataclass(frozen=True)
class Rows:
    """Patients' rows: `inputs` (n × …), class indices `targets`, one patient id a row.

    `targets` are (n), one class a row, or masks (n × h × w), one class a pixel of inputs
    (n × channels × h × w).
    """

    inputs: Tensor
    targets: Tensor
    patients: Sequence[str]

    def __post_init__(self) -> None:
        if not len(self.inputs) == len(self.targets) == len(self.patients):
            raise ConfigError(
                f"{len(self.inputs)} inputs, {len(self.targets)} targets and "
                f"{len(self.patients)} patient ids do not belong together"
            )

    def __len__(self) -> int:
        return len(self.patients)


@dataclass(frozen=True)
class Preparation:
    """How a row of numbers becomes an input: ``(value - centre) / spread``, column by column.

    For an export, so that the model can be used elsewhere. Never part of an artifact.
    """

    columns: tuple[str, ...]
    centre: tuple[float, ...]
    spread: tuple[float, ...]


@dataclass(frozen=True)
class TaskConfig:
    """What a task's `build` is told: its home, the node's name, the consortium's seed."""

    home: Path
    name: str
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """One hospital's learning task; the rows and the loss never leave its worker process.

    `model` makes the network; its initial weights must depend on torch's random numbers only,
    which the node seeds alike for all members. `classes` and their order are the same
    everywhere. `holdout` is private evidence: never trained on, and no patient of it is in
    `train`. `loss` defaults to cross-entropy, `fit` to `konsil.knowledge.train.descend`.
    `question` makes the unlabelled rows that members of any architecture answer; all of them
    must make the same, from the seed or from public data.
    `optimise` makes the optimiser with which the answers of others teach; plain descent at
    `learning_rate` by default. `test` makes rows on which nobody trains, for whoever measures a
    whole consortium; it may raise `ConfigError` where there are none.
    `local` names tensors, or prefixes that end in a dot, which stay out of the mix;
    batch normalisation always does. `release` is where noise for privacy belongs.
    `preparation` goes with a model that the hospital itself exports. `problem` says whether the
    targets are classes of rows or masks.
    """

    name: str
    classes: tuple[str, ...]
    model: Callable[[], nn.Module]
    train: Rows
    holdout: Rows
    metric: str = "auc"
    local_epochs: int = 1
    local_steps: int | None = None
    """Batches of a round, in place of whole epochs."""
    batch_size: int = 16
    learning_rate: float = 0.1
    loss: Loss | None = None
    fit: Fit | None = None
    release: Release | None = None
    question: Callable[[], Question] | None = None
    optimise: Optimise | None = None
    test: Callable[[], Rows] | None = None
    local: tuple[str, ...] = ()
    preparation: Preparation | None = None
    problem: Problem = "classes"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"task name {self.name!r}: write 1 to 128 visible ASCII characters, no spaces"
            )
        both = set(self.train.patients) & set(self.holdout.patients)
        if both:
            raise ConfigError(
                f"task {self.name!r}: {len(both)} patients are in train and in holdout",
                hint="split by patient: konsil.knowledge.split.by_patient",
            )
        if len(self.train) == 0 or len(self.holdout) == 0:
            raise ConfigError(f"task {self.name!r} has no rows to train on or to judge with")
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise ConfigError(f"task {self.name!r} needs two or more different classes")
        steps = 1 if self.local_steps is None else self.local_steps
        if min(self.local_epochs, self.batch_size, steps) < 1 or self.learning_rate <= 0:
            raise ConfigError(f"task {self.name!r}: epochs, steps, batch and rate must be positive")
        for rows in (self.train, self.holdout):
            _expect_targets(self.name, self.problem, rows)


def _expect_targets(name: str, problem: Problem, rows: Rows) -> None:
    shape = tuple(rows.targets.shape)
    wanted: tuple[int, ...] = (len(rows),)
    if problem == "masks":
        wanted += tuple(rows.inputs.shape[2:])
        if len(wanted) != 3:
            raise ConfigError(
                f"task {name!r}: masks need images (rows, channels, height, width), "
                f"not {tuple(rows.inputs.shape)}"
            )
    if shape != wanted:
        other = "classes" if problem == "masks" else "masks"
        raise ConfigError(
            f"task {name!r} asks for {problem} and has targets of the shape {shape}, not {wanted}",
            hint=f'problem = "{other}"' if len(shape) == 4 - len(wanted) else "",
        )


Factory: TypeAlias = Callable[[TaskConfig], Task]


def load_factory(spec: str, search: Path) -> Factory:
    """The function named by ``module:function``; a file in `search` goes before a package.

    Raises `ConfigError` naming the file and line where loading failed.
    """
    return load_function(spec, search, setting="[task] factory")


def load_function(spec: str, search: Path, *, setting: str) -> Callable[..., Any]:
    """As `load_factory`, for whatever function; `setting` names in errors who asked for it."""
    name, colon, function = spec.partition(":")
    if not colon or not name or not function.isidentifier():
        raise ConfigError(f"{setting} = {spec!r} is not of the form module:function")
    module = _load(name, search, setting)
    factory = getattr(module, function, None)
    if not callable(factory):
        place = getattr(module, "__file__", name)
        raise ConfigError(f"{setting} = {spec!r}: {place} has no function {function!r}")
    return factory  # type: ignore[no-any-return]


def where(fault: BaseException, search: Path) -> str:
    """The place of an error: its innermost line in `search`, else the innermost of all.

    A syntax error is placed in the file that has it.
    """
    if isinstance(fault, SyntaxError) and fault.filename:
        return f"{_short(fault.filename)}:{fault.lineno}"
    frames = traceback.extract_tb(fault.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(f"{search}/")]
    if not frames:
        return ""
    frame = (own or frames)[-1]
    return f"{_short(frame.filename)}:{frame.lineno}"


def _short(filename: str) -> str:
    return filename.rsplit("/", 1)[-1]


def _load(name: str, search: Path, setting: str) -> ModuleType:
    path = search.joinpath(*name.split(".")).with_suffix(".py")
    if str(search) not in sys.path:
        sys.path.insert(0, str(search))
    try:
        if not path.is_file():
            return importlib.import_module(name)
        found = importlib.util.spec_from_file_location(name, path)
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        sys.modules[name] = module
        found.loader.exec_module(module)
        return module
    except Exception as fault:  # whatever a hospital's own file raises, named and handed on
        sys.modules.pop(name, None)
        place = where(fault, search)
        raise ConfigError(
            f"{setting}: cannot load {name!r}: {type(fault).__name__}: {fault} ({place})",
            hint=f"looked for {path} and for an installed module",
        ) from fault
