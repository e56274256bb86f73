"""A `konsil` command in a process of its own that needs no interpreter to start.

A server that has loaded the command forks once a command, so that each has its own memory, user
and limits, and whatever ends it ends nothing else. What a fresh interpreter does differently
(reading its environment, loading code) is not seen here: `commands.shell` starts one.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import resource
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["forking", "konsil.node.cli.app", "konsil.simulations.cli", "konsil.trust.audit",
     "konsil.trust.lineage_views", "networkx", "numpy", "pydantic.type_adapter"]
)  # fmt: skip
KILLED_S = 5.0


class Ended(NamedTuple):
    """A command that ended: its exit code (negative: the signal) and what it wrote, as bytes."""

    returncode: int
    stdout: bytes
    stderr: bytes


class Bounds(NamedTuple):
    """What a command is held to."""

    seconds: float
    memory: int | None = None
    """The largest address space, in bytes."""
    user: int | None = None
    """The id of the user who runs it, once everything that it needs is loaded."""
    encoding: str = "utf-8:strict"
    """Of its standard output and error, as `PYTHONIOENCODING` has it."""


def forked(arguments: Sequence[str | bytes | Path], bounds: Bounds) -> Ended:
    """Run one command line; fails when it takes longer than its bounds allow."""
    words = [os.fsdecode(word) for word in arguments]
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        running = SERVER.Process(target=_run, args=(words, bounds, str(out), str(err)))
        running.start()
        running.join(bounds.seconds)
        if running.exitcode is None:
            running.kill()
            running.join(KILLED_S)
            raise AssertionError(f"{words} took longer than {bounds.seconds:g} s")
        return Ended(running.exitcode, out.read_bytes(), err.read_bytes())


def _run(words: list[str], bounds: Bounds, out: str, err: str) -> None:
    """The life of a forked process."""
    from konsil.node.cli import app

    _redirect(1, out)
    _redirect(2, err)
    encoding, _, errors = bounds.encoding.partition(":")
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), encoding, errors or "strict")
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w"), encoding, "backslashreplace", None, True)
    if bounds.memory is not None:
        resource.setrlimit(resource.RLIMIT_AS, (bounds.memory, bounds.memory))
    if bounds.user is not None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            app._run(words)
        os.setuid(bounds.user)
    app.main(words)


def _redirect(number: int, path: str) -> None:
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(opened, number)
    os.close(opened)
