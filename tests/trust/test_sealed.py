"""Envelopes opened together: what one by one would give, and nothing else."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from konsil.protocol import artifact, envelope, in_toto
from konsil.protocol.artifact import Artifact, Coverage, Payload, PrivacySpent, bucket, seal
from konsil.protocol.digest import sha256
from konsil.protocol.errors import RemoteError
from konsil.protocol.identity import SigningKey
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.trust.sealed import open_together

KEY, OTHER = SigningKey(bytes(range(32))), SigningKey(bytes(32))


def manifest(sequence):
    return Artifact(
        kind="parameters", publisher="a" * 32, sequence=sequence, round=1, task="test",
        base="00" * 32, architecture="11" * 32, parents=("22" * 32,),
        payload=Payload(
            digest="33" * 32, size=1_000, format="safetensors", chunk_bytes=1 << 20,
            chunk_root="44" * 32,
        ),
        coverage=Coverage(rows=bucket(123), classes=(), not_evaluated=(), tensors=()),
        privacy=PrivacySpent(mechanism="none", unit="none", epsilon_micro=0, delta_e12=0),
        charter="00" * 32, knowledge=None,
    )  # fmt: skip


def good(sequence):
    return envelope.pack(seal(manifest(sequence), KEY))


def by_another(sequence):
    return envelope.pack(seal(manifest(sequence), OTHER))


def changed(sequence):
    sealed = seal(manifest(sequence), KEY)
    payload = sealed.payload.replace(b'"task":"test"', b'"task":"tset"')
    return envelope.pack(msgspec.structs.replace(sealed, payload=payload))


def no_manifest(sequence):
    statement = b'{"sequence":%d}' % sequence
    return envelope.pack(envelope.sign(in_toto.PAYLOAD_TYPE, statement, KEY))


def of_another_type(sequence):
    statement = artifact.statement(manifest(sequence))
    return envelope.pack(envelope.sign("text/plain", statement, KEY))


def no_envelope(sequence):
    return good(sequence)[:-1]


ALL = (good, by_another, changed, no_manifest, of_another_type, no_envelope)


def alone(data):
    """What an envelope by itself holds; None where it is refused."""
    try:
        return artifact.open_sealed(envelope.unpack(data), KEY.public)
    except RemoteError:
        return None


@given(st.lists(st.sampled_from(ALL), max_size=8))
def test_together_they_are_what_each_is_alone(made):
    packed = [kind(sequence) for sequence, kind in enumerate(made, 1)]
    found = open_together({sha256(one): one for one in packed}, KEY.public, DEFAULT_LIMITS)
    each = {sha256(one): alone(one) for one in packed}
    assert found == {env: one for env, one in each.items() if one is not None}
    assert [one.sequence for one in found.values()] == [
        sequence for sequence, kind in enumerate(made, 1) if kind is good
    ]
