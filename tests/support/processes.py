"""The daemons that run below a folder, by their command lines; waiting for what they do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path


def processes_of(folder: Path) -> list[int]:
    """The processes whose command line names a home below `folder`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"run" in words and any(word.startswith(os.fsencode(folder)) for word in words):
            found.append(int(path.parent.name))
    return found


def wait_until(true: Callable[[], bool], limit_s: float = 120.0) -> None:
    """Look until it is true; fails after `limit_s` seconds."""
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.2)
