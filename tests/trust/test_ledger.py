"""The ledger over a store in memory: receipts, checkpoints, proofs."""

from __future__ import annotations

import random

import pytest

from konsil.protocol import merkle, proof
from konsil.protocol.checkpoint import open_checkpoint
from konsil.protocol.errors import (
    ConfigError,
    LocalProtocolError,
    ManifestRefused,
    SignatureRefused,
)
from konsil.protocol.identity import KeySet, SigningKey
from konsil.protocol.keyring import Change
from konsil.protocol.learning_bodies import ModelBase
from konsil.trust.entry_store import MemoryStore
from konsil.trust.ledger import Ledger

KEYS = KeySet.generate(random.Random(1).randbytes)
BODY = ModelBase(model=bytes(32), source="seed", licence="", note="")


def found(seed=2):
    return Ledger.found(
        MemoryStore(),
        name="bern",
        consortium="alps",
        keys=KEYS,
        clock=lambda: 5_000,
        random=random.Random(seed).randbytes,
    )


def head(ledger):
    return open_checkpoint(
        ledger.sign_checkpoint(), origin=ledger.author.origin, key=KEYS["log"].public
    )


def test_the_same_inputs_give_the_same_log_to_the_byte():
    one, other = found(), found()
    for ledger in (one, other):
        ledger.append([BODY, BODY])
    assert one.root() == other.root()
    assert one.sign_checkpoint() == other.sign_checkpoint()
    assert found(seed=3).root() != one.root(1), "salts differ"


def test_a_receipt_names_place_and_leaf():
    ledger = found()
    first, second = ledger.append([BODY, BODY])
    assert (first.index, second.index, ledger.size) == (1, 2, 3)
    assert first.leaf != second.leaf, "no two salts are equal"
    assert ledger.append([]) == ()


def test_a_checkpoint_covers_everything_and_is_signed_once():
    ledger = found()
    assert ledger.signed_size == 1
    ledger.append([BODY])
    assert ledger.signed_size == 1
    assert (head(ledger).size, head(ledger).root) == (2, ledger.root())
    assert ledger.sign_checkpoint() is ledger.sign_checkpoint()
    assert ledger.signed_size == 2


def test_every_entry_is_provable_and_an_unsigned_one_is_signed_first():
    ledger = found()
    ledger.append([BODY] * 9)
    for index in range(10):
        item = proof.decode(ledger.prove(index))
        leaf = merkle.leaf_hash(item.extra)
        proof.verify(item, leaf, origin=ledger.author.origin, key=KEYS["log"].public)
        assert ledger.entry(index).n == index
    assert proof.decode(ledger.prove(3, with_entry=False)).extra is None
    old = ledger.root(4)
    merkle.verify_consistency(4, 10, ledger.consistency(4, 10), old, ledger.root())


def test_a_key_changes_in_the_middle_of_the_log_and_both_sign_the_change():
    ledger = found()
    ledger.append([BODY])
    ring, old, new = ledger.keyring, KEYS["log"], SigningKey.from_seed(bytes([9]) * 32)
    receipt = ledger.change_key(Change(role="log", new=new, rec=KEYS["rec"], reason="planned"))
    assert (receipt.index, ledger.signed_size) == (2, 3)
    author, data = ledger.author, ledger.sign_checkpoint()
    for key in (old, new):
        assert open_checkpoint(data, origin=author.origin, key=key.public).size == 3
    with pytest.raises(SignatureRefused):
        ring.open_checkpoint(ledger.sign_checkpoint() if ledger.append([BODY]) else b"")
    assert ledger.open_checkpoint(ledger.sign_checkpoint()).size == 4
    item = proof.decode(ledger.prove(1))
    proof.verify(item, merkle.leaf_hash(item.extra), origin=author.origin, key=new.public)


def test_a_revoked_key_signs_nothing_more_not_even_its_revocation():
    ledger = found()
    ledger.append([BODY] * 3)
    ledger.sign_checkpoint()
    new = SigningKey.from_seed(bytes([9]) * 32)
    ledger.change_key(Change(role="log", new=new, rec=KEYS["rec"], reason="stolen", void_from=2))
    data = ledger.sign_checkpoint()
    assert ledger.open_checkpoint(data).size == 5
    with pytest.raises(SignatureRefused):
        open_checkpoint(data, origin=ledger.author.origin, key=KEYS["log"].public)


def test_only_the_recovery_key_changes_a_key():
    ledger = found()
    new, before = SigningKey.from_seed(bytes([9]) * 32), ledger.size
    for rec in (KEYS["log"], new):
        with pytest.raises(SignatureRefused):
            ledger.change_key(Change(role="art", new=new, rec=rec, reason="planned"))
    with pytest.raises(ManifestRefused, match="served before"):
        ledger.change_key(Change(role="art", new=KEYS["wit"], rec=KEYS["rec"], reason="planned"))
    assert (ledger.size, ledger.keys["art"]) == (before, KEYS["art"])


def test_after_a_change_the_log_opens_with_the_newest_keys_only():
    ledger = found()
    new = SigningKey.from_seed(bytes([9]) * 32)
    ledger.change_key(Change(role="art", new=new, rec=KEYS["rec"], reason="planned"))
    again = {"clock": lambda: 1, "random": random.Random(1).randbytes}
    with pytest.raises(ConfigError, match=r"art\.key is not the art key in force"):
        Ledger(ledger._store, keys=KEYS, following={"log": new}, **again)
    held = KeySet({**KEYS.keys, "art": new})
    assert Ledger(ledger._store, keys=held, **again).keys["art"] == new
    stopped = Ledger(ledger._store, keys=KEYS, following={"art": new}, **again)
    assert stopped.keys["art"] == new, "the node stopped between the two"
    away = KeySet({role: key for role, key in held.keys.items() if role != "rec"})
    assert "rec" not in Ledger(ledger._store, keys=away, **again).keys


def test_keys_from_before_a_change_are_named_by_who_looks_at_every_entry():
    ledger = found()
    ledger.check_keys()
    new = SigningKey.from_seed(bytes([9]) * 32)
    ledger.change_key(Change(role="art", new=new, rec=KEYS["rec"], reason="planned"))
    old = Ledger(
        ledger._store, keys=KEYS, clock=lambda: 1, random=random.Random(1).randbytes
    )  # the genesis keys: opening does not read every entry
    with pytest.raises(ConfigError, match=r"art\.key is not the art key in force"):
        old.check_keys()
    ledger.check_keys()


def test_entries_are_read_in_order_and_as_they_come():
    ledger = found()
    seen = ledger.entries(0)
    assert next(seen).t == "node.genesis"
    ledger.append([BODY])
    assert [entry.n for entry in seen] == [1]


def test_a_log_is_founded_in_an_empty_store_by_its_own_keys():
    ledger = found()
    with pytest.raises(LocalProtocolError, match="empty"):
        Ledger.found(
            ledger._store,
            name="bern",
            consortium="alps",
            keys=KEYS,
            clock=lambda: 1,
            random=random.Random(1).randbytes,
        )
    others = KeySet.generate(random.Random(9).randbytes)
    with pytest.raises(ConfigError, match="bern"):
        Ledger(ledger._store, keys=others, clock=lambda: 1, random=random.Random(1).randbytes)
