"""Trust in one peer, word for word; and privacy, summed again."""

from __future__ import annotations

import json

import msgspec
import pytest
from ledgers import audit_of, consortium, two

from konsil.protocol import records
from konsil.protocol.digest import sha256
from konsil.protocol.errors import IncompleteError, UsageError
from konsil.protocol.learning_bodies import ArtifactReject, PrivacySpend, TrustUpdate
from konsil.trust import score
from konsil.trust.gate import PENALTY_CAUSE, Penalty
from konsil.trust.questions import budget_views, peer_trust_views
from konsil.trust.questions.budget import budget
from konsil.trust.questions.gathering import gather
from konsil.trust.questions.peer_trust import peer_trust, trusts


def rounds(bern, graz, **changes):
    """One round in which bern judges graz; `changes` falsify the evidence."""
    for one in (bern, graz):
        one.train()
    sent = graz.publish()
    bern.receive(sent, graz.author)
    bern.mix([sent], bern.judge([sent], **changes))
    return sent


def asked(bern, graz):
    audit_of(bern, graz)
    told = gather([bern.home])
    return told, peer_trust(told, told.homes[0], "graz")


def test_everything_follows(tmp_path):
    homes = [one.home for one in consortium(tmp_path, "bern", "graz", "ulm", rounds=3)]
    told = gather(homes)
    for home in told.homes:
        found = trusts(home)
        assert len(found) == 2
        for one in found.values():
            assert [word.round for word in one.words] == [1, 2, 3]
            assert one.faults == one.missing == 0
            for word in one.words:
                assert word.w_e9 == word.judgement.w_e9
                assert word.new_e9 == word.judgement.trust_e9
            lines = peer_trust_views.to_lines(told, one)
            assert lines[-1].endswith("all of it follows")
            data = peer_trust_views.to_data(told, one)
            assert json.loads(json.dumps(data)) == data
            assert data["follows"] is True


def test_of_answers_it_is_told_how_far_they_agree(tmp_path):
    bern, graz = two(tmp_path)
    rounds(bern, graz)
    told, found = asked(bern, graz)
    (*_, word) = found.words
    replace = msgspec.structs.replace
    for kind, said in (("parameters", "the private loss"), ("logits", "is asked of a teacher")):
        judged = replace(word, judgement=replace(word.judgement, kind=kind))
        lines = peer_trust_views.to_lines(told, replace(found, words=(judged,)))
        assert sum(said in line for line in lines) == 1


def test_a_share_that_does_not_follow_is_marked_where_it_stands(tmp_path):
    bern, graz = two(tmp_path)
    rounds(bern, graz)
    rounds(bern, graz, share_e9=5)
    told, found = asked(bern, graz)
    good, bad = found.words
    assert not good.faults
    assert any("share_e9" in fault for fault in bad.faults)
    assert found.faults
    assert any("DOES NOT FOLLOW" in line for line in peer_trust_views.to_lines(told, found))


def test_another_weight_in_the_mix_is_told_with_the_peer(tmp_path):
    bern, graz = two(tmp_path)
    for one in (bern, graz):
        one.train()
    sent = graz.publish()
    bern.receive(sent, graz.author)
    body = bern.mix([sent])
    bern.train()
    bern.mix([sent], (), parts=body.parts)
    _, found = asked(bern, graz)
    assert found.general
    assert all(graz.node in reason for reason in found.general)


def test_missing_evidence_is_said_and_not_computed(tmp_path):
    bern, graz = two(tmp_path)
    rounds(bern, graz)
    update = next(e.b for e in bern.journal.entries() if isinstance(e.b, TrustUpdate))
    name = update.evidence.hex()
    (bern.home / "ledger/blobs/sha256" / name[:2] / name).unlink()
    told, found = asked(bern, graz)
    assert found.missing == 1
    assert found.words[0].judgement is None
    assert any("NOT COMPUTED AGAIN" in line for line in peer_trust_views.to_lines(told, found))
    assert peer_trust_views.to_data(told, found)["updates"][0]["follows"] is None


