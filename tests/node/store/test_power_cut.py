"""A30: the power fails at every step of every operation; no promise is broken by it.

Whatever the disk then holds, the node starts, has every entry and blob that it acknowledged,
stands at or beyond every state that it signed, and its ledger verifies. The same holds when
the process is killed first and the power fails while the next one recovers.
"""

from __future__ import annotations

import itertools
import os
import random

import pytest
from ledgers import Clock
from powercut import Chance, Choice, Disk, Everything, Killed, Some, Torn, lay

from konsil.node.keys import load_following, load_key, load_keys, settle, stage
from konsil.node.store.blobs import BlobStore
from konsil.node.store.journal import Journal
from konsil.protocol import merkle
from konsil.protocol.errors import KonsilError
from konsil.protocol.identity import KeySet
from konsil.protocol.keyring import Change
from konsil.protocol.learning_bodies import ModelBase
from konsil.trust.audit import verify_home

KEYS = KeySet.generate(random.Random(7).randbytes)
SALTS = random.Random(2).randbytes
CLOCK = Clock()
SAMPLE = 20
"""States of one operation that the normal run looks at."""


def body(number=0):
    return ModelBase(model=number.to_bytes(32, "big"), source="seed", licence="", note="")


def start(home):
    folder = home / "keys"
    for path in folder.iterdir():  # the model of the disk keeps no modes
        path.chmod(0o600)
    journal = Journal.open(
        home / "ledger", load_keys(folder), CLOCK, SALTS, following=load_following(folder)
    )
    settle(folder, journal.keyring.keys, sure=True)
    return journal


# --- operations: what they do, and what they promise when -----------------------------------


def found(disk, home):
    entry = Journal.create(home / "ledger", "bern", "alps", KEYS, CLOCK, SALTS)
    disk.promise("entry", 0, merkle.leaf_hash(entry))


def append(count):
    def operation(disk, home):
        journal = start(home)
        note(disk, journal)
        for receipt in journal.append([body(n) for n in range(count)]):
            disk.promise("entry", receipt.index, receipt.leaf)
        note(disk, journal)
        for receipt in journal.append([body(count)]):
            disk.promise("entry", receipt.index, receipt.leaf)
        finish(journal)

    return operation


def sign(disk, home):
    journal = start(home)
    for receipt in journal.append([body(1), body(2)]):
        disk.promise("entry", receipt.index, receipt.leaf)
    disk.promise("checkpoint", journal.sign_checkpoint())
    for receipt in journal.append([body(3)]):
        disk.promise("entry", receipt.index, receipt.leaf)
    note(disk, journal)
    finish(journal)


def keep(disk, home):
    journal = start(home)
    payloads = BlobStore(home / "blobs")
    for number in (1, 2, 1):
        disk.promise("blob", journal.blobs.put(b"proof %d" % number))
        disk.promise("payload", payloads.put(b"payload %d" % number))
    finish(journal)


def start_and_sign(disk, home):
    """What a node does after a stop of any kind."""
    journal = start(home)
    disk.promise("checkpoint", journal.sign_checkpoint())
    disk.promise("blob", journal.blobs.put(b"proof 1"))
    for receipt in journal.append([body(9)]):
        disk.promise("entry", receipt.index, receipt.leaf)
    finish(journal)


def change(role, *, void_from=None):
    """Another key for a role, as `konsil.node.rotation` brings it in."""

    def operation(disk, home):
        journal = start(home)
        note(disk, journal)
        new = stage(home / "keys", role)
        rec = load_key(home / "keys" / "rec.key")
        receipt = journal.change_key(
            Change(role=role, new=new, rec=rec, reason="planned", void_from=void_from)
        )
        settle(home / "keys", journal.keyring.keys, sure=True)
        disk.promise("entry", receipt.index, receipt.leaf)
        disk.promise("key", role, new.public)
        if void_from is None:
            disk.promise("checkpoint", journal.checkpoint)
        for receipt in journal.append([body(1)]):
            disk.promise("entry", receipt.index, receipt.leaf)
        note(disk, journal)
        finish(journal)

    return operation


def note(disk, journal):
    disk.promise("checkpoint", journal.sign_checkpoint())


