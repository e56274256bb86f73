"""One artifact from its publication to every model that holds some of it."""

from __future__ import annotations

import json
import shutil

import pytest
from ledgers import audit_of, consortium, payload, tail_of, two

from konsil.protocol.digest import sha256
from konsil.protocol.errors import IncompleteError, UsageError, VerificationError
from konsil.protocol.fields import UNIT_E9
from konsil.protocol.identity import KeySet
from konsil.protocol.learning_bodies import ArtifactIntegrate, ArtifactPublish, Part
from konsil.trust.questions import artifact_views, taint_views
from konsil.trust.questions.artifact import trace
from konsil.trust.questions.gathering import gather
from konsil.trust.questions.taint import taint


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    root = tmp_path_factory.mktemp("learned")
    return [one.home for one in consortium(root, "bern", "graz", "ulm", rounds=2)]


@pytest.fixture(scope="module")
def told(learned):
    return gather(learned)


@pytest.fixture
def homes(learned, tmp_path):
    for home in learned:
        shutil.copytree(home, tmp_path / home.name)
    return [tmp_path / home.name for home in learned]


def published(told, name, number=0):
    """The publish bodies of one member."""
    found = [
        entry.b
        for home, entry in told.entries()
        if told.name(home.node) == name and isinstance(entry.b, ArtifactPublish)
    ]
    return found[number]


