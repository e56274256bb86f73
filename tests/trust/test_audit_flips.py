"""One flipped bit anywhere in the truth is found: every file, every byte, one bit each.

By default a seeded sample of bytes of every file; the exhaustive form tries each byte. Files
of the truth are all under `ledger/` but the index, the payloads under `blobs/`, the records of
use in `inference/`, and what the home keeps of others in `peers/`.
"""

from __future__ import annotations

import random
import shutil

import pytest
from ledgers import Hospital, consortium, mirrored
from vouched import cosign

from konsil.node.store.witnessed import NAME, Witnessed
from konsil.protocol import merkle
from konsil.protocol.artifact import bucket
from konsil.protocol.digest import sha256
from konsil.protocol.learning_bodies import ModelBase
from konsil.protocol.office_bodies import InferenceBatch
from konsil.trust.audit import verify_home
from konsil.trust.bedside import UseRecord, write_records

EXHAUSTIVE = pytest.param(None, marks=pytest.mark.exhaustive, id="all")
ENTRIES = 300
IDLE = {"LOCK", "index.sqlite"}
"""What no audit reads."""


def lived(root) -> Hospital:
    """A hospital with every kind of entry, blob and record, that vouches for another one.

    Its last checkpoint is cosigned, and it goes on writing.
    """
    bern, graz = consortium(root, "bern", "graz", rounds=1)
    mirrored(graz, bern)
    head = (graz.home / "ledger" / "checkpoint").read_bytes()
    Witnessed(bern.home / "peers" / NAME).add(head)
    bern.reopen()
    use = UseRecord(input=sha256(b"image"), output="no finding", salt=bytes(16), ts=1)
    data = write_records([use])
    body = InferenceBatch(
        model=bern.model, count=bucket(1), from_ms=1, to_ms=9, root=merkle.leaf_hash(data[2:])
    )
    bern.journal.append([body])
    (bern.home / "inference").mkdir()
    (bern.home / "inference" / body.root.hex()).write_bytes(data)
    cosign(bern, {graz: bern.clock.now // 1_000})
    return bern


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A home with all of its log in a tail."""
    bern = lived(tmp_path_factory.mktemp("learned"))
    bern.close()
    return bern.home


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A home of 300 entries: a full bundle, a full hash tile and a tail."""
    bern = lived(tmp_path_factory.mktemp("grown"))
    base = ModelBase(model=sha256(b"another"), source="", licence="", note="")
    bern.journal.append([base] * (ENTRIES - bern.journal.size))
    bern.close()
    assert bern.journal.size == ENTRIES
    return bern.home


def truth(home):
    """Every file whose bytes an audit answers for."""
    folders = ("ledger", "blobs", "inference", "peers")
    files = [path for folder in folders for path in sorted((home / folder).rglob("*"))]
    return [path for path in files if path.is_file() and path.name not in IDLE]


def missed(home, draw, sample):
    """Flips one bit in each chosen byte of each file, and tells which flips no audit saw."""
    unseen, tried = [], 0
    for path in truth(home):
        data = path.read_bytes()
        places = range(len(data))
        # A cosignature may become one by a stranger, which nobody here can judge: incomplete.
        told = {3, 4} if path.name == "cosigned" else {3}
        if sample is not None:
            places = sorted({0, len(data) - 1, *draw.sample(places, min(sample, len(data)))})
        for place in places:
            flipped = bytearray(data)
            flipped[place] ^= 1 << draw.randrange(8)
            path.write_bytes(flipped)
            found = verify_home(home)
            tried += 1
            if found.exit_code() not in told or found.ledgers[0].verified:
                unseen.append((path.name, place, found.exit_code()))
        path.write_bytes(data)
    return unseen, tried


@pytest.mark.parametrize("sample", [3, EXHAUSTIVE])
def test_no_flipped_bit_of_a_lived_in_home_stays_unseen(learned, tmp_path, sample):
    home = tmp_path / "bern"
    shutil.copytree(learned, home)
    unseen, tried = missed(home, random.Random(1), sample)
    assert unseen == []
    assert tried > 60
    assert verify_home(home).findings == ()


@pytest.mark.parametrize("sample", [3, EXHAUSTIVE])
def test_no_flipped_bit_of_a_log_of_300_entries_stays_unseen(grown, tmp_path, sample):
    home = tmp_path / "bern"
    shutil.copytree(grown, home)
    names = {path.relative_to(home).parts[1] for path in truth(home)}
    assert names >= {"tile", "tail.256", "checkpoint", "cosigned", "blobs", "sha256", NAME}
    unseen, tried = missed(home, random.Random(2), sample)
    print(f"{tried} flips, {len(unseen)} missed")
    assert unseen == []
    assert tried > 60
    assert verify_home(home).findings == ()
