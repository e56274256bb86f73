"""Attacks on what people decide: keys, charters, privacy, use, withdrawal, redaction (A17 … A29).

Each is played on a generated ledger, first honestly (no finding), then with the lie. The code of
the finding and the exit code are those of `codes.toml`.
"""

from __future__ import annotations

import msgspec
import pytest
from ledgers import (
    Hospital,
    acquaint,
    adopt,
    audit_of,
    change_key,
    codes,
    falsify,
    mirrored,
    prune,
    release,
    rules_of,
    sign_again,
    train_of,
    two,
    word_of_redaction,
)
from pinned import pinned

from konsil.protocol import charter, checkpoint, fork, merkle, proof
from konsil.protocol.artifact import PrivacySpent, bucket
from konsil.protocol.charter import ExportRule, Verdict
from konsil.protocol.digest import sha256
from konsil.protocol.learning_bodies import PrivacySpend, UnlearnDone
from konsil.protocol.node_bodies import (
    KeyRevoke,
    KeyRotate,
    NodeBoot,
    PeerExposed,
    PeerSuspect,
    Span,
)
from konsil.protocol.office_bodies import (
    ArtifactWithdraw,
    CharterAdopt,
    CharterVote,
    HumanOverride,
    InferenceBatch,
    MemberAdd,
    MemberSuspend,
    ModelDeploy,
    ModelRetire,
    ModelRollback,
    WithdrawAck,
)
from konsil.trust.audit import verify_home
from konsil.trust.bedside import UseRecord, write_records
from konsil.trust.export_policy import PolicyState, decide
from konsil.trust.redaction import RETENTION_MS

D = sha256(b"somebody's role")


NOTHING = (set(), 0)
"""What the audit says of the honest."""


def said(report):
    """The codes of all findings, and the exit code."""
    return codes(report), report.exit_code()


def known(number, form=None):
    """Exactly this attack, as `codes.toml` pins it."""
    wanted = pinned(number, form)
    return {wanted["code"]}, wanted["exit"]


def use(kind, model, **changes):
    return kind(**{"model": model, "approver": D, "step": "pccp.1", "evaluation": D, **changes})


# --- A17: models in use -----------------------------------------------------------------------


def test_models_that_were_made_or_received_go_in_and_out_of_use(tmp_path):
    bern, graz = two(tmp_path)
    first, sent = bern.train(), None
    graz.train()
    sent = graz.publish()
    bern.receive(sent, graz.author)
    bern.journal.append([
        use(ModelDeploy, first), use(ModelRetire, first), use(ModelDeploy, sent.art),
        use(ModelRollback, first),
    ])  # fmt: skip
    assert said(audit_of(bern, graz)) == NOTHING


@pytest.mark.parametrize("kind", [ModelDeploy, ModelRollback, ModelRetire])
def test_a17_a_model_in_use_that_no_entry_made(tmp_path, kind):
    bern, _ = two(tmp_path)
    bern.journal.append([use(kind, sha256(b"from nowhere"))])
    assert said(audit_of(bern)) == known("a17")


def test_a17_a_model_that_was_never_in_use_cannot_come_back(tmp_path):
    bern, _ = two(tmp_path)
    bern.journal.append([use(ModelRollback, bern.train())])
    assert said(audit_of(bern)) == known("a17")


# --- A19: privacy -----------------------------------------------------------------------------


def spend(hospital, dataset=D, *, eps=3, total=3):
    """Spends privacy; returns the leaf hash of the entry."""
    body = PrivacySpend(
        dataset=dataset, mechanism="gaussian", eps_micro=eps, delta_e12=5, rho_e9=1,
        sampling_e9=1, steps=9, cumulative_micro=total,
    )  # fmt: skip
    return hospital.journal.append([body])[0].leaf


DP = PrivacySpent(mechanism="gaussian", unit="patient", epsilon_micro=3, delta_e12=5)


