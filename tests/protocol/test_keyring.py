"""Keys over time: who may replace a key, and what a revoked one still stands for."""

from __future__ import annotations

import pytest

from konsil.protocol import checkpoint, cmp1, entries, genesis, note
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.errors import EncodingRefused, ManifestRefused, SignatureRefused
from konsil.protocol.identity import KeySet, SigningKey
from konsil.protocol.keyring import Keyring, is_change
from konsil.protocol.learning_bodies import ModelBase
from konsil.protocol.node_bodies import KeyRevoke, KeyRotate, key_change

KEYS = KeySet({role: SigningKey.from_seed(bytes([n]) * 32) for n, role in enumerate(
    ("log", "wit", "art", "peer", "rec"), 1)})  # fmt: skip
NEW, NEXT = SigningKey.from_seed(bytes([9]) * 32), SigningKey.from_seed(bytes([10]) * 32)


def author():
    body = genesis.build(name="bern", consortium="alps", keys=KEYS)
    first = entries.entry(body, index=0, time_ms=1, salt=bytes(16), charter=bytes(32))
    return genesis.read(entries.encode(first))


def change(kind, role, old, new, good, *, rec=KEYS["rec"], signer=None, node=None):
    fields = {
        "role": role, "old": old.public.raw, "new": new.public.raw, "reason": "planned",
        "last_good_size": good,
    }  # fmt: skip
    message = key_change(node or author().node, kind(**fields, by_rec=bytes(64), by_new=bytes(64)))
    return kind(**fields, by_rec=rec.sign(message), by_new=(signer or new).sign(message))


def signed(size, *keys):
    head = Checkpoint(origin=author().origin, size=size, root=bytes(32))
    return note.sign(checkpoint.to_text(head), [(head.origin, key) for key in keys])


def test_a_rotation_takes_effect_behind_its_entry_and_spoils_nothing():
    ring = Keyring.of(author()).after(7, change(KeyRotate, "art", KEYS["art"], NEW, 7))
    assert [ring.at("art", index) for index in (0, 7, 8, 99)] == [
        KEYS["art"].public, KEYS["art"].public, NEW.public, NEW.public,
    ]  # fmt: skip
    assert ring.keys["art"] == NEW.public
    assert ring.keys["log"] == KEYS["log"].public
    later = ring.after(9, change(KeyRotate, "art", NEW, NEXT, 9))
    assert later.at("art", 9) == NEW.public
    assert later.at("art", 10) == NEXT.public


def test_what_a_revoked_key_signed_counts_by_its_position():
    ring = Keyring.of(author()).after(7, change(KeyRevoke, "art", KEYS["art"], NEW, 4))
    assert ring.at("art", 3) == KEYS["art"].public
    assert ring.at("art", 8) == NEW.public
    for index in (4, 7):
        with pytest.raises(SignatureRefused, match="revoked from entry 4"):
            ring.at("art", index)


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        (lambda: change(KeyRotate, "art", KEYS["art"], NEW, 7, rec=KEYS["art"]), SignatureRefused),
        (
            lambda: change(KeyRotate, "art", KEYS["art"], NEW, 7, signer=KEYS["art"]),
            SignatureRefused,
        ),
        (lambda: change(KeyRotate, "art", KEYS["art"], NEW, 7, node="b" * 32), SignatureRefused),
        (lambda: change(KeyRotate, "art", KEYS["log"], NEW, 7), ManifestRefused),
        (lambda: change(KeyRotate, "art", KEYS["art"], KEYS["log"], 7), ManifestRefused),
        (lambda: change(KeyRotate, "art", KEYS["art"], NEW, 6), ManifestRefused),
        (lambda: change(KeyRevoke, "art", KEYS["art"], NEW, 8), ManifestRefused),
    ],
)
def test_a_change_against_the_rules_is_refused(broken, error):
    with pytest.raises(error):
        Keyring.of(author()).after(7, broken())


def test_a_key_never_comes_back_and_the_recovery_key_can_change():
    ring = Keyring.of(author()).after(3, change(KeyRotate, "log", KEYS["log"], NEW, 3))
    with pytest.raises(ManifestRefused, match="served before"):
        ring.after(5, change(KeyRotate, "log", NEW, KEYS["log"], 5))
    ring = Keyring.of(author()).after(3, change(KeyRotate, "rec", KEYS["rec"], NEW, 3))
    with pytest.raises(SignatureRefused):
        ring.after(5, change(KeyRotate, "log", KEYS["log"], NEXT, 5))
    assert ring.after(5, change(KeyRotate, "log", KEYS["log"], NEXT, 5, rec=NEW)).keys["log"]


def test_a_checkpoint_needs_the_key_of_its_size():
    old, ring = KEYS["log"], Keyring.of(author())
    ring = ring.after(7, change(KeyRotate, "log", old, NEW, 7))
    assert ring.open_checkpoint(signed(7, old), only_known=True).size == 7
    assert ring.open_checkpoint(signed(8, old, NEW), only_known=True).size == 8
    assert ring.open_checkpoint(signed(8, NEW), only_known=True).size == 8
    for wrong in (signed(8, old), signed(7, NEW)):
        with pytest.raises(SignatureRefused, match="in force"):
            ring.open_checkpoint(wrong)
    later = ring.after(20, change(KeyRotate, "log", NEW, NEXT, 20))
    with pytest.raises(SignatureRefused, match="another time"):
        later.open_checkpoint(signed(30, old, NEXT), only_known=True)


def test_a_checkpoint_of_a_stolen_key_is_void_above_the_last_good_size():
    ring = Keyring.of(author()).after(7, change(KeyRevoke, "log", KEYS["log"], NEW, 4))
    assert ring.open_checkpoint(signed(4, KEYS["log"])).size == 4
    with pytest.raises(SignatureRefused, match="revoked"):
        ring.open_checkpoint(signed(5, KEYS["log"]))
    assert ring.open_checkpoint(signed(9, NEW)).size == 9


def entry(body, index):
    return entries.encode(
        entries.entry(body, index=index, time_ms=1, salt=bytes(16), charter=bytes(32))
    )


def test_the_keys_are_followed_through_the_bytes_of_the_entries():
    first = Keyring.of(author())
    body = change(KeyRotate, "art", KEYS["art"], NEW, 7)
    data = entry(body, 7)
    assert is_change(data)
    assert first.follow(7, data) == first.after(7, body)
    with pytest.raises(ManifestRefused, match=r"entry 7 .key.rotate. stands at 8"):
        first.follow(8, data)
    with pytest.raises(SignatureRefused):
        first.follow(7, entry(change(KeyRotate, "art", KEYS["art"], NEW, 7, rec=NEXT), 7))
    frame = {"c": bytes(32), "n": 7, "s": bytes(16), "t": "key.rotate", "ts": 1, "v": 1}
    with pytest.raises(EncodingRefused):
        first.follow(7, cmp1.encode({"b": {}, **frame}))


def test_what_only_speaks_of_a_change_is_none():
    ring = Keyring.of(author())
    other = ModelBase(model=bytes(32), source="key.rotate", licence="", note="")
    cut = entry(change(KeyRotate, "art", KEYS["art"], NEW, 7), 7)[:-1]
    for data in (b"", b"key.rotate", entry(other, 7), cut):
        assert not is_change(data)
        assert ring.follow(7, data) is ring
