"""Proofs from a home's files, checked by a stranger: every byte of them counts."""

from __future__ import annotations

import json
import shutil
import threading

import pytest
from commands import konsil
from ledgers import Hospital, audit_of, change_key, falsify, mirrored, sign_again, two

from konsil.protocol import checkpoint, cosignature, fork, genesis, merkle, policy, proof
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.cosignature import WitnessKey
from konsil.protocol.digest import sha256
from konsil.protocol.errors import (
    ConfigError,
    IncompleteError,
    KonsilError,
    StorageError,
    UsageError,
    VerificationError,
)
from konsil.protocol.identity import SigningKey
from konsil.protocol.learning_bodies import ArtifactPublish, ModelBase
from konsil.protocol.node_bodies import KeyRotate
from konsil.protocol.note import NoteKey
from konsil.trust.questions.checking import HeldProof, check
from konsil.trust.questions.forks import ProvenFork, check_fork
from konsil.trust.questions.proving import prove
from konsil.trust.questions.strangers import Known, known, read_given

WITNESS = SigningKey.from_seed(b"W" * 32)


@pytest.fixture(scope="module")
def bern(tmp_path_factory):
    bern, graz = two(tmp_path_factory.mktemp("proofs"))
    for _ in range(3):
        bern.train()
        bern.publish()
    for start in range(0, 300, 60):
        bern.journal.append(
            [
                ModelBase(
                    model=bytes([1, at // 256, at % 256]) + bytes(29),
                    source="",
                    licence="",
                    note="",
                )
                for at in range(start, start + 60)
            ]
        )
    audit_of(bern, graz)
    return bern


@pytest.fixture(scope="module")
def friends(bern):
    return Known(authors={bern.author.origin: bern.author})


def test_every_entry_of_bundles_and_tail_is_proven_and_checked(bern, friends):
    size = prove(bern.home, "0").head.size
    assert size > 256
    for index in (0, 1, 2, 3, 100, 255, 256, 257, size - 1):
        made = prove(bern.home, str(index))
        found = check(made.data, friends)
        assert isinstance(found, HeldProof)
        assert (found.frame.n, found.head.size, found.entry) == (index, size, made.entry)
        assert found.witnesses is None
        assert f"entry {index} of {size} of the log of bern" in found.verdict
        assert json.loads(json.dumps(found.to_data()))["index"] == index


def test_an_entry_by_what_it_publishes_or_makes(bern):
    made = prove(bern.home, "2")
    body = (
        made.entry.b if isinstance(made.entry.b, ArtifactPublish) else prove(bern.home, "3").entry.b
    )
    assert isinstance(body, ArtifactPublish)
    assert prove(bern.home, body.art.hex()).entry.b == body
    assert prove(bern.home, body.env.hex()[:20]).entry.b == body
    assert prove(bern.home, "010005" + "0" * 20).entry.b.model[:3] == b"\x01\x00\x05"


def test_what_cannot_be_proven_is_refused_with_a_remedy(bern):
    with pytest.raises(IncompleteError, match="there is no entry 5000"):
        prove(bern.home, "5000")
    with pytest.raises(UsageError, match="no digest"):
        prove(bern.home, "-1")
    with pytest.raises(UsageError, match="entries are meant"):
        prove(bern.home, "0100")
    with pytest.raises(IncompleteError, match="publishes, makes or receives"):
        prove(bern.home, "ff" * 32)


def test_beside_the_writer_and_beyond_the_checkpoint(tmp_path):
    bern = Hospital(tmp_path, "bern")
    bern.journal.sign_checkpoint()
    bern.train()
    assert prove(bern.home, "1").signed_by == "checkpoint"
    with pytest.raises(IncompleteError, match="beyond the checkpoint") as refused:
        prove(bern.home, "2")
    assert refused.value.hint
    bern.journal.sign_checkpoint()
    assert prove(bern.home, "2").head.size == 3
    bern.close()


def test_while_the_node_writes_and_moves_its_tail(tmp_path):
    bern = Hospital(tmp_path, "bern")
    friends = Known(authors={bern.author.origin: bern.author})
    done = threading.Event()
    bern.journal.sign_checkpoint()

    def write():
        for start in range(0, 600, 60):
            bern.journal.append(
                [
                    ModelBase(model=sha256(b"%d" % at), source="", licence="", note="")
                    for at in range(start, start + 60)
                ]
            )
            bern.journal.sign_checkpoint()
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    sizes = set()
    while not done.is_set():
        found = check(prove(bern.home, "1").data, friends)
        sizes.add(found.head.size)
    writer.join()
    bern.close()
    assert check(prove(bern.home, "600").data, friends).head.size == bern.journal.size
    assert sizes


def test_the_cosigned_checkpoint_is_taken_where_it_covers_the_entry(tmp_path):
    bern = Hospital(tmp_path, "bern")
    note = bern.journal.sign_checkpoint()
    witness = WitnessKey("alps/wit", WITNESS.public)
    cosigned = note + cosignature.sign(note, "alps/wit", WITNESS, 1_760_000_100)
    (bern.home / "ledger" / "cosigned").write_bytes(cosigned)
    bern.train()
    bern.journal.sign_checkpoint()
    bern.journal._store.close()
    old, new = prove(bern.home, "1"), prove(bern.home, "2")
    assert (old.signed_by, new.signed_by) == ("cosigned", "checkpoint")
    log = NoteKey(bern.author.origin, bern.author.keys["log"]).vkey
    text = f"log {log}\nwitness w {witness.vkey}\nquorum w\n"
    rules = Known(policy=policy.parse(text.encode()))
    found = check(old.data, rules)
    assert found.witnesses == {"w": 1_760_000_100}
    assert "witnessed by w" in found.verdict
    with pytest.raises(VerificationError, match="witnessed by nobody only"):
        check(new.data, rules)
    alone = policy.parse(f"witness w {witness.vkey}\nquorum w\n".encode())
    with pytest.raises(IncompleteError, match="is not known here"):
        check(old.data, Known(policy=alone))
    both = Known(authors={bern.author.origin: bern.author}, policy=alone)
    assert check(old.data, both).witnesses == {"w": 1_760_000_100}


def test_no_changed_proof_holds(bern, friends):
    data = prove(bern.home, "4").data
    for at in range(0, len(data), 7):
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises(KonsilError) as refused:
            check(bytes(changed), friends)
        assert refused.value.exit_code in (3, 4)
        assert refused.value.diagnostics().isprintable()
    for cut in (0, 10, 30, len(data) // 2, len(data) - 1):
        with pytest.raises(VerificationError):
            check(data[:cut], friends)


def test_a_stranger_is_not_accused(bern):
    data = prove(bern.home, "4").data
    with pytest.raises(IncompleteError, match="is not known here") as refused:
        check(data, Known())
    assert f"{bern.node}.genesis" in refused.value.hint
    bare = proof.encode(proof.Proof(index=4, hashes=(), checkpoint=proof.decode(data).checkpoint))
    with pytest.raises(IncompleteError, match="comes without its entry"):
        check(bare, Known())


def test_an_entry_at_another_place_proves_nothing(tmp_path):
    bern = Hospital(tmp_path, "bern")
    falsify(bern, lambda plain: {**plain, "n": 7})
    with pytest.raises(VerificationError, match="stands at index"):
        check(prove(bern.home, "2").data, Known(authors={bern.author.origin: bern.author}))


def test_changed_files_give_no_proof(bern, tmp_path):
    home = tmp_path / "bern"
    shutil.copytree(bern.home, home)
    bundle = home / "ledger/tile/entries/000"
    data = bytearray(bundle.read_bytes())
    data[data.index(b"\x01\x00\x05")] ^= 8
    bundle.write_bytes(data)
    with pytest.raises(VerificationError, match="cannot be proven"):
        prove(home, "20")
    (home / "ledger/checkpoint").write_bytes(b"nonsense\n")
    with pytest.raises(VerificationError, match="cannot be proven"):
        prove(home, "300")


def forked(bern, small=2):
    """A fork proof of bern: `small` entries that are not among the eight."""
    key = bern.keys["log"]
    tree = merkle.Tree([merkle.leaf_hash(bytes([at])) for at in range(8)])
    other = merkle.Tree([merkle.leaf_hash(bytes([at, 1])) for at in range(8)])
    notes = [
        checkpoint.sign(Checkpoint(origin=bern.author.origin, size=size, root=one.root(size)), key)
        for one, size in ((tree, 8), (other, small))
    ]
    return fork.build_from_tree(*notes, tree)


@pytest.mark.parametrize("small", [2, 8])
def test_a_fork_is_proven_with_who_and_where(bern, friends, small):
    data = forked(bern, small)
    found = check(data, friends)
    assert isinstance(found, ProvenFork)
    assert found == check_fork(data, friends)
    assert found.verdict.startswith(f"bern ({bern.author.origin}) forked its log")
    assert f"before entry {small}" in found.verdict
    assert json.loads(json.dumps(found.to_data()))["older"]["size"] == small
    assert len(found.lines()) == 2


def test_what_proves_no_fork_accuses_nobody(bern, friends):
    data = forked(bern)
    for at in range(0, len(data), 5):
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises(KonsilError) as refused:
            check_fork(bytes(changed), friends)
        assert refused.value.exit_code in (3, 4)
    with pytest.raises(IncompleteError, match="is not known here"):
        check_fork(data, Known())
    with pytest.raises(VerificationError, match="neither a tlog-proof nor"):
        check(b"\x1b[2J hello\n", friends)


def test_files_that_make_known(bern, tmp_path):
    path = tmp_path / "bern.genesis"
    path.write_bytes(bern.author.entry)
    assert known([path]).authors[bern.author.origin].name == "bern"
    path.write_bytes(b"\x00")
    with pytest.raises(ConfigError, match="is no genesis entry"):
        known([path])
    with pytest.raises(ConfigError, match="policy"):
        known([], path)
    with pytest.raises(UsageError, match="no such file"):
        read_given(tmp_path / "none")
    with pytest.raises(StorageError, match="not a regular file"):
        read_given(tmp_path)
    path.write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(StorageError, match="at most"):
        read_given(path)
    assert genesis.read(bern.author.entry).origin == bern.author.origin


# --- a log whose key was rotated ----------------------------------------------------------------


class Rotated:
    """A log whose `log` key changed: proofs under each key, and what makes the keys known."""

    def __init__(self, root):
        bern, graz = two(root)
        bern.train()
        self.old = bern.keys["log"]
        bern.journal.sign_checkpoint()
        self.before = prove(bern.home, "1").data
        self.new = change_key(bern, KeyRotate, "log")
        sign_again(bern, self.new)
        self.after = prove(bern.home, "1").data
        graz.close()
        self.origin = bern.author.origin
        mirrored(bern, graz)
        self.card = graz.home / "peers" / f"{bern.node}.genesis"
        self.card.write_bytes(bern.author.entry)
        self.bare = root / "bern.genesis"
        self.bare.write_bytes(bern.author.entry)
        self.head = checkpoint.open_checkpoint(
            proof.decode(self.after).checkpoint, origin=self.origin, key=self.new.public
        )
        stolen = checkpoint.sign(self.head, self.old)
        self.stolen = self.after.replace(proof.decode(self.after).checkpoint, stolen)
        self.policy = root / "policy"

    def known(self, *genesis, keys=()):
        if not keys:
            return known(genesis)
        lines = [f"log {NoteKey(self.origin, key.public).vkey}" for key in keys]
        self.policy.write_text("\n".join([*lines, "quorum none", ""]))
        return known(genesis, self.policy)


@pytest.fixture(scope="module")
def rotated(tmp_path_factory):
    return Rotated(tmp_path_factory.mktemp("rotated"))


def test_the_mirror_beside_a_genesis_entry_tells_of_newer_keys(rotated):
    whom = rotated.known(rotated.card)
    for data in (rotated.before, rotated.after):
        assert check(data, whom).frame.n == 1
    with pytest.raises(VerificationError, match="the key in force at"):
        check(rotated.stolen, whom)
    alone = rotated.known(rotated.bare)
    assert check(rotated.before, alone).frame.n == 1
    with pytest.raises(VerificationError, match="not signed by a known key"):
        check(rotated.after, alone)


def test_a_policy_that_names_a_log_wins_over_its_genesis_entry(rotated):
    new = rotated.known(rotated.bare, keys=[rotated.new])
    assert check(rotated.after, new).witnesses == {}
    with pytest.raises(VerificationError, match="not signed"):
        check(rotated.before, new)
    old = rotated.known(rotated.card, keys=[rotated.old])
    assert check(rotated.before, old).frame.n == 1
    for data in (rotated.after, rotated.stolen):
        with pytest.raises(VerificationError):
            check(data, old)


def test_of_two_keys_in_a_policy_the_position_decides_where_it_is_known(rotated):
    both = [rotated.old, rotated.new]
    for genesis_files in ((), (rotated.bare,), (rotated.card,)):
        whom = rotated.known(*genesis_files, keys=both)
        for data in (rotated.before, rotated.after):
            assert check(data, whom).frame.n == 1
    with pytest.raises(VerificationError, match="the key in force at"):
        check(rotated.stolen, rotated.known(rotated.card, keys=both))


def test_a_fork_over_a_change_of_keys(rotated):
    older = Checkpoint(origin=rotated.origin, size=rotated.head.size, root=bytes(32))
    first = checkpoint.sign(rotated.head, rotated.new)
    data = fork.build(first, checkpoint.sign(older, rotated.new))
    both = [rotated.old, rotated.new]
    for whom in (rotated.known(rotated.card), rotated.known(keys=both),
                 rotated.known(rotated.card, keys=both)):  # fmt: skip
        assert check_fork(data, whom).fork.newer.size == rotated.head.size
    with pytest.raises(VerificationError, match="proves no fork"):
        check_fork(data, rotated.known(rotated.bare))
    thief = fork.build(first, checkpoint.sign(older, rotated.old))
    with pytest.raises(VerificationError, match="proves no fork"):
        check_fork(thief, rotated.known(rotated.card))


def test_the_commands_take_both(rotated, tmp_path):
    file = tmp_path / "p.tlog-proof"
    file.write_bytes(rotated.after)
    rotated.known(keys=[rotated.old, rotated.new])
    assert konsil("audit", "check", file, "--policy", rotated.policy).code == 0
    assert konsil("audit", "check", file, "--genesis", rotated.card).code == 0
    assert konsil("audit", "check", file, "--genesis", rotated.bare).code == 3
    older = Checkpoint(origin=rotated.origin, size=rotated.head.size, root=bytes(32))
    pair = (checkpoint.sign(head, rotated.new) for head in (rotated.head, older))
    file.write_bytes(fork.build(*pair))
    for words in (["--policy", rotated.policy], ["--genesis", rotated.card]):
        done = konsil("audit", "fork", file, *words)
        assert (done.code, "a fork is proven" in done.complaint) == (3, True)