def test_privacy_that_was_paid_before_it_was_used(tmp_path):
    bern, _ = two(tmp_path)
    paid = spend(bern)
    bern.journal.append([train_of(bern, privacy=paid)])
    bern.train()
    release(bern, privacy=DP)
    spend(bern, total=6)
    spend(bern, sha256(b"another cohort"), total=3)
    assert said(audit_of(bern)) == NOTHING


def test_a19_an_overspend_behind_a_false_sum(tmp_path):
    bern, _ = two(tmp_path)
    spend(bern)
    spend(bern, total=4)
    assert said(audit_of(bern)) == known("a19")


def test_a19_spent_after_it_was_published_or_trained(tmp_path):
    bern, graz = two(tmp_path)
    bern.train()
    release(bern, privacy=DP)
    spend(bern)
    assert said(audit_of(bern)) == known("a19", "order")
    graz.journal.append([train_of(graz, privacy=D)])
    spend(graz)
    assert said(audit_of(graz)) == known("a19", "order")


def test_a19_one_cohort_under_two_datasets(tmp_path):
    bern, _ = two(tmp_path)
    for name in (b"a", b"b"):
        paid = spend(bern, sha256(name))
        bern.journal.append([train_of(bern, privacy=paid, out=sha256(b"out" + name))])
    assert said(audit_of(bern)) == known("a19", "dataset")


# --- A20: export policy -----------------------------------------------------------------------

RULE = ExportRule(
    kind="parameters", min_cohort=50, min_label_rows=0, mechanisms=(), max_release_micro=9,
    max_total_micro=9, max_delta_e12=9, max_bytes=1 << 20,
)  # fmt: skip


def governed(root, **changes):
    """A hospital under a charter of its own with an export policy, ready to publish."""
    (bern,) = (Hospital(root, "bern"),)
    rules = rules_of(bern, **{"export": (RULE,), **changes})
    digest = adopt(bern, rules, bern)
    bern.train()

    def decided(manifest):
        return decide(manifest, rules.export, PolicyState(charter=digest, spent_micro=0)).digest()

    return bern, decided


def test_an_artifact_leaves_by_a_decision_that_follows(tmp_path):
    bern, decided = governed(tmp_path)
    release(bern, policy=decided)
    assert said(audit_of(bern)) == NOTHING


@pytest.mark.parametrize("decision", [lambda _: None, lambda _: D])
def test_a20_published_without_the_decision_that_follows(tmp_path, decision):
    bern, _ = governed(tmp_path)
    release(bern, policy=decision)
    assert said(audit_of(bern)) == known("a20")


@pytest.mark.parametrize(
    "rule",
    [{"min_cohort": 200}, {"mechanisms": ("gaussian",)}, {"max_bytes": 1}, {"kind": "logits"}],
)
def test_a20_published_against_the_policy(tmp_path, rule):
    bern, decided = governed(tmp_path, export=(msgspec.structs.replace(RULE, **rule),))
    release(bern, policy=decided)
    assert said(audit_of(bern)) == known("a20")


def test_a20_published_under_the_charter_before_which_had_no_policy(tmp_path):
    bern = Hospital(tmp_path, "bern")
    bern.train()
    adopt(bern, rules_of(bern, export=(RULE,)), bern)
    bern.close()
    bern.charter = bytes(32)
    bern.reopen()
    release(bern)
    assert said(audit_of(bern)) == known("a21")


# --- A21: charter and members -----------------------------------------------------------------


def three(root):
    """Three hospitals that know each other."""
    hospitals = [Hospital(root, name) for name in ("bern", "graz", "ulm")]
    acquaint(*hospitals)
    return hospitals


def second(first, *hospitals, **changes):
    return rules_of(*hospitals, **{"version": 2, "prev": charter.digest(first).hex(), **changes})


def test_charters_that_follow_each_other(tmp_path):
    bern, graz, ulm = three(tmp_path)
    first = rules_of(bern, graz, ulm)
    adopt(bern, first, bern, graz, ulm)
    adopt(bern, second(first, bern, graz, ulm), graz, ulm)
    bern.train()
    bern.publish()
    assert said(audit_of(bern)) == NOTHING


