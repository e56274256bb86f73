"""Memory: whose model a payload is, told by who handed it in first; which number comes next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import change_key, two
from trusting import refuse

from konsil.node.learning.memory import Memory, Standing, recall
from konsil.protocol.artifact import KINDS
from konsil.protocol.entries import Entry
from konsil.protocol.learning_bodies import (
    ArtifactIntegrate,
    ArtifactPublish,
    ArtifactReceive,
    ModelBase,
    ModelTrain,
)
from konsil.protocol.node_bodies import KeyRotate, LogRedact
from konsil.trust import score
from konsil.trust.gate import Penalty
from konsil.trust.integrate import ANSWERS

A, B, D = "a" * 32, "b" * 32, bytes(32)


def test_a_payload_belongs_to_who_handed_it_in_first():
    memory = Memory()
    memory.received(b"model of b", B)
    memory.received(b"model of b", A)
    assert memory.copied(b"model of b", A)
    assert not memory.copied(b"model of b", B)
    assert not memory.copied(b"never seen", A)


def test_what_everybody_has_from_us_is_a_copy_from_anybody():
    memory = Memory()
    memory.begin(b"base")
    memory.published(1, b"ours")
    memory.received(b"ours", B)
    assert memory.copied(b"ours", B)
    assert memory.copied(b"base", A)
    memory.received(b"model of b", B)
    memory.published(2, b"model of b")
    assert not memory.copied(b"model of b", B)


def test_the_ledger_alone_tells_who_was_first():
    def receive(art, publisher):
        return ArtifactReceive(
            art=art, publisher=publisher, env=D, index=1, size=2, root=D, proof=D
        )

    publish = ArtifactPublish(
        art=b"ours", chunk_root=D, kind="parameters", size=1, env=D, derived_from=[],
        knowledge=None, policy=None, sequence=1,
    )  # fmt: skip
    bodies = [
        ModelBase(model=b"base", source="seed", licence="", note=""), publish,
        receive(b"model of b", B), receive(b"model of b", A),
    ]  # fmt: skip
    log = [Entry(b=body, c=D, n=n, s=b"", t="", ts=0) for n, body in enumerate(bodies)]
    memory = recall(log, lambda digest: b"", lambda digest: True, len(log))
    assert [memory.copied(art, A) for art in (b"base", b"ours", b"model of b")] == [True] * 3
    assert not memory.copied(b"model of b", B)


def test_the_ledger_alone_tells_what_the_model_was_made_from():
    def train(number, base, out):
        return ModelTrain(
            base=base, out=out, data=D, cohort=0, recipe=D, code=D, env=D, round=number,
            privacy=None,
        )  # fmt: skip

    mix = ArtifactIntegrate(
        base=b"one", out=b"mixed", rule="evidence-gated/1", parts=[], not_mixed=[],
        before=D, after=D, reason="mixed", round=1,
    )  # fmt: skip
    bodies = [
        ModelBase(model=b"base", source="seed", licence="", note=""),
        train(1, b"base", b"one"), mix, train(2, b"mixed", b"two"),
    ]  # fmt: skip
    told = []
    for size in range(1, len(bodies) + 1):
        log = [entry_of(n, body) for n, body in enumerate(bodies[:size])]
        memory = recall(log, lambda digest: b"", lambda digest: True, size)
        told.append((memory.model, memory.source, memory.began))
    assert told == [
        (b"base", b"base", b"base"),
        (b"one", b"base", b"base"),
        (b"mixed", b"one", b"base"),
        (b"two", b"mixed", b"mixed"),
    ]


@given(st.sampled_from(KINDS), st.sampled_from(KINDS))
def test_a_name_is_kept_over_all_that_is_taken_in_alike(ours, theirs):
    memory = Memory(ours)
    both = {ours, theirs} <= set(ANSWERS)
    assert memory.judged_as(theirs) == (ours if both else theirs)


def entry_of(n, body):
    return Entry(b=body, c=D, n=n, s=b"", t="", ts=0)


def publish(number):
    return ArtifactPublish(
        art=bytes([number]) * 32, chunk_root=D, kind="parameters", size=1, env=D,
        derived_from=[], knowledge=None, policy=None, sequence=number,
    )  # fmt: skip


def sequence_of(bodies, size):
    """The last number that a log of `size` entries leaves, of which only `bodies` are here."""
    log = [entry_of(n, body) for n, body in sorted(bodies.items())]
    return recall(log, lambda digest: b"", lambda digest: True, size).sequence


def redact(index):
    return LogRedact(
        index=index, leaf=D, front=D, kind="inference.batch", written_ms=0, legal="gdpr17",
        authority=D,
    )  # fmt: skip


BASE = ModelBase(model=b"base", source="seed", licence="", note="")


def test_a_lost_entry_behind_the_last_publication_may_have_been_one():
    assert sequence_of({0: BASE, 1: publish(1)}, 2) == 1
    assert sequence_of({0: BASE, 1: publish(1)}, 5) == 4
    assert sequence_of({0: BASE, 1: publish(1), 3: BASE}, 5) == 3
    assert sequence_of({0: BASE}, 3) == 2


def test_a_lost_entry_in_front_of_a_publication_had_a_smaller_number():
    assert sequence_of({0: BASE, 9: publish(4)}, 10) == 4
    assert sequence_of({0: BASE, 9: publish(4)}, 11) == 5


def test_what_was_redacted_was_no_publication():
    assert sequence_of({0: publish(1), 2: BASE, 3: redact(1)}, 4) == 1
    assert sequence_of({0: publish(1), 2: BASE, 4: redact(1)}, 5) == 2


@given(
    st.lists(st.sampled_from(["publish", "other"]), max_size=12),
    st.sets(st.integers(0, 20)),
    st.sets(st.integers(0, 20)),
)
def test_no_number_is_given_out_twice_whatever_is_lost(kinds, gone, later):
    """A node loses bodies, goes on, loses more bodies, and goes on."""
    log, used = {}, []

    def go_on(kinds, here, size):
        for kind in kinds:
            number = sequence_of(here, size) + 1
            body = publish(number) if kind == "publish" else BASE
            used.extend([number] if kind == "publish" else [])
            log[size], here[size] = body, body
            size += 1
        return size

    size = go_on(kinds, {}, 0)
    here = {n: body for n, body in log.items() if n not in gone}
    size = go_on([*kinds, "publish"], here, size)
    left = {n: body for n, body in here.items() if n not in later}
    go_on(["publish"], left, size)
    assert len(set(used)) == len(used)
    assert used == sorted(used)


@pytest.fixture
def pair(tmp_path):
    return two(tmp_path)


def test_kinds_of_artifacts_are_trusted_apart(pair):
    bern, graz = pair
    (record,) = bern.judge([record_and_sent(bern, graz)])
    memory = Memory("logits")
    memory.judge(graz.node, record.art, record)
    assert memory.standing(graz.node, "parameters").score.r_e9 == record.r_after_e9
    assert memory.standing(graz.node) == Standing()
    memory.operate(graz.node, "muted")
    assert {memory.standing(graz.node, kind).operator for kind in ("parameters", "logits")} == {
        "muted"
    }


def test_neither_restart_nor_new_key_nor_replay_raises_trust(pair):
    """The record is the organisation's: whatever it signs with, it is judged as who it was."""
    bern, graz = pair
    bern.mix([record_and_sent(bern, graz)])
    refuse(bern, graz.publish(graz.store.get(graz.before)))
    before = remembered(bern).standing(graz.node)
    assert before.score == bern.scores[graz.node]
    change_key(graz, KeyRotate, "art")
    assert remembered(bern).standing(graz.node) == before
    sent = record_and_sent(bern, graz)
    bern.mix([sent])
    again = remembered(bern).standing(graz.node)
    assert again.contribution.judged == 2
    assert [one.why for one in again.course][1] == "refused at payload for not_finite"
    assert again.course[1].old_e9 > again.course[1].new_e9 == before.trust_e9
    refuse(bern, sent)
    assert remembered(bern).standing(graz.node).trust_e9 < again.trust_e9


