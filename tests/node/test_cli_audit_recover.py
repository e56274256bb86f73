"""`konsil audit recover`: files in order after a crash or damage, and never more than they hold.

A home is damaged in one way after the other; the command says what it did, signs nothing, and
does the same again when it was stopped at any step.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import closing

import pytest
from commands import files, konsil, run_node
from handmade import make
from ledgers import Hospital, consortium, tail_of

from konsil.node.cli import audit_recover
from konsil.node.store import derived, lock
from konsil.node.store.mirrors import Mirror
from konsil.node.store.witnessed import NAME, Witnessed
from konsil.protocol import merkle, tiles
from konsil.protocol.digest import sha256
from konsil.protocol.learning_bodies import ModelBase
from konsil.protocol.mirror import Leaf
from konsil.trust.audit import verify_home
from konsil.trust.index import follows, open_index
from konsil.trust.inplace import InPlace

COUNT = 560


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The home of bern, stopped cleanly: a bundle, a tail, and a mirror of graz."""
    bern, graz = consortium(tmp_path_factory.mktemp("kept"), "bern", "graz", rounds=1)
    bern.reopen()
    bern.journal.append(bases(COUNT))
    bern.close()
    peers = bern.home / "peers"
    Witnessed(peers / NAME).add(note := (graz.home / "ledger" / "checkpoint").read_bytes())
    held = Mirror(peers / f"{graz.node}.mirror", {})
    graz.reopen()
    held.take(graz.journal.leaves(0, graz.journal.size))
    held.hold(graz.journal.open_checkpoint(note))
    graz.close()
    return bern.home


@pytest.fixture
def home(kept, tmp_path):
    return shutil.copytree(kept, tmp_path / "bern")


def bases(count):
    return [
        ModelBase(model=sha256(b"%d" % at), source="", licence="", note="") for at in range(count)
    ]


def mirror_of(home):
    (path,) = (home / "peers").glob("*.mirror")
    return path


def recover(home, *options):
    done = konsil("audit", "recover", home, "--json", *options)
    return done.code, done.envelope("audit.recover")


def truth(home):
    """The files that must not change: all but the index, and what was moved aside."""
    return {
        name: data
        for name, data in files(home).items()
        if name != "ledger/index.sqlite" and not name.startswith("aside/")
    }


def torn(home):
    path = tail_of(home)
    path.write_bytes(path.read_bytes() + b"\x01\x20half a frame")
    return path


def with_an_older_tail(home):
    """A stop between two tails: the older one is still there, all of it in the log."""
    bundle = (home / "ledger" / tiles.bundle_path(0)).read_bytes()
    entries = [entry for _, entry in tiles.read_bundle(bundle)]
    older = tiles.frames((entry, merkle.leaf_hash(entry)) for entry in entries)
    (home / "ledger" / "tail.0").write_bytes(older)
    return home / "ledger" / "tail.0"


# --- what it puts in order ------------------------------------------------------------------------


def test_a_home_in_order_stays_as_it_is_and_gets_an_index(home):
    before = truth(home)
    code, value = recover(home)
    data = value["data"]
    assert (code, data["done"]) == (0, [])
    assert data["entries"] == data["signed"] == data["indexed"] > COUNT
    assert truth(home) == before
    assert not (home / "aside").exists()
    with closing(open_index(home / "ledger")) as found:
        assert found.size == data["entries"]
    assert verify_home(home).findings == ()
    text = konsil("audit", "recover", home)
    assert (text.code, text.err) == (0, "")
    assert text.out.splitlines()[0] == "nothing to repair"
    assert "the index is made anew" in text.out


def test_what_a_crash_leaves_is_cleared_away_and_said(home):
    before = truth(home)
    path, older = torn(home), with_an_older_tail(home)
    left = [home / "ledger" / name for name in ("checkpoint.tmp", "tile/entries/001.tmp")]
    for one in left:
        one.write_bytes(b"half")
    code, value = recover(home)
    said = "\n".join(value["data"]["done"])
    assert code == 0
    assert f"{path}: a torn frame of" in said
    for one in (older, *left):
        assert f"{one}: removed" in said
    assert truth(home) == before
    assert recover(home)[1]["data"]["done"] == []


def test_entries_beyond_the_checkpoint_are_kept_and_not_signed(tmp_path):
    bern = Hospital(tmp_path, "bern")
    bern.journal.sign_checkpoint()
    bern.journal.append(bases(5))
    bern.journal.close(sign=False)
    note = (bern.home / "ledger" / "checkpoint").read_bytes()
    code, value = recover(bern.home)
    data = value["data"]
    assert (code, data["entries"], data["signed"], data["indexed"]) == (0, 7, 2, 7)
    assert (bern.home / "ledger" / "checkpoint").read_bytes() == note
    assert "the next start signs for the last 5" in konsil("audit", "recover", bern.home).out
    bern.reopen()
    assert bern.journal.size == 7
    bern.close()


