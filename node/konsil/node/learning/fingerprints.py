"""Fingerprints: digests that say with what data, recipe, code and machine a model was made.

They go into the ledger, so none of them gives anything away: the rows are committed to with a
secret salt that stays in the home, and the rest is about programs.
"""

from __future__ import annotations

import inspect
import os
import platform
from dataclasses import is_dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch

import konsil.knowledge
from konsil.protocol.digest import Digest, tagged
from konsil.protocol.errors import StorageError

if TYPE_CHECKING:
    from konsil.knowledge.task import Factory, Rows, Task
    from konsil.node.learning.worker_messages import Open

SALT_BYTES = 32


def data_commitment(rows: Rows, salt: bytes) -> Digest:
    """A salted commitment to the rows in their order: inputs, targets, patient ids."""
    parts = []
    for tensor in (rows.inputs, rows.targets):
        array = np.ascontiguousarray(tensor.cpu().numpy())
        parts += [f"{array.dtype.str} {array.shape}".encode(), array.tobytes()]
    return tagged("data", salt, *parts, *(patient.encode() for patient in rows.patients))


def secret_salt(home: Path) -> bytes:
    """The home's own salt, made at the first call and kept with mode 0600.

    Raises `StorageError` when it can be neither read nor written.
    """
    path = home / "state" / "data.salt"
    try:
        if not path.is_file():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = path.with_suffix(".new")
            fresh.unlink(missing_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(os.urandom(SALT_BYTES))
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(path)
        return path.read_bytes()
    except OSError as fault:
        raise StorageError(f"{path}: {fault.strerror}") from fault


def recipe(task: Task, request: Open, about: Digest) -> Digest:
    """How the task learns: network, loss, loop, rates, the options it was built with, and what
    it hands out and takes in: the kind, and the common base or question `about` which that is.
    """
    facts = {
        "kind": request.kind,
        "about": about.hex(),
        "task": task.name,
        "classes": task.classes,
        "model": str(task.model()),
        "loss": _told(task.loss) or "cross_entropy",
        "fit": _told(task.fit) or "descend",
        "optimise": _told(task.optimise) or "descent",
        "release": _told(task.release) or "identity",
        "local": task.local,
        "local_epochs": task.local_epochs,
        "local_steps": task.local_steps,
        "batch_size": task.batch_size,
        "learning_rate": repr(task.learning_rate),
        "seed": request.seed,
        "options": repr(sorted(request.options.items())),
    }
    return tagged("recipe", msgspec.json.encode(facts, order="sorted"))


def code(factory: Factory) -> Digest:
    """The source files that train: the task's own, and all of `konsil.knowledge`."""
    own = inspect.getsourcefile(factory)
    ours = sorted(Path(konsil.knowledge.__file__).parent.rglob("*.py"))
    named = ([Path(own)] if own else []) + ours
    return tagged("code", *(path.read_bytes() for path in named if path.is_file()))


def environment() -> Digest:
    """The versions that numbers depend on, and the kind of processor."""
    try:
        own = version("konsil")
    except PackageNotFoundError:
        own = "source"
    facts = (own, platform.python_version(), torch.__version__, np.__version__, platform.machine())
    return tagged("environment", *(fact.encode() for fact in facts))


def _told(function: object | None) -> str:
    """A function by its name, and by what it was made with where that is a plain value."""
    if function is None:
        return ""
    if is_dataclass(function):
        return repr(function)
    if isinstance(function, partial):
        named = sorted(function.keywords.items())
        return _told(function.func) + repr([*map(_plain, function.args), *map(_plain, named)])
    owner = getattr(function, "__self__", None)
    cells = getattr(function, "__closure__", None) or ()
    made_with = [repr(owner)] if is_dataclass(owner) else []
    made_with += [_plain(cell.cell_contents) for cell in cells]
    return " ".join((str(getattr(function, "__qualname__", type(function))), *made_with))


def _plain(value: object) -> str:
    """A value whose text is the same in every process; of others their type."""
    if isinstance(value, tuple):
        return repr([_plain(one) for one in value])
    plain = value is None or isinstance(value, bool | int | float | str | bytes)
    return repr(value) if plain else str(getattr(value, "__qualname__", type(value)))