@pytest.mark.parametrize(
    ("changes", "signers"),
    [
        ({}, (0,)),
        ({"prev": "11" * 32}, (0, 1, 2)),
        ({"version": 3}, (0, 1, 2)),
        ({"expires_ms": 5}, (0, 1, 2)),
        ({"name": "sea"}, (0, 1, 2)),
    ],
    ids=["below threshold", "wrong prev", "skipped", "expired", "elsewhere"],
)
def test_a21_a_charter_that_may_not_follow(tmp_path, changes, signers):
    hospitals = three(tmp_path)
    first = rules_of(*hospitals)
    adopt(hospitals[0], first, *hospitals)
    rules = second(first, *hospitals, **changes)
    adopt(hospitals[0], rules, *(hospitals[at] for at in signers))
    assert said(audit_of(hospitals[0])) == known("a21")


def test_a21_a_first_charter_that_a_founder_did_not_sign(tmp_path):
    bern, graz, ulm = three(tmp_path)
    adopt(bern, rules_of(bern, graz, ulm), bern, graz)
    assert said(audit_of(bern)) == known("a21")


def test_a_member_signs_charters_with_the_key_that_it_has_now(tmp_path):
    bern, graz, ulm = three(tmp_path)
    change_key(bern, KeyRotate, "art")
    rules = rules_of(bern, graz, ulm)
    sealed = charter.sign(rules, [one.keys["art"] for one in (bern, graz, ulm)])
    envelope, digest = bern.journal.blobs.put(sealed), charter.digest(rules)
    bern.journal.append([
        CharterVote(charter=digest, version=1, envelope=envelope),
        CharterAdopt(charter=digest, version=1, envelope=envelope),
    ])  # fmt: skip
    assert said(audit_of(bern)) == NOTHING


def test_a21_one_key_that_signs_often_is_one_member(tmp_path):
    bern, graz, ulm = three(tmp_path)
    first = rules_of(bern, graz, ulm)
    adopt(bern, first, bern, graz, ulm)
    adopt(bern, second(first, bern, graz, ulm), bern, bern, bern)
    assert said(audit_of(bern)) == known("a21")


def test_a21_entries_under_a_charter_that_was_never_adopted(tmp_path):
    bern, graz, ulm = three(tmp_path)
    adopt(bern, rules_of(bern, graz, ulm), bern, graz, ulm)
    bern.close()
    bern.charter = D
    bern.reopen()
    bern.train()
    assert said(audit_of(bern)) == known("a21")


def test_a21_published_under_an_expired_charter(tmp_path):
    bern, graz, ulm = three(tmp_path)
    ends = bern.clock.now + 50
    adopt(bern, rules_of(bern, graz, ulm, expires_ms=ends), bern, graz, ulm)
    bern.train()
    bern.clock.now = ends
    bern.publish()
    assert said(audit_of(bern)) == known("a21")


def test_a21_two_votes_for_one_version(tmp_path):
    bern, graz, ulm = three(tmp_path)
    for name in ("alps", "sea"):
        rules = rules_of(bern, graz, ulm, name=name)
        sealed = bern.journal.blobs.put(charter.sign(rules, [bern.keys["art"]]))
        digest = charter.digest(rules)
        bern.journal.append([CharterVote(charter=digest, version=1, envelope=sealed)])
    assert said(audit_of(bern)) == known("a21", "fork")


def test_a21_two_charters_of_one_version_in_one_log(tmp_path):
    hospitals = three(tmp_path)
    first = rules_of(*hospitals)
    adopt(hospitals[0], first, *hospitals)
    adopt(hospitals[0], rules_of(*hospitals, expires_ms=2**49), *hospitals)
    found = audit_of(hospitals[0])
    assert codes(found) == {pinned("a21")["code"], pinned("a21", "fork")["code"]}
    assert found.exit_code() == 3


