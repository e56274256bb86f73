"""Envelopes: the exact bytes of DSSE, one signature, and openssl's opinion."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol import envelope as dsse
from konsil.protocol import records
from konsil.protocol.envelope import Envelope, EnvelopeSignature
from konsil.protocol.errors import EncodingRefused, LimitExceeded, RemoteError, SignatureRefused
from konsil.protocol.identity import SigningKey
from konsil.protocol.limits import Limits

VECTORS = Path(__file__).resolve().parent.parent / "vectors"

KEY = SigningKey.from_seed(b"k" * 32)
OTHER = SigningKey.from_seed(b"o" * 32)
TYPE = "http://example.com/HelloWorld"
SIGNED = dsse.sign(TYPE, b"hello world", KEY)


def test_pae_is_that_of_the_specification():
    # secure-systems-lab/dsse, protocol.md, "Test vectors".
    assert dsse.pae(TYPE, b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_pae_counts_bytes():
    assert dsse.pae("é", "ü".encode()) == b"DSSEv1 2 \xc3\xa9 2 \xc3\xbc"
    assert dsse.pae("", b"") == b"DSSEv1 0  0 "


def test_what_is_signed_verifies_and_gives_the_exact_payload():
    data = dsse.pack(SIGNED)
    again = dsse.unpack(data)
    assert again == SIGNED
    assert dsse.verify(again, KEY.public, payload_type=TYPE) == b"hello world"
    assert dsse.pack(again) == data


@pytest.mark.parametrize(
    ("envelope", "key", "kind", "reason"),
    [
        (SIGNED, KEY, "text/plain", "of type"),
        (SIGNED, OTHER, TYPE, "another key"),
        (msgspec.structs.replace(SIGNED, payload=b"Hello world"), KEY, TYPE, "does not verify"),
        (msgspec.structs.replace(SIGNED, payload_type="a/b"), KEY, "a/b", "does not verify"),
        (msgspec.structs.replace(SIGNED, signatures=()), KEY, TYPE, "0 signatures"),
        (
            msgspec.structs.replace(SIGNED, signatures=SIGNED.signatures * 2),
            KEY,
            TYPE,
            "2 signatures",
        ),
        (
            msgspec.structs.replace(
                SIGNED,
                signatures=(EnvelopeSignature(keyid=KEY.public.key_id, sig=bytes(64)),),
            ),
            KEY,
            TYPE,
            "does not verify",
        ),
    ],
)
def test_anything_else_is_refused(envelope, key, kind, reason):
    with pytest.raises(SignatureRefused, match=reason):
        dsse.verify(envelope, key.public, payload_type=kind)


@pytest.mark.parametrize("count", [0, 2])
def test_an_envelope_carries_exactly_one_signature(count):
    value = msgspec.to_builtins(SIGNED, builtin_types=(bytes,))
    value["signatures"] = [value["signatures"][0]] * count
    with pytest.raises(EncodingRefused, match="signatures"):
        dsse.unpack(msgspec.msgpack.encode(value, order="sorted"))


@pytest.mark.parametrize(
    ("field", "wrong"),
    [("payload_type", "a b"), ("payload_type", ""), ("payload_type", "a\n"), ("payload", "text")],
)
def test_fields_are_typed(field, wrong):
    value = msgspec.to_builtins(SIGNED, builtin_types=(bytes,))
    with pytest.raises(EncodingRefused):
        dsse.unpack(msgspec.msgpack.encode({**value, field: wrong}, order="sorted"))


def test_an_envelope_has_a_bound():
    data = dsse.pack(dsse.sign(TYPE, bytes(65_000), KEY))
    assert dsse.unpack(data).payload == bytes(65_000)
    with pytest.raises(LimitExceeded):
        dsse.unpack(data, limits=Limits(envelope_bytes=65_000))
    with pytest.raises(LimitExceeded):
        dsse.unpack(dsse.pack(dsse.sign(TYPE, bytes(66_000), KEY)))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_every_changed_byte_is_noticed(draw):
    data = bytearray(dsse.pack(SIGNED))
    place = draw.draw(st.integers(0, len(data) - 1))
    data[place] ^= draw.draw(st.integers(1, 255))
    with pytest.raises(RemoteError):
        dsse.verify(dsse.unpack(bytes(data)), KEY.public, payload_type=TYPE)


def test_json_is_the_standard_form():
    document = json.loads(dsse.to_json(SIGNED))
    assert set(document) == {"payload", "payloadType", "signatures"}
    assert base64.b64decode(document["payload"], validate=True) == b"hello world"
    assert document["payloadType"] == TYPE
    (signature,) = document["signatures"]
    assert signature["keyid"] == KEY.public.key_id
    KEY.public.verify(base64.b64decode(signature["sig"]), dsse.pae(TYPE, b"hello world"))


def test_openssl_verifies_our_signature(tmp_path):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl command")
    # RFC 8410: the DER of an Ed25519 public key is this prefix and the key.
    der = bytes.fromhex("302a300506032b6570032100") + KEY.public.raw
    body = base64.b64encode(der).decode("ascii")
    pem = f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"
    (tmp_path / "key.pem").write_text(pem, "ascii")
    (tmp_path / "signature").write_bytes(SIGNED.signatures[0].sig)
    command = [openssl, "pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin"]
    command += ["-sigfile", "signature", "-in", "message"]
    for payload, verifies in ((b"hello world", True), (b"hello World", False)):
        (tmp_path / "message").write_bytes(dsse.pae(TYPE, payload))
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        if "unknown option" in done.stderr.lower():
            pytest.skip("this openssl cannot verify Ed25519 (pkeyutl -rawin)")
        assert (done.returncode == 0) is verifies, done.stderr


def test_golden_envelope():
    golden = json.loads((VECTORS / "envelope.json").read_text("utf-8"))
    envelope = dsse.sign(
        golden["payload_type"],
        bytes.fromhex(golden["payload"]),
        SigningKey.from_seed(bytes.fromhex(golden["seed"])),
    )
    assert dsse.pae(envelope.payload_type, envelope.payload).hex() == golden["pae"]
    assert dsse.pack(envelope).hex() == golden["packed"]
    assert dsse.to_json(envelope).decode("ascii") == golden["json"]
    assert records.pack(envelope).hex() == golden["packed"]
    assert isinstance(dsse.unpack(bytes.fromhex(golden["packed"])), Envelope)
