"""The audit of files: honest ledgers verify, and no damage to a file stays unseen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import msgspec
import pytest
from ledgers import (
    audit_of,
    codes,
    consortium,
    falsify,
    tail_of,
    two,
)

from konsil.protocol import checkpoint as heads
from konsil.protocol import entries, merkle, tiles
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.errors import StorageError
from konsil.protocol.learning_bodies import ArtifactIntegrate, ArtifactReject, ModelBase
from konsil.trust import audit
from konsil.trust.audit import verify_home, verify_homes
from konsil.trust.meanings import meaning
from konsil.trust.reading import read_entries
from konsil.trust.remedies import remedy


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Three hospitals that learned together for two rounds."""
    root = tmp_path_factory.mktemp("learned")
    return root, consortium(root, "bern", "graz", "ulm")


@pytest.fixture
def homes(learned, tmp_path):
    """A copy of their homes to be tampered with."""
    root, hospitals = learned
    shutil.copytree(root, tmp_path / "homes")
    return [tmp_path / "homes" / one.name for one in hospitals]


def test_an_honest_home_verifies_alone(homes):
    found = verify_home(homes[0])
    assert found.findings == ()
    (ledger,) = found.ledgers
    assert ledger.verified
    assert ledger.name == "bern"
    assert ledger.entries == ledger.signed == sum(ledger.types.values())
    assert ledger.unchecked_receipts == 0
    assert found.exit_code() == 0
    assert found.exit_code(strict=True) == 4
    assert "bern: not checked against others" in found.lines()


def test_honest_homes_verify_together_and_every_mix_is_computed_again(homes):
    found = verify_homes(homes, replay=True)
    assert found.findings == ()
    assert found.exit_code(strict=True) == 0
    assert [ledger.replayed for ledger in found.ledgers] == [2, 2, 2]
    assert [ledger.outside_checkpoints for ledger in found.ledgers] == [4, 4, 4]
    data = found.to_data()
    assert data["checked_against_others"] is True
    json.dumps(data)


def test_an_audit_changes_nothing(homes):
    def contents():
        return {
            path: (path.read_bytes(), path.stat().st_mtime_ns)
            for home in homes
            for path in home.rglob("*")
            if path.is_file()
        }

    before = contents()
    verify_homes(homes, replay=True)
    assert contents() == before


def test_without_payloads_a_replay_is_incomplete_and_says_how_much_of_it(homes):
    shutil.rmtree(homes[0] / "blobs")
    assert verify_home(homes[0]).findings == (), "nobody asked for it"
    found = verify_home(homes[0], replay=True)
    assert (codes(found), found.exit_code()) == ({"integrate.unreplayed"}, 4)
    assert "2 of 2 mixes were not computed again" in found.findings[0].message
    assert "0 of 2 mixes computed again: verified as far as it goes" in found.lines()[0]
    assert (found.ledgers[0].replayed, found.ledgers[0].not_replayed) == (0, 2)


def test_one_missing_payload_leaves_one_mix_unproven(homes):
    mixes = [entry.b for entry in read_entries(homes[0] / "ledger")
             if isinstance(entry.b, ArtifactIntegrate)]  # fmt: skip
    own = mixes[0].parts[0].art.hex()
    (homes[0] / "blobs/sha256" / own[:2] / own).unlink()
    found = verify_home(homes[0], replay=True)
    assert found.exit_code() == 4
    assert "1 of 2 mixes were not computed again" in found.findings[0].message
    assert "1 of 2 mixes computed again" in found.lines()[0]


@pytest.mark.parametrize(
    ("damage", "code", "headline"),
    [
        (lambda home: None, 0, ": verified"),
        (lambda home: next(p for p in (home / "ledger/blobs").rglob("*") if p.is_file()).unlink(),
         4, ": verified as far as it goes"),
        (lambda home: (home / "ledger" / "stray").touch(), 3, ": DOES NOT VERIFY"),
    ],
)  # fmt: skip
def test_there_is_one_headline_for_each_exit_code(homes, damage, code, headline):
    damage(homes[0])
    found = verify_home(homes[0])
    assert (found.exit_code(), found.ledgers[0].exit_code) == (code, code)
    assert found.lines()[0].endswith(headline)
    if code != 3:
        assert found.strictly().lines()[0].endswith(": verified as far as it goes")


def test_every_finding_says_what_to_do(homes):
    (homes[0] / "ledger" / "stray").touch()
    found = verify_home(homes[0])
    assert found.lines()[-1] == f"what layout.stray means: {meaning('layout.stray')}"
    assert found.to_data()["findings"][0]["meaning"] == meaning("layout.stray")
    assert remedy("layout.stray") in meaning("layout.stray")