def test_where_a_charter_is_missing_nothing_is_concluded_from_what_follows(tmp_path):
    bern, graz, ulm = three(tmp_path)
    first = rules_of(bern, graz, ulm)
    adopt(bern, first, bern, graz, ulm)
    envelope = bern.journal.entry(bern.journal.size - 1).b.envelope
    given = credential(bern, ulm, first, bern, graz)
    bern.journal.append([MemberAdd(node=ulm.node, credential=given, effective_ms=9)])
    adopt(bern, second(first, bern, graz, ulm), bern, graz)
    bern.train()
    bern.publish()
    bern.close()
    bern.journal.blobs.path(envelope).unlink()
    assert codes(verify_home(bern.home)) == {"blob.missing"}


def test_a21_one_member_under_two_charters_of_one_version_in_two_homes(tmp_path):
    bern, graz, ulm = three(tmp_path)
    adopt(bern, rules_of(bern, ulm), bern, ulm)
    adopt(graz, rules_of(graz, ulm), graz, ulm)
    found = audit_of(bern, graz)
    assert said(found) == known("a21", "fork")
    assert ulm.node in found.findings[0].message


def credential(hospital, of, rules, *signers, verdict="add", **changes):
    """The digest of a verdict about a node, kept by the hospital."""
    document = Verdict(
        charter=charter.digest(rules).hex(), node=of.node, genesis=sha256(of.author.entry).hex(),
        verdict=verdict, effective_ms=9,
    )  # fmt: skip
    document = msgspec.structs.replace(document, **changes)
    return hospital.journal.blobs.put(charter.sign(document, [one.keys["art"] for one in signers]))


@pytest.mark.parametrize(
    ("signers", "changes", "good"),
    [
        ((0, 1), {}, True),
        ((0, 2), {}, False),
        ((2,), {}, False),
        ((0, 1), {"charter": "11" * 32}, False),
        ((0, 1), {"verdict": "remove"}, False),
        ((0, 1), {"node": "b" * 32}, False),
    ],
)
def test_a21_members_join_by_the_word_of_others(tmp_path, signers, changes, good):
    hospitals = three(tmp_path)
    bern, graz, ulm = hospitals
    rules = rules_of(bern, graz)
    adopt(bern, rules, bern, graz)
    given = credential(bern, ulm, rules, *(hospitals[at] for at in signers), **changes)
    bern.journal.append([MemberAdd(node=ulm.node, credential=given, effective_ms=9)])
    found = audit_of(bern)
    assert said(found) == (NOTHING if good else known("a21", "member"))


def test_a21_a_member_without_a_charter_that_could_know_it(tmp_path):
    bern, graz, ulm = three(tmp_path)
    given = credential(bern, ulm, rules_of(bern, graz), bern, graz)
    bern.journal.append([MemberAdd(node=ulm.node, credential=given, effective_ms=9)])
    assert said(audit_of(bern)) == known("a21", "member")


# --- A22: keys --------------------------------------------------------------------------------


def test_keys_change_in_good_order(tmp_path):
    bern, graz = two(tmp_path)
    bern.train()
    graz.receive(bern.publish(), bern.author)
    change_key(bern, KeyRotate, "art")
    graz.receive(bern.publish(), bern.author)
    old = bern.keys["log"]
    new = change_key(bern, KeyRotate, "log")
    sign_again(bern, old, new)
    graz.close()
    assert said(audit_of(bern, graz)) == NOTHING
    assert codes(verify_home(graz.home)) == {pinned("a22", "received")["code"]}
    mirrored(bern, graz)
    assert said(verify_home(graz.home)) == NOTHING


def test_a_proof_under_a_newer_log_key_is_read_with_it(tmp_path):
    bern, graz = two(tmp_path)
    bern.train()
    old = bern.keys["log"]
    new = change_key(bern, KeyRotate, "log")
    sent = bern.publish()
    note = (bern.home / "ledger" / "checkpoint").read_bytes()
    sign_again(bern, old, new)
    newer = (bern.home / "ledger" / "checkpoint").read_bytes()
    shown = proof.decode(sent.proof)
    assert shown.checkpoint == note
    true = msgspec.structs.replace(sent, proof=sent.proof.replace(note, newer))
    graz.receive(true, old_and_new(bern, new))
    assert said(audit_of(bern, graz)) == NOTHING
    graz.reopen()
    graz.receive(sent, bern.author)
    found = audit_of(bern, graz)
    assert codes(found) == {"receive.proof"}