def test_two_hospitals_that_made_the_same_model_both_hold_what_is_in_it(tmp_path):
    """Half and half of the same two parts: one digest, two makers, nobody is free of it."""
    bern, graz = two(tmp_path)
    for one in (bern, graz):
        one.train()
    sent = {one.node: one.publish() for one in (bern, graz)}
    for one, other in ((bern, graz), (graz, bern)):
        one.receive(sent[other.node], other.author)
    same = [Part(art=s.art, node=node, w_e9=UNIT_E9 // 2, trust_e9=UNIT_E9)
            for node, s in sorted(sent.items())]  # fmt: skip
    made = {one.mix([sent[other.node]], parts=same, out=sha256(b"one model")).out
            for one, other in ((bern, graz), (graz, bern))}  # fmt: skip
    assert len(made) == 1
    for one in (bern, graz):
        one.close()
    homes = gather([bern.home, graz.home])
    found = taint(homes, sent[bern.node].art.hex())
    assert {node for node, _ in found.holders} == {bern.node, graz.node}
    assert found.free == ()
    data = taint_views.to_data(homes, found)
    assert set(data["current_models"]) == {"bern", "graz"}
    lines = taint_views.to_lines(homes, found)
    holding = [line for line in lines if "its current model holds 50 %" in line]
    assert {line.split(":")[0] for line in holding} == {"bern", "graz"}
    assert not any("nothing of it" in line for line in lines)


def test_an_artifact_by_payload_and_by_envelope(told):
    body = published(told, "bern")
    found = trace(told, body.art.hex())
    assert trace(told, body.env.hex()[:16].upper()) == found
    assert (found.source, found.fault, found.unchecked) == ("log", "", "")
    assert found.body == body
    assert {told.name(one.node) for one in found.receipts} == {"graz", "ulm"}
    assert {told.name(use.node) for use in found.uses} == {"bern", "graz", "ulm"}
    for home, entry in told.entries():
        if isinstance(entry.b, ArtifactIntegrate) and entry.b.round == 1:
            (weight,) = [part.w_e9 for part in entry.b.parts if part.art == body.art]
            (use,) = [use for use in found.uses if use.node == home.node]
            assert (use.w_e9, use.index, use.out) == (weight, entry.n, entry.b.out)
    assert len(found.children) == 3
    assert found.manifest.sequence == 1
    lines = artifact_views.to_lines(told, found)
    assert "signature  verified" in lines
    data = json.loads(json.dumps(artifact_views.to_data(told, found)))
    assert data["signature"]["verified"] is True


def test_without_the_publishers_home_the_receivers_proof_shows_it(learned):
    told = gather(learned[1:])
    art = next(
        entry.b.parts[1].art
        for _, entry in told.entries()
        if isinstance(entry.b, ArtifactIntegrate)
    )
    found = trace(told, art.hex())
    assert found.source == "proof"
    assert (found.fault, found.unchecked) == ("", "")
    assert told.name(found.publisher) == "bern"


def test_what_cannot_be_checked_says_so(homes):
    shutil.rmtree(homes[1] / "peers")
    told = gather([homes[1]])
    art = next(
        entry.b.parts[1].art
        for _, entry in told.entries()
        if isinstance(entry.b, ArtifactIntegrate)
    )
    found = trace(told, art.hex())
    assert "genesis" in found.unchecked
    assert found.source == "nothing"
    assert "not checked" in artifact_views.verdict(found)


def test_a_changed_envelope_counts_as_missing(homes):
    told = gather(homes[:1])
    body = published(told, "bern")
    name = body.env.hex()
    path = homes[0] / "ledger/blobs/sha256" / name[:2] / name
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    found = trace(gather(homes[:1]), body.art.hex())
    assert "envelope" in found.unchecked
    assert found.manifest is None


def test_a_wrong_signature_is_named(tmp_path):
    bern, graz = two(tmp_path)
    bern.train()
    bern.keys = KeySet({**bern.keys.keys, "art": bern.keys["wit"], "wit": bern.keys["art"]})
    bern.publish()
    audit_of(bern, graz)
    told = gather([bern.home])
    found = trace(told, published(told, "bern").art.hex())
    assert "another key" in found.fault
    assert "DOES NOT VERIFY" in artifact_views.verdict(found)


def test_unknown_and_ambiguous_digests(told):
    with pytest.raises(IncompleteError, match="no given ledger"):
        trace(told, "ff" * 32)
    with pytest.raises(UsageError):
        trace(told, "nonsense")
    starts = {}
    for _, entry in told.entries():
        if isinstance(entry.b, ArtifactPublish):
            starts.setdefault(entry.b.env.hex()[0], set()).add(entry.b.env)
            starts.setdefault(entry.b.art.hex()[0], set()).add(entry.b.env)
    shared = next((one for one, envs in starts.items() if len(envs) > 1), None)
    if shared is not None:
        with pytest.raises(UsageError, match="are meant by"):
            trace(told, shared)


def test_taint_reaches_every_descendant_with_its_exact_share(told):
    body = published(told, "bern")
    found = taint(told, body.art.hex())
    assert taint(told, body.env.hex()) == found
    mixes = {
        entry.b.out: entry.b
        for _, entry in told.entries()
        if isinstance(entry.b, ArtifactIntegrate)
    }
    for one in found.tainted:
        mix = mixes.get(one.step.out)
        if mix is not None and mix.round == 1:
            (weight,) = [part.w_e9 for part in mix.parts if part.art == body.art]
            assert one.share_e9 == weight
            assert not one.current
        if mix is not None and mix.round == 2:
            assert one.current
    total = sum(one.share_e9 for one in found.tainted if one.current)
    assert 0 < total < 3 * UNIT_E9
    assert found.free == ()
    lines = taint_views.to_lines(told, found)
    assert lines[0].startswith(body.art.hex())
    assert sum("CURRENT MODEL" in line for line in lines) == 3
    data = taint_views.to_data(told, found)
    assert json.loads(json.dumps(data)) == data


def test_the_share_of_the_base_is_one_everywhere(told):
    origin = next(entry.b.model for _, entry in told.entries() if entry.t == "model.base")
    found = taint(told, origin.hex())
    assert {one.share for one in found.tainted} == {"1"}
    assert len(found.tainted) == 3 * 2 * 2


def test_the_newest_model_has_no_descendants(told):
    newest = [e.b.out for _, e in told.entries() if isinstance(e.b, ArtifactIntegrate)][-1]
    found = taint(told, newest.hex())
    assert found.tainted == ()
    assert len(found.free) == 2
    assert "0 descendants" in taint_views.to_lines(told, found)[0]


def test_a_step_that_is_not_linear_gets_no_number(tmp_path):
    bern, graz = two(tmp_path)
    first = bern.train()
    second = bern.train()
    released = payload(bern.values + 1)
    bern.publish(released)
    manifest = bern.manifest

    def of_two(art, data, *, parents):
        return manifest(art, data, parents=(first, second))

    bern.manifest = of_two
    journal, append = bern.journal, bern.journal.append

    def both(bodies):
        fixed = []
        for body in bodies:
            if isinstance(body, ArtifactPublish):
                body.derived_from[:] = [first, second]
            fixed.append(body)
        return append(fixed)

    journal.append = both
    other = payload(bern.values + 2)
    sent = bern.publish(other)
    graz.train()
    graz.receive(sent, bern.author)
    graz.mix([sent])
    audit_of(bern, graz)
    told = gather([bern.home, graz.home])
    found = taint(told, first.hex())
    shares = {one.step.out: one.share for one in found.tainted}
    assert shares[second] == "1"
    assert shares[sent.art] is None
    assert shares[graz.model] is None
    assert any("not linear" in line for line in taint_views.to_lines(told, found))


def test_nothing_is_told_about_a_ledger_that_does_not_verify(homes):
    tail = tail_of(homes[0])
    data = bytearray(tail.read_bytes())
    data[900] ^= 1
    tail.write_bytes(data)
    with pytest.raises(VerificationError, match=r"tail\.corrupt"):
        gather(homes)
    left_out = {}
    rest = gather(homes, left_out=left_out)
    assert [home.path for home in rest.homes] == homes[1:]
    assert list(left_out) == homes[:1]


def test_members_by_name_and_by_id(told):
    node = told.member("graz")
    assert told.member(node[:9]) == node
    with pytest.raises(IncompleteError) as refused:
        told.member("gra z\n")
    assert refused.value.hint == "known are: bern, graz, ulm"
    assert refused.value.diagnostics().isprintable()
    gathered = gather([])
    gathered.authors = {"aa": told.authors[node], "ab": told.authors[node]}
    with pytest.raises(UsageError, match="members are meant"):
        gathered.member("a")
