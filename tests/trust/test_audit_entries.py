"""The audit of entries: what a node may not say in its own log."""

from __future__ import annotations

import shutil

import msgspec
import pytest
from ledgers import (
    audit_of,
    codes,
    consortium,
    falsify,
    payload,
    train_of,
    two,
)

from konsil.protocol import artifact, cmp1, entries, envelope, records
from konsil.protocol.digest import sha256
from konsil.protocol.learning_bodies import ModelBase, Part, TrustUpdate
from konsil.trust import integrate
from konsil.trust.audit import verify_home
from konsil.trust.integrate import TAUGHT, VECTORS
from konsil.trust.report import CODES
from konsil.trust.score import Score


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Three hospitals that learned together for two rounds."""
    root = tmp_path_factory.mktemp("learned")
    return root, consortium(root, "bern", "graz", "ulm")


@pytest.fixture
def homes(learned, tmp_path):
    """A copy of their homes to be tampered with."""
    root, hospitals = learned
    shutil.copytree(root, tmp_path / "homes")
    return [tmp_path / "homes" / one.name for one in hospitals]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda plain: plain | {"n": 7}, "entry.position"),
        (lambda plain: plain | {"v": 2}, "entry.encoding"),
        (lambda plain: plain | {"b": {}}, "entry.encoding"),
        (lambda plain: plain | {"more": 1}, "entry.encoding"),
        (lambda plain: plain | {"ts": 5}, "entry.time"),
    ],
)
def test_an_entry_against_the_schema_is_found(tmp_path, change, expected):
    bern, _ = two(tmp_path)
    falsify(bern, change)
    found = verify_home(bern.home)
    assert codes(found) == {expected}
    assert found.exit_code() == CODES[expected]


def test_a_second_genesis_is_found(tmp_path):
    bern, graz = two(tmp_path)
    plain = cmp1.decode(graz.author.entry)
    falsify(bern, lambda entry: entry | {"t": "node.genesis", "b": plain["b"]})
    assert codes(verify_home(bern.home)) == {"entry.genesis"}


def test_a_salt_used_twice_is_found(tmp_path):
    bern, _ = two(tmp_path)
    first = bern.journal.entry(1)
    falsify(bern, lambda plain: plain | {"s": first.s})
    assert codes(verify_home(bern.home)) == {"entry.salt"}


def test_an_artifact_of_unknown_origin_is_a_gap(tmp_path):
    bern, _ = two(tmp_path)
    bern.model = sha256(b"from nowhere")
    bern.journal.append([train_of(bern)])
    assert codes(audit_of(bern)) == {"lineage.gap"}


def test_one_model_cannot_be_made_twice_from_different_things(tmp_path):
    bern, _ = two(tmp_path)
    first = bern.train()
    bern.journal.append([train_of(bern, base=first, out=sha256(b"a"))])
    bern.journal.append([train_of(bern, base=sha256(b"a"), out=first)])
    found = audit_of(bern)
    assert codes(found) == {"lineage.reused"}
    assert found.exit_code() == 1


def test_a_cycle_over_two_ledgers_is_found(tmp_path):
    bern, graz = two(tmp_path)
    a, b = sha256(b"a"), sha256(b"b")
    for one, base, out in ((bern, a, b), (graz, b, a)):
        one.journal.append([ModelBase(model=base, source="", licence="", note="")])
        one.journal.append([train_of(one, base=base, out=out)])
    found = audit_of(bern, graz)
    assert codes(found) == {"lineage.cycle"}
    assert found.exit_code() == 3


def test_training_that_changes_nothing_is_no_finding(tmp_path):
    bern, _ = two(tmp_path)
    bern.journal.append([train_of(bern, out=bern.model)] * 2)
    assert audit_of(bern).findings == ()


def test_what_leaves_a_hospital_may_be_a_transformed_model(tmp_path):
    bern, graz = two(tmp_path)
    bern.train()
    sent = bern.publish(payload(bern.values + 5))
    graz.receive(sent, bern.author)
    assert audit_of(bern, graz).findings == ()


def published(hospital, **changes):
    """Publishes an artifact whose manifest was changed, or signed by another key."""
    key = changes.pop("key", hospital.keys["art"])
    hospital.sequence += 1
    data = hospital.store.get(hospital.model)
    manifest = hospital.manifest(hospital.model, data, parents=(hospital.before,))
    body = entries.ArtifactPublish(
        art=hospital.model,
        chunk_root=bytes.fromhex(manifest.payload.chunk_root),
        kind="parameters",
        size=len(data),
        env=hospital.journal.blobs.put(
            envelope.pack(artifact.seal(msgspec.structs.replace(manifest, **changes), key))
        ),
        derived_from=[hospital.before],
        knowledge=None,
        policy=None,
        sequence=hospital.sequence,
    )
    hospital.journal.append([body])
    return body


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"sequence": 9}, "sequence"),
        ({"kind": "logits"}, "kind"),
        ({"parents": ()}, "parents"),
        ({"charter": "22" * 32}, "charter"),
        ({"knowledge": "22" * 32}, "knowledge"),
        ({"publisher": "b" * 32}, "names"),
    ],
)
def test_a_manifest_that_contradicts_its_entry_is_found(tmp_path, changes, word):
    bern, _ = two(tmp_path)
    bern.train()
    published(bern, **changes)
    found = audit_of(bern)
    assert codes(found) == {"publish.envelope"}
    assert word in found.findings[0].message
    assert found.exit_code() == 3


def test_an_envelope_by_another_key_is_found(tmp_path):
    bern, graz = two(tmp_path)
    bern.train()
    published(bern, key=graz.keys["art"])
    found = audit_of(bern)
    assert codes(found) == {"publish.envelope"}
    assert found.findings[0].evidence is not None


def test_two_artifacts_under_one_number_are_equivocation(tmp_path):
    bern, _ = two(tmp_path)
    bern.train()
    published(bern)
    bern.sequence -= 1
    published(bern, round=7)
    found = audit_of(bern)
    assert codes(found) == {"publish.sequence", "publish.equivocation"}
    assert found.exit_code() == 3


def received(hospital, sent, **changes):
    """The receive entry that `Hospital.receive` appended last, changed and appended again."""
    entry = hospital.journal.entry(hospital.journal.size - 1)
    body = msgspec.structs.replace(entry.b, **changes)
    hospital.journal.append([body])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"index": 1}, {"receive.proof"}),
        ({"size": 99}, {"receive.proof"}),
        ({"root": bytes(32)}, {"receive.proof"}),
        ({"art": bytes(32)}, {"receive.envelope", "receive.proof"}),
        ({"publisher": "b" * 32}, set()),
        ({"proof": bytes(32)}, {"blob.missing"}),
        ({"env": bytes(32)}, {"blob.missing", "receive.proof"}),
    ],
)
def test_a_false_receipt_is_found(tmp_path, changes, expected):
    bern, graz = two(tmp_path)
    bern.train()
    sent = bern.publish()
    graz.receive(sent, bern.author)
    received(graz, sent, **changes)
    found = audit_of(graz)
    assert codes(found) == expected
    assert found.ledgers[0].unchecked_receipts == ("publisher" in changes)


def test_a_proof_of_somebody_else_is_found(tmp_path):
    bern, graz = two(tmp_path)
    bern.train()
    sent = bern.publish()
    graz.receive(sent, bern.author)
    other = graz.journal.blobs.put(graz.journal.prove(1))
    received(graz, sent, proof=other)
    assert codes(audit_of(graz)) == {"receive.proof"}


def test_a_damaged_copy_of_a_peers_genesis_is_found_and_leaves_receipts_unchecked(homes):
    for path in (homes[0] / "peers").iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    found = verify_home(homes[0])
    assert codes(found) == {"peers.genesis"}
    assert found.ledgers[0].unchecked_receipts == 4


@pytest.fixture
def mixing(tmp_path):
    """Bern holds an artifact of Graz and is about to mix it."""
    bern, graz = two(tmp_path)
    bern.train()
    graz.train()
    sent = graz.publish()
    bern.receive(sent, graz.author)
    return bern, graz, sent


def test_a_mix_with_another_weight_is_found_by_evidence_and_by_replay(mixing):
    bern, graz, sent = mixing
    half = entries.UNIT_E9 // 2
    parts = [
        Part(art=bern.model, node=bern.node, w_e9=half - 7, trust_e9=2 * half),
        Part(art=sent.art, node=graz.node, w_e9=half + 7, trust_e9=half),
    ]
    bern.mix([sent], parts=parts)
    found = audit_of(bern, replay=True)
    assert codes(found) == {"integrate.weight", "integrate.replay"}
    assert found.exit_code() == 3


def test_a_hidden_part_is_found_by_replay(mixing):
    bern, _graz, sent = mixing
    own = [Part(art=bern.model, node=bern.node, w_e9=10**9, trust_e9=10**9)]
    bern.mix([sent], parts=own)
    found = audit_of(bern, replay=True)
    assert codes(found) == {"integrate.weight", "integrate.replay"}
    assert "left out" in found.findings[0].message
    assert codes(verify_home(bern.home)) == {"integrate.weight"}


def test_a_mix_declared_under_other_bytes_is_found_by_replay(mixing):
    bern, _, sent = mixing
    bern.mix([sent], out=sha256(b"not this"))
    found = audit_of(bern, replay=True)
    assert codes(found) == {"integrate.replay"}


def test_a_mix_that_cannot_be_computed_is_found(mixing):
    bern, _, sent = mixing
    bern.mix([sent], not_mixed=["no.such.tensor"])
    assert codes(audit_of(bern, replay=True)) == {"integrate.replay"}


@pytest.mark.parametrize("rule", [*sorted(TAUGHT), VECTORS])
def test_a_sum_of_models_that_calls_itself_a_lesson_is_found(mixing, rule):
    bern, graz, sent = mixing
    body = bern.mix([sent], out=sha256(b"whatever"), rule=rule)
    found = audit_of(bern)
    assert codes(found) == {"integrate.rule"}
    assert found.exit_code() == 1
    assert f"the rule {rule} for what {graz.node} gave as parameters" in str(found.lines())
    assert body.rule == rule


@pytest.mark.parametrize("rule", sorted(TAUGHT))
def test_a_lesson_without_a_teacher_is_computed_again(mixing, rule):
    bern, _graz, sent = mixing
    own = [Part(art=bern.model, node=bern.node, w_e9=10**9, trust_e9=10**9)]
    nobody = bern.judge([sent], pinned_e9=0)
    bern.mix([sent], judged=nobody, parts=own, rule=rule, out=sha256(b"hidden content"))
    assert "integrate.replay" in codes(audit_of(bern, replay=True))


def test_a_vector_from_another_base_is_found(tmp_path):
    bern, graz = two(tmp_path)
    bern.train()
    graz.train()
    sent = graz.publish(kind="data_vector", base="77" * 32)
    bern.receive(sent, graz.author)
    judged = bern.judge([sent], kind="data_vector")
    bern.mix([sent], judged=judged, rule=VECTORS)
    found = audit_of(bern)
    assert "integrate.rule" in codes(found)
    assert "is a difference from another base than this log's" in str(found.lines())


def test_a_judgement_for_another_kind_than_was_signed_is_found(mixing):
    bern, graz, sent = mixing
    bern.mix([sent], judged=bern.judge([sent], kind="logits"))
    found = audit_of(bern)
    assert "trust.evidence" in codes(found)
    assert f"{graz.node} is judged for logits, but gave parameters" in str(found.lines())


def test_a_mix_that_begins_with_a_peer_s_part_is_found(mixing):
    bern, _graz, sent = mixing
    judged = bern.judge([sent])
    parts = [
        Part(art=one.art, node=one.node, w_e9=one.w_e9, trust_e9=one.trust_e9)
        for one in integrate.coefficients(bern.model, bern.node, judged)
    ]
    bern.mix([sent], judged=judged, parts=parts[::-1])
    assert "trust.training" in codes(audit_of(bern))


def test_a_part_that_was_never_received_is_found(mixing):
    bern, graz, _ = mixing
    graz.train()
    secret = graz.publish()
    bern._keep(secret.data)
    bern.mix([secret])
    found = audit_of(bern)
    assert codes(found) == {"integrate.unlogged"}
    assert found.exit_code() == 1


def test_weights_that_do_not_sum_to_one_are_found(mixing):
    bern, _, sent = mixing
    body = bern.mix([sent])
    plain = msgspec.to_builtins(body, builtin_types=(bytes,))
    plain["parts"][0]["w_e9"] -= 1
    plain["out"] = sha256(b"other")
    falsify(bern, lambda entry: entry | {"t": "artifact.integrate", "b": plain})
    found = verify_home(bern.home, replay=True)
    assert {"integrate.sum", "integrate.replay"} <= codes(found)
    assert found.exit_code() == 3


def test_evidence_that_does_not_give_the_trust_is_found(mixing):
    bern, graz, sent = mixing
    (record,) = bern.judge([sent])
    praised = msgspec.structs.replace(record, trust_e9=999_999_999)
    for one, new in ((praised, 999_999_999), (record, 5)):
        bern.journal.append(
            [
                TrustUpdate(
                    node=graz.node, kind="parameters", art=sent.art,
                    old_e9=one.trust_before_e9, new_e9=new, cause="granted",
                    evidence=bern.journal.blobs.put(records.pack(one)),
                )
            ]
        )  # fmt: skip
    found = audit_of(bern)
    assert codes(found) == {"trust.evidence"}
    assert len(found.findings) == 2
    assert found.exit_code() == 1


def test_a_round_that_a_crash_cut_off_is_no_finding(mixing):
    """What was judged counts, what was not is judged in the next round, and nothing was mixed."""
    bern, graz, sent = mixing
    (record,) = bern.judge([sent])
    bern.journal.append([bern.update(record)])
    bern.scores[graz.node] = Score(r_e9=record.r_after_e9, s_e9=record.s_after_e9)
    bern.train()
    graz.train()
    sent = graz.publish()
    bern.receive(sent, graz.author)
    bern.mix([sent])
    assert audit_of(bern, replay=True).findings == ()


def test_an_operators_word_needs_no_evidence_record(mixing):
    bern, graz, _ = mixing
    bern.journal.append(
        [
            TrustUpdate(
                node=graz.node, kind="parameters", art=None, old_e9=5, new_e9=5,
                cause="operator.mute", evidence=bern.journal.blobs.put(b"muted by hand"),
            )
        ]
    )  # fmt: skip
    assert audit_of(bern).findings == ()