def old_and_new(hospital, log):
    """The author as a receiver who knows its newest log key."""
    keys = {**hospital.author.keys, "log": log.public}
    return msgspec.structs.replace(hospital.author, keys=keys)


def test_a22_a_change_that_the_recovery_key_did_not_sign(tmp_path):
    bern, _ = two(tmp_path)
    change_key(bern, KeyRotate, "art", rec=bern.keys["art"])
    assert said(audit_of(bern)) == known("a22")


def test_a22_published_with_a_key_that_is_not_in_force_yet_or_any_more(tmp_path):
    bern, graz = two(tmp_path)
    bern.train()
    old = bern.keys
    change_key(bern, KeyRotate, "art")
    new, bern.keys = bern.keys, old
    bern.publish()
    assert said(audit_of(bern)) == known("a22", "void")
    graz.train()
    graz.keys = new
    release(graz)
    assert said(audit_of(graz)) == known("a22", "void")


def test_a22_what_a_stolen_key_published_is_void_for_everybody(tmp_path):
    bern, graz = two(tmp_path)
    bern.train()
    good = bern.journal.size
    graz.receive(bern.publish(), bern.author)
    assert codes(verify_home(bern.home)) == set()
    change_key(bern, KeyRevoke, "art", good=good)
    bern.close()
    graz.close()
    assert said(verify_home(bern.home)) == known("a22", "revoked")
    assert said(verify_home(graz.home)) == NOTHING
    both = audit_of(bern, graz)
    assert {one.code for one in both.findings} == {
        pinned("a22", "revoked")["code"], pinned("a22", "believed")["code"],
    }  # fmt: skip
    assert both.exit_code() == pinned("a22", "believed")["exit"]


def test_a22_a_checkpoint_by_the_key_before(tmp_path):
    bern, _ = two(tmp_path)
    change_key(bern, KeyRotate, "log")
    assert said(audit_of(bern)) == known("a22", "checkpoint")


# --- A23: withdrawal --------------------------------------------------------------------------


@pytest.fixture
def withdrawn(tmp_path):
    """Bern mixed an artifact of Graz, uses the mix, and Graz withdraws the artifact."""
    bern, graz = two(tmp_path)
    bern.train()
    graz.train()
    sent = graz.publish()
    bern.receive(sent, graz.author)
    bern.mix([sent])
    bern.journal.append([use(ModelDeploy, bern.model)])
    return bern, graz, sent


def withdraw(graz, art, *, within=100):
    """The index of the withdrawal."""
    body = ArtifactWithdraw(
        art=art, reason="consent", scope="all", deadline_ms=graz.clock.now + within
    )
    return graz.journal.append([body])[0].index


def answer(bern, graz, index, action, *, before=(), after=(), legal=None):
    body = WithdrawAck(
        node=graz.node, index=index, action=action, legal=legal, before=list(before),
        after=list(after),
    )  # fmt: skip
    bern.journal.append([body])


def unlearned(bern, old):
    """A model from which something was taken out."""
    new = sha256(b"without it")
    check = bern.journal.blobs.put(b"how we know")
    bern.journal.append([UnlearnDone(old=old, new=new, method="linear", verification=check)])
    return new


def test_a_withdrawal_that_is_answered_in_time_and_truly(withdrawn):
    bern, graz, sent = withdrawn
    index = withdraw(graz, sent.art)
    new = unlearned(bern, bern.model)
    bern.journal.append([use(ModelDeploy, new), use(ModelRetire, bern.model)])
    answer(bern, graz, index, "removed_exact", before=[bern.model], after=[new])
    assert said(audit_of(bern, graz)) == NOTHING


def test_a_withdrawal_that_is_refused_by_law(withdrawn):
    bern, graz, sent = withdrawn
    answer(bern, graz, withdraw(graz, sent.art), "refused", legal="mdr.10")
    bern.clock.now += 500
    bern.journal.append([PeerSuspect(node=graz.node, kind="consistency", evidence=None)])
    assert said(audit_of(bern, graz)) == NOTHING


