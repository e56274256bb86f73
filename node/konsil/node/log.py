"""JSON lines on stderr: what happened, to whom, when.

konsil itself logs no patient and no key. The text of an error that a hospital's own task
raised is logged as it is, so the log stays in the hospital.

A log that cannot be written (stderr is a file, and its disk is full) stops nothing.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Protocol, TextIO

import structlog


class Log(Protocol):
    """What the node's services need of a logger."""

    def debug(self, event: str, **facts: object) -> object:
        """Tell a detail."""
        ...

    def info(self, event: str, **facts: object) -> object:
        """Tell what happened."""
        ...

    def warning(self, event: str, **facts: object) -> object:
        """Tell what was refused or lost."""
        ...

    def error(self, event: str, **facts: object) -> object:
        """Tell what broke."""
        ...

    def bind(self, **facts: object) -> Log:
        """The same log, with facts added to each line."""
        ...


class _Lines:
    """Writes each line at once, or loses it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        """Write a line, whatever its level."""
        with contextlib.suppress(OSError):
            print(line, file=self._stream, flush=True)

    debug = info = warning = error = msg


def open_log(name: str, level: str) -> Log:
    """A log of this node at `level` and above, one JSON object a line on stderr."""
    log: Log = structlog.wrap_logger(
        _Lines(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        context_class=dict,
    ).bind(node=name)
    return log
