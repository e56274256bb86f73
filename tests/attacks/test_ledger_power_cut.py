"""A30: the power fails while a ledger is written, its checkpoint signed, and its tail rolled.

Before the next start an audit calls none of it tampering; after it everything verifies, and the
node stands at or beyond all that it signed. `tests/node/store/test_power_cut.py` goes through
every operation and every state; here is a sample, as a hospital meets it.
"""

from __future__ import annotations

import os
import random

import pytest
from ledgers import Clock
from pinned import genuine, pinned, verify
from powercut import Chance, Choice, Disk, Torn, lay

from konsil.node.store.journal import Journal
from konsil.protocol.identity import KeySet
from konsil.protocol.learning_bodies import ModelBase

pytestmark = pytest.mark.slow

KEYS = KeySet.generate(random.Random(30).randbytes)
SALTS = random.Random(31).randbytes
CLOCK = Clock()
BODY = ModelBase(model=bytes(32), source="seed", licence="", note="")
SAMPLE = 6


def start(home):
    return Journal.open(home / "ledger", KEYS, CLOCK, SALTS)


@pytest.fixture(scope="module")
def moments(tmp_path_factory):
    """A log that grows past a bundle, from state to state, as its disk sees it."""
    home = tmp_path_factory.mktemp("power") / "bern"
    home.mkdir()
    Journal.create(home / "ledger", "bern", "alps", KEYS, CLOCK, SALTS)
    journal = start(home)
    journal.append([BODY] * 250)
    journal.close()
    with Disk(home) as disk:
        journal = start(home)
        for count in (3, 4):
            for receipt in journal.append([BODY] * count):
                disk.promise("entry", receipt.index)
            journal.sign_checkpoint()
            disk.promise("signed", journal.signed_size)
        journal._store.close()
        os.close(journal._lock)
    assert disk.agrees()
    return disk.moments


def cut(moment, choice, home):
    """The power fails at a moment; what an audit says of what is left, before the next start."""
    lay(moment.left(choice), home)
    return verify(home)


def recovers(moment, home):
    """The node starts and loses nothing that it promised; then all of it verifies."""
    journal = start(home)
    kept = {"entry": journal.size - 1, "signed": journal.size}
    for what, number in moment.promises:
        assert number <= kept[what]
    journal.append([BODY])
    journal.close()
    genuine(home)


@pytest.mark.parametrize("seed", range(2))
def test_a30_the_power_fails_at_any_step(moments, tmp_path, seed):
    wanted, dice = pinned("a30"), random.Random(f"a30 {seed}")
    for number, moment in enumerate(dice.sample(moments, SAMPLE)):
        for choice in (Choice(), Chance(dice)):
            home = tmp_path / f"{number}-{type(choice).__name__}"
            said = cut(moment, choice, home)
            assert said in [(0, set()), (wanted["exit"], {wanted["code"]})]
            recovers(moment, home)


@pytest.mark.parametrize("kept", [1, 40, 300])
def test_a30_a_frame_that_the_power_cut_in_two(moments, tmp_path, kept):
    wanted = pinned("a30")
    writes = [one for one in moments if one.label == "write" and one.longest > 300]
    home = tmp_path / "bern"
    said = cut(writes[0], Torn(kept), home)
    assert said == (wanted["exit"], {wanted["code"]})
    recovers(writes[0], home)
