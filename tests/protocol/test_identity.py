"""Identity: Ed25519 as RFC 8032 has it, strictly; node ids and peer ids."""

import base64
import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol.errors import LocalProtocolError, SignatureRefused
from konsil.protocol.identity import (
    ROLES,
    KeySet,
    SigningKey,
    VerifyKey,
    node_id,
    peer_id,
)

VECTORS = Path(__file__).resolve().parent.parent / "vectors"

FIELD = 2**255 - 19

# RFC 8032 §7.1, tests 1 to 3: seed, public key, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC_8032)
def test_rfc_8032(seed, public, message, signature):
    key = SigningKey.from_seed(bytes.fromhex(seed))
    assert key.public.raw.hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == signature
    VerifyKey(bytes.fromhex(public)).verify(bytes.fromhex(signature), bytes.fromhex(message))


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=20), st.integers(0, 511))
def test_one_flipped_bit_is_refused(seed, message, bit):
    key = SigningKey.from_seed(seed)
    signature = bytearray(key.sign(message))
    key.public.verify(bytes(signature), message)
    signature[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SignatureRefused):
        key.public.verify(bytes(signature), message)
    with pytest.raises(SignatureRefused):
        key.public.verify(key.sign(message), message + b"\0")


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_signature_has_64_bytes(size):
    with pytest.raises(SignatureRefused):
        SigningKey.from_seed(bytes(32)).public.verify(bytes(size), b"")


def add(one, two):
    """The sum of two points of the curve -x² + y² = 1 + d x² y² (RFC 8032 §5.1)."""
    d = -121665 * pow(121666, -1, FIELD) % FIELD
    (x1, y1), (x2, y2) = one, two
    product = d * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, FIELD)
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, FIELD)
    return x % FIELD, y % FIELD


def torsion():
    """The eight points of small order, as multiples of one point of order eight."""
    d = -121665 * pow(121666, -1, FIELD) % FIELD
    raw = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
    y = int.from_bytes(bytes.fromhex(raw), "little")
    square = (y * y - 1) * pow(d * y * y + 1, -1, FIELD) % FIELD
    x = pow(square, (FIELD + 3) // 8, FIELD)
    if x * x % FIELD != square:
        x = x * pow(2, (FIELD - 1) // 4, FIELD) % FIELD
    assert x * x % FIELD == square
    points = [(0, 1)]
    for _ in range(7):
        points.append(add(points[-1], (x, y)))
    assert add(points[-1], (x, y)) == (0, 1)
    assert len(set(points)) == 8
    return points


def test_every_key_of_small_order_is_refused():
    for x, y in torsion():
        raw = (y | (x & 1) << 255).to_bytes(32, "little")
        with pytest.raises(SignatureRefused, match="small order"):
            VerifyKey(raw)
        with pytest.raises(SignatureRefused, match="small order"):
            VerifyKey((y | (1 - (x & 1)) << 255).to_bytes(32, "little"))


@pytest.mark.parametrize("excess", range(19))
def test_every_key_that_is_not_canonical_is_refused(excess):
    for sign in (0, 1 << 255):
        with pytest.raises(SignatureRefused, match="canonical"):
            VerifyKey((FIELD + excess | sign).to_bytes(32, "little"))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_has_32_bytes(size):
    with pytest.raises(SignatureRefused, match=f"of {size} bytes"):
        VerifyKey(bytes(size))
    with pytest.raises(LocalProtocolError, match=f"of {size} bytes"):
        SigningKey.from_seed(bytes(size))
    with pytest.raises(SignatureRefused, match=f"of {size} bytes"):
        peer_id(bytes(size))


def test_which_edge_cases_are_accepted_is_pinned(data_folder):
    pinned = json.loads((VECTORS / "ed25519_accepted.json").read_text("utf-8"))
    cases = data_folder / "ed25519_vectors" / "ed25519vectors.json"
    if not cases.is_file():
        pytest.skip(f"no {cases}: name a folder that holds ed25519_vectors in KONSIL_DATA")
    source = cases.read_bytes()
    assert hashlib.sha256(source).hexdigest() == pinned["source_sha256"]
    accepted = []
    for case in json.loads(source):
        try:
            key = VerifyKey(bytes.fromhex(case["key"]))
            key.verify(bytes.fromhex(case["sig"]), case["msg"].encode("utf-8"))
        except SignatureRefused:
            continue
        assert not {"low_order_A", "non_canonical_A", "non_canonical_R"} & set(case["flags"] or [])
        accepted.append(case["number"])
    assert accepted == pinned["accepted"]


def test_a_secret_is_never_shown():
    key = SigningKey.from_seed(b"s" * 32)
    keys = KeySet.generate(os.urandom)
    assert key.seed.hex() not in repr(key)
    assert key.public.raw.hex() in repr(key)
    assert key.public.raw.hex() in repr(key.public)
    for role in ROLES:
        assert keys[role].seed.hex() not in repr(keys)
        assert repr(keys[role].seed) not in repr(keys)


def test_public_keys_are_values():
    one, two = (SigningKey.from_seed(bytes([seed]) * 32).public for seed in (1, 2))
    assert one == VerifyKey(one.raw)
    assert len({one, VerifyKey(one.raw), two}) == 2
    assert one != two
    assert one != one.raw
    assert one.key_id == hashlib.sha256(one.raw).hexdigest()


def test_a_node_has_one_key_for_each_role():
    seeds = iter(bytes([number]) * 32 for number in range(1, 6))
    keys = KeySet.generate(lambda size: next(seeds))
    assert [keys[role].seed[0] for role in ROLES] == [1, 2, 3, 4, 5]
    assert tuple(keys.keys) == ROLES
    with pytest.raises(LocalProtocolError, match="share"):
        KeySet.generate(lambda size: bytes(size))
    with pytest.raises(LocalProtocolError, match="wanted"):
        KeySet({role: keys[role] for role in ROLES[1:]})
    with pytest.raises(LocalProtocolError, match="wanted"):
        KeySet({**keys.keys, "root": keys["log"]})


def test_node_id_is_the_documented_hash():
    found = node_id(b"entry")
    digest = hashlib.sha256(b"konsil node v1\nentry").digest()
    assert base64.b32decode(found.upper()) == digest[:20]
    assert len(found) == 32
    assert found == found.lower()
    assert node_id(b"other entry") != found


@pytest.mark.parametrize("seed", range(1, 6))
def test_peer_id_is_that_of_libp2p(seed):
    ed25519 = pytest.importorskip("libp2p.crypto.ed25519")
    peer = pytest.importorskip("libp2p.peer.id")
    raw = SigningKey.from_seed(bytes([seed]) * 32).public.raw
    theirs = peer.ID.from_pubkey(ed25519.Ed25519PublicKey.from_bytes(raw))
    assert peer_id(raw) == str(theirs)
    assert len(peer_id(raw)) == 52
    assert peer_id(raw).startswith("12D3KooW")


def test_golden_identity():
    golden = json.loads((VECTORS / "identity.json").read_text("utf-8"))
    for case in golden:
        key = SigningKey.from_seed(bytes.fromhex(case["seed"]))
        assert key.public.raw.hex() == case["public"]
        assert key.public.key_id == case["key_id"]
        assert peer_id(key.public.raw) == case["peer_id"]
        assert node_id(key.public.raw) == case["node_id_of_the_public_key_as_entry"]
