"""Fork proofs: every real fork is proven, and no honest log is ever accused."""

from __future__ import annotations

import random

import msgspec
import pytest

from konsil.protocol import checkpoint, cosignature, fork, merkle, note
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.errors import (
    EncodingRefused,
    LimitExceeded,
    ManifestRefused,
    RemoteError,
    SignatureRefused,
)
from konsil.protocol.identity import SigningKey
from konsil.protocol.limits import Limits

LOG = SigningKey.from_seed(b"L" * 32)
ORIGIN = "alps/bern"
HISTORIES = 1_000


def tree_of(count, rng, start=()):
    return merkle.Tree([*start, *(rng.randbytes(32) for _ in range(count - len(start)))])


def signed(tree, size=None, key=LOG, origin=ORIGIN):
    size = tree.size if size is None else size
    return checkpoint.sign(Checkpoint(origin=origin, size=size, root=tree.root(size)), key)


def leaves(tree, count):
    return [tree.node(0, index) for index in range(count)]


def verify(data):
    return fork.verify(data, origin=ORIGIN, key=LOG.public)


RNG = random.Random(5)
TRUE = tree_of(21, RNG)
LIE = tree_of(13, RNG, leaves(TRUE, 9))
PROOF = fork.build_from_tree(signed(LIE), signed(TRUE), TRUE)


def test_a_fork_proof_is_two_notes_and_hashes_between_them():
    hashes = [TRUE.root(13), *TRUE.consistency(13)]
    text = "".join(f"{note.encode_base64(item)}\n" for item in hashes).encode()
    expected = b"konsil fork-proof@v1\n" + text + b"\n" + signed(TRUE) + b"\n" + signed(LIE)
    assert expected == PROOF == fork.build(signed(TRUE), signed(LIE), hashes)
    found = fork.decode(PROOF)
    assert fork.encode(found) == PROOF
    assert (found.newer, found.older) == (signed(TRUE), signed(LIE))
    proven = verify(PROOF)
    assert (proven.newer.size, proven.older.size) == (21, 13)
    assert proven.older.root == LIE.root()


def test_two_roots_at_one_size_are_a_fork_without_any_hash():
    first, second = signed(TRUE, 13), signed(LIE)
    data = fork.build(first, second)
    assert data == fork.build(second, first) == fork.build_from_tree(first, second, TRUE)
    assert data.startswith(b"konsil fork-proof@v1\n\nalps/bern\n13\n")
    assert verify(data).newer.size == 13
    with pytest.raises(ManifestRefused, match="hashes beside it"):
        verify(fork.build(first, second, [TRUE.root(13)]))


def test_cosignatures_may_stand_in_the_notes():
    wit = SigningKey.from_seed(b"w" * 32)
    first, second = signed(TRUE, 13), signed(LIE)
    data = fork.build(
        first + cosignature.sign(first, "alps/ulm", wit, 5),
        second + cosignature.sign(second, "alps/graz", wit, 6),
    )
    assert verify(data).older.size == 13


def test_only_what_the_log_signed_accuses_it():
    thief = SigningKey.from_seed(b"T" * 32)
    for wrong in (signed(LIE, key=thief), signed(LIE, origin="alps/ulm")):
        with pytest.raises(SignatureRefused):
            verify(fork.build(signed(TRUE, 13), wrong))
    with pytest.raises(SignatureRefused):
        fork.verify(PROOF, origin="alps/ulm", key=LOG.public)
    other = fork.open_with(origin="alps/ulm", key=LOG.public)
    mine = fork.open_with(origin=ORIGIN, key=LOG.public)
    heads = [mine(signed(TRUE)), other(signed(LIE, origin="alps/ulm"))]
    with pytest.raises(ManifestRefused, match="two logs"):
        fork.contradict(*heads, [TRUE.root(13), *TRUE.consistency(13)])


def test_no_flipped_bit_leaves_another_fork_proof():
    proven = verify(PROOF)
    for position in range(0, len(PROOF) * 8, 3):
        flipped = bytearray(PROOF)
        flipped[position // 8] ^= 1 << position % 8
        try:
            assert verify(bytes(flipped)) == proven
        except RemoteError:
            continue
        raise AssertionError(f"bit {position} may flip")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        PROOF[:-1],
        PROOF + b"\n",
        PROOF + b"\n\n",
        PROOF.replace(b"@v1", b"@v2"),
        PROOF.replace(b"konsil fork", b"k\xc3\xb6nsil fork"),
        b"konsil fork-proof@v1\nAAAA\n\n" + signed(TRUE) + b"\n" + signed(LIE),
        b"konsil fork-proof@v1\n\n" + signed(TRUE),
        b"konsil fork-proof@v1\n\n" + signed(TRUE) + signed(LIE),
    ],
)
def test_malformed_fork_proofs_are_refused(data):
    with pytest.raises(RemoteError):
        verify(data)


