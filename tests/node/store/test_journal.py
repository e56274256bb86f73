"""The journal: what it acknowledges it keeps, whatever happens; what does not verify it refuses."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import threading

import pytest
from ledgers import Clock

from konsil.node.store.edge import Edge
from konsil.node.store.journal import Journal
from konsil.protocol import merkle, proof, tiles
from konsil.protocol.checkpoint import open_checkpoint
from konsil.protocol.errors import ConfigError, LocalProtocolError, StorageError, VerificationError
from konsil.protocol.identity import KeySet
from konsil.protocol.learning_bodies import ModelBase

KEYS = KeySet.generate(random.Random(7).randbytes)


def body(number=0):
    return ModelBase(model=number.to_bytes(32, "big"), source="seed", licence="", note="x" * 40)


def create(folder):
    return Journal.create(folder, "bern", "alps", KEYS, Clock(), random.Random(1).randbytes)


def reopen(folder, **options):
    return Journal.open(folder, KEYS, Clock(), random.Random(2).randbytes, **options)


@pytest.fixture
def folder(tmp_path):
    create(tmp_path / "ledger")
    return tmp_path / "ledger"


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def head_of(journal):
    return open_checkpoint(
        (journal.folder / "checkpoint").read_bytes(),
        origin=journal.author.origin,
        key=KEYS["log"].public,
        only_known=True,
    )


def numbers(journal):
    """What `body` put into each entry after the genesis."""
    return [int.from_bytes(entry.b.model, "big") for entry in journal.entries(1)]


# --- the ordinary life -----------------------------------------------------------------------


def test_a_new_ledger_has_its_genesis_under_a_checkpoint(tmp_path):
    data = create(tmp_path / "ledger")
    assert names(tmp_path / "ledger") == {"LOCK", "checkpoint", "tail.0"}
    assert (tmp_path / "ledger" / "LOCK").read_bytes() == b""
    journal = reopen(tmp_path / "ledger")
    assert (journal.size, journal.signed_size, journal.notices) == (1, 1, ())
    assert journal.author.entry == data
    assert journal.root == merkle.leaf_hash(data)
    journal.close()


def test_a_ledger_is_founded_once(folder):
    with pytest.raises(ConfigError, match="already"):
        create(folder)


def test_a_group_is_one_sync_and_durable_before_it_is_acknowledged(folder, monkeypatch):
    journal = reopen(folder)
    synced = []
    real = os.fdatasync
    monkeypatch.setattr(
        os, "fdatasync", lambda handle: (synced.append(os.fstat(handle).st_size), real(handle))
    )
    told = []
    journal._trace = told.append
    receipts = journal.append([body(n) for n in range(100)])
    assert [receipt.index for receipt in receipts] == list(range(1, 101))
    assert synced == [(folder / "tail.0").stat().st_size]
    assert told == ["append begin 1 +100", "append end 101"]
    assert receipts[4].leaf == journal._store.node(0, 5)
    journal.close()


def test_an_empty_group_and_a_bad_body_change_nothing(folder):
    journal = reopen(folder)
    before = names(folder), (folder / "tail.0").read_bytes()
    assert journal.append([]) == ()
    with pytest.raises(LocalProtocolError):
        journal.append([body(), ModelBase(model=b"", source="", licence="", note="")])
    assert (names(folder), (folder / "tail.0").read_bytes()) == before
    assert journal.size == 1
    journal.close()


@pytest.mark.parametrize("count", [0, 1, 254, 255, 256, 511, 600])
def test_a_clean_close_leaves_a_checkpoint_over_every_entry(folder, count):
    journal = reopen(folder)
    for start in range(0, count, 100):
        journal.append([body(n) for n in range(start, min(start + 100, count))])
    root = journal.root
    journal.close()
    journal.close()
    size = count + 1
    full = size // 256
    expected = {"LOCK", "checkpoint", f"tail.{full * 256}"}
    expected |= {tiles.bundle_path(number) for number in range(full)}
    expected |= {tiles.tile_path(0, number) for number in range(full)}
    assert names(folder) == expected
    again = reopen(folder)
    assert again.notices == ()
    assert (again.size, again.root, again.signed_size) == (size, root, size)
    assert numbers(again) == list(range(count))
    head = head_of(again)
    assert (head.size, head.root) == (size, root)
    again.close()


def test_proofs_hold_for_every_entry_across_bundles_and_restarts(folder):
    journal = reopen(folder)
    journal.append([body(n) for n in range(700)])
    journal.sign_checkpoint()
    journal.close()
    journal = reopen(folder)
    journal.append([body(n) for n in range(700, 710)])
    tree = merkle.Tree(
        [merkle.leaf_hash(journal._store.entry(index)) for index in range(journal.size)]
    )
    for index in [0, 1, 255, 256, 511, 512, 700, 710]:
        found = proof.decode(journal.prove(index))
        leaf = tree.node(0, index)
        head = proof.verify(found, leaf, origin=journal.author.origin, key=KEYS["log"].public)
        assert head.root == tree.root(head.size)
        assert merkle.leaf_hash(found.extra) == leaf
    for old in (1, 256, 300, 512, 711):
        steps = journal.consistency(old, 711)
        merkle.verify_consistency(old, 711, steps, tree.root(old), tree.root(711))
    assert journal.signed_size == 711
    journal.close()


def test_time_in_a_log_never_runs_backwards(folder):
    now = [5_000]
    journal = Journal.open(folder, KEYS, lambda: now[0], random.Random(2).randbytes)
    genesis_ms = journal.entry(0).ts
    journal.append([body(1)])
    assert journal.entry(1).ts == genesis_ms
    now[0] = genesis_ms + 9
    journal.append([body(2)])
    now[0] = 0
    journal.append([body(3)])
    assert [entry.ts for entry in journal.entries(2)] == [genesis_ms + 9] * 2
    journal.close()


def test_entries_carry_the_charter_in_force(folder):
    journal = reopen(folder, charter=bytes(range(32)))
    journal.append([body(1)])
    assert journal.entry(1).c == bytes(range(32))
    journal.close()


def test_two_writers_are_one_too_many(folder, monkeypatch):
    monkeypatch.setattr("konsil.node.store.lock.LOCK_PAUSE_S", 0.0)
    journal = reopen(folder)
    with pytest.raises(StorageError, match="another process"):
        reopen(folder)
    journal.close()
    reopen(folder).close()


def test_foreign_keys_open_nothing(folder):
    others = KeySet.generate(random.Random(8).randbytes)
    with pytest.raises(ConfigError, match=r"peer\.key is not the peer key in force"):
        Journal.open(folder, others, Clock(), random.Random(2).randbytes)
    reopen(folder).close()


def test_appending_and_signing_may_run_in_two_threads(folder):
    journal = reopen(folder)
    done = threading.Event()
    heads = []

    def sign():
        while not done.is_set():
            journal.sign_checkpoint()
            heads.append(head_of(journal))

    signer = threading.Thread(target=sign)
    signer.start()
    for start in range(0, 1_500, 25):
        journal.append([body(n) for n in range(start, start + 25)])
        journal.prove(journal.size - 1)
    done.set()
    signer.join()
    assert numbers(journal) == list(range(1_500))
    sizes = [head.size for head in heads]
    assert sizes == sorted(sizes)
    for head in heads[::10]:
        assert journal._ledger.root(head.size) == head.root
    journal.close()
    again = reopen(folder)
    assert (again.size, again.notices) == (1_501, ())
    again.close()


def test_without_any_checkpoint_the_tail_still_does_not_grow_for_ever(folder, monkeypatch):
    monkeypatch.setattr("konsil.node.store.filestore.ROLL_AT", 512)
    journal = reopen(folder)
    for start in range(0, 2_000, 100):
        journal.append([body(n) for n in range(start, start + 100)])
    assert len(journal._store._pending) <= 512
    assert journal.signed_size == 1
    journal._store.close()
    os.close(journal._lock)
    again = reopen(folder)
    assert numbers(again) == list(range(2_000))
    assert any("2000 entries after the checkpoint" in note for note in again.notices)
    again.close()


def test_rows_of_the_edge_carry_into_higher_tiles():
    edge, leaves = Edge(), [merkle.leaf_hash(n.to_bytes(4, "big")) for n in range(256 * 3 + 5)]
    edge.extend(leaves)
    full = edge.full()
    assert sorted(full) == [(0, 0), (0, 1), (0, 2)]
    edge.trim(list(full))
    assert edge.slice(0, 0, 256) is None
    assert edge.slice(0, 768, 4) == leaves[768:772]
    assert edge.slice(1, 1, 1) == [merkle.root_of(leaves[256:512])]
    assert edge.slice(2, 0, 1) is None


def test_a_start_reads_the_right_edge_only(folder, monkeypatch):
    journal = reopen(folder)
    journal.append([body(n) for n in range(1_300)])
    journal.close()
    opened = []
    real = os.open
    from pathlib import Path

    plain = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (opened.append(path), plain(path))[1])
    monkeypatch.setattr(os, "open", real)
    again = reopen(folder)
    bundles = [path for path in opened if "entries" in path.parts]
    assert len(bundles) <= 2, "the genesis entry, and at most the last one"
    again.close()


# --- crashes ---------------------------------------------------------------------------------


def crashed(folder, journal):
    """Ends a journal as a crash would: no checkpoint, no goodbye."""
    journal._store.close()
    os.close(journal._lock)
    journal._lock = -1


@pytest.fixture
def unsigned(folder):
    """Four signed entries, then three frames that no checkpoint covers."""
    journal = reopen(folder)
    journal.append([body(n) for n in range(3)])
    journal.sign_checkpoint()
    signed = (folder / "tail.0").stat().st_size
    ends = [signed]
    for number in range(3, 6):
        journal.append([body(number)])
        ends.append((folder / "tail.0").stat().st_size)
    crashed(folder, journal)
    return folder, ends


def test_frames_beyond_the_checkpoint_are_adopted_with_a_notice(unsigned):
    folder, _ = unsigned
    journal = reopen(folder)
    assert numbers(journal) == list(range(6))
    assert [note for note in journal.notices if "3 entries after the checkpoint" in note]
    journal.close()
    journal = reopen(folder)
    assert (journal.notices, journal.signed_size) == ((), 7)
    journal.close()


@pytest.mark.parametrize("filled", [False, True], ids=["cut", "zeros"])
@pytest.mark.parametrize(
    "stride", [11, pytest.param(1, marks=pytest.mark.exhaustive)], ids=["sample", "all"]
)
def test_a_power_cut_anywhere_in_the_last_frames_loses_only_the_torn_one(
    unsigned, tmp_path, filled, stride
):
    folder, ends = unsigned
    data = (folder / "tail.0").read_bytes()
    near = {end + step for end in ends for step in (-1, 0, 1, 2)}
    for cut in sorted({*range(ends[0], len(data), stride), *near} & {*range(ends[0], len(data))}):
        left = len(data) - cut
        if filled and left < tiles.ZERO_FILL_BYTES:
            continue
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        (copy / "tail.0").write_bytes(data[:cut] + (bytes(left) if filled else b""))
        kept = sum(end <= cut for end in ends) - 1
        journal = reopen(copy)
        assert numbers(journal) == list(range(3 + kept))
        torn = filled or cut not in ends
        assert any("torn" in note for note in journal.notices) == torn
        journal.append([body(99)])
        journal.close()
        again = reopen(copy)
        assert again.notices == ()
        assert numbers(again) == [*range(3 + kept), 99]
        again.close()
        shutil.rmtree(copy)


def test_every_cut_below_the_checkpoint_refuses_to_sign_and_changes_nothing(unsigned, tmp_path):
    folder, ends = unsigned
    data = (folder / "tail.0").read_bytes()
    for cut in range(0, ends[0], 23):
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        (copy / "tail.0").write_bytes(data[:cut])
        with pytest.raises(VerificationError) as caught:
            reopen(copy)
        assert caught.value.exit_code == 3
        assert (copy / "tail.0").read_bytes() == data[:cut]
        shutil.rmtree(copy)


def test_flipped_bits_of_the_tail_refuse_the_start_and_name_the_place(unsigned, tmp_path):
    folder, _ = unsigned
    data = (folder / "tail.0").read_bytes()
    for position in random.Random(3).sample(range(len(data) * 8), 150):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        (folder / "tail.0").write_bytes(flipped)
        with pytest.raises(VerificationError, match=r"tail\.0.*offset \d+"):
            reopen(folder)


def test_flipped_bits_of_the_checkpoint_refuse_the_start(folder):
    path = folder / "checkpoint"
    data = path.read_bytes()
    for position in random.Random(4).sample(range(len(data) * 8), 100):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        with pytest.raises(VerificationError, match="checkpoint"):
            reopen(folder)


def test_a_missing_checkpoint_is_accepted_only_beside_a_lone_genesis(folder):
    (folder / "checkpoint").unlink()
    journal = reopen(folder)
    assert "never signed" in journal.notices[0]
    journal.append([body(1)])
    journal.close()
    (folder / "checkpoint").unlink()
    with pytest.raises(VerificationError, match="is missing"):
        reopen(folder)


@pytest.fixture
def rolled(folder):
    journal = reopen(folder)
    journal.append([body(n) for n in range(600)])
    journal.close()
    return folder


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        ("tail.512", None, "no tail"),
        ("tile/0/001", None, "is missing"),
        ("tile/0/001", b"short", "bytes instead"),
        ("tile/0/001", bytes(8192), "not those of the checkpoint"),
        ("tile/entries/000", None, "is missing"),
        ("tile/entries/000", b"\0\1", "cut short"),
        ("checkpoint", b"nonsense", "checkpoint"),
    ],
)
def test_damaged_files_on_the_right_edge_refuse_the_start(rolled, name, change, match):
    if change is None:
        (rolled / name).unlink()
    else:
        (rolled / name).write_bytes(change)
    with pytest.raises(VerificationError, match=match):
        reopen(rolled)


def test_a_tail_that_begins_anywhere_else_is_refused(rolled):
    (rolled / "tail.512").rename(rolled / "tail.500")
    with pytest.raises(VerificationError, match="no number"):
        reopen(rolled)


def test_swapped_frames_are_refused(folder):
    journal = reopen(folder)
    journal.append([body(1), body(2)])
    crashed(folder, journal)
    path = folder / "tail.0"
    frames = tiles.read_tail(path.read_bytes()).frames
    order = [frames[0], frames[2], frames[1]]
    path.write_bytes(b"".join(tiles.frame(f.entry, merkle.leaf_hash(f.entry)) for f in order))
    with pytest.raises(VerificationError, match="stands at position"):
        reopen(folder)
    path.write_bytes(tiles.frame(b"\x01", merkle.leaf_hash(b"\x01")))
    with pytest.raises(VerificationError, match="offset 0"):
        reopen(folder)
    path.write_bytes(b"")
    with pytest.raises(VerificationError, match="genesis"):
        reopen(folder)


def test_a_folder_that_is_none_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError):
        reopen(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        create(tmp_path / "file")


class Cut(BaseException):
    """The power goes."""


class Disk:
    """A disk that keeps nothing which was not synced: contents, names, removals.

    Between `start` and `cut` it watches the system calls of this process; after `until` of
    them the power goes, and every file and folder falls back to what was durable.
    """

    def __init__(self, until):
        self.until, self.steps = until, 0
        self.contents = {}
        self.folders = {}

    def step(self):
        if self.until is not None and self.steps == self.until:
            raise Cut
        self.steps += 1

    def start(self, monkeypatch):
        real = {name: getattr(os, name) for name in WATCHED}
        self.real = real

        def path_of(handle):
            return os.readlink(f"/proc/self/fd/{handle}")

        def touch(path):
            self.contents.setdefault(path, read_or_none(path))

        def pwrite(handle, data, offset):
            self.step()
            touch(path_of(handle))
            return real["pwrite"](handle, data, offset)

        def fdatasync(handle):
            self.step()
            real["fdatasync"](handle)
            self.contents.pop(path_of(handle), None)

        def fsync(handle):
            self.step()
            real["fsync"](handle)
            for name in [n for n in self.folders if os.path.dirname(n) == path_of(handle)]:
                del self.folders[name]

        def replace(source, target):
            self.step()
            self.folders.setdefault(str(target), read_or_none(target))
            real["replace"](source, target)

        def unlink(path):
            self.step()
            self.folders.setdefault(str(path), read_or_none(path))
            real["unlink"](path)

        fakes = (pwrite, fdatasync, fsync, replace, unlink)
        for name, fake in zip(WATCHED, fakes, strict=True):
            monkeypatch.setattr(os, name, fake)

    def cut(self):
        """What was not durable is gone."""
        for path, content in [*self.contents.items(), *self.folders.items()]:
            if content is None:
                if os.path.exists(path):
                    self.real["unlink"](path)
            else:
                with open(path, "wb") as file:
                    file.write(content)


WATCHED = ("pwrite", "fdatasync", "fsync", "replace", "unlink")


def read_or_none(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


@pytest.mark.parametrize("loses", [False, True], ids=["killed", "power cut"])
def test_a_crash_before_every_step_of_life_is_recovered(tmp_path, monkeypatch, loses):
    """Append, sign, roll a bundle, append, sign: stopped before each system call."""
    origin = tmp_path / "origin"
    create(origin)
    journal = reopen(origin)
    journal.append([body(n) for n in range(300)])
    crashed(origin, journal)
    finished, step = False, 0
    while not finished:
        folder = tmp_path / f"copy{step}"
        shutil.copytree(origin, folder)
        journal = reopen(folder)
        disk, acknowledged = Disk(step), 300
        try:
            with monkeypatch.context() as patched:
                disk.start(patched)
                journal.append([body(300), body(301)])
                acknowledged = 302
                journal.sign_checkpoint()
                journal.append([body(302)])
                acknowledged = 303
                journal.sign_checkpoint()
            finished = True
        except Cut:
            if loses:
                disk.cut()
        crashed(folder, journal)
        again = reopen(folder)
        kept = numbers(again)
        assert kept == list(range(len(kept))), step
        assert acknowledged <= len(kept) <= 303, step
        again.append([body(len(kept))])
        again.close()
        assert reopen_and_close(folder) == (len(kept) + 2, ())
        assert not [name for name in names(folder) if name.endswith(".tmp")]
        shutil.rmtree(folder)
        step += 1
    assert step > 20


def reopen_and_close(folder):
    journal = reopen(folder)
    journal.close()
    return journal.size, journal.notices


def test_an_older_tail_beside_the_new_one_must_be_part_of_the_log(rolled):
    bundle = tiles.read_bundle((rolled / "tile/entries/001").read_bytes())
    frames = b"".join(tiles.frame(entry, merkle.leaf_hash(entry)) for _, entry in bundle)
    (rolled / "tail.256").write_bytes(frames)
    assert reopen_and_close(rolled) == (601, ())
    assert not (rolled / "tail.256").exists()
    other = tiles.frame(bundle[1][1], merkle.leaf_hash(bundle[1][1]))
    (rolled / "tail.256").write_bytes(other)
    with pytest.raises(VerificationError, match="is not entry 256"):
        reopen(rolled)


def test_a_bundle_that_contradicts_the_tail_is_never_overwritten(folder):
    journal = reopen(folder)
    journal.append([body(n) for n in range(300)])
    (folder / "tile" / "entries").mkdir(parents=True)
    (folder / "tile" / "entries" / "000").write_bytes(b"other")
    with pytest.raises(VerificationError, match="differs"):
        journal.sign_checkpoint()
    assert (folder / "tile" / "entries" / "000").read_bytes() == b"other"
    crashed(folder, journal)


# --- disks that refuse -----------------------------------------------------------------------


def refusing(monkeypatch, name, number, after=0):
    real, count = getattr(os, name), [0]

    def call(*arguments):
        count[0] += 1
        if count[0] > after:
            raise OSError(number, os.strerror(number))
        return real(*arguments)

    monkeypatch.setattr(os, name, call)


def test_a_full_disk_refuses_the_append_and_the_journal_goes_on(folder, monkeypatch):
    journal = reopen(folder)
    journal.append([body(1)])
    before = (folder / "tail.0").read_bytes()
    real = os.pwrite

    def half(handle, data, offset):
        if offset > len(before):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data[:50], offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", half)
        with pytest.raises(StorageError) as caught:
            journal.append([body(2)])
    assert (caught.value.code, caught.value.exit_code) == ("disk_full", 6)
    assert "tail.0" in caught.value.message
    assert (folder / "tail.0").read_bytes() == before
    assert journal.size == 2
    assert [receipt.index for receipt in journal.append([body(3)])] == [2]
    journal.close()
    again = reopen(folder)
    assert (numbers(again), again.notices) == ([1, 3], ())
    again.close()


def test_a_full_disk_while_signing_keeps_the_old_checkpoint(folder, monkeypatch):
    journal = reopen(folder)
    journal.append([body(n) for n in range(300)])
    before = names(folder), (folder / "checkpoint").read_bytes()
    with monkeypatch.context() as patched:
        refusing(patched, "pwrite", errno.ENOSPC)
        with pytest.raises(StorageError) as caught:
            journal.sign_checkpoint()
    assert caught.value.code == "disk_full"
    assert (names(folder), (folder / "checkpoint").read_bytes()) == before
    with monkeypatch.context() as patched:
        refusing(patched, "pwrite", errno.ENOSPC, after=1)
        with pytest.raises(StorageError):
            journal.sign_checkpoint()
    assert head_of(journal).size == 301
    journal.append([body(300)])
    journal.close()
    assert reopen_and_close(folder) == (302, ())


def test_after_a_failed_sync_nothing_is_trusted_until_the_next_start(folder, monkeypatch):
    journal = reopen(folder)
    with monkeypatch.context() as patched:
        refusing(patched, "fdatasync", errno.EIO)
        with pytest.raises(StorageError):
            journal.append([body(1)])
    with pytest.raises(StorageError, match="failed before"):
        journal.append([body(2)])
    assert journal.size == 1
    crashed(folder, journal)
    again = reopen(folder)
    assert numbers(again) in ([], [1])
    again.close()


def test_a_disk_that_cannot_even_be_cut_back_is_given_up(folder, monkeypatch):
    journal = reopen(folder)
    with monkeypatch.context() as patched:
        refusing(patched, "pwrite", errno.EIO)
        refusing(patched, "ftruncate", errno.EIO)
        with pytest.raises(StorageError):
            journal.append([body(1)])
    with pytest.raises(StorageError, match="failed before"):
        journal.append([body(2)])
    journal.close()


def test_a_closed_journal_appends_nothing(folder):
    journal = reopen(folder)
    journal.close()
    with pytest.raises(StorageError):
        journal.append([body(1)])


# --- kill -9 ---------------------------------------------------------------------------------

WRITER = """
import random, sys, time
from pathlib import Path
from konsil.node.store.journal import Journal
from konsil.protocol.learning_bodies import ModelBase
from konsil.protocol.identity import KeySet

