"""What we sign is verified by tools that know nothing of us, and what was changed is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol import envelope, jcs
from konsil.protocol.cmp1 import text_fault
from konsil.protocol.identity import SigningKey
from konsil.protocol.p256 import P256SigningKey
from konsil.trust.exports import envelopes, intoto, openssf

KEYS = [SigningKey(bytes([n]) * 32) for n in range(1, 7)]


@pytest.fixture(scope="module")
def sealed(hospitals):
    homes = [one.home for one in hospitals]
    return envelopes.read_envelope(homes, envelopes.find_artifact(homes).env)


@pytest.fixture(scope="module")
def art_key(hospitals):
    return hospitals[0].author.keys["art"]


def ssl_key(key, keyid):
    from securesystemslib.signer import SSlibKey

    return SSlibKey(keyid, "ed25519", "ed25519", {"public": key.raw.hex()})


def test_securesystemslib_verifies_the_exported_envelope(module, sealed, art_key):
    dsse = module("securesystemslib.dsse")
    failures = module("securesystemslib.exceptions")
    document = json.loads(intoto.to_intoto(sealed))
    key = ssl_key(art_key, art_key.key_id)
    opened = dsse.Envelope.from_dict(json.loads(json.dumps(document)))
    assert list(opened.verify([key], 1)) == [art_key.key_id]
    assert opened.payload == envelope.unpack(sealed).payload
    statement = json.loads(opened.payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    changed = bytearray(opened.payload)
    changed[40] ^= 1
    document["payload"] = base64.b64encode(changed).decode()
    with pytest.raises(failures.VerificationError):
        dsse.Envelope.from_dict(document).verify([key], 1)
    stranger = ssl_key(KEYS[0].public, art_key.key_id)
    with pytest.raises(failures.VerificationError):
        opened.verify([stranger], 1)


def test_in_toto_reads_the_statement(module, sealed):
    statement = module("in_toto_attestation.v1.statement")
    pb = module("google.protobuf.json_format")
    proto = module("in_toto_attestation.v1.statement_pb2")
    parsed = pb.Parse(envelope.unpack(sealed).payload, proto.Statement())
    statement.Statement.copy_from_pb(parsed).validate()
    parsed.predicate_type = ""
    with pytest.raises(ValueError, match="Predicate type"):
        statement.Statement.copy_from_pb(parsed).validate()


def openssl(program, folder, key, message, signature):
    """Whether the OpenSSL command accepts an Ed25519 signature."""
    public = Ed25519PublicKey.from_public_bytes(key.raw).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for name, data in (("key.pem", public), ("message", message), ("signature", signature)):
        (folder / name).write_bytes(data)
    command = [program, "pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin"]
    command += ["-in", "message", "-sigfile", "signature"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 1), done.stderr
    return "Verified Successfully" in done.stdout


def test_openssl_verifies_the_signature_over_the_dsse_encoding(program, sealed, art_key, tmp_path):
    openssl_program = program("openssl", "openssl")
    document = json.loads(intoto.to_intoto(sealed))
    payload = base64.b64decode(document["payload"])
    signature = base64.b64decode(document["signatures"][0]["sig"])
    kind = document["payloadType"]
    message = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)
    assert openssl(openssl_program, tmp_path, art_key, message, signature)
    assert not openssl(openssl_program, tmp_path, art_key, message + b"\n", signature)
    assert not openssl(openssl_program, tmp_path, KEYS[0].public, message, signature)


@pytest.fixture
def root(module):
    """(bytes of a TUF root of some version, signed with our keys by whom one names)."""
    metadata = module("tuf.api.metadata")
    serial = module("tuf.api.serialization.json")

    def root(version, holders, signers):
        keys = {n: ssl_key(KEYS[n].public, KEYS[n].public.key_id) for n in holders}
        told = metadata.Root(version=version, consistent_snapshot=True)
        for n in holders:
            told.add_key(keys[n], "root")
        told.roles["root"].threshold = 3
        for role in ("timestamp", "snapshot", "targets"):
            told.add_key(keys[holders[0]], role)
        document = metadata.Metadata(told)
        message = serial.CanonicalJSONSerializer().serialize(told)
        for n in signers:
            document.signatures[KEYS[n].public.key_id] = metadata.Signature(
                KEYS[n].public.key_id, KEYS[n].sign(message).hex()
            )
        return document.to_bytes(serial.JSONSerializer())

    return root


@pytest.mark.parametrize(
    ("signers", "accepted"),
    [
        ((1, 2, 3), True),
        ((0, 1, 2, 3, 4), True),
        ((2, 3, 4), False),
        ((0, 1, 2), False),
        ((1, 2), False),
    ],
    ids=["both", "everybody", "new only", "old only", "too few"],
)
def test_tuf_rotates_on_the_old_and_the_new_threshold(module, root, signers, accepted):
    """Our rule for charters, as TUF's own client has it: 3 of the old 4 and 3 of the new 4."""
    trusted = module("tuf.ngclient._internal.trusted_metadata_set")
    envelopes_of = module("tuf.ngclient.config").EnvelopeType.METADATA
    failures = module("tuf.api.exceptions")
    first = root(1, (0, 1, 2, 3), (0, 1, 2))
    known = trusted.TrustedMetadataSet(first, envelopes_of)
    second = root(2, (1, 2, 3, 4), signers)
    if accepted:
        assert known.update_root(second).version == 2
    else:
        with pytest.raises(failures.UnsignedMetadataError):
            known.update_root(second)


