"""Codecs: what is decoded is within the stated bound of what was encoded, and the same always."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.knowledge import pack
from konsil.knowledge.compact import eight, half, layout, positions, sparse
from konsil.knowledge.named import NamedTensors
from konsil.protocol.errors import ConfigError, LocalProtocolError, ManifestRefused

CODECS = {"fp16": half, "int8": eight, "topk": sparse}
each_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)

magnitudes = st.sampled_from([0.0, 1e-40, 1e-12, 1e-3, 1.0, 60_000.0, 1e30, 3e38])
widths = st.sampled_from([torch.float32, torch.float64])


@st.composite
def models(draw: st.DrawFn, dtypes: st.SearchStrategy[torch.dtype] = widths) -> NamedTensors:
    dtype, scale = draw(dtypes), draw(magnitudes)
    maker = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def values(*shape: int) -> torch.Tensor:
        wild = torch.randn(shape, generator=maker, dtype=torch.float64)
        wild = wild * 10.0 ** torch.randint(-6, 1, shape, generator=maker)
        return (wild.clamp(-1, 1) * scale).to(dtype)

    rows, columns = draw(st.integers(0, 5)), draw(st.integers(1, 90))
    return NamedTensors(
        {
            "weight": values(rows, columns),
            "bias": values(rows),
            "conv": values(2, 3, 5, 5),
            "gain": values(),
            "seen": torch.tensor(draw(st.integers(0, 99))),
        }
    )


def both_ways(codec, model: NamedTensors) -> NamedTensors:
    """Through the codec and a payload on the way."""
    encoded = codec.encode(model)
    read = pack.from_bytes(pack.to_bytes(encoded))
    return codec.decode(read, model)


@settings(max_examples=60, deadline=None)
@given(models())
def test_half_keeps_eleven_bits_of_every_element(model):
    decoded = half.decode(half.encode(model), model)
    for name, tensor in layout.parts(model):
        exact = tensor.double()
        most = float(exact.abs().max()) if exact.numel() else 0.0
        bound = exact.abs() * 2.0**-11 + most * 2.0**-39 + 2.0**-149
        assert bool(((decoded[name].double() - exact).abs() <= bound).all()), name
    assert decoded["seen"] == model["seen"]


@settings(max_examples=60, deadline=None)
@given(models())
def test_eight_is_within_half_a_step_of_its_row(model):
    decoded = eight.decode(eight.encode(model), model)
    for name, tensor in layout.parts(model):
        exact = tensor.double()
        if not exact.numel():
            continue
        own = exact.ndim >= 2 and exact.numel() >= eight.ROW * exact.shape[0]
        rows = exact.reshape(exact.shape[0] if own else 1, -1)
        bound = rows.abs().amax(dim=1, keepdim=True) / 254 * (1 + 2.0**-14) + 2.0**-142
        off = (decoded[name].double().reshape(rows.shape) - rows).abs()
        assert bool((off <= bound).all()), name
        assert bool((decoded[name][tensor == 0] == 0).all())


@settings(max_examples=60, deadline=None)
@given(models(), st.sampled_from([0.01, 0.04, 0.3, 1.0]))
def test_sparse_keeps_the_largest_and_contracts(model, share):
    row = layout.flat(model).double()
    decoded = layout.flat(sparse.decode(sparse.encode(model, share=share), model)).double()
    k = math.ceil(share * len(row))
    sent = decoded != 0
    most = float(row.abs().max())
    bound = row.abs() * 2.0**-11 + most * 2.0**-39 + 2.0**-149
    assert int(sent.sum()) <= k
    assert bool(((decoded - row).abs()[sent] <= bound[sent]).all())
    if most > 0 and int(sent.sum()) == k < len(row):
        assert float(row.abs()[sent].min()) >= float(row.abs()[~sent].max())
    if most > 1e-30:
        scaled, left = row / most, (row - decoded) / most
        assert float(left @ left) <= (1 - k / len(row) + 2.0**-20) * float(scaled @ scaled)


@settings(max_examples=25, deadline=None)
@given(model=models())
@each_codec
def test_the_same_model_has_the_same_bytes_and_is_left_alone(codec, model):
    before = pack.to_bytes(model)
    turned = NamedTensors(dict(reversed(list(model.items()))))
    assert pack.to_bytes(codec.encode(model)) == pack.to_bytes(codec.encode(turned))
    decoded = both_ways(codec, model)
    assert list(decoded) == list(model)
    assert {n: (t.dtype, t.shape) for n, t in decoded.items()} == {
        n: (t.dtype, t.shape) for n, t in model.items()
    }
    assert decoded.finite()
    assert pack.to_bytes(model) == before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@each_codec
def test_models_of_short_floats_are_encoded_too(codec, dtype):
    draw = torch.Generator().manual_seed(3)
    model = NamedTensors({"w": torch.randn(4, 70, generator=draw).to(dtype)})
    decoded = both_ways(codec, model)
    assert decoded["w"].dtype == dtype
    largest = int(model["w"].abs().argmax())
    got, wanted = decoded["w"].flatten()[largest], model["w"].flatten()[largest]
    assert float(got) == pytest.approx(float(wanted), rel=2.0**-8)


@each_codec
@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_what_has_no_bound_is_not_encoded(codec, odd):
    with pytest.raises(LocalProtocolError, match="not finite"):
        codec.encode(NamedTensors({"w": torch.tensor([1.0, odd])}))


def test_settings_and_names_that_cannot_be():
    with pytest.raises(ConfigError, match="share of 0"):
        sparse.encode(NamedTensors({"w": torch.ones(3)}), share=0)
    with pytest.raises(ConfigError, match=":fp16"):
        half.encode(NamedTensors({":fp16": torch.ones(3)}))
    with pytest.raises(LocalProtocolError, match="8 bits"):
        eight.encode(NamedTensors({"w": torch.tensor([1e300], dtype=torch.float64)}))


def test_of_equal_magnitudes_the_earlier_is_sent():
    model = NamedTensors({"w": torch.tensor([1.0, -1.0, 1.0, -1.0, 0.5])})
    sent = sparse.decode(sparse.encode(model, share=0.4), model)
    assert sent["w"].tolist() == [1.0, -1.0, 0.0, 0.0, 0.0]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_positions_come_back_and_take_the_fewer_bytes(data):
    length = data.draw(st.integers(1, 60_000))
    share = data.draw(st.sampled_from([0.0, 0.0002, 0.01, 0.1, 0.2, 0.9, 1.0]))
    draw = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    places = np.flatnonzero(draw.random(length) < share).astype(np.int64)
    name, octets = positions.write(places, length)
    assert np.array_equal(positions.read(name, octets, len(places), length), places)
    assert len(octets) <= -(-length // 8)
    assert name == positions.GAPS or len(octets) < 3 * max(len(places), 1)


MODEL = NamedTensors({"w": torch.arange(1.0, 9.0), "n": torch.tensor([2, 3])})


def changed(encoded, changes) -> dict[str, torch.Tensor]:
    names = {"values": ":fp16", "exponents": ":exponents", "scales": ":scales", "q": ":int8",
             "gaps": ":gaps", "bits": ":bits", "extra": ":extra", "n": "n", "m": "m"}  # fmt: skip
    told = {**encoded, **{names[name]: tensor for name, tensor in changes.items()}}
    return {name: tensor for name, tensor in told.items() if tensor is not None}


HOSTILE = {
    "values too few": (half, {"values": torch.ones(7, dtype=torch.float16)}, "needs 8"),
    "values in a square": (half, {"values": torch.ones(2, 4, dtype=torch.float16)}, "no row"),
    "values of another type": (half, {"values": torch.ones(8)}, "no row"),
    "no values": (half, {"values": None}, "missing"),
    "a tensor too many": (half, {"extra": torch.ones(1)}, "no meaning"),
    "an infinity": (half, {"values": torch.full((8,), math.inf, dtype=torch.float16)}, "finite"),
    "a scale beyond": (half, {"exponents": torch.tensor([1_010], dtype=torch.int16)}, "2^1010"),
    "a scale for float64": (half, {"exponents": torch.tensor([900], dtype=torch.int16)}, "finite"),
    "a counter less": (half, {"n": None}, "'n'"),
    "a counter more": (half, {"m": torch.tensor([2, 3])}, "'m'"),
    "a longer counter": (half, {"n": torch.tensor([2, 3, 4])}, "'n'"),
    "a counter as a float": (half, {"n": torch.tensor([2.0, 3.0])}, "'n'"),
    "a negative scale": (eight, {"scales": torch.tensor([-1.0])}, "magnitude"),
    "a scale without value": (eight, {"scales": torch.tensor([math.nan])}, "magnitude"),
    "a scale too large": (eight, {"scales": torch.tensor([3e38])}, "finite"),
    "an integer beyond": (eight, {"q": torch.full((8,), -128, dtype=torch.int8)}, "127"),
    "both kinds of places": (sparse, {"bits": torch.ones(1, dtype=torch.uint8)}, "no meaning"),
    "a gap cut off": (sparse, {"gaps": torch.tensor([0x83], dtype=torch.uint8)}, "gaps"),
    "a gap written longer": (sparse, {"gaps": torch.tensor([0x87, 0], dtype=torch.uint8)}, "way"),
    "a gap out of the row": (sparse, {"gaps": torch.tensor([8], dtype=torch.uint8)}, "gap"),
    "a gap without end": (
        sparse, {"gaps": torch.tensor([0xFF] * 9 + [1], dtype=torch.uint8)}, "too long",
    ),
    "places too many": (sparse, {"gaps": torch.tensor([1, 1], dtype=torch.uint8)}, "gaps"),
    "a nought": (sparse, {"values": torch.zeros(1, dtype=torch.float16)}, "although it is 0"),
    "more than the row": (
        sparse, {"values": torch.ones(9, dtype=torch.float16)}, "9 places in a row of 8",
    ),
    "bits of another length": (
        sparse, {"gaps": None, "bits": torch.ones(2, dtype=torch.uint8)}, "bits",
    ),
    "bits where gaps are shorter": (
        sparse, {"gaps": None, "bits": torch.tensor([128], dtype=torch.uint8)}, "one way",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_what_no_encoder_writes_is_refused(case):
    codec, changes, reason = HOSTILE[case]
    with pytest.raises(ManifestRefused, match=reason.replace("^", r"\^")):
        codec.decode(changed(codec.encode(MODEL), changes), MODEL)


def test_a_model_of_another_architecture_is_refused():
    for codec in CODECS.values():
        with pytest.raises(ManifestRefused):
            codec.decode(codec.encode(MODEL), NamedTensors({"w": torch.ones(3)}))
