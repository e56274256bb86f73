"""The ledger over a store in memory: receipts, checkpoints, proofs."""

from __future__ import annotations

import random

import pytest

from konsil.protocol import merkle, proof
from konsil.protocol.checkpoint import open_checkpoint
from konsil.protocol.errors import ConfigError, LocalProtocolError
from konsil.protocol.identity import KeySet
from konsil.protocol.learning_bodies import ModelBase
from konsil.trust.ledger import Ledger, MemoryStore

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
