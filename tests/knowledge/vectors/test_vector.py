"""Data vectors: what training changed, added to a base and taken out again."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from konsil.knowledge import pack, train
from konsil.knowledge.judge import local_names
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.task import Rows, Task
from konsil.knowledge.vectors.vector import applied, between, taken_out
from konsil.protocol.errors import LocalProtocolError, ManifestRefused


def model(seed: int, spread: float = 1.0) -> NamedTensors:
    draw = torch.Generator().manual_seed(seed)
    return NamedTensors(
        {
            "w": spread * torch.randn(3, 4, generator=draw),
            "h": torch.randn(5, generator=draw).half(),
            "n": torch.tensor(seed),
        }
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 99), st.integers(100, 199), st.sampled_from([0.1, 0.3, 1.0, -1.0]))
def test_adding_then_taking_out_gives_the_base(i, j, scale):
    base = model(i).select(["w", "n"])
    vector = between(model(j).select(["w", "n"]), base)
    back = taken_out(applied(base, vector, scale), vector, scale)
    assert base.distance(back) <= 1e-6
    assert float((base["w"] - back["w"]).abs().max()) <= 1e-6
    assert torch.equal(back["n"], base["n"])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.integers(100, 199))
def test_the_vector_leads_from_the_base_to_the_model(i, j):
    base, other = model(i), model(j)
    vector = between(other, base)
    assert set(vector) == {"w", "h"}, "counters never take part"
    there = applied(base, vector)
    assert torch.allclose(there["w"], other["w"], atol=1e-6)
    assert torch.allclose(there["h"].float(), other["h"].float(), atol=1e-2)
    assert there["h"].dtype == torch.float16
    assert int(there["n"]) == i


@given(st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_a_scale_of_zero_changes_no_bit(i):
    base = NamedTensors({**model(i), "w": torch.full((3, 4), -0.0)})
    vector = between(model(i + 1), base)
    assert pack.to_bytes(applied(base, vector, 0.0)) == pack.to_bytes(base)


def test_one_peer_of_a_sum_is_subtracted_again():
    base = model(0).select(["w"])
    mine, other = (between(model(k).select(["w"]), base) for k in (1, 2))
    both = applied(applied(base, mine), other)
    assert torch.allclose(taken_out(both, other)["w"], applied(base, mine)["w"], atol=1e-6)


def test_operands_stay_as_they_were():
    base, other = model(1), model(2)
    before = pack.to_bytes(base), pack.to_bytes(other)
    vector = between(other, base)
    vector_before = pack.to_bytes(vector)
    moved = applied(base, vector, 0.5)
    moved["w"].fill_(7.0)
    assert (pack.to_bytes(base), pack.to_bytes(other)) == before
    assert pack.to_bytes(vector) == vector_before


def test_running_statistics_are_left_out_by_name():
    def make():
        return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))

    draw = torch.Generator().manual_seed(0)
    rows = [
        Rows(
            torch.randn(24, 4, generator=draw) * 5,
            torch.arange(24) % 2,
            [f"{k}{n}" for n in range(24)],
        )
        for k in "ab"
    ]
    toy = Task("toy", ("no", "yes"), make, rows[0], rows[1])
    base = train.initial_model(toy, 1)
    before = pack.to_bytes(base)
    trained = train.train(toy, base, seed=1, node="a", number=1).model
    assert pack.to_bytes(base) == before, "training must not move the base"
    names = local_names(toy, make())
    vector = between(trained, base, names)
    assert set(vector) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    merged = applied(base, vector, 3.0)
    assert all(torch.equal(merged[name], base[name]) for name in names)
    assert float(merged["1.running_var"].min()) > 0
    everything = between(trained, base)
    assert "1.running_var" in everything, "without names they would take part"
    assert "1.num_batches_tracked" not in everything


def test_what_does_not_fit_is_refused():
    base = model(0)
    with pytest.raises(LocalProtocolError, match="'x'"):
        between(model(1), base, ["x"])
    with pytest.raises(LocalProtocolError, match="'h'"):
        between(model(1).select(["w", "n"]), base)
    with pytest.raises(LocalProtocolError, match="shapes"):
        between(NamedTensors({**model(1), "w": torch.zeros(3)}), base)
    with pytest.raises(ManifestRefused, match="'x', which the base lacks"):
        applied(base, NamedTensors({"x": torch.zeros(2)}))
    with pytest.raises(ManifestRefused, match="'n', which is not of a floating"):
        applied(base, NamedTensors({"n": torch.tensor(1.0)}))
    with pytest.raises(ManifestRefused, match=r"\(4, 3\), the base in \(3, 4\)"):
        applied(base, NamedTensors({"w": torch.zeros(4, 3)}))
    with pytest.raises(LocalProtocolError, match="nan times"):
        applied(base, between(model(1), base), float("nan"))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3e38])
def test_no_merge_leaves_a_value_that_is_not_finite(bad):
    base = NamedTensors({"w": torch.full((2,), 3e38)})
    with pytest.raises(ManifestRefused, match="not finite"):
        applied(base, NamedTensors({"w": torch.tensor([0.0, bad])}))
