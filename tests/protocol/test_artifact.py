"""Artifacts: an in-toto statement in canonical JSON, and no manifest that contradicts itself."""

import hashlib
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol import artifact as artifact_module
from konsil.protocol import envelope as dsse
from konsil.protocol import jcs
from konsil.protocol.artifact import (
    COHORT_BUCKETS,
    KINDS,
    Artifact,
    ClassCoverage,
    Coverage,
    Payload,
    PrivacySpent,
    bucket,
    open_sealed,
    read_statement,
    seal,
    statement,
)
from konsil.protocol.encoding import FORMATS, encoding_of
from konsil.protocol.errors import (
    EncodingRefused,
    LimitExceeded,
    LocalProtocolError,
    ManifestRefused,
    RemoteError,
    SignatureRefused,
)
from konsil.protocol.identity import SigningKey
from konsil.protocol.in_toto import PAYLOAD_TYPE
from konsil.protocol.limits import DEFAULT_LIMITS, Limits

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
KEY = SigningKey.from_seed(b"a" * 32)


def digest(text):
    return hashlib.sha256(text.encode("ascii")).hexdigest()


ARTIFACT = Artifact(
    kind="parameters",
    publisher="a2" * 16,
    sequence=3,
    round=2,
    task="breast-cancer",
    base=digest("base"),
    architecture=digest("architecture"),
    parents=(digest("parent 1"), digest("parent 2")),
    payload=Payload(
        digest=digest("payload"),
        size=1_500_000,
        format="safetensors",
        chunk_bytes=1_048_576,
        chunk_root=digest("root"),
    ),
    coverage=Coverage(
        rows=200,
        classes=(ClassCoverage(name="malignant", rows=50), ClassCoverage(name="benigne é", rows=0)),
        not_evaluated=("unclear",),
        tensors=(),
    ),
    privacy=PrivacySpent(mechanism="none", unit="none", epsilon_micro=0, delta_e12=0),
    charter=digest("charter"),
    knowledge=None,
)
DOCUMENT = json.loads(statement(ARTIFACT))


def with_change(path, value):
    """The canonical statement with the value at `path` replaced, or left out for `...`."""
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


CHANGED = {"decoded": digest("tensors"), "reference": digest("envelope")}
NAMED = {
    ("plain", False): {},
    ("plain", True): {"decoded": digest("tensors")},
    ("fp16", True): CHANGED,
    ("int8", True): CHANGED,
    ("topk", True): CHANGED,
}
"""What else a payload names, by codec and whether it is encoded or compressed."""


def test_a_manifest_is_an_in_toto_statement():
    assert set(DOCUMENT) == {"_type", "subject", "predicateType", "predicate"}
    assert DOCUMENT["_type"] == "https://in-toto.io/Statement/v1"
    assert DOCUMENT["predicateType"] == "konsil:artifact/v1"
    assert DOCUMENT["subject"] == [{"name": "payload", "digest": {"sha256": digest("payload")}}]
    assert set(DOCUMENT["predicate"]) == set(Artifact.__struct_fields__)


def test_what_is_sealed_is_opened():
    envelope = seal(ARTIFACT, KEY)
    assert open_sealed(dsse.unpack(dsse.pack(envelope)), KEY.public) == ARTIFACT
    assert envelope.payload == statement(ARTIFACT)
    assert envelope.payload_type == PAYLOAD_TYPE == "application/vnd.in-toto+json"


def test_a_signature_of_somebody_else_is_refused():
    other = SigningKey.from_seed(b"o" * 32)
    with pytest.raises(SignatureRefused):
        open_sealed(seal(ARTIFACT, KEY), other.public)
    with pytest.raises(SignatureRefused):
        open_sealed(dsse.sign("text/plain", statement(ARTIFACT), KEY), KEY.public)


PLAIN = msgspec.structs.replace(
    ARTIFACT, coverage=Coverage(rows=10, classes=(), not_evaluated=("age",), tensors=())
)
HEX = digest("parent 1")
P = "predicate"


