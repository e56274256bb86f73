"""Opinions: bounded whatever is said, direct alone, and computed again by an auditor."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import Clock, Hospital, audit_of, codes
from trusting import say

from konsil.node.learning.memory import recall
from konsil.protocol import knowledge_manifest
from konsil.protocol.knowledge_manifest import KnowledgeManifest, TrustIn
from konsil.trust import score
from konsil.trust.chain import Chain
from konsil.trust.fixed import CEILING_E9, UNIT_E9
from konsil.trust.opinions import Hearing, Opinion, base_rate, opinions_on
from konsil.trust.questions import peer_trust_views
from konsil.trust.questions.gathering import gather
from konsil.trust.questions.peer_trust import peer_trust
from konsil.trust.score import Score

fractions = st.integers(0, UNIT_E9)
opinions = st.builds(Opinion, by=st.just("k"), trust_e9=fractions, said_e9=fractions)
scores = st.builds(Score, r_e9=st.integers(0, CEILING_E9), s_e9=st.integers(0, CEILING_E9))
ROUNDING = 2
"""Of a ratio, in 1e-9."""


@given(scores, st.lists(opinions, max_size=30), st.integers(1, 10**6))
def test_any_number_of_sybils_moves_trust_by_no_more_than_the_bound(one, some, many):
    """The same smear or praise a million times over included."""
    moved = score.trust(one, base_rate([*some, *some[:1] * min(many, 50)])) - score.trust(one)
    bound = UNIT_E9 * UNIT_E9 // 2 // (one.r_e9 + one.s_e9 + 2 * UNIT_E9)
    assert abs(moved) <= bound + ROUNDING


@given(st.lists(opinions, max_size=8), st.integers(0, 7), fractions)
def test_a_better_word_never_lowers_the_base_rate(some, place, better):
    said = [*some]
    if said:
        at = place % len(said)
        old = said[at]
        higher = max(better, old.said_e9)
        said[at] = Opinion(by=old.by, trust_e9=old.trust_e9, said_e9=higher)
    assert base_rate(said) >= base_rate(some)


def test_nobody_is_heard_who_is_not_trusted_beyond_a_newcomer():
    smear = Opinion(by="k", trust_e9=score.NEUTRAL_E9, said_e9=0)
    assert base_rate([smear] * 9) == score.NEUTRAL_E9


def test_nobody_speaks_of_itself_and_what_is_lost_says_nothing():
    words = {b"k": {("k", "parameters"): UNIT_E9, ("j", "parameters"): 7}}
    trusted = Score(r_e9=UNIT_E9)
    of_j = opinions_on("j", "parameters", {"k": b"k"}, words.get, lambda by: trusted)
    assert of_j == (Opinion(by="k", trust_e9=score.trust(trusted), said_e9=7),)
    assert opinions_on("k", "parameters", {"k": b"k"}, words.get, lambda by: trusted) == ()
    assert opinions_on("j", "logits", {"k": b"k"}, words.get, lambda by: trusted) == ()
    assert opinions_on("j", "parameters", {"k": b"gone"}, words.get, lambda by: trusted) is None
    assert opinions_on("j", "parameters", {"k": b"k"}, words.get, lambda by: None) is None


def test_the_newest_word_before_the_training_counts_whatever_comes_first():
    hearing = Hearing()
    hearing.heard(3, "k", b"old")
    hearing.trained(5)
    hearing.heard(6, "k", b"later")
    assert hearing.speakers() == {"k": b"old"}
    hearing.heard(4, "k", b"new, told late")
    assert hearing.speakers() == {"k": b"new, told late"}
    hearing.told(7, "k", hushed=True)
    assert hearing.speakers() == {"k": b"new, told late"}
    hearing.trained(8)
    assert hearing.speakers() == {}
    hearing.told(9, "k", hushed=False)
    hearing.trained(10)
    assert hearing.speakers() == {"k": b"later"}


@given(st.permutations([(1, b"a"), (3, b"b"), (6, b"c"), (7, b"d")]), st.integers(0, 8))
def test_what_is_heard_does_not_depend_on_the_order_of_being_told(told, trained_at):
    late, early = Hearing(), Hearing()
    late.trained(trained_at)
    for index, env in told:
        late.heard(index, "k", env)
    for index, env in sorted(told):
        early.heard(index, "k", env)
    early.trained(trained_at)
    assert late == early
    assert late.speakers() == early.speakers()


class Talk:
    """Bern judges Graz and Ulm; each says what it thinks of the other."""

    def __init__(self, root):
        clock = Clock()
        self.bern, self.graz, self.ulm = (
            Hospital(root, name, clock=clock) for name in ("bern", "graz", "ulm")
        )

    def words(self, said):
        told = [
            TrustIn(node=node, kind="parameters", trust_e9=trust)
            for node, trust in sorted(said.items())
        ]
        data = knowledge_manifest.write(KnowledgeManifest(opinions=tuple(told)))
        return self.bern.journal.blobs.put(data)

    def round(self, said_e9, *, rates=None):
        """A round in which Graz says so much of Ulm, and which Bern weighs by `rates`."""
        bern, sent = self.bern, []
        bern.train()
        bern.base_rates = self.rates() if rates is None else rates
        for one, other in ((self.graz, self.ulm), (self.ulm, self.graz)):
            one.train()
            said = {other.node: said_e9 if one is self.graz else UNIT_E9, one.node: UNIT_E9}
            sent.append(one.publish(knowledge=self.words(said).hex()))
            bern.receive(sent[-1], one.author)
        bern.mix(sent)

    def rates(self):
        """What a daemon makes of Bern's ledger."""
        journal = self.bern.journal
        memory = recall(journal.entries(), journal.blobs.get, self.bern.store.has, journal.size)
        return memory.base_rates_e9([self.graz.node, self.ulm.node], memory.speakers())


