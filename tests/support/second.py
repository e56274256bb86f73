"""The second verifier, loaded from its file."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import sys
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools" / "verify_ledger.py"


def load():
    """The module."""
    if "verify_ledger" not in sys.modules:
        spec = importlib.util.spec_from_file_location("verify_ledger", TOOL)
        module = sys.modules["verify_ledger"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["verify_ledger"]


def judged(*homes):
    """The exit code of the second verifier, and the codes of what it finds."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = load().main([*map(str, homes), "--json"])
    return code, {one["code"] for one in json.loads(out.getvalue())["findings"]}