@pytest.mark.parametrize(
    ("path", "value", "error", "reason"),
    [
        (["_type"], "https://in-toto.io/Statement/v0.1", ManifestRefused, "statement of type"),
        (["predicateType"], "konsil:artifact/v2", ManifestRefused, "predicate of type"),
        (["subject"], [], ManifestRefused, "exactly the payload"),
        (["subject"], DOCUMENT["subject"] * 2, ManifestRefused, "exactly the payload"),
        (["subject", 0, "name"], "other", ManifestRefused, "exactly the payload"),
        (["subject", 0, "digest", "sha256"], HEX, ManifestRefused, "different payloads"),
        (["subject", 0, "digest", "sha512"], HEX, EncodingRefused, "sha512"),
        (["subject", 0, "uri"], "x", EncodingRefused, "uri"),
        (["extra"], 1, EncodingRefused, "extra"),
        ([P, "extra"], 1, EncodingRefused, "extra"),
        ([P, "payload", "extra"], 1, EncodingRefused, "extra"),
        ([P, "knowledge"], ..., EncodingRefused, "knowledge"),
        ([P, "base"], "A" * 64, EncodingRefused, "base"),
        ([P, "base"], HEX[:-1], EncodingRefused, "base"),
        ([P, "base"], None, EncodingRefused, "base"),
        ([P, "architecture"], HEX + "00", EncodingRefused, "architecture"),
        ([P, "charter"], "", EncodingRefused, "charter"),
        ([P, "knowledge"], "none", EncodingRefused, "knowledge"),
        ([P, "kind"], "weights", EncodingRefused, "kind"),
        ([P, "publisher"], "charite", EncodingRefused, "publisher"),
        ([P, "sequence"], 0, EncodingRefused, "sequence"),
        ([P, "sequence"], True, EncodingRefused, "sequence"),
        ([P, "sequence"], "1", EncodingRefused, "sequence"),
        ([P, "round"], -1, EncodingRefused, "round"),
        ([P, "task"], "", EncodingRefused, "task"),
        ([P, "task"], "two words", EncodingRefused, "task"),
        ([P, "parents"], [HEX, HEX], ManifestRefused, "a parent is named twice"),
        ([P, "parents"], [digest("payload")], ManifestRefused, "own parent"),
        ([P, "parents"], [digest(str(n)) for n in range(65)], LimitExceeded, "65 parents"),
        ([P, "parents"], ["x"], EncodingRefused, "parents"),
        ([P, "payload", "size"], 0, EncodingRefused, "size"),
        ([P, "payload", "size"], 2**33, LimitExceeded, "bytes of payload"),
        ([P, "payload", "format"], "pickle", EncodingRefused, "format"),
        ([P, "payload", "format"], "safetensors+int4", EncodingRefused, "format"),
        ([P, "payload", "format"], "safetensors+delta+int8", EncodingRefused, "format"),
        ([P, "payload", "chunk_bytes"], 0, EncodingRefused, "chunk_bytes"),
        ([P, "payload", "chunk_bytes"], 2**21, LimitExceeded, "bytes in a chunk"),
        ([P, "payload", "chunk_bytes"], 1, LimitExceeded, "1500000 chunks"),
        ([P, "coverage", "rows"], 199, ManifestRefused, "199 rows"),
        ([P, "coverage", "rows"], -1, EncodingRefused, "rows"),
        ([P, "coverage", "classes", 0, "rows"], 51, ManifestRefused, "51 rows"),
        ([P, "coverage", "classes", 0, "name"], "", EncodingRefused, "name"),
        ([P, "coverage", "classes", 0, "name"], "benigne é", ManifestRefused, "a class"),
        ([P, "coverage", "not_evaluated"], ["malignant"], ManifestRefused, "a class is named"),
        ([P, "coverage", "tensors"], ["w", "w"], ManifestRefused, "a tensor is named twice"),
        ([P, "privacy", "mechanism"], "gaussian", ManifestRefused, "privacy"),
        ([P, "privacy", "unit"], "patient", ManifestRefused, "privacy"),
        ([P, "privacy", "epsilon_micro"], 1, ManifestRefused, "privacy"),
        ([P, "privacy", "delta_e12"], 10**12 + 1, EncodingRefused, "delta_e12"),
        ([P, "privacy", "unit"], "family", EncodingRefused, "unit"),
    ],
)
def test_a_wrong_manifest_is_refused(path, value, error, reason):
    data = with_change(path, value)
    with pytest.raises(error, match=reason):
        read_statement(data)
    with pytest.raises(error, match=reason):
        open_sealed(dsse.sign(PAYLOAD_TYPE, data, KEY), KEY.public)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": "safetensors+zstd"}, "not named"),
        ({"format": "safetensors+int8"}, "not named"),
        ({"decoded": HEX}, "named beside"),
        ({"decoded": HEX, "reference": HEX}, "named beside"),
        ({"reference": HEX}, "cannot be a change"),
        ({"format": "safetensors+zstd", "decoded": HEX, "reference": HEX}, "cannot be a change"),
    ],
)
def test_what_is_encoded_names_its_tensors_and_nothing_else_does(changes, reason):
    document = json.loads(json.dumps(DOCUMENT))
    document[P]["payload"] |= changes
    with pytest.raises(ManifestRefused, match=reason):
        read_statement(jcs.canonical(document))