def finish(journal):
    """The end of a process that does not say goodbye."""
    journal._store.close()
    os.close(journal._lock)


OPERATIONS = {
    "found": (0, found),
    "append": (5, append(3)),
    "roll": (253, append(6)),
    "roll two groups": (250, append(300)),
    "checkpoint": (5, sign),
    "checkpoint that rolls": (255, sign),
    "first blobs": (3, keep),
    "recovery": (257, start_and_sign),
    "another log key": (5, change("log")),
    "another log key at a roll": (255, change("log")),
    "a revoked log key": (5, change("log", void_from=5)),
    "another artifact key": (5, change("art")),
    "another recovery key": (5, change("rec")),
}


# --- what must hold afterwards --------------------------------------------------------------


def demand(home, promises):
    """Opens what is left and holds it against the promises."""
    entries = {number: leaf for what, number, leaf in threes(promises, "entry")}
    try:
        journal = start(home)
    except KonsilError:
        assert not promises, "a node that made promises must start again"
        return
    assert journal.size >= len(entries)
    for number, leaf in entries.items():
        assert merkle.leaf_hash(journal._store.entry(number)) == leaf
    for role, key in ((role, key) for _, role, key in threes(promises, "key")):
        assert journal.keyring.keys[role] == key
    journal.append([body(77)])
    journal.sign_checkpoint()
    for _, data in twos(promises, "checkpoint"):
        head = journal.open_checkpoint(data)
        assert head.size <= journal.size
        proof = journal.consistency(head.size, journal.size)
        merkle.verify_consistency(head.size, journal.size, proof, head.root, journal.root)
    for _, digest in twos(promises, "blob"):
        journal.blobs.get(digest)
    for _, digest in twos(promises, "payload"):
        BlobStore(home / "blobs").get(digest)
    journal.close()
    assert verify_home(home).findings == ()


def threes(promises, kind):
    return [one for one in promises if one[0] == kind and len(one) == 3]


def twos(promises, kind):
    return [one for one in promises if one[0] == kind and len(one) == 2]


# --- the disk under an operation ------------------------------------------------------------


def prepared(home, size):
    """A home whose ledger has `size` entries, all of it durable; none for 0."""
    home.mkdir(parents=True)
    (home / "keys").mkdir(mode=0o700)
    for role, key in KEYS.keys.items():
        path = home / "keys" / f"{role}.key"
        path.write_text(f"{key.seed.hex()}\n")
        path.chmod(0o600)
    if size:
        Journal.create(home / "ledger", "bern", "alps", KEYS, CLOCK, SALTS)
        journal = start(home)
        journal.append([body(n) for n in range(1, size)])
        journal.close()


def watched(home, size, operation):
    """The moments of an operation."""
    prepared(home, size)
    with Disk(home) as disk:
        operation(disk, home)
    assert disk.agrees(), "something was written past the model"
    return disk.moments


def watched_after_kill(home, size, operation, number):
    """The moments of the start that follows a kill at moment `number` of an operation.

    None when the operation is over before.
    """
    prepared(home, size)
    with Disk(home) as disk:
        disk.kill_at = number
        try:
            operation(disk, home)
        except Killed:
            disk.kill()
        else:
            return None
        before = len(disk.moments)
        try:
            start_and_sign(disk, home)
        except KonsilError:
            assert not disk.moments[-1].promises
    assert disk.agrees(), "something was written past the model"
    return disk.moments[before - 1 :]


