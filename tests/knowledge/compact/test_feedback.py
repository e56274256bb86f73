"""Error feedback: nothing is lost for good, and all who follow hold the same copy."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.knowledge import pack
from konsil.knowledge.compact import feedback, payload
from konsil.knowledge.compact.payload import NOTHING
from konsil.knowledge.named import NamedTensors
from konsil.protocol.digest import sha256
from konsil.protocol.encoding import encoding_of
from konsil.protocol.errors import LocalProtocolError, ManifestRefused

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
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**31), rounds=st.integers(1, 6))
def test_the_copies_of_all_who_follow_are_equal_bit_for_bit(name, seed, rounds):
    draw = torch.Generator().manual_seed(seed)
    mine = theirs = model(draw)
    now = mine
    for _ in range(rounds):
        now, since = now + model(draw, 0.1), sha256(pack.to_bytes(mine))
        sent = feedback.advance(now, mine, name, since=since, share=0.05)
        mine = sent.public
        theirs = feedback.follow(sent.data, sent.word, theirs, since=since)
        assert pack.to_bytes(mine) == pack.to_bytes(theirs)


@each_codec
def test_tensors_that_rest_are_reached(name):
    draw = torch.Generator().manual_seed(5)
    target, public = model(draw), zeros(model(draw))
    gaps = []
    for _ in range(30):
        public = feedback.advance(target, public, name, since=NOTHING, share=0.1).public
        gaps.append(target.distance(public))
    assert gaps[-1] <= 1e-5 * target.norm()
    assert gaps[-1] <= gaps[9] <= gaps[0] < target.norm()


def test_counters_are_those_of_the_newest_message():
    public = NamedTensors({"w": torch.ones(2), "seen": torch.tensor(1)})
    newer = NamedTensors({"w": torch.full((2,), 3.0), "seen": torch.tensor(7)})
    sent = feedback.advance(newer, public, "int8", since=NOTHING)
    assert torch.allclose(sent.public["w"], newer["w"], atol=0.01)
    assert int(sent.public["seen"]) == 7


def test_it_is_compressed_where_that_is_shorter():
    small = NamedTensors({"w": torch.ones(2)})
    large = NamedTensors({"w": torch.arange(5_000).float()})
    words = [
        feedback.advance(one, zeros(one), "fp16", since=NOTHING).word for one in (small, large)
    ]
    assert words[1] == "safetensors+fp16+zstd"
    assert [encoding_of(word).codec for word in words] == ["fp16", "fp16"]


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 3e38])
def test_what_no_reader_could_follow_is_not_sent(value):
    public = NamedTensors({"w": torch.full((3,), -3e38)})
    with pytest.raises(LocalProtocolError):
        feedback.advance(
            NamedTensors({"w": torch.full((3,), value)}), public, "fp16", since=NOTHING
        )


def test_a_change_that_leads_beyond_all_numbers_is_refused():
    public = NamedTensors({"w": torch.full((3,), 3e38)})
    data = payload.write(public, "safetensors+fp16")
    with pytest.raises(ManifestRefused, match="not finite"):
        feedback.follow(data, "safetensors+fp16", public, since=NOTHING)


def test_what_is_only_compressed_is_no_change():
    model = NamedTensors({"w": torch.arange(4).float()})
    data = payload.write(model, "safetensors+zstd")
    assert feedback.follow(data, "safetensors+zstd", model, since=NOTHING).distance(model) == 0.0