def test_without_a_checkpoint_nobody_is_told_to_start_the_node(homes):
    """A node does not start without its checkpoint."""
    (homes[0] / "ledger" / "checkpoint").unlink()
    found = verify_home(homes[0])
    assert not any("start and stop" in line for line in found.lines())
    assert {one.code for one in found.notices} <= {"others.unchecked"}
    assert "no node starts without it" in found.lines()[-1]


def test_payloads_of_another_home_serve_a_replay_too(homes):
    shutil.rmtree(homes[0] / "blobs")
    found = verify_homes(homes, replay=True)
    assert found.ledgers[0].replayed == 2
    assert found.findings == ()


def test_frames_beyond_the_checkpoint_are_reported_and_fine(tmp_path):
    bern, _ = two(tmp_path)
    bern.train()
    found = verify_home(bern.home)
    assert found.findings == ()
    assert found.ledgers[0].beyond_checkpoint == 2
    assert "2 not signed yet" in found.lines()[0]
    bern.close()


def test_a_log_over_many_bundles_verifies(tmp_path):
    bern, _ = two(tmp_path)
    base = ModelBase(model=bern.model, source="seed", licence="", note="")
    bern.journal.append([base] * 700)
    found = audit_of(bern)
    assert (found.findings, found.ledgers[0].entries) == ((), 702)
    for earlier in (1, 255, 256, 257, 511, 512, 513, 701):
        head = Checkpoint(
            origin=bern.author.origin, size=earlier, root=bern.journal._ledger.root(earlier)
        )
        path = bern.home / "ledger" / "checkpoint"
        path.write_bytes(heads.sign(head, bern.keys["log"]))
        again = verify_home(bern.home)
        assert again.findings == ()
        assert again.ledgers[0].beyond_checkpoint == 702 - earlier


def test_a_crash_that_wrote_tiles_before_the_tail_was_shortened_is_no_tampering(tmp_path):
    bern, _ = two(tmp_path)
    base = ModelBase(model=bern.model, source="seed", licence="", note="")
    bern.journal.append([base] * 700)
    long_tail = (bern.home / "ledger" / "tail.0").read_bytes()
    bern.close()
    (bern.home / "ledger" / "tail.0").write_bytes(long_tail)
    assert verify_home(bern.home).findings == (), "an older tail beside the newer one"
    (bern.home / "ledger" / "tail.512").unlink()
    assert verify_home(bern.home).findings == (), "bundles ahead of the tail"
    (bern.home / "ledger" / "tile/entries/001").write_bytes(b"x")
    assert codes(verify_home(bern.home)) == {"bundle.corrupt"}
    bundle = tiles.bundle([b"x"] * 256)
    (bern.home / "ledger" / "tile/entries/001").write_bytes(bundle)
    assert codes(verify_home(bern.home)) == {"bundle.corrupt"}
    (bern.home / "ledger" / "tile/entries/001").unlink()
    (bern.home / "ledger" / "tile/0/001").write_bytes(bytes(8192))
    assert codes(verify_home(bern.home)) == {"tile.mismatch"}


def test_an_unknown_type_is_counted_not_refused(tmp_path):
    bern, _ = two(tmp_path)
    falsify(bern, lambda plain: plain | {"t": "model.dream"})
    found = verify_home(bern.home)
    assert found.findings == ()
    assert (found.ledgers[0].opaque, found.ledgers[0].types["model.dream"]) == (1, 1)


def test_the_audit_side_never_loads_what_it_does_not_need(homes):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from konsil.trust.audit import verify_home\n"
        "assert verify_home(Path(sys.argv[1])).exit_code() == 0\n"
        "heavy = {'torch', 'trio', 'libp2p', 'numpy', 'networkx'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code, str(homes[0])], check=True, timeout=60)


def test_no_ledger_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="no ledger"):
        verify_home(tmp_path)


def rewrite(home, change):
    """Changes the entries of a tail as an attacker would who mends every leaf hash."""
    path = tail_of(home)
    items = [frame.entry for frame in tiles.read_tail(path.read_bytes()).frames]
    items = change(items)
    path.write_bytes(b"".join(tiles.frame(item, merkle.leaf_hash(item)) for item in items))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda items: items[:3] + items[4:], "entry.position"),
        (lambda items: [*items[:3], items[3], *items[3:]], "entry.position"),
        (lambda items: [*items[:3], items[4], items[3], *items[5:]], "entry.position"),
        (lambda items: items[:-1], "checkpoint.rollback"),
        (lambda items: [*items[:5], items[5] + b"\0", *items[6:]], "entry.encoding"),
        (lambda items: [*items[:5], b"", *items[6:]], "entry.pruned"),
        (lambda items: items[1:], "entry.genesis"),
    ],
    ids=["delete", "duplicate", "swap", "truncate", "trailing byte", "empty", "headless"],
)
def test_rewritten_entries_with_mended_hashes_are_found(homes, change, expected):
    rewrite(homes[0], change)
    found = verify_home(homes[0])
    assert expected in codes(found)
    assert found.exit_code() == 3
    assert not found.ledgers[0].verified


