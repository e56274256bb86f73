"""Artifacts that cover a part of a base: a head, or an adapter of a frozen model."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from konsil.knowledge import pack
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.vectors import lora, merging
from konsil.knowledge.vectors.subset import covered, laid_over
from konsil.protocol.errors import ConfigError, ManifestRefused

NAMES = ("body.weight", "body.bias", "head.weight", "head.bias", "count")


def model(seed: int) -> NamedTensors:
    draw = torch.Generator().manual_seed(seed)
    shapes = ((4, 3), (4,), (2, 4), (2,))
    tensors = {n: torch.randn(s, generator=draw) for n, s in zip(NAMES, shapes, strict=False)}
    return NamedTensors({**tensors, "count": torch.tensor(seed)})


@settings(max_examples=30, deadline=None)
@given(st.sets(st.sampled_from(NAMES)), st.integers(0, 50), st.integers(51, 99))
def test_a_part_changes_what_it_covers_and_nothing_else(names, i, j):
    base, other = model(i), model(j)
    before = pack.to_bytes(base)
    speaks = covered(base, tuple(names))
    assert set(speaks) == (names or set(NAMES)), "naming nothing means all"
    whole = laid_over(base, other.select(speaks), tuple(names))
    assert pack.to_bytes(whole.select(speaks)) == pack.to_bytes(other.select(speaks))
    rest = set(NAMES) - set(speaks)
    assert all(torch.equal(whole[name], base[name]) for name in rest)
    assert list(whole) == list(base)
    assert pack.to_bytes(base) == before


def test_a_part_that_does_not_fit_is_refused():
    base, head = model(1), model(2).select(["head.weight", "head.bias"])
    names = ("head.weight", "head.bias")
    with pytest.raises(ManifestRefused, match="'neck', which the base lacks"):
        covered(base, ("neck",))
    with pytest.raises(ManifestRefused, match="twice"):
        covered(base, ("head.bias", "head.bias"))
    with pytest.raises(ManifestRefused, match=r"lacks 'head\.bias'"):
        laid_over(base, head.select(["head.weight"]), names)
    with pytest.raises(ManifestRefused, match=r"more than it covers: 'head\.weight'"):
        laid_over(base, head, ("head.bias",))
    with pytest.raises(ManifestRefused, match=r"lacks 'body"):
        laid_over(base, head)
    for odd in (torch.zeros(3), torch.zeros(2).double()):
        with pytest.raises(ManifestRefused, match="shape or type"):
            laid_over(base, NamedTensors({**head, "head.bias": odd}), names)
    with pytest.raises(ManifestRefused, match="not finite"):
        laid_over(base, head * float("nan"), names)


# ---- LoRA ----------------------------------------------------------------------------------


def adapter(layer: str, outputs: int, inputs: int, rank: int, seed: int) -> NamedTensors:
    draw = torch.Generator().manual_seed(seed)
    return NamedTensors(
        {
            f"{layer}.lora_A": torch.randn(rank, inputs, generator=draw),
            f"{layer}.lora_B": torch.randn(outputs, rank, generator=draw),
        }
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.floats(0.1, 16), st.integers(0, 99))
def test_the_merged_weight_answers_as_base_and_adapter(rank, alpha, seed):
    torch.manual_seed(seed)
    layer = nn.Sequential(nn.Linear(6, 5))
    base, small = NamedTensors.of(layer), adapter("0", 5, 6, rank, seed)
    inputs = torch.randn(7, 6)
    with torch.no_grad():
        low = inputs @ small["0.lora_A"].T @ small["0.lora_B"].T
        wanted = layer(inputs) + alpha / rank * low
        lora.merged(base, small, alpha).load_into(layer)
        assert torch.allclose(layer(inputs), wanted, atol=1e-3)
    assert torch.equal(lora.merged(base, small, alpha)["0.bias"], base["0.bias"])


def test_an_adapter_of_a_convolution_is_that_of_its_matrix():
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(2, 5, 3))
    base, small = NamedTensors.of(layer), adapter("0", 5, 18, 2, 1)
    step = lora.update(base, small, 4.0)["0.weight"]
    assert step.shape == (5, 2, 3, 3)
    flat = 2.0 * small["0.lora_B"] @ small["0.lora_A"]
    assert torch.allclose(step.flatten(1), flat, atol=1e-5)
    assert torch.linalg.matrix_rank(step.flatten(1)) == 2


def test_a_new_adapter_whose_b_is_zero_changes_no_value():
    base = model(1)
    small = NamedTensors({"body.lora_A": torch.randn(2, 3), "body.lora_B": torch.zeros(4, 2)})
    assert lora.merged(base, small, 2.0).distance(base) == 0.0


def test_adapters_of_several_hospitals_merge_as_vectors():
    base = model(1)
    updates = [lora.update(base, adapter("body", 4, 3, rank, 5 + rank), 1.0) for rank in (1, 2)]
    both = merging.mean(updates, [1, 3])
    assert list(both) == ["body.weight"]
    wanted = 0.25 * updates[0]["body.weight"] + 0.75 * updates[1]["body.weight"]
    assert torch.allclose(both["body.weight"], wanted, atol=1e-6)


def test_an_adapter_that_does_not_fit_is_refused():
    base, good = model(1), adapter("body", 4, 3, 2, 1)
    for odd, said in (
        (good.select(["body.lora_A"]), "only one of A and B"),
        (adapter("neck", 4, 3, 2, 1), "no weight of layer 'neck'"),
        (adapter("body", 4, 2, 2, 1), "do not fit"),
        (adapter("body", 3, 3, 2, 1), "do not fit"),
        (adapter("body", 4, 3, 0, 1), "do not fit"),
        (NamedTensors({**good, "body.lora_B": torch.zeros(4, 1)}), "do not fit"),
        (NamedTensors({**good, "body.weight": torch.zeros(4, 3)}), "neither A nor B"),
    ):
        with pytest.raises(ManifestRefused, match=said):
            lora.update(base, odd, 1.0)
    with pytest.raises(ManifestRefused, match="not finite"):
        lora.merged(base, good * float("nan"), 1.0)
    with pytest.raises(ConfigError, match="alpha"):
        lora.update(base, good, 0.0)
