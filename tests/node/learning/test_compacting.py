"""The worker decodes what the manifest says, or names why it does not; nothing else is stored."""

from __future__ import annotations

import pytest
import torch
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.knowledge import pack
from konsil.knowledge.compact import feedback, payload
from konsil.knowledge.named import NamedTensors
from konsil.node.learning.compacting import Compacting
from konsil.node.learning.worker_messages import Check, Encode
from konsil.node.store.blobs import BlobStore
from konsil.protocol import tensors
from konsil.protocol.digest import sha256

DRAW = torch.Generator().manual_seed(6)
BASE = NamedTensors({"w": torch.randn(9, 70, generator=DRAW), "seen": torch.tensor(1)})
MODEL = BASE.map(lambda one: one + 0.1 * torch.randn(one.shape, generator=DRAW))
START = sha256(pack.to_bytes(BASE))
SHEET = pack.to_bytes(BASE)
FORM = tensors.architecture(tensors.read_table(SHEET, len(SHEET)))
WORD = "safetensors+int8+zstd"
DATA = payload.write(MODEL - BASE, WORD, since=START)
DECODED = sha256(pack.to_bytes(feedback.follow(DATA, WORD, BASE, since=START)))


class Whole:
    """A kind whose payloads are changes of `BASE`."""

    start: NamedTensors | None = BASE


class Side:
    """One worker's codecs with a blob store and a spooled file."""

    def __init__(self, folder) -> None:
        self.blobs = BlobStore(folder / "blobs")
        self.kind = Whole()
        self.codecs = Compacting(self.blobs, self.kind)
        self.spool = folder / "part"

    def check(self, data: bytes, **changes) -> tuple[str, ...]:
        self.spool.write_bytes(data)
        plain = {"format": WORD, "reference": None, "tensors": DECODED}
        found = self.codecs.check(Check(path=str(self.spool), form=FORM, **plain | changes))
        return found.reasons


@pytest.fixture
def side(tmp_path) -> Side:
    return Side(tmp_path)


@pytest.mark.parametrize("codec", ["fp16", "int8", "topk"])
def test_what_one_encodes_another_decodes_along_a_chain(tmp_path, codec):
    one, other = Side(tmp_path / "one"), Side(tmp_path / "other")
    reference, gaps = None, []
    for _ in range(3):
        release = one.blobs.put(pack.to_bytes(MODEL))
        sent = one.codecs.encode(Encode(release=release, reference=reference, codec=codec))
        data = one.blobs.get(sent.payload)
        other.spool.parent.mkdir(exist_ok=True)
        assert other.check(
            data, format=sent.format, reference=reference, tensors=sent.tensors
        ) == ()  # fmt: skip
        assert other.blobs.get(sent.tensors) == one.blobs.get(sent.tensors)
        gaps.append(pack.from_bytes(other.blobs.get(sent.tensors)).distance(MODEL))
        reference = sent.tensors
    assert gaps[2] < gaps[0] < BASE.distance(MODEL)


def test_what_a_codec_cannot_say_travels_as_it_is(side):
    wild = BASE.map(lambda one: torch.full_like(one, float("inf")))
    odd = NamedTensors({":w": torch.ones(2)})
    for model, start in ((wild, BASE), (odd, odd), (MODEL, None)):
        side.kind.start = start
        release = side.blobs.put(pack.to_bytes(model))
        sent = side.codecs.encode(Encode(release=release, reference=None, codec="int8"))
        assert (sent.payload, sent.tensors, sent.format) == (release, release, "safetensors")


def nan_scale() -> bytes:
    encoded = dict(pack.from_bytes(payload.write(MODEL - BASE, "safetensors+int8", since=START)))
    encoded[":scales"] = torch.full_like(encoded[":scales"], float("nan"))
    return pack.to_bytes(encoded)


def places(octets: list[int], values: int) -> bytes:
    return pack.to_bytes(
        {
            "seen": torch.tensor(1), ":exponents": torch.zeros(1, dtype=torch.int16),
            ":fp16": torch.ones(values, dtype=torch.float16),
            ":gaps": torch.tensor(octets, dtype=torch.uint8),
            ":since": torch.tensor([*START], dtype=torch.uint8),
        }
    )  # fmt: skip


BOMB = zstandard.ZstdCompressor(level=3).compress(bytes(1 << 26))
SPARSE = {"format": "safetensors+topk"}


@pytest.mark.parametrize(
    ("data", "changes", "reason"),
    [
        (DATA, {"format": "safetensors+int4"}, "encoding"),
        (BOMB, {}, "limit"),
        (bytes(1 << 21), {"format": "safetensors+int8"}, "limit"),
        (DATA[:-1], {}, "payload"),
        (DATA, {"format": "safetensors+fp16+zstd"}, "payload"),
        (nan_scale(), {"format": "safetensors+int8"}, "payload"),
        (places([0xFF] * 5 + [1], 1), SPARSE, "payload"),
        (places([0] * 631, 631), SPARSE, "payload"),
        (places([5, 0x80, 0], 2), SPARSE, "payload"),
        (places([5, 5], 1), SPARSE, "payload"),
        (payload.write(BASE, WORD, since=bytes(32)), {}, "payload"),
        (payload.write(BASE.select(["w"]), WORD, since=START), {}, "payload"),
        (DATA, {"tensors": bytes(32)}, "decoded"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_stored(side, data, changes, reason):
    assert side.check(data, **changes) == (reason,)
    assert not side.blobs.has(DECODED)


def test_a_change_of_another_reference_is_refused(side):
    other = side.blobs.put(pack.to_bytes(MODEL))
    assert side.check(DATA, reference=other) == ("payload",)
    assert side.check(DATA) == ()
    assert side.blobs.has(DECODED)


def test_a_kind_that_travels_as_it_is_has_no_codec(side):
    side.kind.start = None
    assert side.check(DATA) == ("encoding",)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=3))
def test_changed_bytes_are_never_taken_for_what_was_signed(tmp_path_factory, changes):
    data = bytearray(DATA)
    for place, value in changes:
        data[min(int(place * len(data)), len(data) - 1)] = value
    side = Side(tmp_path_factory.mktemp("side"))
    sound = side.check(bytes(data)) == ()
    assert sound == side.blobs.has(DECODED)
    assert sound or bytes(data) != DATA
