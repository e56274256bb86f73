"""Writing manifests and envelopes the quick way: the bytes and refusals of the careful one."""

from __future__ import annotations

import msgspec
import pytest

from konsil.protocol import artifact, envelope, in_toto, jcs, records
from konsil.protocol.artifact import Artifact, ClassCoverage, Coverage, Payload, PrivacySpent
from konsil.protocol.envelope import Envelope, EnvelopeSignature
from konsil.protocol.errors import LocalProtocolError

HEX = "0123456789abcdef" * 4
MANIFEST = Artifact(
    kind="parameters", publisher="a" * 32, sequence=3, round=4, task="sim/digits", base=HEX,
    architecture=HEX, parents=("f" * 64,),
    payload=Payload(
        digest=HEX, size=99, format="safetensors", chunk_bytes=1 << 20, chunk_root=HEX
    ),
    coverage=Coverage(
        rows=20, classes=(ClassCoverage(name="1", rows=10),), not_evaluated=("2",), tensors=()
    ),
    privacy=PrivacySpent(mechanism="none", unit="none", epsilon_micro=0, delta_e12=0),
    charter=HEX, knowledge=None,
)  # fmt: skip
SEALED = Envelope(
    payload=b"x" * 5000,
    payload_type="text/plain",
    signatures=(EnvelopeSignature(keyid="key", sig=b"s" * 64),),
)


def covering(name):
    coverage = msgspec.structs.replace(MANIFEST.coverage, not_evaluated=(name,))
    return msgspec.structs.replace(MANIFEST, coverage=coverage)


def carefully(manifest):
    subject = [{"name": "payload", "digest": {"sha256": manifest.payload.digest}}]
    return jcs.canonical(
        {
            "_type": in_toto.STATEMENT_TYPE,
            "predicateType": artifact.PREDICATE_TYPE,
            "subject": subject,
            "predicate": msgspec.to_builtins(manifest),
        }
    )


@pytest.mark.parametrize("name", ["2", "Grün", "a\\b", 'a"b', "日本", "x" * 256])
def test_every_text_is_written_in_canonical_form(name):
    manifest = covering(name)
    assert artifact.statement(manifest) == carefully(manifest)


@pytest.mark.parametrize("name", ["", "x" * 257, "\x7f", "\u0041\u030a", "1"])
def test_what_a_reader_would_refuse_is_not_written(name):
    with pytest.raises(LocalProtocolError, match=r"would be refused|holds"):
        artifact.statement(covering(name))


def test_a_value_that_is_written_as_it_stands_is_not_signed_unlooked_at():
    raw = msgspec.structs.replace(MANIFEST, sequence=msgspec.Raw(b"3 "))
    with pytest.raises((LocalProtocolError, TypeError)):
        artifact.statement(raw)


@pytest.mark.parametrize("hint", ["key", "", "Schlüssel", "k" * 1000])
def test_an_envelope_has_one_packed_form(hint):
    one = EnvelopeSignature(keyid=hint, sig=b"s" * 64)
    sealed = msgspec.structs.replace(SEALED, signatures=(one,))
    assert envelope.pack(sealed) == records.pack(sealed)


@pytest.mark.parametrize(
    "wrong",
    [{"payload": "text"}, {"payload_type": "two words"}, {"signatures": ()}, {"payload": 2**70}],
)
def test_an_envelope_that_a_reader_refuses_is_not_packed(wrong):
    with pytest.raises(LocalProtocolError, match="cannot be packed"):
        envelope.pack(msgspec.structs.replace(SEALED, **wrong))
