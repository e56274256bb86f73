"""The audit of trust: each record goes on where the one before it ended, and nothing else counts.

A node may weigh its peers only by what its own log says: the score so far, the operator's
words, the models of its own training, and who handed in a payload first.
"""

from __future__ import annotations

import pathlib

import pytest
from ledgers import audit_of, codes, two
from trusting import refuse, say

from konsil.protocol.digest import sha256
from konsil.protocol.fields import UNIT_E9
from konsil.protocol.learning_bodies import TrustUpdate
from konsil.trust.audit import verify_home, verify_homes
from konsil.trust.gate import PENALTY_CAUSE
from konsil.trust.report import CODES
from konsil.trust.score import Score


class Pair:
    """Bern receives and judges what Graz publishes."""

    def __init__(self, tmp_path):
        self.bern, self.graz = two(tmp_path)

    def round(self):
        """Both train, and Bern holds the newest of Graz."""
        self.bern.train()
        self.graz.train()
        sent = self.graz.publish()
        self.bern.receive(sent, self.graz.author)
        return sent

    def audit(self):
        self.bern.close()
        return verify_home(self.bern.home)


@pytest.fixture
def pair(tmp_path):
    return Pair(tmp_path)


def found_alone(pair, code):
    found = pair.audit()
    assert codes(found) == {code}
    assert found.exit_code() == CODES[code] == 1
    return found


def test_rounds_refusals_and_words_of_an_honest_node_are_no_finding(pair):
    bern, graz = pair.bern, pair.graz
    bern.mix([pair.round()])
    sent = pair.round()
    refuse(bern, sent)
    refuse(bern, sent)
    bern.mix([sent])
    say(bern, graz.node, "operator.pin")
    sent = pair.round()
    bern.mix([sent], bern.judge([sent], pinned_e9=UNIT_E9))
    say(bern, graz.node, "operator.release")
    bern.mix([pair.round()])
    assert audit_of(bern, graz, replay=True).findings == ()


def test_a_score_that_forgets_is_found(pair):
    pair.bern.mix([pair.round()])
    pair.bern.scores.clear()
    pair.bern.mix([pair.round()])
    pair.bern.mix([pair.round()])
    (finding,) = found_alone(pair, "trust.chain").findings
    assert "r_before" in finding.message


def test_a_refusal_that_is_forgotten_is_found(pair):
    sent = pair.round()
    refuse(pair.bern, sent)
    pair.bern.scores.clear()
    pair.bern.mix([sent])
    found_alone(pair, "trust.chain")


def test_a_penalty_that_forgets_is_found(pair):
    pair.bern.mix([pair.round()])
    pair.bern.scores.clear()
    refuse(pair.bern, pair.round())
    found_alone(pair, "trust.chain")


def test_one_artifact_cannot_count_twice_in_a_round(pair):
    sent = pair.round()
    (first,) = pair.bern.judge([sent])
    pair.bern.journal.append([pair.bern.update(first)])
    pair.bern.scores[sent.publisher] = Score(r_e9=first.r_after_e9, s_e9=first.s_after_e9)
    pair.bern.mix([sent])
    found_alone(pair, "trust.chain")


def test_another_base_rate_than_the_neutral_is_found(pair):
    sent = pair.round()
    pair.bern.mix([sent], pair.bern.judge([sent], base_rate_e9=UNIT_E9))
    found_alone(pair, "trust.chain")


@pytest.mark.parametrize(
    "changes", [{"s_after_e9": 1}, {"node": "b" * 32}, {"kind": "logits"}, {"r_e9": 7}]
)
def test_a_penalty_that_does_not_add_up_is_found(pair, changes):
    refuse(pair.bern, pair.round(), **changes)
    found_alone(pair, "trust.evidence")


def test_a_penalty_that_is_none_is_found(pair):
    sent = pair.round()
    update = TrustUpdate(
        node=sent.publisher, kind="parameters", art=None, old_e9=UNIT_E9 // 2, new_e9=0,
        cause=PENALTY_CAUSE, evidence=pair.bern.journal.blobs.put(b"because"),
    )  # fmt: skip
    pair.bern.journal.append([update])
    found_alone(pair, "trust.evidence")


def second_of(pair):
    """What Graz signs under the number of its last artifact, once more."""
    pair.graz.sequence -= 1
    return pair.graz.publish(pair.graz.store.get(pair.graz.before))


TWICE = ("manifest", "equivocation", "sequence")


def test_both_artifacts_under_one_number_are_shown_by_the_home_that_saw_them(pair):
    first = pair.round()
    second = second_of(pair)
    pair.bern.journal.blobs.put(second.envelope)
    refuse(pair.bern, second, because=TWICE)
    pair.bern.close()
    (finding,) = verify_homes([pair.bern.home]).findings
    assert (finding.code, finding.exit_code) == ("publish.equivocation", 3)
    shown = {pathlib.Path(finding.file).name, pathlib.Path(finding.evidence).name}
    assert shown == {sha256(one.envelope).hex() for one in (first, second)}


def test_whoever_accuses_without_the_two_artifacts_is_found(pair):
    sent = pair.round()
    pair.bern.journal.blobs.put(sent.envelope)
    refuse(pair.bern, sent, because=TWICE)
    found_alone(pair, "trust.refusal")


