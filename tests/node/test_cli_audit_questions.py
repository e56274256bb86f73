"""The questions of `konsil audit` as scripts see them: exit codes, one object, one refusal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from commands import files, konsil
from ledgers import Hospital, consortium, tail_of

from konsil.protocol import checkpoint, fork
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.digest import sha256
from konsil.protocol.learning_bodies import ModelBase, PrivacySpend, TrustUpdate
from konsil.trust.reading import read_entries


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    root = tmp_path_factory.mktemp("learned")
    return consortium(root, "bern", "graz", rounds=2)


@pytest.fixture
def homes(learned, tmp_path):
    for one in learned:
        shutil.copytree(one.home, tmp_path / one.name)
    return [tmp_path / one.name for one in learned]


@pytest.fixture
def art(homes):
    done = konsil("audit", "timeline", homes[0], "--type", "artifact.publish", "--json")
    return done.envelope("audit.timeline")["data"]["events"][0]["body"]["art"]


def both(verb, *arguments):
    """The command as text and as JSON: one exit code, one story, nothing written."""
    text = konsil("audit", verb, *arguments)
    machine = konsil("audit", verb, *arguments, "--json")
    assert text.code == machine.code, (text, machine)
    value = machine.envelope(f"audit.{verb}")
    if text.code:
        assert value["error"]["message"] in text.complaint
        assert len(text.complaint) < 400
    return text, value


def test_every_question_answers_and_writes_nothing(homes, art):
    before = [files(home) for home in homes]
    text, value = both("artifact", *homes, art[:12])
    assert "signature  verified" in text.out
    assert value["data"]["payload"] == art
    text, value = both("taint", *homes, art[:12].upper())
    assert "CURRENT MODEL" in text.out
    assert set(value["data"]["current_models"]) == {"bern", "graz"}
    text, value = both("trust", homes[0], "graz")
    assert "all of it follows" in text.out
    assert value["data"]["follows"] is True
    text, value = both("budget", *homes)
    assert "nothing was spent" in text.out
    assert value["data"]["spent"] is False
    text, value = both("timeline", *homes)
    assert len(text.out.splitlines()) == value["data"]["count"]
    assert [files(home) for home in homes] == before


def test_refusals_have_one_line_and_the_right_code(homes, art, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    nowhere = tmp_path / "nowhere"
    for verb, last in (("artifact", [art]), ("taint", [art]), ("trust", ["graz"]), ("budget", [])):
        assert both(verb, nowhere, *last)[0].code == 2
        assert both(verb, empty, *last)[0].code == 6
    for verb in ("artifact", "taint"):
        assert both(verb, *homes, "no digest")[0].code == 2
        assert both(verb, *homes, "ff" * 32)[0].code == 4
        assert both(verb, homes[0], homes[0], art)[0].code == 2
    assert both("trust", homes[0], "nobody")[0].code == 4
    assert both("trust", homes[0], "bern")[0].code == 4
    assert both("budget", *homes, "--dataset", "abcd")[0].code == 4
    assert both("budget", *homes, "--dataset", "no digest")[0].code == 2
    text, _ = both("budget", *homes, "abcd")
    assert text.code == 2, "a mistyped home is no data set"
    assert "abcd: there is no such home" in text.complaint
    assert both("timeline", *homes, "--from", "tomorrow")[0].code == 2
    assert both("timeline", *homes, "--type", "trust.me")[0].code == 2
    assert both("timeline", homes[0], "--node", "graz")[0].code == 2
    assert both("diff", *homes)[0].code == 2
    assert konsil("audit", "artifact", art).code == 2


def test_a_ledger_that_was_changed_answers_nothing(homes, art):
    tail = tail_of(homes[0])
    data = bytearray(tail.read_bytes())
    data[900] ^= 1
    tail.write_bytes(data)
    for verb, last in (("artifact", [art]), ("taint", [art]), ("budget", []), ("timeline", [])):
        text, value = both(verb, *homes, *last)
        assert text.code == 3
        assert text.out == ""
        assert "tail.corrupt" in value["error"]["message"]
        assert value["data"] == {}


def test_a_judgement_that_does_not_follow_does_not_verify(homes):
    updates = (one.b for one in read_entries(homes[0] / "ledger"))
    update = next(one for one in updates if isinstance(one, TrustUpdate))
    name = update.evidence.hex()
    path = homes[0] / "ledger/blobs/sha256" / name[:2] / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    text, value = both("trust", homes[0], "graz")
    assert text.code == 3
    assert f"DOES NOT FOLLOW: the bytes of its evidence {name} were changed" in text.out
    assert value["error"]["code"] == "verification"
    assert (value["data"]["follows"], value["data"]["missing_evidence"]) == (False, 0)
    assert value["data"]["kinds"]["parameters"].keys() == {
        "trust_e9", "judged", "helped", "contribution_e9",
    }  # fmt: skip


def test_a_missing_envelope_or_evidence_is_incomplete(homes, art):
    shutil.rmtree(homes[0] / "ledger/blobs")
    text, value = both("artifact", homes[0], art)
    assert text.code == 4
    assert value["data"]["signature"]["verified"] is False
    assert both("trust", homes[0], "graz")[0].code == 4
    assert both("artifact", *homes, art)[0].code == 0, "graz kept the envelope"


def test_a_budget_that_does_not_add_up_is_a_finding(tmp_path):
    bern = Hospital(tmp_path, "bern")
    for total in (10, 15):
        bern.journal.append(
            [
                PrivacySpend(
                    dataset=sha256(b"a"), mechanism="gaussian", eps_micro=10, delta_e12=0,
                    rho_e9=0, sampling_e9=0, steps=1, cumulative_micro=total,
                )
            ]
        )  # fmt: skip
    bern.close()
    text, value = both("budget", bern.home, "--dataset", sha256(b"a").hex()[:6])
    assert text.code == 1
    assert value["data"]["datasets"][0]["follows"] is False
    assert "2e-05 follows" in text.complaint


def test_diff_of_copies(homes, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(homes[0], copy)
    text, value = both("diff", homes[0], copy)
    assert (text.code, value["data"]["relation"]) == (0, "equal")
    (copy / "ledger/a\x1b[2Jb").write_text("")
    text, value = both("diff", homes[0], copy)
    assert text.code == 3
    assert "layout.stray" in value["error"]["message"]
    assert "\x1b" not in text.out + text.err
    assert both("diff", homes[0], homes[0])[0].code == 2


def test_prove_check_and_fork(homes, learned, tmp_path):
    file, bern = tmp_path / "p.tlog-proof", learned[0]
    genesis = homes[1] / "peers" / f"{bern.node}.genesis"
    done = konsil("audit", "prove", homes[0], "3", "-o", file)
    assert done.code == 0
    assert konsil("audit", "prove", homes[0], "3").out == file.read_text()
    value = konsil("audit", "prove", homes[0], "3", "--json").envelope("audit.prove")
    assert value["data"]["proof"] == file.read_text()
    text, value = both("check", file, "--genesis", genesis)
    assert text.code == 0
    assert text.out.startswith(f"{file}: it holds: ")
    assert value["data"]["index"] == 3
    text, value = both("check", file)
    assert text.code == 4
    assert "--genesis" in value["error"]["hint"]
    file.write_text(file.read_text().replace("index 3", "index 2"))
    text, _ = both("check", file, "--genesis", genesis)
    assert text.code == 3
    assert f"{file}: the proof does not hold" in text.complaint
    for words in ([tmp_path / "none"], [file, "--genesis", tmp_path / "none"],
                  [file, "--policy", tmp_path / "none"]):  # fmt: skip
        text, _ = both("check", *words)
        assert text.code == 2
        assert f"{tmp_path / 'none'}: there is no such file" in text.complaint
    assert both("fork", file)[0].code == 2
    assert both("check", file, "--genesis", file)[0].code == 5
    assert both("check", file, "--policy", file)[0].code == 5
    assert both("prove", homes[0], "999")[0].code == 4
    assert both("prove", homes[0], "x")[0].code == 2
    assert both("prove", tmp_path / "none", "1")[0].code == 2
    assert both("prove", homes[0], "3", "-o", tmp_path)[0].code == 2
    assert both("prove", homes[0], "3", "-o", tmp_path / "no" / "p")[0].code == 2
    heads = [
        Checkpoint(origin=bern.author.origin, size=2, root=sha256(word)) for word in (b"a", b"b")
    ]
    notes = [checkpoint.sign(head, bern.keys["log"]) for head in heads]
    file.write_bytes(fork.build(*notes))
    for verb in ("check", "fork"):
        text, value = both(verb, file, "--genesis", genesis)
        assert text.code == 3
        assert f"{file}: a fork is proven: bern" in text.complaint
        assert value["data"]["proven"] is True
    file.write_bytes(fork.build(notes[0], notes[0]))
    text, value = both("fork", file, "--genesis", genesis)
    assert text.code == 3
    assert value["data"] == {}
    assert f"{file}: this proves no fork" in text.complaint


def test_the_report_is_written_whatever_was_found(homes, tmp_path):
    page = tmp_path / "r.html"
    done = konsil("audit", "report", *homes, "-o", page, "--replay")
    assert done.code == 0
    assert done.out == f"{page}: Verified, 0 findings\n"
    assert page.read_text().startswith("<!doctype html>")
    tail = tail_of(homes[0])
    tail.write_bytes(tail.read_bytes()[:900] + b"\xff" + tail.read_bytes()[901:])
    text, value = both("report", *homes, "-o", page)
    assert text.code == 3
    assert value["data"]["verdict"] == "Does not verify"
    assert value["data"]["left_out"] == [str(homes[0])]
    assert "Does not verify" in page.read_text()
    assert both("report", *homes, "-o", tmp_path / "no" / "r.html")[0].code == 2
    assert both("report", *homes[1:], "-o", page, "--model", "zz")[0].code == 2


def test_lineage_steps_only_on_demand(homes):
    short = konsil("audit", "lineage", *homes, "--json").envelope("audit.lineage")["data"]
    whole = konsil("audit", "lineage", *homes, "--json", "--steps").envelope("audit.lineage")[
        "data"
    ]
    assert "graph" not in short
    assert short["size"] == {
        "nodes": len(whole["graph"]["nodes"]), "edges": len(whole["graph"]["edges"]),
    }  # fmt: skip
    assert {**short, "graph": whole["graph"]} == whole


def test_no_question_loads_what_an_audit_does_without(homes, art):
    commands = [
        ["artifact", *homes, art], ["taint", *homes, art], ["trust", homes[0], "graz"],
        ["budget", *homes], ["timeline", *homes], ["diff", homes[0], homes[0].parent / "copy"],
        ["prove", homes[0], "3"], ["report", *homes, "-o", homes[0].parent / "r.html"],
    ]  # fmt: skip
    shutil.copytree(homes[0], homes[0].parent / "copy")
    code = (
        "import json, sys\n"
        "from konsil.node.cli.app import main\n"
        "for line in json.loads(sys.argv[1]):\n"
        "    try:\n"
        "        main(['audit', *line])\n"
        "    except SystemExit as end:\n"
        "        assert not end.code, (line, end.code)\n"
        "heavy = {'torch', 'trio', 'libp2p', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    lines = json.dumps([[str(word) for word in line] for line in commands])
    done = subprocess.run([sys.executable, "-c", code, lines], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_taint_says_whose_models_it_cannot_see(homes, art):
    text, value = both("taint", homes[0], art)
    assert text.code == 4
    assert "name those homes too: graz" in text.complaint
    assert value["data"]["complete"] is False
    assert value["data"]["unseen"] == ["graz"]
    assert both("taint", *homes, art)[0].code == 0


def test_what_never_left_its_hospital_needs_no_other_home(tmp_path):
    bern = Hospital(tmp_path, "bern")
    bern.train()
    bern.close()
    text, value = both("taint", bern.home, bern.before.hex())
    assert text.code == 0, text
    assert value["data"]["complete"] is True


def test_entries_that_are_not_here_make_an_answer_incomplete(tmp_path):
    bern = Hospital(tmp_path, "bern")
    base = ModelBase(model=bern.model, source="", licence="", note="")
    bern.journal.append([base] * 600)
    bern.train()
    bern.close()
    whole = [both(verb, bern.home, *more)[0].code for verb, more in ASKED(bern)]
    assert whole == [0, 0, 0]
    (bern.home / "ledger/tile/entries/001").unlink()
    for verb, more in ASKED(bern):
        text, _ = both(verb, bern.home, *more)
        assert text.code == 4, verb
        assert "not here: 256 entries of bern" in text.complaint
        assert text.out, "what is here is shown"


def ASKED(one):
    return [("taint", [one.before.hex()]), ("timeline", []), ("budget", [])]


def test_an_empty_timeline_says_so(homes):
    done = konsil("audit", "timeline", *homes, "--type", "key.revoke")
    assert (done.code, done.out) == (0, "")
    assert "no entry of these ledgers fits" in done.complaint
    done = konsil("audit", "timeline", *homes, "--type", "key.revoke", "--json")
    assert done.envelope("audit.timeline")["data"] == {"count": 0, "events": []}


def test_what_is_no_regular_file_is_written_to_and_never_replaced(learned, tmp_path):
    """As /dev/null: whoever may replace it must not be helped to."""
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        for path in (link, pipe):
            assert konsil("audit", "prove", learned[0].home, "1", "-o", path).code == 0
        assert os.read(reader, 1 << 16) == target.read_bytes()
    finally:
        os.close(reader)
    assert link.is_symlink()
    assert pipe.is_fifo()
