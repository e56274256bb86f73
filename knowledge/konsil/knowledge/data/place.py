"""Place: the folder in which fetched data sets lie on this machine.

Named by the environment variable `KONSIL_DATA`, else below the user's data folder. Free of torch
and numpy, so that a command line may ask.
"""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "KONSIL_DATA"


def data_folder() -> Path:
    """Where fetched data sets lie: `KONSIL_DATA`, else the user's data folder."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_data_dir("konsil"))