def test_fork_proofs_are_bounded():
    with pytest.raises(LimitExceeded):
        fork.decode(PROOF, limits=Limits(message_bytes=100))
    with pytest.raises(LimitExceeded):
        verify(fork.build(signed(TRUE), signed(LIE), [bytes(32)] * 65))
    with pytest.raises(ManifestRefused):
        verify(fork.build(signed(TRUE), signed(LIE), [bytes(32)] * 64))
    with pytest.raises(EncodingRefused):
        fork.build(signed(TRUE), note.sign("no checkpoint\n", [(ORIGIN, LOG)]))


def test_the_smaller_checkpoint_never_comes_first():
    found = fork.decode(PROOF)
    turned = msgspec.structs.replace(found, newer=found.older, older=found.newer)
    with pytest.raises(ManifestRefused, match="larger"):
        verify(fork.encode(turned))


def test_from_an_empty_tree_nothing_is_proven():
    empty = merkle.Tree()
    for hashes in ([], [merkle.EMPTY_ROOT], [bytes(32), bytes(32)]):
        with pytest.raises(ManifestRefused):
            verify(fork.build(signed(TRUE), signed(empty), hashes))
    with pytest.raises(ManifestRefused):
        verify(fork.build_from_tree(signed(TRUE), signed(empty), TRUE))


def accusations(rng, tree, old):
    """What an enemy can try against two checkpoints of one honest history."""
    size = tree.size
    root, proof = tree.root(old), tree.consistency(old)
    noise = [rng.randbytes(32) for _ in range(len(proof) + 1)]
    yield [root, *proof]
    yield proof
    yield []
    yield noise
    yield [rng.randbytes(32), *proof]
    yield [tree.root(size), *proof]
    yield [root, *noise[1:]]
    yield [root, *reversed(proof)]
    foreign = tree_of(size, rng)
    yield [foreign.root(old), *foreign.consistency(old)]
    mixed = [root, *proof]
    mixed[rng.randrange(len(mixed))] = rng.randbytes(32)
    yield mixed
    other = rng.randint(1, size)
    yield [tree.root(other), *tree.consistency(other)]
    for shown in (fork.shown_root(old, size, one) for one in (proof, noise[1:])):
        yield [shown or root, *proof]


def test_no_honest_log_is_ever_accused():
    rng = random.Random(28)
    tried = 0
    for _ in range(HISTORIES):
        tree = tree_of(rng.randint(1, 70), rng)
        old = rng.randint(1, tree.size)
        newer, older = signed(tree), signed(tree, old)
        heads = [Checkpoint(origin=ORIGIN, size=n, root=tree.root(n)) for n in (tree.size, old)]
        for hashes in accusations(rng, tree, old):
            tried += 1
            with pytest.raises(ManifestRefused):
                fork.contradict(*heads, hashes)
        with pytest.raises(RemoteError):
            verify(fork.build(newer, older, rng.choice(list(accusations(rng, tree, old)))))
    assert tried > 10 * HISTORIES


def test_every_real_fork_is_proven():
    rng = random.Random(29)
    shown = 0
    for _ in range(HISTORIES):
        tree = tree_of(rng.randint(1, 70), rng)
        common = rng.randrange(tree.size)
        lie = tree_of(rng.randint(common + 1, tree.size), rng, leaves(tree, common))
        data = fork.build_from_tree(signed(lie), signed(tree), tree)
        proven = verify(data)
        assert {proven.newer.root, proven.older.root} == {tree.root(), lie.root()}
        if lie.size == tree.size:
            continue
        # The bare consistency proof that a liar answers with gives the root away as well.
        proof = tree.consistency(lie.size)
        root = fork.shown_root(lie.size, tree.size, proof)
        if lie.size & (lie.size - 1):
            shown += 1
            assert root == tree.root(lie.size)
            assert verify(fork.build(signed(tree), signed(lie), [root, *proof])) == proven
        else:
            assert root is None
    assert shown > HISTORIES // 2