def test_a23_a_withdrawn_artifact_in_a_deployed_model(withdrawn):
    bern, graz, sent = withdrawn
    index = withdraw(graz, sent.art)
    answer(bern, graz, index, "rolled_back", before=[bern.model], after=[bern.before])
    assert said(audit_of(bern, graz)) == known("a23")


def test_a23_an_answer_that_never_came(withdrawn):
    bern, graz, sent = withdrawn
    bern.journal.append([use(ModelRetire, bern.model)])
    withdraw(graz, sent.art)
    assert codes(audit_of(bern, graz)) == set()
    bern.clock.now += 500
    bern.reopen()
    bern.journal.append([PeerSuspect(node=graz.node, kind="consistency", evidence=None)])
    assert said(audit_of(bern, graz)) == known("a23", "missing")


def test_a23_an_answer_that_came_too_late(withdrawn):
    bern, graz, sent = withdrawn
    index = withdraw(graz, sent.art)
    bern.clock.now += 500
    answer(bern, graz, index, "refused", legal="mdr.10")
    assert said(audit_of(bern, graz)) == known("a23", "late")


def test_a23_removed_is_claimed_with_training_above(withdrawn):
    bern, graz, sent = withdrawn
    bern.journal.append([use(ModelRetire, bern.model)])
    bern.train()
    new = unlearned(bern, bern.model)
    index = withdraw(graz, sent.art)
    answer(bern, graz, index, "removed_exact", before=[bern.model], after=[new])
    found = audit_of(bern, graz)
    assert said(found) == known("a23", "claim")
    assert "training" in found.findings[0].message


@pytest.mark.parametrize("action", ["not_used", "refused", "retrained"])
def test_a23_an_answer_that_cannot_be_true(withdrawn, action):
    bern, graz, sent = withdrawn
    bern.journal.append([use(ModelRetire, bern.model)])
    answer(bern, graz, withdraw(graz, sent.art), action, after=[bern.model])
    assert said(audit_of(bern, graz)) == known("a23", "claim")


def test_a23_an_answer_to_no_withdrawal_and_a_foreign_artifact(withdrawn):
    bern, graz, sent = withdrawn
    answer(bern, graz, 1, "refused", legal="mdr.10")
    assert said(audit_of(bern, graz)) == known("a23", "claim")
    bern.reopen()
    withdraw(bern, sent.art, within=10**9)
    assert said(verify_home(bern.home)) == known("a23", "foreign")


# --- A24, A25: bodies that go -----------------------------------------------------------------


def redact(hospital, index, *, leaf=None):
    at = index if index < hospital.journal.size else 2
    word = word_of_redaction(hospital.journal, at, index=index)
    if leaf is not None:
        word = msgspec.structs.replace(word, leaf=leaf)
    hospital.journal.append([word])


def suspected(root):
    """A hospital with an entry that may be pruned, at index 2."""
    bern, _ = two(root)
    bern.journal.append([PeerSuspect(node="b" * 32, kind="consistency", evidence=None)])
    return bern


def test_a_body_may_go_when_its_time_is_over(tmp_path):
    bern = suspected(tmp_path)
    bern.clock.now += RETENTION_MS
    redact(bern, 2)
    assert said(audit_of(bern)) == NOTHING
    prune(bern.home, 2)
    found = verify_home(bern.home)
    assert said(found) == NOTHING
    assert found.ledgers[0].redacted == 1
    assert "structure verified, 1 bodies redacted" in found.lines()[0]


def test_a_body_may_go_from_a_bundle_too(tmp_path):
    bern = suspected(tmp_path)
    for _ in range(30):
        word = PeerSuspect(node="b" * 32, kind="consistency", evidence=None)
        bern.journal.append([word] * 10)
    bern.clock.now += RETENTION_MS
    for index in (2, 200):
        redact(bern, index)
    bern.close()
    prune(bern.home, 2, 200, 201)
    found = verify_home(bern.home)
    assert [(one.code, one.index) for one in found.findings] == [("entry.pruned", 201)]
    assert found.ledgers[0].redacted == 2
    tile = bern.home / "ledger" / "tile" / "0" / "000"
    data = bytearray(tile.read_bytes())
    data[200 * 32] ^= 1
    tile.write_bytes(data)
    assert verify_home(bern.home).exit_code() == 3


