"""Attacks on what is signed: too few who vouch, proofs of nothing, one signature in the place of
another (A6, A10, A11, A12).

Proofs and policies are files that a stranger checks with `konsil audit check`; what lies in a
ledger is found by `konsil audit verify`.
"""

from __future__ import annotations

import shutil

import ledgers
import msgspec
import pytest
from commands import konsil
from ledgers import Hospital, acquaint, tail_of, two
from pinned import genuine, missed, pinned, refusal
from vouched import cosign

from konsil.protocol import cosignature, envelope, note, proof, tiles
from konsil.protocol.cosignature import WitnessKey, quorum
from konsil.protocol.digest import sha256
from konsil.protocol.fork import open_with
from konsil.protocol.learning_bodies import ModelBase
from konsil.protocol.note import NoteKey, SignatureLine
from konsil.protocol.witness import COSIGNED, Request, encode_request
from konsil.trust import witnessing
from konsil.trust.witnessing import Witness

NOW_S = 1_760_000_000


# --- A6: two faces, and liars among those who vouch -------------------------------------------


class Memory:
    """What one honest witness knows."""

    def __init__(self):
        self.states = {}

    def get(self, origin):
        return self.states.get(origin)

    def swap(self, origin, expected, new):
        assert self.states.get(origin) == expected
        self.states[origin] = new
        return True


def asked(witness, memory, liar, data):
    """The line of an honest witness under a checkpoint of the liar; nothing when it refuses."""
    known = memory.get(liar.author.origin)
    size = liar.journal.size
    old = 0 if known is None else min(known.size, size)
    hashes = liar.journal.consistency(old, size) if 0 < old < size else ()
    request = encode_request(Request(old=old, proof=tuple(hashes), note=data))
    reader = open_with(origin=liar.author.origin, key=liar.author.keys["log"])
    who = Witness(
        name=witness.author.origin, key=witness.keys["wit"], readers={liar.author.origin: reader}
    )
    said = witnessing.answer(request, who, memory, lambda: NOW_S).response
    return said.body if said.status == COSIGNED else b""


def test_a6_two_faces_with_as_many_liars_as_were_reckoned_with(tmp_path):
    """Four vouch, one of them lies: three are a quorum, and both faces cannot have it."""
    liar, *honest, accomplice = (Hospital(tmp_path, name) for name in "labcx")
    memories = [Memory() for _ in honest]
    needed = quorum(len(honest) + 1, 1)
    assert needed == 3
    liar.close()
    twin = shutil.copytree(liar.home, tmp_path / "twin")
    liar.reopen()
    held = []
    for face, order in ((liar.home, (0, 1)), (twin, (2, 1, 0))):
        liar.close()
        liar.home = face
        liar.reopen()
        # Of one size, so that the witnesses cannot tell by that which came first.
        out = sha256(str(face).encode())
        liar.journal.append([ModelBase(model=out, source="", licence="", note="")])
        data = liar.journal.sign_checkpoint()
        lines = [asked(honest[at], memories[at], liar, data) for at in order]
        lines.append(
            cosignature.sign(data, accomplice.author.origin, accomplice.keys["wit"], NOW_S)
        )
        (face / "ledger" / "cosigned").write_bytes(data + b"".join(lines))
        held.append(len([line for line in lines if line]))
    liar.close()
    assert held == [needed, needed - 1]
    rules = policy_of(tmp_path, liar, [*honest, accomplice], needed)
    made = tmp_path / "proof"
    assert konsil("audit", "prove", tmp_path / "l", "2", "-o", made).code == 0
    assert konsil("audit", "check", made, "--policy", rules).code == 0
    assert konsil("audit", "prove", twin, "2", "-o", made).code == 0
    assert refusal("audit", "check", made, "--policy", rules) == pinned("a6")


