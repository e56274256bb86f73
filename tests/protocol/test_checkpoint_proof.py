"""Checkpoints and offline proofs, to and fro and against every twist."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol import checkpoint as heads
from konsil.protocol import entries, genesis, merkle, note, proof
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.errors import (
    EncodingRefused,
    LimitExceeded,
    LocalProtocolError,
    ManifestRefused,
    RemoteError,
    SignatureRefused,
)
from konsil.protocol.identity import KeySet, SigningKey
from konsil.protocol.learning_bodies import ArtifactPublish, ModelBase
from konsil.protocol.limits import Limits

KEYS = KeySet({role: SigningKey.from_seed(bytes([n]) * 32) for n, role in enumerate(
    ("log", "wit", "art", "peer", "rec"), 1)})  # fmt: skip
DIGEST = bytes(range(32))


def made(body, index):
    return entries.encode(
        entries.entry(body, index=index, time_ms=5, salt=bytes(16), charter=bytes(32))
    )


PUBLISH = ArtifactPublish(
    art=DIGEST, chunk_root=DIGEST, kind="parameters", size=9, env=DIGEST, derived_from=[],
    knowledge=None, policy=None, sequence=1,
)  # fmt: skip
LOG = [
    made(genesis.build(name="bern", consortium="alps", keys=KEYS), 0),
    made(ModelBase(model=DIGEST, source="seed", licence="", note=""), 1),
    made(PUBLISH, 2),
    made(msgspec.structs.replace(PUBLISH, sequence=2), 9),
]
AUTHOR = genesis.read(LOG[0])
TREE = merkle.Tree([merkle.leaf_hash(item) for item in LOG])
HEAD = Checkpoint(origin=AUTHOR.origin, size=4, root=TREE.root())
SIGNED = heads.sign(HEAD, KEYS["log"])


def prove(index, extra=None, hashes=None, at=None):
    return proof.encode(
        proof.Proof(
            index=index if at is None else at,
            hashes=tuple(TREE.inclusion(index) if hashes is None else hashes),
            checkpoint=SIGNED,
            extra=LOG[index] if extra is None else extra,
        )
    )


def open_head(data, **options):
    return heads.open_checkpoint(data, origin=AUTHOR.origin, key=KEYS["log"].public, **options)


def test_a_checkpoint_is_three_lines_and_a_signature():
    text, _ = note.open_note(SIGNED, [note.NoteKey(AUTHOR.origin, KEYS["log"].public)])
    assert text == f"alps/{AUTHOR.node}\n4\n{note.encode_base64(TREE.root())}\n"
    assert open_head(SIGNED, only_known=True) == HEAD


@settings(max_examples=30)
@given(st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_a_head_survives_its_text(size, root):
    head = Checkpoint(origin="alps/x", size=size, root=root)
    assert heads.from_text(heads.to_text(head)) == head


ROOT = note.encode_base64(DIGEST)


@pytest.mark.parametrize(
    "text",
    [
        f"o\n1\n{ROOT}\nextension\n",
        f"o\n1\n{ROOT}",
        f"\n1\n{ROOT}\n",
        f"o\n01\n{ROOT}\n",
        f"o\n-1\n{ROOT}\n",
        f"o\n+1\n{ROOT}\n",
        f"o\n1_0\n{ROOT}\n",
        f"o\n٣\n{ROOT}\n",
        f"o\n9223372036854775808\n{ROOT}\n",
        f"o\n1\n{note.encode_base64(bytes(31))}\n",
        f"o\n1\n{ROOT[:-1]}\n",
    ],
)
def test_other_texts_are_no_checkpoint(text):
    with pytest.raises(EncodingRefused):
        heads.from_text(text)


@pytest.mark.parametrize("change", [{"size": -1}, {"size": 2**63}, {"root": bytes(31)}])
def test_an_impossible_head_is_never_signed(change):
    with pytest.raises(LocalProtocolError):
        heads.sign(msgspec.structs.replace(HEAD, **change), KEYS["log"])


def test_a_checkpoint_of_another_log_is_refused():
    with pytest.raises(SignatureRefused):
        heads.open_checkpoint(SIGNED, origin="alps/other", key=KEYS["log"].public)
    text = heads.to_text(msgspec.structs.replace(HEAD, origin="alps/other"))
    swapped = note.sign(text, [(AUTHOR.origin, KEYS["log"])])
    with pytest.raises(SignatureRefused, match="instead of"):
        open_head(swapped)


def test_a_proof_survives_its_text():
    for index in range(3):
        data = prove(index)
        found = proof.decode(data)
        assert proof.encode(found) == data
        leaf = TREE.node(0, index)
        key = KEYS["log"].public
        assert proof.verify(found, leaf, origin=AUTHOR.origin, key=key) == HEAD


def test_a_proof_of_a_single_entry_has_no_hashes():
    alone = merkle.Tree([merkle.leaf_hash(LOG[0])])
    head = Checkpoint(origin=AUTHOR.origin, size=1, root=alone.root())
    item = proof.Proof(index=0, hashes=(), checkpoint=heads.sign(head, KEYS["log"]))
    data = proof.encode(item)
    assert data.startswith(b"c2sp.org/tlog-proof@v1\nindex 0\n\nalps/")
    assert proof.decode(data) == item


def test_a_publish_entry_travels_in_its_proof():
    found = proof.open_published(prove(2), AUTHOR)
    assert found.body == PUBLISH
    assert (found.entry.n, found.checkpoint) == (2, HEAD)


def test_what_is_no_publish_entry_is_refused():
    with pytest.raises(ManifestRefused, match="no publish entry"):
        proof.open_published(prove(1), AUTHOR)
    with pytest.raises(ManifestRefused, match="no publish entry"):
        proof.open_published(prove(3), AUTHOR)


def test_an_entry_that_is_not_under_the_root_is_refused():
    with pytest.raises(ManifestRefused):
        proof.open_published(prove(2, extra=LOG[3]), AUTHOR)
    with pytest.raises(ManifestRefused):
        proof.open_published(prove(2, at=3), AUTHOR)
    without = proof.encode(proof.Proof(index=2, hashes=(), checkpoint=SIGNED))
    with pytest.raises(ManifestRefused, match="does not travel"):
        proof.open_published(without, AUTHOR)


def test_no_flipped_bit_of_a_proof_stays_unseen():
    data = prove(2)
    expected = proof.open_published(data, AUTHOR)
    for position in range(0, len(data) * 8, 3):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        try:
            found = proof.open_published(bytes(flipped), AUTHOR)
        except RemoteError:
            continue
        # Lines by other signers may change: a proof from outside may carry any witness.
        assert found == expected


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"c2sp.org/tlog-proof@v2\nindex 0\n\n" + SIGNED,
        b"c2sp.org/tlog-proof@v1\nindex 0\n",
        b"c2sp.org/tlog-proof@v1\n\n" + SIGNED,
        b"c2sp.org/tlog-proof@v1\nextra AB==\nindex 0\n\n" + SIGNED,
        b"c2sp.org/tlog-proof@v1\nindex 00\n\n" + SIGNED,
        b"c2sp.org/tlog-proof@v1\nindex 0\nAA\n\n" + SIGNED,
        b"c2sp.org/tlog-proof@v1\nindex 0\n\xff\n\n" + SIGNED,
    ],
)
def test_malformed_proofs_are_refused(data):
    with pytest.raises(EncodingRefused):
        proof.decode(data)


def test_giant_proofs_are_refused_before_they_are_read():
    with pytest.raises(LimitExceeded):
        proof.decode(prove(2), limits=Limits(proof_bytes=100))
    with pytest.raises(LimitExceeded):
        proof.decode(prove(2, hashes=[DIGEST] * 64))