@pytest.mark.parametrize("make", ["text", "folder", "link", "other"])
def test_what_is_no_index_of_this_log_goes_aside(home, make):
    index = home / "ledger" / "index.sqlite"
    if make == "text":
        index.write_text("no index")
    elif make == "folder":
        index.mkdir()
        (index / "note").write_text("mine")
    elif make == "link":
        index.symlink_to("/etc/hostname")
    else:
        recover(home)
        shutil.copytree(home, other := home.parent / "other")
        shutil.rmtree(home)
        bern = Hospital(home.parent, "bern", seed=9)
        bern.close()
        shutil.copy(other / "ledger" / "index.sqlite", index)
    code, value = recover(home)
    (said,) = value["data"]["done"]
    moved = home / "aside" / "index.sqlite"
    assert code == 0
    assert said.endswith(f"moved to {moved}")
    assert os.path.lexists(moved)
    assert not index.is_symlink()
    assert verify_home(home).findings == ()
    index.unlink()
    index.write_text("again")
    assert recover(home)[0] == 0
    assert (home / "aside" / "index.sqlite.1").read_text() == "again"


def test_a_damaged_mirror_goes_aside_and_its_beginning_stays(home):
    path = mirror_of(home)
    whole = path.read_bytes()
    frames = tiles.read_tail(whole).frames
    damaged = bytearray(whole)
    damaged[frames[4].offset + 10] ^= 1
    path.write_bytes(damaged)
    code, value = recover(home)
    (said,) = value["data"]["done"]
    assert code == 0
    assert "entry 4 does not match its hash" in said
    assert path.read_bytes() == whole[: frames[4].offset]
    assert (home / "aside" / path.name).read_bytes() == damaged
    assert recover(home)[1]["data"]["done"] == []


def test_a_mirror_that_is_not_what_was_signed_for_goes_aside(home):
    path = mirror_of(home)
    leaves = [Leaf(None, bytes([at]) * 32) for at in range(50)]
    forged = tiles.frames((b"", one.leaf) for one in leaves)
    path.write_bytes(forged)
    (said,) = recover(home)[1]["data"]["done"]
    assert "are not those that were signed for" in said
    assert path.read_bytes() == b""
    assert (home / "aside" / path.name).read_bytes() == forged


def test_a_mirror_that_is_cut_off_is_left_to_the_start(home):
    path = mirror_of(home)
    cut = path.read_bytes()[:-5]
    path.write_bytes(cut)
    assert recover(home)[1]["data"]["done"] == []
    assert path.read_bytes() == cut


@pytest.mark.slow
def test_a_node_that_stops_leaves_an_index_over_every_entry(tmp_path):
    home = make(tmp_path / "bern")
    done = run_node(home, lambda status: status["phase"] != "vouching")
    assert done.code == 0
    with closing(open_index(home / "ledger")) as found:
        assert follows(found, InPlace(home / "ledger"))
        assert found.size == verify_home(home).ledgers[0].entries > 1


# --- what it leaves as it is ----------------------------------------------------------------------


def test_beside_a_running_node_it_does_nothing(home):
    before = files(home)
    held = lock.take(home / "ledger")
    try:
        done = konsil("audit", "recover", home)
    finally:
        os.close(held)
    assert (done.code, done.out) == (6, "")
    assert "another process writes this ledger (stop that node first)" in done.complaint
    assert files(home) == before


def test_fewer_entries_than_were_signed_for_stay_a_loss(home):
    path = tail_of(home)
    data = path.read_bytes()
    frames = tiles.read_tail(data).frames
    path.write_bytes(data[: frames[-3].offset])
    before = files(home)
    done = konsil("audit", "recover", home)
    assert done.code == 3
    assert "were signed for" in done.complaint
    assert "nothing was changed" in done.complaint
    assert "put a backup of the ledger's folder back and start the node" in done.complaint
    assert files(home) == before


@pytest.mark.parametrize(
    ("name", "at"), [("tile/entries/000", 400), ("checkpoint", 60), ("tile/0/000", 90)]
)
def test_what_was_changed_stays_changed(home, name, at):
    path = home / "ledger" / name
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)
    before = truth(home)
    done = konsil("audit", "recover", home)
    assert done.code == 3
    assert truth(home) == before
    assert not (home / "ledger" / "index.sqlite").exists()


def test_a_lost_bundle_is_incomplete(home):
    (home / "ledger" / tiles.bundle_path(1)).unlink()
    done = konsil("audit", "recover", home)
    assert done.code == 4
    assert "bundle.missing" in done.complaint
    assert "put a backup of the ledger's folder back" in done.complaint


def test_a_broken_memory_of_others_is_no_copy_and_stays(home):
    path = home / "peers" / NAME
    data = bytearray(path.read_bytes())
    data[30] ^= 1
    path.write_bytes(bytes(data) + data)
    before = truth(home)
    done = konsil("audit", "recover", home)
    assert done.code == 3
    assert NAME in done.complaint
    assert truth(home) == before