def test_an_entry_changed_in_place_contradicts_the_signed_root(homes):
    def change(items):
        entry = entries.decode(items[4])
        return [*items[:4], entries.encode(msgspec.structs.replace(entry, ts=entry.ts)), *items[5:]]

    rewrite(homes[0], change)
    assert verify_home(homes[0]).findings == ()

    def later(items):
        entry = entries.decode(items[4])
        other = msgspec.structs.replace(entry, s=bytes(16))
        return [*items[:4], entries.encode(other), *items[5:]]

    rewrite(homes[0], later)
    assert codes(verify_home(homes[0])) == {"checkpoint.root"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("stray", "layout.stray"),
        ("tail.1", "layout.stray"),
        ("tail.00", "layout.stray"),
        ("tile/0/0000", "layout.stray"),
        ("tile/9/000", "layout.stray"),
        ("tile/0/000", "layout.stray"),
        ("tile/entries/extra/000", "layout.stray"),
        ("blobs/sha256/00/" + "11" * 32, "layout.stray"),
        ("blobs/note.txt", "layout.stray"),
    ],
)
def test_what_does_not_belong_to_a_ledger_is_found(homes, name, expected):
    path = homes[0] / "ledger" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(8192))
    found = verify_home(homes[0])
    assert codes(found) == {expected}
    assert found.exit_code() == 3


def test_links_and_devices_are_never_followed(homes):
    ledger = homes[0] / "ledger"
    blob = next(path for path in (ledger / "blobs").rglob("*") if path.is_file())
    outside = homes[0] / "outside"
    shutil.move(blob, outside)
    blob.symlink_to(outside)
    found = verify_home(homes[0])
    assert {"layout.stray", "blob.missing"} >= codes(found)
    assert "is not a regular file" in found.findings[0].message
    os.mkfifo(ledger / "tail.256")
    assert "layout.stray" in codes(verify_home(homes[0]))


def test_leftovers_of_a_crash_are_not_read_and_no_finding(homes):
    (homes[0] / "ledger" / "checkpoint.tmp").write_bytes(b"half")
    assert verify_home(homes[0]).findings == ()


def test_sizes_that_no_genuine_file_has_are_found_before_reading(homes, monkeypatch):
    (homes[0] / "ledger" / "LOCK").write_bytes(b"x")
    assert codes(verify_home(homes[0])) == {"layout.oversize"}
    (homes[0] / "ledger" / "LOCK").write_bytes(b"")
    with (homes[0] / "ledger" / "checkpoint").open("ab") as file:
        file.truncate(1 << 30)
    assert "layout.oversize" in codes(verify_home(homes[0]))


@pytest.mark.parametrize("name", ["checkpoint", "tail.0"])
def test_a_missing_file_is_found(homes, name):
    (homes[0] / "ledger" / name).unlink()
    found = verify_home(homes[0])
    assert "layout.missing" in codes(found)
    assert found.exit_code() == 3


def test_a_torn_last_frame_is_incomplete_not_tampering(tmp_path):
    bern, _ = two(tmp_path)
    bern.train()
    path = tail_of(bern.home)
    path.write_bytes(path.read_bytes()[:-1])
    found = verify_home(bern.home)
    assert codes(found) == {"tail.torn"}
    (finding,) = found.findings
    assert (finding.index, found.exit_code()) == (2, 4)
    assert finding.offset > 0
    bern.close()
    path.write_bytes(path.read_bytes()[:-50])
    found = verify_home(bern.home)
    assert codes(found) == {"tail.torn", "checkpoint.rollback"}
    assert found.exit_code() == 3, "3 wins over 4"


@pytest.fixture
def long_log(tmp_path):
    bern, _ = two(tmp_path)
    base = ModelBase(model=bern.model, source="seed", licence="", note="")
    bern.journal.append([base] * 600)
    bern.close()
    return bern.home


