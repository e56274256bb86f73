"""Payloads of every format come back; whatever is hostile is refused before it takes memory."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress

import pytest
import torch
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.knowledge import pack
from konsil.knowledge.compact import payload, sparse, zstd
from konsil.knowledge.named import NamedTensors
from konsil.protocol.encoding import FORMATS, encoding_of
from konsil.protocol.errors import (
    EncodingRefused,
    LimitExceeded,
    ManifestRefused,
    RemoteError,
)

DRAW = torch.Generator().manual_seed(8)
MODEL = NamedTensors(
    {
        "w": torch.randn(40, 300, generator=DRAW),
        "b": torch.randn(40, generator=DRAW),
        "seen": torch.tensor(4),
    }
)
BYTES = {"plain": 4.0, "fp16": 2.0, "int8": 1.0, "topk": sparse.SHARE * 3.1}
"""Bytes an element."""


@pytest.mark.parametrize("word", FORMATS)
def test_every_format_is_written_and_read(word):
    data = payload.write(MODEL, word)
    assert data == payload.write(MODEL, word)
    again = payload.read(data, word, MODEL)
    codec = encoding_of(word).codec
    assert len(data) <= BYTES[codec] * MODEL.elements() * 1.02 + 500
    assert (again.distance(MODEL) == 0.0) == (codec == "plain")
    assert again.distance(MODEL) <= (1.0 if codec == "topk" else 0.01) * MODEL.norm()


@pytest.mark.parametrize("codec", ["fp16", "int8", "topk"])
def test_equal_changes_of_other_tensors_are_other_bytes(codec):
    word = f"safetensors+{codec}"
    since, other = bytes(range(32)), bytes(32)
    data = payload.write(MODEL, word, since=since)
    assert data != payload.write(MODEL, word, since=other)
    assert payload.read(data, word, MODEL, since=since).finite()
    with pytest.raises(ManifestRefused, match="of other tensors"):
        payload.read(data, word, MODEL, since=other)
    bare = pack.to_bytes(payload.codec(codec)[0](MODEL))
    with pytest.raises(ManifestRefused, match="no row ':since'"):
        payload.read(bare, word, MODEL, since=since)


GOOD = payload.write(MODEL, "safetensors+int8+zstd")


@pytest.mark.parametrize(
    ("data", "word", "code"),
    [
        (GOOD, "safetensors+int4", "encoding"),
        (GOOD, "safetensors+int8", "limit"),
        (GOOD, "safetensors+fp16+zstd", "refused"),
        (GOOD[:-1], "safetensors+int8+zstd", "refused"),
        (pack.to_bytes({**MODEL, "b": torch.full((40,), float("nan"))}), "safetensors", "refused"),
        (payload.write(MODEL.select(["w"]), "safetensors"), "safetensors", "refused"),
    ],
)
def test_what_is_wrong_is_told_apart(data, word, code):
    kinds = {"encoding": EncodingRefused, "limit": LimitExceeded, "refused": ManifestRefused}
    with pytest.raises(kinds[code]):
        payload.read(data, word, MODEL)


def test_a_bomb_is_refused_before_it_takes_memory():
    bomb = zstandard.ZstdCompressor(level=3).compress(bytes(1 << 28))
    assert len(bomb) < 1 << 15
    tracemalloc.start()
    with pytest.raises(LimitExceeded, match="268435456 bytes"):
        payload.read(bomb, "safetensors+zstd", MODEL)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_frame_that_lies_about_its_size_is_refused():
    honest = zstd.deflate(bytes(5_000))
    place = honest.index((5_000 - 256).to_bytes(2, "little"))
    for claimed in (4_000, 6_000):
        lying = honest[:place] + (claimed - 256).to_bytes(2, "little") + honest[place + 2 :]
        assert zstandard.get_frame_parameters(lying).content_size == claimed
        with pytest.raises(ManifestRefused):
            zstd.inflate(lying, most=10_000)
    assert zstd.inflate(honest, most=5_000) == bytes(5_000)
    with pytest.raises(LimitExceeded):
        zstd.inflate(honest, most=4_999)


def test_one_frame_and_nothing_else():
    frame = zstd.deflate(b"abc" * 50)
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(b"abc" * 50)
    for data in (frame + b"x", frame + frame, frame[:-2], unsized, b"", b"abc", zstd.deflate(b"")):
        with pytest.raises(ManifestRefused):
            zstd.inflate(data, most=1 << 20)


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(FORMATS),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_changed_bytes_are_read_as_a_sound_model_or_refused(word, changes):
    data = bytearray(payload.write(MODEL, word))
    for place, value in changes:
        data[min(int(place * len(data)), len(data) - 1)] = value
    again = None
    with suppress(RemoteError):
        again = payload.read(bytes(data), word, MODEL)
    assert again is None or (again.finite() and list(again) == list(MODEL))


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(FORMATS))
def test_any_bytes_are_refused(data, word):
    with pytest.raises(RemoteError):
        payload.read(data, word, MODEL)
