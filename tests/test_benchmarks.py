"""The benchmarks run, in a tiny size; whether goals are met is for `make bench` to say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
ROWS = {
    "wire": {"pull 2 MB, konsil / trio TLS", "pull 2 MB, memory above idle"},
    "mixing": {"mix 8 × 0.25 M, kernel / copying", "mix 8 × 0.25 M, peak memory"},
    "ledger": {
        "durable append, groups of 128 / limit",
        "lineage of 101 models, 500 edges, warm",
        "audit of 600 entries, 120 envelopes / (3 floors + 1.15 signatures)",
        "audit of 1500 entries, peak memory",
        "disk beyond 1500 entries",
        "restart with 1500 entries",
    },
    "daemons": {"idle daemon, processor", "idle daemon, memory"},
    "simulator": {
        "64 nodes, mean / ceiling",
        "64 nodes, evidence / ceiling",
        "64 nodes, evidence, signed and logged",
        "64 nodes, accuracy apart from the plain loop",
        "cost of a node-round, 400 / 100 nodes",
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_a_set_runs_and_reports(name, tmp_path):
    out = tmp_path / "bench.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", name, "--out", str(out)]
    done = subprocess.run(
        command, cwd=CHECKOUT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(out.read_text())
    assert told["quick"] is True
    rows = {row["name"]: row for row in told["rows"]}
    assert ROWS[name] <= rows.keys()
    assert all(rows[title]["goal"] and rows[title]["value"] >= 0 for title in ROWS[name])
    assert all(title in done.stdout for title in rows)


def test_a_missed_goal_is_an_exit_code(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(CHECKOUT))
    from benchmarks import __main__ as bench
    from benchmarks.measure import at_least, at_most

    rows = [at_least("fast", [3.0, 1.0, 2.0], 2.0), at_most("small", [1.0, 9.0], 5.0, "MiB")]
    assert [(row.value, row.met) for row in rows] == [(2.0, True), (9.0, False)]
    for chosen, code in ((rows, 1), (rows[:1], 0)):
        monkeypatch.setattr(bench, "SETS", {"one": "one"})
        monkeypatch.setitem(
            sys.modules, "one", SimpleNamespace(run=lambda quick, chosen=chosen: chosen)
        )
        monkeypatch.setattr(sys, "argv", ["bench", "--out", str(tmp_path / "bench.json")])
        assert bench.main() == code
    assert "NOT MET" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "bench.json").read_text())["rows"]) == 1
