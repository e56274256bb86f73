"""No innocent home gets a finding for what another home wrote, whatever is given beside it.

Each attack is played before both verifiers: who wrote the lie, or nobody, is told.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
from ledgers import (
    Clock,
    Hospital,
    acquaint,
    adopt,
    change_key,
    mirrored,
    rules_of,
    sign_again,
    tail_of,
    train_of,
    two,
    vouched,
)
from vouched import cosign

from konsil.protocol import checkpoint, entries, merkle, tiles
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.digest import sha256
from konsil.protocol.learning_bodies import ArtifactReceive, ModelBase
from konsil.protocol.node_bodies import KeyRevoke, KeyRotate
from konsil.protocol.office_bodies import ArtifactWithdraw, MemberSuspend, ModelDeploy, WithdrawAck
from konsil.protocol.proof import decode
from konsil.trust.audit import verify_homes
from konsil.trust.lineage import read_lineage

TOOL = Path(__file__).resolve().parents[2] / "tools" / "verify_ledger.py"
D = sha256(b"anything")


@pytest.fixture(scope="module")
def second():
    """The second verifier."""
    spec = importlib.util.spec_from_file_location("second_for_innocents", TOOL)
    module = sys.modules["second_for_innocents"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["second_for_innocents"]


def hospitals(root, *names):
    clock = Clock()
    return [Hospital(root, name, clock=clock) for name in names]


def close(*given):
    for one in given:
        one.close()
    acquaint(*given)


def by_home(report):
    """The codes of the findings about each given home, and those that are only told."""
    names = {Path(item.home).name for item in report.ledgers}
    found = {name: set() for name in (*names, "told")}
    for one in report.findings:
        found[one.ledger if one.ledger in names else "told"].add(one.code)
    return {name: codes for name, codes in found.items() if codes}


def told_by(second, *homes):
    """The codes of the second verifier, by the name of the home in whose folder they stand."""
    verdict, _ = second.verify(list(homes))
    found = {}
    for one in verdict.findings:
        name = next((home.name for home in homes if one.file.startswith(f"{home}/")), "told")
        found.setdefault("told" if one.of_nobody else name, set()).add(one.code)
    return found


def both(second, *given):
    homes = [one.home if isinstance(one, Hospital) else one for one in given]
    report = verify_homes(homes)
    by_konsil = by_home(report)
    assert told_by(second, *homes) == by_konsil
    for item in report.ledgers:
        assert bool(item.exit_code) == (Path(item.home).name in by_konsil)
    return by_konsil


def base(name=b"later"):
    return ModelBase(model=sha256(name), source="seed", licence="", note="")


# --- a revocation that was moved ----------------------------------------------------------------


def moved(hospital, index, place):
    """A mirror of a log in which its genuine change of keys stands at another place."""
    frames = tiles.read_tail(tail_of(hospital.home).read_bytes()).frames
    entry = entries.entry(
        entries.decode(frames[index].entry).b,
        index=place, time_ms=hospital.clock.now, salt=bytes(16), charter=bytes(32),
    )  # fmt: skip
    data = entries.encode(entry)
    made_up = [(b"", bytes([7]) * 32)] * (place - 1)
    first = (frames[0].entry, frames[0].leaf)
    return tiles.frames([first, *made_up, (data, merkle.leaf_hash(data))])


def received(holder, sent):
    """As `Hospital.receive`, from an author whose log key changed."""
    shown = decode(sent.proof)
    entry = entries.decode(shown.extra)
    head = checkpoint.from_text(shown.checkpoint.decode().partition("\n\n")[0] + "\n")
    holder._keep(sent.data)
    holder.journal.append([
        ArtifactReceive(
            art=sent.art, publisher=sent.publisher, env=holder.journal.blobs.put(sent.envelope),
            index=entry.n, size=head.size, root=head.root,
            proof=holder.journal.blobs.put(sent.proof),
        )
    ])  # fmt: skip


@pytest.fixture(params=["art", "log"])
def revoked(request, tmp_path):
    """Bern revoked a key and published under the new one; Ulm received and mirrors it."""
    bern, graz, ulm = hospitals(tmp_path, "bern", "graz", "ulm")
    bern.train()
    new = change_key(bern, KeyRevoke, request.param, good=bern.journal.size)
    index = bern.journal.size - 1
    if request.param == "log":
        sign_again(bern, new)
        bern.reopen()
    bern.train()
    received(ulm, bern.publish())
    close(bern, graz, ulm)
    mirrored(bern, ulm)
    lie = moved(bern, index, bern.journal.size + 3)
    (graz.home / "peers" / f"{bern.node}.mirror").write_bytes(lie)
    return bern, graz, ulm


def test_a_revocation_that_a_mirror_moves_accuses_nobody(revoked, second):
    bern, graz, ulm = revoked
    for homes in ((ulm, bern), (graz, ulm), (ulm, graz), (graz, ulm, bern), (bern, ulm, graz)):
        assert both(second, *homes) == {}, [one.name for one in homes]


def test_a_mirror_counts_no_further_than_what_its_holder_accepted(tmp_path, second):
    """Graz has accepted what Bern signed before the revocation, and made up what follows."""
    bern, graz, ulm = hospitals(tmp_path, "bern", "graz", "ulm")
    bern.train()
    older = bern.journal.sign_checkpoint()
    index = bern.journal.size
    change_key(bern, KeyRevoke, "art", good=index)
    bern.train()
    ulm.receive(bern.publish(), bern.author)
    close(bern, graz, ulm)
    mirrored(bern, ulm)
    vouched(graz.home, older)
    genuine = tiles.read_tail(tail_of(bern.home).read_bytes()).frames[:index]
    lie = tiles.read_tail(moved(bern, index, bern.journal.size + 3)).frames[index:]
    (graz.home / "peers" / f"{bern.node}.mirror").write_bytes(
        tiles.frames((one.entry, one.leaf) for one in (*genuine, *lie))
    )
    for homes in ((graz, ulm), (ulm, graz), (graz, ulm, bern)):
        assert both(second, *homes) == {}, [one.name for one in homes]


def test_two_signed_accounts_of_ones_keys_are_the_fork_of_who_signed(tmp_path, second):
    """Bern shows Graz and Ulm two histories of its keys, and signs for both."""
    bern, graz, ulm = hospitals(tmp_path, "bern", "graz", "ulm")
    bern.close()
    twin = shutil.copytree(bern.home, tmp_path / "twin")
    keys, model = bern.keys, bern.model
    for holder, home, before in ((graz, twin, 1), (ulm, bern.home, 3)):
        bern.close()
        bern.home, bern.keys, bern.sequence, bern.model = home, keys, 0, model
        bern.reopen()
        bern.journal.append([base()] * before)
        change_key(bern, KeyRotate, "art")
        bern.train()
        sent = bern.publish()
        received(holder, sent)
        bern.journal.sign_checkpoint()
        bern.close()
        mirrored(bern, holder)
    close(graz, ulm)
    for one in (graz, ulm):
        (one.home / "peers" / f"{bern.node}.genesis").write_bytes(bern.author.entry)
    assert both(second, graz, ulm) == {"told": {"others.fork", "publish.equivocation"}}
    assert both(second, ulm, bern, graz) == {"bern": {"others.fork", "publish.equivocation"}}


# --- descent ------------------------------------------------------------------------------------


def test_a_foreign_word_closes_no_circle_in_the_log_of_who_made_both(tmp_path, second):
    bern, graz = two(tmp_path)
    bern.train()
    first = bern.model
    bern.publish()
    bern.train()
    graz.receive(bern.publish(), bern.author)
    graz.journal.append([train_of(graz, base=bern.model, out=first)])
    close(bern, graz)
    for homes in ((bern, graz), (graz, bern)):
        assert both(second, *homes) == {"graz": {"lineage.gap", "lineage.claim"}}


def test_a_circle_in_the_words_of_one_home_is_its_own(tmp_path, second):
    bern, graz = two(tmp_path)
    a, b = sha256(b"a"), sha256(b"b")
    graz.journal.append([train_of(graz, base=a, out=b), train_of(graz, base=b, out=a)])
    close(bern, graz)
    assert both(second, bern, graz) == {"graz": {"lineage.gap", "lineage.cycle"}}


def test_a_foreign_word_makes_nobodys_answer_to_a_withdrawal_false(tmp_path, second):
    bern, graz = two(tmp_path)
    mine = bern.train()
    evaluated = bern.journal.blobs.put(b"evaluated")
    bern.journal.append([ModelDeploy(approver=D, evaluation=evaluated, model=mine, step="pccp.1")])
    graz.train()
    sent = graz.publish()
    due = graz.clock.now + 50
    graz.journal.append([
        train_of(graz, base=sent.art, out=mine),
        ArtifactWithdraw(art=sent.art, deadline_ms=due, reason="quality", scope="all"),
    ])  # fmt: skip
    bern.journal.append([
        WithdrawAck(
            node=graz.node, index=graz.journal.size - 1, action="not_used", legal=None,
            before=[], after=[],
        )
    ])  # fmt: skip
    bern.clock.now += 100
    bern.journal.append([base()])
    close(bern, graz)
    for homes in ((bern, graz), (graz, bern)):
        assert by_home(verify_homes([one.home for one in homes])) == {}


def test_a_deadline_before_the_withdrawal_is_the_fault_of_who_set_it(tmp_path):
    bern, graz = two(tmp_path)
    graz.train()
    sent = graz.publish()
    graz.journal.append(
        [ArtifactWithdraw(art=sent.art, deadline_ms=0, reason="quality", scope="all")]
    )
    bern.train()
    close(bern, graz)
    found = by_home(verify_homes([bern.home, graz.home]))
    assert found == {"graz": {"withdraw.deadline"}}


def test_who_received_a_model_before_did_not_make_it(tmp_path, second):
    """Its own receipt says that it knew the model, whatever its clock says."""
    bern = Hospital(tmp_path, "bern", clock=Clock())
    graz = Hospital(tmp_path, "graz", clock=Clock(1_700_000_000_000))
    bern.train()
    sent = bern.publish()
    bern.clock.now = graz.clock.now
    graz.receive(sent, bern.author)
    graz.train()
    graz.journal.append([train_of(graz, base=graz.model, out=sent.art)])
    close(bern, graz)
    for homes in ((bern, graz), (graz, bern)):
        assert both(second, *homes)["graz"] == {"lineage.claim"}
        assert "bern" not in both(second, *homes)
    told = read_lineage([bern.home, graz.home])
    assert told.steps[sent.art].node == bern.node


def test_of_two_who_say_that_they_made_it_lineage_names_both(tmp_path, second):
    """Nothing shows who spoke first: an early clock wins nothing."""
    bern = Hospital(tmp_path, "bern", clock=Clock())
    graz = Hospital(tmp_path, "graz", clock=Clock(1_700_000_000_000))
    bern.train()
    bern.publish()
    graz.train()
    graz.journal.append([train_of(graz, base=graz.model, out=bern.model)])
    close(bern, graz)
    assert both(second, bern, graz) == {}
    told = read_lineage([bern.home, graz.home])
    (share,) = told.contributors(bern.model).contributors
    assert set(share.name.split(" or ")) == {"bern", "graz"}
    assert not told.contributors(bern.model).complete


# --- charters, numbers, clocks ------------------------------------------------------------------


def test_a_charter_that_nobody_else_signed_is_no_rival(tmp_path):
    bern, graz = two(tmp_path)
    acquaint(bern, graz)
    adopt(bern, rules_of(bern, graz), bern, graz)
    adopt(graz, rules_of(bern, graz, expires_ms=2**49), graz)
    close(bern, graz)
    for homes in ([bern.home, graz.home], [graz.home, bern.home]):
        assert by_home(verify_homes(homes)) == {"graz": {"charter.chain"}}


def test_two_artifacts_of_one_number_are_their_authors(tmp_path, second):
    bern, graz, ulm = hospitals(tmp_path, "bern", "graz", "ulm")
    for holder in (ulm, bern):
        graz.sequence = 0
        graz.train()
        holder.receive(graz.publish(), graz.author)
    close(bern, graz, ulm)
    assert both(second, ulm, bern) == {"told": {"publish.equivocation"}}
    for homes in ((ulm, bern, graz), (graz, bern, ulm)):
        assert both(second, *homes) == {"graz": {"publish.equivocation", "publish.sequence"}}


def test_a_difference_of_clocks_is_nobodys_fault(tmp_path, second):
    bern = Hospital(tmp_path, "bern", clock=Clock())
    graz = Hospital(tmp_path, "graz", clock=Clock(1_700_000_000_000))
    bern.train()
    graz.receive(bern.publish(), bern.author)
    close(bern, graz)
    assert both(second, bern, graz) == {"told": {"others.time"}}


@pytest.mark.parametrize("wrong_s", [-86_400, 86_400])
@pytest.mark.parametrize("right", [0, 1])
def test_one_witness_with_a_wrong_clock_wrongs_no_log(tmp_path, wrong_s, right):
    bern, graz, ulm = hospitals(tmp_path, "bern", "graz", "ulm")
    now = bern.clock.now // 1_000
    cosign(bern, {graz: now + wrong_s, **({ulm: now} if right else {})})
    bern.clock.now += 60_000
    bern.journal.append([base()])
    close(bern, graz, ulm)
    assert by_home(verify_homes([bern.home])) == {}


# --- what both verifiers must say ---------------------------------------------------------------


def test_the_evaluation_of_a_mix_is_no_payload(tmp_path, second):
    """It lies in the ledger: whoever gets the ledger alone has what it names."""
    bern, graz = two(tmp_path)
    bern.train()
    graz.train()
    sent = graz.publish()
    bern.receive(sent, graz.author)
    bern.mix([sent], before=sent.art)
    close(bern, graz)
    assert both(second, bern) == {"bern": {"blob.missing"}}


def test_a_suspension_without_votes_needs_its_proof(tmp_path, second):
    bern, graz = two(tmp_path)
    bern.journal.append(
        [MemberSuspend(node=graz.node, credential=None, evidence=D, effective_ms=0)]
    )
    close(bern, graz)
    assert both(second, bern) == {"bern": {"blob.missing"}}


def test_a_checkpoint_of_somebody_who_is_not_here_contradicts_another(tmp_path, second):
    """Two homes accepted two roots of one size: who signed both forked, and nobody else."""
    bern, graz, ulm = hospitals(tmp_path, "bern", "graz", "ulm")
    close(bern, graz, ulm)
    for one in (graz, ulm):
        head = Checkpoint(origin=bern.author.origin, size=9, root=sha256(one.name.encode()))
        vouched(one.home, checkpoint.sign(head, bern.keys["log"]))
    assert both(second, graz, ulm) == {"told": {"others.fork"}}