def test_what_a_recovery_lost_is_explained_by_the_start_after_it(tmp_path):
    bern = suspected(tmp_path)
    state = {"size": bern.journal.size, "root": bern.journal.root}
    bern.journal.append([NodeBoot(software=D, peers=[], lost=[Span(first=2, last=2)], **state)])
    bern.close()
    prune(bern.home, 2)
    found = verify_home(bern.home)
    assert [(one.code, one.index) for one in found.findings] == [("entry.lost", 2)]
    assert (found.exit_code(), found.ledgers[0].lost, found.ledgers[0].redacted) == (4, 1, 0)


def test_a_start_from_another_state_is_found(tmp_path):
    bern, _ = two(tmp_path)
    for state in ({"size": 2, "root": D}, {"size": 1, "root": bern.journal.root}):
        bern.journal.append([NodeBoot(software=D, peers=[], lost=[], **state)])
    found = audit_of(bern)
    assert [one.code for one in found.findings] == ["boot.state"] * 2
    assert found.exit_code() == 3


@pytest.mark.parametrize("index", [0, 1, 3, 4, 99])
def test_a24_a_body_that_may_never_go_or_is_not_there(tmp_path, index):
    bern = suspected(tmp_path)
    bern.train()
    bern.clock.now += RETENTION_MS
    redact(bern, index, leaf=None if index < 4 else D)
    assert said(audit_of(bern)) == known("a24")


def test_a24_another_leaf_hash(tmp_path):
    bern = suspected(tmp_path)
    bern.clock.now += RETENTION_MS
    redact(bern, 2, leaf=D)
    assert said(audit_of(bern)) == known("a24")


@pytest.mark.parametrize("gone", [False, True])
def test_a24_inside_the_retention_time(tmp_path, gone):
    bern = suspected(tmp_path)
    bern.clock.now += RETENTION_MS - 10
    redact(bern, 2)
    bern.close()
    if gone:
        prune(bern.home, 2)
    assert said(verify_home(bern.home)) == known("a24")


def test_a24_a_body_that_is_gone_without_a_word(tmp_path):
    bern = suspected(tmp_path)
    bern.close()
    prune(bern.home, 2)
    assert said(verify_home(bern.home)) == known("a24", "pruned")


def test_a24_a_charter_may_ask_for_more(tmp_path):
    bern = Hospital(tmp_path, "bern")
    adopt(bern, rules_of(bern, retention_ms={"peer.suspect": RETENTION_MS + 1_000}), bern)
    bern.journal.append([PeerSuspect(node="b" * 32, kind="consistency", evidence=None)])
    bern.clock.now += RETENTION_MS
    redact(bern, bern.journal.size - 1)
    assert said(audit_of(bern)) == known("a24")


def test_a25_a_salt_used_twice_lets_a_withheld_body_be_guessed(tmp_path):
    bern = suspected(tmp_path)
    salt = bern.journal.entry(2).s
    assert len(salt) == 16
    falsify(bern, lambda plain: plain | {"s": salt})
    assert said(verify_home(bern.home)) == known("a25")


# --- A28: accusations -------------------------------------------------------------------------


def accuse(bern, graz, *notes):
    acquaint(bern, graz)
    evidence = bern.journal.blobs.put(fork.build(*notes))
    bern.journal.append([PeerExposed(node=graz.node, kind="fork", evidence=evidence)])


def head(graz, root, key=None):
    found = checkpoint.Checkpoint(origin=graz.author.origin, size=9, root=root)
    return checkpoint.sign(found, key or graz.keys["log"])