def test_a_second_artifact_that_is_not_here_leaves_the_audit_incomplete(pair):
    pair.round()
    refuse(pair.bern, second_of(pair), because=TWICE)
    found = pair.audit()
    assert (codes(found), found.exit_code()) == ({"blob.missing"}, 4)


@pytest.mark.parametrize(
    "changes", [{"logged": False}, {"stage": "offer"}, {"reasons": ("size",)}, {"env": None}]
)
def test_a_penalty_without_its_refusal_is_found(pair, changes):
    refuse(pair.bern, pair.round(), **changes)
    found_alone(pair, "trust.refusal")


def test_one_refusal_costs_once(pair):
    sent = pair.round()
    refuse(pair.bern, sent)
    update = pair.bern.journal.entry(pair.bern.journal.size - 1).b
    pair.bern.journal.append([update])
    assert codes(pair.audit()) == {"trust.refusal", "trust.chain"}


def test_a_gate_that_no_operator_set_is_found(pair):
    sent = pair.round()
    pair.bern.mix([sent], pair.bern.judge([sent], pinned_e9=UNIT_E9))
    found_alone(pair, "trust.operator")


def test_a_word_that_was_taken_back_before_the_round_is_none(pair):
    say(pair.bern, pair.graz.node, "operator.pin")
    say(pair.bern, pair.graz.node, "operator.mute")
    sent = pair.round()
    pair.bern.mix([sent], pair.bern.judge([sent], pinned_e9=UNIT_E9))
    found_alone(pair, "trust.operator")


@pytest.mark.parametrize("pinned", [None, 0])
def test_a_word_that_falls_into_a_round_may_wait_for_the_next(pair, pinned):
    sent = pair.round()
    say(pair.bern, pair.graz.node, "operator.mute")
    pair.bern.mix([sent], pair.bern.judge([sent], pinned_e9=pinned))
    sent = pair.round()
    pair.bern.mix([sent], pair.bern.judge([sent], pinned_e9=0))
    assert pair.audit().findings == ()


def test_a_muted_peer_that_is_heard_all_the_same_is_found(pair):
    say(pair.bern, pair.graz.node, "operator.mute")
    pair.bern.mix([pair.round()])
    found_alone(pair, "trust.operator")


@pytest.mark.parametrize("cause", ["operator.mute", "evidence", "mood"])
def test_trust_that_moves_without_evidence_is_found(pair, cause):
    say(pair.bern, pair.graz.node, cause, new_e9=6)
    found_alone(pair, "trust.evidence")


@pytest.mark.parametrize("changes", [{"before": bytes(32)}, {"trained": bytes(32)}, {"round": 7}])
def test_a_judgement_of_another_round_than_the_trained_one_is_found(pair, changes):
    sent = pair.round()
    (record,) = pair.bern.judge([sent], **changes)
    pair.bern.journal.append([pair.bern.update(record)])
    found_alone(pair, "trust.training")


def test_a_mix_into_another_model_than_the_trained_one_is_found(pair):
    sent = pair.round()
    body = pair.bern.mix([sent], base=pair.bern.before)
    assert body.parts[0].art != pair.bern.before
    found_alone(pair, "trust.training")


@pytest.fixture
def copied(pair):
    """Bern holds the same payload from Graz, and later from Ulm."""
    from ledgers import Hospital

    sent = pair.round()
    ulm = Hospital(pair.bern.home.parent, "ulm", clock=pair.bern.clock)
    ulm.receive(sent, pair.graz.author)
    copy = ulm.publish(sent.data)
    pair.bern.receive(copy, ulm.author)
    ulm.close()
    return sent, copy


def test_a_copy_has_no_share_and_the_original_keeps_its_own(pair, copied):
    sent, copy = copied
    judged = pair.bern.judge([copy, sent])
    assert [record.share_e9 for record in judged] == [0, UNIT_E9]
    pair.bern.mix([copy, sent], judged)
    copy_later = pair.bern.judge([copy])
    assert copy_later[0].share_e9 == 0
    assert pair.audit().findings == ()


@pytest.mark.parametrize("share", [0, UNIT_E9])
def test_a_share_against_the_order_of_receipts_is_found(pair, copied, share):
    judged = pair.bern.judge(list(copied), share_e9=share)
    pair.bern.mix(list(copied), judged)
    found_alone(pair, "trust.share")


def test_an_echo_with_a_share_is_found(pair):
    pair.bern.train()
    ours = pair.bern.publish()
    pair.graz.receive(ours, pair.bern.author)
    pair.graz.train()
    echo = pair.graz.publish(ours.data)
    pair.bern.receive(echo, pair.graz.author)
    pair.bern.train()
    pair.bern.mix([echo], pair.bern.judge([echo], share_e9=UNIT_E9))
    found_alone(pair, "trust.share")


def test_where_evidence_is_missing_nothing_is_concluded_from_it(pair):
    bern = pair.bern
    bern.mix([pair.round()])
    sent = pair.round()
    refuse(bern, sent)
    bern.mix([sent])
    for index in range(bern.journal.size):
        body = bern.journal.entry(index).b
        if isinstance(body, TrustUpdate):
            bern.journal.blobs.path(body.evidence).unlink()
            break
    assert codes(pair.audit()) == {"blob.missing"}