@pytest.mark.parametrize("name", ["decoded", "reference"])
@pytest.mark.parametrize("value", [None, "A" * 64, HEX[1:], 5])
def test_what_says_nothing_is_left_out(name, value):
    document = json.loads(statement(PLAIN))
    document[P]["payload"] |= {"format": "safetensors+int8", "decoded": HEX, name: value}
    data = jcs.canonical(document)
    assert artifact_module._quick(data, DEFAULT_LIMITS) is None
    with pytest.raises(EncodingRefused):
        read_statement(data)


@pytest.mark.parametrize("word", FORMATS)
def test_every_format_is_read_the_quick_way_and_the_careful(word):
    payload = msgspec.structs.replace(
        ARTIFACT.payload, format=word, **NAMED[encoding_of(word).codec, word != "safetensors"]
    )
    coverage = msgspec.structs.replace(ARTIFACT.coverage, classes=())
    artifact = msgspec.structs.replace(ARTIFACT, payload=payload, coverage=coverage)
    data = statement(artifact)
    assert artifact_module._quick(data, DEFAULT_LIMITS).predicate == artifact
    assert artifact_module._careful(data, DEFAULT_LIMITS).predicate == artifact
    assert read_statement(data).payload == payload


def test_an_unknown_format_is_refused_for_its_encoding():
    with pytest.raises(RemoteError) as refused:
        read_statement(with_change([P, "payload", "format"], "safetensors+int4"))
    assert refused.value.code == "encoding"


def test_limits_are_the_callers():
    data = statement(ARTIFACT)
    for limits in (
        Limits(parents=1),
        Limits(classes=2),
        Limits(payload_bytes=1_499_999),
        Limits(chunk_bytes=1_048_575),
        Limits(chunks=1),
        Limits(envelope_bytes=len(data) - 1),
        Limits(depth=4),
        Limits(text_bytes=63),
    ):
        with pytest.raises(LimitExceeded):
            read_statement(data, limits=limits)
    tensors = with_change([P, "coverage", "tensors"], ["a", "b"])
    assert read_statement(tensors).coverage.tensors == ("a", "b")
    with pytest.raises(LimitExceeded, match="2 tensors"):
        read_statement(tensors, limits=Limits(tensors=1))


@pytest.mark.parametrize(
    "data",
    [
        json.dumps(DOCUMENT).encode("utf-8"),
        statement(ARTIFACT) + b"\n",
        statement(ARTIFACT).replace(b'"round":2', b'"round":2,"round":2'),
        statement(ARTIFACT).replace(b'"round":2', b'"round":2.0'),
        "benigne é".encode(),
        b"[]",
        b"null",
        b"",
    ],
)
def test_other_bytes_are_refused(data):
    with pytest.raises(EncodingRefused):
        read_statement(data)


def test_a_manifest_that_would_be_refused_is_never_signed():
    for wrong in (
        msgspec.structs.replace(ARTIFACT, sequence=0),
        msgspec.structs.replace(ARTIFACT, base="x"),
        msgspec.structs.replace(ARTIFACT, task="a\nb"),
        msgspec.structs.replace(ARTIFACT, parents=(HEX, HEX)),
        msgspec.structs.replace(ARTIFACT, parents=tuple(digest(str(n)) for n in range(65))),
    ):
        with pytest.raises(LocalProtocolError):
            seal(wrong, KEY)


