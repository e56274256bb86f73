"""Which codec, and a change of what: the plainest that all read, and our newest that is here."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import structlog

from konsil.node.learning import travelling
from konsil.node.learning.shelf import Shelf
from konsil.node.learning.travelling import Travelled, Travelling
from konsil.node.learning.worker_messages import Encoded
from konsil.node.store.blobs import BlobStore
from konsil.protocol.encoding import FORMATS
from konsil.protocol.messages import Head

ME, KIND = "m" * 32, "parameters"
ALL = frozenset(FORMATS)
HALF = frozenset({"safetensors", "safetensors+fp16", "safetensors+fp16+zstd"})


class Publisher:
    """A node that published `count` artifacts, each a change of the one before."""

    def __init__(self, tmp_path, codec, count=0) -> None:
        self.asked, self.told = [], []
        self.shelf, self.blobs, self.count = Shelf(), BlobStore(tmp_path / "blobs"), count
        self.reads = {}
        self.reply = "safetensors+int8"
        log = structlog.wrap_logger(
            structlog.ReturnLogger(), processors=[lambda *told: self.told.append(told[2]) or ""]
        )
        self.travelling = Travelling(
            codec, ME, self, self.shelf, self.blobs, lambda: self.reads, log
        )
        before = None
        for number in range(1, count + 1):
            tensors = self.blobs.put(b"%d" % number).hex()
            head = Head(
                publisher=ME, kind=KIND, sequence=number, env=bytes([number]) * 32,
                art=bytes(32), size=1, round=number,
            )  # fmt: skip
            payload = SimpleNamespace(tensors=tensors, reference=before)
            self.shelf.add(SimpleNamespace(head=head, artifact=SimpleNamespace(payload=payload)))
            before = head.env.hex()

    async def ask(self, request, kind):
        self.asked.append(request)
        return Encoded(payload=b"p" * 32, tensors=b"t" * 32, format=self.reply)

    async def prepare(self) -> Travelled:
        return await self.travelling.prepare(b"r" * 32, KIND, self.count)


async def test_plain_asks_nobody(tmp_path):
    publisher = Publisher(tmp_path, "plain")
    assert await publisher.prepare() == Travelled(art=b"r" * 32)
    assert publisher.asked == []


@pytest.mark.parametrize(
    ("codec", "reads", "chosen"),
    [
        ("topk", [], "topk"),
        ("topk", [ALL, ALL], "topk"),
        ("topk", [ALL, HALF], "fp16"),
        ("topk", [ALL - {"safetensors+topk+zstd"}], "int8"),
        ("int8", [ALL - {"safetensors+topk"}], "int8"),
        ("fp16", [HALF, HALF | {"safetensors+later"}], "fp16"),
        ("fp16", [frozenset({"safetensors+later"})], None),
        ("topk", [frozenset()], None),
    ],
)
async def test_the_next_plainer_one_that_everybody_linked_reads(tmp_path, codec, reads, chosen):
    publisher = Publisher(tmp_path, codec)
    publisher.reads = {f"n{k}": one for k, one in enumerate(reads)}
    await publisher.prepare()
    assert [one.codec for one in publisher.asked] == ([] if chosen is None else [chosen])
    plainer = [one for one in publisher.told if one["event"] == "codec.plainer"]
    assert bool(plainer) == (chosen != codec)
    assert all(one["cannot_read"] == [f"n{len(reads) - 1}"] for one in plainer)


async def test_it_is_a_change_of_our_newest(tmp_path):
    publisher = Publisher(tmp_path, "topk", count=3)
    made = await publisher.prepare()
    assert (made.reference, made.decoded) == ((bytes([3]) * 32).hex(), (b"t" * 32).hex())
    (asked,) = publisher.asked
    assert (publisher.blobs.get(asked.reference), asked.codec) == (b"3", "topk")


@pytest.mark.parametrize("gone", [1, 2, 3])
async def test_a_chain_of_which_something_is_lost_begins_anew_in_8_bits(tmp_path, gone):
    publisher = Publisher(tmp_path, "topk", count=3)
    assert (await publisher.prepare()).reference is not None
    publisher.blobs.remove(
        bytes.fromhex(publisher.shelf.get(bytes([gone]) * 32).artifact.payload.tensors)
    )
    assert (await publisher.prepare()).reference is None
    assert (publisher.asked[-1].reference, publisher.asked[-1].codec) == (None, "int8")


async def test_the_first_of_all_is_one_round_old_and_a_chain_has_an_end(tmp_path, monkeypatch):
    assert (await Publisher(tmp_path / "none", "topk").prepare()).reference is None
    for count, codec in ((0, "topk"), (2, "topk"), (3, "int8")):
        monkeypatch.setattr(travelling, "LINKS", 2)
        publisher = Publisher(tmp_path / str(count), "topk", count=count)
        made = await publisher.prepare()
        assert publisher.asked[0].codec == codec
        assert (made.reference is None) == (count in (0, 3))


async def test_what_the_codec_cannot_say_travels_as_it_is(tmp_path):
    publisher = Publisher(tmp_path, "int8", count=1)
    publisher.reply = "safetensors"
    assert await publisher.prepare() == Travelled(art=b"r" * 32)
    assert [one["event"] for one in publisher.told] == ["artifact.plain"]
