"""Memory: whose model a payload is, told by who handed it in first."""

from __future__ import annotations

from konsil.node.learning.memory import Memory, recall
from konsil.protocol.entries import Entry
from konsil.protocol.learning_bodies import ArtifactPublish, ArtifactReceive, ModelBase

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
    memory = recall(log, lambda digest: b"", lambda digest: True)
    assert [memory.copied(art, A) for art in (b"base", b"ours", b"model of b")] == [True] * 3
    assert not memory.copied(b"model of b", B)
