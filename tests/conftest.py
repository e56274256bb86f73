"""What all tests share: real data, the order in which they run, what is measured, no waiting."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
MEASURED = {
    "protocol", "trust", "tests/protocol", "tests/trust", "tests/attacks", "tests/oracles",
    "tests/tools",
}  # fmt: skip
"""Coverage of protocol/ and trust/ is what the tests of these folders, and of the commands of the
audit, reach. Elsewhere measuring would cost a third more time and count the same lines again."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files first, then those of many tests: none begins when all others are done."""
    count = Counter(item.path for item in items)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, -count[item.path]))
    for item in items:
        if not is_measured(item.path.relative_to(CHECKOUT)):
            item.add_marker("no_cover")


def is_measured(path: Path) -> bool:
    """Whether a test file, named from the checkout, counts for coverage."""
    above = {folder.as_posix() for folder in path.parents}
    return not MEASURED.isdisjoint(above) or path.name.startswith("test_cli_audit")


@pytest.fixture(scope="session", autouse=True)
def unsynced() -> Iterator[None]:
    """Files of this process are not waited for: the power of the machine itself is never cut.

    Half the time of tests of ledgers would go to the disk. That the product syncs, and when, is
    seen by `powercut` and by those who stand between it and these calls; daemons in processes of
    their own do wait. A handle that is not open is refused, as it is by the real calls.
    """

    def at_once(handle: int) -> None:
        os.fstat(handle)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", at_once)
        patched.setattr(os, "fdatasync", at_once)
        yield


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets: `KONSIL_DATA`, else `../shared/data` beside the checkout."""
    named = os.environ.get("KONSIL_DATA")
    folder = Path(named) if named else CHECKOUT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is missing; name its folder in KONSIL_DATA")
    return folder
