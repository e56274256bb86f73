"""`konsil audit` as scripts see it: exit codes, one JSON object, stdout for data only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ledgers import consortium, tail_of, two
from typer.testing import CliRunner

from konsil.node.cli import audit, audit_arguments
from konsil.protocol.errors import IncompleteError, StorageError, UsageError
from konsil.trust.report import Finding, LedgerSummary, Report

KONSIL = Path(sys.executable).parent / "konsil"


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    root = tmp_path_factory.mktemp("learned")
    return [str(one.home) for one in consortium(root, "bern", "graz", rounds=1)]


@pytest.fixture
def homes(learned, tmp_path):
    for home in learned:
        shutil.copytree(home, tmp_path / Path(home).name)
    return [str(tmp_path / Path(home).name) for home in learned]


def run(*arguments, fails=None):
    result = CliRunner().invoke(audit.app, list(arguments))
    if fails is not None:
        assert isinstance(result.exception, fails)
    elif result.exception is not None:
        assert isinstance(result.exception, SystemExit), result.exception
    return result


def data_of(result, verb):
    value = json.loads(result.stdout)
    assert value["schema"] == f"konsil.audit.{verb}/1"
    assert value["ok"] is (result.exit_code == 0)
    assert ("error" in value) is not value["ok"]
    return value


def test_verified_homes_exit_0(homes):
    result = run("verify", *homes, "--replay", "--strict")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].startswith("bern (")
    assert "1 of 1 mixes computed again: verified" in result.stdout
    value = data_of(run("verify", *homes, "--replay", "--json"), "verify")
    assert [item["name"] for item in value["data"]["ledgers"]] == ["bern", "graz"]
    assert all(item["verified"] for item in value["data"]["ledgers"])
    assert value["data"]["findings"] == []
    assert value["data"]["checked_against_others"] is True


def test_a_home_alone_says_that_nobody_else_was_asked(homes):
    result = run("verify", homes[0])
    assert result.exit_code == 0
    assert "bern: not checked against others" in result.stdout
    result = run("verify", homes[0], "--strict", "--json")
    assert result.exit_code == 4
    value = data_of(result, "verify")
    assert value["error"]["code"] == "incomplete"
    assert "not checked against others" in value["error"]["message"]
    assert value["data"]["ledgers"][0]["verified"]


def test_a_tampered_tail_exits_3_with_place_and_data(homes):
    tail = tail_of(Path(homes[0]))
    data = bytearray(tail.read_bytes())
    data[300] ^= 4
    tail.write_bytes(data)
    result = run("verify", *homes, "--json")
    assert result.exit_code == 3
    value = data_of(result, "verify")
    assert value["error"]["code"] == "verification"
    (finding, *_) = value["data"]["findings"]
    assert finding["code"] == "tail.corrupt"
    assert finding["file"] == str(tail)
    assert finding["exit_code"] == 3
    assert not value["data"]["ledgers"][0]["verified"]
    assert value["data"]["ledgers"][1]["verified"]
    result = run("verify", *homes)
    assert result.exit_code == 3
    assert "DOES NOT VERIFY" in result.stdout
    assert "tail.corrupt" in result.stderr


def test_a_missing_blob_exits_4(homes):
    next(path for path in Path(homes[0], "ledger/blobs").rglob("*") if path.is_file()).unlink()
    result = run("verify", homes[0], "--json")
    assert result.exit_code == 4
    assert data_of(result, "verify")["error"]["code"] == "incomplete"


def test_conduct_alone_exits_1():
    found = Report(
        ledgers=(),
        findings=(Finding(code="entry.time", ledger="bern", file="tail.0", message="m"),) * 2,
    )
    assert found.exit_code() == 1
    assert audit_arguments.problem(found, 1)["message"].endswith("(and 1 more)")


def test_usage_and_storage(homes, tmp_path):
    assert run("verify").exit_code == 2
    run("verify", homes[0], homes[0], fails=UsageError)
    run("verify", homes[0], str(Path(homes[0]) / ".." / "bern"), fails=UsageError)
    run("verify", str(tmp_path / "nothing"), fails=UsageError)
    run("verify", str(tmp_path), fails=StorageError)
    run("lineage", str(tmp_path / "nothing"), fails=UsageError)
    run("lineage", *homes, "--model", "ff" * 32, fails=IncompleteError)
    run("lineage", *homes, "--model", "no digest", fails=UsageError)
    run("lineage", *homes, "--steps", fails=UsageError)
    run("lineage", *homes, "--json", "--format", "dot", fails=UsageError)
    run("export", "prov", *homes, "--model", "xyz", fails=UsageError)
    run("export", "prov", *homes, homes[0], fails=UsageError)
    run("export", "prov", str(tmp_path / "nothing"), fails=UsageError)
    run("export", "prov", *homes, "-o", str(tmp_path / "no" / "x"), fails=UsageError)
    assert run("lineage", *homes, "--format", "png").exit_code == 2


def test_a_torn_frame_of_a_running_node_is_looked_at_again(tmp_path, monkeypatch):
    bern, graz = two(tmp_path)
    calls = []
    torn = Finding(code="tail.torn", ledger="bern", file="tail.0", message="m")

    def reports(homes, *, replay, is_held):
        calls.append(replay)
        return Report(ledgers=(), findings=(torn,) if len(calls) < 3 else ())

    monkeypatch.setattr("konsil.trust.audit.verify_homes", reports)
    monkeypatch.setattr(audit_arguments, "PAUSE_S", 0.0)
    assert audit_arguments.settled([bern.home], replay=True).findings == ()
    assert calls == [True] * 3
    calls.clear()
    bern.close()
    graz.close()
    assert audit_arguments.settled([bern.home, tmp_path / "none"], replay=False).findings == (torn,)
    assert calls == [False]


def test_lineage_in_every_format(homes):
    text = run("lineage", *homes)
    assert text.exit_code == 0
    assert "contributors over 1 mixes:" in text.stdout
    assert run("lineage", *homes, "--format", "dot").stdout.startswith("digraph")
    assert run("lineage", *homes, "--format", "svg").stdout.startswith("<svg")
    value = data_of(run("lineage", *homes, "--json"), "lineage")
    assert {item["name"] for item in value["data"]["contributors"]} == {"bern", "graz"}
    assert value == data_of(run("lineage", *homes, "--format", "json"), "lineage")
    start = value["data"]["model"][:12]
    named = data_of(run("lineage", *homes, "--model", start, "--json"), "lineage")
    assert named == value


def test_lineage_shows_the_current_model_of_the_first_home(homes):
    for order, name in ((homes, "bern"), (homes[::-1], "graz")):
        result = run("lineage", *order)
        assert result.stdout.splitlines()[0].endswith(f"  (the current model of {name})")
        assert data_of(run("lineage", *order, "--json"), "lineage")["data"]["current_of"] == [name]


@pytest.mark.parametrize("form", ["text", "dot", "svg"])
def test_a_lineage_without_the_peers_is_incomplete(homes, form):
    result = run("lineage", homes[0], "--format", form)
    assert result.exit_code == 4
    assert result.stdout
    (line,) = result.stderr.splitlines()
    assert line == (
        "konsil: 1 ancestor has no given ledger that says how it was made"
        " (name those homes too: graz)"
    )
    value = data_of(run("lineage", homes[0], "--json"), "lineage")
    assert value["error"]["code"] == "incomplete"
    assert value["data"]["complete"] is False
    assert [gap["name"] for gap in value["data"]["gaps"]] == ["graz"]


def test_what_no_signature_covers_is_a_notice_and_strictly_a_finding(tmp_path):
    bern, graz = two(tmp_path)
    for one, other in ((bern, graz), (graz, bern)):
        one.train()
        other.receive(one.publish(), one.author)
    homes = [str(bern.home), str(graz.home)]
    running = run("verify", *homes, "--json")
    assert data_of(running, "verify")["data"]["ledgers"][0]["running"] is True
    assert run("verify", *homes, "--strict").exit_code == 0, "their nodes will sign"
    for one in (bern, graz):
        one.journal.sign_checkpoint()
    bern.train()
    bern.journal._store.close()
    graz.close()
    os.close(bern.journal._lock)
    message = (
        "1 entry after the last checkpoint carries no signature;"
        " start and stop the node to have them signed"
    )
    result = run("verify", *homes)
    assert result.exit_code == 0
    assert f"bern: {message}" in result.stdout.splitlines()
    value = data_of(run("verify", *homes, "--json"), "verify")
    (notice,) = value["data"]["notices"]
    assert (notice["code"], notice["ledger"], notice["message"]) == (
        "checkpoint.behind", "bern", message,
    )  # fmt: skip
    result = run("verify", *homes, "--strict", "--json")
    assert result.exit_code == 4
    value = data_of(result, "verify")
    assert value["error"]["code"] == "incomplete"
    assert [item["code"] for item in value["data"]["findings"]] == ["checkpoint.behind"]
    assert value["data"]["notices"] == []


def test_the_help_says_what_strict_and_the_default_model_mean():
    words = " ".join(run("verify", "--help").stdout.replace("│", " ").split())
    assert "every ledger is also seen through another home given here" in words
    words = " ".join(run("lineage", "--help").stdout.replace("│", " ").split())
    assert "the current model of the first home" in words


def test_the_summary_says_what_beyond_the_checkpoint_means():
    fields = LedgerSummary.__struct_fields__
    assert {"entries", "signed", "beyond_checkpoint", "verified", "node_id"} <= set(fields)


def test_the_command_itself_runs_without_torch_and_reports_damage(homes):
    code = (
        "import sys\n"
        "from konsil.node.cli.audit import app\n"
        "sys.argv = ['audit', 'verify', *sys.argv[1:]]\n"
        "try:\n"
        "    app()\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "heavy = {'torch', 'trio', 'libp2p', 'numpy', 'networkx'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *homes], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    Path(homes[0], "ledger", "checkpoint").write_bytes(b"nonsense")
    done = subprocess.run(
        [KONSIL, "audit", "verify", *homes, "--json"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["code"] == "verification"
    done = subprocess.run(
        [KONSIL, "audit", "verify", "nowhere", "--json"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "usage"