@pytest.mark.parametrize(
    ("damage", "expected", "exit_code"),
    [
        ({"tile/entries/001": None}, {"bundle.missing"}, 4),
        ({"tile/0/001": None}, {"tile.missing"}, 4),
        (
            {"tile/entries/001": None, "tile/0/001": None},
            {"bundle.missing", "tile.missing", "checkpoint.root"},
            3,
        ),
        ({"tile/entries/001": b"\0\5abc"}, {"bundle.corrupt"}, 3),
        ({"tile/0/001": b"short"}, {"tile.mismatch"}, 3),
        ({"tile/0/001": bytes(8192)}, {"tile.mismatch"}, 3),
        ({"tile/0/002": bytes(8192)}, {"layout.stray"}, 3),
        ({"tile/1/000": bytes(8192)}, {"layout.stray"}, 3),
        ({"tail.256": b"\0\1xyz"}, set(), 0),
        ({"tail.256": tiles.frame(b"x", merkle.leaf_hash(b"x"))}, {"tail.corrupt"}, 3),
        ({"tail.256": tiles.frame(b"x", b"\1" * 32)}, {"tail.corrupt"}, 3),
        ({"tail.512": tiles.frame(b"x", b"\1" * 32)}, {"tail.corrupt", "checkpoint.rollback"}, 3),
    ],
)
def test_damage_to_bundles_and_tiles_is_told_apart(long_log, damage, expected, exit_code):
    for name, data in damage.items():
        path = long_log / "ledger" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if data is None:
            path.unlink()
        else:
            path.write_bytes(data)
    found = verify_home(long_log)
    assert codes(found) == expected
    assert found.exit_code() == exit_code


def test_a_bundle_that_was_swapped_with_its_tile_contradicts_the_root(long_log):
    ledger = long_log / "ledger"
    for folder in ("tile/entries", "tile/0"):
        one, other = ledger / folder / "000", ledger / folder / "001"
        one.rename(ledger / "held")
        other.rename(one)
        (ledger / "held").rename(other)
    assert {"entry.position", "entry.genesis"} <= codes(verify_home(long_log))


@pytest.mark.parametrize("size", [0, 1, 255, 256, 600])
def test_a_forged_checkpoint_is_found_at_any_size(long_log, size):
    author = audit.known_authors([long_log])
    (author,) = author.values()
    from konsil.protocol.identity import SigningKey

    head = Checkpoint(origin=author.origin, size=size, root=bytes(32))
    forged = heads.sign(head, SigningKey.from_seed(bytes(32)))
    (long_log / "ledger" / "checkpoint").write_bytes(forged)
    assert codes(verify_home(long_log)) == {"checkpoint.corrupt"}


def test_a_checkpoint_over_other_entries_by_the_right_key_is_found(tmp_path):
    bern, _ = two(tmp_path)
    bern.train()
    bern.close()
    head = Checkpoint(origin=bern.author.origin, size=2, root=bytes(32))
    (bern.home / "ledger" / "checkpoint").write_bytes(heads.sign(head, bern.keys["log"]))
    assert codes(verify_home(bern.home)) == {"checkpoint.root"}


def test_a_corrupt_blob_is_tampering_and_a_missing_one_incomplete(homes):
    blobs = sorted(path for path in (homes[0] / "ledger/blobs").rglob("*") if path.is_file())
    saved = blobs[0].read_bytes()
    blobs[0].write_bytes(saved[:-1] + bytes([saved[-1] ^ 1]))
    found = verify_home(homes[0])
    assert "blob.corrupt" in codes(found)
    assert found.exit_code() == 3
    for path in blobs:
        path.unlink()
    found = verify_home(homes[0])
    assert codes(found) == {"blob.missing"}
    assert found.exit_code() == 4


def test_a_corrupt_payload_is_tampering(homes):
    payloads = [path for path in (homes[0] / "blobs").rglob("*") if path.is_file()]
    payloads[0].write_bytes(b"other")
    found = verify_home(homes[0], replay=True)
    assert codes(found) == {"blob.corrupt", "integrate.unreplayed"}
    (homes[0] / "blobs" / "sha256" / "partial.tmp").write_bytes(b"half")
    assert codes(verify_home(homes[0])) == {"blob.corrupt"}


def test_a_giant_evidence_blob_is_not_read(tmp_path):
    bern, _ = two(tmp_path)
    giant = bern.journal.blobs.put(bytes(1 << 17))
    bern.journal.append(
        [
            ArtifactReject(
                art=None, publisher=bern.node, env=None, stage="size", reasons=["size"],
                evidence=giant,
            )
        ]
    )  # fmt: skip
    assert codes(audit_of(bern)) == {"layout.oversize"}