@pytest.fixture
def talk(tmp_path):
    talk = Talk(tmp_path)
    for _ in range(3):
        talk.round(0)
    return talk


def test_what_a_daemon_makes_of_opinions_an_auditor_finds_again(talk):
    bern, rates = talk.bern, talk.bern.base_rates
    assert rates[talk.graz.node] > score.NEUTRAL_E9 > rates[talk.ulm.node]
    assert codes(audit_of(bern)) <= {"others.unchecked"}
    told = gather([bern.home])
    found = peer_trust(told, told.homes[0], talk.ulm.node[:12])
    assert found.faults == 0
    (said,) = found.words[-1].opinions
    assert (said.by, said.said_e9) == (talk.graz.node, 0)
    text = "\n".join(peer_trust_views.to_lines(told, found))
    assert "says 0.000" in text


def test_a_base_rate_that_nobodys_words_come_to_is_found(talk):
    wrong = dict.fromkeys(talk.bern.base_rates, score.NEUTRAL_E9 + 1)
    talk.round(0, rates=wrong)
    assert codes(audit_of(talk.bern)) == {"trust.chain"}


def test_who_is_muted_is_not_heard(talk):
    say(talk.bern, talk.graz.node, "operator.mute")
    talk.bern.train()
    assert talk.rates()[talk.ulm.node] == score.NEUTRAL_E9
    assert talk.rates()[talk.graz.node] > score.NEUTRAL_E9


def test_words_that_are_lost_leave_the_base_rate_neutral(talk):
    for entry in talk.bern.journal.entries():
        env = getattr(entry.b, "env", None)
        if entry.t == "artifact.receive":
            talk.bern.journal.blobs.path(env).unlink(missing_ok=True)
    talk.bern.train()
    assert set(talk.rates().values()) == {score.NEUTRAL_E9}


def test_behind_a_redacted_word_no_base_rate_accuses():
    """It may have been the word that hushed one of the speakers."""
    good, kind = 8 * UNIT_E9, "parameters"
    judged = SimpleNamespace(
        node="c", kind=kind, art=b"art", base_rate_e9=score.NEUTRAL_E9 + 1, pinned_e9=None,
        r_before_e9=good, s_before_e9=0, r_after_e9=good, s_after_e9=0, share_e9=UNIT_E9,
        round=2, before=b"before", trained=b"out",
    )  # fmt: skip
    for hidden in (False, True):
        chain = Chain({b"A": {("c", kind): 0}}.__getitem__)
        chain.hearing.heard(1, "a", b"A")
        if hidden:
            chain.hidden()
        chain.trained(4, SimpleNamespace(round=2, base=b"before", out=b"out"), 0)
        told = [message for _, message in chain.judged(judged) if "base_rate" in message]
        assert bool(told) is not hidden