TEXTS = st.text(max_size=8).filter(lambda text: not text_fault(text))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-jcs.INT_MAX, jcs.INT_MAX) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_rfc8785_writes_the_same_canonical_json(module, value):
    assert module("rfc8785").dumps(value) == jcs.canonical(value)


@pytest.fixture
def model(tmp_path):
    """A folder as a hospital hands it out, its public key, and the bundle over it."""
    folder = tmp_path / "model"
    folder.mkdir()
    payload = folder / openssf.FILE
    payload.write_bytes(b"weights" * 1_000)
    key = P256SigningKey(bytes(range(1, 33)))
    digest = hashlib.sha256(payload.read_bytes()).digest()
    bundle = tmp_path / "model.sig"
    bundle.write_bytes(openssf.to_openssf(digest, seed=key.seed, bound=key.public))
    public = tmp_path / "p256.pem"
    public.write_bytes(key.public_pem())
    return folder, bundle, public


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_model_signing_verifies_our_bundle_and_nothing_else(module, model, tmp_path):
    verifying = module("model_signing.verifying")
    folder, bundle, public = model

    def verify(key=public):
        verifying.Config().use_elliptic_key_verifier(public_key=key).verify(folder, bundle)

    verify()
    payload = folder / openssf.FILE
    right = payload.read_bytes()
    payload.write_bytes(right[:-1] + b"?")
    with pytest.raises(ValueError, match="Hash mismatch"):
        verify()
    payload.write_bytes(right)
    (folder / "more.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="Extra files"):
        verify()
    (folder / "more.bin").unlink()
    payload.rename(folder / "other.safetensors")
    with pytest.raises(ValueError, match="Missing files"):
        verify()
    (folder / "other.safetensors").rename(payload)
    verify()
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(P256SigningKey(bytes([7]) * 32).public_pem())
    with pytest.raises(ValueError, match="Key mismatch"):
        verify(stranger)
    document = json.loads(bundle.read_bytes())
    statement = base64.b64decode(document["dsseEnvelope"]["payload"])
    forged = statement.replace(b"model.safetensors", b"MODEL.safetensors")
    document["dsseEnvelope"]["payload"] = base64.b64encode(forged).decode()
    bundle.write_text(json.dumps(document))
    with pytest.raises(InvalidSignature):
        verify()


def test_model_signing_as_a_command(module, model):
    import sys

    module("model_signing")
    folder, bundle, public = model
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(folder)]
    command += ["--signature", str(bundle), "--public_key", str(public)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr + done.stdout
    (folder / openssf.FILE).write_bytes(b"")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
