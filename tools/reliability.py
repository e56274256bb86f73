"""Run every test, the long ones whole, and write down what was seen in `docs/reliability.md`.

    .venv/bin/python tools/reliability.py [arguments for pytest]

The page holds the commit, the machine, the outcome of each exhaustive test and pytest's
closing line; it is written whether the run passed or not. Exit code: pytest's own.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reliability.md"


class Case(msgspec.Struct, frozen=True):
    """One test that ran."""

    name: str
    outcome: str
    """passed, failed, error or skipped."""
    seconds: float


def run_pytest(expression: str, report: Path, arguments: Sequence[str]) -> int:
    """Run the tests that a marker expression selects; the report is JUnit XML."""
    command = [sys.executable, "-m", "pytest", "-m", expression, f"--junitxml={report}", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def read_cases(report: Path) -> list[Case]:
    """The tests of one report, in the order in which they ran."""
    cases = []
    for element in ElementTree.parse(report).getroot().iter("testcase"):
        bad = [child.tag for child in element if child.tag in {"failure", "error", "skipped"}]
        outcome = {"failure": "failed"}.get(bad[0], bad[0]) if bad else "passed"
        name = f"{element.get('classname', '')}::{element.get('name', '')}"
        cases.append(Case(name, outcome, float(element.get("time", "0"))))
    return cases


def commit() -> str:
    """The commit that is checked out, and whether the tree differs from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":!docs/reliability.md")
    return (git("rev-parse", "HEAD") or "no commit") + (" with local changes" if changed else "")


def counts(cases: Sequence[Case]) -> str:
    """How many tests had which outcome, as a sentence."""
    found = Counter(case.outcome for case in cases)
    return ", ".join(f"{number} {outcome}" for outcome, number in sorted(found.items())) or "none"


def page(short: Sequence[Case], long: Sequence[Case], seconds: float) -> str:
    """The text of `docs/reliability.md`."""
    rows = [f"| `{case.name}` | {case.outcome} | {case.seconds:.1f} |" for case in long]
    facts = [
        f"- Commit: {commit()}",
        f"- Date: {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, {seconds:.0f} s in all",
        f"- Machine: {os.cpu_count()} cores, {platform.system()} {platform.machine()},"
        f" Python {platform.python_version()}, torch {version('torch')},"
        f" libp2p {version('libp2p')}",
        f"- Tests of `make test`: {counts(short)}",
        f"- Tests marked `exhaustive`: {counts(long)}",
    ]
    return "\n".join(
        [
            "# Reliability: the last exhaustive run",
            "",
            "Written by `make exhaustive`; not edited by hand.",
            "",
            *facts,
            "",
            "| exhaustive test | outcome | seconds |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> int:
    """Run both selections, write the page, return the worse exit code."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        reports = Path(folder) / "short.xml", Path(folder) / "long.xml"
        codes = [
            run_pytest(expression, report, sys.argv[1:])
            for expression, report in zip(("not exhaustive", "exhaustive"), reports, strict=True)
        ]
        short, long = (read_cases(report) if report.exists() else [] for report in reports)
    PAGE.write_text(page(short, long, time.monotonic() - started))
    print(f"exhaustive: {counts(long)}; the page is {PAGE.relative_to(ROOT)}", file=sys.stderr)
    return max(0 if code == 5 else code for code in codes)  # 5: nothing was selected


if __name__ == "__main__":
    sys.exit(main())
