"""One flipped bit anywhere in the truth is found: every file, every byte, one bit each.

By default a seeded sample of bytes of every file; the exhaustive form tries each byte. Files
of the truth are all under `ledger/` and the payloads under `blobs/`.
"""

from __future__ import annotations

import random
import shutil

import pytest
from ledgers import consortium, two

from konsil.protocol.learning_bodies import ModelBase
from konsil.trust.audit import verify_home

EXHAUSTIVE = pytest.param(None, marks=pytest.mark.exhaustive, id="all")


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A home with every kind of entry and blob, all of it in a tail."""
    return consortium(tmp_path_factory.mktemp("learned"), "bern", "graz", rounds=1)[0].home


@pytest.fixture(scope="module")
def rolled(tmp_path_factory):
    """A home with a full bundle, a full hash tile and a tail."""
    bern, _ = two(tmp_path_factory.mktemp("rolled"))
    bern.journal.append([ModelBase(model=bern.model, source="", licence="", note="")] * 298)
    bern.close()
    return bern.home


def truth(home):
    """Every file whose bytes an audit answers for."""
    files = [path for folder in ("ledger", "blobs") for path in sorted((home / folder).rglob("*"))]
    return [path for path in files if path.is_file() and path.name != "LOCK"]


def missed(home, draw, sample):
    """Flips one bit in each chosen byte of each file, and tells which flips no audit saw."""
    unseen, tried = [], 0
    for path in truth(home):
        data = path.read_bytes()
        places = range(len(data))
        if sample is not None:
            places = sorted({0, len(data) - 1, *draw.sample(places, min(sample, len(data)))})
        for place in places:
            flipped = bytearray(data)
            flipped[place] ^= 1 << draw.randrange(8)
            path.write_bytes(flipped)
            found = verify_home(home)
            tried += 1
            if found.exit_code() != 3 or found.ledgers[0].verified:
                unseen.append((path.name, place, found.exit_code()))
        path.write_bytes(data)
    return unseen, tried


@pytest.mark.parametrize("sample", [6, EXHAUSTIVE])
def test_no_flipped_bit_of_a_lived_in_home_stays_unseen(learned, tmp_path, sample):
    home = tmp_path / "bern"
    shutil.copytree(learned, home)
    unseen, tried = missed(home, random.Random(1), sample)
    assert unseen == []
    assert tried > 60
    assert verify_home(home).findings == ()


@pytest.mark.parametrize("sample", [40, EXHAUSTIVE])
def test_no_flipped_bit_of_bundles_and_tiles_stays_unseen(rolled, tmp_path, sample):
    home = tmp_path / "bern"
    shutil.copytree(rolled, home)
    assert {path.parent.name for path in truth(home)} >= {"entries", "0"}
    unseen, tried = missed(home, random.Random(2), sample)
    assert unseen == []
    assert tried > 150
    assert verify_home(home).findings == ()