@pytest.mark.parametrize("place", ["none", "file"])
def test_what_is_no_home_is_said(tmp_path, place):
    (tmp_path / "file").write_text("")
    done = konsil("audit", "recover", tmp_path / place)
    assert done.code == 2
    assert "there is no such home" in done.complaint


# --- what stands in a file's place ----------------------------------------------------------------


def spoiled(home):
    """The mirror of a home, with one byte changed."""
    path = mirror_of(home)
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    return path


def test_a_link_in_the_place_of_an_unfinished_file_leads_nowhere(home, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    path = spoiled(home)
    for name in (f"peers/{path.name}.tmp", "ledger/index.sqlite.tmp", "ledger/checkpoint.tmp"):
        (home / name).symlink_to(victim)
    code, value = recover(home)
    assert code == 0
    assert any(line.startswith(f"{path}: ") for line in value["data"]["done"])
    assert victim.read_text() == "mine"
    assert not path.is_symlink()
    assert not list(home.rglob("*.tmp"))


def test_a_dangling_link_as_the_lock_makes_nothing(home, tmp_path):
    path = home / "ledger" / "LOCK"
    path.unlink()
    path.symlink_to(tmp_path / "made")
    done = konsil("audit", "recover", home)
    assert done.code == 6
    assert str(path) in done.complaint
    assert not (tmp_path / "made").exists()


def test_nothing_is_taken_out_of_the_home(home, tmp_path):
    spoiled(home)
    before = files(home)
    (tmp_path / "elsewhere").mkdir()
    (home / "aside").symlink_to(tmp_path / "elsewhere")
    done = konsil("audit", "recover", home)
    assert done.code == 6
    assert f"{home / 'aside'}: is not a folder" in done.complaint
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert files(home) == before


@pytest.mark.parametrize("make", ["link", "dangling", "pipe"])
def test_what_is_no_mirror_goes_aside_as_it_is(home, tmp_path, make):
    path = mirror_of(home)
    elsewhere = path.rename(tmp_path / "elsewhere")
    if make == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(elsewhere if make == "link" else tmp_path / "nowhere")
    data = elsewhere.read_bytes()
    code, value = recover(home)
    moved = home / "aside" / path.name
    assert (code, value["data"]["done"]) == (
        0, [f"{path}: is not a regular file; moved to {moved}"],
    )  # fmt: skip
    assert moved.is_symlink() is (make != "pipe")
    assert not os.path.lexists(path)
    assert elsewhere.read_bytes() == data


# --- stopped at every step ------------------------------------------------------------------------

CALLS = (
    "open", "rename", "replace", "unlink", "link", "mkdir", "truncate", "ftruncate", "fsync",
    "fdatasync",
)  # fmt: skip


class Killed(BaseException):
    """The process ends here."""


def stopped_before(home, monkeypatch, number):
    """Runs it, and ends it before call `number` that writes; how many it had made."""
    made = 0

    def counted(real):
        def call(*arguments, **options):
            nonlocal made
            writes = real is not os_open or arguments[1] & (os.O_WRONLY | os.O_RDWR)
            if writes and made == number:
                raise Killed
            made += bool(writes)
            return real(*arguments, **options)

        return call

    os_open = os.open
    with monkeypatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, counted(getattr(os, name)))
        try:
            audit_recover.recovered(home)
        except Killed:
            return None
    return made


def test_stopped_at_any_step_it_loses_nothing_and_ends_the_same(kept, tmp_path, monkeypatch):
    def damaged(name):
        home = shutil.copytree(kept, tmp_path / name)
        torn(home)
        with_an_older_tail(home)
        (home / "ledger" / "checkpoint.tmp").write_bytes(b"half")
        (home / "ledger" / "index.sqlite").write_text("no index")
        path = mirror_of(home)
        data = bytearray(path.read_bytes())
        data[-40] ^= 1
        path.write_bytes(data)
        return home, bytes(data)

    whole = damaged("whole")[0]
    steps = stopped_before(whole, monkeypatch, -1)
    assert steps > 15
    ended = files(whole)
    for number in range(steps):
        home, mirror = damaged(f"at{number}")
        assert stopped_before(home, monkeypatch, number) is None
        held = files(home)
        assert mirror in held.values()
        assert b"no index" in held.values()
        assert recover(home)[0] == 0
        assert files(home) == ended
        shutil.rmtree(home)


def test_moved_aside_under_one_name_only(home):
    path = mirror_of(home)
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    target = home / "aside" / path.name
    target.parent.mkdir()
    os.link(path, target)  # as a stop between the two steps leaves it
    assert derived.mend_mirror(path, {}).count(str(target)) == 1
    assert [item.name for item in target.parent.iterdir()] == [path.name]


def test_the_json_form_names_what_was_done(home):
    torn(home)
    value = json.loads(konsil("audit", "recover", home, "--json").out)
    assert set(value["data"]) == {"done", "entries", "signed", "indexed"}
    assert len(value["data"]["done"]) == 1
