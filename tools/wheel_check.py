"""Prove that the wheel stands alone: build it, install it elsewhere, run the demo from there.

    .venv/bin/python tools/wheel_check.py

sdist → wheel from the sdist → a new virtual environment outside the checkout with the
run-time dependencies at the pinned versions, and nothing for developers → import all floors
→ `konsil demo --json` from another folder. Exit 0 when all of it worked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
PROBE = """
import importlib, pathlib, sys
from importlib.metadata import version
for floor in ("protocol", "knowledge", "trust", "node", "simulations"):
    portion = importlib.import_module(f"konsil.{floor}")
    place = pathlib.Path(portion.__path__[0])
    assert place.is_relative_to(sys.prefix), f"{floor} comes from {place}"
    assert (place / "py.typed").is_file(), f"{floor} has no py.typed"
assert version("konsil"), "no version"
try:
    import pytest
except ModuleNotFoundError:
    sys.exit(0)
sys.exit("this environment holds the developers' tools")
"""


def run(title: str, command: Sequence[str], cwd: Path, expected: Sequence[int] = (0,)) -> str:
    """Run one step from `cwd` and return its standard output; exits when the step fails."""
    started = time.monotonic()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode not in expected:
        print(done.stdout, file=sys.stderr)
        sys.exit(f"wheel: {title} ended with {done.returncode}")
    print(f"wheel: {title} ({time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True)
    return done.stdout


def check_demo(text: str) -> None:
    """Refuse a demo whose one JSON object does not tell of a run with verified ledgers."""
    told = json.loads(text)
    assert told["schema"] == "konsil.demo/1", told
    ledgers = told["data"]["ledgers"]
    assert ledgers, told
    assert all(ledger["verified"] for ledger in ledgers), ledgers
    assert told["data"]["artifacts"]["parameters"] > 0, told


def main() -> None:
    """Build, install, import, run."""
    with tempfile.TemporaryDirectory(prefix="konsil-wheel-") as name:
        folder = Path(name)
        build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), "."]
        run("sdist and wheel", build, ROOT)
        (wheel,) = folder.glob("*.whl")
        home = folder / "environment"
        bootstrap = [sys.executable, str(ROOT / "tools" / "bootstrap.py")]
        bootstrap += ["--venv", str(home), "--wheel", str(wheel)]
        run("an empty environment", bootstrap, folder)
        run("imports", [str(home / "bin" / "python"), "-c", PROBE], folder)
        konsil = str(home / "bin" / "konsil")
        run("konsil --help", [konsil, "--help"], folder)
        # A run of 3 rounds is too short for the demo's own goal: exit 1 is a run, too.
        demo = [konsil, "demo", "--rounds", "3", "--json", "--out", str(folder / "demo")]
        check_demo(run("konsil demo", demo, folder, expected=(0, 1)))


if __name__ == "__main__":
    main()
