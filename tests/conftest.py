"""What all tests share: where real data lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets: `KONSIL_DATA`, else `../shared/data` beside the checkout."""
    named = os.environ.get("KONSIL_DATA")
    folder = Path(named) if named else CHECKOUT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is missing; name its folder in KONSIL_DATA")
    return folder
