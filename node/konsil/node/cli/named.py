"""Paths that a person names on the command line: what does not exist is a slip of the pen.

It is usage (2) whichever command it is given to; what exists and is wrong is for the command.
"""

from __future__ import annotations

from pathlib import Path

from konsil.protocol.errors import UsageError


def existing_home(path: Path) -> Path:
    """The path of a home, which is a folder. Raises `UsageError`."""
    if not _is(path, folder=True):
        raise UsageError(
            f"{path}: there is no such home", hint="make one with: konsil init HOME --name NAME"
        )
    return path


def existing_file(path: Path) -> Path:
    """The path of something that is there. Raises `UsageError`."""
    if not _is(path, folder=False):
        raise UsageError(f"{path}: there is no such file", hint="check the path")
    return path


def _is(path: Path, *, folder: bool) -> bool:
    """Whether it is there; of what may not be looked at, the command says why."""
    try:
        return path.is_dir() if folder else path.exists()
    except OSError:
        return True
