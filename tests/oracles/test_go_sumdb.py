"""Go's sumdb reads our notes, tiles and entries, and agrees on every proof, right or wrong."""

from __future__ import annotations

import base64
import json
import random
import subprocess
from pathlib import Path

import pytest
from ledgers import Hospital

from konsil.protocol import checkpoint, merkle, note, tiles
from konsil.protocol.errors import ManifestRefused, RemoteError
from konsil.protocol.identity import SigningKey
from konsil.protocol.learning_bodies import ModelBase
from konsil.trust.exports.tlog_proof import to_tlog_proof

KEY = SigningKey(bytes(range(32)))
ORIGIN = "alps/oracle"
VKEY = note.NoteKey(ORIGIN, KEY.public).vkey
LEAVES = [merkle.leaf_hash(bytes([n])) for n in range(40)]
TREE = merkle.Tree(LEAVES)
STEP = 37
"""Every so many entries Go makes a proof of its own."""


def encoded(value):
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return [encoded(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def ask(go_oracle):
    def ask(*questions):
        plain = [{name: encoded(value) for name, value in one.items()} for one in questions]
        done = subprocess.run(
            [go_oracle], input=json.dumps(plain), capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ask


def test_leaf_hashes(ask):
    data = [b"", b"\0", b"konsil" * 1_000]
    told = ask(*({"op": "leaf", "data": one} for one in data))
    assert [base64.b64decode(one["hash"]) for one in told] == [merkle.leaf_hash(o) for o in data]


def test_a_checkpoint_opens_and_a_changed_one_does_not(ask):
    head = checkpoint.Checkpoint(origin=ORIGIN, size=40, root=TREE.root())
    signed = checkpoint.sign(head, KEY)
    other = note.NoteKey(ORIGIN, SigningKey(bytes(32)).public).vkey
    (good, foreign) = ask(
        {"op": "note", "note": signed, "vkeys": [VKEY]},
        {"op": "note", "note": signed, "vkeys": [other]},
    )
    assert good["text"] == checkpoint.to_text(head)
    assert good["signers"] == [ORIGIN]
    assert not foreign["ok"]
    changed = [signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :] for at in range(90)]
    for one, flipped in zip(
        ask(*({"op": "note", "note": item, "vkeys": [VKEY]} for item in changed)),
        changed,
        strict=True,
    ):
        assert not one["ok"], flipped


def test_a_note_of_a_rotation_has_two_signers_for_go_as_well(ask):
    head = checkpoint.Checkpoint(origin=ORIGIN, size=1, root=TREE.root(1))
    new = SigningKey(bytes(reversed(range(32))))
    signed = note.sign(checkpoint.to_text(head), [(ORIGIN, KEY), (ORIGIN, new)])
    keys = [VKEY, note.NoteKey(ORIGIN, new.public).vkey]
    (both, one) = ask(
        {"op": "note", "note": signed, "vkeys": keys},
        {"op": "note", "note": signed, "vkeys": keys[1:]},
    )
    assert (both["signers"], both["unknown"]) == ([ORIGIN, ORIGIN], 0)
    assert (one["signers"], one["unknown"]) == ([ORIGIN], 1)


def inclusions():
    """(statement, is it ours to accept): genuine ones and every kind of mistake."""
    draw = random.Random(7)
    for size in (1, 2, 3, 5, 8, 13, 32, 33, 40):
        for index in {0, 1, size // 2, size - 1} & set(range(size)):
            true = {
                "op": "inclusion",
                "index": index,
                "size": size,
                "root": TREE.root(size),
                "leaf": LEAVES[index],
                "proof": TREE.inclusion(index, size),
            }
            yield from mistakes(true, draw, ("index", "size"), ("root", "leaf"))


def consistencies():
    draw = random.Random(8)
    for size in (1, 2, 3, 5, 8, 13, 32, 33, 40):
        for old in {1, 2, size // 2, size - 1, size} & set(range(1, size + 1)):
            true = {
                "op": "consistency",
                "old": old,
                "size": size,
                "was": TREE.root(old),
                "root": TREE.root(size),
                "proof": TREE.consistency(old, size),
            }
            yield from mistakes(true, draw, ("old", "size"), ("was", "root"))


def mistakes(true, draw, numbers, hashes):
    """A statement, and what a forger or a bug would make of it."""
    yield true
    proof = true["proof"]
    for name in numbers:
        for value in (true[name] - 1, true[name] + 1, true[name] * 2, true[name] // 2, 0):
            yield true | {name: max(value, 0)}
    for name in hashes:
        yield true | {name: draw.randbytes(32)}
        yield true | {name: merkle.EMPTY_ROOT}
    one, other = hashes
    yield true | {one: true[other], other: true[one]}
    yield true | {"proof": []}
    yield true | {"proof": [*proof, draw.randbytes(32)]}
    yield true | {"proof": [*proof, true["root"]]}
    yield true | {"proof": [true[one], *proof]}
    yield true | {"proof": proof[:-1]}
    yield true | {"proof": proof[1:]}
    yield true | {"proof": proof[::-1]}
    for at in range(len(proof)):
        flipped = bytes([proof[at][0] ^ (1 << draw.randrange(8)), *proof[at][1:]])
        yield true | {"proof": [*proof[:at], flipped, *proof[at + 1 :]]}


def ours(statement):
    try:
        if statement["op"] == "inclusion":
            merkle.verify_inclusion(
                *(statement[name] for name in ("leaf", "index", "size", "proof", "root"))
            )
        else:
            merkle.verify_consistency(
                *(statement[name] for name in ("old", "size", "proof", "was", "root"))
            )
    except ManifestRefused:
        return False
    return True


@pytest.mark.parametrize("statements", [inclusions, consistencies])
def test_go_accepts_and_refuses_the_same_proofs(ask, statements):
    asked = list(statements())
    told = [one["ok"] for one in ask(*asked)]
    mine = [ours(one) for one in asked]
    assert told == mine
    assert len(asked) > 500
    assert 20 < sum(mine) < len(mine) // 2


def test_a_fork_is_one_for_go_too(ask):
    forked = merkle.Tree([*LEAVES[:20], *LEAVES[21:]])
    proof = TREE.consistency(30, 40)
    true = {"op": "consistency", "old": 30, "size": 40, "root": TREE.root(), "proof": proof}
    (good, bad) = ask(true | {"was": TREE.root(30)}, true | {"was": forked.root(30)})
    assert (good["ok"], bad["ok"]) == (True, False)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    """A ledger of 1,500 entries: five bundles, their tiles, and a tail."""
    one = Hospital(tmp_path_factory.mktemp("go-ledger"), "bern")
    bodies = [
        ModelBase(model=one.draw.randbytes(32), source=f"{n}" * (n % 40), licence="", note="")
        for n in range(1_500 - one.journal.size)
    ]
    for at in range(0, len(bodies), 100):
        one.journal.append(bodies[at : at + 100])
    one.close()
    return one


def partial_tiles(folder: Path, leaves: list[bytes]) -> None:
    """The tiles that a reader computes from the tail, where the Go program looks for them."""
    level, hashes = 0, leaves
    while hashes:
        full, width = divmod(len(hashes), tiles.WIDTH)
        if width:
            path = folder / "partial" / f"{tiles.tile_path(level, full)}.p" / str(width)
            path.parent.mkdir(parents=True)
            path.write_bytes(b"".join(hashes[full * tiles.WIDTH :]))
        hashes = [
            merkle.root_of(hashes[at * tiles.WIDTH : (at + 1) * tiles.WIDTH]) for at in range(full)
        ]
        level += 1


def test_every_entry_of_a_ledger_is_authenticated_through_our_tiles(ask, ledger, tmp_path):
    import shutil

    folder = tmp_path / "ledger"
    shutil.copytree(ledger.home / "ledger", folder)
    entries = [
        data
        for number in range(5)
        for _, data in tiles.read_bundle((folder / tiles.bundle_path(number)).read_bytes())
    ]
    entries += [one.entry for one in tiles.read_tail((folder / "tail.1280").read_bytes()).frames]
    leaves = [merkle.leaf_hash(one) for one in entries]
    partial_tiles(folder, leaves)
    vkey = note.NoteKey(ledger.author.origin, ledger.author.keys["log"]).vkey
    question = {"op": "ledger", "dir": str(folder), "vkeys": [vkey], "index": STEP}
    (told,) = ask(question)
    assert (told["ok"], told["entries"]) == (True, 1_500), told.get("error")
    tree = merkle.Tree(leaves)
    for place, proof in enumerate(told["inclusion"]):
        assert encoded(tree.inclusion(place * STEP)) == (proof or [])
    for place, proof in enumerate(told["consistency"]):
        assert encoded(tree.consistency(1 + place * STEP)) == (proof or [])
    # One changed byte in a tile, a bundle or the tail, and Go refuses the ledger.
    for name in ("tile/0/003", "tile/entries/002", "tail.1280", "checkpoint"):
        data = bytearray((folder / name).read_bytes())
        data[100] ^= 1
        (folder / name).write_bytes(data)
        assert not ask(question)[0]["ok"], name
        data[100] ^= 1
        (folder / name).write_bytes(data)


def test_an_exported_proof_holds_for_go(ask, ledger):
    vkey = note.NoteKey(ledger.author.origin, ledger.author.keys["log"]).vkey
    for index in (0, 255, 256, 1_279, 1_280, 1_499):
        text = to_tlog_proof(ledger.home, index)
        head, _, signed = text.partition(b"\n\n")
        first, extra, place, *hashes = head.decode().split("\n")
        assert first == "c2sp.org/tlog-proof@v1"
        assert place == f"index {index}"
        (opened,) = ask({"op": "note", "note": signed, "vkeys": [vkey]})
        origin, size, root, _ = opened["text"].split("\n")
        assert origin == ledger.author.origin
        (leaf,) = ask({"op": "entry", "data": base64.b64decode(extra.removeprefix("extra "))})
        question = {"op": "inclusion", "index": index, "size": int(size), "root": root}
        assert ask(question | {"leaf": leaf["hash"], "proof": hashes})[0]["ok"]
        assert not ask(question | {"leaf": root, "proof": hashes})[0]["ok"]


def test_where_we_are_stricter_than_go(ask):
    """Spare bits of base64: for Go another spelling of the same note, for us another note."""
    head = checkpoint.Checkpoint(origin=ORIGIN, size=40, root=TREE.root())
    signed = checkpoint.sign(head, KEY).decode()
    lines = signed.rstrip("\n").split("\n")
    # 68 bytes of key id and signature end in two characters of padding-free spare bits.
    table = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    stem, last = lines[-1].rstrip("=")[:-1], lines[-1].rstrip("=")[-1]
    padding = "=" * (len(lines[-1]) - len(lines[-1].rstrip("=")))
    spelled = stem + table[table.index(last) ^ 1] + padding
    other = "\n".join([*lines[:-1], spelled, ""]).encode()
    assert padding
    assert ask({"op": "note", "note": other, "vkeys": [VKEY]})[0]["ok"]
    with pytest.raises(RemoteError):
        checkpoint.open_checkpoint(other, origin=ORIGIN, key=KEY.public)


def test_go_and_we_agree_on_the_vectors_of_transparency_dev(ask, data_folder):
    """Genuine vectors, beside the checkout; sumdb knows hashes of 32 bytes and sizes below 2^63."""
    folder = data_folder / "merkle_vectors"
    if not folder.is_dir():
        pytest.skip(f"no proof vectors: {folder} is missing")
    fields = {
        "inclusion": {"index": "leafIdx", "size": "treeSize", "root": "root", "leaf": "leafHash"},
        "consistency": {"old": "size1", "size": "size2", "was": "root1", "root": "root2"},
    }
    asked, wanted = [], []
    for kind, names in fields.items():
        for case in json.loads((folder / f"{kind}.json").read_text()):
            one = {name: case[foreign] for name, foreign in names.items()}
            for name in ("root", "leaf", "was"):
                if name in one:
                    one[name] = base64.b64decode(one[name])
            proof = [base64.b64decode(item) for item in case["proof"] or []]
            hashes = [*proof, *(value for value in one.values() if isinstance(value, bytes))]
            numbers = [value for value in one.values() if isinstance(value, int)]
            if {len(item) for item in hashes} == {32} and max(numbers) < 2**63:
                asked.append({"op": kind, "proof": proof} | one)
                wanted.append(not case["wantErr"])
    assert [ours(one) for one in asked] == wanted
    told = [one["ok"] for one in ask(*asked)]
    assert told == wanted
    assert len(asked) >= 141