def choices(moment):
    """What a power cut may leave at a moment: every simple way, and every cut of every write."""
    numbers = moment.namings
    yield from (Choice(), Everything(), Everything(names=False), Everything(contents=False))
    for place, number in enumerate(numbers):
        for contents in (False, True):
            yield Some(numbers[:place], contents=contents)
            yield Some([number], contents=contents)
            yield Some([one for one in numbers if one != number], contents=contents)
    for kept in range(0, moment.longest, max(1, moment.longest // 400)):
        for names in (False, True):
            yield Torn(kept, names=names)
            yield Torn(kept, moment.longest, names=names)


class States:
    """Materialises states one after the other, each only once."""

    def __init__(self, root):
        self.root = root
        self.seen = set()
        self.count = itertools.count()

    def try_(self, moment, choice):
        left = moment.left(choice)
        key = hash((tuple(sorted(left.items())), moment.promises))
        if key in self.seen:
            return
        self.seen.add(key)
        home = self.root / f"state-{next(self.count)}"
        lay(left, home)
        demand(home, moment.promises)


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_power_cut_at_any_step_breaks_no_promise(name, tmp_path):
    moments = watched(tmp_path / "home", *OPERATIONS[name])
    states, dice = States(tmp_path), random.Random(f"cut {name}")
    for moment in [*dice.sample(moments, min(SAMPLE, len(moments))), moments[-1]]:
        states.try_(moment, Choice())
        states.try_(moment, Chance(dice))
    assert states.seen


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_power_cut_while_a_killed_node_recovers_breaks_no_promise(name, tmp_path):
    dice = random.Random(f"kill {name}")
    states = States(tmp_path)
    for number in dice.sample(range(2, 25), 3):
        moments = watched_after_kill(tmp_path / f"killed-{number}", *OPERATIONS[name], number)
        for moment in dice.sample(moments or [], min(3, len(moments or []))):
            states.try_(moment, Choice())
            states.try_(moment, Chance(dice))
    assert states.seen


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_state_that_a_power_cut_leaves(name, tmp_path):
    moments = watched(tmp_path / "home", *OPERATIONS[name])
    states, dice = States(tmp_path), random.Random(f"all {name}")
    for moment in moments:
        for choice in (*choices(moment), *(Chance(dice) for _ in range(20))):
            states.try_(moment, choice)
    assert states.seen


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_power_cut_after_every_kill(name, tmp_path):
    states, dice = States(tmp_path), random.Random(f"killed {name}")
    for number in itertools.count(2):
        moments = watched_after_kill(tmp_path / f"killed-{number}", *OPERATIONS[name], number)
        if moments is None:
            break
        for moment in moments:
            names = moment.namings
            singles = [Some([one]) for one in names] + [Some(set(names) - {one}) for one in names]
            for choice in (Choice(), Everything(), *singles, Chance(dice), Chance(dice)):
                states.try_(moment, choice)
    assert states.seen


@pytest.mark.parametrize("lost", [1, 3, 7])
def test_the_last_few_bytes_of_a_hash_that_were_never_written(lost, tmp_path):
    prepared(tmp_path / "home", 5)
    with Disk(tmp_path / "home") as disk:
        journal = start(tmp_path / "home")
        disk.promise("checkpoint", journal.sign_checkpoint())
        journal.append([body(8), body(9)])
        finish(journal)
    (moment,) = [one for one in disk.moments if one.label == "write"]
    for frames in (1, 2):
        size = moment.longest * frames // 2
        states = States(tmp_path / f"frames-{frames}")
        states.try_(moment, Torn(size - lost, lost))
        assert states.seen


def test_what_a_killed_process_left_in_the_cache_is_durable_before_it_is_signed_for(tmp_path):
    home = tmp_path / "home"
    prepared(home, 5)
    with Disk(home) as disk:
        journal = start(home)
        disk.kill_at = len(disk.moments) + 1
        with pytest.raises(Killed):
            journal.append([body(8)])
        disk.kill()
        journal = start(home)
        assert any("adopted" in notice for notice in journal.notices)
        disk.promise("checkpoint", journal.sign_checkpoint())
        finish(journal)
    States(tmp_path).try_(disk.moments[-1], Choice())


def test_a_home_and_its_folders_have_durable_names(tmp_path):
    home = tmp_path / "home"
    prepared(home, 0)
    with Disk(home) as disk:
        found(disk, home)
        keep(disk, home)
    states = States(tmp_path)
    states.try_(disk.moments[-1], Choice())
    assert states.seen


@pytest.mark.parametrize("name", ["first blobs", "roll"])
def test_a_name_that_a_killed_process_did_not_sync_is_synced_by_the_next(name, tmp_path):
    moments = watched(tmp_path / "home", *OPERATIONS[name])
    named = [at for at, one in enumerate(moments, 1) if one.label.startswith(("mkdir", "rename"))]
    assert len(named) >= 4
    states = States(tmp_path)
    for number in named:
        after = watched_after_kill(tmp_path / f"killed-{number}", *OPERATIONS[name], number)
        states.try_(after[-1], Choice())