def test_privacy_figures_go_with_a_mechanism():
    spent = PrivacySpent(
        mechanism="gaussian", unit="patient", epsilon_micro=2_000_000, delta_e12=10_000_000
    )
    artifact = msgspec.structs.replace(ARTIFACT, privacy=spent)
    assert read_statement(statement(artifact)).privacy == spent


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_changed_byte_is_refused_or_another_canonical_manifest(draw):
    data = bytearray(statement(ARTIFACT))
    place = draw.draw(st.integers(0, len(data) - 1))
    data[place] ^= draw.draw(st.integers(1, 255))
    try:
        found = read_statement(bytes(data))
    except RemoteError:
        return
    assert statement(found) == bytes(data)
    assert found != ARTIFACT


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 3_000_000))
def test_a_bucket_is_the_largest_edge_that_fits(rows):
    assert bucket(rows) == max(edge for edge in COHORT_BUCKETS if edge <= rows)


def test_rows_are_counted_from_zero():
    assert [bucket(rows) for rows in (0, 9, 10, 49, 50, 99)] == [0, 0, 10, 20, 50, 50]
    with pytest.raises(LocalProtocolError):
        bucket(-1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read(kind):
    artifact = msgspec.structs.replace(ARTIFACT, kind=kind)
    assert read_statement(statement(artifact)).kind == kind


def test_golden_manifest():
    golden = json.loads((VECTORS / "artifact.json").read_text("utf-8"))
    envelope = seal(ARTIFACT, KEY)
    assert envelope.payload.decode("utf-8") == golden["statement"]
    packed = dsse.pack(envelope)
    assert packed.hex() == golden["packed"]
    assert hashlib.sha256(packed).hexdigest() == golden["env"]


def _careful_statement(artifact):
    return artifact_module._careful(statement(artifact), DEFAULT_LIMITS)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_the_quick_reader_accepts_nothing_that_the_careful_one_refuses(draw):
    """Bytes changed, doubled or taken out: whatever the quick way reads is read the same."""
    data = bytearray(statement(PLAIN))
    for _ in range(draw.draw(st.integers(0, 3))):
        at = draw.draw(st.integers(0, len(data) - 1))
        end = min(len(data), at + draw.draw(st.integers(0, 3)))
        data[at:end] = draw.draw(
            st.binary(max_size=4) | st.sampled_from([b" ", b"0", b"-0", b"1.0"])
        )
    quick = artifact_module._quick(bytes(data), DEFAULT_LIMITS)
    if quick is not None:
        assert quick == artifact_module._careful(bytes(data), DEFAULT_LIMITS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("base", "A" * 64),
        ("architecture", "0" * 63),
        ("parents", ["g" * 64]),
        ("charter", "0" * 65),
        ("knowledge", ""),
        ("knowledge", "0" * 32 + "_" * 32),
        ("publisher", "A" * 32),
        ("publisher", "a" * 31),
        ("task", "two words"),
        ("task", "x" * 129),
        ("payload.digest", "F" * 64),
        ("payload.chunk_root", " " * 64),
        ("privacy.mechanism", "None"),
    ],
)
def test_the_quick_reader_looks_at_every_text(field, value):
    document = json.loads(statement(PLAIN))
    group, _, name = field.rpartition(".")
    place = document["predicate"][group] if group else document["predicate"]
    assert name in place
    place[name] = value
    data = jcs.canonical(document)
    assert artifact_module._quick(data, DEFAULT_LIMITS) is None
    with pytest.raises(EncodingRefused):
        read_statement(data)


def test_the_quick_reader_looks_at_the_digest_of_the_subject():
    document = json.loads(statement(PLAIN))
    document["subject"][0]["digest"]["sha256"] = "F" * 64
    with pytest.raises(EncodingRefused):
        read_statement(jcs.canonical(document))


def test_what_we_write_is_read_the_quick_way():
    assert artifact_module._quick(statement(PLAIN), DEFAULT_LIMITS) == _careful_statement(PLAIN)
    assert artifact_module._quick(statement(ARTIFACT), DEFAULT_LIMITS) is None