def test_a_fork_that_is_proven_exposes_and_suspends(tmp_path):
    bern, graz = two(tmp_path)
    accuse(bern, graz, head(graz, D), head(graz, bytes(32)))
    evidence = bern.journal.entry(bern.journal.size - 1).b.evidence
    bern.journal.append(
        [MemberSuspend(node=graz.node, credential=None, evidence=evidence, effective_ms=9)]
    )
    assert said(audit_of(bern)) == NOTHING


def test_a28_a_false_accusation(tmp_path):
    bern, graz = two(tmp_path)
    accuse(bern, graz, head(graz, D), head(graz, bytes(32), bern.keys["log"]))
    assert said(audit_of(bern)) == known("a28")


def test_a28_one_history_is_no_fork_and_garbage_is_no_proof(tmp_path):
    bern, graz = two(tmp_path)
    accuse(bern, graz, head(graz, D), head(graz, D))
    evidence = bern.journal.blobs.put(b"trust me")
    bern.journal.append([PeerExposed(node=graz.node, kind="fork", evidence=evidence)])
    assert said(audit_of(bern)) == known("a28")


def test_a_suspicion_needs_no_proof_but_an_unknown_peer_cannot_be_exposed(tmp_path):
    bern, graz = two(tmp_path)
    evidence = bern.journal.blobs.put(b"trust me")
    bern.journal.append([PeerExposed(node=graz.node, kind="fork", evidence=evidence)])
    assert codes(audit_of(bern)) == {"blob.missing"}


# --- A29: at the bedside ----------------------------------------------------------------------


def records(count=3):
    return [
        UseRecord(input=sha256(b"image"), output="no finding", salt=bytes([n]) * 16, ts=n + 1)
        for n in range(count)
    ]


def leaves(data):
    """The leaf hashes in a records file whose records have one length."""
    size = 2 + int.from_bytes(data[:2], "big")
    return [merkle.leaf_hash(data[at + 2 : at + size]) for at in range(0, len(data), size)]


def batch(bern, data):
    """Logs a batch and keeps its records; returns the entry's index and the records' path."""
    root = merkle.root_of(leaves(data))
    path = bern.home / "inference" / root.hex()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    body = InferenceBatch(
        model=bern.model, count=bucket(len(leaves(data))), from_ms=1, to_ms=9, root=root
    )
    return bern.journal.append([body])[0].index, path


def override(bern, index, leaf):
    bern.journal.append([HumanOverride(index=index, leaf=leaf, code="clinician")])


def test_a_batch_and_an_override_of_one_of_its_records(tmp_path):
    bern, _ = two(tmp_path)
    data = write_records(records())
    index, path = batch(bern, data)
    override(bern, index, leaves(data)[1])
    assert said(audit_of(bern)) == NOTHING
    path.unlink()
    assert said(verify_home(bern.home)) == NOTHING


@pytest.mark.parametrize(
    "edited",
    [
        write_records(records(2)),
        write_records([msgspec.structs.replace(one, output="cancer") for one in records()]),
        write_records(records())[:-1],
        write_records([records()[0]] * 3),
        b"",
    ],
    ids=["left out", "edited", "cut", "salt twice", "emptied"],
)
def test_a29_a_batch_edited_after_it_was_committed_to(tmp_path, edited):
    bern, _ = two(tmp_path)
    _, path = batch(bern, write_records(records()))
    path.write_bytes(edited)
    assert said(audit_of(bern)) == known("a29")


def test_a29_an_override_of_what_is_no_record_or_no_batch(tmp_path):
    bern, graz = two(tmp_path)
    index, _ = batch(bern, write_records(records()))
    override(bern, index, D)
    assert said(audit_of(bern)) == known("a29")
    override(graz, 1, D)
    assert said(audit_of(graz)) == known("a29")


def test_version_zero_is_adopted_first_and_without_signatures(tmp_path):
    bern, graz = two(tmp_path)
    bern.journal.append([CharterAdopt(charter=bytes(32), version=0, envelope=None)])
    assert said(audit_of(bern)) == NOTHING
    for _ in range(2):
        graz.journal.append([CharterAdopt(charter=D, version=0, envelope=None)])
    assert said(audit_of(graz)) == known("a21")
