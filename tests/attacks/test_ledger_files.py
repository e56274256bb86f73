"""Attacks on the files of a ledger, by whoever can write them (A1, A2, A8, A9, A26).

Each is played on a real home, whose every kind of file is there, and found by `konsil audit`.
What the bytes of one format may not be is tried exhaustively where that format is.
"""

from __future__ import annotations

import base64
import os
import shutil
import unicodedata

import pytest
from commands import konsil
from ledgers import consortium, tail_of, two
from pinned import genuine, missed, pinned, refusal
from vouched import cosign

from konsil.protocol import checkpoint, cmp1, entries, merkle, note, proof, tiles
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.cosignature import WitnessKey
from konsil.protocol.digest import sha256
from konsil.protocol.learning_bodies import ModelBase
from konsil.protocol.note import NoteKey


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """Two hospitals that learned together; the log of bern is longer than a bundle."""
    bern, graz = consortium(tmp_path_factory.mktemp("lived"), "bern", "graz", rounds=1)
    bern.reopen()
    base = ModelBase(model=sha256(b"another"), source="", licence="", note="")
    bern.journal.append([base] * 280)
    cosign(bern, {graz: bern.clock.now // 1_000})
    bern.close()
    return bern, graz


@pytest.fixture
def home(lived, tmp_path):
    """A copy of the home of bern."""
    return shutil.copytree(lived[0].home, tmp_path / "bern")


# --- A1: a flipped bit ------------------------------------------------------------------------

LARGEST = {
    None: "ledger/tail.*",
    "bundle": "ledger/tile/entries/*",
    "tile": "ledger/tile/0/*",
    "checkpoint": "ledger/checkpoint",
    "cosigned": "ledger/cosigned",
    "blob": "ledger/blobs/sha256/*/*",
    "payload": "blobs/sha256/*/*",
}
ALSO = {"bundle": {"bundle.corrupt", "entry.encoding", "checkpoint.root"}}


@pytest.mark.parametrize("form", LARGEST)
def test_a1_a_flipped_bit_in_any_file(home, form):
    genuine(home)
    path = max(home.glob(LARGEST[form]), key=lambda one: one.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    assert not missed("a1", home, form=form, also=(*ALSO.get(form, ()), "blob.missing"))


# --- A2: entries moved, with their hashes mended ----------------------------------------------


def rewrite(home, change):
    """Changes the entries of the tail, and mends every leaf hash."""
    path = tail_of(home)
    items = change([frame.entry for frame in tiles.read_tail(path.read_bytes()).frames])
    path.write_bytes(b"".join(tiles.frame(item, merkle.leaf_hash(item)) for item in items))


@pytest.mark.parametrize(
    "change",
    [
        lambda items: items[:3] + items[4:],
        lambda items: [*items[:3], items[3], *items[3:]],
        lambda items: [*items[:3], items[4], items[3], *items[5:]],
        lambda items: [*items[:3], items[20], *items[3:]],
    ],
    ids=["deleted", "duplicated", "swapped", "inserted"],
)
def test_a2_entries_deleted_inserted_swapped_or_duplicated(home, change):
    rewrite(home, change)
    also = {"checkpoint.root", "checkpoint.rollback", "cosigned.time", "entry.salt", "entry.time"}
    assert not missed("a2", home, also=also)


def test_a2_an_entry_in_the_place_of_another(home):
    def other_salt(items):
        plain = cmp1.decode(items[3])
        return [*items[:3], cmp1.encode({**plain, "s": bytes(16)}), *items[4:]]

    rewrite(home, other_salt)
    assert not missed("a2", home, form="replaced")


def test_a2_entries_cut_off_with_their_hashes(home):
    rewrite(home, lambda items: items[:-3])
    assert not missed("a2", home, form="cut")


# --- A8: another encoding of an entry ---------------------------------------------------------


def frame_of(hospital, **changes):
    """The plain map of an entry that might come next."""
    journal = hospital.journal
    body = ModelBase(model=bytes(32), source="x", licence="", note="")
    entry = entries.entry(
        body, index=journal.size, time_ms=hospital.clock(), salt=hospital.draw.randbytes(16),
        charter=bytes(32),
    )  # fmt: skip
    return {**cmp1.decode(entries.encode(entry)), **changes}


def encoded(plain, *, order=None, twice=None):
    """The map of an entry in an order and with a key twice, as no canonical writer has it."""
    keys = list(order or plain) + ([twice] if twice else [])
    pairs = b"".join(cmp1.encode(key) + cmp1.encode(plain[key]) for key in keys)
    return bytes([0x80 + len(keys)]) + pairs


HOSTILE = {
    "keys unsorted": lambda plain: encoded(plain, order=sorted(plain, reverse=True)),
    "key twice": lambda plain: encoded(plain, twice="v"),
    "trailing byte": lambda plain: cmp1.encode(plain) + b"\x00",
    "cut": lambda plain: cmp1.encode(plain)[:-1],
    "long int": lambda plain: cmp1.encode(plain)[:-1] + b"\xcc\x01",
    "signed form": lambda plain: cmp1.encode(plain)[:-1] + b"\xd0\x01",
    "float": lambda plain: cmp1.encode(plain)[:-1] + b"\xcb\x3f\xf0" + bytes(6),
    "minus zero": lambda plain: cmp1.encode(plain)[:-1] + b"\xcb\x80" + bytes(7),
    "ext": lambda plain: cmp1.encode(plain)[:-1] + b"\xd4\x05x",
    "timestamp": lambda plain: cmp1.encode(plain)[:-1] + b"\xd6\xff" + bytes(4),
    "bool for int": lambda plain: cmp1.encode(plain)[:-1] + b"\xc3",
    "long map": lambda plain: b"\xde\x00\x07" + cmp1.encode(plain)[1:],
    "four billion": lambda plain: b"\xdf\xff\xff\xff\xff" + cmp1.encode(plain)[1:],
    "text for bytes": lambda plain: cmp1.encode({**plain, "s": "0123456789abcdef"}),
    "a key more": lambda plain: cmp1.encode({**plain, "z": 1}),
    "a key less": lambda plain: cmp1.encode({key: plain[key] for key in plain if key != "c"}),
    "decomposed text": lambda plain: cmp1.encode(
        {**plain, "b": {**plain["b"], "source": "Zuerich"}}
    ).replace(b"Zuerich", unicodedata.normalize("NFD", "Z\u00fcric").encode()),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a8_an_entry_that_is_not_canonical(tmp_path, name):
    """The owner signs for it, so hash and root are right."""
    bern, _ = two(tmp_path)
    data = HOSTILE[name](frame_of(bern))
    bern.journal._store.append([(data, merkle.leaf_hash(data))])
    bern.close()
    assert not missed("a8", bern.home)


# --- A9: another form of a note ---------------------------------------------------------------

DASH = "\N{EM DASH} "


def respelt(line):
    """A signature line with another last letter of its base64, which means the same bytes."""
    text = line.decode().rstrip("\n")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    body, padding = text.rstrip("="), text[len(text.rstrip("=")) :]
    other = body[:-1] + letters[letters.index(body[-1]) ^ 1] + padding
    encoded, again = (one.rpartition(" ")[2] for one in (text, other))
    assert base64.b64decode(encoded) == base64.b64decode(again)
    return other.encode() + b"\n"


def marked(line):
    """A signature line under another key id."""
    name, _, body = line.decode().rstrip("\n").removeprefix(DASH).partition(" ")
    raw = base64.b64decode(body)
    return f"{DASH}{name} {note.encode_base64(bytes(4) + raw[4:])}\n".encode()


@pytest.mark.parametrize(
    "change",
    [
        respelt,
        marked,
        lambda line: line + line,
        lambda line: line + f"{DASH}somebody AAAAAAAA\n".encode(),
    ],
    ids=["respelt", "key id", "twice", "a stranger"],
)
def test_a9_another_form_of_the_checkpoint(home, change):
    path = home / "ledger" / "checkpoint"
    text, _, line = path.read_bytes().partition(b"\n\n")
    path.write_bytes(text + b"\n\n" + change(line))
    assert not missed("a9", home)


@pytest.mark.parametrize("change", [respelt, lambda line: line + line], ids=["respelt", "twice"])
def test_a9_another_form_of_a_cosignature(home, change):
    path = home / "ledger" / "cosigned"
    *rest, line = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(rest) + change(line))
    assert not missed("a9", home, form="cosigned")


def test_a9_a_witness_who_stands_twice_is_no_quorum(lived, tmp_path):
    """Once more the same line, and once more under another spelling."""
    bern, graz = lived
    witness = WitnessKey(graz.author.origin, graz.author.keys["wit"])
    log = NoteKey(bern.author.origin, bern.author.keys["log"])
    rules, made = tmp_path / "policy", tmp_path / "proof"
    rules.write_text(f"log {log.vkey}\nwitness graz {witness.vkey}\nquorum graz\n")
    assert konsil("audit", "prove", bern.home, "3", "-o", made).code == 0
    data = made.read_bytes()
    assert konsil("audit", "check", made, "--policy", rules).code == 0
    line = data.splitlines(keepends=True)[-1]
    for more in (line, respelt(line)):
        made.write_bytes(data + more)
        assert refusal("audit", "check", made, "--policy", rules) == pinned("a9", "proof")


# --- A26: bombs -------------------------------------------------------------------------------


def link(home):
    path = next(path for path in (home / "ledger/blobs").rglob("*") if path.is_file())
    shutil.move(path, home / "elsewhere")
    path.symlink_to(home / "elsewhere")


def far(home):
    path = home / "ledger/tile/entries/x999/x999/999"
    path.parent.mkdir(parents=True)
    path.touch()


@pytest.mark.parametrize(
    "plant",
    [
        link,
        far,
        lambda home: (home / "ledger" / "notes.txt").write_text("x"),
        lambda home: (home / "ledger" / "tail.9999999999999999744").touch(),
        lambda home: os.mkfifo(home / "ledger" / "tail.512"),
    ],
    ids=["link", "far away", "stray", "far tail", "pipe"],
)
def test_a26_what_does_not_belong_in_a_ledger(home, plant):
    plant(home)
    assert not missed("a26", home, also=("blob.missing",))


@pytest.mark.parametrize("name", ["checkpoint", "tail.0", "tile/entries/000", "LOCK"])
def test_a26_a_file_without_end(home, name):
    with (home / "ledger" / name).open("ab") as file:
        file.truncate(3 << 40)
    also = {"layout.missing", "bundle.missing", "bundle.corrupt", "tail.corrupt", "layout.stray"}
    assert not missed("a26", home, form="oversize", also=also)


def test_a26_a_million_signatures(home):
    path = home / "ledger" / "checkpoint"
    line = f"{DASH}x AAAAAAAA\n".encode()
    path.write_bytes(path.read_bytes() + line * 9_000)
    assert not missed("a26", home, form="signatures")
    path.write_bytes(path.read_bytes() + line * 1_000_000)
    assert not missed("a26", home, form="oversize", also=("layout.missing",))


BOMBS = {
    "depth": b"\x91" * 60_000 + b"\x01",
    "array of four billion": b"\xdd\xff\xff\xff\xff\x01",
    "bytes of four billion": b"\xc6\xff\xff\xff\xffx",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a26_an_entry_that_would_fill_the_memory(tmp_path, name):
    bern, _ = two(tmp_path)
    bern.journal._store.append([(BOMBS[name], merkle.leaf_hash(BOMBS[name]))])
    bern.close()
    assert not missed("a26", bern.home, form="entry")


def test_a26_a_proof_without_end(lived, tmp_path):
    bern, _ = lived
    head = Checkpoint(origin=bern.author.origin, size=2**62, root=bytes(32))
    data = proof.encode(
        proof.Proof(
            index=3, hashes=tuple(bytes(32) for _ in range(64)), extra=bern.author.entry,
            checkpoint=checkpoint.sign(head, bern.keys["log"]),
        )
    )  # fmt: skip
    (tmp_path / "proof").write_bytes(data)
    (tmp_path / "bern.genesis").write_bytes(bern.author.entry)
    given = (tmp_path / "proof", "--genesis", tmp_path / "bern.genesis")
    assert refusal("audit", "check", *given) == pinned("a26", "proof")