def say(line):
    print(line, flush=True)

keys = KeySet.generate(random.Random(7).randbytes)
now = lambda: time.time_ns() // 1_000_000
journal = Journal.open(Path(sys.argv[1]), keys, now, random.randbytes, trace=say)
for number in range(10**6):
    body = ModelBase(model=number.to_bytes(32, "big"), source="", licence="", note="x" * 900)
    journal.append([body] * (1 + number % 60))
    if number % 20 == 19:
        journal.sign_checkpoint()
        say("signed")
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_killed_in_the_middle_of_an_append_nothing_acknowledged_is_lost(folder, seed):
    draw = random.Random(seed)
    size = 1
    for _ in range(2):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True
        )
        appends, last = draw.randint(1, 60), ""
        for line in writer.stdout:
            last = line.strip()
            if last.startswith("append end"):
                size, appends = int(last.split()[2]), appends - 1
            if appends < 0 and last.startswith("append begin"):
                break
        writer.send_signal(signal.SIGKILL)
        for line in writer.stdout:
            if line.startswith("append end"):
                size = int(line.split()[2])
        writer.stdout.close()
        assert writer.wait() == -signal.SIGKILL
        journal = reopen(folder)
        assert journal.size >= size
        size = journal.size
        assert head_of(journal).size <= size
        journal.close()
