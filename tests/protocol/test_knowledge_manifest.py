"""Knowledge manifests: one text for each, absent is unknown, and no number without its source."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol import jcs
from konsil.protocol.artifact import COHORT_BUCKETS, PrivacySpent
from konsil.protocol.errors import (
    EncodingRefused,
    LimitExceeded,
    LocalProtocolError,
    ManifestRefused,
    RemoteError,
)
from konsil.protocol.knowledge_manifest import (
    Group,
    KnowledgeManifest,
    LabelKnowledge,
    LabelName,
    Measured,
    OutOfDistribution,
    Period,
    TrustIn,
    read,
    write,
)
from konsil.protocol.limits import Limits

HEX = "0123456789abcdef" * 4
AUROC = Measured(value_e6=912_000, low_e6=880_000, high_e6=940_000, evaluation=HEX)
FULL = KnowledgeManifest(
    labels=(
        LabelKnowledge(system="icd-10", code="C50", rows=200, auroc=AUROC),
        LabelKnowledge(system="icd-10", code="D24"),
    ),
    not_evaluated=(LabelName(system="icd-10", code="C44"),),
    known_weak=(LabelName(system="icd-10", code="D24"),),
    modalities=("MG",),
    devices=("Selenia",),
    protocols=("CC", "MLO"),
    groups=(Group(kind="age", name="50-59", rows=50), Group(kind="sex", name="female")),
    period=Period(first="2019-01", last="2021-12"),
    annotation="biopsy",
    out_of_distribution=OutOfDistribution(
        score="energy", threshold_e6=-1_500_000, coverage=AUROC
    ),
    privacy=PrivacySpent(mechanism="none", unit="none", epsilon_micro=0, delta_e12=0),
    base=HEX,
    teachers=(HEX,),
    intended_use="second reading",
    cautioned_use="men",
    contact="ki@hospital.example",
    update_plan="monthly",
    opinions=(TrustIn(node="a" * 32, kind="logits", trust_e9=3),),
)  # fmt: skip
DOCUMENT = json.loads(write(FULL))
EMPTY = write(KnowledgeManifest())


def with_change(path, value) -> bytes:
    document = json.loads(json.dumps(DOCUMENT))
    *way, last = path
    place = document
    for step in way:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return jcs.canonical(document)


labels = st.builds(
    LabelKnowledge,
    system=st.sampled_from(["task", "icd-10"]),
    code=st.text(min_size=1, max_size=5),
    rows=st.none() | st.sampled_from(COHORT_BUCKETS),
    auroc=st.none() | st.builds(Measured, value_e6=st.integers(0, 10**6), evaluation=st.just(HEX)),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(labels, max_size=4, unique_by=lambda one: (one.system, one.code)))
def test_what_is_written_is_read_and_has_one_text(some):
    manifest = KnowledgeManifest(labels=tuple(some), base=HEX)
    try:
        data = write(manifest)
    except LocalProtocolError as fault:
        refusal = fault.message
        assert "holds" in refusal
        return
    assert read(data) == manifest
    assert write(read(data)) == data


def test_everything_comes_back_and_what_is_unknown_is_not_written():
    assert read(write(FULL)) == FULL
    assert read(EMPTY) == KnowledgeManifest()
    assert EMPTY == b'{"type":"konsil:knowledge/v1"}'
    assert set(DOCUMENT) == {"type", *KnowledgeManifest.__struct_fields__}
    assert DOCUMENT["labels"][1] == {"system": "icd-10", "code": "D24"}
    assert read(write(FULL)).labels[1].rows is None


@pytest.mark.parametrize(
    ("path", "value", "error", "reason"),
    [
        (["extra"], 1, EncodingRefused, "extra"),
        (["labels", 0, "extra"], 1, EncodingRefused, "extra"),
        (["labels", 1, "rows"], None, EncodingRefused, "not known"),
        (["period"], None, EncodingRefused, "not known"),
        (["devices"], [], EncodingRefused, "not known"),
        (["type"], ..., EncodingRefused, "type"),
        (["labels", 0, "auroc", "evaluation"], ..., EncodingRefused, "evaluation"),
        (["labels", 0, "auroc", "evaluation"], "x", EncodingRefused, "evaluation"),
        (["labels", 0, "auroc", "value_e6"], 10**6 + 1, EncodingRefused, "value_e6"),
        (["labels", 0, "auroc", "value_e6"], -1, EncodingRefused, "value_e6"),
        (["labels", 0, "auroc", "value_e6"], 870_000, ManifestRefused, "outside its interval"),
        (["labels", 0, "auroc", "low_e6"], ..., ManifestRefused, "one end"),
        (["out_of_distribution", "coverage", "low_e6"], 10**6, ManifestRefused, "outside"),
        (["labels", 0, "rows"], 201, ManifestRefused, "201 rows"),
        (["groups", 0, "rows"], 3, ManifestRefused, "3 rows"),
        (["labels", 1, "code"], "C50", ManifestRefused, "a label is named twice"),
        (["not_evaluated", 0, "code"], "C50", ManifestRefused, "a label is named twice"),
        (["known_weak", 0, "code"], "C44", ManifestRefused, "weak"),
        (["known_weak"], DOCUMENT["known_weak"] * 2, ManifestRefused, "weak label is named twice"),
        (["protocols"], ["CC", "CC"], ManifestRefused, "a protocol"),
        (["groups"], DOCUMENT["groups"][:1] * 2, ManifestRefused, "a group"),
        (["teachers"], [HEX, HEX], ManifestRefused, "a teacher"),
        (["teachers"], ["x"], EncodingRefused, "teachers"),
        (["period", "first"], "2022-01", ManifestRefused, "before it begins"),
        (["period", "first"], "2019-13", EncodingRefused, "first"),
        (["contact"], "", EncodingRefused, "contact"),
        (["type"], "konsil:knowledge/v2", EncodingRefused, "type"),
        (["groups", 0, "kind"], "name", EncodingRefused, "kind"),
        (["opinions", 0, "kind"], "mood", EncodingRefused, "kind"),
        (["opinions", 0, "trust_e9"], 10**9 + 1, EncodingRefused, "trust_e9"),
        (["opinions"], DOCUMENT["opinions"] * 2, ManifestRefused, "a peer is named twice"),
    ],
)
def test_a_wrong_manifest_is_refused(path, value, error, reason):
    with pytest.raises(error, match=reason):
        read(with_change(path, value))


def test_limits_are_the_callers():
    data = write(FULL)
    for limits in (
        Limits(knowledge_bytes=len(data) - 1),
        Limits(classes=2),
        Limits(parents=0),
        Limits(depth=2),
    ):
        with pytest.raises(LimitExceeded):
            read(data, limits=limits)


def test_what_would_be_refused_is_not_written():
    wrong = msgspec.structs.replace(FULL, known_weak=(LabelName(system="a", code="b"),))
    with pytest.raises(LocalProtocolError, match="would be refused"):
        write(wrong)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_are_refused(data):
    with pytest.raises(RemoteError):
        read(data)
