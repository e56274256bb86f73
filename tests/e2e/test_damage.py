"""Damage to a home: what the ledger, its blobs and the disk can suffer, and what a node says then.

Nothing acknowledged is lost, nothing is signed over bytes that do not verify.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess

import pytest
from commands import KONSIL, run_node
from handmade import edit, flip, make, refused, tiny, verify

from konsil.node.init import create_home
from konsil.node.keys import load_keys
from konsil.node.store.journal import Journal
from konsil.protocol.learning_bodies import ArtifactPublish, ModelBase, ModelTrain
from konsil.protocol.node_bodies import NodeBoot
from konsil.trust.reading import read_entries

# --- the ledger: 3 ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_home(tmp_path_factory):
    """A home whose ledger has a full bundle, tiles, a tail and a blob that an entry names."""
    root = tmp_path_factory.mktemp("long") / "bern"
    create_home(root, name="bern", consortium="alps", factory="task:build", listen=(), options={})
    journal = Journal.open(
        root / "ledger", load_keys(root / "keys"), lambda: 1_760_000_000_000, os.urandom
    )
    for number in range(300):
        blob = journal.blobs.put(b"blob %d" % number) if number == 299 else bytes(32)
        journal.append([ModelBase(model=blob, source="seed", licence="", note="")])
    journal.close()
    return root


@pytest.fixture
def old_home(long_home, tmp_path):
    shutil.copytree(long_home, tmp_path / "bern")
    return tmp_path / "bern"


def test_the_untouched_home_verifies(old_home):
    done, _ = verify(old_home)
    assert (done.code, done.err) == (0, "")
    assert "301 entries" in done.out


@pytest.mark.parametrize("name", ["checkpoint", "tail.256", "tile/0/000", "tile/entries/000"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_one_flipped_byte_anywhere_in_the_ledger(old_home, name, share):
    path = old_home / "ledger" / name
    flip(path, int(share * (path.stat().st_size - 1)))
    done, value = verify(old_home)
    assert done.code == 3
    assert "DOES NOT VERIFY" in done.out
    assert str(path) in done.complaint or "000" in done.complaint
    assert value["error"]["code"] == "verification"
    if name in ("checkpoint", "tail.256", "tile/0/000"):
        refused(old_home, 3, str(old_home / "ledger"))


def test_entries_that_were_cut_off(old_home):
    """Fewer entries than were signed for: signing on would fork the log."""
    tail = old_home / "ledger" / "tail.256"
    data = tail.read_bytes()
    length = int.from_bytes(data[:2], "big") + 34
    tail.write_bytes(data[: 3 * length])
    assert verify(old_home)[0].code == 3
    refused(old_home, 3, "301 were signed for", "never sign on")


def test_a_missing_tail_and_a_missing_checkpoint(old_home):
    tail, checkpoint = old_home / "ledger" / "tail.256", old_home / "ledger" / "checkpoint"
    kept = tail.read_bytes()
    tail.unlink()
    assert verify(old_home)[0].code == 3
    refused(old_home, 3, str(old_home / "ledger"))
    tail.write_bytes(kept)
    checkpoint.unlink()
    assert verify(old_home)[0].code == 3
    refused(old_home, 3, f"{checkpoint}: is missing")


def test_a_torn_last_frame_is_cut_off_with_a_notice(tmp_path):
    """What was being written when the machine died was never acknowledged."""
    home = make(tmp_path / "bern")
    tail = home / "ledger" / "tail.0"
    whole = tail.read_bytes()
    tail.write_bytes(whole + (400).to_bytes(2, "big") + bytes(range(100)))
    assert verify(home)[0].code == 4
    done = run_node(home)
    assert done.code == 0
    (line,) = [json.loads(line) for line in done.err.splitlines() if "journal.notice" in line]
    assert line["level"] == "warning"
    assert f"{tail}: a torn frame of 102 bytes was cut off" in line["notice"]
    assert tail.read_bytes()[: len(whole)] == whole
    assert verify(home)[0].code == 0


# --- blobs: 3 ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned_home(tmp_path_factory):
    """A home that learned alone for two rounds."""
    home = tiny(tmp_path_factory.mktemp("learned") / "bern", "rounds = 2")
    done = run_node(home, lambda status: status["phase"] == "idle")
    assert done.code == 0, done.err
    return home


def flip_blob(store, digest):
    path = store / "sha256" / digest.hex()[:2] / digest.hex()
    flip(path, path.stat().st_size // 2)
    return path


@pytest.mark.slow
def test_a_corrupt_envelope_beside_the_ledger(learned_home, tmp_path):
    home = shutil.copytree(learned_home, tmp_path / "bern")
    published = [e.b for e in read_entries(home / "ledger") if isinstance(e.b, ArtifactPublish)]
    path = flip_blob(home / "ledger" / "blobs", published[0].env)
    done, _ = verify(home)
    assert done.code == 3
    assert f"blob.corrupt: {path}" in done.complaint
    refused(home, 3, f"{path}: the bytes are not those of their name")


def only_booted(home, before):
    """Since `before` the ledger says at most that the node started."""
    after = read_entries(home / "ledger")
    assert after[: len(before)] == before
    assert all(isinstance(entry.b, NodeBoot) for entry in after[len(before) :])
    assert len(after) <= len(before) + 1


@pytest.mark.slow
def test_a_corrupt_model_is_never_trained_or_mixed(learned_home, tmp_path):
    """Its digest would go into the ledger for bytes that it does not name."""
    home = shutil.copytree(learned_home, tmp_path / "bern")
    edit(home, "rounds = 2", "rounds = 3")
    trained = [e.b for e in read_entries(home / "ledger") if isinstance(e.b, ModelTrain)]
    path = flip_blob(home / "blobs", trained[-1].out)
    assert verify(home)[0].code == 3
    before = read_entries(home / "ledger")
    done = run_node(home, lambda status: status["phase"] in ("idle", "failed"))
    assert done.code == 3, done.err
    assert f"{path}: the bytes are not those of their name" in done.complaint
    only_booted(home, before)


# --- a full disk: 6 ----------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A disk of two megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can only be mounted by root")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk):
    """Leave no byte on a disk; the file that takes them all."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


@pytest.mark.slow
def test_a_full_disk_stops_the_node_and_loses_nothing(small_disk):
    home = tiny(small_disk / "bern", "rounds = 0")
    acknowledged = []

    def fill_up(status):
        if status["round"] >= 2 and not acknowledged:
            fill(small_disk)
            acknowledged.append(status["ledger"]["size"])
        return False

    done = run_node(home, fill_up)
    assert done.code == 6, done.err
    assert str(home) in done.complaint
    assert "No space left on device (free some space, then start again)" in done.complaint
    assert verify(home)[0].code == 0
    entries = len(read_entries(home / "ledger"))
    assert entries >= acknowledged[0]

    before = read_entries(home / "ledger")
    with (home / "node.log").open("w") as log:
        command = [KONSIL, "node", "run", home]
        assert subprocess.run(command, stderr=log, timeout=120).returncode == 6
    only_booted(home, before)

    (small_disk / "filler").unlink()
    rounds = []

    def goes_on(status):
        rounds.append(status["round"])
        return status["round"] >= rounds[0] + 2

    assert run_node(home, goes_on).code == 0
    assert verify(home)[0].code == 0
    assert len(read_entries(home / "ledger")) > entries
