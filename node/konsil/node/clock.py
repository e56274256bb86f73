"""The clock of this machine, for whoever is handed the time as an argument."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def now_s() -> int:
    """Unix time in seconds."""
    return int(time.time())
