"""Knowledge manifests: written with every artifact, taken with it, handed on after a restart."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from commands import konsil
from network import Network
from scripted import ScriptedTrainer

from konsil.node import daemon as daemon_module
from konsil.node.exchange.admission import Admitted, Refusal, with_knowledge
from konsil.node.learning.knowledge import knowledge_of, written
from konsil.node.learning.worker_messages import Opened
from konsil.protocol import envelope, knowledge_manifest
from konsil.protocol.artifact import PrivacySpent, read_statement
from konsil.protocol.digest import sha256
from konsil.protocol.errors import LocalProtocolError
from konsil.protocol.knowledge_manifest import KnowledgeManifest, LabelName, Measured
from konsil.protocol.learning_bodies import ArtifactPublish, ArtifactReceive
from konsil.protocol.limits import DEFAULT_LIMITS

HEX = "0123456789abcdef" * 4
PRIVACY = PrivacySpent(mechanism="none", unit="none", epsilon_micro=0, delta_e12=0)
OPENED = Opened(
    task="t", classes=("benign", "malignant", "unclear"), base=b"b" * 32, about=b"b" * 32,
    form=b"a" * 32, whole=True,
    rows=63, class_rows=(60, 3, 0), data=b"d" * 32, recipe=b"r" * 32, code=b"c" * 32,
    environment=b"e" * 32,
)  # fmt: skip
KNOWN = knowledge_manifest.write(knowledge_of(OPENED, PRIVACY))


def test_a_manifest_says_what_was_seen_and_no_number_that_was_not_measured():
    found = knowledge_manifest.read(KNOWN)
    assert [(one.system, one.code, one.rows) for one in found.labels] == [
        ("task", "benign", 50), ("task", "malignant", 0),
    ]  # fmt: skip
    assert found.not_evaluated == (LabelName(system="task", code="unclear"),)
    assert all(one.auroc is None and one.prevalence is None for one in found.labels)
    assert (found.base, found.privacy, found.period) == (OPENED.base.hex(), PRIVACY, None)
    auroc = Measured(value_e6=910_000, evaluation=HEX)
    told = knowledge_of(OPENED, PRIVACY, {"benign": {"auroc": auroc}})
    assert told.labels[0].auroc == auroc
    assert knowledge_manifest.read(knowledge_manifest.write(told)) == told


@pytest.mark.parametrize("wrong", [{"unclear": {}}, {"other": {}}, {"benign": {"f1": None}}])
def test_figures_of_what_was_not_seen_are_a_bug(wrong):
    with pytest.raises(LocalProtocolError, match="cannot be said"):
        knowledge_of(OPENED, PRIVACY, wrong)


def test_what_nobody_would_read_is_not_written():
    manifest = knowledge_of(OPENED, PRIVACY)
    assert written(manifest, len(KNOWN)) == KNOWN
    assert written(manifest, len(KNOWN) - 1) is None


def admitted(knowledge: str | None) -> Admitted:
    artifact = SimpleNamespace(knowledge=knowledge, publisher="publisher")
    return Admitted(artifact=artifact, envelope=b"", proof=b"", published=None)


def test_the_manifest_must_be_the_one_that_the_artifact_names():
    named = sha256(KNOWN).hex()
    assert with_knowledge(admitted(named), KNOWN, "holder", DEFAULT_LIMITS).knowledge == KNOWN
    assert with_knowledge(admitted(None), b"", "holder", DEFAULT_LIMITS).knowledge == b""
    for claim, brought in ((named, b""), (None, KNOWN), (named, KNOWN + b" "), (HEX, KNOWN)):
        with pytest.raises(Refusal) as refused:
            with_knowledge(admitted(claim), brought, "holder", DEFAULT_LIMITS)
        assert (refused.value.stage, refused.value.reasons) == ("offer", ("knowledge",))
        assert refused.value.culprit == "holder"


@pytest.mark.parametrize("brought", [b"{}", b'{"type": "konsil:knowledge/v1"}', b"\xff"])
def test_the_publisher_answers_for_a_manifest_against_the_rules(brought):
    with pytest.raises(Refusal) as refused:
        with_knowledge(admitted(sha256(brought).hex()), brought, "holder", DEFAULT_LIMITS)
    assert (refused.value.stage, refused.value.culprit) == ("manifest", "publisher")


def held_manifests(net: Network, name: str, kind: type) -> list[KnowledgeManifest]:
    blobs = net.daemons[name]._journal.blobs
    found = []
    for body in net.bodies(name, kind):
        artifact = read_statement(envelope.unpack(blobs.get(body.env)).payload)
        found.append(knowledge_manifest.read(blobs.get(bytes.fromhex(artifact.knowledge))))
    return found


async def test_it_travels_with_the_artifact_and_is_handed_on(tmp_path, nursery, monkeypatch):
    monkeypatch.setattr(daemon_module, "Trainer", ScriptedTrainer)
    net = Network(tmp_path, nursery, "ab", rounds=2)
    await net.start()
    await net.until(net.idle)
    for name, kind in (("a", ArtifactPublish), ("a", ArtifactReceive), ("b", ArtifactReceive)):
        manifests = held_manifests(net, name, kind)
        assert manifests
        assert all(one.labels or one.not_evaluated for one in manifests)
    assert all(body.knowledge for body in net.bodies("a", ArtifactPublish))
    await net.kill("a")
    await net.start("a")
    shelf = net.daemons["a"].shelf
    assert {held.head.publisher for held in shelf} == {m.node for m in net.members.values()}
    assert all(sha256(held.knowledge).hex() == held.artifact.knowledge for held in shelf)
    model = net.daemons["a"].learner.memory.model.hex()
    await net.kill("a")
    nursery.cancel_scope.cancel()
    told = konsil("artifact", "gaps", tmp_path / "a", model, "--json").envelope("artifact.gaps")
    assert told["data"]["claims"] >= 2
    assert {by["name"] for one in told["data"]["labels"] for by in one["covered_by"]} == {"a", "b"}
