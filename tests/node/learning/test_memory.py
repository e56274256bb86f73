"""Memory: whose model a payload is, told by who handed it in first; which number comes next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from konsil.node.learning.memory import Memory, recall
from konsil.protocol.artifact import KINDS
from konsil.protocol.entries import Entry
from konsil.protocol.learning_bodies import (
    ArtifactIntegrate,
    ArtifactPublish,
    ArtifactReceive,
    ModelBase,
    ModelTrain,
)
from konsil.protocol.node_bodies import LogRedact
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
