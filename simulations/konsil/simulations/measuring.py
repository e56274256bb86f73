"""The question to the process that measures models, and its answer; torch-free.

Measuring needs torch and the hospitals' own tasks, so it happens in a process of its own
(`konsil.simulations.measure`), as training does in a daemon: one line of JSON in, one out.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol.errors import TaskError

if TYPE_CHECKING:
    from types import TracebackType

LIMIT_S = 600.0
"""How long all measurements may take."""


class Site(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One hospital: where its home is, and its model after each own round (hex, from 1)."""

    name: str
    home: str
    byzantine: bool
    models: tuple[str | None, ...]


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to measure: these models, and what each hospital reaches alone in as many rounds."""

    sites: tuple[Site, ...]
    rounds: int
    seed: int


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A metric on the common test set, after each own round; absent where it is not known."""

    metric: str
    rows: dict[str, int] = {}
    """Training rows of each hospital."""
    local: dict[str, tuple[float | None, ...]] = {}
    network: dict[str, tuple[float | None, ...]] = {}
    pooled: dict[str, float] = {}
    """The reference model, as each honest hospital would use it; empty when there is none."""
    failures: tuple[str, ...] = ()


class Measuring:
    """The measuring process; it works from the start and ends when its `with` block is left.

    It ends with this process too: it reads the end of its standard input.
    """

    def __init__(self, question: Question) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "konsil.simulations.measure"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(msgspec.json.encode(question) + b"\n")
            self._process.stdin.flush()

    def __enter__(self) -> Measuring:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()

    def answer(self) -> Measured:
        """Wait for the answer. Raises `TaskError` when there is none."""
        assert self._process.stdout is not None
        alarm = threading.Timer(LIMIT_S, self._process.kill)
        alarm.start()
        try:
            return msgspec.json.decode(self._process.stdout.readline(), type=Measured)
        except msgspec.DecodeError as error:
            code = self._process.wait()
            raise TaskError(
                f"the measuring process gave no answer (exit code {code})",
                hint="its last words are above",
            ) from error
        finally:
            alarm.cancel()