def test_a_persons_word_and_a_refusal_are_told_in_words(tmp_path):
    bern, graz = two(tmp_path)
    rounds(bern, graz)
    old = bern.scores[graz.node]
    trust = score.trust(old)
    after = score.penalised(old)
    penalty = Penalty(
        node=graz.node, kind="parameters", stage="payload", reasons=("not_finite",),
        env=sha256(b"env"), r_e9=after.r_e9, s_before_e9=old.s_e9, s_after_e9=after.s_e9,
    )  # fmt: skip
    evidence = bern.journal.blobs.put(records.pack(penalty))
    bern.journal.append(
        [
            TrustUpdate(
                node=graz.node, kind="parameters", art=None, old_e9=trust, new_e9=trust,
                cause="operator.mute", evidence=bern.journal.blobs.put(b"word"),
            ),
            ArtifactReject(
                art=None, publisher=graz.node, env=penalty.env, stage="payload",
                reasons=["not_finite"], evidence=evidence,
            ),
            TrustUpdate(
                node=graz.node, kind="parameters", art=None, old_e9=trust,
                new_e9=score.trust(after), cause=PENALTY_CAUSE, evidence=evidence,
            ),
        ]
    )  # fmt: skip
    told, found = asked(bern, graz)
    assert found.faults == 0
    text = "\n".join(peer_trust_views.to_lines(told, found))
    assert "a person's word: no weight is granted from here on" in text
    assert "refused at payload for not_finite" in text
    assert found.words[-1].penalty == penalty


def test_of_whom_nothing_is_said(tmp_path):
    bern, graz = two(tmp_path)
    rounds(bern, graz)
    audit_of(bern, graz)
    told = gather([bern.home, graz.home])
    with pytest.raises(IncompleteError, match="no entry judges bern"):
        peer_trust(told, told.homes[1], "bern")


def spend(hospital, cohort, eps, total):
    body = PrivacySpend(
        dataset=sha256(cohort), mechanism="gaussian", eps_micro=eps, delta_e12=7, rho_e9=3,
        sampling_e9=10, steps=5, cumulative_micro=total,
    )  # fmt: skip
    hospital.journal.append([body])


def test_nothing_spent_says_so(tmp_path):
    bern, graz = two(tmp_path)
    audit_of(bern, graz)
    told = gather([bern.home, graz.home])
    assert budget(told) == ()
    assert "nothing was spent" in budget_views.to_lines(told, ())[0]
    assert budget_views.to_data(told, ()) == {"spent": False, "redacted": 0, "datasets": []}
    with pytest.raises(IncompleteError, match="data set ab"):
        budget(told, "ab")


def test_spends_are_summed_for_each_data_set(tmp_path):
    bern, graz = two(tmp_path)
    spend(bern, b"a", 100_000, 100_000)
    spend(bern, b"b", 5, 5)
    spend(bern, b"a", 50_000, 150_000)
    spend(graz, b"a", 1, 1)
    audit_of(bern, graz)
    told = gather([bern.home, graz.home])
    accounts = budget(told)
    assert [(told.name(one.node), one.eps_micro) for one in accounts] == [
        ("bern", 150_000), ("bern", 5), ("graz", 1),
    ]  # fmt: skip
    assert not any(one.faults for one in accounts)
    assert accounts[0].delta_e12 == 14
    assert accounts[0].rho_e9 == 6
    chosen = budget(told, sha256(b"a").hex()[:8])
    assert [told.name(one.node) for one in chosen] == ["bern", "graz"]
    assert "ε 0.15" in budget_views.to_lines(told, chosen)[0]
    data = budget_views.to_data(told, accounts)
    assert json.loads(json.dumps(data)) == data
    with pytest.raises(UsageError, match="no digest"):
        budget(told, "not hex")


def test_a_running_total_that_does_not_follow_is_marked(tmp_path):
    bern, graz = two(tmp_path)
    spend(bern, b"a", 100, 100)
    spend(bern, b"a", 100, 150)
    spend(bern, b"a", 100, 300)
    audit_of(bern, graz)
    told = gather([bern.home])
    (account,) = budget(told)
    (fault,) = account.faults
    assert "says ε 0.00015, but 0.0002 follows" in fault
    assert sum("DOES NOT FOLLOW" in line for line in budget_views.to_lines(told, (account,))) == 1