def policy_of(folder, log, witnesses, needed):
    """A policy that demands so many of these witnesses."""
    lines = [f"log {NoteKey(log.author.origin, log.author.keys['log']).vkey}"]
    for one in witnesses:
        key = WitnessKey(one.author.origin, one.author.keys["wit"])
        lines.append(f"witness {one.name} {key.vkey}")
    names = " ".join(one.name for one in witnesses)
    lines += [f"group members {needed} {names}", "quorum members", ""]
    path = folder / "policy"
    path.write_text("\n".join(lines))
    return path


# --- A10: proofs of what is not there ---------------------------------------------------------


@pytest.fixture
def proven(tmp_path):
    """A log of seven entries, the proof of its fourth, and the one of an older state."""
    bern, graz = two(tmp_path)
    base = ModelBase(model=sha256(b"another"), source="", licence="", note="")
    bern.journal.append([base] * 3)
    older = proof.decode(bern.journal.prove(3))
    bern.journal.append([base] * 2)
    bern.journal.sign_checkpoint()
    newer = proof.decode(bern.journal.prove(3))
    leaves = [leaf.leaf for leaf in bern.journal.leaves(0, 7)]
    bern.close()
    graz.close()
    return bern, newer, older, leaves


SPOILT = {
    "an inner node as a leaf": lambda new, _, leaves: {
        "extra": leaves[2] + leaves[3], "hashes": new.hashes[1:],
    },
    "an inner node at its own level": lambda new, _, leaves: {
        "extra": leaves[2] + leaves[3], "index": 1, "hashes": new.hashes[1:],
    },
    "no hashes": lambda *_: {"hashes": ()},
    "a hash more": lambda new, *_: {"hashes": (*new.hashes, bytes(32))},
    "a short hash": lambda new, *_: {"hashes": (new.hashes[0][:31], *new.hashes[1:])},
    "another index": lambda *_: {"index": 2},
    "an index behind the end": lambda *_: {"index": 2**62},
    "of another size": lambda _, old, __: {"hashes": old.hashes},
    "under another size": lambda _, old, __: {"checkpoint": old.checkpoint},
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_a10_a_proof_of_what_is_not_there(proven, tmp_path, name):
    bern, newer, older, leaves = proven
    path, genesis = tmp_path / "proof", tmp_path / "bern.genesis"
    genesis.write_bytes(bern.author.entry)
    path.write_bytes(proof.encode(newer))
    assert konsil("audit", "check", path, "--genesis", genesis).code == 0
    spoilt = msgspec.structs.replace(newer, **SPOILT[name](newer, older, leaves))
    path.write_bytes(proof.encode(spoilt))
    assert refusal("audit", "check", path, "--genesis", genesis) == pinned("a10")


def receive_with(graz, bern, change):
    """Graz logs a receipt of what bern published, under a changed proof."""
    graz.receive(bern.publish(), bern.author)
    body = graz.journal.entry(graz.journal.size - 1).b
    shown = proof.decode(graz.journal.blobs.get(body.proof))
    changed = graz.journal.blobs.put(proof.encode(change(shown)))
    graz.journal.append([msgspec.structs.replace(body, proof=changed)])


def test_a10_a_receipt_with_such_a_proof(tmp_path):
    bern, graz = two(tmp_path)
    bern.train()
    receive_with(graz, bern, lambda shown: msgspec.structs.replace(shown, hashes=()))
    bern.close()
    graz.close()
    assert not missed("a10", bern.home, graz.home, form="received")


# --- A11: one signature in the place of another -----------------------------------------------


def replace_line(path, name, key_id, signature):
    text = path.read_bytes().partition(b"\n\n")[0]
    line = SignatureLine(name=name, key_id=key_id, signature=signature).text.encode()
    path.write_bytes(text + b"\n\n" + line)


@pytest.fixture
def signed(tmp_path):
    """Bern, stopped, whose checkpoint graz has cosigned."""
    bern, graz = two(tmp_path)
    acquaint(bern, graz)
    cosign(bern, {graz: NOW_S})
    bern.close()
    graz.close()
    genuine(bern.home)
    return bern, graz


def test_a11_a_cosignature_as_the_logs_signature(signed):
    """By the right key, over the right text and a time."""
    bern, _ = signed
    path = bern.home / "ledger" / "checkpoint"
    text, _ = note.parse(path.read_bytes())
    key = NoteKey(bern.author.origin, bern.author.keys["log"])
    made = bern.keys["log"].sign(cosignature.message(text, NOW_S))
    replace_line(path, key.name, key.key_id, made)
    assert not missed("a11", bern.home)


@pytest.mark.parametrize("seconds", [0, NOW_S])
def test_a11_a_notes_signature_as_a_cosignature(signed, seconds):
    bern, graz = signed
    path = bern.home / "ledger" / "cosigned"
    text, lines = note.parse(path.read_bytes())
    key = WitnessKey(graz.author.origin, graz.author.keys["wit"])
    made = seconds.to_bytes(8, "big") + graz.keys["wit"].sign(text.encode())
    forged = SignatureLine(name=key.name, key_id=key.key_id, signature=made)
    path.write_bytes("".join((text, "\n", lines[0].text, forged.text)).encode())
    assert not missed("a11", bern.home, form="cosigned")


def test_a11_an_envelope_of_another_type(tmp_path):
    """The right key signed these very bytes, but as a charter."""
    bern, _ = two(tmp_path)
    bern.train()
    bern.publish()
    body = bern.journal.entry(bern.journal.size - 1).b
    sealed = envelope.unpack(bern.journal.blobs.get(body.env))
    other = envelope.sign("application/vnd.konsil.charter+json", sealed.payload, bern.keys["art"])
    swapped = msgspec.structs.replace(other, payload_type=sealed.payload_type)
    env = bern.journal.blobs.put(envelope.pack(swapped))
    bern.journal.append([msgspec.structs.replace(body, env=env, sequence=2)])
    bern.close()
    assert not missed("a11", bern.home, form="envelope")


# --- A12: of somebody else --------------------------------------------------------------------


def test_a12_the_checkpoint_of_another_log(signed):
    bern, graz = signed
    shutil.copy(graz.home / "ledger" / "checkpoint", bern.home / "ledger" / "checkpoint")
    assert not missed("a12", bern.home)


def test_a12_the_same_keys_in_another_consortium(signed, tmp_path, monkeypatch):
    bern, _ = signed
    monkeypatch.setattr(ledgers, "CONSORTIUM", "sea")
    (tmp_path / "sea").mkdir()
    twin, other = two(tmp_path / "sea")
    twin.close()
    other.close()
    assert twin.keys["log"].public == bern.keys["log"].public
    shutil.copy(twin.home / "ledger" / "checkpoint", bern.home / "ledger" / "checkpoint")
    assert not missed("a12", bern.home)


def test_a12_an_entry_of_another_log_in_its_own_place(signed):
    bern, _ = signed
    mine, theirs = (tiles.read_tail(tail_of(one.home).read_bytes()).frames for one in signed)
    frames = [mine[0], theirs[1], *mine[2:]]
    tail_of(bern.home).write_bytes(b"".join(tiles.frame(one.entry, one.leaf) for one in frames))
    assert not missed("a12", bern.home, form="entry")


def test_a12_the_proof_of_another_publisher(tmp_path):
    bern, graz = two(tmp_path)
    bern.train()
    graz.train()
    graz.publish()
    other = proof.decode(graz.journal.prove(graz.journal.size - 1))
    receive_with(graz, bern, lambda _: other)
    bern.close()
    graz.close()
    assert not missed("a12", bern.home, graz.home, form="proof")


def test_a12_a_cosignature_of_an_older_checkpoint(signed):
    bern, _ = signed
    path = bern.home / "ledger" / "cosigned"
    _, line = path.read_bytes().splitlines(keepends=True)[-2:]
    bern.reopen()
    bern.train()
    bern.close()
    path.write_bytes((bern.home / "ledger" / "checkpoint").read_bytes() + line)
    assert not missed("a12", bern.home, form="cosigned")
