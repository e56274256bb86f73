"""Redacted bodies: an honest hospital stays honest by one, and a dishonest one hides nothing.

What a `log.redact` takes away by the rules may be missing for every rule that reads it. It
answers for that one body, of that one type: all else is judged as before.
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
    train_of,
    two,
)
from redacting import (
    D,
    answer,
    batch,
    lived,
    places,
    redact,
    spend,
    suspect,
    train_for,
    unlearn,
    use,
    withdraw,
)
from second import judged
from trusting import refuse, say
from vouched import cosign

from konsil.protocol import entries
from konsil.protocol.charter import ExportRule
from konsil.protocol.digest import sha256
from konsil.protocol.fields import UNIT_E9
from konsil.protocol.learning_bodies import ModelBase
from konsil.protocol.node_bodies import KeyRevoke
from konsil.protocol.office_bodies import HumanOverride
from konsil.trust import lineage_views
from konsil.trust.audit import verify_home, verify_homes
from konsil.trust.export_policy import PolicyState, decide
from konsil.trust.hidden import may_be_pruned
from konsil.trust.lineage import read_lineage
from konsil.trust.questions import budget_views, taint_views
from konsil.trust.questions.budget import budget
from konsil.trust.questions.gathering import gather
from konsil.trust.questions.peer_trust import peer_trust
from konsil.trust.questions.taint import taint
from konsil.trust.redaction import RETENTION_MS

PRUNABLE = [word for word in entries.TYPES if may_be_pruned(word)]


def clean(*homes):
    """Both verifiers find nothing; the report."""
    found = verify_homes(homes)
    assert found.findings == (), [one.line() for one in found.findings]
    assert judged(*homes) == (0, set())
    return found


def found_in(hospital):
    return codes(verify_home(hospital.home))


# --- lawful redactions ------------------------------------------------------------------------


def test_what_may_be_redacted_is_what_no_stranger_needs():
    assert PRUNABLE == [
        "policy.local", "privacy.spend", "trust.update", "withdraw.ack", "unlearn.done",
        "inference.batch", "human.override", "peer.suspect", "peer.clear",
    ]  # fmt: skip


@pytest.mark.parametrize("word", PRUNABLE)
def test_each_body_of_a_type_may_go_alone(tmp_path, word):
    count = len(places(lived(tmp_path)[0], word))
    assert count
    for at in range(count):
        bern, graz = lived(tmp_path / str(at))
        acquaint(bern, graz)
        graz.close()
        redact(bern, places(bern, word)[at])
        found = clean(bern.home, graz.home)
        assert found.ledgers[0].redacted == 1
        assert "1 bodies redacted" in found.lines()[0]
        clean(bern.home)


@pytest.mark.parametrize("word", [*PRUNABLE, "all"])
def test_all_bodies_of_a_type_may_go(tmp_path, word):
    bern, graz = lived(tmp_path)
    acquaint(bern, graz)
    graz.close()
    gone = [at for one in PRUNABLE if word in (one, "all") for at in places(bern, one)]
    redact(bern, *gone)
    assert clean(bern.home, graz.home).ledgers[0].redacted == len(gone)


def test_bodies_in_bundles_may_go_too(tmp_path):
    bern, graz = lived(tmp_path)
    acquaint(bern, graz)
    graz.close()
    gone = [at for one in PRUNABLE for at in places(bern, one)]
    for number in range(30):
        models = [ModelBase(model=sha256(b"%d %d" % (number, at)), source="", licence="", note="")
                  for at in range(10)]  # fmt: skip
        bern.journal.append(models)
    redact(bern, *gone)
    assert (bern.home / "ledger" / "tail.256").exists()
    assert clean(bern.home, graz.home).ledgers[0].redacted == len(gone)


def test_a_body_that_goes_too_early_is_one_finding(tmp_path):
    bern, _ = lived(tmp_path)
    redact(bern, *places(bern, "trust.update")[:1], age_ms=1)
    assert found_in(bern) == {"redact.refused"}


# --- what a redaction does not hide -----------------------------------------------------------


def test_a_redacted_price_hides_no_other_sum(tmp_path):
    bern, _ = two(tmp_path)
    spend(bern, 3)
    gone = bern.journal.size
    spend(bern, 6)
    spend(bern, 9)
    spend(bern, 13)
    redact(bern, gone)
    assert found_in(bern) == {"privacy.sum"}


def test_a_redacted_price_makes_no_sum_smaller(tmp_path):
    bern, _ = two(tmp_path)
    spend(bern, 3)
    gone = bern.journal.size
    spend(bern, 6)
    spend(bern, 5)
    redact(bern, gone)
    assert found_in(bern) == {"privacy.sum"}


def test_a_training_that_names_no_price_is_found_beside_a_redacted_one(tmp_path):
    bern, _ = two(tmp_path)
    gone = bern.journal.size
    spend(bern, 3)
    train_for(bern, D, b"out")
    redact(bern, gone)
    assert found_in(bern) == {"privacy.order"}


RULE = ExportRule(
    kind="parameters", min_cohort=50, min_label_rows=0, mechanisms=(), max_release_micro=9,
    max_total_micro=9, max_delta_e12=9, max_bytes=1 << 20,
)  # fmt: skip


@pytest.mark.parametrize(
    ("spent", "rule", "expected"),
    [(3, RULE, set()), (3, msgspec.structs.replace(RULE, kind="logits"), {"policy.decision"})],
)
def test_a_decision_that_a_redacted_price_entered_is_not_held_against_a_release(
    tmp_path, spent, rule, expected
):
    bern = Hospital(tmp_path, "bern")
    rules = rules_of(bern, export=(rule,))
    digest = adopt(bern, rules, bern)
    gone = bern.journal.size
    spend(bern, spent)
    bern.train()
    state = PolicyState(charter=digest, spent_micro=spent)
    release(bern, policy=lambda manifest: decide(manifest, rules.export, state).digest())
    redact(bern, gone)
    assert found_in(bern) == expected


def test_a_redacted_doubt_explains_no_sum_and_no_model(tmp_path):
    bern, _ = two(tmp_path)
    gone = suspect(bern)
    spend(bern, 4)
    bern.journal.append([train_of(bern, base=D)])
    use(bern, sha256(b"from nowhere"))
    redact(bern, gone)
    assert found_in(bern) == {"privacy.sum", "lineage.gap", "deploy.unknown"}


@pytest.mark.parametrize(("gaps", "expected"), [(1, set()), (2, {"lineage.gap"})])
def test_an_unlearning_made_one_model(tmp_path, gaps, expected):
    bern, _ = two(tmp_path)
    bern.train()
    gone = bern.journal.size
    unlearn(bern, sha256(b"without it"))
    for number in range(gaps):
        base, out = sha256(b"gap %d" % number), sha256(b"out %d" % number)
        bern.journal.append([train_of(bern, base=base, out=out), train_of(bern, base=base)])
        bern.journal.append([train_of(bern, base=out, out=sha256(b"on %d" % number))])
    redact(bern, gone)
    assert found_in(bern) - {"lineage.reused"} == expected
    assert judged(bern.home)[1] - {"lineage.reused"} == expected


def test_an_unlearning_explains_nothing_before_it(tmp_path):
    bern, _ = two(tmp_path)
    bern.train()
    bern.journal.append([train_of(bern, base=D)])
    gone = bern.journal.size
    unlearn(bern, sha256(b"without it"))
    redact(bern, gone)
    assert found_in(bern) == judged(bern.home)[1] == {"lineage.gap"}


@pytest.mark.parametrize(("asked", "expected"), [(1, set()), (2, {"withdraw.missing"})])
def test_an_answer_was_to_one_withdrawal(tmp_path, asked, expected):
    bern, graz = two(tmp_path)
    for _ in range(asked):
        graz.train()
        index = withdraw(graz, graz.publish().art)
    graz.close()
    gone = bern.journal.size
    answer(bern, graz, index)
    redact(bern, gone)
    assert codes(verify_homes([bern.home, graz.home])) == expected


def test_an_answer_that_came_after_the_deadline_answers_nothing(tmp_path):
    bern, graz = two(tmp_path)
    graz.train()
    index = withdraw(graz, graz.publish().art)
    graz.close()
    bern.clock.now += 200_000
    gone = bern.journal.size
    answer(bern, graz, index)
    redact(bern, gone)
    assert codes(verify_homes([bern.home, graz.home])) == {"withdraw.missing"}


class Rounds:
    """Bern receives, judges and mixes what Graz publishes."""

    def __init__(self, root):
        self.bern, self.graz = two(root)

    def arrived(self):
        self.bern.train()
        self.graz.train()
        sent = self.graz.publish()
        self.bern.receive(sent, self.graz.author)
        return sent


def test_scores_are_held_against_each_other_again_behind_a_redacted_record(tmp_path):
    pair = Rounds(tmp_path)
    for number in range(3):
        if number == 2:
            pair.bern.scores.clear()
        pair.bern.mix([pair.arrived()])
    redact(pair.bern, places(pair.bern, "trust.update")[0])
    assert found_in(pair.bern) == {"trust.chain"}


def test_a_word_counts_again_behind_a_redacted_record(tmp_path):
    pair = Rounds(tmp_path)
    say(pair.bern, pair.graz.node, "operator.pin")
    say(pair.bern, pair.graz.node, "operator.mute")
    sent = pair.arrived()
    pair.bern.mix([sent], pair.bern.judge([sent], pinned_e9=UNIT_E9))
    redact(pair.bern, places(pair.bern, "trust.update")[0])
    assert found_in(pair.bern) == {"trust.operator"}


def test_a_redacted_record_answers_for_no_part_of_another_round(tmp_path):
    pair = Rounds(tmp_path)
    pair.bern.mix([pair.arrived()])
    sent = pair.arrived()
    judged_now = pair.bern.judge([sent])
    pair.bern.update = lambda record: None
    parts = pair.bern.journal.append
    pair.bern.journal.append = lambda bodies: parts([one for one in bodies if one is not None])
    pair.bern.mix([sent], judged_now)
    pair.bern.journal.append = parts
    redact(pair.bern, places(pair.bern, "trust.update")[0])
    assert found_in(pair.bern) == {"integrate.weight"}


def test_a_penalty_without_its_refusal_is_found_behind_a_redacted_record(tmp_path):
    pair = Rounds(tmp_path)
    sent = pair.arrived()
    refuse(pair.bern, sent)
    refuse(pair.bern, sent, logged=False)
    redact(pair.bern, places(pair.bern, "trust.update")[0])
    assert found_in(pair.bern) == {"trust.refusal"}


def test_an_override_names_the_batch_that_was_redacted_and_no_other(tmp_path):
    bern, _ = two(tmp_path)
    gone = batch(bern)
    bern.journal.append([HumanOverride(index=1, leaf=D, code="clinician")])
    redact(bern, gone)
    assert found_in(bern) == {"inference.root"}


def test_a_redacted_entry_keeps_its_time(tmp_path):
    bern, _ = two(tmp_path)
    gone = bern.journal.size
    doubt = {"node": "b" * 32, "kind": "consistency", "evidence": None}
    falsify(bern, lambda plain: {**plain, "b": doubt, "t": "peer.suspect", "ts": plain["ts"] - 9})
    bern.reopen()
    redact(bern, gone)
    assert found_in(bern) == judged(bern.home)[1] == {"entry.time"}


# --- answers --------------------------------------------------------------------------------


def test_answers_that_need_a_redacted_body_say_so(tmp_path):
    bern, graz = lived(tmp_path)
    graz.close()
    redact(bern, places(bern, "privacy.spend")[0], places(bern, "unlearn.done")[0])
    told = gather([bern.home])
    (account,) = budget(told)
    assert (account.eps_micro, account.faults) == (6, ())
    first, *_ = budget_views.to_lines(told, (account,))
    assert first.startswith("redacted: 1 privacy.spend of bern; ")
    assert told.lacking() == ""
    words, _ = taint_views.missing(told, taint(told, bern.model.hex()))
    assert "redacted: 1 unlearn.done of bern" in words


def test_a_line_that_begins_behind_a_redacted_unlearning_says_so(tmp_path):
    bern, _ = lived(tmp_path)
    redact(bern, places(bern, "unlearn.done")[0])
    told = read_lineage([bern.home])
    found = told.contributors(sha256(b"went on"))
    message, _ = lineage_views.missing(told, found)
    assert message == "what made 1 ancestor may be redacted by bern"


def test_nothing_is_not_what_was_spent_when_all_prices_are_redacted(tmp_path):
    bern, _ = two(tmp_path)
    spend(bern, 3)
    redact(bern, bern.journal.size - 1)
    told = gather([bern.home])
    (line,) = budget_views.to_lines(told, budget(told))
    assert budget_views.to_data(told, ())["redacted"] == 1
    assert line.startswith("redacted: 1 privacy.spend of bern")


@pytest.mark.parametrize("at", range(4))
def test_an_answer_about_trust_finds_nothing_behind_a_redacted_record(tmp_path, at):
    bern, graz = lived(tmp_path)
    acquaint(bern, graz)
    redact(bern, places(bern, "trust.update")[at])
    told = gather([bern.home])
    assert peer_trust(told, told.homes[0], "graz").faults == 0


def test_an_answer_from_a_ledger_that_hides_a_revocation_says_what_is_lacking(tmp_path):
    bern, _, _, gone = revoked(tmp_path)
    redact(bern, gone)
    assert gather([bern.home]).lacking() == "not here: 1 entry of bern"


# --- what may never go ------------------------------------------------------------------------


def revoked(root):
    """Bern published, and then revoked the key that signed it; where the two entries stand."""
    bern, graz = two(root)
    bern.train()
    sent = bern.publish()
    at = bern.journal.size - 1
    graz.receive(sent, bern.author)
    change_key(bern, KeyRevoke, "art", good=at)
    return bern, graz, at, bern.journal.size - 1


@pytest.mark.parametrize("lie", [{}, {"kind": "peer.suspect"}, {"front": D}])
def test_a_revocation_cannot_be_redacted_away(tmp_path, lie):
    bern, _, _, gone = revoked(tmp_path)
    redact(bern, gone, **lie)
    assert found_in(bern) == {"redact.refused", "entry.pruned"}
    assert verify_home(bern.home).exit_code() == 4
    assert judged(bern.home) == (4, {"entry.pruned"})


def test_whoever_mirrors_a_hidden_revocation_is_not_the_one_who_fails(tmp_path):
    bern, graz, _, gone = revoked(tmp_path)
    acquaint(bern, graz)
    suspect(bern)
    bern.journal.sign_checkpoint()
    mirrored(bern, graz)
    graz.close()
    redact(bern, gone)
    found = verify_homes([bern.home, graz.home])
    assert [one.verified for one in found.ledgers] == [False, True]
    assert judged(bern.home, graz.home)[0] == 4


@pytest.mark.parametrize("word", [
    "node.genesis", "model.base", "model.train", "artifact.publish", "artifact.receive",
    "artifact.reject", "artifact.integrate", "model.deploy", "log.redact",
])  # fmt: skip
def test_nothing_that_a_stranger_needs_goes_under_a_false_name(tmp_path, word):
    bern, _ = lived(tmp_path)
    gone = suspect(bern)
    if word == "log.redact":
        bern.clock.now += RETENTION_MS
        gone = bern.journal.size
        redact(bern, gone - 1)
        bern.reopen()
    else:
        gone = places(bern, word)[0]
    redact(bern, gone, kind="peer.suspect")
    for code, found in (
        (verify_home(bern.home).exit_code(), found_in(bern)), judged(bern.home)
    ):  # fmt: skip
        assert code in (3, 4)
        assert "entry.pruned" in found


def test_a_word_about_a_later_entry_explains_nothing(tmp_path):
    bern, _ = two(tmp_path)
    gone = suspect(bern)
    bern.clock.now += RETENTION_MS
    redact(bern, gone, index=99)
    assert found_in(bern) == {"redact.refused", "entry.pruned"}
    assert judged(bern.home) == (4, {"entry.pruned"})


def test_a_word_that_others_saw_early_is_not_old_because_it_says_so(tmp_path):
    bern, *others = (Hospital(tmp_path, name) for name in ("bern", "graz", "ulm"))
    acquaint(bern, *others)
    gone = suspect(bern)
    now_s = bern.clock.now // 1_000
    redact(bern, gone)
    bern.reopen()
    cosign(bern, dict.fromkeys(others, now_s + 10))
    bern.close()
    assert found_in(bern) == {"cosigned.time", "redact.refused"}


def test_a_body_that_went_without_a_word_is_found(tmp_path):
    bern, _ = two(tmp_path)
    gone = suspect(bern)
    assert audit_of(bern).findings == ()
    prune(bern.home, gone)
    assert found_in(bern) == {"entry.pruned"}