def record_and_sent(bern, graz):
    bern.train()
    graz.train()
    sent = graz.publish()
    bern.receive(sent, graz.author)
    return sent


def remembered(bern):
    """What a node knows that starts now."""
    journal = bern.journal
    return recall(journal.entries(), journal.blobs.get, bern.store.has, journal.size)


def refused(memory, *reasons):
    """What a refusal of an artifact of A leaves."""
    before = memory.standing(A).score
    after = score.penalised(before)
    memory.penalise(
        A,
        Penalty(
            node=A, kind="parameters", stage="manifest", reasons=reasons, env=D,
            r_e9=after.r_e9, s_before_e9=before.s_e9, s_after_e9=after.s_e9,
        ),
    )  # fmt: skip


EVENTS = {
    "replay": lambda memory, at: refused(memory, "sequence"),
    "equivocation": lambda memory, at: (
        refused(memory, "equivocation", "sequence"),
        memory.operate(A, "quarantined", at),
    ),
    "a new key or link": lambda memory, at: memory.received(bytes([at]) * 32, A, at, D),
    "a copy": lambda memory, at: memory.received(b"model of b", A, at, D),
    "a release by hand": lambda memory, at: memory.operate(A, None, at),
    "a round on the same day": lambda memory, at: memory.begun_round(at, at),
}


@given(
    st.integers(0, 10**12),
    st.integers(0, 10**12),
    st.lists(st.sampled_from(sorted(EVENTS)), max_size=12),
)
def test_nothing_but_evidence_and_time_ever_raises_trust(r, s, events):
    memory = Memory()
    memory.received(b"model of b", B, 0, D)
    known = Penalty(
        node=A, kind="parameters", stage="manifest", reasons=(), env=D,
        r_e9=r, s_before_e9=s, s_after_e9=s,
    )  # fmt: skip
    memory.penalise(A, known)
    for at, event in enumerate(events, 1):
        before = memory.standing(A).trust_e9
        EVENTS[event](memory, at)
        assert memory.standing(A).trust_e9 <= before
        assert memory.standing(B) == Standing()
