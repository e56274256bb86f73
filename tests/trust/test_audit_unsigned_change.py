"""A stop between a revocation of the log's key and the checkpoint that says so.

The entry is durable, the checkpoint before it is the last one, and it lies beyond the last good
size. Nobody was told of the change yet: it reads like any tail that is not signed for.
"""

from __future__ import annotations

import shutil

import pytest
from commands import konsil
from ledgers import Hospital, acquaint, change_key, codes
from vouched import cosign

from konsil.protocol import checkpoint
from konsil.protocol.node_bodies import KeyRevoke
from konsil.trust.audit import verify_home
from konsil.trust.reading import read_entries


@pytest.fixture
def bern(tmp_path):
    """A ledger of which the writer dies with the revocation durable, and nothing signed for it."""
    made, graz = Hospital(tmp_path, "bern"), Hospital(tmp_path, "graz")
    acquaint(made, graz)
    graz.close()
    made.train()
    cosign(made, {graz: made.clock.now // 1_000})
    change_key(made, KeyRevoke, "log", good=2)
    return made


@pytest.fixture
def killed(bern, tmp_path):
    return shutil.copytree(bern.home, tmp_path / "killed" / "bern")


def test_it_verifies_and_the_notice_says_what_to_do(killed):
    report = verify_home(killed)
    assert (report.exit_code(), codes(report)) == (0, set())
    (notice,) = [one for one in report.notices if one.code == "checkpoint.behind"]
    assert "1 entry" in notice.message
    assert "start and stop the node" in notice.message
    assert report.exit_code(strict=True) == 4


def test_whoever_asks_the_ledger_gets_an_answer(killed):
    assert isinstance(read_entries(killed / "ledger")[-1].b, KeyRevoke)
    assert konsil("audit", "timeline", killed).code == 0
    done = konsil("audit", "recover", killed, "--json")
    data = done.envelope("audit.recover")["data"]
    assert (done.code, data["entries"] - data["signed"]) == (0, 1)
    text = konsil("audit", "recover", killed)
    assert "the next start signs for the last 1" in text.out


def test_no_proof_is_made_under_a_checkpoint_that_is_void(bern, killed, tmp_path):
    """A stranger who knows of the revocation would refuse it; the next start makes one possible."""
    done = konsil("audit", "prove", killed, "1", "-o", tmp_path / "proof")
    assert done.code == 4
    assert "when it is started and stopped" in done.complaint
    bern.home = killed
    bern.reopen()
    bern.close()
    assert (killed / "ledger" / "cosigned").exists(), "void as well, and passed over"
    done = konsil("audit", "prove", killed, "1", "-o", tmp_path / "proof", "--json")
    assert done.envelope("audit.prove")["data"]["checkpoint"] == "checkpoint"


def test_the_next_start_signs_for_it(bern, killed):
    bern.home = killed
    bern.reopen()
    bern.close()
    report = verify_home(killed)
    assert (report.exit_code(), codes(report)) == (0, set())
    assert "checkpoint.behind" not in {one.code for one in report.notices}


def test_what_others_cosigned_under_the_revoked_key_is_void_and_no_fault(killed):
    assert (killed / "ledger" / "cosigned").exists()
    assert codes(verify_home(killed)) == set()


def test_a_checkpoint_that_covers_its_own_revocation_stays_refused(bern, killed, tmp_path):
    old = Hospital(tmp_path / "again", "bern").keys["log"]
    journal = bern.journal
    head = checkpoint.Checkpoint(origin=bern.author.origin, size=journal.size, root=journal.root)
    (killed / "ledger" / "checkpoint").write_bytes(checkpoint.sign(head, old))
    assert codes(verify_home(killed)) == {"checkpoint.corrupt"}


def test_another_history_before_the_change_stays_refused(bern, killed, tmp_path):
    old = Hospital(tmp_path / "again", "bern").keys["log"]
    head = checkpoint.Checkpoint(origin=bern.author.origin, size=3, root=bytes(32))
    (killed / "ledger" / "checkpoint").write_bytes(checkpoint.sign(head, old))
    assert codes(verify_home(killed)) == {"checkpoint.root"}
