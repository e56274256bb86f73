"""Fewer bytes between daemons: encoded, understood, caught up with, mixed and audited."""

from __future__ import annotations

import msgspec
import pytest
from benchwork import BenchTrainer
from network import Network
from second import judged

from konsil.node import daemon as daemon_module
from konsil.node.daemon import Daemon
from konsil.node.learning import travelling
from konsil.node.learning.worker_messages import Encode
from konsil.protocol import envelope
from konsil.protocol.artifact import read_statement
from konsil.protocol.encoding import encoding_of
from konsil.protocol.learning_bodies import ArtifactPublish, ArtifactReceive, ArtifactReject
from konsil.trust.audit import verify_homes

TABLE = "konsil.knowledge.tabular:build"


def consortium(tmp_path, nursery, names, codecs, **changes):
    options = {
        name: {
            "dataset": "breast_cancer", "sites": len(names), "site": k, "model": "mlp:64",
            "name": "tumours",
        }
        for k, name in enumerate(names)
    }  # fmt: skip
    return Network(
        tmp_path, nursery, names, factory=TABLE, options=options, codecs=codecs, **changes
    )


def payloads(net, name, kind=ArtifactPublish):
    """The payloads that a node's log names, in their order, with their publisher."""
    blobs = net.daemons[name]._journal.blobs
    found = [
        read_statement(envelope.unpack(blobs.get(body.env)).payload)
        for body in net.bodies(name, kind)
    ]
    return [(one.publisher, one.payload) for one in found]


def audited(tmp_path, names):
    """Both verifiers compute every mix again; how many there were."""
    homes = [tmp_path / name for name in names]
    report = verify_homes(homes, replay=True)
    assert report.exit_code() == 0, report.lines()
    assert judged(*homes, "--replay") == (0, set())
    return sum(one.replayed for one in report.ledgers)


@pytest.mark.slow
async def test_workers_learn_from_what_travelled_in_few_bytes(tmp_path, nursery):
    net = consortium(tmp_path, nursery, "ab", {"a": "topk", "b": "int8"}, rounds=2)
    await net.start()
    await net.until(net.idle, seconds=120)
    for name, codec in (("a", "topk"), ("b", "int8")):
        sent = [one for _, one in payloads(net, name)]
        assert [encoding_of(one.format).codec for one in sent] == [codec] * 2
        assert [one.reference is None for one in sent] == [True, False]
        assert not net.bodies(name, ArtifactReject)
    assert net.sources("a")["b"] >= 1
    assert net.sources("b")["a"] >= 1
    for name in "ab":
        await net.kill(name)
    nursery.cancel_scope.cancel()
    assert audited(tmp_path, "ab") >= 2


@pytest.fixture
def benched(monkeypatch):
    monkeypatch.setattr(daemon_module, "Trainer", BenchTrainer)


async def test_who_comes_late_fetches_the_chain_once(tmp_path, nursery, benched):
    """And a restart in the middle of it goes on where it was: what is owed is not lost."""
    net = consortium(tmp_path, nursery, "abc", dict.fromkeys("abc", "topk"), rounds=3)
    await net.start("a", "b")
    await net.until(lambda: net.daemons["a"].learner.memory.round >= 2)
    await net.kill("a")
    await net.start("a")
    await net.until(lambda: net.idle("a", "b"))
    envs = [body.env.hex() for body in net.bodies("a", ArtifactPublish)]
    assert [one.reference for _, one in payloads(net, "a")] == [None, *envs[:-1]]
    await net.start("c")
    await net.until(lambda: net.idle("c"))
    here = net.members["a"].node
    taken = [one for node, one in payloads(net, "c", ArtifactReceive) if node == here]
    assert taken == [one for _, one in payloads(net, "a")]
    assert set(net.sources("c")) == {"a", "b"}
    for name in "abc":
        await net.kill(name)
    nursery.cancel_scope.cancel()
    assert audited(tmp_path, "abc") >= 4


async def test_what_one_member_cannot_read_is_sent_plainer(tmp_path, nursery, benched, monkeypatch):
    genuine = Daemon._hello
    known = {"b": ("safetensors", "safetensors+fp16", "safetensors+fp16+zstd"), "a": ("new",)}

    def hello(self):
        reads = known.get(self.roster.me.name)
        return (
            genuine(self) if reads is None else msgspec.structs.replace(genuine(self), reads=reads)
        )

    monkeypatch.setattr(Daemon, "_hello", hello)
    net = consortium(tmp_path, nursery, "abc", {"a": "topk", "b": "topk"}, rounds=1)
    await net.start()
    await net.until(net.idle)
    formats = {name: {one.format for _, one in payloads(net, name)} for name in "abc"}
    assert {encoding_of(word).codec for word in formats["a"]} == {"fp16"}
    assert formats["b"] == formats["c"] == {"safetensors"}
    nursery.cancel_scope.cancel()


async def test_a_chain_ends_and_begins_anew_in_8_bits(tmp_path, nursery, benched, monkeypatch):
    monkeypatch.setattr(travelling, "LINKS", 2)
    net = consortium(tmp_path, nursery, "ab", {"a": "topk"}, rounds=4)
    await net.start()
    await net.until(net.idle)
    sent = [one for _, one in payloads(net, "a")]
    assert [encoding_of(one.format).codec for one in sent] == ["topk", "topk", "topk", "int8"]
    assert [one.reference is None for one in sent] == [True, False, False, True]
    asked = [one for one in net.daemons["a"].trainer.asked if isinstance(one, Encode)]
    assert [one.codec for one in asked] == ["topk", "topk", "topk", "int8"]
    nursery.cancel_scope.cancel()


async def test_data_vectors_follow_their_own_chain(tmp_path, nursery, benched):
    net = consortium(
        tmp_path, nursery, "ab", {"a": "topk", "b": "fp16"}, rounds=2, kind="data_vector"
    )
    await net.start()
    await net.until(net.idle)
    for name in "ab":
        assert [one.reference is None for _, one in payloads(net, name)] == [True, False]
        assert not net.bodies(name, ArtifactReject)
        await net.kill(name)
    nursery.cancel_scope.cancel()
    assert audited(tmp_path, "ab") >= 1
    a, b = (tmp_path / name for name in "ab")
    (body, *_) = net.bodies("a", ArtifactReceive)
    manifest = next(one for _, one in payloads(net, "a", ArtifactReceive))
    # Without the tensors that it stands for, or without the manifest that names them, what
    # travelled is not enough for a replay; nobody is accused for that.
    for home, store, name in (
        (a, "ledger/blobs", body.env.hex()),
        (a, "blobs", manifest.decoded),
        (b, "blobs", manifest.decoded),
    ):
        lost = home / store / "sha256" / name[:2] / name
        lost.rename(tmp_path / name)
        if home is a and store == "blobs":
            continue
        found = {one.code for one in verify_homes([a, b], replay=True).findings}
        assert "integrate.unreplayed" in found
        assert "integrate.replay" not in found
        code, second = judged(a, b, "--replay")
        assert code == 4
        assert second & {"integrate.unreplayed", "integrate.replay"} == {"integrate.unreplayed"}
