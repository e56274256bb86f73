"""Error feedback: nothing is lost for good, and all who follow hold the same copy."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.knowledge import pack
from konsil.knowledge.compact import feedback, payload
from konsil.knowledge.named import NamedTensors

each_codec = pytest.mark.parametrize("name", ["fp16", "int8", "topk"])


def model(draw: torch.Generator, scale: float = 1.0) -> NamedTensors:
    return NamedTensors(
        {
            "w": scale * torch.randn(6, 70, generator=draw),
            "b": scale * torch.randn(6, generator=draw),
            "seen": torch.randint(0, 99, (), generator=draw),
        }
    )


def zeros(like: NamedTensors) -> NamedTensors:
    return like.map(torch.zeros_like)


@each_codec
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), rounds=st.integers(1, 12))
def test_what_was_sent_and_what_is_owed_sum_to_what_was_due(name, seed, rounds):
    draw = torch.Generator().manual_seed(seed)
    encode, decode = payload.codec(name, share=0.1)
    steps = [model(draw) for _ in range(rounds)]
    owed = received = due = zeros(steps[0])
    for step in steps:
        sent = feedback.send(step, owed, encode, decode)
        assert decode(sent.encoded, step).distance(sent.received) == 0.0
        owed, received, due = sent.owed, received + sent.received, due + step
    assert (received + owed).distance(due) <= 1e-5 * (1 + due.norm())


@each_codec
def test_a_model_that_rests_is_reached(name):
    draw = torch.Generator().manual_seed(5)
    encode, decode = payload.codec(name, share=0.1)
    target, public = model(draw), zeros(model(draw))
    gaps = []
    for _ in range(30):
        _, public = feedback.advance(target, public, encode, decode)
        gaps.append(target.distance(public))
    assert gaps[-1] <= 1e-5 * target.norm()
    assert gaps[-1] <= gaps[9] <= gaps[0] < target.norm()


@each_codec
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_the_copies_of_all_who_follow_are_equal_bit_for_bit(name, seed):
    draw = torch.Generator().manual_seed(seed)
    encode, decode = payload.codec(name, share=0.05)
    word = f"safetensors+delta+{name}+zstd"
    mine = theirs = start = model(draw)
    for _ in range(6):
        now = mine + model(draw, 0.1)
        sent, mine = feedback.advance(now, mine, encode, decode)
        data = payload.write(now - theirs, word, share=0.05)
        assert decode(sent, start).distance(payload.read(data, word, start)) == 0.0
        theirs = feedback.followed(theirs, payload.read(data, word, start))
        assert pack.to_bytes(mine) == pack.to_bytes(theirs)


def test_counters_are_those_of_the_newest_message():
    public = NamedTensors({"w": torch.ones(2), "seen": torch.tensor(1)})
    newer = NamedTensors({"w": torch.ones(2), "seen": torch.tensor(7)})
    moved = feedback.followed(public, newer)
    assert moved["w"].tolist() == [2.0, 2.0]
    assert int(moved["seen"]) == 7
